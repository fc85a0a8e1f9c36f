//! Where does each inode go, and what are the bytes?
//!
//! The root's inode first, then directory by directory, breadth first, the inodes of all that is in one: listing a
//! directory and looking at its files reads a few blocks that follow each other. A directory of one block lies beside
//! its inode, others after all inodes.

use std::io::{self, Write};

use super::attributes::{self, OPAQUE};
use super::format::{
    BLOCK, DIRENT, EXTENDED, FIRST_NID, FLAT_INLINE, FLAT_PLAIN, INODE, MAGIC, METADATA_ALIGNMENT, S_IFBLK, S_IFCHR,
    S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, SLOT, SUPERBLOCK_LENGTH, XATTR_HEADER, entry_type, metadata_offset,
};
use super::tree::{ErofsTree, Inode, Kind, Undescribable};

/// How long metadata may be. They are read and compared before a layer is used, and in memory when its files are listed.
const LONGEST: u64 = 256 << 20;

/// Metadata ready to be written.
#[derive(Debug)]
pub struct ErofsMetadata {
    tree: ErofsTree,
    /// By inode; its number is 0 if nothing names it any more.
    places: Vec<Place>,
    /// Inodes in the order of their places.
    order: Vec<u32>,
    start: u64,
    /// Where the blocks begin that follow the inodes, and where everything ends, from the start of the metadata.
    data: u64,
    end: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    nid: u32,
    links: u32,
    /// Of a directory, or a symbolic link, beyond its inode: from the start of the metadata. 0 if it lies beside it.
    data: u32,
    /// Of a directory: how many bytes it has, that of `..`.
    size: u32,
    parent: u32,
}

impl ErofsTree {
    /// Decides where everything goes. `tar_length` is that of the whole tar.
    ///
    /// # Errors
    /// The file would be larger than the format allows, or its metadata than is reasonable.
    pub fn finish(self, tar_length: u64) -> Result<ErofsMetadata, Undescribable> {
        let start = metadata_offset(tar_length);
        let mut places = vec![Place::default(); self.count()];
        let mut order = vec![0];
        let mut end = 0;
        // In blocks, of what does not lie beside its inode.
        let mut outside: Vec<u32> = Vec::new();
        let mut next = 0;
        places[0] = Place { links: 2, ..Place::default() };
        self.put(0, &mut places, &mut end, &mut outside)?;
        while let Some(&inode) = order.get(next) {
            next += 1;
            let Kind::Directory(directory) = self.kind(inode) else { continue };
            for (_, child) in self.directories.children(directory).iter() {
                let is_directory = matches!(self.kind(child), Kind::Directory(_));
                let place = &mut places[child as usize];
                place.links += 1 + u32::from(is_directory);
                if place.nid == 0 {
                    place.parent = inode;
                    order.push(child);
                    self.put(child, &mut places, &mut end, &mut outside)?;
                }
                if is_directory {
                    places[inode as usize].links += 1;
                }
            }
        }
        let data = end.next_multiple_of(BLOCK);
        let mut at = data;
        for inode in outside {
            let place = &mut places[inode as usize];
            place.data = fit(at)?;
            at += self.length(inode, place).next_multiple_of(BLOCK);
        }
        let end = at.next_multiple_of(METADATA_ALIGNMENT);
        if end > LONGEST {
            return Err(Undescribable::Large);
        }
        fit((start + end) / BLOCK)?;
        Ok(ErofsMetadata { tree: self, places, order, start, data, end })
    }

    /// Gives an inode the next place.
    fn put(
        &self,
        inode: u32,
        places: &mut [Place],
        end: &mut u64,
        outside: &mut Vec<u32>,
    ) -> Result<(), Undescribable> {
        if let Kind::Directory(directory) = self.kind(inode) {
            let children = self.directories.children(directory);
            let names = Names::new(children.iter().map(|(name, _)| name));
            places[inode as usize].size = fit(directory_size(names))?;
        }
        let head = INODE + attributes::room(self.body_length(inode));
        let content = self.length(inode, &places[inode as usize]);
        if content > 0 && head + content <= BLOCK {
            if *end % BLOCK + head + content > BLOCK {
                *end = end.next_multiple_of(BLOCK);
            }
            places[inode as usize].nid = fit(FIRST_NID + *end / SLOT)?;
            *end += head + content;
        } else {
            if content > 0 {
                outside.push(inode);
            }
            places[inode as usize].nid = fit(FIRST_NID + *end / SLOT)?;
            *end += head;
        }
        *end = end.next_multiple_of(SLOT);
        // Also of attributes that many inodes have: each has its own copy.
        if *end > LONGEST { Err(Undescribable::Large) } else { Ok(()) }
    }

