//! How are single files of a context read: Dockerfiles and ignore files?
//!
//! In a directory of the user's, like any file: a link may lead out of it. In what was sent or fetched, beneath its
//! root, whatever its links say.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rbuild_frontend::{Diagnostic, IgnoreFile};

use super::{ContextError, Fetched};
use crate::error::Error;
use crate::files::{InnerPath, Root};

/// The name of the ignore file in a context's root.
pub(crate) const IGNORE_FILE: &str = ".dockerignore";

/// The most bytes that such a file may have: it is kept in memory.
const LARGEST: u64 = super::fetched::LARGEST_DOCKERFILE;

/// Where a context is.
#[derive(Debug)]
pub(crate) enum Place {
    /// A directory of the user's, as an absolute path.
    Local(PathBuf),
    /// Here for this build.
    Fetched(Fetched),
}

impl Place {
    /// The directory.
    pub(crate) fn root(&self) -> &Path {
        match self {
            Self::Local(path) => path,
            Self::Fetched(fetched) => fetched.root(),
        }
    }

    /// Whether the next build may find the same directory.
    pub(crate) fn is_kept(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// For reading files.
    pub(crate) fn look(&self) -> Result<Look<'_>, Error> {
        match self {
            Self::Local(path) => Ok(Look::Local(path)),
            Self::Fetched(fetched) => {
                let top = Root::open(fetched.root()).map_err(Error::file("open", fetched.root()))?;
                Ok(Look::Inside(top, fetched))
            }
        }
    }
}

/// Reads single files of a context.
#[derive(Debug)]
pub(crate) enum Look<'a> {
    /// Paths are joined.
    Local(&'a Path),
    /// Paths are resolved beneath the root.
    Inside(Root, &'a Fetched),
}

/// A malformed ignore file.
#[derive(Debug)]
pub(crate) struct Malformed {
    /// Where it is, for messages.
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) mistakes: Vec<Diagnostic>,
}

impl Look<'_> {
    /// The content of a file; nothing if it does not exist.
    pub(crate) fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match self {
            Self::Local(root) => read_limited(&root.join(path)),
            Self::Inside(root, _) => root.read_small(&InnerPath::new(path), LARGEST),
        }
    }

    /// What messages call a file of the context.
    pub(crate) fn name(&self, path: &Path) -> PathBuf {
        match self {
            Self::Local(root) => root.join(path),
            Self::Inside(..) => path.to_owned(),
        }
    }

    /// The rules in an ignore file; nothing if it does not exist.
    pub(crate) fn rules(&self, path: &Path) -> io::Result<Option<Result<IgnoreFile, Malformed>>> {
        let Some(bytes) = self.read(path)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok(Some(IgnoreFile::parse(&text).map_err(|mistakes| Malformed { name, text, mistakes })))
    }

    /// As [`Look::rules`], where nobody can be shown the text of a malformed one.
    pub(crate) fn ignore_file(&self, path: &Path) -> Result<Option<IgnoreFile>, Error> {
        let rules = self.rules(path).map_err(Error::file("read", self.name(path)))?;
        rules.transpose().map_err(|Malformed { name, mistakes, .. }| {
            let what = match self {
                Self::Local(root) => format!("`{}`", root.display()),
                Self::Inside(_, fetched) => fetched.what().to_owned(),
            };
            let message = mistakes.into_iter().next().map_or_else(String::new, |first| first.message);
            ContextError::Ignore { name, what, message }.into()
        })
    }
}

/// The content of a file of this machine; nothing if it does not exist.
pub(crate) fn read_limited(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::with_capacity(usize::try_from(file.metadata()?.len().min(LARGEST)).unwrap_or_default());
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(Some(bytes)) }
}
