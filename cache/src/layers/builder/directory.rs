//! How do changes become a directory for the overlay?
//!
//! One thread makes names, since those have an order. Small files are filled and finished by others: 8 MiB at most are
//! on the way to them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rbuild_image::{Entry, EntryKind, Timestamp};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags, makedev};
use rustix::io::Errno;

use super::super::attributes::{Job, times};
use super::super::tree::{is_kept, open_root};
use super::super::{LayerError, Result};
use super::Source;
use crate::error::StoreError;
use crate::store::OverlayXattrs;

/// Files up to this size are finished by other threads.
const SMALL: usize = 128 << 10;
const JOBS: usize = 64;
const THREADS: usize = 4;
const LARGE_BUFFER: usize = 1 << 20;
/// How many directories on the way are open at most.
const MOST_OPEN: usize = 64;

/// A directory that changes are written to.
#[derive(Debug)]
pub(super) struct Directory {
    root: OwnedFd,
    path: PathBuf,
    overlay: OverlayXattrs,
    /// From the root to the directory that the next change is in.
    way: Vec<Frame>,
    /// None as long as there is no small file, and after the last.
    jobs: Option<SyncSender<Job>>,
    workers: Vec<JoinHandle<Result<()>>>,
    own: Own,
    buffer: Vec<u8>,
}

/// Whom new files belong to.
#[derive(Clone, Copy, Debug)]
struct Own {
    uid: u32,
    gid: u32,
}

impl Own {
    fn is_of(self, entry: &Entry) -> bool {
        (self.uid, self.gid) == (entry.uid, entry.gid)
    }

    fn give(self, file: impl AsFd, entry: &Entry) -> Result<()> {
        if self.is_of(entry) {
            return Ok(());
        }
        rustix::fs::fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
            .map_err(|error| not_given(entry, error))
    }

    /// Everything about a file but its content. Changing the owner clears set-id bits and capabilities, writing changes
    /// the time: so in this order.
    fn finish_file(self, file: &File, entry: &Entry) -> Result<Xattrs> {
        self.give(file, entry)?;
        let stored = set_xattrs(file.as_fd(), entry);
        rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode & 0o7777))
            .map_err(|error| failed("change the mode of", &entry.path, error))?;
        rustix::fs::futimens(file, &times(entry.mtime))
            .map_err(|error| failed("change the time of", &entry.path, error))?;
        Ok(stored)
    }

    /// Carries out jobs until no more can come, or one fails.
    fn finish_files(self, jobs: &Mutex<Receiver<Job>>) -> Result<()> {
        loop {
            let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Job { mut file, bytes, entry }) = next else { return Ok(()) };
            file.write_all(&bytes).map_err(|error| failed("write", &entry.path, error))?;
            self.finish_file(&file, &entry)?;
        }
    }
}

/// Extended attributes by full name.
pub(super) type Xattrs = BTreeMap<OsString, Vec<u8>>;

#[derive(Debug)]
struct Frame {
    path: PathBuf,
    /// Open once something is made in it.
    handle: Option<OwnedFd>,
    mode: u32,
    mtime: Timestamp,
}

impl Directory {
    /// `path` is an empty directory.
    pub(super) fn new(path: PathBuf, overlay: OverlayXattrs) -> Result<Self> {
        let root = open_root(&path)?;
        let own = Own { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() };
        let entry = super::root();
        let first = Frame { path: PathBuf::new(), handle: None, mode: entry.mode, mtime: entry.mtime };
        Ok(Self { root, path, overlay, way: vec![first], jobs: None, workers: Vec::new(), own, buffer: Vec::new() })
    }

    /// Returns the attributes that the directory has now.
    pub(super) fn root(&mut self, entry: &Entry) -> Result<Xattrs> {
        if let Some(first) = self.way.first_mut() {
            (first.mode, first.mtime) = (entry.mode & 0o7777, entry.mtime);
        }
        self.own.give(&self.root, entry)?;
        Ok(set_xattrs(self.root.as_fd(), entry))
    }

