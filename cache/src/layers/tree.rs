//! What is in a layer's directory, and what is its digest?
//!
//! [`Nodes`] lists a directory in canonical order: a directory before its entries, names of one directory by their
//! bytes. [`digest`] adds the content. The tree digest is a [`KeyHasher`] under `tree/1` over all nodes in that order,
//! beginning with the root directory:
//!
//! | field | of |
//! |---|---|
//! | path, relative | all |
//! | kind | all: file, directory, opaque directory, symlink, character and block device, fifo, whiteout |
//! | mode (`0o7777`), uid, gid | all but whiteouts |
//! | extended attributes `security.capability` and `user.*` (not the overlay's own), by name | files, directories |
//! | size, blake3 of the content | files |
//! | target | symlinks |
//! | device number | devices |
//!
//! Not in it: times, inode numbers, link counts, other extended attributes. Sockets are in no layer, so not here.
//!
//! Neither holds more than what comes next (`walk`), and of files with several names what the other names need to know,
//! until the last of them has come. What comes next is read in parallel, and the result does not depend on it.

mod digest;
mod walk;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rbuild_core::{Digest, KeyHasher};
use rbuild_image::erofs::ErofsNode;
use rbuild_image::{EntryKind, Timestamp};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

pub(crate) use self::digest::digest;
use self::walk::{Place, Walk};
use super::{LayerError, Result};
use crate::error::{Context, StoreError};
use crate::store::OverlayXattrs;

/// One file of a layer's directory.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Relative to the layer's root; empty for the root itself.
    pub(crate) path: PathBuf,
    pub(crate) kind: NodeKind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    pub(crate) xattrs: BTreeMap<OsString, Vec<u8>>,
    pub(crate) disk_bytes: u64,
    /// Where the content of a file begins in the layer's tar, if the layer is a file.
    pub(crate) content: Option<u64>,
    /// For files with several names: what they have in common.
    pub(crate) inode: Option<Inode>,
}

/// A file that has several names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Inode {
    pub(crate) number: u64,
    /// How many names it has, wherever they are.
    pub(crate) names: u32,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum NodeKind {
    File { size: u64 },
    Directory { opaque: bool },
    Symlink { target: PathBuf },
    CharDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
    Fifo,
    Whiteout,
}

impl Node {
    /// A file of a layer that is a file, with the attributes that are to be kept.
    pub(crate) fn of_image(node: ErofsNode, keep: fn(&[u8]) -> bool) -> Self {
        let is_file = matches!(node.kind, EntryKind::File { .. });
        let (kind, size) = match node.kind {
            EntryKind::File { size } => (NodeKind::File { size }, size),
            EntryKind::Directory => (NodeKind::Directory { opaque: node.opaque }, 4096),
            EntryKind::Symlink { target } => (NodeKind::Symlink { target }, 0),
            EntryKind::CharDevice { major: 0, minor: 0 } => (NodeKind::Whiteout, 0),
            EntryKind::CharDevice { major, minor } => (NodeKind::CharDevice { major, minor }, 0),
            EntryKind::BlockDevice { major, minor } => (NodeKind::BlockDevice { major, minor }, 0),
            EntryKind::Fifo => (NodeKind::Fifo, 0),
            EntryKind::Hardlink { .. } => unreachable!("an image has inodes"),
        };
        let kept = |(name, _): &(OsString, Vec<u8>)| keep(name.as_bytes());
        Self {
            path: node.path,
            kind,
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            mtime: node.mtime,
            xattrs: node.xattrs.into_iter().filter(kept).collect(),
            disk_bytes: size.next_multiple_of(4096),
            content: is_file.then_some(node.content),
            inode: (is_file && node.links > 1).then_some(Inode { number: node.inode, names: node.links }),
        }
    }
}

/// A layer's directory in numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree {
    pub(crate) identity: Digest,
    /// Without the root directory.
    pub(crate) entries: u64,
    pub(crate) disk_bytes: u64,
}

