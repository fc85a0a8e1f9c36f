//! How does one file, link or directory come into an image?
//!
//! Everything happens in directories that are open already, by names without slashes: no link is followed. Files that
//! are in the way are removed, directories never. The metadata of directories waits until their contents are complete
//! ([`Writer::finish`]), since every entry changes their times and a mode may forbid new ones.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::sync::{Mutex, PoisonError};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chownat, copy_file_range,
    fchmod, fchown, fsetxattr, futimens, linkat, mkdirat, mknodat, openat, symlinkat, unlinkat, utimensat,
};
use rustix::io::{Errno, read, write};

use super::super::root::node_at;
use super::super::{Attributes, InnerPath, Kind, Node, Root, Timestamp, Tree};
use super::CopyError;
use super::owner::Ids;

/// What a copy is given besides its content.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meta {
    pub(crate) ids: Ids,
    pub(crate) mode: u32,
    pub(crate) mtime: Timestamp,
}

impl Meta {
    /// What something has.
    pub(crate) fn of(node: &Node) -> Self {
        Self { ids: Ids { uid: node.uid, gid: node.gid }, mode: node.mode, mtime: node.mtime }
    }
}

/// What a directory still has to be given.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DirectoryMeta {
    pub(crate) ids: Option<Ids>,
    pub(crate) mode: Option<u32>,
    pub(crate) mtime: Option<Timestamp>,
}

impl From<Meta> for DirectoryMeta {
    fn from(meta: Meta) -> Self {
        Self { ids: Some(meta.ids), mode: Some(meta.mode), mtime: Some(meta.mtime) }
    }
}

/// An open directory of the image.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) directory: OwnedFd,
    pub(crate) path: InnerPath,
}

impl Place {
    fn failed(&self, name: &OsStr) -> impl FnOnce(Errno) -> CopyError {
        let path = self.path.join(name);
        |error| CopyError::Write { path, source: error.into() }
    }
}