    /// Makes a directory; what follows up to [`leave`](Self::leave) is in it.
    pub(super) fn enter(&mut self, entry: &Entry) -> Result<Xattrs> {
        let (path, name) = (&entry.path, name_of(&entry.path)?);
        let own = self.own;
        let parent = self.open_parent()?.parent();
        rustix::fs::mkdirat(parent, name, Mode::RWXU).map_err(|error| failed("create", path, error))?;
        let mut frame = Frame { path: path.clone(), handle: None, mode: entry.mode & 0o7777, mtime: entry.mtime };
        let mut stored = Xattrs::new();
        if !own.is_of(entry) || !entry.xattrs.is_empty() {
            let handle = open_directory(parent, name).map_err(|error| failed("open", path, error))?;
            own.give(&handle, entry)?;
            stored = set_xattrs(handle.as_fd(), entry);
            frame.handle = Some(handle);
        }
        self.way.push(frame);
        if let Some(far) = self.way.len().checked_sub(MOST_OPEN) {
            self.way[far].handle = None;
        }
        Ok(stored)
    }

    /// Nothing more comes in the directory entered last.
    pub(super) fn leave(&mut self) -> Result<()> {
        let Some(frame) = self.way.pop() else { return Ok(()) };
        let (mode, times) = (Mode::from_raw_mode(frame.mode), times(frame.mtime));
        let (changed, timed) = match (&frame.handle, frame.path.file_name()) {
            (Some(handle), _) => (rustix::fs::fchmod(handle, mode), rustix::fs::futimens(handle, &times)),
            (None, None) => (rustix::fs::fchmod(&self.root, mode), rustix::fs::futimens(&self.root, &times)),
            (None, Some(name)) => {
                let parent = self.open_parent()?.parent();
                (
                    rustix::fs::chmodat(parent, name, mode, AtFlags::empty()),
                    rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW),
                )
            }
        };
        changed.map_err(|error| failed("change the mode of", &frame.path, error))?;
        timed.map_err(|error| failed("change the time of", &frame.path, error))
    }

    /// Marks the directory entered last, or the root.
    pub(super) fn opaque(&mut self, path: &Path) -> Result<()> {
        let name = format!("{}opaque", self.overlay.prefix());
        let directory = self.open_parent()?.parent();
        rustix::fs::fsetxattr(directory, name, b"y", XattrFlags::empty())
            .map_err(|error| failed("mark as opaque", path, error))
    }

    pub(super) fn whiteout(&mut self, path: &Path) -> Result<()> {
        let name = name_of(path)?;
        rustix::fs::mknodat(self.open_parent()?.parent(), name, FileType::CharacterDevice, Mode::empty(), 0)
            .map_err(|error| failed("create", path, error))
    }

    /// Makes a file with its content; returns the attributes it has and the digest of the content.
    pub(super) fn file(
        &mut self,
        entry: &Entry,
        source: Source<'_>,
        digest: Option<[u8; 32]>,
    ) -> Result<(Xattrs, [u8; 32])> {
        let EntryKind::File { size } = entry.kind else { unreachable!("only called for files") };
        let path = &entry.path;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.open_parent()?.parent(), name_of(path)?, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| failed("create", path, error))?;
        let file = File::from(file);
        let short = || LayerError::Source { path: path.clone(), source: io::ErrorKind::UnexpectedEof.into() };
        let bytes = match source {
            Source::Empty => Vec::new(),
            Source::Bytes(bytes) => bytes,
            // Nothing can be taken from layers of this form, or for it.
            Source::Former(_) => return Err(failed("write", path, io::Error::from(io::ErrorKind::Unsupported))),
            Source::Reader(reader) => {
                let digest = self.stream(&file, path, reader, size, digest)?;
                return Ok((self.own.finish_file(&file, entry)?, digest));
            }
            Source::File(mut from) => {
                let digest = match digest {
                    Some(digest) => {
                        let copied = hand_over(from, &file, size).map_err(|error| failed("write", path, error))?;
                        self.stream(&file, path, &mut from, size - copied, Some(digest))?
                    }
                    None => self.stream(&file, path, &mut from, size, None)?,
                };
                return Ok((self.own.finish_file(&file, entry)?, digest));
            }
        };
        if bytes.len() as u64 != size {
            return Err(short());
        }
        let digest = digest.unwrap_or_else(|| *blake3::hash(&bytes).as_bytes());
        if bytes.len() <= SMALL && entry.xattrs.is_empty() {
            self.hand_on(Job { file, bytes, entry: entry.clone() })?;
            return Ok((Xattrs::new(), digest));
        }
        (&file).write_all(&bytes).map_err(|error| failed("write", path, error))?;
        Ok((self.own.finish_file(&file, entry)?, digest))
    }

    fn stream(
        &mut self,
        file: &File,
        path: &Path,
        from: &mut dyn Read,
        mut rest: u64,
        known: Option<[u8; 32]>,
    ) -> Result<[u8; 32]> {
        let unread = |source| LayerError::Source { path: path.to_owned(), source };
        self.buffer.resize(LARGE_BUFFER, 0);
        let mut hasher = blake3::Hasher::new();
        let mut file = file;
        while rest > 0 {
            let wanted = usize::try_from(rest).unwrap_or(usize::MAX).min(LARGE_BUFFER);
            let count = match from.read(&mut self.buffer[..wanted]) {
                Ok(0) => return Err(unread(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unread(error)),
            };
            if known.is_none() {
                hasher.update(&self.buffer[..count]);
            }
            file.write_all(&self.buffer[..count]).map_err(|error| failed("write", path, error))?;
            rest -= count as u64;
        }
        Ok(known.unwrap_or_else(|| *hasher.finalize().as_bytes()))
    }

    fn hand_on(&mut self, job: Job) -> Result<()> {
        if self.jobs.is_none() {
            self.start_workers()?;
        }
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        // Nobody receives any more once one of them has failed.
        if sent { Ok(()) } else { self.join() }
    }

    fn start_workers(&mut self) -> Result<()> {
        let (sender, receiver) = sync_channel(JOBS);
        let receiver = Arc::new(Mutex::new(receiver));
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
        for _ in 0..threads {
            let (receiver, own) = (Arc::clone(&receiver), self.own);
            let work = move || own.finish_files(&receiver);
            let worker = std::thread::Builder::new().name("layer".into()).spawn(work);
            self.workers.push(worker.map_err(|error| StoreError::io("start a thread for", &self.path, error))?);
        }
        self.jobs = Some(sender);
        Ok(())
    }

    /// Waits for all files.
    fn join(&mut self) -> Result<()> {
        self.jobs = None;
        let mut result = Ok(());
        for worker in self.workers.drain(..) {
            let done = worker.join().expect("finishing files does not panic");
            result = result.and(done);
        }
        result
    }

    pub(super) fn link(&mut self, path: &Path, target: &Path) -> Result<()> {
        let this = self.open_parent()?;
        rustix::fs::linkat(&this.root, target, this.parent(), name_of(path)?, AtFlags::empty())
            .map_err(|error| failed("create", path, error))
    }

    pub(super) fn symlink(&mut self, entry: &Entry, target: &Path) -> Result<()> {
        let name = name_of(&entry.path)?;
        let parent = self.open_parent()?.parent();
        rustix::fs::symlinkat(target, parent, name).map_err(|error| failed("create", &entry.path, error))?;
        finish_name(parent, name, entry)
    }

    /// Makes a device or fifo.
    pub(super) fn special(&mut self, entry: &Entry) -> Result<()> {
        let (kind, device) = match entry.kind {
            // To the overlay it would be a whiteout.
            EntryKind::CharDevice { major: 0, minor: 0 } => {
                return Err(failed("make the device", &entry.path, Errno::PERM));
            }
            EntryKind::CharDevice { major, minor } => (FileType::CharacterDevice, makedev(major, minor)),
            EntryKind::BlockDevice { major, minor } => (FileType::BlockDevice, makedev(major, minor)),
            _ => (FileType::Fifo, 0),
        };
        let name = name_of(&entry.path)?;
        let parent = self.open_parent()?.parent();
        rustix::fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device)
            .map_err(|error| failed("make the device", &entry.path, error))?;
        finish_name(parent, name, entry)
    }

    /// Completes everything.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.join()?;
        while !self.way.is_empty() {
            self.leave()?;
        }
        Ok(())
    }

    /// Opens the directory that the next change is in.
    fn open_parent(&mut self) -> Result<&Self> {
        let [.., above, last] = &mut self.way[..] else { return Ok(self) };
        if last.handle.is_none() {
            let (at, name) = match (&above.handle, last.path.file_name()) {
                (Some(parent), Some(name)) => (parent.as_fd(), name),
                _ => (self.root.as_fd(), last.path.as_os_str()),
            };
            last.handle = Some(open_directory(at, name).map_err(|error| failed("open", &last.path, error))?);
        }
        Ok(self)
    }

    fn parent(&self) -> BorrowedFd<'_> {
        self.way.last().and_then(|frame| frame.handle.as_ref()).unwrap_or(&self.root).as_fd()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = self.join() {
            tracing::debug!(%error, "discarded");
        }
    }
}

