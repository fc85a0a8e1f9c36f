//! Why can a copy not be done?

use std::io;

use rbuild_image::LayerError;

use super::super::{InnerPath, PatternError, SelectError};
use super::mode::ModeError;
use super::owner::OwnerError;

/// Why a file action failed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A source that is no wildcard does not exist.
    #[error("\"/{path}\": not found")]
    NotFound {
        /// The path as the user wrote it, without a leading slash.
        path: String,
        /// The pattern of the ignore file that hides it.
        hidden_by: Option<String>,
        /// A similar path that does exist.
        nearest: Option<String>,
    },
    /// A source is a link to something that does not exist.
    #[error("\"/{path}\": not found: the link leads to `{leads_to}`")]
    Dangling {
        /// The source.
        path: String,
        /// Where the link leads.
        leads_to: InnerPath,
        /// The pattern of the ignore file that hides it.
        hidden_by: Option<String>,
    },
    /// Something is to be copied into what is not a directory.
    #[error("cannot copy to non-directory: `{path}`")]
    NotADirectory {
        /// What stands there instead, in the image.
        path: InnerPath,
    },
    /// A directory cannot be made where something else is.
    #[error("cannot make the directory `{path}`: something else is there")]
    Blocked {
        /// What is there, in the image.
        path: InnerPath,
    },
    /// A file would replace a directory.
    #[error("cannot replace the directory `{path}` with a file")]
    FileOverDirectory {
        /// The directory, in the image.
        path: InnerPath,
    },
    /// Several sources, one name.
    #[error("cannot copy several sources to `{destination}`, which is not a directory")]
    SeveralToOne {
        /// The destination as it was written.
        destination: String,
    },
    /// `--chown` cannot be resolved.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// `--chmod` cannot be applied.
    #[error(transparent)]
    Mode(#[from] ModeError),
    /// A source or `--exclude` is no pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A source cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// Its path, from the root of the context or image.
        path: InnerPath,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A source has fewer bytes than it had when its size was written down.
    #[error("`{path}` became shorter while it was copied")]
    Shorter {
        /// Its path, from the root of the context or image.
        path: InnerPath,
    },
    /// The destination cannot be written.
    #[error("cannot write `{path}`")]
    Write {
        /// The path in the image.
        path: InnerPath,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The user namespace has no such owner.
    #[error("cannot give `{path}` to {uid}:{gid}")]
    Chown {
        /// The path in the image.
        path: InnerPath,
        /// The owner.
        uid: u32,
        /// The group.
        gid: u32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A device file cannot be made.
    #[error("cannot make the device file `{path}`")]
    Device {
        /// The path in the image.
        path: InnerPath,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// An archive is damaged.
    #[error("cannot unpack `{archive}`")]
    Archive {
        /// The archive, from the root of the context or image.
        archive: InnerPath,
        /// What is wrong with it.
        #[source]
        source: LayerError,
    },
    /// An archive links to a file that is not there.
    #[error("cannot unpack `{archive}`: `{path}` is a hard link to `{target}`, which does not exist")]
    ArchiveLink {
        /// The archive, from the root of the context or image.
        archive: InnerPath,
        /// The path in the image.
        path: InnerPath,
        /// What it should be another name of.
        target: InnerPath,
    },
    /// In a layer such a name is an order, wherever it comes from.
    #[error("cannot put `{path}` into a layer: a name that begins with `.wh.` removes a file there")]
    Whiteout {
        /// The path in the image.
        path: InnerPath,
    },
    /// The caller did not hand over what the action names.
    #[error("the copy takes files from input {0}, which is not there")]
    NoInput(usize),
}

impl CopyError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { hidden_by: Some(pattern), .. } | Self::Dangling { hidden_by: Some(pattern), .. } => {
                Some(format!("the ignore file leaves it out: see the pattern `{pattern}`"))
            }
            Self::Shorter { .. } => Some("build again".to_owned()),
            Self::NotFound { nearest: Some(nearest), .. } => Some(format!("did you mean `{nearest}`?")),
            Self::NotFound { .. } => Some(
                "sources are paths below the build context's directory or, with `--from`, below the root of that image"
                    .to_owned(),
            ),
            Self::SeveralToOne { destination } => {
                Some(format!("a destination of several sources ends in a slash: `{destination}/`"))
            }
            Self::Owner(error) => error.hint(),
            Self::Chown { source, .. } if source.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
                Some(
                    "this user's namespace has too few ids: see `rbuild doctor` about /etc/subuid and /etc/subgid"
                        .to_owned(),
                )
            }
            Self::Chown { .. } => {
                Some("only root, or a user namespace with enough ids, can give files away".to_owned())
            }
            Self::Device { .. } => Some("device files can only be made by root".to_owned()),
            _ => None,
        }
    }
}

impl From<SelectError> for CopyError {
    fn from(error: SelectError) -> Self {
        match error {
            SelectError::Pattern(error) => Self::Pattern(error),
            SelectError::Read { path, source } => Self::Read { path, source },
        }
    }
}

impl From<super::super::walk::WalkError> for CopyError {
    fn from(error: super::super::walk::WalkError) -> Self {
        Self::Read { path: error.path, source: error.source }
    }
}
