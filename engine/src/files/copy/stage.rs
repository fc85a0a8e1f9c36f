//! What will an image be like after a copy that has not happened yet?
//!
//! A [`Stage`] holds what is new over a view of the layers below, as an overlay's upper directory would, but in memory
//! and without any content: files say where theirs is. Paths, owners and conflicts are decided on it with the code that
//! looks into any [`Tree`]. When all is decided, `carry` makes changes of it.
//!
//! ```text
//!              slot: item            the new file
//!              slot: source          what a directory of the source has under this name, which is no directory
//! directory ── slot: removed         what is below does not show: a whiteout
//!              no slot, merged       what is below shows
//!              no slot, not merged   nothing
//!              mirror                what a directory of the source contains (`mirror`)
//! ```
//!
//! - A directory of the layers below that something happens in is *copied up*: it gets an item with the metadata that it
//!   has below. So do those above it.
//! - A directory in the place of something that was removed is opaque.
//! - An item is what an inode is: several names may have the same.

mod edit;
mod mirror;
mod up;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rbuild_core::{Names, NamesIter};
use rustix::fd::AsFd;

pub(super) use self::edit::Archived;
pub(super) use self::mirror::Mirror;
use super::super::root::node_of;
use super::super::tree::{SourceTree, Tree, resolve_source};
use super::super::{Attributes, InnerPath, Kind, Node, Root, Timestamp};
use super::CopyError;
use super::transfer::Rules;
use super::write::{DirectoryMeta, Meta};

/// An image with changes that are only planned.
#[derive(Default)]
pub struct Stage<'a> {
    pub(super) below: Option<&'a Root>,
    pub(super) items: Vec<Item>,
    pending: Vec<(InnerPath, DirectoryMeta)>,
    /// When what happens now happens.
    now: Timestamp,
    pub(super) trees: Vec<&'a dyn SourceTree>,
    /// How whole directories are copied.
    rules: Vec<Rules>,
    /// How many actions are planned to their end.
    finished: u32,
    /// Directories that files come from.
    pub(super) directories: Vec<Mirror>,
    /// Plain archives, and the one that holds what compressed ones contain.
    pub(super) archives: Vec<Archive>,
    /// Archives that were not what the scan saw when they were planned.
    pub(super) changed: Vec<InnerPath>,
    /// The archive whose content is asked for by its place.
    current: Option<u32>,
    spool: Option<Spool>,
    scratch: Option<PathBuf>,
    /// The directory that something was put into last.
    last: Option<(InnerPath, u32)>,
}

/// A file that contents lie in.
#[derive(Debug)]
pub(crate) struct Archive {
    pub(super) file: File,
    /// What it is in its tree, and was when it was opened; nothing if nobody else can write it.
    pub(super) source: Option<(InnerPath, Node)>,
}

impl Archive {
    /// Whether it was written to since it was opened.
    pub(super) fn has_changed(&self) -> Result<bool, CopyError> {
        let Some((path, before)) = &self.source else { return Ok(false) };
        let now = node_of(self.file.as_fd()).map_err(|source| CopyError::Read { path: path.clone(), source })?;
        Ok(!now.same_version(before))
    }

    /// Reads exactly this part of it.
    pub(super) fn part(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// What to call it if `member` cannot be read from it.
    pub(super) fn name(&self, member: &OsStr) -> InnerPath {
        self.source.as_ref().map_or_else(|| InnerPath::new(member), |(path, _)| path.clone())
    }
}

#[derive(Debug)]
struct Spool {
    archive: u32,
    length: u64,
}

/// A file of any kind that will be.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) meta: Meta,
    pub(super) attributes: Option<Box<Attributes>>,
    pub(super) names: u32,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Directory(Box<Directory>),
    File { size: u64, content: Content },
    Symlink(Box<OsStr>),
    Special(Kind, u64),
}

#[derive(Debug, Default)]
pub(super) struct Directory {
    entries: Names<Slot>,
    /// Whether the directory of the layers below shows where there is no slot.
    merged: bool,
    pub(super) opaque: bool,
    /// There are no entries then, and nothing is merged.
    pub(super) mirror: Option<Box<Mirror>>,
}

