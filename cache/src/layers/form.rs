//! In which form are layers made?
//!
//! As files, where the kernel can mount them. That is found out by doing it once in a process, with a tiny image in the
//! store itself: it depends on the kernel, the user, and the file system that the store is on.

use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use rbuild_image::erofs::{ErofsTree, SUPERBLOCK_OFFSET, TAR_OFFSET};
use rbuild_image::{Change, Compression, Entry, EntryKind, LayerWriter, Timestamp};
use rustix::io::Errno;

use super::{LayerError, LayerId, Layers, Result};
use crate::error::{Context, StoreError};
use crate::store::{OverlayXattrs, Store};

/// The form that new layers get, as far as it is up to us.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LayerForm {
    /// Files where the kernel can mount them, else directories.
    #[default]
    Auto,
    /// Files, or an error that says why not. A tar that no file can describe becomes a directory all the same.
    Erofs,
    /// Directories.
    Directory,
}

/// A text that is not a [`LayerForm`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is no form of layers: expected `auto`, `erofs` or `directory`")]
pub struct LayerFormError(String);

impl FromStr for LayerForm {
    type Err = LayerFormError;

    fn from_str(text: &str) -> Result<Self, LayerFormError> {
        match text {
            "auto" => Ok(Self::Auto),
            "erofs" => Ok(Self::Erofs),
            "directory" => Ok(Self::Directory),
            other => Err(LayerFormError(other.to_owned())),
        }
    }
}

/// Mounts an image as a layer and reads a file out of it: how this crate, which mounts nothing, asks the kernel.
pub type ReadErofs = fn(image: &Path, file: &Path) -> std::io::Result<Vec<u8>>;

/// What new layers are here.
#[derive(Clone, Debug)]
pub enum FormHere {
    /// Files.
    Files,
    /// Directories: as the options say, or because files cannot be mounted.
    Directories(Option<Arc<StoreError>>),
}

const NAME: &str = "probe";
const CONTENT: &[u8] = b"layers can be files\n";

impl Layers<'_> {
    /// In which form new layers are made, and why not as files.
    ///
    /// # Errors
    /// It cannot be tried now, or files are insisted on and cannot be mounted.
    pub fn form_here(&self) -> Result<FormHere> {
        match self.0.0.options.layers {
            LayerForm::Directory => Ok(FormHere::Directories(None)),
            form => match self.can_mount_files() {
                Ok(()) => Ok(FormHere::Files),
                Err(LayerError::Unmountable(error)) if form == LayerForm::Auto => {
                    Ok(FormHere::Directories(Some(error)))
                }
                Err(error) => Err(error),
            },
        }
    }

    /// Whether a new layer becomes a file.
    pub(super) fn makes_files(&self) -> Result<bool> {
        Ok(matches!(self.form_here()?, FormHere::Files))
    }

    /// Whether layers that are files can be used by this process. `Unmountable` is the answer no, and stays it; any other
    /// error says that nobody knows, and the next one asks again.
    pub(super) fn can_mount_files(&self) -> Result<()> {
        let known = &self.0.0.erofs;
        if known.get().is_none() {
            let refused = probe(self.0)?.map(Arc::new);
            if let Some(error) = &refused {
                tracing::debug!(%error, "layers are directories");
            }
            known.get_or_init(|| refused.map_or(Ok(()), Err));
        }
        known.get().map_or(Ok(()), Clone::clone).map_err(LayerError::Unmountable)
    }

    /// Makes a directory of a layer that is a file, if files cannot be mounted here; returns whether they can.
    pub(super) fn convert_if_needed(&self, id: &LayerId) -> Result<bool> {
        match self.can_mount_files() {
            Ok(()) => Ok(true),
            // The store comes from another machine, or the kernel is another one now. For all other users of the store it
            // becomes a directory, too, which is not what somebody wants who insists on files.
            Err(LayerError::Unmountable(error)) if self.0.0.options.layers != LayerForm::Erofs => {
                tracing::warn!(layer = %id, %error, "becomes a directory for good");
                self.unpack_file(id)?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// Tries it. `Some` says why not, an error that it could not be tried.
fn probe(store: &Store) -> Result<Option<StoreError>, StoreError> {
    let refuse = |why: &'static str| {
        let reason = std::io::Error::new(std::io::ErrorKind::Unsupported, why);
        Ok(Some(StoreError::io("mount files as layers in", store.root(), reason)))
    };
    if store.0.options.overlay_xattrs == OverlayXattrs::User {
        return refuse("only the machine's administrator can");
    }
    let Some(read) = store.0.options.read_erofs else {
        return refuse("the store was opened without a way to mount them");
    };
    let image = store.0.aside.make_file("probe")?;
    write_image(image.handle()).context("write", image.path())?;
    match read(image.path(), Path::new(NAME)) {
        Ok(found) if found == CONTENT => Ok(None),
        Ok(_) => refuse("what the kernel reads out of one is not what is in it"),
        Err(error) => {
            let refused = is_refusal(&error);
            let error = StoreError::io("mount as a layer", image.path(), error);
            if refused { Ok(Some(error)) } else { Err(error) }
        }
    }
}

/// Whether the kernel says that it does not do this at all, and not that it cannot now.
fn is_refusal(error: &std::io::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(errno) = error.downcast_ref().and_then(Errno::from_io_error) {
            let refusals = [Errno::NODEV, Errno::PERM, Errno::NOTBLK, Errno::OPNOTSUPP, Errno::INVAL, Errno::NOSYS];
            return refusals.contains(&errno);
        }
        cause = error.source();
    }
    false
}

fn write_image(file: &std::fs::File) -> std::io::Result<()> {
    let mut tree = ErofsTree::new();
    let entry = Entry {
        path: NAME.into(),
        kind: EntryKind::File { size: CONTENT.len() as u64 },
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Timestamp::default(),
        xattrs: std::collections::BTreeMap::new(),
    };
    let change = Change::Upsert(entry);
    let mut tar = LayerWriter::new(Vec::new(), Compression::None)?;
    let content = tar.append(&change, &mut &CONTENT[..])?;
    let (_, tar) = tar.finish_into()?;
    tree.apply(&change, content).map_err(std::io::Error::other)?;
    let metadata = tree.finish(tar.len() as u64).map_err(std::io::Error::other)?;
    file.write_all_at(&metadata.superblock(*b"layers as files?"), SUPERBLOCK_OFFSET)?;
    file.write_all_at(&tar, TAR_OFFSET)?;
    let mut out = BufWriter::new(super::file::At::new(file, metadata.offset()));
    metadata.write(&mut out)?;
    out.flush()
}
