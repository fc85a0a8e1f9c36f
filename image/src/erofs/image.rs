//! What do the metadata say, without a kernel?
//!
//! Only what [`ErofsMetadata`](super::ErofsMetadata) writes is understood, which is little of EROFS. Nothing is trusted:
//! a damaged image is an error, never a panic or a walk without end.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::attributes;
use super::format::{
    BLOCK, DIRENT, EXTENDED, FIRST_NID, FLAT_INLINE, FLAT_PLAIN, INODE, LONGEST_PATH, MAGIC, S_IFBLK, S_IFCHR, S_IFDIR,
    S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, SLOT, SUPERBLOCK_LENGTH, TAR_OFFSET, XATTR_HEADER, decode_device,
};
use crate::layer::{EntryKind, Timestamp};

/// Metadata that are not what was written, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MalformedErofs {
    /// They say something that was never written.
    #[error("the metadata are damaged at byte {0} of the file")]
    Damaged(u64),
    /// Nobody knows what they say.
    #[error("the metadata cannot be read")]
    Read(#[source] io::Error),
}

/// Where metadata are. They may be long, so nobody asks for all of them at once.
pub trait ErofsBytes {
    /// How many there are.
    fn length(&self) -> u64;

    /// Fills `buffer` with those from `at` on, which are there.
    ///
    /// # Errors
    /// They cannot be read.
    fn read(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl ErofsBytes for Vec<u8> {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(at).ok().and_then(|at| self.get(at..)?.get(..buffer.len()));
        buffer.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// The metadata of one file.
#[derive(Debug)]
pub struct ErofsImage<B> {
    bytes: B,
    start: u64,
}

/// One file of an image.
#[derive(Clone, Debug)]
pub struct ErofsNode {
    /// Relative to the root; empty for the root itself.
    pub path: PathBuf,
    /// What it is. Hard links are files like others; see `inode`. A character device 0/0 is a whiteout.
    pub kind: EntryKind,
    /// Where the content of a file begins in the tar.
    pub content: u64,
    /// Whether a directory hides what lies below it in other layers.
    pub opaque: bool,
    /// Permission bits with set-id and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When the content changed last.
    pub mtime: Timestamp,
    /// Extended attributes by full name, without the overlay's.
    pub xattrs: BTreeMap<OsString, Vec<u8>>,
    /// The same for all names of one file.
    pub inode: u64,
    /// How many names the file has.
    pub links: u32,
}

type Result<T, E = MalformedErofs> = std::result::Result<T, E>;

impl<B: ErofsBytes> ErofsImage<B> {
    /// Looks at metadata: all bytes from their offset to the end of the file.
    ///
    /// # Errors
    /// The superblock is not one of ours, or does not describe these metadata.
    pub fn new(superblock: &[u8; SUPERBLOCK_LENGTH], bytes: B, offset: u64) -> Result<Self> {
        let bad = |at: usize| MalformedErofs::Damaged(super::SUPERBLOCK_OFFSET + at as u64);
        let number = |at: usize| u64::from(u32::from_le_bytes(array(&superblock[at..at + 4])));
        if number(0) != u64::from(MAGIC) || superblock[12] != 9 {
            return Err(bad(0));
        }
        if Some(number(36) * BLOCK) != offset.checked_add(bytes.length()) || (number(40) + 1) * BLOCK != offset {
            return Err(bad(36));
        }
        Ok(Self { bytes, start: offset })
    }

    /// Every file in canonical order, the root first: a directory before its entries, names of one directory by their
    /// bytes. In memory are the way to the last one, and a block of each directory on it.
    pub fn into_nodes(self) -> ErofsNodes<B> {
        // Each directory has its own entry, so no walk is longer than the number of entries that fit.
        let most = self.bytes.length() / DIRENT + 1;
        ErofsNodes { image: self, most, begun: false, open: Vec::new() }
    }

    fn node(&mut self, nid: u64, path: PathBuf) -> Result<ErofsNode> {
        let position = self.position(nid);
        let bad = || MalformedErofs::Damaged(position);
        let inode = self.inode(nid)?;
        let body = self.bytes(position.saturating_add(INODE), inode.body_room())?;
        let entries = body.get(XATTR_HEADER as usize..).unwrap_or_default();
        let (xattrs, opaque) = attributes::decode(entries).ok_or_else(bad)?;
        let kind = match inode.mode & S_IFMT {
            S_IFREG => EntryKind::File { size: inode.size },
            S_IFDIR => EntryKind::Directory,
            S_IFLNK if inode.size > LONGEST_PATH as u64 => return Err(bad()),
            S_IFLNK => {
                let target = self.content(nid, 0..inode.size)?;
                EntryKind::Symlink { target: OsString::from_vec(target).into() }
            }
            S_IFIFO => EntryKind::Fifo,
            kind @ (S_IFCHR | S_IFBLK) => {
                let (major, minor) = decode_device(inode.data);
                match kind {
                    S_IFCHR => EntryKind::CharDevice { major, minor },
                    _ => EntryKind::BlockDevice { major, minor },
                }
            }
            _ => return Err(bad()),
        };
        let start = u64::from(inode.data) * BLOCK;
        let has_content = matches!(kind, EntryKind::File { size } if size > 0);
        let in_tar = start >= TAR_OFFSET && start.checked_add(inode.size).is_some_and(|end| end <= self.start);
        if has_content && !in_tar {
            return Err(bad());
        }
        Ok(ErofsNode {
            path,
            kind,
            content: if has_content { start - TAR_OFFSET } else { 0 },
            opaque,
            mode: u32::from(inode.mode & 0o7777),
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            xattrs,
            inode: nid,
            links: inode.links,
        })
    }

    /// Some of what a directory or a symbolic link holds.
    fn content(&mut self, nid: u64, part: std::ops::Range<u64>) -> Result<Vec<u8>> {
        let inode = self.inode(nid)?;
        let at = match inode.layout {
            FLAT_INLINE => self.position(nid).saturating_add(INODE + inode.body_room()),
            FLAT_PLAIN if inode.size == 0 => return Ok(Vec::new()),
            FLAT_PLAIN => u64::from(inode.data) * BLOCK,
            _ => return Err(MalformedErofs::Damaged(self.position(nid))),
        };
        let end = part.end.min(inode.size);
        self.bytes(at.saturating_add(part.start), end.saturating_sub(part.start))
    }

    fn inode(&mut self, nid: u64) -> Result<Head> {
        let position = self.position(nid);
        let mut raw = [0; INODE as usize];
        self.fill(position, &mut raw)?;
        let short = |at: usize| u16::from_le_bytes(array(&raw[at..at + 2]));
        let word = |at: usize| u32::from_le_bytes(array(&raw[at..at + 4]));
        if short(0) & EXTENDED == 0 || short(0) >> 1 > FLAT_INLINE {
            return Err(MalformedErofs::Damaged(position));
        }
        Ok(Head {
            layout: short(0) >> 1,
            attributes: short(2),
            mode: short(4),
            size: u64::from_le_bytes(array(&raw[8..16])),
            data: word(16),
            uid: word(24),
            gid: word(28),
            mtime: Timestamp { seconds: i64::from_le_bytes(array(&raw[32..40])), nanoseconds: word(40) },
            links: word(44),
        })
    }

    fn position(&self, nid: u64) -> u64 {
        self.start.saturating_add(nid.saturating_sub(FIRST_NID).saturating_mul(SLOT))
    }

    /// Bytes by their place in the file. They are few.
    fn bytes(&mut self, at: u64, length: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| MalformedErofs::Damaged(at))?];
        self.fill(at, &mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, at: u64, buffer: &mut [u8]) -> Result<()> {
        let length = buffer.len() as u64;
        let inside = at
            .checked_sub(self.start)
            .filter(|at| at.checked_add(length).is_some_and(|end| end <= self.bytes.length()));
        let inside = inside.ok_or(MalformedErofs::Damaged(at))?;
        if buffer.is_empty() { Ok(()) } else { self.bytes.read(inside, buffer).map_err(MalformedErofs::Read) }
    }
}

/// Goes through the files of an image. Nothing follows an error.
#[derive(Debug)]
pub struct ErofsNodes<B> {
    image: ErofsImage<B>,
    /// How many may still come.
    most: u64,
    begun: bool,
    /// The directories that the next file may be in, the root first.
    open: Vec<Open>,
}

/// A directory, as far as its names were not seen yet.
#[derive(Debug)]
struct Open {
    path: PathBuf,
    nid: u64,
    size: u64,
    /// Where the next block begins.
    next: u64,
    block: Vec<u8>,
    /// Of the block: how many names there are, and how many were seen.
    count: usize,
    seen: usize,
}

impl Open {
    /// The next name and its inode, or nothing at the end of the block.
    fn next(&mut self) -> Option<Option<(u64, Vec<u8>)>> {
        if self.seen == self.count {
            return Some(None);
        }
        let here = self.entry(self.seen)?;
        let start = usize::from(u16::from_le_bytes(array(&here[8..10])));
        let end = match self.seen + 1 < self.count {
            true => usize::from(u16::from_le_bytes(array(&self.entry(self.seen + 1)?[8..10]))),
            // NULs fill a block.
            false => self.block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1),
        };
        let name = self.block.get(start..end).filter(|name| !name.is_empty())?;
        let found = (u64::from_le_bytes(array(&here[..8])), name.to_vec());
        self.seen += 1;
        Some(Some(found))
    }

    fn entry(&self, index: usize) -> Option<&[u8]> {
        self.block.get(index * DIRENT as usize..(index + 1) * DIRENT as usize)
    }

    /// Goes on with another block.
    fn turn(&mut self, block: Vec<u8>) -> Option<()> {
        let first = usize::from(u16::from_le_bytes(array(block.get(8..10)?)));
        self.count = first / DIRENT as usize;
        (self.seen, self.block) = (0, block);
        self.next += BLOCK;
        (self.count > 0 && first % DIRENT as usize == 0).then_some(())
    }
}

impl<B: ErofsBytes> ErofsNodes<B> {
    fn step(&mut self) -> Result<Option<ErofsNode>> {
        if !self.begun {
            self.begun = true;
            let root = self.image.node(FIRST_NID, PathBuf::new())?;
            return self.shown(root).map(Some);
        }
        while let Some(open) = self.open.last_mut() {
            let position = self.image.position(open.nid);
            let bad = || MalformedErofs::Damaged(position);
            match open.next().ok_or_else(bad)? {
                Some((_, name)) if name == b"." || name == b".." => {}
                Some((nid, name)) => {
                    let path = open.path.join(OsString::from_vec(name));
                    let node = self.image.node(nid, path)?;
                    return self.shown(node).map(Some);
                }
                None if open.next >= open.size => drop(self.open.pop()),
                None => {
                    let part = open.next..open.next + BLOCK;
                    let block = self.image.content(open.nid, part)?;
                    open.turn(block).ok_or_else(bad)?;
                }
            }
        }
        Ok(None)
    }

    fn shown(&mut self, node: ErofsNode) -> Result<ErofsNode> {
        let damaged = MalformedErofs::Damaged(self.image.position(node.inode));
        if node.path.as_os_str().len() > LONGEST_PATH || self.most == 0 {
            return Err(damaged);
        }
        self.most -= 1;
        if node.kind == EntryKind::Directory {
            let size = self.image.inode(node.inode)?.size;
            let (path, nid) = (node.path.clone(), node.inode);
            self.open.push(Open { path, nid, size, next: 0, block: Vec::new(), count: 0, seen: 0 });
        }
        Ok(node)
    }
}

impl<B: ErofsBytes> Iterator for ErofsNodes<B> {
    type Item = Result<ErofsNode>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.open.clear();
        }
        step.transpose()
    }
}

/// The fixed part of an inode.
struct Head {
    layout: u16,
    attributes: u16,
    mode: u16,
    size: u64,
    data: u32,
    uid: u32,
    gid: u32,
    mtime: Timestamp,
    links: u32,
}

impl Head {
    fn body_room(&self) -> u64 {
        match self.attributes {
            0 => 0,
            count => XATTR_HEADER + u64::from(count - 1) * 4,
        }
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the caller cut out as many bytes")
}
