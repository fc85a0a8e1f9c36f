//! Where do half-written things and things to delete live?
//!
//! Whatever is being made is made in `ingest/` and renamed into place when it is complete; whatever is to go is renamed
//! to `trash/` and deleted later. So nothing is ever visible half-made or half-deleted, and a process may die anywhere.
//!
//! The maker of an entry in `ingest/` holds a `flock` on it. A reaper that gets that lock knows that the maker is dead.
//! Between creating an entry and locking it a maker can lose it to a reaper; it notices, and makes another.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, Dir, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Context, Result};

/// How deep [`Aside::empty_trash`] recurses before it moves a subtree to the top instead.
const MAX_DEPTH: usize = 64;

/// The two directories.
#[derive(Clone, Debug)]
pub(crate) struct Aside {
    ingest: PathBuf,
    trash: PathBuf,
}

impl Aside {
    pub(crate) fn new(root: &Path) -> Self {
        Self { ingest: root.join("ingest"), trash: root.join("trash") }
    }

    /// Makes a directory to work in, whose name begins with `prefix`.
    pub(crate) fn make_directory(&self, prefix: &str) -> Result<Working> {
        self.make(prefix, |path| {
            rustix::fs::mkdir(path, Mode::from_raw_mode(0o700))?;
            rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        })
    }

    /// Makes an empty file, open for reading and writing, whose name begins with `prefix`.
    pub(crate) fn make_file(&self, prefix: &str) -> Result<Working> {
        self.make(prefix, |path| {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::from_raw_mode(0o644))
        })
    }

    /// Writes a whole small file at once: others see the old bytes or the new ones.
    pub(crate) fn write_file(&self, target: &Path, bytes: &[u8]) -> Result<()> {
        let working = self.make_file("file")?;
        working.handle().write_all(bytes).context("write", working.path())?;
        working.publish(target)
    }

    /// Opens the file called `name`, made if it is not there; `None` while somebody else works on it.
    pub(crate) fn open_shared_file(&self, name: &str) -> Result<Option<Working>> {
        let path = self.ingest.join(name);
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
            let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o644)).context("create", &path)?;
            let working = Working { handle: File::from(file), path: path.clone(), aside: self.clone(), done: false };
            match working.claim()? {
                Claim::Held => return Ok(Some(working)),
                Claim::Busy => {
                    working.leave();
                    return Ok(None);
                }
                Claim::Gone => working.leave(),
            }
        }
    }

    fn make(&self, prefix: &str, create: impl Fn(&Path) -> rustix::io::Result<rustix::fd::OwnedFd>) -> Result<Working> {
        loop {
            let path = self.ingest.join(format!("{prefix}-{}", unique()));
            let handle = match create(&path) {
                // A reaper took the directory between mkdir and open.
                Err(Errno::EXIST | Errno::NOENT) if self.ingest.is_dir() => continue,
                other => File::from(other.context("create", &path)?),
            };
            let working = Working { handle, path, aside: self.clone(), done: false };
            match working.claim()? {
                Claim::Held => return Ok(working),
                Claim::Busy | Claim::Gone => working.leave(),
            }
        }
    }

    /// Makes `path` disappear now; its space is freed by [`Aside::empty_trash`]. Whether there was something.
    pub(crate) fn discard(&self, path: &Path) -> Result<bool> {
        loop {
            match rustix::fs::rename(path, self.trash.join(unique())) {
                Ok(()) => return Ok(true),
                Err(Errno::NOENT) if fs::symlink_metadata(path).is_err() => return Ok(false),
                // Moving a directory rewrites its `..`, which needs write permission on it: the kernel's overlay work
                // directory has mode 0.
                Err(Errno::ACCESS) if make_writable(path) => {}
                Err(error) => return Err(error).context("move to the trash", path),
            }
        }
    }

    /// As [`Aside::discard`], for `name` in an open directory; `path` is only for messages.
    pub(crate) fn discard_at(&self, directory: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<()> {
        match rustix::fs::renameat(directory, name, CWD, self.trash.join(unique())) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error).context("move to the trash", path),
        }
    }

    /// Moves to the trash what dead processes left in `ingest/`, except files that `keep` wants. Returns how many.
    pub(crate) fn reap_ingest(&self, keep: impl Fn(&OsStr, &fs::Metadata) -> bool) -> Result<usize> {
        let mut count = 0;
        for entry in fs::read_dir(&self.ingest).context("read", &self.ingest)? {
            let entry = entry.context("read", &self.ingest)?;
            let path = entry.path();
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let handle = match rustix::fs::open(&path, flags, Mode::empty()) {
                Ok(handle) => handle,
                Err(Errno::NOENT) => continue,
                Err(Errno::ACCESS) if make_writable(&path) => match rustix::fs::open(&path, flags, Mode::empty()) {
                    Ok(handle) => handle,
                    Err(_) => continue,
                },
                // Of another user of the same store: left to a process that may.
                Err(_) => continue,
            };
            if rustix::fs::flock(&handle, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            let Ok(metadata) = entry.metadata() else { continue };
            if !keep(&entry.file_name(), &metadata) && self.discard(&path)? {
                count += 1;
            }
        }
        Ok(count)
    }

    /// Deletes everything in `trash/`. Several processes may do it at once. Returns how many entries went; those that
    /// this process has no permission for stay for one that has, and one that cannot be deleted keeps none of the others.
    pub(crate) fn empty_trash(&self) -> Result<usize> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let trash = rustix::fs::open(&self.trash, flags, Mode::empty()).context("open", &self.trash)?;
        let mut count = 0;
        // A deep subtree comes back to the top as a new entry, so one pass is not always enough.
        loop {
            let (mut progress, mut failed) = (false, Ok(()));
            for entry in Dir::read_from(&trash).context("read", &self.trash)? {
                let entry = entry.context("read", &self.trash)?;
                let name = OsStr::from_bytes(entry.file_name().to_bytes());
                if name == "." || name == ".." {
                    continue;
                }
                match remove(trash.as_fd(), name, trash.as_fd(), MAX_DEPTH) {
                    Ok(()) => {
                        progress = true;
                        count += 1;
                    }
                    Err(Errno::ACCESS | Errno::PERM | Errno::BUSY | Errno::NOTEMPTY) => {}
                    Err(error) => failed = failed.and(Err(error).context("delete", self.trash.join(name))),
                }
            }
            if !progress {
                return failed.map(|()| count);
            }
        }
    }
}