impl Directory {
    pub(super) fn iter(&self) -> NamesIter<'_, Slot> {
        self.entries.iter()
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Slot {
    Item(u32),
    /// Into the stage's directories: the file that it has under the same name, in a tree that holds everything. It is made
    /// an item when the plan is carried out, or when something happens to it.
    Source(u32),
    Removed,
}

/// A content that is at hand.
#[derive(Debug)]
pub(crate) struct Inline(pub(super) Vec<u8>);

/// Where a file's content is until it is copied.
#[derive(Debug)]
pub(crate) enum Content {
    /// Here.
    Bytes(Box<Inline>),
    /// In a directory of a tree, under the name that it will have unless there is another.
    Tree { directory: u32, name: Option<Box<OsString>> },
    /// The same, by its number in a tree that holds everything.
    Numbered { directory: u32, number: u32 },
    /// At a path of a tree.
    Mirrored(Box<(u32, InnerPath)>),
    /// In an archive, from this byte on.
    Archive { archive: u32, offset: u64 },
    /// In the layers below.
    Below(Box<InnerPath>),
}

const ROOT: u32 = 0;

/// What a stage knows of a path.
enum Found {
    Item(u32),
    /// What the layers below have there, if anything.
    Below,
    /// What is in the source of a mirror.
    Mirrored(Box<(Mirror, Node)>),
    Absent,
}

impl std::fmt::Debug for Stage<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Stage").field("items", &self.items.len()).finish_non_exhaustive()
    }
}

impl<'a> Stage<'a> {
    /// Nothing is changed yet. `scratch` is a directory for what cannot be read twice; without one it is temporary.
    ///
    /// # Errors
    /// The root of what lies below cannot be read.
    pub fn new(below: Option<&'a Root>, scratch: Option<PathBuf>) -> io::Result<Self> {
        let root = below.map(|below| below.node(&InnerPath::root())).transpose()?.flatten();
        let meta = root.map_or(Meta { mode: 0o755, ..Meta::default() }, |node| Meta::of(&node));
        let directory = Directory { merged: below.is_some(), ..Directory::default() };
        let what = What::Directory(Box::new(directory));
        let items = vec![Item { meta, attributes: None, names: 1, what }];
        Ok(Self { below, items, scratch, ..Self::default() })
    }

    pub(super) fn item(&self, id: u32) -> &Item {
        &self.items[id as usize]
    }

    /// The tree that a file of this name comes from and its path there, if it comes from one.
    pub(super) fn source(&self, content: &Content, name: &OsStr) -> Option<(u32, InnerPath)> {
        match content {
            Content::Tree { directory, name: renamed } => {
                let from = &self.directories[*directory as usize];
                Some(from.place(renamed.as_ref().map_or(name, |renamed| renamed)))
            }
            Content::Numbered { directory, number } => {
                let from = &self.directories[*directory as usize];
                Some(from.place(&self.tree_of(from).name(*number)))
            }
            Content::Mirrored(place) => Some((**place).clone()),
            _ => None,
        }
    }

    /// The root directory's item.
    pub(super) fn root(&self) -> &Item {
        self.item(ROOT)
    }

