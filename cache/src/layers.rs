//! What are root file systems made of?
//!
//! A root file system is an ordered list of [`LayerId`]s, lowest first; a layer knows nothing about what lies below
//! it. Its content is `layers-v1/<id>`: a directory in the form the kernel's overlay wants as a lower directory
//! (whiteouts are character devices 0/0, opaque directories carry an extended attribute), or a file that is mounted
//! as such a directory. [`Form`] says which.
//!
//! ```text
//!            register_remote                 import (verified against the diff ID)
//!  registry ────────────────► Form::Remote ───────────────────────────────────────► Form::Erofs, or Directory
//!            prepare           ActiveSnapshot            commit (tree digest)
//!  parents  ────────────────► ingest/snapshot-*/upper ────────────────────────────► Form::Directory
//!              build             LayerBuilder             commit (digest of what passed)
//!  changes  ────────────────► ingest/layer-*/upper ───────────────────────────────► Form::Erofs, or Directory
//!                                                                                         │ cannot be mounted here
//!                                                                                         └──► Form::Directory
//! ```
//!
//! - What is in `layers-v1/` belongs to a layer only if the layer's row says so: it is renamed into place and the row is
//!   written in one write transaction. Anything else there is garbage. One exception: a file where the row says
//!   [`Form::Directory`] is the layer if its header has the layer's diff ID. Somebody died while making a directory of it.
//! - A layer never changes once it is in place, but for that form.
//! - Only what says that the content is not the layer's makes it lost. What merely cannot be read now is an error.
//! - Nothing is flushed to disk when a layer is made. Until [`Layers::settle`] has done so, the layer is marked with
//!   the machine's boot id. If the machine has started anew since, a file is compared as a whole with its diff ID, and a
//!   directory that was built is hashed again, before it is used; a directory that was pulled is pulled again.

mod active;
mod attributes;
mod builder;
mod changes;
mod content;
mod error;
mod export;
mod file;
mod form;
mod import;
mod layer;
mod room;
mod rows;
mod sealing;
mod settle;
pub(crate) mod tree;
mod unpack;

use std::path::{Path, PathBuf};

use rbuild_core::{Algorithm, Digest};
use rbuild_image::Descriptor;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::error::{Context, StoreError};
use crate::meta::Table;
use crate::prune::condemned;
use crate::store::{self, Store};

pub use active::ActiveSnapshot;
pub use builder::{FileContent, FormerLayer, LayerBuilder};
pub use changes::Changes;
pub(crate) use content::make_upper;
pub use error::LayerError;
pub use export::TarOptions;
pub(crate) use file::FileStamp;
pub use form::{FormHere, LayerForm, LayerFormError, ReadErofs};
pub use layer::{Form, Layer, LayerId, LayerIdError, LayerKind};
pub(crate) use room::Room;
use rows::known_or;
pub(crate) use rows::{find, list, put, remove};
pub(crate) use sealing::Left;
pub use sealing::Unsealed;

pub(crate) const LAYERS: Table<Layer> = Table::new(b'l', "layer");
/// Diff ID → the layer that has it.
pub(crate) const DIFF_IDS: Table<LayerId> = Table::new(b'f', "diff ID");
/// Layers not flushed to disk yet → the boot id of the machine when they were written, and the time.
pub(crate) const UNSETTLED: Table<(String, u64)> = Table::new(b't', "unsettled layer");
/// The kernel's limit on the layers of one overlay (`OVL_MAX_STACK`, 500), less one for what a sandbox puts below them.
pub const MAX_LAYERS: usize = 499;

type Result<T, E = LayerError> = std::result::Result<T, E>;

/// The layers of a [`Store`].
#[derive(Clone, Copy, Debug)]
pub struct Layers<'a>(pub(crate) &'a Store);

