//! What do the metadata say, without a kernel?
//!
//! Only what [`ErofsMetadata`](super::ErofsMetadata) writes is understood, which is little of EROFS. Nothing is trusted:
//! a damaged image is an error, never a panic or a walk without end.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::attributes;
use super::format::{
    BLOCK, DIRENT, EXTENDED, FIRST_NID, FLAT_INLINE, FLAT_PLAIN, INODE, LONGEST_PATH, MAGIC, S_IFBLK, S_IFCHR, S_IFDIR,
    S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, SLOT, SUPERBLOCK_LENGTH, TAR_OFFSET, XATTR_HEADER, decode_device,
};
use crate::layer::{EntryKind, Timestamp};

/// Metadata that are not what was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the metadata are damaged at byte {0} of the file")]
pub struct MalformedErofs(u64);

/// The metadata of one file.
#[derive(Debug)]
pub struct ErofsImage {
    bytes: Vec<u8>,
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

impl ErofsImage {
    /// Reads metadata: all bytes from their offset to the end of the file.
    ///
    /// # Errors
    /// The superblock is not one of ours, or does not describe these metadata.
    pub fn new(superblock: &[u8; SUPERBLOCK_LENGTH], bytes: Vec<u8>, offset: u64) -> Result<Self> {
        let bad = |at: usize| MalformedErofs(super::SUPERBLOCK_OFFSET + at as u64);
        let number = |at: usize| u64::from(u32::from_le_bytes(array(&superblock[at..at + 4])));
        if number(0) != u64::from(MAGIC) || superblock[12] != 9 {
            return Err(bad(0));
        }
        if number(36) * BLOCK != offset + bytes.len() as u64 || (number(40) + 1) * BLOCK != offset {
            return Err(bad(36));
        }
        Ok(Self { bytes, start: offset })
    }

    /// Every file in canonical order, the root first: a directory before its entries, names of one directory by their
    /// bytes.
    ///
    /// # Errors
    /// The metadata are damaged.
    pub fn nodes(&self) -> Result<Vec<ErofsNode>> {
        let root = self.node(FIRST_NID, PathBuf::new())?;
        // The names of a directory, the last one first.
        let mut waiting = vec![root];
        let mut nodes = Vec::new();
        // Each directory has its own entry, so no walk is longer than the number of entries that fit.
        let most = self.bytes.len() as u64 / DIRENT + 1;
        while let Some(node) = waiting.pop() {
            let too_deep = node.path.as_os_str().len() > LONGEST_PATH;
            if too_deep || (nodes.len() + waiting.len()) as u64 > most {
                return Err(MalformedErofs(self.position(node.inode)));
            }
            if node.kind == EntryKind::Directory {
                let mut children = self.children(&node)?;
                children.reverse();
                waiting.append(&mut children);
            }
            nodes.push(node);
        }
        Ok(nodes)
    }

    fn children(&self, directory: &ErofsNode) -> Result<Vec<ErofsNode>> {
        let content = self.content(directory.inode)?;
        let bad = || MalformedErofs(self.position(directory.inode));
        let mut children = Vec::new();
        for block in content.chunks(BLOCK as usize) {
            let first = usize::from(u16::from_le_bytes(array(block.get(8..10).ok_or_else(bad)?)));
            let count = first / DIRENT as usize;
            if count == 0 || first % DIRENT as usize != 0 {
                return Err(bad());
            }
            let entry =
                |index: usize| block.get(index * DIRENT as usize..(index + 1) * DIRENT as usize).ok_or_else(bad);
            for index in 0..count {
                let here = entry(index)?;
                let start = usize::from(u16::from_le_bytes(array(&here[8..10])));
                let end = match index + 1 < count {
                    true => usize::from(u16::from_le_bytes(array(&entry(index + 1)?[8..10]))),
                    // NULs fill a block.
                    false => block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1),
                };
                let name = block.get(start..end).filter(|name| !name.is_empty()).ok_or_else(bad)?;
                if name != b"." && name != b".." {
                    let path = directory.path.join(OsString::from_vec(name.to_vec()));
                    children.push(self.node(u64::from_le_bytes(array(&here[..8])), path)?);
                }
            }
        }
        Ok(children)
    }

    fn node(&self, nid: u64, path: PathBuf) -> Result<ErofsNode> {
        let bad = || MalformedErofs(self.position(nid));
        let inode = self.inode(nid)?;
        let body = self.bytes(self.position(nid) + INODE, inode.body_room())?;
        let entries = body.get(XATTR_HEADER as usize..).unwrap_or_default();
        let (xattrs, opaque) = attributes::decode(entries).ok_or_else(bad)?;
        let kind = match inode.mode & S_IFMT {
            S_IFREG => EntryKind::File { size: inode.size },
            S_IFDIR => EntryKind::Directory,
            S_IFLNK => EntryKind::Symlink { target: OsString::from_vec(self.content(nid)?.to_vec()).into() },
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

    /// What a directory or a symbolic link holds.
    fn content(&self, nid: u64) -> Result<&[u8]> {
        let inode = self.inode(nid)?;
        let at = match inode.layout {
            FLAT_INLINE => self.position(nid).saturating_add(INODE + inode.body_room()),
            FLAT_PLAIN if inode.size == 0 => return Ok(&[]),
            FLAT_PLAIN => u64::from(inode.data) * BLOCK,
            _ => return Err(MalformedErofs(self.position(nid))),
        };
        self.bytes(at, inode.size)
    }

    fn inode(&self, nid: u64) -> Result<Head> {
        let raw = self.bytes(self.position(nid), INODE)?;
        let short = |at: usize| u16::from_le_bytes(array(&raw[at..at + 2]));
        let word = |at: usize| u32::from_le_bytes(array(&raw[at..at + 4]));
        if short(0) & EXTENDED == 0 || short(0) >> 1 > FLAT_INLINE {
            return Err(MalformedErofs(self.position(nid)));
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

    /// Bytes by their place in the file.
    fn bytes(&self, at: u64, length: u64) -> Result<&[u8]> {
        let range = || {
            let start = usize::try_from(at.checked_sub(self.start)?).ok()?;
            self.bytes.get(start..start.checked_add(usize::try_from(length).ok()?)?)
        };
        range().ok_or(MalformedErofs(at))
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
