//! How is a root file system used as a layer while its digest is still being taken?
//!
//! [`ActiveSnapshot::leave`] gives its upper directory an id at once. From then on this process can put another snapshot
//! upon it ([`Layers::prepare`](super::Layers::prepare)); for everything else, and for all other processes, there is no such
//! layer until [`Unsealed::seal`] has hashed it, moved it into place and written its row, as
//! [`ActiveSnapshot::commit`] does. Dying in between leaves an entry of `ingest/` without an owner.
//!
//! ```text
//! leave         id ─► ingest/snapshot-*/upper                 known to this process
//! seal          id ─► layers-v1/<id>                          a layer
//!                     ingest/snapshot-*/upper is a symlink there, until nobody is about to mount it any more
//! ```
//!
//! The kernel's overlay holds on to directories, not to paths, so moving one that is mounted changes nothing. Only
//! between asking for its path and mounting it somebody needs the path: the directory and a symlink to where it goes
//! change places in one system call, so that there is no moment without.

use std::collections::HashMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::{Layer, LayerId, LayerKind, Layers, Result, UNSETTLED, put, tree};
use crate::aside::Working;
use crate::error::{Context, StoreError};
use crate::store::{self, Store};

/// Layers to be of this process, by their ids.
#[derive(Debug, Default)]
pub(crate) struct Left(Mutex<HashMap<LayerId, Weak<Inner>>>);

impl Left {
    fn lock(&self) -> MutexGuard<'_, HashMap<LayerId, Weak<Inner>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A directory that has an id and is no layer yet. Who prepares a snapshot upon it holds it, too, so that the path stays
/// good until that is mounted.
#[derive(Clone, Debug)]
#[must_use = "dropping the last one discards the directory, unless it was sealed"]
pub struct Unsealed(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    store: Store,
    working: Working,
    id: LayerId,
    kind: LayerKind,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.store.0.left.lock().remove(&self.id);
    }
}

impl Unsealed {
    pub(super) fn new(store: Store, working: Working, kind: LayerKind) -> Self {
        let id = LayerId::of_unsealed();
        let inner = Arc::new(Inner { store, working, id, kind });
        inner.store.0.left.lock().insert(inner.id.clone(), Arc::downgrade(&inner));
        Self(inner)
    }

    /// Where it lies, or a symlink to it.
    pub(super) fn path(&self) -> PathBuf {
        self.0.working.path().join("upper")
    }

    /// What the layer is called, now and later.
    pub fn id(&self) -> &LayerId {
        &self.0.id
    }

    /// Hashes the directory and makes it a layer. To be called once.
    ///
    /// # Errors
    /// `Redirect`, or the disk fails.
    pub fn seal(&self) -> Result<Layer> {
        let Inner { store, id, kind, .. } = &*self.0;
        let upper = self.path();
        let tree = tree::digest(&upper, store.0.options.overlay_xattrs)?;
        let layer = Layer::built(id.clone(), &tree, *kind);
        let target = store.layers().path(id);
        store.0.meta.write(|writer| {
            move_away(&upper, &target)?;
            writer.put(&UNSETTLED, id.as_bytes(), &(store::boot().to_owned(), store::now()))?;
            put(writer, &layer)
        })?;
        Ok(layer)
    }
}

/// Moves `upper` to `target`, where nothing is, and leaves a symlink to there.
fn move_away(upper: &Path, target: &Path) -> Result<(), StoreError> {
    // For a moment it leads to itself. A prune that met it would take it for garbage, but waits for this transaction.
    symlink(target, target).context("create", target)?;
    match renameat_with(CWD, upper, CWD, target, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        // A file system that cannot exchange: who comes in between finds nothing.
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::unlink(target).context("remove", target)?;
            rustix::fs::rename(upper, target).context("create", target)?;
            symlink(target, upper).context("create", upper)
        }
        Err(error) => Err(error).context("create", target),
    }
}

impl Layers<'_> {
    /// The layer to be of that id, if this process has it.
    pub(super) fn left(&self, id: &LayerId) -> Option<Unsealed> {
        self.0.0.left.lock().get(id)?.upgrade().map(Unsealed)
    }

    /// Whether the layer is one to be, in this process's hands.
    pub fn is_left(&self, id: &LayerId) -> bool {
        self.left(id).is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::Form;

    #[test]
    fn a_directory_is_usable_before_and_after_it_is_sealed() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let other = Store::open(root.path()).unwrap();
        let snapshot = store.layers().prepare(&[]).unwrap();
        fs::write(snapshot.upper().join("file"), "content").unwrap();
        let unsealed = snapshot.leave(LayerKind::Run);
        let id = unsealed.id().clone();
        assert!(store.layers().is_left(&id) && store.layers().find(&id).unwrap().is_none());
        assert!(other.layers().prepare(std::slice::from_ref(&id)).is_err(), "there is no such layer for others");

        let above = store.layers().prepare(std::slice::from_ref(&id)).unwrap();
        let at = match above.root_mount().kind {
            rbuild_core::MountKind::Overlay { lower, .. } => lower[0].path().to_owned(),
            other => panic!("{other:?}"),
        };
        let seen = || fs::read_to_string(at.join("file")).unwrap();
        assert_eq!(seen(), "content");
        let layer = unsealed.seal().unwrap();
        assert_eq!((layer.id.clone(), layer.entries, layer.form), (id.clone(), 1, Form::Directory));
        assert_eq!(seen(), "content", "a path that was given out stays good");
        assert!(other.layers().prepare(std::slice::from_ref(&id)).is_ok());
        drop(unsealed);
        assert_eq!(seen(), "content", "as long as who got it");
        drop(above);
        assert!(!store.layers().is_left(&id));
        store.reap().unwrap();
        assert_eq!(fs::read_to_string(store.layers().path(&id).join("file")).unwrap(), "content");
        assert_eq!(store.layers().lower(&[id]).unwrap().len(), 1);

        let same = store.layers().prepare(&[]).unwrap();
        fs::write(same.upper().join("file"), "content").unwrap();
        assert_eq!(same.commit(LayerKind::Run).unwrap().identity, layer.identity);
    }

    #[test]
    fn what_is_never_sealed_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let snapshot = store.layers().prepare(&[]).unwrap();
        fs::write(snapshot.upper().join("file"), "content").unwrap();
        let unsealed = snapshot.leave(LayerKind::Run);
        let id = unsealed.id().clone();
        drop(unsealed);
        store.reap().unwrap();
        assert!(store.layers().prepare(&[id]).is_err());
        let count = |name: &str| fs::read_dir(store.root().join(name)).unwrap().count();
        assert_eq!((count("ingest"), count("trash"), count("layers-v1")), (0, 0, 0));
    }

    #[test]
    fn a_prune_in_between_takes_nothing_away() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let _lease = store.lease("test").unwrap();
        let snapshot = store.layers().prepare(&[]).unwrap();
        fs::write(snapshot.upper().join("file"), "content").unwrap();
        let unsealed = snapshot.leave(LayerKind::Run);
        store.prune(&crate::PrunePolicy::default()).unwrap();
        unsealed.seal().unwrap();
        store.prune(&crate::PrunePolicy::default()).unwrap();
        let path = store.layers().path(unsealed.id());
        assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "content", "the lease may have seen it");
    }
}
