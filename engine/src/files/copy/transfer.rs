//! How do many files get from a tree into an image?
//!
//! A walk shows them, and each is planned at its place. What has another name that was shown before becomes a hard link to
//! that. Contents are read when the plan is carried out.

use std::collections::HashMap;
use std::ffi::OsStr;

use super::super::tree::SourceTree;
use super::super::walk::{Reason, Visitor};
use super::super::{Attributes, InnerPath, Kind, Node};
use super::CopyError;
use super::mode::ModeChange;
use super::owner::Ids;
use super::stage::{Content, Stage};
use super::write::{DirectoryMeta, Meta};

/// What copies look like.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Who owns them; those of the source if absent.
    pub(crate) ids: Option<Ids>,
    pub(crate) mode: ModeChange,
    /// How directories are made that nobody copies.
    pub(crate) parents: Meta,
}

impl Rules {
    pub(crate) fn meta(&self, node: &Node) -> Meta {
        Meta {
            ids: self.ids.unwrap_or(Ids { uid: node.uid, gid: node.gid }),
            mode: self.mode.apply(node.mode, node.kind),
            mtime: node.mtime,
        }
    }
}

/// A directory of the source and the one it is copied to.
#[derive(Clone, Debug)]
struct Pair {
    source: InnerPath,
    /// The source's number on the stage.
    number: u32,
    place: InnerPath,
}

/// Copies from one tree.
pub(crate) struct Transfer<'s, 'a> {
    pub(crate) stage: &'s mut Stage<'a>,
    pub(crate) source: &'a dyn SourceTree,
    rules: &'s Rules,
    /// The tree's number on the stage, and that of the rules.
    tree: u32,
    numbered: u32,
    /// From where the walk began; between walks, the directory of the last single file.
    way: Vec<Pair>,
    /// Files with several names, by device and inode: what the first became.
    first_names: HashMap<(u64, u64), u32>,
    /// How many entries the walk has shown.
    pub(crate) shown: u64,
}

impl<'s, 'a> Transfer<'s, 'a> {
    pub(crate) fn new(stage: &'s mut Stage<'a>, source: &'a dyn SourceTree, rules: &'s Rules) -> Self {
        let (tree, numbered) = (stage.tree(source), stage.rules(rules));
        Self { stage, source, rules, tree, numbered, way: Vec::new(), first_names: HashMap::new(), shown: 0 }
    }

    /// Begins a walk: what it shows of `directory` goes to `place`.
    pub(crate) fn begin(&mut self, directory: &InnerPath, place: InnerPath) {
        self.first_names.clear();
        self.way = vec![self.pair(directory, place)];
    }

    /// Copies all of a directory at once, if nothing is at its place yet; tells whether it could.
    pub(crate) fn whole(&mut self, directory: &InnerPath, place: &InnerPath) -> Result<bool, CopyError> {
        let done = self.stage.mirror_of(place, (self.tree, directory), self.numbered)?;
        self.shown += u64::from(done);
        Ok(done)
    }

    /// Ends a walk.
    pub(crate) fn end(&mut self) {
        self.way.clear();
        self.first_names = HashMap::new();
    }

    /// Copies one thing that is no directory to a place in the image.
    pub(crate) fn single(&mut self, from: &InnerPath, node: &Node, to: &InnerPath) -> Result<(), CopyError> {
        let (source, place) = (from.parent().unwrap_or_default(), to.parent().unwrap_or_default());
        let pair = match self.way.pop().filter(|pair| pair.source == source && pair.place == place) {
            Some(pair) => pair,
            None => {
                self.stage.directory(&place, self.rules.parents)?;
                self.pair(&source, place)
            }
        };
        self.entry(&pair, from.name(), to.name(), node)?;
        self.way = vec![pair];
        Ok(())
    }

    fn pair(&mut self, source: &InnerPath, place: InnerPath) -> Pair {
        let number = self.stage.source_directory(self.tree, source.clone(), self.numbered);
        Pair { source: source.clone(), number, place }
    }

