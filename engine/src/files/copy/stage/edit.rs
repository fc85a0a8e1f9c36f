//! How are changes planned?
//!
//! What can be asked for is what [`Writer`](super::super::write::Writer) does to a directory at once, with the same
//! answers: files that are in the way are replaced, directories never; the metadata of directories waits until their
//! contents are complete ([`Stage::finish`]).

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;

use rustix::io::Errno;

use super::super::super::tree::SourceTree;
use super::super::super::{Attributes, InnerPath, Kind, Timestamp};
use super::super::CopyError;
use super::super::write::{DirectoryMeta, Meta};
use super::{Archive, Content, Directory, Found, Item, Slot, Spool, Stage, What};

impl<'a> Stage<'a> {
    /// What happens from here on happens at this time.
    pub(crate) fn at(&mut self, now: Timestamp) {
        self.now = now;
        if self.below.is_none() && self.items.len() == 1 {
            self.items[0].meta.mtime = now;
        }
    }

    /// A number for a tree that contents will come from.
    pub(crate) fn tree(&mut self, tree: &'a dyn SourceTree) -> u32 {
        self.trees.push(tree);
        number(self.trees.len())
    }

    /// The archive that contents come from now: `Some` if they are found in it by their places, `None` if they have to
    /// be kept elsewhere because it is compressed.
    pub(crate) fn archive(&mut self, plain: Option<Archive>) {
        self.current = plain.map(|archive| {
            self.archives.push(archive);
            number(self.archives.len())
        });
    }

    /// Where the content of an archive's entry will be found. `offset` is where that is now, if it is in one piece.
    pub(crate) fn archived(
        &mut self,
        offset: Option<u64>,
        content: &mut dyn io::Read,
        buffer: &mut [u8],
    ) -> Result<(Content, u64), Archived> {
        if let (Some(archive), Some(offset)) = (self.current, offset) {
            return Ok((Content::Archive { archive, offset }, 0));
        }
        let (archive, offset) = match &self.spool {
            Some(spool) => (spool.archive, spool.length),
            None => {
                let file = match &self.scratch {
                    Some(directory) => tempfile::tempfile_in(directory),
                    None => tempfile::tempfile(),
                };
                self.archives.push(Archive { file: file.map_err(Archived::Write)?, source: None });
                let archive = number(self.archives.len());
                self.spool = Some(Spool { archive, length: 0 });
                (archive, 0)
            }
        };
        let mut file = &self.archives[archive as usize].file;
        let mut length = 0;
        loop {
            match content.read(buffer) {
                Ok(0) => break,
                Ok(count) => {
                    io::Write::write_all(&mut file, &buffer[..count]).map_err(Archived::Write)?;
                    length += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Archived::Read(error)),
            }
        }
        self.spool = Some(Spool { archive, length: offset + length });
        Ok((Content::Archive { archive, offset }, length))
    }

    /// What `finish` will give a directory.
    pub(crate) fn later(&mut self, path: InnerPath, meta: DirectoryMeta) {
        self.pending.push((path, meta));
    }

    /// Gives all directories what they wait for: the latest word counts.
    pub(crate) fn finish(&mut self) -> Result<(), CopyError> {
        let mut pending = std::mem::take(&mut self.pending);
        loop {
            self.finish_with(pending)?;
            // On the way to them mirrors may have been unfolded.
            pending = std::mem::take(&mut self.pending);
            if pending.is_empty() {
                break;
            }
        }
        self.finished += 1;
        Ok(())
    }

    fn finish_with(&mut self, pending: Vec<(InnerPath, DirectoryMeta)>) -> Result<(), CopyError> {
        for (path, meta) in pending {
            // An archive put something else there after all.
            let Some(id) = self.way_to(&path)? else { continue };
            let target = &mut self.items[id as usize].meta;
            target.ids = meta.ids.unwrap_or(target.ids);
            target.mode = meta.mode.unwrap_or(target.mode);
            target.mtime = meta.mtime.unwrap_or(target.mtime);
        }
        Ok(())
    }

    /// Makes sure that there is a directory at a path, links in it followed before; what is missing is made like
    /// `parents`.
    pub(crate) fn directory(&mut self, path: &InnerPath, parents: Meta) -> Result<(), CopyError> {
        use super::Tree as _;
        let failed = |source| CopyError::Write { path: path.clone(), source };
        match self.node(path).map_err(failed)? {
            Some(node) if node.is_directory() => return Ok(()),
            Some(_) => return Err(CopyError::NotADirectory { path: path.clone() }),
            None => {}
        }
        let mut place = InnerPath::root();
        for name in path.names() {
            let (next, made) = self.subdirectory(&place, name).map_err(|error| match error {
                CopyError::NotADirectory { .. } => CopyError::NotADirectory { path: path.clone() },
                other => other,
            })?;
            if made {
                self.later(next.clone(), parents.into());
            }
            place = next;
        }
        Ok(())
    }