fn name_of(path: &Path) -> Result<&OsStr> {
    path.file_name().ok_or_else(|| LayerError::Parent { path: path.to_owned() })
}

pub(super) fn failed(action: &'static str, path: &Path, source: impl Into<io::Error>) -> LayerError {
    LayerError::Change { action, path: path.to_owned(), source: source.into() }
}

fn not_given(entry: &Entry, source: Errno) -> LayerError {
    LayerError::Owner { path: entry.path.clone(), uid: entry.uid, gid: entry.gid, source: source.into() }
}

fn open_directory(at: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

/// Owner, mode and time of what cannot be opened without side effects.
fn finish_name(parent: BorrowedFd<'_>, name: &OsStr, entry: &Entry) -> Result<()> {
    let path = &entry.path;
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| not_given(entry, error))?;
    if !matches!(entry.kind, EntryKind::Symlink { .. }) {
        rustix::fs::chmodat(parent, name, Mode::from_raw_mode(entry.mode & 0o7777), AtFlags::empty())
            .map_err(|error| failed("change the mode of", path, error))?;
    }
    rustix::fs::utimensat(parent, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| failed("change the time of", path, error))
}

/// Sets attributes as far as the file system and our rights allow; returns those of them that belong to a layer.
fn set_xattrs(file: BorrowedFd<'_>, entry: &Entry) -> Xattrs {
    let mut stored = Xattrs::new();
    for (name, value) in &entry.xattrs {
        let bytes = name.as_bytes();
        // What the overlay would believe.
        if bytes.starts_with(b"trusted.overlay.") || bytes.starts_with(b"user.overlay.") {
            continue;
        }
        match rustix::fs::fsetxattr(file, name.as_os_str(), value, XattrFlags::empty()) {
            Ok(()) if is_kept(bytes) => drop(stored.insert(name.clone(), value.clone())),
            Ok(()) => {}
            Err(error) => tracing::debug!(path = %entry.path.display(), ?name, %error, "attribute left out"),
        }
    }
    stored
}

/// Has the kernel copy as much as it can, from where both files stand.
fn hand_over(from: &File, to: &File, size: u64) -> rustix::io::Result<u64> {
    let mut total = 0;
    while total < size {
        let wanted = usize::try_from(size - total).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(from, None, to, None, wanted) {
            Ok(0) => break,
            Ok(length) => total += length as u64,
            Err(Errno::INTR) => {}
            Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => return Err(error),
            // Other file systems, other kernels: the rest is done by hand.
            Err(_) => break,
        }
    }
    Ok(total)
}
