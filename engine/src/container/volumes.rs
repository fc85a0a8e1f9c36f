//! Which files of the host does a container see?

use std::io;
use std::path::{Path, PathBuf};

use rbuild_core::{Mount, MountKind};
use serde::{Deserialize, Serialize};

/// One `-v HOST:CONTAINER[:ro]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct VolumeMount {
    /// Absolute path of the host.
    pub source: PathBuf,
    /// Absolute path inside the container.
    pub target: PathBuf,
    /// Whether the container may not write.
    pub read_only: bool,
}

/// Why a `-v` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Not of the form.
    #[error("`{0}` is not a volume: expected HOST:CONTAINER[:ro] with an absolute path in the container")]
    Form(String),
    /// A name instead of a path.
    #[error("not supported: the named volume in `{0}` (bind mounts of host paths are)")]
    Named(String),
    /// A path without a source.
    #[error("not supported: the anonymous volume `{0}` (bind mounts of host paths are)")]
    Anonymous(String),
    /// A mount option besides `ro` and `rw`.
    #[error("not supported: option `{option}` of volume `{volume}` (`ro` and `rw` are)")]
    Option {
        /// The option.
        option: String,
        /// The whole `-v`.
        volume: String,
    },
    /// The source cannot be made.
    #[error("cannot make the directory `{}` of a volume", path.display())]
    Source {
        /// The host path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Parses one `-v`; a relative host path must begin with a dot.
pub(crate) fn parse(text: &str) -> Result<VolumeMount, VolumeError> {
    let form = || VolumeError::Form(text.to_owned());
    let mut parts = text.split(':');
    let (Some(source), target, options, None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(form());
    };
    let Some(target) = target else {
        let error = if source.starts_with('/') { VolumeError::Anonymous } else { VolumeError::Form };
        return Err(error(text.to_owned()));
    };
    if source.is_empty() || !target.starts_with('/') {
        return Err(form());
    }
    if !source.starts_with(['/', '.', '~']) {
        return Err(VolumeError::Named(text.to_owned()));
    }
    let mut read_only = false;
    for option in options.unwrap_or("rw").split(',') {
        match option {
            "ro" => read_only = true,
            "rw" => read_only = false,
            _ => return Err(VolumeError::Option { option: option.to_owned(), volume: text.to_owned() }),
        }
    }
    let source = std::path::absolute(source).map_err(|_| form())?;
    Ok(VolumeMount { source, target: Path::new(target).to_owned(), read_only })
}

impl VolumeMount {
    /// The mount; a source that does not exist becomes a directory first, as Docker does it.
    pub(crate) fn mount(&self) -> Result<Mount, VolumeError> {
        if !self.source.exists() {
            std::fs::create_dir_all(&self.source)
                .map_err(|source| VolumeError::Source { path: self.source.clone(), source })?;
        }
        Ok(Mount {
            target: self.target.clone(),
            kind: MountKind::Bind { source: self.source.clone(), recursive: true },
            read_only: self.read_only,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_mounts() {
        let volume = parse("/a:/b:ro").unwrap();
        assert_eq!((volume.source.to_str(), volume.target.to_str(), volume.read_only), (Some("/a"), Some("/b"), true));
        assert!(parse("./a:/b").unwrap().source.is_absolute());
        assert!(!parse("/a:/b:rw").unwrap().read_only);
    }

    #[test]
    fn other_forms_are_refused_by_name() {
        assert!(matches!(parse("/a"), Err(VolumeError::Anonymous(_))));
        assert!(matches!(parse("data:/b"), Err(VolumeError::Named(_))));
        assert!(matches!(parse("/a:b"), Err(VolumeError::Form(_))));
        assert!(matches!(parse("/a:/b:ro:x"), Err(VolumeError::Form(_))));
        assert!(matches!(parse("/a:/b:Z"), Err(VolumeError::Option { .. })));
    }
}
