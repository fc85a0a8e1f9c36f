//! How are a tar's entries applied to a directory, whatever they say?
//!
//! A hostile tar can make any mess inside the directory and none outside. A parent path is resolved by the kernel as if
//! the layer were a root file system (`RESOLVE_IN_ROOT`: symlinks of the layer are followed, as the tars of some tools
//! need it, but neither they nor `..` lead out); the last component is never followed.
//!
//! A later entry replaces an earlier one of the same path, except that a directory keeps its content. A whiteout
//! speaks about lower layers only: beside an entry of the same path, before or after it, it makes a directory opaque
//! and says nothing about anything else.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;

use rbuild_image::{Change, Entry, EntryKind, LayerReader, Timestamp};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, XattrFlags, makedev};
use rustix::io::Errno;

use super::attributes::{Attributes, Job, times};
use super::{LayerError, Result, tree};
use crate::aside::Aside;
use crate::error::{Context, StoreError};
use crate::store::OverlayXattrs;

const CHUNK: usize = 128 << 10;
/// Files up to this size are finished by another thread.
const SMALL: u64 = 128 << 10;

/// Applies changes to an empty directory. What has to happen in order, everything about names, happens here; the
/// content of small files is left to another thread.
pub(super) struct Unpacker {
    root: OwnedFd,
    attributes: Attributes,
    /// None once there is nothing more to come.
    finisher: Option<SyncSender<Job>>,
    aside: Aside,
    /// The parent of the last entry: the next one's is usually the same.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Modes and times wait until nothing changes below any more.
    directories: Vec<(PathBuf, u32, Timestamp)>,
    buffer: Vec<u8>,
    /// How many changes there were.
    pub(super) entries: u64,
    /// About how much room they take.
    pub(super) disk_bytes: u64,
}

impl Unpacker {
    /// For the directory of `attributes`, leaving small files to the other end of `finisher`.
    pub(super) fn new(attributes: Attributes, finisher: SyncSender<Job>, aside: Aside) -> Result<Self> {
        Ok(Self {
            root: tree::open_root(&attributes.root)?,
            attributes,
            finisher: Some(finisher),
            aside,
            parent: None,
            directories: Vec::new(),
            buffer: vec![0; CHUNK],
            entries: 0,
            disk_bytes: 0,
        })
    }

    /// Applies everything in the tar, up to its end.
    pub(super) fn unpack(&mut self, input: impl Read) -> Result<()> {
        let mut reader = LayerReader::new(input);
        while let Some((change, content)) = reader.next().map_err(LayerError::Tar)? {
            self.entries += 1;
            match change {
                Change::Upsert(entry) => self.upsert(entry, content)?,
                Change::Remove(path) => self.remove(&path)?,
                Change::Opaque(path) => self.make_opaque(&path)?,
            }
        }
        Ok(())
    }

    /// Says that no more files will come.
    pub(super) fn end_files(&mut self) {
        self.finisher = None;
    }

    fn upsert(&mut self, entry: Entry, content: &mut dyn Read) -> Result<()> {
        let path = entry.path.clone();
        let Some(name) = path.file_name() else { return self.apply_to_root(&entry) };
        self.disk_bytes += match entry.kind {
            EntryKind::File { size } => size.next_multiple_of(4096),
            EntryKind::Directory => 4096,
            _ => 0,
        };
        // The cached handle is taken out so that `self` stays usable; it is put back on success.
        let parent = self.open_parent(&path)?;
        let at = parent.1.as_fd();
        match &entry.kind {
            EntryKind::File { .. } => self.write_file(at, name, entry, content)?,
            EntryKind::Directory => self.make_directory(at, name, &entry)?,
            EntryKind::Symlink { target } => {
                self.replacing(at, name, &path, || rustix::fs::symlinkat(target, at, name))?;
                self.attributes.apply_unopened(at, name, &entry)?;
            }
            EntryKind::Hardlink { target } => {
                let from = self.find_link_target(&path, target)?;
                let from_name = target.file_name().expect("a link's target was found under its name");
                self.replacing(at, name, &path, || rustix::fs::linkat(&from, from_name, at, name, AtFlags::empty()))?;
            }
            EntryKind::CharDevice { major, minor } => {
                self.make_node(at, name, &entry, FileType::CharacterDevice, makedev(*major, *minor))?;
            }
            EntryKind::BlockDevice { major, minor } => {
                self.make_node(at, name, &entry, FileType::BlockDevice, makedev(*major, *minor))?;
            }
            EntryKind::Fifo => self.make_node(at, name, &entry, FileType::Fifo, 0)?,
        }
        self.parent = Some(parent);
        Ok(())
    }

    fn write_file(&mut self, at: BorrowedFd<'_>, name: &OsStr, entry: Entry, content: &mut dyn Read) -> Result<()> {
        let EntryKind::File { size } = entry.kind else { unreachable!("only called for files") };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = || rustix::fs::openat(at, name, flags, Mode::from_raw_mode(0o600));
        let file = File::from(self.replacing(at, name, &entry.path, make)?);
        let unread = |error| LayerError::Tar(rbuild_image::LayerError::Read(error));
        if size <= SMALL {
            let mut bytes = Vec::with_capacity(usize::try_from(size).expect("a small size"));
            content.read_to_end(&mut bytes).map_err(unread)?;
            // Nobody receives any more if finishing has failed; that error is reported by whoever joins the thread.
            let finisher = self.finisher.as_ref().expect("there are only files before the end");
            let stopped = |_| LayerError::Write(io::ErrorKind::BrokenPipe.into());
            return finisher.send(Job { file, bytes, entry }).map_err(stopped);
        }
        loop {
            let count = content.read(&mut self.buffer).map_err(unread)?;
            if count == 0 {
                return self.attributes.apply_to_file(&file, &entry);
            }
            let write = (&file).write_all(&self.buffer[..count]);
            write.map_err(|error| self.attributes.failed("write", &entry.path, error))?;
        }
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
        self.attributes.apply_owner(&directory, entry)?;
        self.attributes.apply_xattrs(directory.as_fd(), path, &entry.xattrs)?;
        self.directories.push((path.clone(), entry.mode & 0o7777, entry.mtime));
        Ok(())
    }

