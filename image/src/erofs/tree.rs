//! Which files does a tar make, whatever the order of its entries?
//!
//! A later entry replaces an earlier one of the same path, except that a directory keeps its content. A parent that no
//! entry made is root's, with mode 0755. A whiteout beside an entry of the same path, before or after it, makes a
//! directory opaque and says nothing about anything else.
//!
//! Memory is what the names take and about 80 bytes for each, up to a limit. Where there is a file for them, names of
//! directories that are done with are not in memory.

mod directories;
mod inodes;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rbuild_core::MakeFile;

use self::directories::Directories;
use self::inodes::Inodes;
pub(super) use self::inodes::{Inode, Kind, Target};
use super::attributes;
use super::format::{BLOCK, LONGEST_PATH, TAR_OFFSET, encode_device};
use crate::layer::{Change, Entry, EntryKind, Timestamp};

/// What a tree may take before it is [`Undescribable::Large`]: more than a million files.
const MOST_MEMORY: usize = 96 << 20;
/// About what an inode and its name take besides the name, until everything is written.
const ONE: usize = 80;
/// Up to this no names are put aside.
const FEW: usize = 16 << 20;
/// The kernel's limit.
const LONGEST_NAME: usize = 255;

/// What a tar means that no file system of this form can show. It has to be unpacked, which may fail, too.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Undescribable {
    /// A path that goes through a file or a symbolic link.
    #[error("`{0}` lies below something that is not a directory")]
    Parent(String),
    /// A hard link to nothing, to a directory, or to itself.
    #[error("`{0}` is a hard link to something that is no earlier file")]
    Link(String),
    /// A name, path or link target that is longer than the kernel's.
    #[error("`{0}` is too long")]
    Long(String),
    /// An owner or device number beyond what inodes hold.
    #[error("`{0}` has a number that no inode can hold")]
    Number(String),
    /// An extended attribute that the kernel would not have let set, or one too many for a file on ext4.
    #[error("the extended attribute `{0}` is malformed or too long")]
    Attribute(String),
    /// Content that does not begin at a block.
    #[error("the content of `{0}` is not aligned")]
    Alignment(String),
    /// More than 2 TiB, or so many files or attributes that describing them takes too much memory.
    #[error("it is too large")]
    Large,
}

/// The files of a tar that is being read. Pure: it reads and writes nothing.
#[derive(Debug)]
pub struct ErofsTree {
    inodes: Inodes,
    /// The targets of symbolic links, one after the other.
    targets: Vec<u8>,
    pub(super) directories: Directories,
    pub(super) attributes: Vec<Arc<[u8]>>,
    known: HashMap<Arc<[u8]>, u32>,
    memory: usize,
}

/// The inode and the directory of a tree's root.
const ROOT: (u32, u32) = (0, 0);

type Result<T, E = Undescribable> = std::result::Result<T, E>;

impl Default for ErofsTree {
    fn default() -> Self {
        Self::new()
    }
}

impl ErofsTree {
    /// An empty root directory. All names are in memory.
    pub fn new() -> Self {
        Self::with_file(Box::new(|| Err(std::io::ErrorKind::Unsupported.into())))
    }

    /// An empty root directory. Many names are in the file that `make` makes when there are many.
    pub fn with_file(make: MakeFile) -> Self {
        let none: Arc<[u8]> = Arc::from([]);
        let mut tree = Self {
            inodes: Inodes::default(),
            targets: Vec::new(),
            directories: Directories::new(make),
            attributes: vec![none.clone()],
            known: HashMap::from([(none, 0)]),
            memory: ONE,
        };
        tree.inodes.push(Inode::implied(ROOT.1));
        tree
    }

    /// How many inodes there are, those included that no name leads to any more.
    pub(super) fn count(&self) -> usize {
        self.inodes.len()
    }

    pub(super) fn at(&self, inode: u32) -> Inode {
        self.inodes.at(inode)
    }

    pub(super) fn kind(&self, inode: u32) -> Kind {
        self.at(inode).kind
    }

    pub(super) fn target(&self, target: Target) -> &[u8] {
        &self.targets[target.at as usize..][..target.length as usize]
    }

    /// Adds a change; `content` is where a file's content begins in the tar.
    ///
    /// # Errors
    /// The tar cannot be described; the tree is of no use afterwards.
    pub fn apply(&mut self, change: &Change, content: u64) -> Result<()> {
        let path = bytes(change.path());
        if path.len() > LONGEST_PATH {
            return Err(Undescribable::Long(shown(path)));
        }
        match change {
            Change::Upsert(entry) => self.upsert(entry, path, content),
            Change::Remove(_) => self.remove(path),
            Change::Opaque(_) => {
                let directory = self.directory(path)?;
                self.directories.set_opaque(directory);
                Ok(())
            }
        }
    }

