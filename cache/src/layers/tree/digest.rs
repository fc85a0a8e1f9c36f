//! What is the digest of a layer's directory?

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, Read};
use std::path::Path;

use rbuild_core::KeyHasher;

use super::super::{LayerError, Result};
use super::walk::{Place, Walk};
use super::{FEW, Inode, Node, NodeKind, Tree, check, hash_node, look_at, open_file, side_by_side};
use crate::error::StoreError;
use crate::store::OverlayXattrs;

/// Files of at least this size are hashed by several threads.
const BIG: u64 = 8 << 20;

/// Hashes everything in `root`. What comes next is listed meanwhile.
pub(crate) fn digest(root: &Path, overlay: OverlayXattrs) -> Result<Tree> {
    let mut walk = Walk::new(root)?;
    let mut files =
        Files { root, overlay, hasher: KeyHasher::new("tree/1"), linked: HashMap::new(), entries: 0, disk_bytes: 0 };
    let mut places = walk.batch()?;
    while !places.is_empty() {
        let (added, next) = match places.len() < FEW {
            true => (files.add(&places), walk.batch()),
            false => rayon::join(|| files.add(&places), || walk.batch()),
        };
        added?;
        places = next?;
    }
    let Files { hasher, entries, disk_bytes, .. } = files;
    // The root is none of the entries.
    Ok(Tree { identity: hasher.finish(), entries: entries.saturating_sub(1), disk_bytes })
}

/// The digest as far as the files have come.
struct Files<'a> {
    root: &'a Path,
    overlay: OverlayXattrs,
    hasher: KeyHasher,
    /// Files of which more names are to come: the digest of the content, and how many names.
    linked: HashMap<u64, ([u8; 32], u32)>,
    entries: u64,
    disk_bytes: u64,
}

/// A file, and the digest of its content unless it has several names.
type Looked = (Node, Option<[u8; 32]>);

impl Files<'_> {
    fn add(&mut self, places: &[Place]) -> Result<()> {
        let looked = side_by_side(places, |place| self.look(place));
        let looked = looked.into_iter().zip(places).filter_map(|(looked, place)| match looked {
            Ok(found) => found.map(|found| Ok((found, place))),
            Err(error) => Some(Err(error)),
        });
        let looked: Vec<(Looked, &Place)> = looked.collect::<Result<_>>()?;
        self.read_linked(looked.iter().map(|((node, _), place)| (node, *place)))?;
        for ((node, content), place) in &looked {
            check(node)?;
            self.entries += 1;
            let content = match node.inode {
                Some(inode) => {
                    let content = self.take(inode, node.disk_bytes);
                    // It has more names than it had a moment ago.
                    Some(content.ok_or_else(|| self.failed(place, io::ErrorKind::ResourceBusy.into()))?)
                }
                None => {
                    self.disk_bytes += node.disk_bytes;
                    *content
                }
            };
            hash_node(&mut self.hasher, node, content.as_ref());
        }
        Ok(())
    }

    fn look(&self, place: &Place) -> Result<Option<Looked>> {
        let node = look_at(place, self.overlay);
        let Some(node) = node.map_err(|error| self.failed(place, error.into()))? else { return Ok(None) };
        let content = match node {
            Node { kind: NodeKind::File { size }, inode: None, .. } => Some(self.read(place, size)?),
            _ => None,
        };
        Ok(Some((node, content)))
    }

    /// Reads files with several names, each under its first one.
    fn read_linked<'p>(&mut self, found: impl Iterator<Item = (&'p Node, &'p Place)>) -> Result<()> {
        let mut unread = Vec::new();
        for (node, place) in found {
            if let (NodeKind::File { size }, Some(Inode { number, names })) = (&node.kind, node.inode)
                && let Entry::Vacant(entry) = self.linked.entry(number)
            {
                entry.insert(([0; 32], names));
                unread.push((number, place, *size));
            }
        }
        let read = side_by_side(&unread, |(_, place, size)| self.read(place, *size));
        for ((number, ..), content) in unread.iter().zip(read) {
            let content = content?;
            self.linked.entry(*number).and_modify(|known| known.0 = content);
        }
        Ok(())
    }

    /// The content of a file one of whose names has come.
    fn take(&mut self, inode: Inode, disk_bytes: u64) -> Option<[u8; 32]> {
        let Entry::Occupied(mut known) = self.linked.entry(inode.number) else { return None };
        let (content, left) = known.get_mut();
        if *left == inode.names {
            self.disk_bytes += disk_bytes;
        }
        let content = *content;
        *left = left.saturating_sub(1);
        if *left == 0 {
            known.remove();
        }
        Some(content)
    }

    fn read(&self, place: &Place, size: u64) -> Result<[u8; 32]> {
        hash_file(place, size).map_err(|error| self.failed(place, error))
    }

    fn failed(&self, place: &Place, source: io::Error) -> LayerError {
        StoreError::io("read", self.root.join(place.path()), source).into()
    }
}

fn hash_file(place: &Place, size: u64) -> io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    if size > 0 {
        let mut file = open_file(place.directory(), Path::new(place.name()))?;
        let length = if size < BIG { usize::try_from(size + 1).unwrap_or(usize::MAX).min(128 << 10) } else { 4 << 20 };
        let mut buffer = vec![0; length];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) if size < BIG => hasher.update(&buffer[..count]),
                Ok(count) => hasher.update_rayon(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
        }
    }
    Ok(*hasher.finalize().as_bytes())
}
