//! Why could a layer not be made or used?

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rbuild_core::Digest;

use super::{LayerId, MAX_LAYERS};
use crate::error::StoreError;

/// Why a layer could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The disk or the metadata failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A compressed form could not be stored or read.
    #[error(transparent)]
    Content(#[from] crate::ContentError),
    /// No such layer is known.
    #[error("there is no layer `{0}` in the store")]
    Missing(LayerId),
    /// Its content has to be pulled first.
    #[error("the content of layer `{0}` is not in the store")]
    NotLocal(LayerId),
    /// It is a file where only a directory will do.
    #[error("layer `{0}` is not a directory")]
    NotADirectory(LayerId),
    /// Layers were to be files, which this process cannot mount.
    #[error("layers cannot be erofs files here")]
    Unmountable(#[source] Arc<StoreError>),
    /// Layers are named by the sha256 of their tar.
    #[error("`{0}` is not a diff ID: only sha256 is")]
    NotADiffId(Digest),
    /// The kernel's overlay cannot stack that many.
    #[error("{0} layers are too many for one root file system (at most {MAX_LAYERS} can be stacked)")]
    TooMany(usize),
    /// The tar to be unpacked is malformed, or reading it failed.
    #[error(transparent)]
    Tar(rbuild_image::LayerError),
    /// Writing a tar failed.
    #[error("cannot write the layer")]
    Write(#[source] io::Error),
    /// The tar to be unpacked is not the one it should be.
    #[error("the layer has diff ID `{found}` instead of `{expected}`")]
    DiffId {
        /// What the image says.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// An entry of a tar lies below something that is not a directory, or removes the root.
    #[error("the layer contains `{path}` below something that is not a directory")]
    Parent {
        /// The entry.
        path: PathBuf,
    },
    /// A hard link of a tar to something that is no file of the same layer.
    #[error("the layer links `{path}` to `{target}`, which is not a file in it")]
    Link {
        /// The link.
        path: PathBuf,
        /// Its target.
        target: PathBuf,
    },
    /// The changes of a layer do not come in canonical order, or one comes twice.
    #[error("`{path}` comes at the wrong place of a layer")]
    Order {
        /// Relative to the root file system.
        path: PathBuf,
    },
    /// The content of a file that is to become part of a layer cannot be read.
    #[error("cannot read what `{path}` should contain")]
    Source {
        /// Relative to the root file system.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file system refuses a part of a layer.
    #[error("cannot {action} `{path}`")]
    Change {
        /// What was tried, as a verb.
        action: &'static str,
        /// Relative to the root file system.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file system, or the user namespace, does not know such an owner.
    #[error("cannot give `{path}` to {uid}:{gid}")]
    Owner {
        /// Relative to the root file system.
        path: PathBuf,
        /// The owner.
        uid: u32,
        /// The group.
        gid: u32,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The original tar of a pulled layer is gone, and cannot be made again from its files.
    #[error("the original bytes of layer `{0}` are not in the store")]
    Foreign(LayerId),
    /// The overlay recorded a rename or metadata instead of a file, which layers cannot express.
    #[error("`{path}` was written by an overlay with `redirect_dir` or `metacopy` on")]
    Redirect {
        /// Relative to the root file system.
        path: PathBuf,
    },
    /// In a layer's tar such a name says that something was removed.
    #[error("`{path}` cannot be in a layer: names that begin with `.wh.` stand for what was removed")]
    Whiteout {
        /// Relative to the root file system.
        path: PathBuf,
    },
}

impl LayerError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Content(error) => error.hint(),
            Self::Missing(id) | Self::NotLocal(id) => Some(id.how_to_get_back().into()),
            Self::Foreign(_) => Some("pull the image it came with again".into()),
            Self::DiffId { .. } => {
                Some("the image is damaged where it came from, or in transfer: pull it again".into())
            }
            Self::Write(error) | Self::Change { source: error, .. } if error.kind() == io::ErrorKind::StorageFull => {
                Some("the disk is full".into())
            }
            Self::Write(error) | Self::Change { source: error, .. } if error.kind() == io::ErrorKind::FileTooLarge => {
                Some("a limit on the size of files is in force (`ulimit -f`): raise it".into())
            }
            Self::Unmountable(_) => Some("leave `RBUILD_LAYERS` away, or set it to `directory`".into()),
            Self::TooMany(_) => Some("join some of the `RUN` and `COPY` instructions".into()),
            Self::Tar(_)
            | Self::Write(_)
            | Self::Parent { .. }
            | Self::Link { .. }
            | Self::NotADiffId(_)
            | Self::NotADirectory(_)
            | Self::Order { .. }
            | Self::Source { .. }
            | Self::Change { .. }
            | Self::Owner { .. }
            | Self::Redirect { .. }
            | Self::Whiteout { .. } => None,
        }
    }
}
