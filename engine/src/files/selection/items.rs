//! What is hashed about each path that is selected?

use std::borrow::Cow;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;

use rbuild_core::{Digest, KeyHasher};

use super::super::select::{Match, Parents, matches};
use super::super::tree::SourceTree;
use super::super::walk::{Filter, Reason, Visitor, walk};
use super::super::{Exclude, FileDigest, InnerPath, Kind, Node};
use super::{DigestError, Selector};

/// What is to be hashed about one path.
pub(super) struct Item<'a> {
    label: Label,
    pub(super) path: Cow<'a, InnerPath>,
    role: Role,
    pub(super) node: Option<Seen<'a>>,
}

/// A node that the tree has, or that was made for the one who asked.
pub(super) enum Seen<'a> {
    There(&'a Node),
    Here(Box<Node>),
}

impl Deref for Seen<'_> {
    type Target = Node;

    fn deref(&self) -> &Node {
        match self {
            Self::There(node) => node,
            Self::Here(node) => node,
        }
    }
}

/// What a copy calls it.
enum Label {
    /// The name of a matched file; nothing for a directory.
    Name(Box<[u8]>),
    /// The path from here on.
    PathFrom(usize),
}

#[derive(Clone, Copy)]
enum Role {
    /// Found by a source, or missing.
    Match = 0,
    /// Below a directory that was found.
    Below = 1,
    /// On the way to something with `--parents`.
    OnTheWay = 2,
}

pub(super) struct Items<'a> {
    pub(super) list: Vec<Item<'a>>,
    base: InnerPath,
}

/// How much is hashed at once.
const BATCH: usize = 1 << 16;

impl<'a> Items<'a> {
    pub(super) fn of(tree: &'a dyn SourceTree, selector: &Selector) -> Result<Self, DigestError> {
        let exclude = Exclude::new(&selector.exclude)?;
        let mut items = Self { list: Vec::new(), base: InnerPath::root() };
        let everything = [String::new()];
        let include = if selector.include.is_empty() { &everything[..] } else { &selector.include[..] };
        for pattern in include {
            if selector.parents {
                items.parents(tree, pattern, selector.wildcards, &exclude)?;
            } else {
                items.sources(tree, pattern, selector.wildcards, &exclude)?;
            }
        }
        Ok(items)
    }

    fn sources(
        &mut self,
        tree: &'a dyn SourceTree,
        pattern: &str,
        wildcards: bool,
        exclude: &Exclude,
    ) -> Result<(), DigestError> {
        for found in matches(tree, pattern, wildcards)? {
            let is_directory = found.node.as_ref().is_some_and(Node::is_directory);
            self.push_match(&found, is_directory);
            if !is_directory {
                continue;
            }
            self.base = found.path;
            match tree.below(&self.base).filter(|_| exclude.0.is_empty()) {
                Some(all) => self.push_all(&all),
                None => walk(tree, &self.base.clone(), Filter { exclude: &exclude.0, include: None }, self)?,
            }
        }
        Ok(())
    }

    fn parents(
        &mut self,
        tree: &'a dyn SourceTree,
        pattern: &str,
        wildcards: bool,
        exclude: &Exclude,
    ) -> Result<(), DigestError> {
        let parents = Parents::new(pattern, wildcards)?;
        for found in matches(tree, parents.pivot, wildcards)? {
            let is_directory = found.node.as_ref().is_some_and(Node::is_directory);
            self.push_match(&found, is_directory);
            if is_directory {
                self.base = found.path;
                let filter = Filter { exclude: &exclude.0, include: parents.include.as_ref() };
                walk(tree, &self.base.clone(), filter, self)?;
            }
        }
        Ok(())
    }

    fn push_match(&mut self, found: &Match, is_directory: bool) {
        let label = Label::Name(if is_directory { Box::default() } else { found.name.as_bytes().into() });
        let node = found.node.clone().map(|node| Seen::Here(Box::new(node)));
        self.list.push(Item { label, path: Cow::Owned(found.path.clone()), role: Role::Match, node });
    }

    fn push(&mut self, path: &InnerPath, node: &Node, role: Role) {
        let full = self.base.join_path(path);
        let label = Label::PathFrom(full.as_bytes().len() - path.as_bytes().len());
        let node = Some(Seen::Here(Box::new(node.clone())));
        self.list.push(Item { label, path: Cow::Owned(full), role, node });
    }

