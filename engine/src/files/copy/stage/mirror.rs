//! How is a whole directory of a context planned without planning each of its files?
//!
//! A new directory that gets all that a directory of the source contains is a *mirror* of it: it names the source, and is
//! gone through when the plan is carried out. Whatever else happens in it makes its entries first ([`Stage::unfold`]),
//! those of the one directory: directories in it are mirrors again.
//!
//! Only trees that hold everything in memory are mirrored ([`SourceTree::held`](super::super::super::SourceTree::held)):
//! what they show does not change, and no file of theirs has several names.
//!
//! Where only some of a directory is copied, or not only of one, each file says no more than which directory of the source
//! has it under the same name ([`Slot::Source`]).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

use super::super::super::tree::{Listed, SourceTree};
use super::super::super::{InnerPath, Kind, Node};
use super::super::CopyError;
use super::super::transfer::Rules;
use super::edit::number;
use super::{Content, Directory, Found, Item, Slot, Stage, What};

/// A directory of a tree, and how what it contains is copied.
#[derive(Clone, Debug)]
pub(in super::super) struct Mirror {
    tree: u32,
    path: InnerPath,
    /// Into the stage's rules.
    rules: u32,
    /// How often the stage was finished before.
    action: u32,
}

impl Mirror {
    pub(super) fn below(&self, name: &OsStr) -> Self {
        Self { path: self.path.join(name), ..self.clone() }
    }

    /// Where something is that it contains, with the number of the tree.
    pub(super) fn place(&self, name: &OsStr) -> (u32, InnerPath) {
        (self.tree, self.path.join(name))
    }
}

impl<'a> Stage<'a> {
    /// A number for rules by which directories are mirrored.
    pub(crate) fn rules(&mut self, rules: &Rules) -> u32 {
        self.rules.push(rules.clone());
        (self.rules.len() - 1) as u32
    }

    /// A number for a directory of a tree, files of which are copied by these rules.
    pub(crate) fn source_directory(&mut self, tree: u32, path: InnerPath, rules: u32) -> u32 {
        self.directories.push(Mirror { tree, path, rules, action: self.finished });
        number(self.directories.len())
    }