    /// How many bytes of content the metadata hold for an inode.
    fn length(&self, inode: u32, place: &Place) -> u64 {
        match self.kind(inode) {
            Kind::Directory(_) => place.size.into(),
            Kind::Symlink(target) => target.length.into(),
            _ => 0,
        }
    }

    fn body_length(&self, inode: u32) -> u64 {
        let inode = self.at(inode);
        let opaque = matches!(inode.kind, Kind::Directory(index) if self.directories.is_opaque(index));
        (self.attributes[inode.attributes as usize].len() + if opaque { OPAQUE.len() } else { 0 }) as u64
    }
}

impl ErofsMetadata {
    /// Where they belong in the file; everything between the tar and this is NUL.
    pub fn offset(&self) -> u64 {
        self.start
    }

    /// How long they are; the file ends with them.
    pub fn length(&self) -> u64 {
        self.end
    }

    /// How many inodes there are.
    pub fn inodes(&self) -> u64 {
        self.order.len() as u64
    }

    /// What belongs to [`SUPERBLOCK_OFFSET`](super::SUPERBLOCK_OFFSET). The overlay tells its layers apart by `uuid`.
    pub fn superblock(&self, uuid: [u8; 16]) -> [u8; SUPERBLOCK_LENGTH] {
        let mut block = [0; SUPERBLOCK_LENGTH];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC.to_le_bytes());
        put(12, &[9]);
        put(14, &(FIRST_NID as u16).to_le_bytes());
        put(16, &self.inodes().to_le_bytes());
        // These fit, or `finish` would have failed.
        put(36, &(((self.start + self.end) / BLOCK) as u32).to_le_bytes());
        put(40, &((self.start / BLOCK - 1) as u32).to_le_bytes());
        put(48, &uuid);
        block
    }

    /// Writes the metadata. Give it something that buffers.
    ///
    /// # Errors
    /// What writing returns.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut at = 0;
        let mut buffer = Vec::new();
        for (number, &inode) in self.order.iter().enumerate() {
            let place = &self.places[inode as usize];
            let start = (u64::from(place.nid) - FIRST_NID) * SLOT;
            buffer.resize((start - at) as usize, 0);
            self.push_inode(inode, number as u32 + 1, &mut buffer);
            if place.data == 0 {
                self.push_content(inode, &mut buffer);
            }
            out.write_all(&buffer)?;
            at += buffer.len() as u64;
            buffer.clear();
        }
        // Whole blocks from here on.
        buffer.resize((self.data - at) as usize, 0);
        out.write_all(&buffer)?;
        buffer.clear();
        at = self.data;
        for &inode in self.order.iter().filter(|inode| self.places[**inode as usize].data != 0) {
            self.push_content(inode, &mut buffer);
            buffer.resize(buffer.len().next_multiple_of(BLOCK as usize), 0);
            out.write_all(&buffer)?;
            at += buffer.len() as u64;
            buffer.clear();
        }
        buffer.resize((self.end - at) as usize, 0);
        out.write_all(&buffer)
    }

    fn push_inode(&self, index: u32, number: u32, out: &mut Vec<u8>) {
        let inode = self.tree.at(index);
        let place = &self.places[index as usize];
        let content = self.tree.length(index, place);
        let (size, data) = match inode.kind {
            Kind::File { size, block } => (size, block),
            Kind::CharDevice(device) | Kind::BlockDevice(device) => (0, device),
            Kind::Fifo | Kind::Whiteout => (0, 0),
            Kind::Directory(_) | Kind::Symlink(_) if place.data == 0 => (content, 0),
            Kind::Directory(_) | Kind::Symlink(_) => (content, ((self.start + u64::from(place.data)) / BLOCK) as u32),
        };
        let layout = if content > 0 && place.data == 0 { FLAT_INLINE } else { FLAT_PLAIN };
        let body = self.tree.body_length(index);
        let count = if body == 0 { 0 } else { body / 4 + 1 };
        out.extend_from_slice(&(EXTENDED | layout << 1).to_le_bytes());
        out.extend_from_slice(&(count as u16).to_le_bytes());
        out.extend_from_slice(&mode(&inode).to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&size.to_le_bytes());
        out.extend_from_slice(&data.to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&inode.uid.to_le_bytes());
        out.extend_from_slice(&inode.gid.to_le_bytes());
        out.extend_from_slice(&inode.mtime.seconds.to_le_bytes());
        out.extend_from_slice(&inode.mtime.nanoseconds.to_le_bytes());
        out.extend_from_slice(&place.links.to_le_bytes());
        out.extend_from_slice(&[0; 16]);
        if body > 0 {
            out.extend_from_slice(&[0; XATTR_HEADER as usize]);
            out.extend_from_slice(&self.tree.attributes[inode.attributes as usize]);
            if matches!(inode.kind, Kind::Directory(index) if self.tree.directories.is_opaque(index)) {
                out.extend_from_slice(OPAQUE);
            }
        }
    }

    fn push_content(&self, index: u32, out: &mut Vec<u8>) {
        match self.tree.kind(index) {
            Kind::Symlink(target) => out.extend_from_slice(self.tree.target(target)),
            Kind::Directory(directory) => {
                let children = self.tree.directories.children(directory);
                let own = |name: &[u8]| match name {
                    b"." => index,
                    _ => self.places[index as usize].parent,
                };
                let names = Names::new(children.iter().map(|(name, _)| name));
                let find = |name: &[u8]| children.find(name).unwrap_or_else(|| own(name));
                self.push_directory(names, &find, out);
            }
            _ => {}
        }
    }

    fn push_directory<'a>(
        &self,
        names: impl Iterator<Item = &'a [u8]>,
        find: &dyn Fn(&[u8]) -> u32,
        out: &mut Vec<u8>,
    ) {
        let mut block: Vec<&[u8]> = Vec::new();
        let mut used = 0;
        for name in names {
            let room = DIRENT as usize + name.len();
            if used + room > BLOCK as usize {
                self.push_block(&block, find, out);
                out.resize(out.len() + BLOCK as usize - used, 0);
                block.clear();
                used = 0;
            }
            block.push(name);
            used += room;
        }
        self.push_block(&block, find, out);
    }

    fn push_block(&self, names: &[&[u8]], find: &dyn Fn(&[u8]) -> u32, out: &mut Vec<u8>) {
        let mut at = DIRENT as usize * names.len();
        for name in names {
            let inode = find(name);
            out.extend_from_slice(&u64::from(self.places[inode as usize].nid).to_le_bytes());
            out.extend_from_slice(&(at as u16).to_le_bytes());
            out.extend_from_slice(&[entry_type(mode(&self.tree.at(inode))), 0]);
            at += name.len();
        }
        names.iter().for_each(|name| out.extend_from_slice(name));
    }
}

