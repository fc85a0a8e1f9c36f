//! What is in a layer's directory, and what is its digest?
//!
//! [`scan`] lists a directory in canonical order: a directory before its entries, names of one directory by their
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
//! Nothing is opened by a joined path: every name is looked up, without following symlinks, below the directory's own
//! handle. Directories of one depth are read in parallel, and the result does not depend on it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rbuild_core::{Digest, KeyHasher};
use rbuild_image::erofs::ErofsNode;
use rbuild_image::{EntryKind, Timestamp};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::{LayerError, Result};
use crate::error::{Context, StoreError};
use crate::store::OverlayXattrs;

/// Files of at least this size are hashed by several threads.
const BIG: u64 = 8 << 20;

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
    pub(crate) inode: Option<u64>,
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
            inode: (is_file && node.links > 1).then_some(node.inode),
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
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(root, path, flags, Mode::empty()).map(File::from)
}

/// Everything in `root`, in canonical order, the root directory first.
pub(crate) fn scan(root: &Path, overlay: OverlayXattrs) -> Result<Vec<Node>> {
    let handle = open_root(root)?;
    let failed = |path: &Path, error: Errno| LayerError::from(StoreError::io("read", root.join(path), error));
    let stat = rustix::fs::fstat(&handle).context("read", root)?;
    let first = node(handle.as_fd(), OsStr::new("."), PathBuf::new(), &stat, overlay)
        .map_err(|error| failed(Path::new(""), error))?;
    let mut nodes: Vec<Node> = vec![first.ok_or(()).expect("a directory is a node")];
    let mut level = vec![PathBuf::new()];
    while !level.is_empty() {
        let found: Vec<Vec<Node>> = level
            .par_iter()
            .map(|path| read_directory(handle.as_fd(), path, overlay).map_err(|error| failed(path, error)))
            .collect::<Result<_>>()?;
        level = found
            .iter()
            .flatten()
            .filter(|node| matches!(node.kind, NodeKind::Directory { .. }))
            .map(|node| node.path.clone())
            .collect();
        nodes.extend(found.into_iter().flatten());
    }
    nodes.par_sort_unstable_by(|left, right| canonical(&left.path, &right.path));
    if let Some(node) = nodes.iter().find(|node| node.xattrs.contains_key(OsStr::new(REDIRECT))) {
        return Err(LayerError::Redirect { path: node.path.clone() });
    }
    let is_reserved = |node: &&Node| node.path.file_name().is_some_and(|name| name.as_bytes().starts_with(b".wh."));
    if let Some(node) = nodes.iter().find(is_reserved) {
        return Err(LayerError::Whiteout { path: node.path.clone() });
    }
    Ok(nodes)
}

/// Hashes everything in `root`.
pub(crate) fn digest(root: &Path, overlay: OverlayXattrs) -> Result<Tree> {
    let nodes = scan(root, overlay)?;
    let handle = open_root(root)?;
    let mut first_names = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        if let Some(inode) = node.inode {
            first_names.entry(inode).or_insert(index);
        }
    }
    let first = |index: usize| nodes[index].inode.map_or(index, |inode| first_names[&inode]);
    let contents: Vec<Option<[u8; 32]>> = nodes
        .par_iter()
        .enumerate()
        .map(|(index, node)| match node.kind {
            NodeKind::File { size } if first(index) == index => hash_file(handle.as_fd(), &node.path, size)
                .map(Some)
                .map_err(|source| StoreError::Io { action: "read", path: root.join(&node.path), source }),
            _ => Ok(None),
        })
        .collect::<Result<_, _>>()?;
    let mut hasher = KeyHasher::new("tree/1");
    for (index, node) in nodes.iter().enumerate() {
        hash_node(&mut hasher, node, contents[first(index)].as_ref());
    }
    let disk_bytes = nodes.iter().enumerate().filter(|(index, _)| first(*index) == *index);
    let disk_bytes = disk_bytes.map(|(_, node)| node.disk_bytes).sum();
    Ok(Tree { identity: hasher.finish(), entries: nodes.len() as u64 - 1, disk_bytes })
}

/// A directory before its entries, names by their bytes.
pub(crate) fn canonical(left: &Path, right: &Path) -> Ordering {
    // As if `/` were smaller than every byte in a name.
    let key = |byte: &u8| if *byte == b'/' { 0 } else { u16::from(*byte) + 1 };
    let (left, right) = (left.as_os_str().as_bytes(), right.as_os_str().as_bytes());
    left.iter().map(key).cmp(right.iter().map(key))
}

fn read_directory(root: BorrowedFd<'_>, path: &Path, overlay: OverlayXattrs) -> rustix::io::Result<Vec<Node>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let name = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let directory = rustix::fs::openat(root, name, flags, Mode::empty())?;
    let mut nodes = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        nodes.extend(node(directory.as_fd(), name, path.join(name), &stat, overlay)?);
    }
    Ok(nodes)
}

/// What `name` in `directory` is; `None` for a socket.
fn node(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    path: PathBuf,
    stat: &Stat,
    overlay: OverlayXattrs,
) -> rustix::io::Result<Option<Node>> {
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
        path,
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Timestamp { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) },
        xattrs,
        disk_bytes: stat.st_blocks.cast_unsigned() * 512,
        content: None,
        inode: shared.then_some(stat.st_ino),
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

fn hash_file(root: BorrowedFd<'_>, path: &Path, size: u64) -> std::io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    if size > 0 {
        let mut file = open_file(root, path)?;
        let length = if size < BIG { usize::try_from(size + 1).unwrap_or(usize::MAX).min(128 << 10) } else { 4 << 20 };
        let mut buffer = vec![0; length];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) if size < BIG => hasher.update(&buffer[..count]),
                Ok(count) => hasher.update_rayon(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
        }
    }
    Ok(*hasher.finalize().as_bytes())
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
