//! How does a tar from anywhere become a layer's directory?
//!
//! The tar is read and hashed on one thread and unpacked on another, into a new directory in `ingest/` that becomes
//! the layer only if the hash was right.
//!
//! A hostile tar can make any mess inside that directory and none outside. A parent path is resolved by the kernel as
//! if the layer were a root file system (`RESOLVE_IN_ROOT`: symlinks of the layer are followed, as the tars of some
//! tools need it, but neither they nor `..` lead out); the last component is never followed. Names the kernel's overlay
//! gives a meaning to (`*.overlay.*` attributes) are dropped.
//!
//! A later entry replaces an earlier one of the same path, except that a directory keeps its content. A whiteout
//! speaks about lower layers only: beside an entry of the same path, before or after it, it makes a directory opaque
//! and says nothing about anything else.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rbuild_core::Digest;
use rbuild_image::{Change, Entry, EntryKind, LayerReader, Timestamp};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, makedev};
use rustix::io::Errno;
use sha2::Digest as _;

use super::{Form, Layer, LayerError, Layers, Result, tree};
use crate::aside::Aside;
use crate::error::{Context, StoreError};
use crate::store::OverlayXattrs;

const CHUNK: usize = 128 << 10;
/// Chunks between the two threads: 2 MiB.
const CHUNKS: usize = 16;

impl Layers<'_> {
    /// Unpacks a plain tar as the layer with this diff ID. If the layer is there already, `tar` is not read. Any number
    /// of processes may import the same layer at once.
    ///
    /// # Errors
    /// `DiffId` if the tar is another one, `Tar`, `Parent` or `Link` if it makes no sense, or the disk fails.
    pub fn import(&self, diff_id: &Digest, tar: &mut (dyn Read + Send)) -> Result<Layer> {
        if let Some(layer) = self.find_by_diff_id(diff_id)?
            && layer.form == Form::Directory
        {
            return Ok(layer);
        }
        let made = self.of_diff_id(diff_id)?;
        let working = self.0.0.aside.make_directory("layer")?;
        let path = working.path();
        rustix::fs::chmod(path, Mode::from_raw_mode(0o755)).context("change the mode of", path)?;
        let mut unpacker = Unpacker::new(path, self.0.0.aside.clone(), self.0.0.options.overlay_xattrs)?;
        let (found, size) = read_hashed(tar, |input| unpacker.unpack(input))?;
        if found != *diff_id {
            return Err(LayerError::DiffId { expected: *diff_id, found });
        }
        unpacker.finish_directories()?;
        let (entries, disk_bytes) = (unpacker.entries, unpacker.disk_bytes);
        // A layer built here may have turned out to have this diff ID: then the content is that layer's.
        let known = self.0.0.meta.read(|reader| {
            let id = reader.find(&super::DIFF_IDS, diff_id.as_bytes())?;
            id.map_or(Ok(None), |id| reader.find(&super::LAYERS, id.as_bytes()))
        })?;
        let layer = known.unwrap_or(made);
        // Dropping `working` discards it if another process was faster.
        self.publish(path, Layer { form: Form::Directory, size: Some(size), entries, disk_bytes, ..layer })
    }
}

/// Runs `consume` on the bytes of `tar` while another thread reads and hashes them, and the rest after it. Returns the
/// sha256 and length of all.
fn read_hashed(tar: &mut (dyn Read + Send), consume: impl FnOnce(&mut Chunks) -> Result<()>) -> Result<(Digest, u64)> {
    let (sender, receiver) = sync_channel(CHUNKS);
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || hash_into(tar, &sender));
        let mut chunks = Chunks { receiver, current: Vec::new(), start: 0 };
        let consumed = consume(&mut chunks).and_then(|()| {
            // The diff ID covers what follows the archive's end, too.
            io::copy(&mut chunks, &mut io::sink())
                .map_err(|error| LayerError::Tar(rbuild_image::LayerError::Read(error)))
        });
        // Ends the other thread if it is not at the end.
        drop(chunks);
        let hashed = reading.join().expect("reading a tar does not panic unless the reader given to us does");
        consumed?;
        Ok(hashed)
    })
}

