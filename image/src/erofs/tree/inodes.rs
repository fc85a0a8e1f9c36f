//! How are many inodes held in little memory?
//!
//! Each as the few numbers that are its own. Kind, mode, owner and attributes, of which most inodes have the same, are held
//! once.

use std::collections::HashMap;

use crate::layer::Timestamp;

/// An inode as it is asked for.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Inode {
    pub(in super::super) kind: Kind,
    pub(in super::super) mode: u16,
    pub(in super::super) uid: u32,
    pub(in super::super) gid: u32,
    pub(in super::super) mtime: Timestamp,
    /// Into the tree's attributes.
    pub(in super::super) attributes: u32,
}

#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Kind {
    File {
        size: u64,
        /// Of the whole file.
        block: u32,
    },
    /// Into the tree's directories.
    Directory(u32),
    Symlink(Target),
    CharDevice(u32),
    BlockDevice(u32),
    Fifo,
    Whiteout,
}

/// Where a link points: a part of the tree's targets.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Target {
    pub(super) at: u32,
    pub(in super::super) length: u32,
}

/// An inode as it is held.
#[derive(Clone, Copy, Debug)]
struct Packed {
    /// Of a file, or the length of a link's target.
    size: u64,
    seconds: i64,
    nanoseconds: u32,
    /// A block, a number or a place.
    data: u32,
    common: u32,
}

/// What many inodes have in common.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Common {
    tag: Tag,
    mode: u16,
    uid: u32,
    gid: u32,
    attributes: u32,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Tag {
    File,
    Directory,
    Symlink,
    CharDevice,
    BlockDevice,
    Fifo,
    Whiteout,
}

/// Inodes by their numbers.
#[derive(Debug, Default)]
pub(super) struct Inodes {
    packed: Vec<Packed>,
    commons: Vec<Common>,
    /// The numbers of those, and the last one: most are like it.
    numbers: HashMap<Common, u32>,
    last: u32,
}

impl Inodes {
    pub(super) fn len(&self) -> usize {
        self.packed.len()
    }

    /// What is had in common takes about so many bytes.
    pub(super) fn common_bytes(&self) -> usize {
        3 * size_of::<Common>() * self.commons.len()
    }

    pub(super) fn at(&self, inode: u32) -> Inode {
        let Packed { size, seconds, nanoseconds, data, common } = self.packed[inode as usize];
        let Common { tag, mode, uid, gid, attributes } = self.commons[common as usize];
        let kind = match tag {
            Tag::File => Kind::File { size, block: data },
            Tag::Directory => Kind::Directory(data),
            // At most 4095.
            Tag::Symlink => Kind::Symlink(Target { at: data, length: size as u32 }),
            Tag::CharDevice => Kind::CharDevice(data),
            Tag::BlockDevice => Kind::BlockDevice(data),
            Tag::Fifo => Kind::Fifo,
            Tag::Whiteout => Kind::Whiteout,
        };
        Inode { kind, mode, uid, gid, mtime: Timestamp { seconds, nanoseconds }, attributes }
    }

    /// Adds one and returns its number.
    pub(super) fn push(&mut self, inode: Inode) -> u32 {
        let packed = self.pack(inode);
        self.packed.push(packed);
        (self.packed.len() - 1) as u32
    }

    pub(super) fn replace(&mut self, number: u32, inode: Inode) {
        self.packed[number as usize] = self.pack(inode);
    }

    fn pack(&mut self, inode: Inode) -> Packed {
        let Inode { kind, mode, uid, gid, mtime, attributes } = inode;
        let (tag, size, data) = match kind {
            Kind::File { size, block } => (Tag::File, size, block),
            Kind::Directory(directory) => (Tag::Directory, 0, directory),
            Kind::Symlink(target) => (Tag::Symlink, target.length.into(), target.at),
            Kind::CharDevice(device) => (Tag::CharDevice, 0, device),
            Kind::BlockDevice(device) => (Tag::BlockDevice, 0, device),
            Kind::Fifo => (Tag::Fifo, 0, 0),
            Kind::Whiteout => (Tag::Whiteout, 0, 0),
        };
        let common = Common { tag, mode, uid, gid, attributes };
        if self.commons.get(self.last as usize) != Some(&common) {
            let commons = &mut self.commons;
            self.last = *self.numbers.entry(common).or_insert_with(|| {
                commons.push(common);
                (commons.len() - 1) as u32
            });
        }
        Packed { size, seconds: mtime.seconds, nanoseconds: mtime.nanoseconds, data, common: self.last }
    }
}

impl Inode {
    /// A directory that no entry made.
    pub(super) fn implied(directory: u32) -> Self {
        let (kind, mode) = (Kind::Directory(directory), 0o755);
        Self { kind, mode, uid: 0, gid: 0, mtime: Timestamp::default(), attributes: 0 }
    }
}
