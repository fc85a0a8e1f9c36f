//! What can be mounted into a sandbox?
//!
//! A `Mount` is a request, not a mount: `cache` and `engine` write them, only `executor` carries them out.

use std::path::PathBuf;

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
        /// Read-only directories, topmost first. May be empty (an image from scratch).
        lower: Vec<PathBuf>,
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
