//! What do `COPY`, `ADD`, bind mounts and build contexts need to know about files, and how are they copied?
//!
//! ```text
//! ContextScan ─┐                        ┌─► selection::digest     cache keys
//!  (a context) ├─► Tree ─► source/walk ─┤
//! Root ────────┘                        └─► copy::apply ─► Root   the step itself
//!  (an image)
//! ```
//!
//! - [`Root`] is a directory tree behind a file descriptor; no path leads out of it, whatever links it contains.
//! - [`ContextScan`] is what a build may see of a local directory: one walk under the ignore rules (`gather`), content
//!   digests on demand through a stat cache.
//! - [`Tree`] is what both have in common. What a pattern selects ([`select`]) and what a directory contains
//!   (`walk`) is found by the same code for the cache key and for the copy, so the two cannot disagree.
//! - [`copy`] carries out a [`CopyAction`](rbuild_solver::graph::CopyAction).
//!
//! Nothing here knows stores, sandboxes or networks.

mod content;
pub mod copy;
mod entries;
mod gather;
pub mod listing;
mod node;
mod path;
mod root;
mod scan;
mod select;
mod selection;
mod stat_cache;
mod tree;
mod walk;

pub use content::{Attributes, FileDigest};
pub use node::{Kind, Node, Timestamp};
pub use path::InnerPath;
pub use root::Root;
pub use scan::{ContextScan, ScanError};
pub use select::{Exclude, PatternError, SelectError};
pub use selection::{DigestError, Selector};
pub use stat_cache::StatCache;
pub use tree::{Resolved, SourceTree, Tree, resolve};