fn hash_into(tar: &mut (dyn Read + Send), sender: &SyncSender<io::Result<Vec<u8>>>) -> (Digest, u64) {
    let mut hasher = sha2::Sha256::new();
    let mut size = 0;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let result = tar.take(CHUNK as u64).read_to_end(&mut chunk);
        hasher.update(&chunk);
        size += chunk.len() as u64;
        let more = !chunk.is_empty() && result.is_ok();
        let sent = match result {
            Err(error) => sender.send(Err(error)),
            Ok(0) => Ok(()),
            Ok(_) => sender.send(Ok(chunk)),
        };
        if sent.is_err() || !more {
            return (Digest::sha256(hasher.finalize().into()), size);
        }
    }
}

/// The bytes that the other thread has hashed.
struct Chunks {
    receiver: Receiver<io::Result<Vec<u8>>>,
    current: Vec<u8>,
    start: usize,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.start == self.current.len() {
            let Ok(next) = self.receiver.recv() else { return Ok(0) };
            (self.current, self.start) = (next?, 0);
        }
        let count = buffer.len().min(self.current.len() - self.start);
        buffer[..count].copy_from_slice(&self.current[self.start..self.start + count]);
        self.start += count;
        Ok(count)
    }
}

/// Applies changes to an empty directory.
struct Unpacker {
    root: OwnedFd,
    /// For messages only.
    root_path: PathBuf,
    aside: Aside,
    overlay: OverlayXattrs,
    /// The parent of the last entry: the next one's is usually the same.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Modes and times wait until nothing changes below any more.
    directories: Vec<(PathBuf, u32, Timestamp)>,
    buffer: Vec<u8>,
    entries: u64,
    disk_bytes: u64,
}

impl Unpacker {
    fn new(root: &Path, aside: Aside, overlay: OverlayXattrs) -> Result<Self> {
        Ok(Self {
            root: tree::open_root(root)?,
            root_path: root.to_owned(),
            aside,
            overlay,
            parent: None,
            directories: Vec::new(),
            buffer: vec![0; CHUNK],
            entries: 0,
            disk_bytes: 0,
        })
    }

    fn unpack(&mut self, input: &mut Chunks) -> Result<()> {
        let mut reader = LayerReader::new(input);
        while let Some((change, content)) = reader.next().map_err(LayerError::Tar)? {
            self.entries += 1;
            match change {
                Change::Upsert(entry) => self.upsert(&entry, content)?,
                Change::Remove(path) => self.remove(&path)?,
                Change::Opaque(path) => self.make_opaque(&path)?,
            }
        }
        Ok(())
    }

    fn upsert(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        let path = &entry.path;
        let Some(name) = path.file_name() else { return self.apply_to_root(entry) };
        // The cached handle is taken out so that `self` stays usable; it is put back on success.
        let parent = self.open_parent(path)?;
        let at = parent.1.as_fd();
        match &entry.kind {
            EntryKind::File { .. } => self.write_file(at, name, entry, content)?,
            EntryKind::Directory => self.make_directory(at, name, entry)?,
            EntryKind::Symlink { target } => {
                self.replacing(at, name, path, || rustix::fs::symlinkat(target, at, name))?;
                self.apply_unopened(at, name, entry)?;
            }
            EntryKind::Hardlink { target } => {
                let from = self.find_link_target(path, target)?;
                let from_name = target.file_name().expect("a link's target was found under its name");
                self.replacing(at, name, path, || rustix::fs::linkat(&from, from_name, at, name, AtFlags::empty()))?;
            }
            EntryKind::CharDevice { major, minor } => {
                self.make_node(at, name, entry, FileType::CharacterDevice, makedev(*major, *minor))?;
            }
            EntryKind::BlockDevice { major, minor } => {
                self.make_node(at, name, entry, FileType::BlockDevice, makedev(*major, *minor))?;
            }
            EntryKind::Fifo => self.make_node(at, name, entry, FileType::Fifo, 0)?,
        }
        if !matches!(entry.kind, EntryKind::Hardlink { .. }) {
            self.disk_bytes += match entry.kind {
                EntryKind::File { size } => size.next_multiple_of(4096),
                EntryKind::Directory => 4096,
                _ => 0,
            };
        }
        self.parent = Some(parent);
        Ok(())
    }

