//! What is below a directory, as far as the ignore rules leave it in?
//!
//! The least that a walk can cost: a directory is opened from the one it is in and listed, and each entry that is not
//! left out by its name alone is looked at from there, so that the kernel never resolves a path. What a directory
//! contains is sorted by itself; the order of the whole is that of a walk from the root.
//!
//! A few entries are listed by the calling thread. If there are more, others help it, and are gone when it is done.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rbuild_core::Shelf;
use rbuild_frontend::{IgnoreFile, Match};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, RawDir, openat};
use rustix::io::Errno;

use super::entries::{self, Block, Entries, Packed, Pile};
use super::root::node_at;
use super::{InnerPath, Root};

/// How many entries are listed before threads are worth their start.
const FEW: usize = 1024;

/// More threads than this only wait for each other.
const MOST_THREADS: usize = 12;

/// How many directories are kept open for what they contain; beyond that, paths are resolved from the root.
const MOST_OPEN: usize = 128;

/// What a walk found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) entries: Entries,
    pub(super) unreadable: BTreeMap<InnerPath, io::Error>,
}

/// Lists everything below `root`.
pub(super) fn gather(root: &Root, ignore: &IgnoreFile, shelf: Shelf<Block>) -> Found {
    let open = AtomicUsize::new(0);
    let work = Work::new(root, ignore, &open, shelf);
    let mut parts = vec![Part::default()];
    if work.run(&mut parts[0], FEW) == Progress::Paused {
        let helpers = std::thread::available_parallelism().map_or(1, usize::from).clamp(2, MOST_THREADS) - 1;
        std::thread::scope(|scope| {
            let help = || {
                let mut part = Part::default();
                work.run(&mut part, usize::MAX);
                part
            };
            // Who cannot be started does not help.
            let start = || std::thread::Builder::new().spawn_scoped(scope, help).ok();
            let helpers: Vec<_> = (0..helpers).filter_map(|_| start()).collect();
            work.run(&mut parts[0], usize::MAX);
            parts.extend(helpers.into_iter().map(|helper| match helper.join() {
                Ok(part) => part,
                Err(panic) => std::panic::resume_unwind(panic),
            }));
        });
    }
    work.found(parts)
}

/// What one thread has found.
#[derive(Default)]
struct Part {
    met: entries::Part,
    unreadable: BTreeMap<InnerPath, io::Error>,
    /// The listings of directories that were gone when they were to be listed.
    gone: Vec<u32>,
}

/// A directory that waits to be listed.
struct Directory<'a> {
    listing: u32,
    path: InnerPath,
    verdict: Match<'a>,
    /// The directory it is in, if that is still open.
    parent: Option<Arc<Opened<'a>>>,
}

/// An open directory, counted.
struct Opened<'a> {
    fd: OwnedFd,
    count: &'a AtomicUsize,
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

struct State<'a> {
    /// The last one comes first: so those that contain it are closed soon.
    waiting: Vec<Directory<'a>>,
    /// How many threads may still find directories.
    busy: usize,
}

struct Work<'a> {
    root: &'a Root,
    ignore: &'a IgnoreFile,
    open: &'a AtomicUsize,
    shelf: Shelf<Block>,
    /// How many numbers are given out.
    listings: AtomicU32,
    state: Mutex<State<'a>>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Progress {
    Finished,
    /// There is more, and it is much.
    Paused,
}

/// What a thread uses again for each directory.
struct Buffers {
    names: Vec<u8>,
    path: Vec<u8>,
    /// What the last directory contains.
    entries: Vec<Packed>,
}

impl<'a> Work<'a> {
    /// With the root directory to begin with.
    fn new(root: &'a Root, ignore: &'a IgnoreFile, open: &'a AtomicUsize, shelf: Shelf<Block>) -> Self {
        let first = Directory { listing: 0, path: InnerPath::root(), verdict: Match::None, parent: None };
        let state = Mutex::new(State { waiting: vec![first], busy: 0 });
        Self { root, ignore, open, shelf, listings: AtomicU32::new(1), state, changed: Condvar::new() }
    }

    /// What all threads have found, when there is nothing left to be listed.
    fn found(self, parts: Vec<Part>) -> Found {
        let (mut unreadable, mut gone) = (BTreeMap::new(), HashSet::new());
        let met = parts.into_iter().map(|mut part| {
            unreadable.append(&mut part.unreadable);
            gone.extend(part.gone);
            part.met
        });
        let mut entries = Entries::new(met.collect(), self.listings.into_inner() as usize, self.shelf);
        if !self.ignore.is_empty() || !gone.is_empty() {
            entries.drop_excluded(&gone);
        }
        Found { entries, unreadable }
    }

