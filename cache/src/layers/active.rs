//! How does a build step get a root file system it may write to, and how does that become a layer?

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

use rbuild_core::{Digest, Lower, Mount, MountKind, OverlayUpper};

use super::{Form, Layer, LayerId, LayerKind, Result, Unsealed, make_upper, tree};
use crate::aside::Working;
use crate::error::Context;
use crate::store::Store;

/// A root file system being changed. Nothing is mounted: the caller mounts [`ActiveSnapshot::root_mount`], in a mount
/// namespace of its own, and is done with it before [`ActiveSnapshot::commit`].
#[derive(Debug)]
#[must_use = "dropping an active snapshot discards it"]
pub struct ActiveSnapshot {
    store: Store,
    working: Working,
    lower: Vec<Lower>,
    /// Those of the lower directories that may move.
    _held: Vec<Unsealed>,
}

impl ActiveSnapshot {
    pub(super) fn new(store: &Store, lower: Vec<Lower>, held: Vec<Unsealed>) -> Result<Self> {
        let working = store.0.aside.make_directory("snapshot")?;
        make_upper(&working.path().join("upper"), lower.first())?;
        for name in ["work", "scratch"] {
            let path = working.path().join(name);
            fs::create_dir(&path).context("create", &path)?;
        }
        Ok(Self { store: store.clone(), working, lower, _held: held })
    }

    /// The whole root file system, writable. The overlay must be mounted with `redirect_dir=off,metacopy=off` where
    /// those are not the defaults, and may be `volatile`.
    pub fn root_mount(&self) -> Mount {
        let upper = Some(OverlayUpper { upper: self.upper(), work: self.working.path().join("work") });
        let kind = MountKind::Overlay { lower: self.lower.clone(), upper };
        Mount { target: "/".into(), kind, read_only: false }
    }

    /// Where changes end up; what is here at [`ActiveSnapshot::commit`] is the layer. May also be written to directly,
    /// in the overlay's terms, while it is not mounted.
    pub fn upper(&self) -> PathBuf {
        self.working.path().join("upper")
    }

    /// A private directory on the same file system that never enters the layer.
    pub fn scratch(&self) -> PathBuf {
        self.working.path().join("scratch")
    }

    /// Whether nothing was made or removed. The root itself may have changed.
    ///
    /// # Errors
    /// The disk fails.
    pub fn is_empty(&self) -> Result<bool> {
        let upper = self.upper();
        Ok(fs::read_dir(&upper).context("read", &upper)?.next().is_none())
    }

    /// Makes the changes a layer: hashes them in one parallel pass, moves them into place, remembers them. If there are
    /// none, the layer may be one that this process made earlier.
    ///
    /// # Errors
    /// `Redirect`, or the disk fails. The snapshot is then discarded.
    pub fn commit(self, kind: LayerKind) -> Result<Layer> {
        let upper = self.upper();
        let tree = tree::digest(&upper, self.store.0.options.overlay_xattrs)?;
        let empty = tree.entries == 0;
        if empty && let Some(layer) = self.store.empty_layer(&tree.identity, kind)? {
            return Ok(layer);
        }
        let layer = Layer::built(LayerId::of_built(&tree.identity), &tree, kind);
        // What remains beside `upper` is discarded when `self` is dropped.
        let layer = self.store.layers().publish(&upper, layer)?;
        if empty {
            self.store.empty_layers().insert(layer.identity, layer.id.clone());
        }
        Ok(layer)
    }

    /// Gives it an id and leaves the hashing for later; other snapshots can be put upon it at once. It must not be mounted
    /// or written to any more.
    pub fn leave(self, kind: LayerKind) -> Unsealed {
        Unsealed::new(self.store, self.working, kind)
    }

    /// Where it lies, for messages.
    pub fn path(&self) -> &Path {
        self.working.path()
    }
}

impl Store {
    /// The layer of a step that, like this one, changed nothing. Most of what steps without changes cost is to write down
    /// yet another of them; and an overlay of fewer layers is mounted faster.
    fn empty_layer(&self, identity: &Digest, kind: LayerKind) -> Result<Option<Layer>> {
        let Some(id) = self.empty_layers().get(identity).cloned() else { return Ok(None) };
        let layer = self.layers().find_intact(&id)?;
        Ok(layer.filter(|layer| layer.form == Form::Directory && layer.kind == kind))
    }

    fn empty_layers(&self) -> MutexGuard<'_, HashMap<Digest, LayerId>> {
        self.0.empty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