/// Writes into one image.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    pub(crate) image: &'a Root,
    /// How directories are made that nobody copies.
    pub(crate) parents: Meta,
    pending: Mutex<Vec<(InnerPath, DirectoryMeta)>>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(image: &'a Root, parents: Meta) -> Self {
        Self { image, parents, pending: Mutex::default() }
    }

    /// What `finish` will give a directory.
    pub(crate) fn later(&self, path: InnerPath, meta: DirectoryMeta) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).push((path, meta));
    }

    /// Gives all directories what they wait for: times last, and the latest word counts.
    pub(crate) fn finish(self) -> Result<(), CopyError> {
        let mut pending = self.pending.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Deepest first: a mode may close a directory to us. Stable, so what was asked last comes last.
        pending.sort_by(|left, right| right.0.cmp(&left.0));
        for (path, meta) in pending {
            let failed = |source| CopyError::Write { path: path.clone(), source };
            let directory = match self.image.open_directory(&path) {
                Ok(directory) => directory,
                // An archive put something else there after all.
                Err(error) if is_gone(&error) => continue,
                Err(error) => return Err(failed(error)),
            };
            if let Some(ids) = meta.ids {
                give(directory.as_fd(), ids, || path.clone())?;
            }
            if let Some(mode) = meta.mode {
                fchmod(&directory, Mode::from_raw_mode(mode)).map_err(|error| failed(error.into()))?;
            }
            if let Some(mtime) = meta.mtime {
                futimens(&directory, &times(mtime)).map_err(|error| failed(error.into()))?;
            }
        }
        Ok(())
    }

    /// Opens a directory of the image, links in its path followed before; what is missing is made like `parents`.
    pub(crate) fn directory(&self, path: &InnerPath, parents: Meta) -> Result<Place, CopyError> {
        let failed = |source| CopyError::Write { path: path.clone(), source };
        match self.image.open_directory(path) {
            Ok(directory) => return Ok(Place { directory, path: path.clone() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOTDIR | Errno::LOOP)) => {
                return Err(CopyError::NotADirectory { path: path.clone() });
            }
            Err(error) => return Err(failed(error)),
        }
        let root = self.image.open_directory(&InnerPath::root()).map_err(failed)?;
        let mut place = Place { directory: root, path: InnerPath::root() };
        for name in path.names() {
            let (next, made) = self.subdirectory(&place, name)?;
            if made {
                self.later(next.path.clone(), parents.into());
            }
            place = next;
        }
        Ok(place)
    }

    /// Makes a directory, or opens the one that is there; says whether it was made.
    pub(crate) fn subdirectory(&self, place: &Place, name: &OsStr) -> Result<(Place, bool), CopyError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = place.path.join(name);
        let made = match mkdirat(&place.directory, name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(place.failed(name)(error)),
        };
        match openat(&place.directory, name, flags, Mode::empty()) {
            Ok(directory) => Ok((Place { directory, path }, made)),
            Err(Errno::NOTDIR | Errno::LOOP) => Err(CopyError::NotADirectory { path }),
            Err(error) => Err(place.failed(name)(error)),
        }
    }

    /// Writes a file; `content` fills it.
    pub(crate) fn file(
        &self,
        place: &Place,
        name: &OsStr,
        meta: Meta,
        attributes: &Attributes,
        content: impl FnOnce(BorrowedFd<'_>) -> Result<(), CopyError>,
    ) -> Result<(), CopyError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.create(place, name, || openat(&place.directory, name, flags, Mode::RUSR | Mode::WUSR))?;
        content(file.as_fd())?;
        give(file.as_fd(), meta.ids, || place.path.join(name))?;
        // After the owner: giving a file away takes its set-id bits and capabilities.
        fchmod(&file, Mode::from_raw_mode(meta.mode)).map_err(place.failed(name))?;
        set_attributes(file.as_fd(), attributes);
        futimens(&file, &times(meta.mtime)).map_err(place.failed(name))
    }

    /// Makes a symbolic link.
    pub(crate) fn symlink(&self, place: &Place, name: &OsStr, target: &OsStr, meta: Meta) -> Result<(), CopyError> {
        self.create(place, name, || symlinkat(target, &place.directory, name))?;
        self.finish_name(place, name, meta)
    }

    /// Makes a device or fifo.
    pub(crate) fn special(
        &self,
        place: &Place,
        name: &OsStr,
        kind: Kind,
        device: u64,
        meta: Meta,
    ) -> Result<(), CopyError> {
        let file_type = match kind {
            Kind::CharacterDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let make = || mknodat(&place.directory, name, file_type, Mode::RUSR | Mode::WUSR, device);
        self.create(place, name, make).map_err(|error| match error {
            CopyError::Write { path, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                CopyError::Device { path, source }
            }
            other => other,
        })?;
        self.finish_name(place, name, meta)?;
        self.set_mode(place, name, meta.mode)
    }

    /// Makes another name for a file of the image.
    pub(crate) fn hard_link(&self, place: &Place, name: &OsStr, target: &InnerPath) -> Result<(), CopyError> {
        let failed = |source| CopyError::Write { path: place.path.join(name), source };
        if place.path.join(name) == *target {
            return Ok(());
        }
        let directory = self.image.open_directory(&target.parent().unwrap_or_default()).map_err(failed)?;
        self.create(place, name, || linkat(&directory, target.name(), &place.directory, name, AtFlags::empty()))
    }

    /// Gives an entry that is there another owner, mode and time.
    pub(crate) fn change(&self, place: &Place, name: &OsStr, meta: Meta) -> Result<(), CopyError> {
        self.finish_name(place, name, meta)?;
        self.set_mode(place, name, meta.mode)
    }

    /// Never through a link: its target may be anywhere.
    fn set_mode(&self, place: &Place, name: &OsStr, mode: u32) -> Result<(), CopyError> {
        let there = node_at(place.directory.as_fd(), name)
            .map_err(|source| CopyError::Write { path: place.path.join(name), source })?;
        if there.is_none_or(|node| node.kind == Kind::Symlink) {
            return Ok(());
        }
        rustix::fs::chmodat(&place.directory, name, Mode::from_raw_mode(mode), AtFlags::empty())
            .map_err(place.failed(name))
    }

    fn finish_name(&self, place: &Place, name: &OsStr, meta: Meta) -> Result<(), CopyError> {
        let Ids { uid, gid } = meta.ids;
        let (user, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        chownat(&place.directory, name, user, group, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| not_given(error, meta.ids, place.path.join(name)))?;
        utimensat(&place.directory, name, &times(meta.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(place.failed(name))
    }

    /// Tries to make something; if something else is in the way, removes that and tries once more.
    fn create<T>(&self, place: &Place, name: &OsStr, make: impl Fn() -> rustix::io::Result<T>) -> Result<T, CopyError> {
        match make() {
            Err(Errno::EXIST) => {}
            result => return result.map_err(place.failed(name)),
        }
        match unlinkat(&place.directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => make().map_err(place.failed(name)),
            Err(Errno::ISDIR) => Err(CopyError::FileOverDirectory { path: place.path.join(name) }),
            // POSIX has EPERM for directories, and some file systems do.
            Err(Errno::PERM) if is_directory(place, name) => {
                Err(CopyError::FileOverDirectory { path: place.path.join(name) })
            }
            Err(error) => Err(place.failed(name)(error)),
        }
    }

    /// Removes whatever is at a name, with all that is in it.
    pub(crate) fn remove(&self, place: &Place, name: &OsStr) -> Result<(), CopyError> {
        match unlinkat(&place.directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(place.failed(name)(error)),
        }
        // Files first, then the directories, deepest first; without recursion, whatever an image contains.
        let mut directories = vec![place.path.join(name)];
        let mut at = 0;
        while let Some(path) = directories.get(at).cloned() {
            at += 1;
            let failed = |source| CopyError::Write { path: path.clone(), source };
            let entries = self.image.list(&path).map_err(failed)?;
            let directory = self.image.open_directory(&path).map_err(failed)?;
            for (name, node) in entries {
                if node.is_directory() {
                    directories.push(path.join(&name));
                } else {
                    unlinkat(&directory, &name, AtFlags::empty()).map_err(|error| failed(error.into()))?;
                }
            }
        }
        for path in directories.into_iter().rev() {
            let failed = |source| CopyError::Write { path: path.clone(), source };
            let parent = self.image.open_directory(&path.parent().unwrap_or_default()).map_err(failed)?;
            unlinkat(&parent, path.name(), AtFlags::REMOVEDIR).map_err(|error| failed(error.into()))?;
        }
        Ok(())
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

fn is_directory(place: &Place, name: &OsStr) -> bool {
    node_at(place.directory.as_fd(), name).ok().flatten().is_some_and(|node: Node| node.is_directory())
}

fn give(file: BorrowedFd<'_>, ids: Ids, path: impl FnOnce() -> InnerPath) -> Result<(), CopyError> {
    let (user, group) = (Some(Uid::from_raw(ids.uid)), Some(Gid::from_raw(ids.gid)));
    fchown(file, user, group).map_err(|error| not_given(error, ids, path()))
}

fn not_given(error: Errno, Ids { uid, gid }: Ids, path: InnerPath) -> CopyError {
    if matches!(error, Errno::PERM | Errno::INVAL | Errno::OVERFLOW) {
        CopyError::Chown { path, uid, gid, source: error.into() }
    } else {
        CopyError::Write { path, source: error.into() }
    }
}

/// As far as the file system and our rights allow.
pub(crate) fn set_attributes(file: BorrowedFd<'_>, attributes: &Attributes) {
    for (name, value) in attributes.iter() {
        let _not_supported = fsetxattr(file, &**name, value, XattrFlags::empty());
    }
}

fn times(mtime: Timestamp) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: i64::from(mtime.nanoseconds) },
    }
}

const SMALL: usize = 64 * 1024;
const LARGE: usize = 1024 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Which side of a transfer failed.
pub(crate) enum TransferError {
    Read(Errno),
    Write(Errno),
}

/// Copies a file's content of about `size` bytes to its end; returns how many there were. Large files are handed to
/// the kernel, which can share their blocks.
pub(crate) fn transfer(from: BorrowedFd<'_>, to: BorrowedFd<'_>, size: u64) -> Result<u64, TransferError> {
    let mut total = if size >= LARGE as u64 { hand_over(from, to)? } else { 0 };
    BUFFER.with_borrow_mut(|buffer| {
        let length = if size >= LARGE as u64 { LARGE } else { SMALL };
        if buffer.len() < length {
            buffer.resize(length, 0);
        }
        loop {
            let length = match read(from, &mut buffer[..length]) {
                Ok(0) => return Ok(total),
                Ok(length) => length,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(TransferError::Read(error)),
            };
            write_all(to, &buffer[..length]).map_err(TransferError::Write)?;
            total += length as u64;
        }
    })
}

/// Has the kernel copy as much as it can, from where both files stand.
fn hand_over(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<u64, TransferError> {
    let mut total = 0;
    loop {
        match copy_file_range(from, None, to, None, 1 << 30) {
            Ok(0) => return Ok(total),
            Ok(length) => total += length as u64,
            Err(Errno::INTR) => {}
            Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => return Err(TransferError::Write(error)),
            // Other file systems, other kernels: the rest is done by hand.
            Err(_) => return Ok(total),
        }
    }
}

pub(crate) fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match write(to, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
