//! How does what is below, or what was planned with a whole directory, get an item of its own?

use std::os::unix::ffi::OsStrExt;

use super::super::super::{Attributes, InnerPath, Kind, Node};
use super::super::CopyError;
use super::super::write::Meta;
use super::edit::{item, number};
use super::{Content, Directory, Found, Item, ROOT, Slot, Stage, What};

impl Stage<'_> {
    /// The item of a directory, copied up if need be; nothing if there is no directory.
    pub(super) fn up(&mut self, path: &InnerPath) -> Result<Option<u32>, CopyError> {
        let Some(id) = self.way_to(path)? else { return Ok(None) };
        self.unfold(id, path);
        self.last = Some((path.clone(), id));
        Ok(Some(id))
    }

    /// As [`up`](Self::up), but it may be a mirror.
    pub(super) fn way_to(&mut self, path: &InnerPath) -> Result<Option<u32>, CopyError> {
        if let Some((last, id)) = &self.last
            && last == path
        {
            return Ok(Some(*id));
        }
        let mut id = ROOT;
        let mut at = InnerPath::root();
        for name in path.names() {
            self.unfold(id, &at);
            at = at.join(name);
            let Some(directory) = self.directory_of(id) else { return Ok(None) };
            id = match directory.entries.find(name.as_bytes()) {
                Some(Slot::Item(next)) => next,
                Some(Slot::Source(_) | Slot::Removed) => return Ok(None),
                None if directory.merged => match self.copy_up(id, &at)? {
                    Some(next) => next,
                    None => return Ok(None),
                },
                None => return Ok(None),
            };
        }
        Ok(self.directory_of(id).is_some().then_some(id))
    }

    /// Gives a directory its entries, if it is a mirror or below one.
    pub(super) fn unfold_at(&mut self, path: &InnerPath) {
        if self.last.as_ref().is_some_and(|(last, _)| last == path) {
            return;
        }
        let mut id = ROOT;
        let mut at = InnerPath::root();
        let mut names = path.names();
        loop {
            self.unfold(id, &at);
            let Some(name) = names.next() else { return };
            let Some(Slot::Item(next)) =
                self.directory_of(id).and_then(|directory| directory.entries.find(name.as_bytes()))
            else {
                return;
            };
            at = at.join(name);
            id = next;
        }
    }

    /// The item of anything but a directory, copied up if need be.
    pub(super) fn file_up(&mut self, path: &InnerPath) -> Result<Option<u32>, CopyError> {
        self.unfold_at(&path.parent().unwrap_or_default());
        let id = match self.find(path) {
            Found::Item(id) => Some(id),
            Found::Mirrored(_) => self.make_item(path)?,
            Found::Absent => None,
            Found::Below => match self.up(&path.parent().unwrap_or_default())? {
                Some(parent) => self.copy_up(parent, path)?,
                None => None,
            },
        };
        Ok(id.filter(|id| self.directory_of(*id).is_none()))
    }

    /// Gives what a directory of a tree has an item of its own.
    fn make_item(&mut self, path: &InnerPath) -> Result<Option<u32>, CopyError> {
        let Some(parent) = self.up(&path.parent().unwrap_or_default())? else { return Ok(None) };
        let name = path.name();
        let slot = self.directory_of(parent).and_then(|directory| directory.entries.find(name.as_bytes()));
        let Some(Slot::Source(from)) = slot else { return Ok(None) };
        let Some(item) = self.source_item(from, name) else { return Ok(None) };
        self.items.push(item);
        let id = number(self.items.len());
        if let What::Directory(directory) = &mut self.items[parent as usize].what {
            directory.entries.insert(name.as_bytes(), Slot::Item(id));
        }
        Ok(Some(id))
    }

    /// Gives what the layers below have at `path` an item in the directory `parent`, whose time stays.
    fn copy_up(&mut self, parent: u32, path: &InnerPath) -> Result<Option<u32>, CopyError> {
        let failed = |source| CopyError::Write { path: path.clone(), source };
        let Some(below) = self.below else { return Ok(None) };
        let Some(node) = self.node_below(path).map_err(failed)? else { return Ok(None) };
        let mut attributes = None;
        let Node { size, device, target, .. } = node.clone();
        let what = match node.kind {
            Kind::Directory => {
                let directory = below.open_directory(path).map_err(failed)?;
                let all = Attributes::read_all(&directory).map_err(failed)?;
                attributes = (!all.is_empty()).then(|| Box::new(all));
                What::Directory(Box::new(Directory { merged: true, ..Directory::default() }))
            }
            Kind::File => What::File { size, content: Content::Below(Box::new(path.clone())) },
            Kind::Symlink => What::Symlink(target.unwrap_or_default()),
            kind => What::Special(kind, device),
        };
        self.items.push(Item { attributes, ..item(Meta::of(&node), what) });
        let id = number(self.items.len());
        if let What::Directory(directory) = &mut self.items[parent as usize].what {
            directory.entries.insert(path.name().as_bytes(), Slot::Item(id));
        }
        Ok(Some(id))
    }
}