/// Opens a layer's directory for [`open_file`] and friends.
pub(crate) fn open_root(path: &Path) -> Result<OwnedFd, StoreError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).context("open", path)
}

/// Opens a regular file of a layer for reading.
pub(crate) fn open_file(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<File> {
    // A sandbox is gone before its files are read, so a fifo in the file's place is a bug, not a race; still no reason
    // to hang.
    open_beneath(root, path, OFlags::NONBLOCK).map(File::from)
}

/// Opens what lies below a directory for reading. A symlink anywhere on the way, put there meanwhile, is an error.
fn open_beneath(directory: BorrowedFd<'_>, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | flags;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve)
}

/// Everything in a directory, in canonical order, the directory itself first. Nothing follows an error.
#[derive(Debug)]
pub(crate) struct Nodes {
    walk: Walk,
    overlay: OverlayXattrs,
    /// What was looked at already.
    found: std::vec::IntoIter<Node>,
}

impl Nodes {
    /// Of the directory `root`.
    pub(crate) fn new(root: &Path, overlay: OverlayXattrs) -> Result<Self> {
        Ok(Self { walk: Walk::new(root)?, overlay, found: Vec::new().into_iter() })
    }

    fn step(&mut self) -> Result<Option<Node>> {
        loop {
            if let Some(node) = self.found.next() {
                check(&node)?;
                return Ok(Some(node));
            }
            let places = self.walk.batch()?;
            if places.is_empty() {
                return Ok(None);
            }
            let overlay = self.overlay;
            let looked = side_by_side(&places, |place| look_at(place, overlay));
            let found = places.iter().zip(looked).map(|(place, looked)| match looked {
                Ok(node) => Ok(node),
                Err(error) => Err(self.walk.failed(&place.path(), error)),
            });
            self.found = found.filter_map(Result::transpose).collect::<Result<Vec<_>>>()?.into_iter();
        }
    }
}

impl Iterator for Nodes {
    type Item = Result<Node>;

    fn next(&mut self) -> Option<Result<Node>> {
        self.step().transpose()
    }
}

/// What the overlay says, or a name means, that a layer cannot express.
fn check(node: &Node) -> Result<()> {
    if node.xattrs.contains_key(OsStr::new(REDIRECT)) {
        return Err(LayerError::Redirect { path: node.path.clone() });
    }
    if node.path.file_name().is_some_and(|name| name.as_bytes().starts_with(b".wh.")) {
        return Err(LayerError::Whiteout { path: node.path.clone() });
    }
    Ok(())
}

/// Below this, threads cost more than they do.
const FEW: usize = 8;

fn side_by_side<T: Sync, U: Send>(items: &[T], each: impl Fn(&T) -> U + Send + Sync) -> Vec<U> {
    if items.len() < FEW { items.iter().map(each).collect() } else { items.par_iter().map(each).collect() }
}

/// A directory before its entries, names by their bytes.
pub(crate) fn canonical(left: &Path, right: &Path) -> Ordering {
    // As if `/` were smaller than every byte in a name.
    let key = |byte: &u8| if *byte == b'/' { 0 } else { u16::from(*byte) + 1 };
    let (left, right) = (left.as_os_str().as_bytes(), right.as_os_str().as_bytes());
    left.iter().map(key).cmp(right.iter().map(key))
}

/// What is at a place; `None` for a socket.
fn look_at(place: &Place, overlay: OverlayXattrs) -> rustix::io::Result<Option<Node>> {
    let (directory, name) = (place.directory(), place.name());
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let mut xattrs = BTreeMap::new();
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            xattrs = read_xattrs(directory, name, overlay)?.0;
            NodeKind::File { size: stat.st_size.cast_unsigned() }
        }
        FileType::Directory => {
            let (read, opaque) = read_xattrs(directory, name, overlay)?;
            xattrs = read;
            NodeKind::Directory { opaque }
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
            NodeKind::Symlink { target: PathBuf::from(OsString::from_vec(target.into_bytes())) }
        }
        FileType::CharacterDevice if (major, minor) == (0, 0) => NodeKind::Whiteout,
        FileType::CharacterDevice => NodeKind::CharDevice { major, minor },
        FileType::BlockDevice => NodeKind::BlockDevice { major, minor },
        FileType::Fifo => NodeKind::Fifo,
        FileType::Socket | FileType::Unknown => return Ok(None),
    };
    let shared = matches!(kind, NodeKind::File { .. }) && stat.st_nlink > 1;
    Ok(Some(Node {
        path: place.path(),
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Timestamp { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) },
        xattrs,
        disk_bytes: stat.st_blocks.cast_unsigned() * 512,
        content: None,
        // There are fewer on all file systems.
        inode: shared.then(|| Inode { number: stat.st_ino, names: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX) }),
    }))
}