/// An entry of `ingest/` that this process works on. Dropping it discards the entry.
#[derive(Debug)]
#[must_use = "dropping it discards the work"]
pub(crate) struct Working {
    handle: File,
    path: PathBuf,
    aside: Aside,
    done: bool,
}

enum Claim {
    Held,
    Busy,
    Gone,
}

impl Working {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file or directory itself.
    pub(crate) fn handle(&self) -> &File {
        &self.handle
    }

    /// Gives the entry, complete, its place; replaces a file, never a directory.
    pub(crate) fn publish(mut self, target: &Path) -> Result<()> {
        fs::rename(&self.path, target).context("create", target)?;
        self.done = true;
        Ok(())
    }

    /// Ends the work without discarding the entry.
    pub(crate) fn leave(mut self) {
        self.done = true;
    }

    fn claim(&self) -> Result<Claim> {
        match rustix::fs::flock(&self.handle, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(Claim::Busy),
            Err(error) => return Err(error).context("lock", &self.path),
        }
        let ours = self.handle.metadata().context("read", &self.path)?;
        match fs::symlink_metadata(&self.path) {
            Ok(there) if there.ino() == ours.ino() && there.dev() == ours.dev() => Ok(Claim::Held),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("read", &self.path),
            _ => Ok(Claim::Gone),
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if !self.done
            && let Err(error) = self.aside.discard(&self.path)
        {
            // Not lost: the lock ends with this value, so the next reaper finds the entry.
            tracing::debug!(path = %self.path.display(), %error, "left behind");
        }
    }
}

/// A text that no other call, in this or another process, has returned.
pub(crate) fn unique() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&now.as_nanos().to_le_bytes());
    hasher.update(&std::process::id().to_le_bytes());
    hasher.update(&COUNTER.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    // The same pid can exist in several pid namespaces; where the stack lies differs between processes.
    hasher.update(&(std::ptr::from_ref(&hasher).addr() as u64).to_le_bytes());
    hasher.finalize().to_hex()[..16].to_owned()
}

fn make_writable(path: &Path) -> bool {
    let is_closed_directory = fs::symlink_metadata(path).is_ok_and(|is| is.is_dir() && is.mode() & 0o700 != 0o700);
    is_closed_directory && rustix::fs::chmod(path, Mode::from_raw_mode(0o700)).is_ok()
}