fn mode(inode: &Inode) -> u16 {
    let kind = match inode.kind {
        Kind::File { .. } => S_IFREG,
        Kind::Directory(_) => S_IFDIR,
        Kind::Symlink(_) => S_IFLNK,
        Kind::CharDevice(_) | Kind::Whiteout => S_IFCHR,
        Kind::BlockDevice(_) => S_IFBLK,
        Kind::Fifo => S_IFIFO,
    };
    // A link's own permissions mean nothing, and every file system says this.
    let bits = if kind == S_IFLNK { 0o777 } else { inode.mode };
    kind | bits
}

/// The names of a directory with `.` and `..`, by their bytes.
struct Names<'a, I: Iterator<Item = &'a [u8]>> {
    children: std::iter::Peekable<I>,
    own: &'static [&'static [u8]],
}

impl<'a, I: Iterator<Item = &'a [u8]>> Names<'a, I> {
    fn new(children: I) -> Self {
        Self { children: children.peekable(), own: &[b".", b".."] }
    }
}

impl<'a, I: Iterator<Item = &'a [u8]>> Iterator for Names<'a, I> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match (self.own.split_first(), self.children.peek()) {
            (Some((own, rest)), child) if child.is_none_or(|child| own < child) => {
                self.own = rest;
                Some(own)
            }
            _ => self.children.next(),
        }
    }
}

/// All blocks but the last are full, even if their end is empty.
fn directory_size<'a>(names: impl Iterator<Item = &'a [u8]>) -> u64 {
    let (mut whole, mut used) = (0, 0);
    for name in names {
        let room = DIRENT + name.len() as u64;
        if used + room > BLOCK {
            whole += BLOCK;
            used = 0;
        }
        used += room;
    }
    whole + used
}

fn fit(number: u64) -> Result<u32, Undescribable> {
    u32::try_from(number).map_err(|_| Undescribable::Large)
}
