//! What does a Dockerfile say, and what must be built for it?
//!
//! Text becomes a checked syntax tree or a list of every mistake in it, each with its place in the text.

pub mod ast;
mod diagnostic;
pub mod expand;
mod grammar;
mod ignore;
mod lower;
pub mod mount;
pub mod rule;
mod source;
mod suggest;

pub use ast::Dockerfile;
pub use diagnostic::{Diagnostic, Label, Severity};
pub use ignore::{Glob, GlobError, IgnoreFile, Match, Pattern, Stars, clean};
pub use lower::{CacheUse, LowerError, LowerOptions, Lowered, NamedContext, ResolveImage};
pub use rbuild_core::Span;
pub use source::{Position, Source};