    /// The tree that a directory is of.
    pub(super) fn tree_of(&self, mirror: &Mirror) -> &'a dyn SourceTree {
        self.trees[mirror.tree as usize]
    }

    /// The item of what a directory of a tree contains.
    pub(in super::super) fn source_item(&self, from: u32, name: &OsStr) -> Option<Item> {
        let mirror = &self.directories[from as usize];
        let node = self.held_node(mirror, name);
        self.mirrored_item(mirror, name, node)
    }

    /// The same as it will be.
    pub(super) fn source_node(&self, from: u32, name: &OsStr) -> Option<Node> {
        let mirror = &self.directories[from as usize];
        let node = self.held_node(mirror, name);
        Some(self.mirrored_node(mirror, &node))
    }

    fn held_node(&self, mirror: &Mirror, name: &OsStr) -> Node {
        let node = self.tree_of(mirror).node(&mirror.path.join(name));
        node.ok().flatten().expect("a tree that holds everything finds again what it has shown")
    }

    /// Makes the directory at `place`, links in it followed before, a mirror of a directory of a tree; tells whether it
    /// could. It must be empty and hide what is below, and the tree must hold everything.
    pub(crate) fn mirror_of(
        &mut self,
        place: &InnerPath,
        (tree, path): (u32, &InnerPath),
        rules: u32,
    ) -> Result<bool, CopyError> {
        if self.trees[tree as usize].held(path).is_none() {
            return Ok(false);
        }
        let Some(id) = self.up(place)? else { return Ok(false) };
        let action = self.finished;
        let What::Directory(directory) = &mut self.items[id as usize].what else { return Ok(false) };
        if directory.merged || directory.mirror.is_some() || directory.entries.iter().next().is_some() {
            return Ok(false);
        }
        directory.mirror = Some(Box::new(Mirror { tree, path: path.clone(), rules, action }));
        self.last = None;
        Ok(true)
    }

    /// What a mirror shows, in order.
    pub(in super::super) fn mirrored(&self, mirror: &Mirror) -> Listed<'a> {
        let held = self.trees[mirror.tree as usize].held(&mirror.path);
        held.expect("a tree that holds everything has every directory that it shows")
    }

    /// The item that a mirror has for something it shows; none for a socket.
    pub(in super::super) fn mirrored_item(&self, mirror: &Mirror, name: &OsStr, node: Node) -> Option<Item> {
        let mut meta = self.rules[mirror.rules as usize].meta(&node);
        let what = match node.kind {
            Kind::Socket => return None,
            Kind::Directory => {
                let directory = Directory { mirror: Some(Box::new(mirror.below(name))), ..Directory::default() };
                What::Directory(Box::new(directory))
            }
            Kind::File => {
                let content = Content::Mirrored(Box::new((mirror.tree, mirror.path.join(name))));
                What::File { size: node.size, content }
            }
            Kind::Symlink => {
                meta.mode = 0o777;
                What::Symlink(node.target.unwrap_or_default())
            }
            kind => What::Special(kind, node.device),
        };
        Some(Item { meta, attributes: None, names: 1, what })
    }

    /// Gives a mirror the entries that it shows; `path` is where it is.
    pub(super) fn unfold(&mut self, id: u32, path: &InnerPath) {
        let What::Directory(directory) = &mut self.items[id as usize].what else { return };
        let Some(mirror) = directory.mirror.take() else { return };
        let listed = self.mirrored(&mirror);
        self.directories.push((*mirror).clone());
        let from = number(self.directories.len());
        for (name, node) in listed {
            let slot = match node.kind {
                Kind::Socket => continue,
                Kind::Directory => {
                    let Some(item) = self.mirrored_item(&mirror, &name, node) else { continue };
                    // As if all had been planned one by one: the action's last word on its directories is still to come.
                    if mirror.action == self.finished {
                        self.later(path.join(&name), item.meta.into());
                    }
                    self.items.push(item);
                    Slot::Item(number(self.items.len()))
                }
                _ => Slot::Source(from),
            };
            if let What::Directory(directory) = &mut self.items[id as usize].what {
                directory.entries.insert(name.as_bytes(), slot);
            }
        }
    }

    /// What is at a path below a mirror.
    pub(super) fn find_mirrored<'p>(&self, mirror: &Mirror, names: impl Iterator<Item = &'p OsStr>) -> Found {
        let mirror = names.fold(mirror.clone(), |mirror, name| mirror.below(name));
        let found = self.trees[mirror.tree as usize].node(&mirror.path).ok().flatten();
        match found.filter(|node| node.kind != Kind::Socket) {
            Some(node) => Found::Mirrored(Box::new((mirror, node))),
            None => Found::Absent,
        }
    }

    /// A file of a mirror as it will be.
    pub(super) fn mirrored_node(&self, mirror: &Mirror, node: &Node) -> Node {
        let meta = self.rules[mirror.rules as usize].meta(node);
        let mode = if node.kind == Kind::Symlink { 0o777 } else { meta.mode };
        let (uid, gid, mtime) = (meta.ids.uid, meta.ids.gid, meta.mtime);
        Node { mode, uid, gid, mtime, ctime: mtime, dev: 0, links: 1, ..node.clone() }
    }

    /// What a directory that is a mirror contains.
    pub(super) fn list_mirrored(&self, mirror: &Mirror) -> Vec<(OsString, Node)> {
        let shown = self.mirrored(mirror).filter(|(_, node)| node.kind != Kind::Socket);
        shown.map(|(name, node)| (name, self.mirrored_node(mirror, &node))).collect()
    }

    /// The content of a small file of a mirror.
    pub(super) fn read_mirrored(&self, mirror: &Mirror, limit: u64) -> io::Result<Option<Vec<u8>>> {
        self.trees[mirror.tree as usize].root().read_small(&mirror.path, limit)
    }
}