    fn directory_of(&self, id: u32) -> Option<&Directory> {
        match &self.item(id).what {
            What::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    fn find(&self, path: &InnerPath) -> Found {
        let mut id = ROOT;
        let mut names = path.names();
        while let Some(name) = names.next() {
            let Some(directory) = self.directory_of(id) else { return Found::Absent };
            if let Some(mirror) = &directory.mirror {
                return self.find_mirrored(mirror, std::iter::once(name).chain(names));
            }
            id = match directory.entries.find(name.as_bytes()) {
                Some(Slot::Item(id)) => id,
                Some(Slot::Source(from)) => {
                    return self.find_mirrored(&self.directories[from as usize], std::iter::once(name).chain(names));
                }
                Some(Slot::Removed) => return Found::Absent,
                None if directory.merged => return Found::Below,
                None => return Found::Absent,
            };
        }
        Found::Item(id)
    }

    /// What the layers below have at a path, whatever the stage has there.
    fn node_below(&self, path: &InnerPath) -> io::Result<Option<Node>> {
        self.below.map_or(Ok(None), |below| below.node(path))
    }

    fn node_of(&self, id: u32) -> Node {
        let Item { meta, names, what, .. } = self.item(id);
        let (kind, size, device, target) = match what {
            What::Directory(_) => (Kind::Directory, 0, 0, None),
            What::File { size, .. } => (Kind::File, *size, 0, None),
            What::Symlink(target) => (Kind::Symlink, target.len() as u64, 0, Some(target.clone())),
            What::Special(kind, device) => (*kind, 0, *device, None),
        };
        Node {
            kind,
            mode: meta.mode,
            uid: meta.ids.uid,
            gid: meta.ids.gid,
            size,
            mtime: meta.mtime,
            ctime: meta.mtime,
            dev: 0,
            ino: u64::from(id),
            links: u64::from(*names),
            device,
            target,
        }
    }

    /// The content of a small file, links followed; nothing if it does not exist.
    ///
    /// # Errors
    /// If it cannot be read, or is larger than `limit`.
    pub(super) fn read_small(&self, path: &InnerPath, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let found = resolve_source(self, path)?;
        let Some(node) = found.node else { return Ok(None) };
        match self.find(&found.path) {
            Found::Item(id) => match &self.item(id).what {
                What::File { size, .. } if *size > limit => Err(io::ErrorKind::FileTooLarge.into()),
                What::File { size, content } => {
                    super::carry::read_staged(self, content, found.path.name(), *size).map(Some)
                }
                _ if node.is_directory() => Err(io::ErrorKind::IsADirectory.into()),
                _ => Ok(None),
            },
            Found::Mirrored(mirrored) => match mirrored.1.kind {
                Kind::File => self.read_mirrored(&mirrored.0, limit),
                Kind::Directory => Err(io::ErrorKind::IsADirectory.into()),
                _ => Ok(None),
            },
            _ => self.below.map_or(Ok(None), |below| below.read_small(&found.path, limit)),
        }
    }
}

impl Tree for Stage<'_> {
    fn node(&self, path: &InnerPath) -> io::Result<Option<Node>> {
        match self.find(path) {
            Found::Item(id) => Ok(Some(self.node_of(id))),
            Found::Below => self.node_below(path),
            Found::Mirrored(mirrored) => Ok(Some(self.mirrored_node(&mirrored.0, &mirrored.1))),
            Found::Absent => Ok(None),
        }
    }

    fn list(&self, directory: &InnerPath) -> io::Result<Vec<(OsString, Node)>> {
        let below = |path| self.below.map_or_else(|| Ok(Vec::new()), |below: &Root| below.list(path));
        let id = match self.find(directory) {
            Found::Item(id) => id,
            Found::Below => return below(directory),
            Found::Mirrored(mirrored) if mirrored.1.is_directory() => return Ok(self.list_mirrored(&mirrored.0)),
            Found::Mirrored(_) => return Err(io::ErrorKind::NotADirectory.into()),
            Found::Absent => return Err(io::ErrorKind::NotFound.into()),
        };
        let Some(staged) = self.directory_of(id) else { return Err(io::ErrorKind::NotADirectory.into()) };
        if let Some(mirror) = &staged.mirror {
            return Ok(self.list_mirrored(mirror));
        }
        let mut entries = if staged.merged { below(directory)? } else { Vec::new() };
        entries.retain(|(name, _)| staged.entries.find(name.as_bytes()).is_none());
        for (name, slot) in staged.entries.iter() {
            let name = OsStr::from_bytes(name);
            let node = match slot {
                Slot::Item(id) => Some(self.node_of(id)),
                Slot::Source(from) => self.source_node(from, name),
                Slot::Removed => None,
            };
            entries.extend(node.map(|node| (name.to_owned(), node)));
        }
        entries.sort_unstable_by(|left, right| left.0.as_bytes().cmp(right.0.as_bytes()));
        Ok(entries)
    }

    fn node_without_links(&self, path: &InnerPath) -> Option<Node> {
        match self.find(path) {
            Found::Item(id) => Some(self.node_of(id)).filter(|node| node.kind != Kind::Symlink),
            Found::Below => self.below?.node_without_links(path),
            Found::Mirrored(mirrored) => {
                Some(self.mirrored_node(&mirrored.0, &mirrored.1)).filter(|node| node.kind != Kind::Symlink)
            }
            Found::Absent => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_million_files_take_no_more_than_forty_megabytes_and_their_names() {
        assert!(size_of::<Item>() + size_of::<(u32, Slot)>() <= 84, "{} {}", size_of::<Item>(), size_of::<Slot>());
    }
}