/// Stands in a node's attributes for the overlay's records that a layer cannot express. Not a name the kernel accepts.
const REDIRECT: &str = "redirect";

/// The attributes that belong to a layer, and whether the overlay marked the directory as opaque.
fn read_xattrs(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    overlay: OverlayXattrs,
) -> rustix::io::Result<(BTreeMap<OsString, Vec<u8>>, bool)> {
    let mut xattrs = BTreeMap::new();
    // There is no `listxattrat` before Linux 6.13, and opening every file only for this would cost more.
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    path.push(name);
    let names = match read_growing(|buffer| rustix::fs::llistxattr(&path, buffer)) {
        Err(Errno::NOTSUP) => return Ok((xattrs, false)),
        other => other?,
    };
    let mut opaque = false;
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let text = OsStr::from_bytes(name);
        let value = || read_growing(|buffer| rustix::fs::lgetxattr(&path, text, buffer));
        match name.strip_prefix(overlay.prefix().as_bytes()) {
            Some(b"opaque") => opaque = value()? == b"y",
            Some(b"redirect" | b"metacopy") => {
                xattrs.insert(REDIRECT.into(), Vec::new());
            }
            Some(_) => {}
            None if is_kept(name) => {
                xattrs.insert(text.to_owned(), value()?);
            }
            None => {}
        }
    }
    Ok((xattrs, opaque))
}

/// Whether an extended attribute belongs to a layer.
pub(crate) fn is_kept(name: &[u8]) -> bool {
    name == b"security.capability" || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// Reads what is usually small or empty, with one system call then.
fn read_growing(mut read: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    loop {
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            // Attributes are at most 64 KiB.
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 8, 0),
            Err(error) => return Err(error),
        }
    }
}

/// Adds one file to a tree digest; `content` is the digest of a regular file's content.
pub(crate) fn hash_node(hasher: &mut KeyHasher, node: &Node, content: Option<&[u8; 32]>) {
    hasher.bytes(node.path.as_os_str().as_bytes());
    let device = |hasher: &mut KeyHasher, kind: &str, major: u32, minor: u32| {
        hasher.text(kind).number(major.into()).number(minor.into());
    };
    match &node.kind {
        NodeKind::Whiteout => {
            hasher.text("whiteout");
            return;
        }
        NodeKind::File { size } => {
            let content = content.expect("every file was hashed under its first name");
            hasher.text("file").number(*size).bytes(content);
        }
        NodeKind::Directory { opaque: false } => _ = hasher.text("directory"),
        NodeKind::Directory { opaque: true } => _ = hasher.text("opaque"),
        NodeKind::Symlink { target } => _ = hasher.text("symlink").bytes(target.as_os_str().as_bytes()),
        NodeKind::CharDevice { major, minor } => device(hasher, "char", *major, *minor),
        NodeKind::BlockDevice { major, minor } => device(hasher, "block", *major, *minor),
        NodeKind::Fifo => _ = hasher.text("fifo"),
    }
    hasher.number(node.mode.into()).number(node.uid.into()).number(node.gid.into());
    hasher.number(node.xattrs.len() as u64);
    for (name, value) in &node.xattrs {
        hasher.bytes(name.as_bytes()).bytes(value);
    }
}
