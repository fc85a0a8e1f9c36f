//! What is hashed about each path that is selected?
//!
//! Paths are shown one after the other, in the order of the sources. A few thousand are held at a time, so that files
//! that have to be read are read together.

use std::os::unix::ffi::OsStrExt;

use rbuild_core::{Digest, KeyHasher};

use super::super::select::{Match, Parents, matches};
use super::super::tree::{Reading, SourceTree};
use super::super::walk::{Filter, Reason, Visitor, WalkError, walk};
use super::super::{Exclude, FileDigest, InnerPath, Kind, Node, PatternError, SelectError};
use super::{DigestError, Selector};

/// What is to be hashed about one path.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    role: Role,
    /// What a copy calls it.
    label: &'a [u8],
    /// Where it is, from the tree's root.
    pub(super) path: &'a [u8],
    pub(super) node: Option<&'a Node>,
    pub(super) content: FileDigest,
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

/// Why not everything is shown.
pub(super) enum Stop {
    Failed(DigestError),
    /// A file would have to be read, and may not.
    Unknown,
}

impl From<DigestError> for Stop {
    fn from(error: DigestError) -> Self {
        Self::Failed(error)
    }
}

impl From<PatternError> for Stop {
    fn from(error: PatternError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<SelectError> for Stop {
    fn from(error: SelectError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<WalkError> for Stop {
    fn from(error: WalkError) -> Self {
        Self::Failed(error.into())
    }
}

/// How many paths are held at a time.
const MOST: usize = 4096;

/// Shows all that is selected to `show`.
pub(super) fn each(
    tree: &dyn SourceTree,
    selector: &Selector,
    reading: Reading,
    show: &mut dyn FnMut(Item<'_>),
) -> Result<(), Stop> {
    let exclude = Exclude::new(&selector.exclude)?;
    let mut items = Items { tree, reading, show, held: Vec::new(), base: InnerPath::root() };
    let everything = [String::new()];
    let include = if selector.include.is_empty() { &everything[..] } else { &selector.include[..] };
    for pattern in include {
        if selector.parents {
            items.parents(pattern, selector.wildcards, &exclude)?;
        } else {
            items.sources(pattern, selector.wildcards, &exclude)?;
        }
    }
    items.flush()
}

/// Without the sockets, which no copy has.
fn copied(found: impl Iterator<Item = Result<Match, SelectError>>) -> impl Iterator<Item = Result<Match, SelectError>> {
    let is_copied = |found: &Match| found.node.as_ref().is_none_or(|node| node.kind != Kind::Socket);
    found.filter(move |found| found.as_ref().map_or(true, is_copied))
}

struct Items<'a> {
    tree: &'a dyn SourceTree,
    reading: Reading,
    show: &'a mut dyn FnMut(Item<'_>),
    held: Vec<Held>,
    base: InnerPath,
}

/// An item that waits for the digest of its content.
struct Held {
    role: Role,
    label: Label,
    path: InnerPath,
    node: Option<Node>,
}

enum Label {
    /// The name of a matched file; nothing for a directory.
    Name(Box<[u8]>),
    /// The path from here on.
    PathFrom(usize),
}

impl Items<'_> {
    fn sources(&mut self, pattern: &str, wildcards: bool, exclude: &Exclude) -> Result<(), Stop> {
        for found in copied(matches(self.tree, pattern, wildcards)?) {
            let found = found?;
            let is_directory = found.node.as_ref().is_some_and(Node::is_directory);
            self.hold_match(&found, is_directory)?;
            if !is_directory {
                continue;
            }
            self.base = found.path;
            if !exclude.0.is_empty() || !self.show_below()? {
                walk(self.tree, &self.base.clone(), Filter { exclude: &exclude.0, include: None }, self)?;
            }
        }
        Ok(())
    }

    fn parents(&mut self, pattern: &str, wildcards: bool, exclude: &Exclude) -> Result<(), Stop> {
        let parents = Parents::new(pattern, wildcards)?;
        for found in copied(matches(self.tree, parents.pivot, wildcards)?) {
            let found = found?;
            let is_directory = found.node.as_ref().is_some_and(Node::is_directory);
            self.hold_match(&found, is_directory)?;
            if is_directory {
                self.base = found.path;
                let filter = Filter { exclude: &exclude.0, include: parents.include.as_ref() };
                walk(self.tree, &self.base.clone(), filter, self)?;
            }
        }
        Ok(())
    }

    /// What a walk would come by, if the tree has it at hand; tells whether it has.
    fn show_below(&mut self) -> Result<bool, Stop> {
        self.flush()?;
        let start = if self.base.is_root() { 0 } else { self.base.as_bytes().len() + 1 };
        let show = &mut *self.show;
        let mut item = |path: &[u8], node: &Node, content: FileDigest| {
            if node.kind != Kind::Socket {
                show(Item { role: Role::Below, label: &path[start..], path, node: Some(node), content });
            }
        };
        match self.tree.show_below(&self.base, self.reading, &mut item) {
            None => Ok(false),
            Some(Ok(true)) => Ok(true),
            Some(Ok(false)) => Err(Stop::Unknown),
            Some(Err((path, source))) => Err(DigestError::Read { path, source }.into()),
        }
    }

    fn hold_match(&mut self, found: &Match, is_directory: bool) -> Result<(), Stop> {
        let label = Label::Name(if is_directory { Box::default() } else { found.name.as_bytes().into() });
        self.hold(Held { role: Role::Match, label, path: found.path.clone(), node: found.node.clone() })
    }

    fn hold_below(&mut self, path: &InnerPath, node: &Node, role: Role) -> Result<(), Stop> {
        let full = self.base.join_path(path);
        let label = Label::PathFrom(full.as_bytes().len() - path.as_bytes().len());
        self.hold(Held { role, label, path: full, node: Some(node.clone()) })
    }

    fn hold(&mut self, held: Held) -> Result<(), Stop> {
        self.held.push(held);
        if self.held.len() >= MOST { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Stop> {
        let with_content =
            |held: &&Held| held.node.as_ref().is_some_and(|node| matches!(node.kind, Kind::File | Kind::Directory));
        let files: Vec<(&InnerPath, &Node)> =
            self.held.iter().filter(with_content).filter_map(|held| Some((&held.path, held.node.as_ref()?))).collect();
        let contents = match self.reading {
            Reading::Never => self.tree.known_digests(&files).ok_or(Stop::Unknown)?,
            Reading::Unknown => {
                self.tree.digests(&files).map_err(|(path, source)| DigestError::Read { path, source })?
            }
        };
        let mut contents = contents.into_iter();
        for held in &self.held {
            let path = held.path.as_bytes();
            let label = match &held.label {
                Label::Name(name) => name,
                Label::PathFrom(start) => &path[*start..],
            };
            let content = if with_content(&held) { contents.next().unwrap_or_default() } else { FileDigest::default() };
            (self.show)(Item { role: held.role, label, path, node: held.node.as_ref(), content });
        }
        self.held.clear();
        Ok(())
    }
}

impl Visitor for Items<'_> {
    type Error = Stop;

    fn enter(&mut self, path: &InnerPath, node: &Node, reason: Reason) -> Result<(), Stop> {
        self.hold_below(path, node, if reason == Reason::Selected { Role::Below } else { Role::OnTheWay })
    }

    fn leave(&mut self) -> Result<(), Stop> {
        Ok(())
    }

    fn other(&mut self, path: &InnerPath, node: &Node) -> Result<(), Stop> {
        // A socket is never copied, and comes and goes with whoever listens.
        if node.kind == Kind::Socket { Ok(()) } else { self.hold_below(path, node, Role::Below) }
    }
}

/// How much is hashed at once.
const BATCH: usize = 1 << 16;

/// Hashes items.
pub(super) struct Hashing {
    hasher: KeyHasher,
    batch: Vec<u8>,
    owners: bool,
}

impl Hashing {
    pub(super) fn new(owners: bool) -> Self {
        Self { hasher: KeyHasher::new("selection/1"), batch: Vec::with_capacity(BATCH), owners }
    }

    /// Adds an item.
    pub(super) fn add(&mut self, item: &Item<'_>) {
        self.end_batch();
        let start = self.batch.len();
        self.batch.extend_from_slice(&[0; 8]);
        item.write(&mut self.batch, self.owners);
        let (length, record) = self.batch[start..].split_at_mut(8);
        length.copy_from_slice(&(record.len() as u64).to_le_bytes());
    }

    /// A batch ends with the item that makes it long enough.
    fn end_batch(&mut self) {
        if self.batch.len() >= BATCH {
            self.hasher.bytes(&self.batch);
            self.batch.clear();
        }
    }

    pub(super) fn finish(mut self) -> Digest {
        self.end_batch();
        self.hasher.bytes(&self.batch);
        self.hasher.finish()
    }
}

impl Item<'_> {
    /// Every field has a fixed length or its length before it.
    fn write(&self, record: &mut Vec<u8>, owners: bool) {
        let text = |record: &mut Vec<u8>, text: &[u8]| {
            record.extend_from_slice(&(text.len() as u64).to_le_bytes());
            record.extend_from_slice(text);
        };
        record.push(self.role as u8);
        text(record, self.label);
        let Some(node) = self.node else {
            record.push(b'!');
            return;
        };
        record.push(node.kind.letter());
        if matches!(self.role, Role::Match) && node.is_directory() && self.path.is_empty() {
            return;
        }
        record.extend_from_slice(&node.mode.to_le_bytes());
        let (uid, gid) = if owners { (node.uid, node.gid) } else { (0, 0) };
        record.extend_from_slice(&uid.to_le_bytes());
        record.extend_from_slice(&gid.to_le_bytes());
        match node.kind {
            Kind::File => {
                record.extend_from_slice(&node.size.to_le_bytes());
                record.extend_from_slice(&self.content.0);
            }
            Kind::Directory => record.extend_from_slice(&self.content.0),
            Kind::Symlink => text(record, node.target.as_deref().map(OsStrExt::as_bytes).unwrap_or_default()),
            Kind::CharacterDevice | Kind::BlockDevice => record.extend_from_slice(&node.device.to_le_bytes()),
            Kind::Fifo | Kind::Socket => {}
        }
    }
}
