//! Why could files not be looked at or copied?

use crate::files::copy::CopyError;
use crate::files::{DigestError, ScanError};

/// A failure of anything in [`crate::files`].
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A context cannot be walked.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// What a step selects cannot be read.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A copy failed.
    #[error(transparent)]
    Copy(#[from] CopyError),
}

impl FilesError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Copy(error) => error.hint(),
            Self::Scan(_) | Self::Digest(_) => None,
        }
    }
}