    fn apply_to_root(&mut self, entry: &Entry) -> Result<()> {
        let root = self.root.try_clone().context("open", &self.attributes.root)?;
        self.attributes.apply_owner(&root, entry)?;
        self.attributes.apply_xattrs(root.as_fd(), &entry.path, &entry.xattrs)?;
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
                if self.attributes.overlay == OverlayXattrs::User
                    && kind != FileType::Fifo
                    && source.kind() == io::ErrorKind::PermissionDenied =>
            {
                tracing::debug!(path = %entry.path.display(), "device left out");
                return Ok(());
            }
            other => other?,
        }
        self.attributes.apply_unopened(at, name, entry)
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
            other => other.map_err(|error| self.attributes.failed("create", path, error))?,
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
        let name = format!("{}opaque", self.attributes.overlay.prefix());
        rustix::fs::setxattr(handle, name, b"y", XattrFlags::empty())
            .map_err(|error| self.attributes.failed("mark as opaque", path, error))
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
                other => return other.map_err(|error| self.attributes.failed("create", path, error)),
            }
        }
    }

    fn discard(&self, at: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<()> {
        match rustix::fs::unlinkat(at, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => Ok(self.aside.discard_at(at, name, &self.attributes.root.join(path))?),
            Err(error) => Err(self.attributes.failed("replace", path, error)),
        }
    }

    /// The directory `name`, made if nothing or a whiteout is there; `None` if it is something else.
    fn enter(&self, at: BorrowedFd<'_>, name: &OsStr, path: &Path, mode: u32) -> Result<Option<OwnedFd>> {
        let make = || rustix::fs::mkdirat(at, name, Mode::from_raw_mode(mode));
        match make() {
            Err(Errno::EXIST) if self.is_whiteout(at, name) => {
                // Whatever the layers below have there is gone, so the directory starts empty.
                self.discard(at, name, path)?;
                make().map_err(|error| self.attributes.failed("create", path, error))?;
                let directory = self.open_directory(at, name, path)?;
                if let Some(directory) = &directory {
                    self.mark_opaque(directory, path)?;
                }
                Ok(directory)
            }
            Ok(()) | Err(Errno::EXIST) => self.open_directory(at, name, path),
            Err(error) => Err(self.attributes.failed("create", path, error)),
        }
    }

    /// The directory `name`, not through a symlink; `None` if it is something else.
    fn open_directory(&self, at: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<Option<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(at, name, flags, Mode::empty()) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(self.attributes.failed("open", path, error)),
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
    fn ensure_directory(&mut self, path: &Path) -> Result<OwnedFd> {
        match self.resolve(path) {
            Ok(directory) => return Ok(directory),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => return Err(self.attributes.failed("open", path, error)),
        }
        let mut directory = self.root.try_clone().context("open", &self.attributes.root)?;
        let mut prefix = PathBuf::new();
        for name in path.iter() {
            prefix.push(name);
            directory = match self.resolve(&prefix) {
                Ok(next) => next,
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    let made = self.enter(directory.as_fd(), name, &prefix, 0o755)?;
                    let made = made.ok_or_else(|| LayerError::Parent { path: path.to_owned() })?;
                    rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))
                        .map_err(|error| self.attributes.failed("change the mode of", &prefix, error))?;
                    // No clock: the same tar gives the same tree.
                    self.directories.push((prefix.clone(), 0o755, Timestamp::default()));
                    made
                }
                Err(error) => return Err(self.attributes.failed("open", &prefix, error)),
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
    pub(super) fn finish_directories(&mut self) -> Result<()> {
        self.parent = None;
        // Deepest first, and of several entries for one directory the last one last.
        let mut directories = std::mem::take(&mut self.directories);
        directories.sort_by_key(|(path, ..)| std::cmp::Reverse(path.components().count()));
        for (path, mode, mtime) in directories {
            let directory = match path.file_name() {
                None => Some(self.resolve(&path).map_err(|error| self.attributes.failed("open", &path, error))?),
                Some(name) => match self.resolve(path.parent().unwrap_or(Path::new(""))) {
                    Ok(parent) => self.open_directory(parent.as_fd(), name, &path).or_else(gone)?,
                    // Replaced by a later entry.
                    Err(_) => None,
                },
            };
            let Some(directory) = directory else { continue };
            rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode))
                .map_err(|error| self.attributes.failed("change the mode of", &path, error))?;
            rustix::fs::futimens(&directory, &times(mtime))
                .map_err(|error| self.attributes.failed("change the time of", &path, error))?;
        }
        Ok(())
    }
}

/// A directory that a later entry removed needs no metadata.
fn gone(error: LayerError) -> Result<Option<OwnedFd>> {
    match error {
        LayerError::Store(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        other => Err(other),
    }
}
