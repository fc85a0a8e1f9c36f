//! Where does everything live that outlasts one command?
//!
//! In one state directory, which only this crate touches. Several processes may use it at once, and each may die at
//! any line: nothing is visible before it is complete, and there is no clean-up that the next run depends on.
//! `docs/storage.md` draws the directory and lists the locks.
//!
//! A [`Store`] hands out views of its parts:
//!
//! | part | what it keeps | by |
//! |---|---|---|
//! | [`Content`] | blobs: manifests, configurations, compressed layers | sha256 |
//! | [`Layers`] | mountable layers, [`ActiveSnapshot`]s on their way to becoming one | [`LayerId`] |
//! | [`Records`] | what build steps produced | cache key |
//! | [`Images`] | images, their names, what registries last said | image ID, name |
//! | [`Containers`] | containers and their directories | id, name |
//! | [`CacheMounts`] | `RUN --mount=type=cache` directories | id |
//! | [`StatCache`] | what is known about build contexts | path |
//!
//! Besides, [`Store::scratch`] makes directories that live as long as a value.
//!
//! All calls are plain, blocking functions. Whoever looks something up holds a [`Lease`] until it is done with it.
//! The crate mounts nothing: it returns [`rbuild_core::Mount`]s.

mod aside;
mod builds;
mod cache_mounts;
mod containers;
mod content;
mod error;
mod holes;
mod images;
mod layers;
mod lease;
mod listings;
mod meta;
mod prune;
mod records;
mod reserve;
mod scratch;
mod stat_cache;
mod store;

pub use builds::{Build, Builds};
pub use cache_mounts::{CacheMount, CacheMounts, Sharing};
pub use containers::{Container, ContainerError, Containers, Unreadable};
pub use content::{Blob, BlobWriter, Content, ContentError, GrowingBlob};
pub use error::StoreError;
pub use holes::Holes;
pub use images::{Image, ImageError, Images, ListedImage, RemoteName};
pub use layers::{
    ActiveSnapshot, Changes, FileContent, Form, FormHere, FormerLayer, Layer, LayerBuilder, LayerError, LayerForm,
    LayerFormError, LayerId, LayerIdError, LayerKind, Layers, MAX_LAYERS, ReadErofs, TarOptions, Unsealed,
};
pub use lease::{Holder, Lease};
pub use listings::Listings;
pub use prune::{
    DiskUsage, Entry, Filter, FilterField, FilterTest, Item, PruneImages, PrunePolicy, PruneReport, Reason, Removal,
    Space, Swept, Usage,
};
pub use records::{KeyLock, Record, Records};
pub use scratch::{Scratch, WorkingDirectory};
pub use stat_cache::StatCache;
pub use store::{OverlayXattrs, Store, StoreOptions};
