//! Where in a tree does a path lead, and what if the last part of the way is missing?
//!
//! Symlinks are resolved as if the tree's root were `/`, by the kernel (`openat2`) where the path exists and one
//! component at a time where it has to be made. What is made can be taken back, with the times of its parents.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::fs::{fstat, futimens, mkdirat, openat, openat2, readlinkat, unlinkat};
use rustix::io::Errno;

use crate::mount::open_beneath;

/// What is made where nothing is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Directory,
    File,
}

/// Something that was made, and the times its parent had before.
#[derive(Debug)]
pub(crate) struct Created {
    parent: OwnedFd,
    name: OsString,
    kind: Kind,
    times: Timestamps,
}

impl Created {
    /// Removes it, unless it is a directory that got entries meanwhile, and gives its parent the former times.
    pub(crate) fn remove(self) -> io::Result<()> {
        let flags = if self.kind == Kind::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match unlinkat(&self.parent, &self.name, flags) {
            Ok(()) => Ok(futimens(&self.parent, &self.times)?),
            Err(Errno::NOTEMPTY | Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Opens `path` beneath `root` (`O_PATH`); if it does not exist, makes it and the directories leading to it, and notes
/// them in `created`.
pub(crate) fn open_or_create(
    root: BorrowedFd<'_>,
    path: &Path,
    kind: Kind,
    created: &mut Vec<Created>,
) -> io::Result<OwnedFd> {
    match open_beneath(root, path, OFlags::empty()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    create(root, path, kind, created)?;
    open_beneath(root, path, OFlags::empty())
}

fn create(root: BorrowedFd<'_>, path: &Path, kind: Kind, created: &mut Vec<Created>) -> io::Result<()> {
    let mut ahead: VecDeque<OsString> = names(path).collect();
    let mut behind = PathBuf::new();
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            behind.pop();
            continue;
        }
        let parent = open_directory(root, &behind)?;
        match rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Symlink => {
                links += 1;
                if links > 40 {
                    return Err(Errno::LOOP.into());
                }
                let target = readlinkat(&parent, &name, Vec::new())?;
                let target = Path::new(OsStr::new(std::str::from_utf8(target.to_bytes()).map_err(io::Error::other)?));
                if target.is_absolute() {
                    behind.clear();
                }
                for part in names(target).collect::<Vec<_>>().into_iter().rev() {
                    ahead.push_front(part);
                }
            }
            Ok(_) => behind.push(name),
            Err(Errno::NOENT) => {
                let kind = if ahead.is_empty() { kind } else { Kind::Directory };
                created.push(make(parent, name.clone(), kind)?);
                behind.push(name);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn make(parent: OwnedFd, name: OsString, kind: Kind) -> io::Result<Created> {
    let before = fstat(&parent)?;
    match kind {
        Kind::Directory => mkdirat(&parent, &name, Mode::from_raw_mode(0o755))?,
        Kind::File => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            drop(openat(&parent, &name, flags, Mode::from_raw_mode(0o644))?);
        }
    }
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).expect("nanoseconds are below a billion") as _,
    };
    let times = Timestamps {
        last_access: time(before.st_atime, before.st_atime_nsec as _),
        last_modification: time(before.st_mtime, before.st_mtime_nsec as _),
    };
    Ok(Created { parent, name, kind, times })
}

fn open_directory(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    Ok(openat2(root, path, flags, Mode::empty(), resolve)?)
}

fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// Makes `path` below a plain directory that nobody else touches, following nothing.
pub(crate) fn make_stub(directory: BorrowedFd<'_>, path: &Path, kind: Kind) -> io::Result<()> {
    let mut parent = directory.try_clone_to_owned()?;
    let mut parts = names(path).peekable();
    while let Some(name) = parts.next() {
        let made = if parts.peek().is_some() || kind == Kind::Directory {
            mkdirat(&parent, &name, Mode::from_raw_mode(0o755))
        } else {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            return openat(parent.as_fd(), &name, flags, Mode::from_raw_mode(0o644)).map(drop).map_err(Into::into);
        };
        match made {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        if parts.peek().is_some() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            parent = openat(&parent, &name, flags, Mode::empty())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn missing_paths_are_made_behind_links_and_taken_back_with_the_times() {
        let root = tempfile::tempdir().unwrap();
        let top = root.path();
        fs::create_dir_all(top.join("a/real")).unwrap();
        symlink("/a/real", top.join("link")).unwrap();
        symlink("../../../../outside/file", top.join("a/dangling")).unwrap();
        let before = fs::metadata(top.join("a/real")).unwrap().modified().unwrap();
        let top_fd = fs::File::open(top).unwrap();
        let mut created = Vec::new();
        for (path, kind) in [
            ("/link/x/y", Kind::Directory),
            ("/a/dangling", Kind::File),
            ("/a/real", Kind::Directory),
            ("/link/x/file", Kind::File),
        ] {
            open_or_create(top_fd.as_fd(), Path::new(path), kind, &mut created).unwrap();
        }
        assert!(top.join("a/real/x/y").is_dir());
        assert!(top.join("a/real/x/file").is_file());
        assert!(top.join("outside/file").is_file(), "`..` stops at the root");
        assert_eq!(created.len(), 5);
        for made in created.into_iter().rev() {
            made.remove().unwrap();
        }
        assert!(!top.join("outside").exists());
        assert!(!top.join("a/real/x").exists());
        assert_eq!(fs::metadata(top.join("a/real")).unwrap().modified().unwrap(), before);
    }

    #[test]
    fn link_cycles_end() {
        let root = tempfile::tempdir().unwrap();
        symlink("two", root.path().join("one")).unwrap();
        symlink("one", root.path().join("two")).unwrap();
        let top = fs::File::open(root.path()).unwrap();
        let error = open_or_create(top.as_fd(), Path::new("/one/x"), Kind::File, &mut Vec::new()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    }

    #[test]
    fn stubs_may_overlap() {
        let root = tempfile::tempdir().unwrap();
        let top = fs::File::open(root.path()).unwrap();
        for (path, kind) in [("/etc/hosts", Kind::File), ("/etc", Kind::Directory), ("/etc/hosts", Kind::File)] {
            make_stub(top.as_fd(), Path::new(path), kind).unwrap();
        }
        assert!(root.path().join("etc/hosts").is_file());
    }
}