    fn state(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists directories until there are no more, or until this thread has met `enough` entries.
    fn run(&self, part: &mut Part, enough: usize) -> Progress {
        let mut buffers = Buffers { names: Vec::with_capacity(32 * 1024), path: Vec::new(), entries: Vec::new() };
        let mut state = self.state();
        loop {
            if part.met.len() >= enough && !state.waiting.is_empty() {
                return Progress::Paused;
            }
            let Some(directory) = state.waiting.pop() else {
                if state.busy == 0 {
                    return Progress::Finished;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.busy += 1;
            drop(state);
            let listed = self.list(&directory, part, &mut buffers);
            state = self.state();
            state.busy -= 1;
            match listed {
                Ok(below) => state.waiting.extend(below),
                Err(error) if is_gone(&error) && !directory.path.is_root() => part.gone.push(directory.listing),
                Err(error) => {
                    part.unreadable.insert(directory.path, error);
                }
            }
            // Also when nothing was added: the last one to be busy tells the others that it is over.
            if state.busy == 0 || !state.waiting.is_empty() {
                self.changed.notify_all();
            }
        }
    }

    /// Looks at all that a directory contains, keeps it sorted, and returns the directories.
    fn list(
        &self,
        directory: &Directory<'a>,
        part: &mut Part,
        buffers: &mut Buffers,
    ) -> io::Result<Vec<Directory<'a>>> {
        let opened = self.open(directory)?;
        let Buffers { names, path, entries } = buffers;
        path.clear();
        path.extend_from_slice(directory.path.as_bytes());
        if !path.is_empty() {
            path.push(b'/');
        }
        let above = path.len();
        entries.clear();
        part.met.pile.clear();
        let mut list = RawDir::new(&opened.fd, names.spare_capacity_mut());
        while let Some(entry) = list.next() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            path.truncate(above);
            path.extend_from_slice(name.to_bytes());
            let verdict = self.verdict(directory.verdict, path);
            let may_be_directory = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
            if self.is_pruned(verdict, path, may_be_directory) {
                continue;
            }
            match node_at(opened.fd.as_fd(), name) {
                Ok(Some(node)) if !self.is_pruned(verdict, path, node.is_directory()) => {
                    entries.push(part.met.pile.pack(name.to_bytes(), &node, verdict.is_excluded())?);
                }
                // Vanished meanwhile, or no directory after all.
                Ok(_) => {}
                Err(error) if !verdict.is_excluded() => {
                    part.unreadable.insert(InnerPath::from_clean(path), error);
                }
                Err(_) => {}
            }
        }
        let Part { met, .. } = part;
        met.pile.sort(entries);
        let parent = (self.open.load(Ordering::Relaxed) <= MOST_OPEN).then(|| Arc::new(opened));
        let mut below = Vec::new();
        for entry in entries.iter_mut().filter(|entry| met.pile.is_directory(entry)) {
            path.truncate(above);
            path.extend_from_slice(met.pile.name(entry));
            let verdict = self.verdict(directory.verdict, path);
            let listing = self.listings.fetch_add(1, Ordering::Relaxed);
            Pile::enter(entry, listing);
            below.push(Directory { listing, path: InnerPath::from_clean(path), verdict, parent: parent.clone() });
        }
        met.add(directory.listing, entries, &self.shelf)?;
        Ok(below)
    }

    fn open(&self, directory: &Directory<'a>) -> io::Result<Opened<'a>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match &directory.parent {
            Some(parent) => openat(&parent.fd, directory.path.name(), flags, Mode::empty())?,
            None if directory.path.is_root() => openat(self.root, ".", flags, Mode::empty())?,
            None => self.root.open_directory(&directory.path)?,
        };
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(Opened { fd, count: self.open })
    }

    fn verdict(&self, above: Match<'a>, path: &[u8]) -> Match<'a> {
        if self.ignore.is_empty() { Match::None } else { self.ignore.matched_below(above, relative(path)) }
    }

    /// Whether neither it nor anything below it is part of the context.
    fn is_pruned(&self, verdict: Match<'_>, path: &[u8], is_directory: bool) -> bool {
        verdict.is_excluded() && (!is_directory || self.ignore.prunes(verdict, relative(path)))
    }
}

/// Whether an error says that a directory vanished, or became something else, since it was seen: like a file that does, it
/// is not there.
fn is_gone(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

fn relative(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_directory_that_vanishes_is_as_little_there_as_a_file_that_does() {
        let directory = tempfile::tempdir().unwrap();
        for path in ["a/x", "b/c/y", "d/z", "e/f"] {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let (root, ignore, open) = (Root::open(directory.path()).unwrap(), IgnoreFile::default(), AtomicUsize::new(0));
        let shelf = || Shelf::new(0, 1, Box::new(tempfile::tempfile));
        let work = Work::new(&root, &ignore, &open, shelf());
        let mut part = Part::default();
        assert_eq!(work.run(&mut part, 1), Progress::Paused, "the root is listed, and no more");
        fs::remove_dir_all(directory.path().join("b")).unwrap();
        fs::remove_dir_all(directory.path().join("d")).unwrap();
        fs::write(directory.path().join("d"), "a file now").unwrap();
        assert_eq!(work.run(&mut part, usize::MAX), Progress::Finished);
        let Found { entries, unreadable } = work.found(vec![part]);
        assert!(unreadable.is_empty(), "{unreadable:?}");
        let mut walk = entries.walk(None, b"");
        let mut found = Vec::new();
        while let Some((_, path, _)) = walk.next() {
            found.push(String::from_utf8_lossy(path).into_owned());
        }
        assert_eq!(found, ["a", "a/x", "e", "e/f"]);
        // The context itself is another matter.
        let gone = directory.path().join("gone");
        fs::create_dir(&gone).unwrap();
        let root = Root::open(&gone).unwrap();
        fs::remove_dir(&gone).unwrap();
        assert!(gather(&root, &ignore, shelf()).unreadable.contains_key(&InnerPath::root()));
    }
}
