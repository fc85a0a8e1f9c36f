//! Why is there no build context?

use std::io;
use std::path::PathBuf;

use rbuild_frontend::remote::AddressError;
use rbuild_image::LayerError;

use crate::files::copy::CopyError;

/// A context that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// A path that is neither a directory nor a file, or may not be read.
    #[error("cannot use `{}` as the build context", path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file that is no tar archive.
    #[error("cannot use `{0}` as the build context: it is neither a directory nor a tar archive")]
    NotAnArchive(String),
    /// Compressed bytes that do not come out as a tar.
    #[error("cannot use {what} as the build context: what it holds, compressed with {format}, is no tar archive")]
    Compressed {
        /// Where the bytes came from.
        what: String,
        /// How they are compressed.
        format: &'static str,
    },
    /// The bytes cannot be read to their end.
    #[error("cannot read the build context from {what}")]
    Read {
        /// Where they come from.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A damaged or hostile archive.
    #[error("cannot unpack the build context from {what}")]
    Damaged {
        /// Where it comes from.
        what: String,
        /// What is wrong with it.
        #[source]
        source: LayerError,
    },
    /// An archive whose entries cannot be made.
    #[error("cannot unpack the build context from {what}")]
    Unpack {
        /// Where it comes from.
        what: String,
        /// What cannot be made.
        #[source]
        source: CopyError,
    },
    /// A Dockerfile that is larger than any can be.
    #[error("the Dockerfile from {what} has more than {limit} bytes")]
    TooLarge {
        /// Where it comes from.
        what: String,
        /// How many it may have.
        limit: u64,
    },
    /// Two Dockerfiles.
    #[error("{what} is a Dockerfile, and `--file {file}` names another one")]
    TwoDockerfiles {
        /// What was meant as the context.
        what: String,
        /// The other one.
        file: String,
    },
    /// A directory of a context that is not there.
    #[error("the build context from {what} has no directory `{subdir}`")]
    Subdir {
        /// Where the context comes from.
        what: String,
        /// The directory.
        subdir: String,
    },
    /// A malformed ignore file of a context that was fetched in the course of the build.
    #[error("`{name}` of the build context from {what}: {message}")]
    Ignore {
        /// The ignore file.
        name: String,
        /// Where the context comes from.
        what: String,
        /// Its first mistake.
        message: String,
    },
    /// A URL that is none.
    #[error("`{0}` is not the address of a repository or a file")]
    NotAUrl(String),
    /// A URL that says something wrong.
    #[error("cannot use `{text}` as a build context")]
    Address {
        /// The URL, without a password.
        text: String,
        /// What is wrong with it.
        #[source]
        source: AddressError,
    },
    /// A `--build-context` that means nothing.
    #[error("not supported: `--build-context {name}={text}`: {why}")]
    Named {
        /// The name.
        name: String,
        /// Its value.
        text: String,
        /// What could be given instead.
        why: &'static str,
    },
    /// An OCI image layout without the image that is asked for.
    #[error("cannot find {wanted} in the OCI image layout `{}`", path.display())]
    Layout {
        /// The directory.
        path: PathBuf,
        /// What is asked for.
        wanted: String,
        /// What the index has instead.
        known: Vec<String>,
    },
}

impl ContextError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::TwoDockerfiles { .. } => {
                Some("leave `--file` out, or send a tar archive that has both files".to_owned())
            }
            Self::Compressed { .. } => Some(
                "a Dockerfile is read as it is; a context must be a tar archive before it is compressed".to_owned(),
            ),
            Self::Layout { known, .. } if !known.is_empty() => {
                let known: Vec<_> = known.iter().take(8).map(|name| format!("`{name}`")).collect();
                Some(format!("it has {}", known.join(", ")))
            }
            Self::Unpack { source, .. } => source.hint(),
            Self::Address { source, .. } => source.advice().map(str::to_owned),
            _ => None,
        }
    }
}
