//! Is a layer's content there, is it what it was, and how does an overlay get it?
//!
//! What is not as it was is lost: the row is changed so that the layer is built or pulled again, and nobody is given
//! what is left of it.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rbuild_core::{Lower, Mount, MountKind};
use rustix::fs::{AtFlags, CWD, Gid, Mode, Uid};
use rustix::io::Errno;

use super::file::{FileStamp, LayerFile};
use super::{
    Form, LAYERS, Layer, LayerError, LayerId, LayerKind, Layers, MAX_LAYERS, Result, UNSETTLED, put, remove, tree,
};
use crate::error::{Context, StoreError};
use crate::store;

impl Layers<'_> {
    /// As [`Layers::find`], and looks whether the content is still what it was: if not, the layer is as if it had never
    /// been local. For whoever is going to use the content.
    ///
    /// # Errors
    /// Only if the disk or the metadata fails.
    pub fn find_intact(&self, id: &LayerId) -> Result<Option<Layer>> {
        match self.find(id)? {
            Some(layer) if layer.form.is_local() => self.intact_or_lost(layer),
            other => Ok(other),
        }
    }

    /// The layer, or what is left of it.
    pub(super) fn intact_or_lost(&self, layer: Layer) -> Result<Option<Layer>> {
        if self.is_intact(&layer)? {
            return Ok(Some(layer));
        }
        match self.lose(layer)? {
            // It has another form meanwhile.
            Some(now) if now.form.is_local() && !self.is_intact(&now)? => self.lose(now),
            other => Ok(other),
        }
    }

    /// A read-only root file system of `parents`, lowest first.
    ///
    /// # Errors
    /// As [`Layers::prepare`].
    pub fn view(&self, parents: &[LayerId]) -> Result<Mount> {
        let lower = self.lower(parents)?;
        Ok(Mount { target: "/".into(), kind: MountKind::Overlay { lower, upper: None }, read_only: true })
    }

    /// `layers`, which come lowest first, as the kernel's overlay wants them: topmost first, and each once. One that comes
    /// again further down would show nothing that it does not show further up.
    ///
    /// # Errors
    /// As [`Layers::prepare`].
    pub fn lower(&self, layers: &[LayerId]) -> Result<Vec<Lower>> {
        let mut seen = HashSet::new();
        let each: Vec<&LayerId> = layers.iter().rev().filter(|id| seen.insert(*id)).collect();
        if each.len() > MAX_LAYERS {
            return Err(LayerError::TooMany(each.len()));
        }
        each.into_iter().map(|id| self.mountable(id)).collect()
    }

    /// The directory of a layer that was made as one.
    ///
    /// # Errors
    /// `Missing`, `NotLocal`, `NotADirectory`, or the disk fails.
    pub fn directory(&self, id: &LayerId) -> Result<PathBuf> {
        match self.local(id)?.form {
            Form::Directory => Ok(self.path(id)),
            Form::Erofs | Form::Remote => Err(LayerError::NotADirectory(id.clone())),
        }
    }

    fn mountable(&self, id: &LayerId) -> Result<Lower> {
        if let Some(unsealed) = self.left(id) {
            return Ok(Lower::Directory(unsealed.path()));
        }
        match self.local(id)?.form {
            Form::Erofs if self.convert_if_needed(id)? => Ok(Lower::Erofs(self.path(id))),
            _ => Ok(Lower::Directory(self.path(id))),
        }
    }

    /// A layer whose content must be there.
    pub(super) fn local(&self, id: &LayerId) -> Result<Layer> {
        let layer = self.read(id)?;
        if !layer.form.is_local() {
            return Err(LayerError::NotLocal(id.clone()));
        }
        // If it is not there, say so once, and build it again next time.
        let left = self.intact_or_lost(layer)?.filter(|layer| layer.form.is_local());
        left.ok_or_else(|| LayerError::NotLocal(id.clone()))
    }

    /// The file of a layer that is one. A file that cannot be used is given up.
    pub(super) fn open_file(&self, layer: &Layer) -> Result<LayerFile> {
        self.open_right(layer).map_err(|error| self.damaged(layer, error))
    }

    /// The file of the layer, which says that it is this layer's.
    fn open_right(&self, layer: &Layer) -> io::Result<LayerFile> {
        let file = LayerFile::open(&self.path(&layer.id))?;
        if layer.diff_id == Some(file.header.diff_id) {
            Ok(file)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the file is another layer's"))
        }
    }

    /// What to say about a layer whose file cannot be read. It is given up only if the file is why.
    pub(super) fn damaged(&self, layer: &Layer, error: io::Error) -> LayerError {
        if !is_damage(&error) {
            return StoreError::io("read", self.path(&layer.id), error).into();
        }
        tracing::warn!(layer = %layer.id, %error, "damaged");
        match self.lose(layer.clone()) {
            Ok(_) => LayerError::NotLocal(layer.id.clone()),
            Err(error) => error,
        }
    }

    /// Whether the content is there, and, of a file, nobody changed it. Costs one system call but the first time.
    fn is_intact(&self, layer: &Layer) -> Result<bool> {
        let path = self.path(&layer.id);
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error) if is_damage(&error) => return Ok(false),
            Err(error) => return Err(StoreError::io("read", path, error).into()),
        };
        match layer.form {
            Form::Remote => Ok(false),
            Form::Directory => Ok(found.is_dir()),
            Form::Erofs if !found.is_file() => Ok(false),
            Form::Erofs => {
                let stamp = FileStamp::of(&found);
                let key = (layer.id.clone(), stamp);
                let mut checked = self.0.0.checked.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if layer.file == Some(stamp) && checked.contains(&key) {
                    return Ok(true);
                }
                let right = self.open_right(layer).and_then(|file| match layer.file == Some(stamp) {
                    true => file.check_metadata(),
                    false => file.check(),
                });
                match right {
                    Ok(()) => {}
                    Err(error) if is_damage(&error) => {
                        tracing::warn!(layer = %layer.id, %error, "damaged");
                        return Ok(false);
                    }
                    Err(error) => return Err(StoreError::io("read", path, error).into()),
                }
                if layer.file != Some(stamp) {
                    self.stamp(layer, stamp)?;
                }
                checked.insert(key);
                Ok(true)
            }
        }
    }

    /// Remembers what a file looks like that was compared as a whole.
    fn stamp(&self, layer: &Layer, stamp: FileStamp) -> Result<()> {
        self.0.0.meta.write(|writer| {
            if let Some(known) = writer.find(&LAYERS, layer.id.as_bytes())?
                && known.file == layer.file
            {
                put(writer, &Layer { file: Some(stamp), ..known })?;
            }
            Ok(())
        })
    }

    /// Decides about a layer that was not flushed to disk before the machine was started anew.
    pub(super) fn recover(&self, layer: Layer) -> Result<Option<Layer>> {
        let path = self.path(&layer.id);
        let intact = match layer.form {
            Form::Erofs => match self.open_right(&layer).and_then(|file| file.check()) {
                Ok(()) => true,
                Err(error) if is_damage(&error) => false,
                Err(error) => return Err(StoreError::io("read", path, error).into()),
            },
            _ if layer.kind == LayerKind::Image => false,
            _ => match tree::digest(&path, self.0.0.options.overlay_xattrs) {
                Ok(tree) => tree.identity == layer.identity,
                Err(LayerError::Store(StoreError::Io { source, .. })) if is_damage(&source) => false,
                Err(LayerError::Redirect { .. }) => false,
                Err(error) => return Err(error),
            },
        };
        if intact {
            self.0.0.meta.write(|writer| writer.delete(&UNSETTLED, layer.id.as_bytes()))?;
            return Ok(Some(layer));
        }
        tracing::warn!(layer = %layer.id, "not trusted after a restart of the machine");
        self.lose(layer)
    }

    /// Gives up a layer's content. What can be pulled again stays known.
    pub(super) fn lose(&self, layer: Layer) -> Result<Option<Layer>> {
        let path = self.path(&layer.id);
        let kept = self.0.0.meta.write(|writer| {
            let Some(known) = writer.find(&LAYERS, layer.id.as_bytes())? else { return Ok(None) };
            let mark = writer.find(&UNSETTLED, known.id.as_bytes())?;
            let doubt = mark.is_some_and(|(boot, _)| boot != store::boot());
            let same = (known.form, known.file) == (layer.form, layer.file);
            // Whoever was to make a directory of it died before.
            if known.form == Form::Directory {
                match self.open_right(&known) {
                    Ok(_) => {
                        let file = Layer { form: Form::Erofs, ..known };
                        put(writer, &file)?;
                        return Ok(Some(file));
                    }
                    Err(error) if is_damage(&error) => {}
                    Err(error) => return Err(StoreError::io("read", &path, error).into()),
                }
            }
            let others = !same || known.form == Form::Directory && path.is_dir() && !doubt;
            if !known.form.is_local() || others {
                // Somebody else was faster, and may have made it again.
                return Ok(Some(known));
            }
            if known.blobs.is_empty() {
                remove(writer, &known)?;
                return Ok(None);
            }
            let remote = Layer { form: Form::Remote, file: None, entries: 0, disk_bytes: 0, ..known };
            writer.delete(&UNSETTLED, remote.id.as_bytes())?;
            put(writer, &remote)?;
            Ok::<_, LayerError>(Some(remote))
        })?;
        // After its row, see `Store::sweep`.
        self.0.discard_directories(std::slice::from_ref(&layer.id))?;
        Ok(kept)
    }
}