    /// What a walk would come by, which is at hand.
    fn push_all(&mut self, all: &[(&'a InnerPath, &'a Node)]) {
        let start = if self.base.is_root() { 0 } else { self.base.as_bytes().len() + 1 };
        let item = |&(path, node): &(&'a InnerPath, &'a Node)| Item {
            label: Label::PathFrom(start),
            path: Cow::Borrowed(path),
            role: Role::Below,
            node: Some(Seen::There(node)),
        };
        self.list.extend(all.iter().filter(|(_, node)| node.kind != Kind::Socket).map(item));
    }

    pub(super) fn with_content(&self) -> Vec<(&InnerPath, &Node)> {
        let with_content = self.list.iter().filter(|item| item.has_content());
        with_content.filter_map(|item| Some((&*item.path, &**item.node.as_ref()?))).collect()
    }

    /// The digests of those that [have content](Item::has_content).
    pub(super) fn contents(&self, tree: &dyn SourceTree) -> Result<Vec<FileDigest>, DigestError> {
        tree.digests(&self.with_content()).map_err(|(path, source)| DigestError::Read { path, source })
    }

    /// Hashes everything, and shows what is hashed of each.
    pub(super) fn digest(
        &self,
        contents: Vec<FileDigest>,
        owners: bool,
        mut show: impl FnMut(&Item<'a>, &[u8]),
    ) -> Digest {
        let mut contents = contents.into_iter();
        let mut hasher = KeyHasher::new("selection/1");
        let mut batch = Vec::with_capacity(BATCH);
        for item in &self.list {
            let content = if item.has_content() { contents.next().unwrap_or_default() } else { FileDigest::default() };
            let start = batch.len();
            batch.extend_from_slice(&[0; 8]);
            item.write(&mut batch, content, owners);
            let (length, record) = batch[start..].split_at_mut(8);
            length.copy_from_slice(&(record.len() as u64).to_le_bytes());
            show(item, record);
            if batch.len() >= BATCH {
                hasher.bytes(&batch);
                batch.clear();
            }
        }
        hasher.bytes(&batch);
        hasher.finish()
    }
}

impl Visitor for Items<'_> {
    type Error = DigestError;

    fn enter(&mut self, path: &InnerPath, node: &Node, reason: Reason) -> Result<(), DigestError> {
        self.push(path, node, if reason == Reason::Selected { Role::Below } else { Role::OnTheWay });
        Ok(())
    }

    fn leave(&mut self) -> Result<(), DigestError> {
        Ok(())
    }

    fn other(&mut self, path: &InnerPath, node: &Node) -> Result<(), DigestError> {
        // A socket is never copied, and comes and goes with whoever listens.
        if node.kind != Kind::Socket {
            self.push(path, node, Role::Below);
        }
        Ok(())
    }
}

impl Item<'_> {
    pub(super) fn has_content(&self) -> bool {
        self.node.as_ref().is_some_and(|node| matches!(node.kind, Kind::File | Kind::Directory))
    }

    /// Every field has a fixed length or its length before it.
    fn write(&self, record: &mut Vec<u8>, content: FileDigest, owners: bool) {
        let text = |record: &mut Vec<u8>, text: &[u8]| {
            record.extend_from_slice(&(text.len() as u64).to_le_bytes());
            record.extend_from_slice(text);
        };
        record.push(self.role as u8);
        match &self.label {
            Label::Name(name) => text(record, name),
            Label::PathFrom(start) => text(record, &self.path.as_bytes()[*start..]),
        }
        let Some(node) = &self.node else {
            record.push(b'!');
            return;
        };
        record.push(node.kind.letter());
        if matches!(self.role, Role::Match) && node.is_directory() && self.path.is_root() {
            return;
        }
        record.extend_from_slice(&node.mode.to_le_bytes());
        let (uid, gid) = if owners { (node.uid, node.gid) } else { (0, 0) };
        record.extend_from_slice(&uid.to_le_bytes());
        record.extend_from_slice(&gid.to_le_bytes());
        match node.kind {
            Kind::File => {
                record.extend_from_slice(&node.size.to_le_bytes());
                record.extend_from_slice(&content.0);
            }
            Kind::Directory => record.extend_from_slice(&content.0),
            Kind::Symlink => text(record, node.target.as_deref().map(OsStrExt::as_bytes).unwrap_or_default()),
            Kind::CharacterDevice | Kind::BlockDevice => record.extend_from_slice(&node.device.to_le_bytes()),
            Kind::Fifo | Kind::Socket => {}
        }
    }
}
