//! What does an OCI image consist of, and what are its byte forms?
//!
//! References, manifests, configurations and layer tars, deterministic both ways. No network, no store.

pub mod archive;
pub mod config;
pub mod descriptor;
pub mod erofs;
pub mod layer;
pub mod layout;
pub mod manifest;
pub mod media;
pub mod reference;

pub use config::{Healthcheck, History, ImageConfig, RootFs, RuntimeConfig};
pub use descriptor::{Descriptor, sha256};
pub use layer::{
    Change, Compression, Entry, EntryKind, FormerTar, Found, Layer, LayerError, LayerReader, LayerRewriter,
    LayerWriter, PartDigest, ReadAt, TarIndex, Timestamp, compress_layer,
};
pub use manifest::{Document, Index, Manifest, ManifestError};
pub use media::Family;
pub use reference::{Reference, ReferenceError};
