//! Which words do all crates share?
//!
//! Pure data and pure functions: no I/O but in the one file that a [`Shelf`] is given, no async, no knowledge of images,
//! stores or sandboxes.

mod causes;
mod digest;
mod event;
mod key;
mod mount;
mod names;
mod platform;
mod resources;
mod shelf;
mod size;
mod span;

pub use causes::with_causes;
pub use digest::{Algorithm, Digest, DigestError};
pub use event::{Event, Outcome, Reporter, StepId, Stream};
pub use key::{KeyHasher, StableHash};
pub use mount::{Lower, Mount, MountKind, OverlayUpper};
pub use names::{Names, NamesIter};
pub use platform::{Platform, PlatformError};
pub use resources::Resources;
pub use shelf::{Held, MakeFile, OnShelf, Recent, Shelf, Shelved};
pub use size::parse_size;
pub use span::Span;
