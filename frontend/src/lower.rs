//! What must be built for a Dockerfile?

mod options;

pub use options::{CacheUse, LowerError, LowerOptions, Lowered, NamedContext, ResolveImage};