/// Whether reading failed because of what is there. Everything else, such as too many open files, or a disk that does not
/// answer, says nothing about it, and may be over soon.
fn is_damage(error: &io::Error) -> bool {
    let kinds = [
        io::ErrorKind::InvalidData,
        io::ErrorKind::UnexpectedEof,
        io::ErrorKind::NotFound,
        io::ErrorKind::NotADirectory,
        io::ErrorKind::IsADirectory,
    ];
    kinds.contains(&error.kind()) || Errno::from_io_error(error) == Some(Errno::LOOP)
}

/// Makes the directory that becomes the top of an overlay. The overlay takes its root's owner and mode from there, so
/// they are copied from the `topmost` layer below.
pub(crate) fn make_upper(path: &Path, topmost: Option<&Lower>) -> Result<(), StoreError> {
    rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)).context("create", path)?;
    let (mode, uid, gid) = match topmost {
        None => return rustix::fs::chmod(path, Mode::from_raw_mode(0o755)).context("change the mode of", path),
        Some(Lower::Directory(below) | Lower::Mounted(below)) => {
            let stat = rustix::fs::stat(below).context("read", below)?;
            (stat.st_mode, stat.st_uid, stat.st_gid)
        }
        Some(Lower::Erofs(file)) => match LayerFile::open(file) {
            // It was made one after somebody was told that it is a file.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                let stat = rustix::fs::stat(file).context("read", file)?;
                (stat.st_mode, stat.st_uid, stat.st_gid)
            }
            other => other.context("read", file)?.header.root,
        },
    };
    let made = rustix::fs::stat(path).context("read", path)?;
    if (uid, gid) != (made.st_uid, made.st_gid) {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .context("change the owner of", path)?;
    }
    rustix::fs::chmod(path, Mode::from_raw_mode(mode & 0o7777)).context("change the mode of", path)
}
