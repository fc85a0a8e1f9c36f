//! What can be mounted into a sandbox?
//!
//! A `Mount` is a request, not a mount: `cache` and `engine` write them, only `executor` carries them out.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One mount, to be made at `target` beneath the sandbox's root.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Mount {
    /// Absolute path inside the sandbox; `/` for the root file system itself.
    pub target: PathBuf,
    /// What is mounted there.
    pub kind: MountKind,
    /// Whether writes fail with `EROFS`.
    pub read_only: bool,
}

/// A read-only layer of an overlay, in the kernel's terms: with its whiteouts and its marks on opaque directories.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Lower {
    /// A directory.
    Directory(PathBuf),
    /// A file with an EROFS file system, to be mounted first.
    Erofs(PathBuf),
    /// One that is mounted, by a path through the descriptors of the process that holds the mount.
    Mounted(PathBuf),
}

impl Lower {
    /// Where the layer lies on the host.
    pub fn path(&self) -> &Path {
        match self {
            Self::Directory(path) | Self::Erofs(path) | Self::Mounted(path) => path,
        }
    }
}

impl From<PathBuf> for Lower {
    fn from(directory: PathBuf) -> Self {
        Self::Directory(directory)
    }
}

/// The writable part of an overlay.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct OverlayUpper {
    /// Receives the changes, with kernel whiteouts.
    pub upper: PathBuf,
    /// Scratch directory of the kernel, on the same file system as `upper`.
    pub work: PathBuf,
}

/// The source of a [`Mount`]. All paths are host paths.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum MountKind {
    /// Layers seen as one tree.
    Overlay {
        /// Read-only layers, topmost first. May be empty (an image from scratch).
        lower: Vec<Lower>,
        /// Where changes go; without it the overlay is read-only.
        upper: Option<OverlayUpper>,
    },
    /// A file or directory of the host.
    Bind {
        /// The host path.
        source: PathBuf,
        /// Whether mounts below `source` come along.
        recursive: bool,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Upper bound in bytes; the kernel's default (half of RAM) if absent.
        size: Option<u64>,
        /// Permission bits of its root directory.
        mode: u32,
    },
    /// The process file system of the sandbox's pid namespace.
    Proc,
    /// sysfs of the sandbox's network namespace.
    Sysfs,
    /// `/dev` with Docker's default devices, `pts`, `shm` and `mqueue`.
    Dev {
        /// Size of `/dev/shm` in bytes.
        shm_size: u64,
    },
    /// The sandbox's own control group.
    Cgroup,
}
