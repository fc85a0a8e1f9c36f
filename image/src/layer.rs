//! What does a layer say about the files below it?
//!
//! A layer is a list of [`Change`]s. [`LayerWriter`] turns changes into a canonical tar: the same changes give the
//! same bytes on every machine. [`LayerReader`] turns any tar into changes, trusting nothing it says.
//!
//! Paths are relative to the image's root, clean (no empty, `.` or `..` component) and any bytes but NUL; the empty
//! path is the root directory itself.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use rbuild_core::Digest;

use crate::descriptor::Descriptor;

mod gzip;
mod header;
mod name;
mod noise;
mod pax;
mod reader;
mod rewrite;
mod sparse;
mod writer;

pub use reader::{LayerError, LayerReader};
pub use rewrite::{FormerTar, Found, LayerRewriter, PartDigest, ReadAt, TarIndex};
pub use writer::{LayerWriter, compress_layer};

/// One difference between a layer and what lies below it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// This exists now, whatever was there before. A directory keeps what the layers below have in it, unless they
    /// had something else there.
    Upsert(Entry),
    /// This does not exist any more (`.wh.NAME`).
    Remove(PathBuf),
    /// This directory shows nothing of the layers below (`.wh..wh..opq`); it has an [`Change::Upsert`] of its own.
    Opaque(PathBuf),
}

impl Change {
    /// Where it is.
    pub fn path(&self) -> &std::path::Path {
        match self {
            Self::Upsert(entry) => &entry.path,
            Self::Remove(path) | Self::Opaque(path) => path,
        }
    }
}

/// A file of any kind with its metadata, without its content.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Relative to the image's root.
    pub path: PathBuf,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with set-id and sticky: `0o7777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When the content changed last. Layers are written with whole seconds.
    pub mtime: Timestamp,
    /// Extended attributes by full name, such as `security.capability`.
    pub xattrs: BTreeMap<OsString, Vec<u8>>,
}

/// What an [`Entry`] is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Length of its content.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Its text, uninterpreted.
        target: PathBuf,
    },
    /// Another name for a file that an earlier entry of the same layer named.
    Hardlink {
        /// That file's path, relative to the image's root.
        target: PathBuf,
    },
    /// A character device.
    CharDevice {
        /// Driver.
        major: u32,
        /// Instance.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Driver.
        major: u32,
        /// Instance.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// A point in time, as the file system keeps it.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Timestamp {
    /// Seconds since the epoch, rounded down; negative before 1970.
    pub seconds: i64,
    /// Nanoseconds after that, below 1,000,000,000.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// A whole second.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }

    /// The nearest time that ext4 holds, from 1901 to 2446: what a file has after it was unpacked there. Layers have it in
    /// all their forms and on all file systems.
    pub fn clamped(self) -> Self {
        const FIRST: i64 = -(1 << 31);
        const LAST: i64 = (1 << 34) - (1 << 31) - 1;
        if (FIRST + 1..LAST).contains(&self.seconds) {
            self
        } else {
            Self::from_seconds(self.seconds.clamp(FIRST, LAST))
        }
    }
}

/// How a layer's tar is compressed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, level 0 to 9 as libdeflate counts them.
    Gzip(u32),
    /// zstd, level 1 to 22.
    Zstd(i32),
}

impl Compression {
    /// gzip as it is made when nobody asks for a level: as small as zlib's usual level 6, in half the time.
    pub const GZIP: Self = Self::Gzip(3);

    /// The OCI media type of a layer compressed like this.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::None => crate::media::OCI_LAYER,
            Self::Gzip(_) => crate::media::OCI_LAYER_GZIP,
            Self::Zstd(_) => crate::media::OCI_LAYER_ZSTD,
        }
    }

    /// The media type in Docker's family.
    pub fn docker_media_type(self) -> &'static str {
        match self {
            Self::None => crate::media::DOCKER_LAYER,
            Self::Gzip(_) => crate::media::DOCKER_LAYER_GZIP,
            Self::Zstd(_) => crate::media::DOCKER_LAYER_ZSTD,
        }
    }
}

/// A layer that was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layer {
    /// Names the bytes that were written, compressed or not.
    pub descriptor: Descriptor,
    /// Names the uncompressed tar.
    pub diff_id: Digest,
    /// Length of the uncompressed tar.
    pub size: u64,
}

/// Whether `bytes` begin with the header of a tar entry.
pub(crate) fn is_tar_header(bytes: &[u8]) -> bool {
    bytes.first_chunk().and_then(header::Header::new).is_some()
}
