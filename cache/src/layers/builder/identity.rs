//! What is the tree digest of changes that pass by?

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use rbuild_core::{Digest, KeyHasher};
use rbuild_image::Entry;

use super::super::tree::{Node, NodeKind, hash_node, is_kept};
use super::root;

/// The digest of [`tree::digest`](super::super::tree::digest), as far as the changes have come.
pub(super) struct Identity {
    hasher: KeyHasher,
    /// A directory, until it is known whether it is opaque.
    pending: Option<Node>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Identity")
    }
}

impl Identity {
    pub(super) fn new() -> Self {
        let first = node(Path::new(""), NodeKind::Directory { opaque: false }, &root());
        Self { hasher: KeyHasher::new("tree/1"), pending: Some(first) }
    }

    /// Nothing else was added before.
    pub(super) fn root(&mut self, entry: &Entry) {
        self.pending = Some(node(Path::new(""), NodeKind::Directory { opaque: false }, entry));
    }

    /// `digest` is that of a file's content.
    pub(super) fn add(&mut self, path: &Path, kind: NodeKind, entry: &Entry, digest: Option<[u8; 32]>) {
        self.settle();
        let node = node(path, kind, entry);
        if matches!(node.kind, NodeKind::Directory { .. }) {
            self.pending = Some(node);
        } else {
            hash_node(&mut self.hasher, &node, digest.as_ref());
        }
    }

    /// The directory added last shows nothing of what lies below.
    pub(super) fn opaque(&mut self) {
        if let Some(Node { kind, .. }) = &mut self.pending {
            *kind = NodeKind::Directory { opaque: true };
        }
    }

    fn settle(&mut self) {
        if let Some(node) = self.pending.take() {
            hash_node(&mut self.hasher, &node, None);
        }
    }

    pub(super) fn finish(mut self) -> Digest {
        self.settle();
        self.hasher.finish()
    }
}

fn node(path: &Path, kind: NodeKind, entry: &Entry) -> Node {
    use std::os::unix::ffi::OsStrExt;
    let kept = |(name, _): &(&OsString, &Vec<u8>)| is_kept(name.as_bytes());
    let xattrs: BTreeMap<_, _> =
        entry.xattrs.iter().filter(kept).map(|(name, value)| (name.clone(), value.clone())).collect();
    let Entry { mode, uid, gid, mtime, .. } = *entry;
    Node {
        path: path.to_owned(),
        kind,
        mode: mode & 0o7777,
        uid,
        gid,
        mtime,
        xattrs,
        disk_bytes: 0,
        content: None,
        inode: None,
    }
}