    /// About how many bytes it takes, when everything is known where it will be.
    pub fn memory(&self) -> usize {
        self.memory + self.inodes.common_bytes()
    }

    /// Mode, owner and group of the root directory.
    pub fn root(&self) -> (u32, u32, u32) {
        let root = self.at(ROOT.0);
        (root.mode.into(), root.uid, root.gid)
    }

    fn upsert(&mut self, entry: &Entry, path: &[u8], content: u64) -> Result<()> {
        if entry.kind == EntryKind::Directory {
            return self.upsert_directory(entry, path);
        }
        let Some((parent, name)) = split(path) else { return Err(Undescribable::Parent(shown(path))) };
        let made = match &entry.kind {
            EntryKind::Hardlink { target } => {
                // The target is looked at before its name can be taken away, and its parent made only after that: as
                // unpacking does it.
                let parent = self.directory(parent)?;
                let target = bytes(target);
                let inode = self.find(target)?.filter(|_| target != path);
                let inode = inode.ok_or_else(|| Undescribable::Link(shown(path)))?;
                return self.place(parent, name, inode);
            }
            EntryKind::File { size } => Kind::File { size: *size, block: self.block(path, *size, content)? },
            EntryKind::Symlink { target } => {
                let target = bytes(target);
                if target.len() > LONGEST_PATH || target.is_empty() {
                    return Err(Undescribable::Long(shown(path)));
                }
                self.account(target.len())?;
                // What is accounted for fits.
                let place = Target { at: self.targets.len() as u32, length: target.len() as u32 };
                self.targets.extend_from_slice(target);
                Kind::Symlink(place)
            }
            EntryKind::CharDevice { major: 0, minor: 0 } => Kind::Whiteout,
            EntryKind::CharDevice { major, minor } => Kind::CharDevice(device(path, *major, *minor)?),
            EntryKind::BlockDevice { major, minor } => Kind::BlockDevice(device(path, *major, *minor)?),
            EntryKind::Fifo => Kind::Fifo,
            EntryKind::Directory => unreachable!("done above"),
        };
        let inode = self.inode(entry, path, made)?;
        let parent = self.directory(parent)?;
        let inode = self.inodes.push(inode);
        self.place(parent, name, inode)
    }

    fn upsert_directory(&mut self, entry: &Entry, path: &[u8]) -> Result<()> {
        let inode = match split(path) {
            None => ROOT.0,
            Some((parent, name)) => {
                let parent = self.directory(parent)?;
                let known = self.child(parent, name)?;
                match known.map(|known| (known, self.kind(known))) {
                    Some((known, Kind::Directory(_))) => known,
                    Some((_, Kind::Whiteout)) => self.make_directory(parent, name, true)?,
                    _ => self.make_directory(parent, name, false)?,
                }
            }
        };
        let Kind::Directory(directory) = self.kind(inode) else {
            unreachable!("what was found or made is a directory")
        };
        let mut changed = self.inode(entry, path, Kind::Directory(directory))?;
        // Unpacking sets attributes, and takes none away.
        let before = self.at(inode).attributes;
        if before != changed.attributes && before != 0 {
            let (mut merged, _) = attributes::decode(&self.attributes[before as usize]).unwrap_or_default();
            let (new, _) = attributes::decode(&self.attributes[changed.attributes as usize]).unwrap_or_default();
            merged.extend(new);
            changed.attributes = self.intern(attributes::encode(&merged)?)?;
        }
        self.inodes.replace(inode, changed);
        Ok(())
    }

    /// A whiteout, unless this tree has something of its own there.
    fn remove(&mut self, path: &[u8]) -> Result<()> {
        let Some((parent, name)) = split(path) else { return Err(Undescribable::Parent(shown(path))) };
        let parent = self.directory(parent)?;
        match self.child(parent, name)? {
            None => {
                let (mode, attributes) = (0, 0);
                let (uid, gid, mtime) = (0, 0, Timestamp::default());
                let inode = self.inodes.push(Inode { kind: Kind::Whiteout, mode, uid, gid, mtime, attributes });
                self.place(parent, name, inode)
            }
            Some(known) => {
                if let Kind::Directory(directory) = self.kind(known) {
                    self.directories.set_opaque(directory);
                }
                Ok(())
            }
        }
    }

