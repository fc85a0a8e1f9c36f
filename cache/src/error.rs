//! What can go wrong beneath every part of the store?

use std::io;
use std::path::{Path, PathBuf};

/// The disk or the metadata database failed; every other error of this crate can wrap one.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A system call on a file of the store failed.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The metadata database refused.
    #[error("cannot {action} the metadata database `{path}`")]
    Metadata {
        /// What was tried, as a verb.
        action: &'static str,
        /// The database's directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: heed::Error,
    },
    /// The metadata database is shorter than what it says of itself.
    #[error("the metadata database `{path}` was cut off: of {needed} bytes, some that are in use are missing")]
    CutOff {
        /// The file.
        path: PathBuf,
        /// As many bytes as it should have.
        needed: u64,
    },
    /// A metadata entry was written by something else, or damaged.
    #[error("the {table} entry `{key}` cannot be read")]
    Row {
        /// Which kind of entry.
        table: &'static str,
        /// Its key.
        key: String,
        /// What the decoder says.
        #[source]
        source: serde_json::Error,
    },
    /// A metadata entry has a format this version does not know.
    #[error("the {table} entry `{key}` has format {format}, which this version does not know")]
    Format {
        /// Which kind of entry.
        table: &'static str,
        /// Its key.
        key: String,
        /// The format's number.
        format: u8,
    },
    /// A name does not fit into the metadata database's keys.
    #[error("the {table} name `{name}` is too long ({length} bytes, at most {limit})")]
    NameTooLong {
        /// Which kind of entry.
        table: &'static str,
        /// The name's beginning.
        name: String,
        /// Its length.
        length: usize,
        /// The longest that fits.
        limit: usize,
    },
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.as_ref().to_owned(), source: source.into() }
    }

    /// Whether the disk, a quota or the metadata database is full.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } | Self::Metadata { source: heed::Error::Io(source), .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Metadata { source: heed::Error::Mdb(heed::MdbError::MapFull), .. } => true,
            _ => false,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        if self.is_full() {
            return Some("the disk is full: `rbuild prune` removes what no image needs".into());
        }
        match self {
            Self::Io { source, .. } | Self::Metadata { source: heed::Error::Io(source), .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Some("the state directory belongs to another user: choose your own with `RBUILD_ROOT`".into())
            }
            Self::Io { source, .. } | Self::Metadata { source: heed::Error::Io(source), .. }
                if source.kind() == io::ErrorKind::ReadOnlyFilesystem =>
            {
                Some("the state directory must be writable: choose another with `RBUILD_ROOT`".into())
            }
            Self::Io { source, .. } | Self::Metadata { source: heed::Error::Io(source), .. }
                if source.kind() == io::ErrorKind::FileTooLarge =>
            {
                Some("a limit on the size of files is in force (`ulimit -f`): raise it".into())
            }
            Self::Metadata { path: directory, source: heed::Error::Mdb(error), .. } if is_damage(error) => {
                Some(begin_again(directory))
            }
            Self::CutOff { path, .. } => Some(begin_again(path.parent().unwrap_or(path))),
            Self::Row { table: "container", key, .. } | Self::Format { table: "container", key, .. } => {
                Some(format!("`rbuild rm {key}` removes the container; or use the version of rbuild that made it"))
            }
            Self::Row { .. } | Self::Format { .. } => {
                Some("another version of rbuild wrote this store: use that version, or another `RBUILD_ROOT`".into())
            }
            _ => None,
        }
    }
}

/// Whether the file is no database of LMDB's, or no longer.
fn is_damage(error: &heed::MdbError) -> bool {
    use heed::MdbError::{Corrupted, Invalid, PageNotFound, VersionMismatch};
    matches!(error, Corrupted | Invalid | PageNotFound | VersionMismatch)
}

/// What the rows said is nowhere else: which layers are an image's, which result is a step's.
fn begin_again(database: &Path) -> String {
    let root = database.parent().unwrap_or(database).display();
    format!("put back a copy of `{root}`, or remove it: rbuild begins a new store, and pulls and builds again")
}

/// Short for results whose error is [`StoreError`].
pub(crate) type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Attaches what was tried, on which path, to a failed system call.
pub(crate) trait Context<T> {
    fn context(self, action: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, action: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| StoreError::io(action, path, source))
    }
}