impl Layers<'_> {
    /// What is known about the layer, if it can be used.
    ///
    /// # Errors
    /// Only if the disk or the metadata fails.
    pub fn find(&self, id: &LayerId) -> Result<Option<Layer>> {
        let (layer, doubt) = self.0.0.meta.read(|reader| {
            let layer = find(reader, id)?;
            let doubt = layer.is_some()
                && reader.find(&UNSETTLED, id.as_bytes())?.is_some_and(|(boot, _)| boot != store::boot());
            Ok::<_, StoreError>((layer, doubt))
        })?;
        let Some(layer) = layer else { return Ok(None) };
        self.0.note_use(b'l', id.as_bytes(), Some(layer.last_used));
        if doubt { self.recover(layer) } else { Ok(Some(layer)) }
    }

    /// Whether there are layers that were not flushed to disk before the machine was started anew. Who finds such a layer
    /// first reads all of it.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub fn are_in_doubt(&self) -> Result<bool, StoreError> {
        let marks = self.0.0.meta.read(|reader| reader.list(&UNSETTLED, b""))?;
        Ok(marks.iter().any(|(_, (boot, _))| boot != store::boot()))
    }

    /// As [`Layers::find`], where the layer must exist.
    ///
    /// # Errors
    /// `Missing`, or the disk or the metadata fails.
    pub fn read(&self, id: &LayerId) -> Result<Layer> {
        self.find(id)?.ok_or_else(|| LayerError::Missing(id.clone()))
    }

    /// The layer whose plain tar has this digest.
    ///
    /// # Errors
    /// Only if the disk or the metadata fails.
    pub fn find_by_diff_id(&self, diff_id: &Digest) -> Result<Option<Layer>> {
        let found = self.0.0.meta.read(|reader| {
            let id = reader.find(&DIFF_IDS, diff_id.as_bytes())?;
            id.map(|id| Ok::<_, StoreError>((condemned::is_layer_condemned(reader, &id)?, id))).transpose()
        })?;
        let Some((condemned, id)) = found else { return Ok(None) };
        if condemned {
            self.0.0.meta.write(|writer| condemned::spare_layer(writer, &id))?;
        }
        self.find(&id)
    }

    /// All layers, in the order of their ids.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub fn list(&self) -> Result<Vec<Layer>> {
        Ok(self.0.0.meta.read(list)?)
    }

    /// Whether [`Layers::find`] would find it.
    pub(crate) fn is_usable(&self, id: &LayerId) -> Result<bool, StoreError> {
        match self.find(id) {
            Ok(layer) => Ok(layer.is_some()),
            Err(LayerError::Store(error)) => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// Makes a layer known that an image at a registry has. `descriptor` is its blob there, `source` the repository as
    /// `host/name`. If a layer with this diff ID is known already, only what is new about it is added.
    ///
    /// # Errors
    /// `NotADiffId`, or the metadata cannot be written.
    pub fn register_remote(&self, diff_id: &Digest, descriptor: &Descriptor, source: &str) -> Result<LayerId> {
        let made = self.of_diff_id(diff_id)?;
        self.0.0.meta.write(|writer| {
            let mut layer = known_or(writer, diff_id, made)?;
            add_blob(&mut layer, descriptor);
            if !layer.sources.iter().any(|known| known == source) {
                layer.sources.push(source.to_owned());
            }
            put(writer, &layer)?;
            Ok(layer.id)
        })
    }

    /// Remembers a compressed form of the layer.
    ///
    /// # Errors
    /// `Missing`, or the metadata cannot be written.
    pub fn add_blob(&self, id: &LayerId, descriptor: &Descriptor) -> Result<()> {
        self.update(id, |layer| add_blob(layer, descriptor))
    }

    /// Remembers a repository that has the layer's blobs: it was just pushed there.
    ///
    /// # Errors
    /// `Missing`, or the metadata cannot be written.
    pub fn add_source(&self, id: &LayerId, source: &str) -> Result<()> {
        self.update(id, |layer| {
            if !layer.sources.iter().any(|known| known == source) {
                layer.sources.push(source.to_owned());
            }
        })
    }

    /// A writable root file system on top of `parents`, lowest first.
    ///
    /// # Errors
    /// `Missing`, `NotLocal`, `TooMany`, or the disk fails.
    pub fn prepare(&self, parents: &[LayerId]) -> Result<ActiveSnapshot> {
        // First: what is in hand now stays where it can be found.
        let held = parents.iter().filter_map(|id| self.left(id)).collect();
        let snapshot = ActiveSnapshot::new(self.0, self.lower(parents)?, held)?;
        self.settle_in_background();
        Ok(snapshot)
    }

    pub(crate) fn path(&self, id: &LayerId) -> PathBuf {
        self.0.root().join("layers-v1").join(id.as_str())
    }

    /// Moves `source`, complete, into place and makes it the content of `layer`. Returns the layer as it is now: if
    /// another process was faster, `source` stays where it is.
    fn publish(&self, source: &Path, layer: Layer) -> Result<Layer> {
        let target = self.path(&layer.id);
        self.publish_as(source, layer, |known| match known.form {
            Form::Directory => target.is_dir(),
            Form::Erofs => FileStamp::at(&target).ok().is_some_and(|stamp| known.file == Some(stamp)),
            Form::Remote => false,
        })
    }

    /// As [`Layers::publish`], unless `suffices` says of the layer as it is known that nothing is to be done.
    fn publish_as(&self, source: &Path, layer: Layer, suffices: impl Fn(&Layer) -> bool) -> Result<Layer> {
        let target = self.path(&layer.id);
        self.0.0.meta.write(|writer| {
            let known = writer.find(&LAYERS, layer.id.as_bytes())?;
            if let Some(known) = &known
                && suffices(known)
            {
                condemned::spare_layer(writer, &layer.id)?;
                return Ok(known.clone());
            }
            let mut layer = match known {
                Some(known) => Layer { blobs: known.blobs, sources: known.sources, ..layer },
                None => layer,
            };
            rename(self.0, source, &target)?;
            // After the renaming, which counts as a change.
            layer.file = if layer.form == Form::Erofs { Some(FileStamp::at(&target)?) } else { None };
            writer.put(&UNSETTLED, layer.id.as_bytes(), &(store::boot().to_owned(), store::now()))?;
            put(writer, &layer)?;
            Ok(layer)
        })
    }

    fn of_diff_id(&self, diff_id: &Digest) -> Result<Layer> {
        if diff_id.algorithm() != Algorithm::Sha256 {
            return Err(LayerError::NotADiffId(*diff_id));
        }
        Ok(Layer {
            id: LayerId::of_diff_id(diff_id),
            identity: *diff_id,
            diff_id: Some(*diff_id),
            size: None,
            form: Form::Remote,
            file: None,
            kind: LayerKind::Image,
            blobs: Vec::new(),
            sources: Vec::new(),
            entries: 0,
            disk_bytes: 0,
            created: store::now(),
            last_used: 0,
        })
    }

    fn update(&self, id: &LayerId, change: impl FnOnce(&mut Layer)) -> Result<()> {
        self.0.0.meta.write(|writer| {
            let mut layer = writer.find(&LAYERS, id.as_bytes())?.ok_or_else(|| LayerError::Missing(id.clone()))?;
            change(&mut layer);
            Ok(put(writer, &layer)?)
        })
    }
}

fn add_blob(layer: &mut Layer, descriptor: &Descriptor) {
    if !layer.blobs.iter().any(|known| known.digest == descriptor.digest) {
        layer.blobs.push(Descriptor::new(descriptor.media_type.clone(), descriptor.digest, descriptor.size));
    }
}

/// Renames a directory or file to a place where, if anything, only garbage is, which is there until it is replaced.
fn rename(store: &Store, source: &Path, target: &Path) -> Result<(), StoreError> {
    loop {
        match rustix::fs::rename(source, target) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR | Errno::ISDIR) => {}
            Err(error) => return Err(error).context("create", target),
        }
        match renameat_with(CWD, source, CWD, target, RenameFlags::EXCHANGE) {
            Ok(()) => {
                // What came back, which is garbage where it is now, too.
                drop(store.0.aside.discard(source));
                return Ok(());
            }
            // Somebody took it away.
            Err(Errno::NOENT) => {}
            // A file system that cannot exchange: who comes in between finds nothing.
            Err(Errno::INVAL | Errno::NOSYS) => drop(store.0.aside.discard(target)?),
            // Moving a directory rewrites its `..`, see `Aside::discard`.
            Err(Errno::ACCESS) => drop(store.0.aside.discard(target)?),
            Err(error) => return Err(error).context("create", target),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn made_before_a_restart(store: &Store, id: &LayerId) {
        store.0.meta.write(|writer| writer.put(&UNSETTLED, id.as_bytes(), &("another boot".into(), 1))).unwrap();
    }

    #[test]
    fn after_a_restart_unflushed_layers_are_hashed_before_they_are_trusted() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let make = |content: &str| {
            let snapshot = store.layers().prepare(&[]).unwrap();
            fs::write(snapshot.upper().join("file"), content).unwrap();
            snapshot.commit(LayerKind::Run).unwrap().id
        };
        let (whole, torn, settled) = (make("whole"), make("torn"), make("settled"));
        store.layers().settle().unwrap();
        made_before_a_restart(&store, &whole);
        made_before_a_restart(&store, &torn);
        for (id, left) in [(&torn, ""), (&settled, "damaged later")] {
            fs::write(store.layers().path(id).join("file"), left).unwrap();
        }
        assert!(store.layers().find(&whole).unwrap().is_some());
        assert!(store.layers().find(&torn).unwrap().is_none());
        assert!(store.layers().find(&settled).unwrap().is_some(), "the disk is trusted once it was flushed");
        assert!(!store.layers().path(&torn).exists());
        let marks = store.0.meta.read(|reader| reader.list(&UNSETTLED, b"")).unwrap();
        assert_eq!(marks, []);
    }

    #[test]
    fn after_a_restart_an_unflushed_pulled_layer_is_pulled_again() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let tar = [0; 1024];
        let diff_id = rbuild_image::sha256(&tar);
        let blob = Descriptor::new("application/x-tar", diff_id, 1024);
        let id = store.layers().register_remote(&diff_id, &blob, "example.com/a").unwrap();
        store.layers().import(&diff_id, &mut &tar[..]).unwrap();
        made_before_a_restart(&store, &id);
        assert_eq!(store.layers().read(&id).unwrap().form, Form::Remote);
        store.layers().import(&diff_id, &mut &tar[..]).unwrap();
        assert_eq!(store.layers().read(&id).unwrap().form, Form::Directory);
    }

    #[test]
    fn a_layer_whose_directory_vanished_is_imported_again() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let tar = [0; 1024];
        let diff_id = rbuild_image::sha256(&tar);
        let id = store.layers().import(&diff_id, &mut &tar[..]).unwrap().id;
        fs::remove_dir(store.layers().path(&id)).unwrap();
        store.layers().import(&diff_id, &mut &tar[..]).unwrap();
        assert!(store.layers().lower(&[id]).is_ok());
    }

    /// A store with a layer that is a file, and its tar.
    fn with_file() -> (tempfile::TempDir, Store, Layer) {
        let root = tempfile::tempdir().unwrap();
        let read_erofs: ReadErofs = |_, _| Ok(b"layers can be files\n".to_vec());
        let options = store::StoreOptions {
            layers: LayerForm::Erofs,
            read_erofs: Some(read_erofs),
            ..store::StoreOptions::default()
        };
        let store = Store::open_with(root.path(), options).unwrap();
        let tar = [0; 1024];
        let layer = store.layers().import(&rbuild_image::sha256(&tar), &mut &tar[..]).unwrap();
        (root, store, layer)
    }

    #[test]
    fn dying_while_a_file_becomes_a_directory_loses_nothing() {
        let (_root, store, layer) = with_file();
        let half = Layer { form: Form::Directory, file: None, ..layer.clone() };
        for boot in [store::boot(), "another boot"] {
            store
                .0
                .meta
                .write(|writer| {
                    writer.put(&UNSETTLED, half.id.as_bytes(), &(boot.to_owned(), 1))?;
                    put(writer, &half)
                })
                .unwrap();
            assert_eq!(store.layers().find_intact(&layer.id).unwrap().unwrap().form, Form::Erofs);
            assert!(store.layers().changes(&layer.id).is_ok());
        }
    }

    #[test]
    fn who_knew_a_file_uses_the_directory_that_it_became() {
        let (_root, store, before) = with_file();
        let file = rbuild_core::Lower::Erofs(store.layers().path(&before.id));
        store.layers().unpack_file(&before.id).unwrap();
        assert_eq!(store.layers().read(&before.id).unwrap().form, Form::Directory);
        assert!(store.layers().directory(&before.id).unwrap().is_dir());
        assert_eq!(store.layers().intact_or_lost(before.clone()).unwrap().unwrap().form, Form::Directory);
        let upper = store.root().join("upper");
        make_upper(&upper, Some(&file)).unwrap();
        for place in ["ingest", "layers-v1"] {
            let count = fs::read_dir(store.root().join(place)).unwrap().count();
            assert_eq!(count, usize::from(place == "layers-v1"), "{place}");
        }
    }

    #[test]
    fn a_foreign_tar_outlives_the_file_that_had_it() {
        let (_root, store, layer) = with_file();
        let sent = |store: &Store| store.layers().write_tar(&layer.id, TarOptions::default(), std::io::sink());
        assert!(store.layers().read(&layer.id).unwrap().blobs.is_empty());
        store.layers().unpack_file(&layer.id).unwrap();
        assert_eq!(store.layers().read(&layer.id).unwrap().blobs.len(), 1);
        assert_eq!(Some(sent(&store).unwrap().diff_id), layer.diff_id);
        // What can be pulled again needs no copy here.
        let (_root, store, layer) = with_file();
        store.layers().add_source(&layer.id, "example.com/a").unwrap();
        store.layers().unpack_file(&layer.id).unwrap();
        assert!(store.layers().read(&layer.id).unwrap().blobs.is_empty());
    }

    #[test]
    fn what_is_replaced_is_there_until_then() {
        let (_root, store, layer) = with_file();
        let target = store.layers().path(&layer.id);
        let new = store.root().join("ingest/new");
        fs::create_dir(&new).unwrap();
        // Nothing can be moved there.
        fs::remove_dir_all(store.root().join("trash")).unwrap();
        rename(&store, &new, &target).unwrap();
        assert!(target.is_dir() && new.is_file());
    }
}