    fn entry(&mut self, pair: &Pair, from: &OsStr, to: &OsStr, node: &Node) -> Result<(), CopyError> {
        if matches!(node.kind, Kind::Socket | Kind::Directory) {
            return Ok(());
        }
        if from == to && self.source.is_held() {
            return self.stage.source_file(&pair.place, to, pair.number);
        }
        let meta = self.rules.meta(node);
        match node.kind {
            Kind::Socket | Kind::Directory => Ok(()),
            Kind::File => {
                let name = (from != to).then(|| Box::new(from.to_owned()));
                let content = Content::Tree { directory: pair.number, name };
                // Attributes are read together with the content.
                self.stage.file(&pair.place, to, meta, Attributes::default(), node.size, content)
            }
            Kind::Symlink => self.stage.symlink(&pair.place, to, node.target.as_deref().unwrap_or_default(), meta),
            Kind::Fifo | Kind::CharacterDevice | Kind::BlockDevice => {
                self.stage.special(&pair.place, to, node.kind, node.device, meta)
            }
        }
    }
}

impl Visitor for Transfer<'_, '_> {
    type Error = CopyError;

    fn enter(&mut self, path: &InnerPath, node: &Node, reason: Reason) -> Result<(), CopyError> {
        self.shown += 1;
        let Some(parent) = self.way.last() else { return Ok(()) };
        let source = parent.source.join(path.name());
        let (place, made) = self.stage.subdirectory(&parent.place, path.name())?;
        let meta = if made || reason == Reason::Selected {
            if self.source.keeps_directory_attributes() {
                let unread = |error| CopyError::Read { path: source.clone(), source: error };
                let directory = self.source.root().open_directory(&source).map_err(unread)?;
                self.stage.set_attributes(&place, &Attributes::read(&directory).map_err(unread)?)?;
            }
            self.rules.meta(node).into()
        } else {
            DirectoryMeta { mode: Some(node.mode), ..DirectoryMeta::default() }
        };
        self.stage.later(place.clone(), meta);
        let pair = self.pair(&source, place);
        self.way.push(pair);
        Ok(())
    }

    fn take(&mut self, path: &InnerPath, node: &Node) -> Result<bool, CopyError> {
        let Some(parent) = self.way.last() else { return Ok(false) };
        let source = parent.source.join(path.name());
        if self.source.held(&source).is_none() {
            return Ok(false);
        }
        let (place, made) = self.stage.subdirectory(&parent.place, path.name())?;
        if !made || !self.whole(&source, &place)? {
            // It is entered, and then found to be there.
            return Ok(false);
        }
        self.stage.later(place, self.rules.meta(node).into());
        Ok(true)
    }

    fn leave(&mut self) -> Result<(), CopyError> {
        self.way.pop();
        Ok(())
    }

    fn other(&mut self, path: &InnerPath, node: &Node) -> Result<(), CopyError> {
        self.shown += 1;
        let Some(pair) = self.way.pop() else { return Ok(()) };
        let done = self.other_in(&pair, path, node);
        self.way.push(pair);
        done
    }
}

impl Transfer<'_, '_> {
    fn other_in(&mut self, pair: &Pair, path: &InnerPath, node: &Node) -> Result<(), CopyError> {
        let name = path.name();
        if node.kind != Kind::File || node.links < 2 || !self.source.has_links() {
            return self.entry(pair, name, name, node);
        }
        let file = (node.dev, node.ino);
        if let Some(first) = self.first_names.get(&file) {
            return self.stage.link(&pair.place, name, *first);
        }
        let content = match self.source.number(&pair.source.join(name)) {
            Some(number) => Content::Numbered { directory: pair.number, number },
            // Its name may be gone by the time it is read, but not another one.
            None => Content::Tree { directory: pair.number, name: Some(Box::new(name.to_owned())) },
        };
        let first = self.stage.linked(&pair.place, name, self.rules.meta(node), node.size, content)?;
        self.first_names.insert(file, first);
        Ok(())
    }
}
