//! What is below a directory, as far as the ignore rules leave it in?
//!
//! The least that a walk can cost: a directory is opened from the one it is in and listed, and each entry that is not
//! left out by its name alone is looked at from there, so that the kernel never resolves a path. What a directory
//! contains is sorted by itself; the order of the whole is that of a walk from the root.
//!
//! A few entries are listed by the calling thread. If there are more, others help it, and are gone when it is done.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rbuild_frontend::{IgnoreFile, Match};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, RawDir, openat};

use super::root::node_at;
use super::{InnerPath, Node, Root};

/// How many entries are listed before threads are worth their start.
const FEW: usize = 1024;

/// More threads than this only wait for each other.
const MOST_THREADS: usize = 12;

/// How many directories are kept open for what they contain; beyond that, paths are resolved from the root.
const MOST_OPEN: usize = 128;

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Without the root, in the order of a walk.
    pub(super) entries: Vec<Met>,
    pub(super) unreadable: BTreeMap<InnerPath, io::Error>,
}

/// A file, a directory or anything else.
#[derive(Debug)]
pub(super) struct Met {
    pub(super) path: InnerPath,
    pub(super) node: Node,
    /// A directory that may be here only because of what was taken back in below it.
    pub(super) excluded: bool,
    /// The number of its listing, if it is a directory that was entered.
    listing: Option<u32>,
}

/// Lists everything below `root`.
pub(super) fn gather(root: &Root, ignore: &IgnoreFile) -> Found {
    let first = Directory { listing: 0, path: InnerPath::root(), verdict: Match::None, parent: None };
    let open = AtomicUsize::new(0);
    let work = Work {
        root,
        ignore,
        open: &open,
        state: Mutex::new(State { waiting: vec![first], listings: 1, busy: 0 }),
        changed: Condvar::new(),
    };
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
    let listings = work.state().listings as usize;
    assemble(parts, listings)
}

/// What one thread has found.
#[derive(Default)]
struct Part {
    count: usize,
    listings: Vec<(u32, Vec<Met>)>,
    unreadable: BTreeMap<InnerPath, io::Error>,
}

/// Puts what each directory contains behind it.
fn assemble(parts: Vec<Part>, count: usize) -> Found {
    let mut found = Found::default();
    found.entries.reserve_exact(parts.iter().map(|part| part.count).sum());
    let mut listings: Vec<std::vec::IntoIter<Met>> = (0..count).map(|_| Vec::new().into_iter()).collect();
    for mut part in parts {
        for (number, entries) in part.listings {
            listings[number as usize] = entries.into_iter();
        }
        found.unreadable.append(&mut part.unreadable);
    }
    let mut open = vec![0];
    while let Some(listing) = open.last() {
        let Some(entry) = listings[*listing].next() else {
            open.pop();
            continue;
        };
        open.extend(entry.listing.map(|number| number as usize));
        found.entries.push(entry);
    }
    found
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
    /// How many numbers are given out.
    listings: u32,
    /// How many threads may still find directories.
    busy: usize,
}

struct Work<'a> {
    root: &'a Root,
    ignore: &'a IgnoreFile,
    open: &'a AtomicUsize,
    state: Mutex<State<'a>>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Progress {
    Finished,
    /// There is more, and it is much.
    Paused,
}

/// What a directory contains, and which of it has to be listed as well, by place.
type Listed<'a> = (Vec<Met>, Vec<(usize, Directory<'a>)>);

/// What a thread uses again for each directory.
struct Buffers {
    names: Vec<u8>,
    path: Vec<u8>,
    entries: Vec<Met>,
}

impl<'a> Work<'a> {
    fn state(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists directories until there are no more, or until this thread has met `enough` entries.
    fn run(&self, part: &mut Part, enough: usize) -> Progress {
        let mut buffers = Buffers { names: Vec::with_capacity(32 * 1024), path: Vec::new(), entries: Vec::new() };
        let mut state = self.state();
        loop {
            if part.count >= enough && !state.waiting.is_empty() {
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
                Ok((mut entries, below)) => {
                    for (place, mut directory) in below {
                        directory.listing = state.listings;
                        entries[place].listing = Some(state.listings);
                        state.listings += 1;
                        state.waiting.push(directory);
                    }
                    part.count += entries.len();
                    part.listings.push((directory.listing, entries));
                }
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

    /// Looks at all that a directory contains, and sorts it.
    fn list(&self, directory: &Directory<'a>, part: &mut Part, buffers: &mut Buffers) -> io::Result<Listed<'a>> {
        let opened = self.open(directory)?;
        let Buffers { names, path, entries } = buffers;
        path.clear();
        path.extend_from_slice(directory.path.as_bytes());
        if !path.is_empty() {
            path.push(b'/');
        }
        let above = path.len();
        entries.clear();
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
                    let path = InnerPath::from_clean(path);
                    entries.push(Met { path, node, excluded: verdict.is_excluded(), listing: None });
                }
                // Vanished meanwhile, or no directory after all.
                Ok(_) => {}
                Err(error) if !verdict.is_excluded() => {
                    part.unreadable.insert(InnerPath::from_clean(path), error);
                }
                Err(_) => {}
            }
        }
        // Together they are most of the memory that a walk takes.
        #[expect(clippy::drain_collect, reason = "the copy is as long as it has to be, and the buffer keeps its room")]
        let mut entries: Vec<Met> = entries.drain(..).collect();
        entries.sort_unstable_by(|left, right| left.path.as_bytes()[above..].cmp(&right.path.as_bytes()[above..]));
        let parent = (self.open.load(Ordering::Relaxed) <= MOST_OPEN).then(|| Arc::new(opened));
        let enter = |(place, entry): (usize, &Met)| {
            let verdict = self.verdict(directory.verdict, entry.path.as_bytes());
            (place, Directory { listing: 0, path: entry.path.clone(), verdict, parent: parent.clone() })
        };
        let below = entries.iter().enumerate().filter(|(_, entry)| entry.node.is_directory()).map(enter).collect();
        Ok((entries, below))
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

fn relative(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}