    fn write_file(&mut self, at: BorrowedFd<'_>, name: &OsStr, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        let path = &entry.path;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            self.replacing(at, name, path, || rustix::fs::openat(at, name, flags, Mode::from_raw_mode(0o600)))?;
        let mut file = std::fs::File::from(file);
        loop {
            let count = content
                .read(&mut self.buffer)
                .map_err(|error| LayerError::Tar(rbuild_image::LayerError::Read(error)))?;
            if count == 0 {
                break;
            }
            file.write_all(&self.buffer[..count]).map_err(|error| self.failed("write", path, error))?;
        }
        self.apply_owner(&file, entry)?;
        // After the owner: changing that clears set-id bits and capabilities.
        self.apply_xattrs(file.as_fd(), path, &entry.xattrs)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode & 0o7777))
            .map_err(|error| self.failed("change the mode of", path, error))?;
        rustix::fs::futimens(&file, &times(entry.mtime)).map_err(|error| self.failed("change the time of", path, error))
    }

    fn make_directory(&mut self, at: BorrowedFd<'_>, name: &OsStr, entry: &Entry) -> Result<()> {
        let path = &entry.path;
        let directory = match self.enter(at, name, path, 0o700)? {
            Some(directory) => directory,
            None => {
                // Something else is in the way, which this entry replaces.
                self.discard(at, name, path)?;
                self.enter(at, name, path, 0o700)?.ok_or_else(|| LayerError::Parent { path: path.clone() })?
            }
        };
        self.apply_owner(&directory, entry)?;
        self.apply_xattrs(directory.as_fd(), path, &entry.xattrs)?;
        self.directories.push((path.clone(), entry.mode & 0o7777, entry.mtime));
        Ok(())
    }

    fn apply_to_root(&mut self, entry: &Entry) -> Result<()> {
        let root = self.root.try_clone().context("open", &self.root_path)?;
        self.apply_owner(&root, entry)?;
        self.apply_xattrs(root.as_fd(), &entry.path, &entry.xattrs)?;
        self.directories.push((PathBuf::new(), entry.mode & 0o7777, entry.mtime));
        Ok(())
    }

    fn make_node(
        &mut self,
        at: BorrowedFd<'_>,
        name: &OsStr,
        entry: &Entry,
        kind: FileType,
        device: u64,
    ) -> Result<()> {
        let mode = Mode::from_raw_mode(0o600);
        let made = self.replacing(at, name, &entry.path, || rustix::fs::mknodat(at, name, kind, mode, device));
        match made {
            // A user namespace cannot have devices; other engines leave them out there, too.
            Err(LayerError::Store(StoreError::Io { source, .. }))
                if self.overlay == OverlayXattrs::User
                    && kind != FileType::Fifo
                    && source.kind() == io::ErrorKind::PermissionDenied =>
            {
                tracing::debug!(path = %entry.path.display(), "device left out");
                return Ok(());
            }
            other => other?,
        }
        self.apply_unopened(at, name, entry)
    }

    /// Owner, mode and time of what cannot be opened without side effects.
    fn apply_unopened(&self, at: BorrowedFd<'_>, name: &OsStr, entry: &Entry) -> Result<()> {
        let path = &entry.path;
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        rustix::fs::chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| self.failed("change the owner of", path, error))?;
        if !matches!(entry.kind, EntryKind::Symlink { .. }) {
            rustix::fs::chmodat(at, name, Mode::from_raw_mode(entry.mode & 0o7777), AtFlags::empty())
                .map_err(|error| self.failed("change the mode of", path, error))?;
        }
        rustix::fs::utimensat(at, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| self.failed("change the time of", path, error))
    }

    fn apply_owner(&self, file: impl AsFd, entry: &Entry) -> Result<()> {
        rustix::fs::fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
            .map_err(|error| self.failed("change the owner of", &entry.path, error))
    }

    fn apply_xattrs(&self, file: BorrowedFd<'_>, path: &Path, xattrs: &BTreeMap<OsString, Vec<u8>>) -> Result<()> {
        for (name, value) in xattrs {
            let bytes = name.as_bytes();
            // What the overlay would believe.
            if bytes.starts_with(b"trusted.overlay.") || bytes.starts_with(b"user.overlay.") {
                continue;
            }
            match rustix::fs::fsetxattr(file, name.as_os_str(), value, XattrFlags::empty()) {
                Ok(()) => {}
                // The file system has no such attributes, or the namespace no right to this kind.
                Err(Errno::NOTSUP) => {}
                Err(Errno::PERM) if !tree::is_kept(bytes) || self.overlay == OverlayXattrs::User => {}
                Err(error) => return Err(self.failed("set an attribute of", path, error)),
            }
        }
        Ok(())
    }

    /// A whiteout, unless this layer has something of its own there.
    fn remove(&mut self, path: &Path) -> Result<()> {
        let Some(name) = path.file_name() else { return Err(LayerError::Parent { path: path.to_owned() }) };
        let parent = self.open_parent(path)?;
        let at = parent.1.as_fd();
        match rustix::fs::mknodat(at, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Err(Errno::EXIST) => {
                if let Some(directory) = self.open_directory(at, name, path)? {
                    self.mark_opaque(&directory, path)?;
                }
            }
            other => other.map_err(|error| self.failed("create", path, error))?,
        }
        self.parent = Some(parent);
        Ok(())
    }

    fn make_opaque(&mut self, path: &Path) -> Result<()> {
        let directory = self.ensure_directory(path)?;
        self.mark_opaque(&directory, path)
    }

    fn mark_opaque(&self, directory: &OwnedFd, path: &Path) -> Result<()> {
        // Through the file descriptor's path: the handle may be one that only names the directory.
        let handle = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let name = format!("{}opaque", self.overlay.prefix());
        rustix::fs::setxattr(handle, name, b"y", XattrFlags::empty())
            .map_err(|error| self.failed("mark as opaque", path, error))
    }

    /// Makes something that must be new, taking away what is in its place.
    fn replacing<T>(
        &self,
        at: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<T> {
        loop {
            match make() {
                Err(Errno::EXIST) => self.discard(at, name, path)?,
                other => return other.map_err(|error| self.failed("create", path, error)),
            }
        }
    }

    fn discard(&self, at: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<()> {
        match rustix::fs::unlinkat(at, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => Ok(self.aside.discard_at(at, name, &self.root_path.join(path))?),
            Err(error) => Err(self.failed("replace", path, error)),
        }
    }

    /// The directory `name`, made if nothing or a whiteout is there; `None` if it is something else.
    fn enter(&self, at: BorrowedFd<'_>, name: &OsStr, path: &Path, mode: u32) -> Result<Option<OwnedFd>> {
        let make = || rustix::fs::mkdirat(at, name, Mode::from_raw_mode(mode));
        match make() {
            Err(Errno::EXIST) if self.is_whiteout(at, name) => {
                // Whatever the layers below have there is gone, so the directory starts empty.
                self.discard(at, name, path)?;
                make().map_err(|error| self.failed("create", path, error))?;
                let directory = self.open_directory(at, name, path)?;
                if let Some(directory) = &directory {
                    self.mark_opaque(directory, path)?;
                }
                Ok(directory)
            }
            Ok(()) | Err(Errno::EXIST) => self.open_directory(at, name, path),
            Err(error) => Err(self.failed("create", path, error)),
        }
    }

    /// The directory `name`, not through a symlink; `None` if it is something else.
    fn open_directory(&self, at: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<Option<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(at, name, flags, Mode::empty()) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(self.failed("open", path, error)),
        }
    }

    fn is_whiteout(&self, at: BorrowedFd<'_>, name: &OsStr) -> bool {
        rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0)
    }

    /// The directory that `path` is in, made if need be. The caller gives it back as `self.parent`.
    fn open_parent(&mut self, path: &Path) -> Result<(PathBuf, OwnedFd)> {
        let parent = path.parent().unwrap_or(Path::new(""));
        match self.parent.take() {
            Some(cached) if cached.0 == parent && cached.0.as_os_str().len() == parent.as_os_str().len() => Ok(cached),
            _ => Ok((parent.to_owned(), self.ensure_directory(parent)?)),
        }
    }

    /// The directory `path`, symlinks resolved inside the layer. What is missing is made, as root's, with mode 0755.
    fn ensure_directory(&self, path: &Path) -> Result<OwnedFd> {
        match self.resolve(path) {
            Ok(directory) => return Ok(directory),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => return Err(self.failed("open", path, error)),
        }
        let mut directory = self.root.try_clone().context("open", &self.root_path)?;
        let mut prefix = PathBuf::new();
        for name in path.iter() {
            prefix.push(name);
            directory = match self.resolve(&prefix) {
                Ok(next) => next,
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    let made = self.enter(directory.as_fd(), name, &prefix, 0o755)?;
                    let made = made.ok_or_else(|| LayerError::Parent { path: path.to_owned() })?;
                    rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))
                        .map_err(|error| self.failed("change the mode of", &prefix, error))?;
                    // No clock: the same tar gives the same tree.
                    rustix::fs::futimens(&made, &times(Timestamp::default()))
                        .map_err(|error| self.failed("change the time of", &prefix, error))?;
                    made
                }
                Err(error) => return Err(self.failed("open", &prefix, error)),
            };
        }
        Ok(directory)
    }

    /// The directory `path`, if it exists.
    fn resolve(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                // Something was renamed somewhere while the kernel followed a `..`.
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }

    /// The directory of a hard link's target, which must be a file that this layer has.
    fn find_link_target(&self, path: &Path, target: &Path) -> Result<OwnedFd> {
        let bad = || LayerError::Link { path: path.to_owned(), target: target.to_owned() };
        let name = target.file_name().ok_or_else(bad)?;
        let parent = self.resolve(target.parent().unwrap_or(Path::new(""))).map_err(|_| bad())?;
        let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| bad())?;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_directory || path == target || self.is_whiteout(parent.as_fd(), name) {
            return Err(bad());
        }
        Ok(parent)
    }

    /// Gives directories the modes and times that they would have lost while they were filled.
    fn finish_directories(&mut self) -> Result<()> {
        self.parent = None;
        // Deepest first, and of several entries for one directory the last one last.
        let mut directories = std::mem::take(&mut self.directories);
        directories.sort_by_key(|(path, ..)| std::cmp::Reverse(path.components().count()));
        for (path, mode, mtime) in directories {
            let directory = match path.file_name() {
                None => Some(self.resolve(&path).map_err(|error| self.failed("open", &path, error))?),
                Some(name) => match self.resolve(path.parent().unwrap_or(Path::new(""))) {
                    Ok(parent) => self.open_directory(parent.as_fd(), name, &path).or_else(gone)?,
                    // Replaced by a later entry.
                    Err(_) => None,
                },
            };
            let Some(directory) = directory else { continue };
            rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode))
                .map_err(|error| self.failed("change the mode of", &path, error))?;
            rustix::fs::futimens(&directory, &times(mtime))
                .map_err(|error| self.failed("change the time of", &path, error))?;
        }
        Ok(())
    }

    fn failed(&self, action: &'static str, path: &Path, error: impl Into<io::Error>) -> LayerError {
        StoreError::io(action, self.root_path.join(path), error).into()
    }
}

/// A directory that a later entry removed needs no metadata.
fn gone(error: LayerError) -> Result<Option<OwnedFd>> {
    match error {
        LayerError::Store(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        other => Err(other),
    }
}

fn times(mtime: Timestamp) -> Timestamps {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}
