//! What does a Dockerfile say, and what must be built for it?
//!
//! Text becomes a checked syntax tree or a list of every mistake in it, each with its place in the text; the tree, with
//! options and base images, becomes a build graph.
//!
//! ```text
//! Source ── directives   escape, syntax, check
//!        ── lines        physical lines → one joined line per instruction, here-document bodies
//!        ── statement    joined line → Instruction, by the rules of grammar/dockerfile.pest
//!        ── parse        instructions → stages = Dockerfile
//! Dockerfile ── check    lints that need nothing else
//!            ── fix      what can be repaired in the text
//!            ── lower    words are expanded, images resolved; instructions → Graph
//! ```

pub mod ast;
mod check;
mod diagnostic;
mod directives;
mod duration;
mod elsewhere;
mod examine;
pub mod expand;
mod findings;
pub mod fix;
mod grammar;
mod ignore;
mod lines;
mod lower;
pub mod mount;
mod parse;
pub mod port;
pub mod remote;
pub mod rule;
mod source;
mod statement;
mod suggest;

pub use ast::Dockerfile;
pub use check::check;
pub use diagnostic::{Diagnostic, Edit, Fix, Label, Severity};
pub use directives::Overrides;
pub use examine::{Surroundings, examine, outline};
pub use ignore::{Glob, GlobError, IgnoreFile, Match, Pattern, Stars, clean};
pub use lower::{
    Bases, CacheUse, DateSource, Entitlements, LowerError, LowerOptions, Lowered, NamedContext, Outline, OutlineArg,
    OutlineMount, ResolveImage, StageUse, lower,
};
pub use parse::{parse, parse_trigger, parse_with};
pub use rbuild_core::Span;
pub use source::{Position, Source};
pub use suggest::nearest;