/// Deletes `name` and all below it. No path is ever joined, so neither length nor symlinks matter; below `depth` levels
/// a subtree is moved to `top`, to be deleted from there.
fn remove(parent: BorrowedFd<'_>, name: &OsStr, top: BorrowedFd<'_>, depth: usize) -> Result<(), Errno> {
    let is_gone = || rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).err() == Some(Errno::NOENT);
    match try_remove(parent, name, top, depth) {
        // Somebody else was faster.
        Err(Errno::NOENT) if is_gone() => Ok(()),
        other => other,
    }
}

fn try_remove(parent: BorrowedFd<'_>, name: &OsStr, top: BorrowedFd<'_>, depth: usize) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    if depth == 0 {
        let target = unique();
        return match rustix::fs::renameat(parent, name, top, target.as_str()) {
            Err(Errno::ACCESS) => {
                rustix::fs::chmodat(parent, name, Mode::from_raw_mode(0o700), AtFlags::empty())?;
                rustix::fs::renameat(parent, name, top, target.as_str())
            }
            other => other,
        };
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            // The overlay's `work/work` has mode 0, which stops everyone but root.
            rustix::fs::chmodat(parent, name, Mode::from_raw_mode(0o700), AtFlags::empty())?;
            rustix::fs::openat(parent, name, flags, Mode::empty())?
        }
        other => other?,
    };
    // Reading goes on while entries disappear; what a read skipped is found by the next round.
    let mut opened_up = false;
    loop {
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let child = OsStr::from_bytes(entry.file_name().to_bytes());
            if child == "." || child == ".." {
                continue;
            }
            match remove(directory.as_fd(), child, top, depth - 1) {
                Err(Errno::ACCESS) if !opened_up => {
                    rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o700))?;
                    opened_up = true;
                    remove(directory.as_fd(), child, top, depth - 1)?;
                }
                other => other?,
            }
        }
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aside() -> (tempfile::TempDir, Aside) {
        let root = tempfile::tempdir().unwrap();
        for name in ["ingest", "trash"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        let aside = Aside::new(root.path());
        (root, aside)
    }

    fn count(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn several_empty_the_trash_at_once() {
        let (_root, aside) = aside();
        for tree in 0..12 {
            // What is deeper is moved to the top.
            let deep: PathBuf = std::iter::repeat_n("d", 2 * MAX_DEPTH + tree % 3).collect();
            fs::create_dir_all(aside.trash.join(tree.to_string()).join(deep)).unwrap();
        }
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| aside.empty_trash())).collect();
            for thread in threads {
                thread.join().unwrap().unwrap();
            }
        });
        assert_eq!(count(&aside.trash), 0);
    }

    #[test]
    fn reaping_spares_the_living() {
        let (_root, aside) = aside();
        let living = aside.make_directory("layer").unwrap();
        fs::create_dir(aside.ingest.join("layer-dead")).unwrap();
        fs::write(aside.ingest.join("blob-dead"), b"x").unwrap();
        fs::write(aside.ingest.join("wanted.partial"), b"x").unwrap();
        let keep = |name: &OsStr, _: &fs::Metadata| name == "wanted.partial";
        assert_eq!(aside.reap_ingest(keep).unwrap(), 2);
        assert_eq!(count(&aside.ingest), 2);
        assert!(living.path().is_dir());
        drop(living);
        assert_eq!(count(&aside.ingest), 1);
        assert_eq!(count(&aside.trash), 3);
        assert_eq!(aside.empty_trash().unwrap(), 3);
        assert_eq!(count(&aside.trash), 0);
    }

    #[test]
    fn closed_and_bottomless_directories_can_be_deleted() {
        let (_root, aside) = aside();
        let tree = aside.make_directory("layer").unwrap();
        fs::create_dir_all(tree.path().join("work/work")).unwrap();
        rustix::fs::chmod(tree.path().join("work/work"), Mode::empty()).unwrap();
        let mut directory = rustix::fs::open(tree.path(), OFlags::RDONLY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&directory, "d", Mode::from_raw_mode(0o755)).unwrap();
            directory = rustix::fs::openat(&directory, "d", OFlags::RDONLY, Mode::empty()).unwrap();
        }
        drop(tree);
        aside.empty_trash().unwrap();
        assert_eq!(count(&aside.trash), 0);
    }

    #[test]
    fn a_shared_file_has_one_user_at_a_time_and_survives_them() {
        let (_root, aside) = aside();
        let first = aside.open_shared_file("x.partial").unwrap().unwrap();
        assert!(aside.open_shared_file("x.partial").unwrap().is_none());
        first.leave();
        assert!(aside.open_shared_file("x.partial").unwrap().is_some());
    }
}
