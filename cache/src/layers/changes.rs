//! What does a layer change?
//!
//! Read from its directory, or from the metadata of its file, one change after the other. In memory are what the walk
//! needs (`tree`), and the first names of files that have more names to come.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Known;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rbuild_image::erofs::TAR_OFFSET;
use rbuild_image::{Change, Entry, EntryKind};

use super::file::{LayerNodes, Part};
use super::tree::{self, Inode, Node, NodeKind, Nodes};
use super::{Form, LayerId, Layers, Result};
use crate::error::{Context, StoreError};

/// The changes that a layer makes, in canonical order: a directory before its entries, names of one directory by their
/// bytes, the first name of a file before its hard links. The root directory itself is not among them, unless it is
/// opaque. Nothing follows an error.
#[derive(Debug)]
pub struct Changes {
    source: Source,
    /// Of the layer, for messages.
    path: PathBuf,
    namer: Namer,
    /// The mark of the directory that came last.
    opaque: Option<Change>,
    last: Last,
    /// Whether what came last has names to come.
    linked: bool,
}

#[derive(Debug)]
enum Source {
    Directory(OwnedFd, Box<Nodes>),
    /// With the attributes that are to be kept.
    File(File, Box<LayerNodes>, fn(&[u8]) -> bool),
}

/// The content of the change that came last.
#[derive(Clone, Debug)]
enum Last {
    Nothing,
    /// In a directory, the path.
    Path(PathBuf),
    /// In a tar, where it begins, and its size.
    Place(u64, u64),
}

impl Changes {
    pub(super) fn of_directory(path: PathBuf, root: OwnedFd, nodes: Nodes) -> Self {
        Self::new(Source::Directory(root, Box::new(nodes)), path)
    }

    pub(super) fn of_file(path: PathBuf, file: File, nodes: LayerNodes, keep: fn(&[u8]) -> bool) -> Self {
        Self::new(Source::File(file, Box::new(nodes), keep), path)
    }

    fn new(source: Source, path: PathBuf) -> Self {
        Self { source, path, namer: Namer::default(), opaque: None, last: Last::Nothing, linked: false }
    }

    /// Whether what came last is a file under its first name of several.
    pub(super) fn is_linked(&self) -> bool {
        self.linked
    }

    /// The content of the regular file that came last; nothing if something else did.
    ///
    /// # Errors
    /// It is not there, or the disk fails.
    pub fn content(&self) -> Result<Box<dyn Read + '_>> {
        match (&self.last, &self.source) {
            (Last::Path(path), Source::Directory(root, _)) => {
                let file = tree::open_file(root.as_fd(), path).context("open", self.path.join(path))?;
                Ok(Box::new(file))
            }
            (Last::Place(place, size), Source::File(file, ..)) => {
                Ok(Box::new(Part::new(file, TAR_OFFSET + place, *size)))
            }
            _ => Ok(Box::new(io::empty())),
        }
    }

    fn step(&mut self) -> Result<Option<Change>> {
        self.last = Last::Nothing;
        if let Some(mark) = self.opaque.take() {
            return Ok(Some(mark));
        }
        loop {
            let node = match &mut self.source {
                Source::Directory(_, nodes) => nodes.next().transpose()?,
                Source::File(_, nodes, keep) => {
                    let unread = |error| StoreError::io("read", &self.path, error);
                    nodes.next().transpose().map_err(unread)?.map(|node| Node::of_image(node, *keep))
                }
            };
            let Some(node) = node else { return Ok(None) };
            let is_opaque = node.kind == NodeKind::Directory { opaque: true };
            let mark = is_opaque.then(|| Change::Opaque(node.path.clone()));
            if node.path.as_os_str().is_empty() {
                if mark.is_some() {
                    return Ok(mark);
                }
                continue;
            }
            self.opaque = mark;
            let (place, several) = (node.content, node.inode.is_some());
            let change = self.namer.change(node);
            self.linked = false;
            if let Change::Upsert(Entry { path, kind: EntryKind::File { size }, .. }) = &change {
                self.linked = several;
                self.last = match place {
                    Some(place) => Last::Place(place, *size),
                    None => Last::Path(path.clone()),
                };
            }
            return Ok(Some(change));
        }
    }
}

impl Iterator for Changes {
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Result<Change>> {
        self.step().transpose()
    }
}

/// Knows under which name a file came first.
#[derive(Debug, Default)]
struct Namer(HashMap<u64, (PathBuf, u32)>);

impl Namer {
    /// The change that makes this file; an opaque directory is marked by another one.
    fn change(&mut self, node: Node) -> Change {
        let Node { path, kind, mode, uid, gid, mtime, xattrs, inode, .. } = node;
        let kind = match kind {
            NodeKind::Whiteout => return Change::Remove(path),
            NodeKind::File { size } => match inode.and_then(|inode| self.first_name(inode, &path)) {
                Some(target) => EntryKind::Hardlink { target },
                None => EntryKind::File { size },
            },
            NodeKind::Directory { .. } => EntryKind::Directory,
            NodeKind::Symlink { target } => EntryKind::Symlink { target },
            NodeKind::CharDevice { major, minor } => EntryKind::CharDevice { major, minor },
            NodeKind::BlockDevice { major, minor } => EntryKind::BlockDevice { major, minor },
            NodeKind::Fifo => EntryKind::Fifo,
        };
        Change::Upsert(Entry { path, kind, mode, uid, gid, mtime, xattrs })
    }

    /// The name that the file came under before, if it did.
    fn first_name(&mut self, inode: Inode, path: &Path) -> Option<PathBuf> {
        match self.0.entry(inode.number) {
            Known::Vacant(new) => {
                new.insert((path.to_owned(), inode.names.saturating_sub(1)));
                None
            }
            Known::Occupied(mut known) => {
                let left = &mut known.get_mut().1;
                *left = left.saturating_sub(1);
                Some(if *left == 0 { known.remove().0 } else { known.get().0.clone() })
            }
        }
    }
}

impl Layers<'_> {
    /// What the layer changes.
    ///
    /// # Errors
    /// `Missing`, `NotLocal`, or the disk fails.
    pub fn changes(&self, id: &LayerId) -> Result<Changes> {
        let (layer, path) = (self.local(id)?, self.path(id));
        if layer.form == Form::Erofs {
            let file = self.open_file(&layer)?;
            let nodes = file.check_metadata().and_then(|()| file.nodes());
            let nodes = nodes.map_err(|error| self.damaged(&layer, error))?;
            return Ok(Changes::of_file(path, file.file, nodes, tree::is_kept));
        }
        let nodes = Nodes::new(&path, self.0.0.options.overlay_xattrs)?;
        let root = tree::open_root(&path)?;
        Ok(Changes::of_directory(path, root, nodes))
    }
}