    /// Makes a directory, or finds the one that is there; says whether it was made.
    pub(crate) fn subdirectory(&mut self, place: &InnerPath, name: &OsStr) -> Result<(InnerPath, bool), CopyError> {
        let path = place.join(name);
        match self.entry(place, &path)? {
            Entry { there: Some(Kind::Directory), .. } => return Ok((path, false)),
            Entry { there: Some(_), .. } => return Err(CopyError::NotADirectory { path }),
            Entry { removed, .. } => {
                let directory = Directory { opaque: removed, ..Directory::default() };
                let meta = Meta { mode: 0o700, mtime: self.now, ..Meta::default() };
                self.put(place, name, item(meta, What::Directory(Box::new(directory))))?;
            }
        }
        Ok((path, true))
    }

    /// Attributes of a directory, beside those it has.
    pub(crate) fn set_attributes(&mut self, path: &InnerPath, attributes: &Attributes) -> Result<(), CopyError> {
        if attributes.is_empty() {
            return Ok(());
        }
        let Some(id) = self.up(path)? else { return Ok(()) };
        let item = &mut self.items[id as usize];
        let mut all = item.attributes.as_ref().map(|attributes| attributes.to_map()).unwrap_or_default();
        all.extend(attributes.to_map());
        item.attributes = Some(Box::new(Attributes::of_map(&all)));
        Ok(())
    }

    /// Plans a file.
    pub(crate) fn file(
        &mut self,
        place: &InnerPath,
        name: &OsStr,
        meta: Meta,
        attributes: Attributes,
        size: u64,
        content: Content,
    ) -> Result<(), CopyError> {
        let attributes = (!attributes.is_empty()).then(|| Box::new(attributes));
        self.create(place, name, Item { attributes, ..item(meta, What::File { size, content }) })
    }

    /// Plans a copy of what a directory of a tree has under the same name, which is no directory: `from` is its number. The
    /// tree must hold everything.
    pub(crate) fn source_file(&mut self, place: &InnerPath, name: &OsStr, from: u32) -> Result<(), CopyError> {
        self.check_no_directory(place, &place.join(name))?;
        self.occupy(place, name, Slot::Source(from))
    }

    /// Plans a file that will have other names, and returns its number for [`link`](Self::link).
    pub(crate) fn linked(
        &mut self,
        place: &InnerPath,
        name: &OsStr,
        meta: Meta,
        size: u64,
        content: Content,
    ) -> Result<u32, CopyError> {
        self.check_no_directory(place, &place.join(name))?;
        self.put(place, name, item(meta, What::File { size, content }))
    }

    /// Plans another name for a file that was planned.
    pub(crate) fn link(&mut self, place: &InnerPath, name: &OsStr, file: u32) -> Result<(), CopyError> {
        self.check_no_directory(place, &place.join(name))?;
        self.items[file as usize].names += 1;
        self.occupy(place, name, Slot::Item(file))
    }

    /// Plans a symbolic link.
    pub(crate) fn symlink(
        &mut self,
        place: &InnerPath,
        name: &OsStr,
        target: &OsStr,
        meta: Meta,
    ) -> Result<(), CopyError> {
        self.create(place, name, item(Meta { mode: 0o777, ..meta }, What::Symlink(target.into())))
    }

    /// Plans a device or fifo.
    pub(crate) fn special(
        &mut self,
        place: &InnerPath,
        name: &OsStr,
        kind: Kind,
        device: u64,
        meta: Meta,
    ) -> Result<(), CopyError> {
        self.create(place, name, item(meta, What::Special(kind, device)))
    }

    /// Plans another name for a file of the image.
    pub(crate) fn hard_link(&mut self, place: &InnerPath, name: &OsStr, target: &InnerPath) -> Result<(), CopyError> {
        let path = place.join(name);
        if path == *target {
            return Ok(());
        }
        let missing = || CopyError::Write { path: path.clone(), source: Errno::NOENT.into() };
        let id = self.file_up(target)?.ok_or_else(missing)?;
        let item = &mut self.items[id as usize];
        if let What::File { content: Content::Tree { name: source @ None, .. }, .. } = &mut item.what {
            *source = Some(Box::new(target.name().to_owned()));
        }
        item.names += 1;
        self.check_no_directory(place, &path)?;
        self.occupy(place, name, Slot::Item(id))
    }

    /// Gives an entry that is there another owner, mode and time.
    pub(crate) fn change(&mut self, place: &InnerPath, name: &OsStr, meta: Meta) -> Result<(), CopyError> {
        if let Some(id) = self.file_up(&place.join(name))? {
            let item = &mut self.items[id as usize];
            let mode = if matches!(item.what, What::Symlink(_)) { item.meta.mode } else { meta.mode };
            item.meta = Meta { mode, ..meta };
        }
        Ok(())
    }

