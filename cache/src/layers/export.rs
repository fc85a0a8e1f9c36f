//! How does a layer become changes again, and a tar?
//!
//! A layer that is a file has its tar, whose bytes are copied. The tar of a directory is canonical: the same directory
//! gives the same bytes on every machine. If it came with an image, its tar was written by somebody else: its bytes come
//! from a compressed form in the content store if there is one, and otherwise the canonical tar is only accepted if it
//! happens to have the right diff ID.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rbuild_core::Digest;
use rbuild_image::erofs::TAR_OFFSET;
use rbuild_image::{Change, Compression, Entry, EntryKind, LayerWriter, Timestamp};

use super::file::Part;
use super::tree::{self, Node, NodeKind};
use super::{Form, Layer, LayerError, LayerId, Layers, Result};
use crate::error::{Context, StoreError};

/// The changes that a layer makes, and the content of its files.
#[derive(Debug)]
pub struct Changes {
    source: Source,
    path: PathBuf,
    changes: Vec<Change>,
}

#[derive(Debug)]
enum Source {
    Directory(OwnedFd),
    /// With the place of each change's content in the tar.
    File(File, Vec<u64>),
}

impl Changes {
    /// In canonical order: a directory before its entries, names of one directory by their bytes, the first name of a
    /// file before its hard links. The root directory itself is not among them, unless it is opaque.
    pub fn iter(&self) -> std::slice::Iter<'_, Change> {
        self.changes.iter()
    }

    /// Opens a regular file of the layer, without following symlinks in the last component.
    ///
    /// # Errors
    /// It is not there, or the disk fails.
    pub fn open(&self, path: &Path) -> Result<Box<dyn Read + '_>> {
        match &self.source {
            Source::Directory(root) => {
                let file = tree::open_file(root.as_fd(), path).context("open", self.path.join(path))?;
                Ok(Box::new(file))
            }
            Source::File(file, places) => {
                let found = self.changes.binary_search_by(|change| tree::canonical(change.path(), path)).ok();
                let entry = found.and_then(|index| match &self.changes[index] {
                    Change::Upsert(Entry { kind: EntryKind::File { size }, .. }) => Some((places[index], *size)),
                    _ => None,
                });
                let absent = || StoreError::io("open", self.path.join(path), io::Error::from(io::ErrorKind::NotFound));
                let (place, size) = entry.ok_or_else(absent)?;
                Ok(Box::new(Part::new(file, TAR_OFFSET + place, size)))
            }
        }
    }
}

impl<'a> IntoIterator for &'a Changes {
    type Item = &'a Change;
    type IntoIter = std::slice::Iter<'a, Change>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// How [`Layers::write_tar`] writes.
#[derive(Clone, Copy, Debug)]
pub struct TarOptions {
    /// What the tar goes through.
    pub compression: Compression,
    /// Later times become this one, in seconds since 1970 (`rewrite-timestamp`). The result is another layer.
    pub clamp: Option<i64>,
}

impl Default for TarOptions {
    fn default() -> Self {
        Self { compression: Compression::None, clamp: None }
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
            let nodes = file.nodes().map_err(|error| self.damaged(&layer, error))?;
            let nodes = nodes.into_iter().map(|node| Node::of_image(node, tree::is_kept)).collect();
            let (changes, places) = to_changes(nodes);
            return Ok(Changes { source: Source::File(file.file, places), path, changes });
        }
        let nodes = tree::scan(&path, self.0.0.options.overlay_xattrs)?;
        Ok(Changes { source: Source::Directory(tree::open_root(&path)?), path, changes: to_changes(nodes).0 })
    }

    /// Writes the layer as a tar and describes what was written. Without a clamp, the diff ID is remembered.
    ///
    /// # Errors
    /// `Missing`, `NotLocal`, `Foreign` if the bytes of a layer that came with an image cannot be had again, or
    /// reading or writing fails. What was written is then incomplete.
    pub fn write_tar(&self, id: &LayerId, options: TarOptions, out: impl Write) -> Result<rbuild_image::Layer> {
        let layer = self.read(id)?;
        if options.clamp.is_none() && layer.form == Form::Erofs {
            return self.copy_tar(&self.local(id)?, options.compression, out);
        }
        if options.clamp.is_none()
            && let Some(expected) = layer.diff_id
            && let Some(mut plain) = self.open_blob(&layer)?
        {
            let written =
                rbuild_image::compress_layer(&mut plain, out, options.compression).map_err(LayerError::Write)?;
            return if written.diff_id == expected { Ok(written) } else { Err(LayerError::Foreign(id.clone())) };
        }
        let changes = self.changes(id)?;
        let mut writer = LayerWriter::new(out, options.compression).map_err(LayerError::Write)?;
        for change in &changes {
            let clamped;
            let change = match (change, options.clamp) {
                (Change::Upsert(entry), Some(latest)) if entry.mtime > Timestamp::from_seconds(latest) => {
                    clamped = Change::Upsert(Entry { mtime: Timestamp::from_seconds(latest), ..entry.clone() });
                    &clamped
                }
                _ => change,
            };
            match change {
                Change::Upsert(Entry { path, kind: EntryKind::File { size: 1.. }, .. }) => {
                    writer.append(change, &mut changes.open(path)?)
                }
                _ => writer.append(change, &mut io::empty()),
            }
            .map_err(LayerError::Write)?;
        }
        let written = writer.finish().map_err(LayerError::Write)?;
        if options.clamp.is_none() {
            match layer.diff_id {
                Some(expected) if expected != written.diff_id => return Err(LayerError::Foreign(id.clone())),
                Some(_) if layer.size == Some(written.size) => {}
                _ => self.update(id, |layer| {
                    layer.diff_id = Some(written.diff_id);
                    layer.size = Some(written.size);
                })?,
            }
        }
        Ok(written)
    }

