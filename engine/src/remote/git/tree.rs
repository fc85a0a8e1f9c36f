//! What must be done to files that git wrote before they are a layer?
//!
//! The tree is ours alone and git is done with it: no name in it changes under these functions, and none of them
//! follows a link.

use std::ffi::OsStr;
use std::fs::{self, DirEntry, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rbuild_solver::graph::GitOp;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use super::super::{RemoteError, redacted};
use crate::files::{InnerPath, Root};

/// Removes every `.git`: the repository's own and those of submodules. Git tracks nothing of that name.
pub(super) fn remove_git(tree: &Path) -> Result<(), RemoteError> {
    let mut found = Vec::new();
    visit(tree, &mut |entry, kind| {
        let is_git = entry.file_name() == OsStr::new(".git");
        if is_git {
            found.push((entry.path(), kind.is_dir()));
        }
        Ok(!is_git)
    })?;
    for (path, is_directory) in found {
        let removed = if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(RemoteError::file("remove", &path))?;
    }
    Ok(())
}

/// Gives everything the modes of a repository, whatever the umask was, and `time` if there is one.
pub(super) fn normalise(tree: &Path, time: Option<i64>) -> Result<(), RemoteError> {
    let mut all = vec![tree.to_owned()];
    set_mode(tree, 0o755)?;
    visit(tree, &mut |entry, kind| {
        let path = entry.path();
        if kind.is_dir() {
            set_mode(&path, 0o755)?;
        } else if kind.is_file() {
            let mode = entry.metadata().map_err(RemoteError::file("read", &path))?.permissions().mode();
            set_mode(&path, if mode & 0o100 == 0 { 0o644 } else { 0o755 })?;
        }
        if time.is_some() {
            all.push(path);
        }
        Ok(true)
    })?;
    let Some(seconds) = time else { return Ok(()) };
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    for path in all {
        let set = utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from);
        set.map_err(RemoteError::file("set the time of", &path))?;
    }
    Ok(())
}

fn set_mode(path: &Path, mode: u32) -> Result<(), RemoteError> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(RemoteError::file("change the mode of", path))
}

/// Calls `visitor` for everything below `tree`, directories before what is in them; it says whether to go in.
fn visit(
    tree: &Path,
    visitor: &mut dyn FnMut(&DirEntry, fs::FileType) -> Result<bool, RemoteError>,
) -> Result<(), RemoteError> {
    let mut waiting: Vec<PathBuf> = vec![tree.to_owned()];
    while let Some(directory) = waiting.pop() {
        let failed = || RemoteError::file("read", &directory);
        for entry in fs::read_dir(&directory).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let kind = entry.file_type().map_err(failed())?;
            if visitor(&entry, kind)? && kind.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    Ok(())
}

/// Why a subdirectory could not be moved.
pub(super) enum MoveError {
    NoSuchDirectory,
    Other(RemoteError),
}

impl MoveError {
    pub(super) fn named(self, op: &GitOp, commit: &str) -> RemoteError {
        match self {
            Self::NoSuchDirectory => RemoteError::Subdirectory {
                remote: redacted(&op.remote),
                commit: commit.to_owned(),
                subdir: op.subdir.clone(),
            },
            Self::Other(error) => error,
        }
    }
}

/// Moves what is in a directory of `tree` to `target`. A link on the way is not a directory: it could lead anywhere.
pub(super) fn move_subdirectory(tree: &Path, subdir: &str, target: &Path) -> Result<(), MoveError> {
    let other = |error: RemoteError| MoveError::Other(error);
    let root = Root::open(tree).map_err(|error| other(RemoteError::file("open", tree)(error)))?;
    root.open_directory(&InnerPath::new(subdir)).map_err(|_| MoveError::NoSuchDirectory)?;
    let from = tree.join(subdir);
    let failed = || RemoteError::file("read", &from);
    for entry in fs::read_dir(&from).map_err(|error| other(failed()(error)))? {
        let entry = entry.map_err(|error| other(failed()(error)))?;
        let place = target.join(entry.file_name());
        fs::rename(entry.path(), &place).map_err(|error| other(RemoteError::file("create", &place)(error)))?;
    }
    let metadata = fs::metadata(&from).map_err(|error| other(failed()(error)))?;
    if let Ok(time) = metadata.modified() {
        let set = fs::File::open(target).and_then(|directory| directory.set_modified(time));
        set.map_err(|error| other(RemoteError::file("set the time of", target)(error)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a164_modes_are_those_of_a_repository() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir_all(tree.join("d/.git/objects")).unwrap();
        for (name, mode) in [("plain", 0o600), ("script", 0o711), ("d/suid", 0o4755), ("d/.git/HEAD", 0o644)] {
            fs::write(tree.join(name), name).unwrap();
            fs::set_permissions(tree.join(name), Permissions::from_mode(mode)).unwrap();
        }
        symlink("/etc/passwd", tree.join("link")).unwrap();
        remove_git(&tree).unwrap();
        normalise(&tree, Some(1_000_000_000)).unwrap();
        for (name, mode) in [("plain", 0o644), ("script", 0o755), ("d/suid", 0o755), ("d", 0o755)] {
            let metadata = fs::symlink_metadata(tree.join(name)).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{name}");
            let age = metadata.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
            assert_eq!(age.as_secs(), 1_000_000_000, "{name}");
        }
        assert!(!tree.join("d/.git").exists());
    }

    #[test]
    fn a_subdirectory_is_a_directory_and_no_link() {
        let directory = tempfile::tempdir().unwrap();
        let (tree, target) = (directory.path().join("tree"), directory.path().join("target"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::create_dir(&target).unwrap();
        fs::write(tree.join("a/b/file"), "x").unwrap();
        symlink("a", tree.join("link")).unwrap();
        for wrong in ["nothing", "link/b", "link", "a/b/file"] {
            assert!(matches!(move_subdirectory(&tree, wrong, &target), Err(MoveError::NoSuchDirectory)), "{wrong}");
        }
        assert!(move_subdirectory(&tree, "a/b", &target).is_ok());
        assert_eq!(fs::read(target.join("file")).unwrap(), b"x");
    }
}