    /// Removes whatever is at a name, with all that is in it.
    pub(crate) fn remove(&mut self, place: &InnerPath, name: &OsStr) -> Result<(), CopyError> {
        let path = place.join(name);
        let entry = self.entry(place, &path)?;
        if entry.there.is_none() {
            return Ok(());
        }
        self.last = None;
        let merged = self.up(place)?.and_then(|id| self.directory_of(id)).is_some_and(|place| place.merged);
        let failed = |source| CopyError::Write { path: path.clone(), source };
        let hides = merged && self.node_below(&path).map_err(failed)?.is_some();
        if hides {
            return self.occupy(place, name, Slot::Removed);
        }
        let now = self.now;
        if let Some(id) = self.up(place)? {
            let item = &mut self.items[id as usize];
            item.meta.mtime = now;
            if let What::Directory(directory) = &mut item.what {
                directory.entries.remove(name.as_bytes());
            }
        }
        Ok(())
    }

    fn create(&mut self, place: &InnerPath, name: &OsStr, item: Item) -> Result<(), CopyError> {
        self.check_no_directory(place, &place.join(name))?;
        self.put(place, name, item).map(drop)
    }

    fn check_no_directory(&mut self, place: &InnerPath, path: &InnerPath) -> Result<(), CopyError> {
        match self.entry(place, path)?.there {
            Some(Kind::Directory) => Err(CopyError::FileOverDirectory { path: path.clone() }),
            _ => Ok(()),
        }
    }

    fn put(&mut self, place: &InnerPath, name: &OsStr, item: Item) -> Result<u32, CopyError> {
        self.items.push(item);
        let id = number(self.items.len());
        self.occupy(place, name, Slot::Item(id))?;
        Ok(id)
    }

    fn occupy(&mut self, place: &InnerPath, name: &OsStr, slot: Slot) -> Result<(), CopyError> {
        let missing = || CopyError::Write { path: place.join(name), source: Errno::NOENT.into() };
        let id = self.up(place)?.ok_or_else(missing)?;
        let now = self.now;
        let Item { meta, what: What::Directory(directory), .. } = &mut self.items[id as usize] else {
            return Err(missing());
        };
        meta.mtime = now;
        let before = directory.entries.insert(name.as_bytes(), slot);
        if let Some(Slot::Item(before)) = before {
            let names = &mut self.items[before as usize].names;
            *names = names.saturating_sub(1);
        }
        Ok(())
    }

    /// What is at a path, in a directory that is there.
    fn entry(&mut self, place: &InnerPath, path: &InnerPath) -> Result<Entry, CopyError> {
        let failed = |source| CopyError::Write { path: path.clone(), source };
        self.unfold_at(place);
        // Most things go where the last one went.
        let known = self.last.as_ref().filter(|(last, _)| last == place).and_then(|(_, id)| self.directory_of(*id));
        let found = match known {
            Some(directory) => match directory.entries.find(path.name().as_bytes()) {
                Some(Slot::Item(id)) => Found::Item(id),
                Some(Slot::Source(from)) => {
                    self.find_mirrored(&self.directories[from as usize], std::iter::once(path.name()))
                }
                Some(Slot::Removed) => return Ok(Entry { there: None, removed: true }),
                None if directory.merged => Found::Below,
                None => Found::Absent,
            },
            None => self.find(path),
        };
        Ok(match found {
            Found::Item(id) => Entry { there: Some(self.node_of(id).kind), removed: false },
            Found::Below => {
                Entry { there: self.node_below(path).map_err(failed)?.map(|node| node.kind), removed: false }
            }
            Found::Mirrored(mirrored) => Entry { there: Some(mirrored.1.kind), removed: false },
            Found::Absent => {
                let directory = match self.find(place) {
                    Found::Item(id) => self.directory_of(id),
                    _ => None,
                };
                let slot = directory.and_then(|directory| directory.entries.find(path.name().as_bytes()));
                Entry { there: None, removed: matches!(slot, Some(Slot::Removed)) }
            }
        })
    }
}

/// What is at a place.
struct Entry {
    there: Option<Kind>,
    /// Whether the layers below have something there that was removed.
    removed: bool,
}

/// Why the content of an archive's entry cannot be kept.
pub(crate) enum Archived {
    Read(io::Error),
    Write(io::Error),
}

pub(super) fn item(meta: Meta, what: What) -> Item {
    Item { meta, attributes: None, names: 1, what }
}

/// The number of what was just pushed onto a list.
pub(super) fn number(length: usize) -> u32 {
    u32::try_from(length - 1).expect("memory ends before numbers do")
}