    /// The tar that is in the layer's file.
    fn copy_tar(&self, layer: &Layer, compression: Compression, out: impl Write) -> Result<rbuild_image::Layer> {
        let file = self.open_file(layer)?;
        let written = rbuild_image::compress_layer(&mut file.tar(), out, compression).map_err(LayerError::Write)?;
        if written.diff_id == file.header.diff_id {
            return Ok(written);
        }
        let error = io::Error::new(io::ErrorKind::InvalidData, "its tar has another digest");
        Err(self.damaged(layer, error))
    }

    /// The digest and length of the layer's plain tar, computed at most once.
    ///
    /// # Errors
    /// As [`Layers::write_tar`].
    pub fn describe(&self, id: &LayerId) -> Result<(Digest, u64)> {
        if let Layer { diff_id: Some(diff_id), size: Some(size), .. } = self.read(id)? {
            return Ok((diff_id, size));
        }
        let written = self.write_tar(id, TarOptions::default(), io::sink())?;
        Ok((written.diff_id, written.size))
    }

    /// The layer's plain tar, from a compressed form in the content store. Unverified: the reader compares the diff ID.
    ///
    /// # Errors
    /// The blob cannot be opened or is no compressed tar.
    pub fn open_blob(&self, layer: &Layer) -> Result<Option<impl Read + Send + use<>>> {
        for descriptor in &layer.blobs {
            if let Some(blob) = self.0.content().open(&descriptor.digest)? {
                let path = blob.path().to_owned();
                let plain = rbuild_image::archive::decompress(io::BufReader::new(blob)).context("decompress", path)?;
                return Ok(Some(plain));
            }
        }
        Ok(None)
    }

    /// Makes the layer's content local from a compressed form in the content store. `None` if there is none: then it
    /// has to be pulled first.
    ///
    /// # Errors
    /// As [`Layers::import`]. A blob that is not what it should be is removed.
    pub fn unpack(&self, id: &LayerId) -> Result<Option<Layer>> {
        let layer = self.read(id)?;
        let Some(diff_id) = layer.diff_id.filter(|_| layer.form == Form::Remote) else {
            return Ok(Some(layer).filter(|layer| layer.form.is_local()));
        };
        let Some(mut plain) = self.open_blob(&layer)? else { return Ok(None) };
        match self.import(&diff_id, &mut plain) {
            Err(error @ (LayerError::DiffId { .. } | LayerError::Tar(_))) => {
                for descriptor in &layer.blobs {
                    self.0.content().remove_damaged(&descriptor.digest)?;
                }
                Err(error)
            }
            other => other.map(Some),
        }
    }
}

/// The changes that make these nodes, and where the content of each begins.
pub(super) fn to_changes(nodes: Vec<Node>) -> (Vec<Change>, Vec<u64>) {
    let mut changes = Vec::with_capacity(nodes.len());
    let mut places = Vec::with_capacity(nodes.len());
    let mut first_names: HashMap<u64, PathBuf> = HashMap::new();
    for node in nodes {
        // For what has no content, and for the mark on a directory, which come before the next node, too.
        places.resize(changes.len(), 0);
        places.push(node.content.unwrap_or(0));
        let path = node.path;
        if path.as_os_str().is_empty() {
            if node.kind == (NodeKind::Directory { opaque: true }) {
                changes.push(Change::Opaque(path));
            }
            continue;
        }
        let mut opaque = false;
        let kind = match node.kind {
            NodeKind::Whiteout => {
                changes.push(Change::Remove(path));
                continue;
            }
            NodeKind::File { size } => match node.inode.map(|inode| first_names.entry(inode)) {
                Some(std::collections::hash_map::Entry::Occupied(first)) => {
                    EntryKind::Hardlink { target: first.get().clone() }
                }
                Some(std::collections::hash_map::Entry::Vacant(first)) => {
                    first.insert(path.clone());
                    EntryKind::File { size }
                }
                None => EntryKind::File { size },
            },
            NodeKind::Directory { opaque: is_opaque } => {
                opaque = is_opaque;
                EntryKind::Directory
            }
            NodeKind::Symlink { target } => EntryKind::Symlink { target },
            NodeKind::CharDevice { major, minor } => EntryKind::CharDevice { major, minor },
            NodeKind::BlockDevice { major, minor } => EntryKind::BlockDevice { major, minor },
            NodeKind::Fifo => EntryKind::Fifo,
        };
        let (mode, uid, gid, mtime, xattrs) = (node.mode, node.uid, node.gid, node.mtime, node.xattrs);
        changes.push(Change::Upsert(Entry { path: path.clone(), kind, mode, uid, gid, mtime, xattrs }));
        if opaque {
            changes.push(Change::Opaque(path));
        }
    }
    places.resize(changes.len(), 0);
    (changes, places)
}