    /// The directory with this path, made if need be.
    fn directory(&mut self, path: &[u8]) -> Result<u32> {
        let mut directory = ROOT.1;
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            let known = self.child(directory, name)?;
            directory = match known.map(|known| self.kind(known)) {
                Some(Kind::Directory(known)) => known,
                Some(Kind::Whiteout) => self.made(directory, name, true)?,
                None => self.made(directory, name, false)?,
                Some(_) => return Err(Undescribable::Parent(shown(path))),
            };
        }
        Ok(directory)
    }

    fn made(&mut self, parent: u32, name: &[u8], opaque: bool) -> Result<u32> {
        self.make_directory(parent, name, opaque)?;
        // It was pushed last.
        Ok((self.directories.len() - 1) as u32)
    }

    /// A new directory in place of whatever is there.
    fn make_directory(&mut self, parent: u32, name: &[u8], opaque: bool) -> Result<u32> {
        self.account(directories::ONE)?;
        let inode = self.inodes.push(Inode::implied(self.directories.len() as u32));
        self.directories.push(opaque);
        self.place(parent, name, inode)?;
        Ok(inode)
    }

    /// The file with this path, if it is something that can have another name.
    fn find(&mut self, path: &[u8]) -> Result<Option<u32>> {
        let (mut inode, mut directory) = (ROOT.0, Some(ROOT.1));
        for name in path.split(|&byte| byte == b'/') {
            let Some(known) = directory else { return Ok(None) };
            let Some(found) = self.child(known, name)? else { return Ok(None) };
            inode = found;
            directory = match self.kind(inode) {
                Kind::Directory(directory) => Some(directory),
                _ => None,
            };
        }
        let linkable = !matches!(self.kind(inode), Kind::Directory(_) | Kind::Whiteout);
        Ok(linkable.then_some(inode))
    }

    /// What has this name in a directory.
    fn child(&mut self, directory: u32, name: &[u8]) -> Result<Option<u32>> {
        let back = self.directories.recall(directory);
        if back > 0 {
            self.account(back)?;
        }
        Ok(self.directories.find(directory, name))
    }

    fn place(&mut self, parent: u32, name: &[u8], inode: u32) -> Result<()> {
        if name.len() > LONGEST_NAME {
            return Err(Undescribable::Long(shown(name)));
        }
        if self.memory > FEW {
            self.memory -= self.directories.leave(parent);
        }
        let back = self.directories.insert(parent, name, inode);
        self.account(ONE + name.len() + back)
    }

    fn inode(&mut self, entry: &Entry, path: &[u8], kind: Kind) -> Result<Inode> {
        // The number that means "none" to the kernel.
        if entry.uid == u32::MAX || entry.gid == u32::MAX || entry.mtime.nanoseconds >= 1_000_000_000 {
            return Err(Undescribable::Number(shown(path)));
        }
        let attributes = match kind {
            // What is unpacked has attributes nowhere else.
            Kind::File { .. } | Kind::Directory(_) => self.intern(attributes::encode(&entry.xattrs)?)?,
            _ => 0,
        };
        let mode = (entry.mode & 0o7777) as u16;
        let mtime = entry.mtime.clamped();
        Ok(Inode { kind, mode, uid: entry.uid, gid: entry.gid, mtime, attributes })
    }

    fn intern(&mut self, body: Vec<u8>) -> Result<u32> {
        if let Some(known) = self.known.get(body.as_slice()) {
            return Ok(*known);
        }
        self.account(body.len() + 64)?;
        let body: Arc<[u8]> = body.into();
        let index = self.attributes.len() as u32;
        self.attributes.push(body.clone());
        self.known.insert(body, index);
        Ok(index)
    }

    fn block(&self, path: &[u8], size: u64, content: u64) -> Result<u32> {
        if size == 0 {
            return Ok(0);
        }
        let start = TAR_OFFSET.checked_add(content).ok_or(Undescribable::Large)?;
        if start % BLOCK != 0 {
            return Err(Undescribable::Alignment(shown(path)));
        }
        u32::try_from(start / BLOCK).map_err(|_| Undescribable::Large)
    }

    /// Every number of an inode or a directory fits 32 bits because of this.
    fn account(&mut self, bytes: usize) -> Result<()> {
        self.memory += bytes;
        if self.memory() > MOST_MEMORY { Err(Undescribable::Large) } else { Ok(()) }
    }
}

fn device(path: &[u8], major: u32, minor: u32) -> Result<u32> {
    encode_device(major, minor).ok_or_else(|| Undescribable::Number(shown(path)))
}

/// A path's parent and name; `None` for the root.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    match path.iter().rposition(|&byte| byte == b'/') {
        _ if path.is_empty() => None,
        Some(slash) => Some((&path[..slash], &path[slash + 1..])),
        None => Some((&[], path)),
    }
}

fn bytes(path: &Path) -> &[u8] {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes()
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests;
