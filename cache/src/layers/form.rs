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

use super::{LayerError, Layers, Result};
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

const NAME: &str = "probe";
const CONTENT: &[u8] = b"layers can be files\n";

impl Layers<'_> {
    /// Whether a new layer becomes a file.
    pub(super) fn makes_files(&self) -> Result<bool> {
        match self.0.0.options.layers {
            LayerForm::Directory => Ok(false),
            LayerForm::Auto => Ok(self.can_mount_files().is_ok()),
            LayerForm::Erofs => self.can_mount_files().map(|()| true),
        }
    }

    /// Whether layers that are files can be used by this process.
    pub(super) fn can_mount_files(&self) -> Result<()> {
        let found = self.0.0.erofs.get_or_init(|| {
            probe(self.0).map_err(|error| {
                tracing::debug!(%error, "layers are directories");
                Arc::new(error)
            })
        });
        found.clone().map_err(LayerError::Unmountable)
    }
}

fn probe(store: &Store) -> Result<(), StoreError> {
    let refuse = |why: &'static str| {
        let reason = std::io::Error::new(std::io::ErrorKind::Unsupported, why);
        StoreError::io("mount files as layers in", store.root(), reason)
    };
    if store.0.options.overlay_xattrs == OverlayXattrs::User {
        return Err(refuse("only the machine's administrator can"));
    }
    let Some(read) = store.0.options.read_erofs else {
        return Err(refuse("the store was opened without a way to mount them"));
    };
    let image = store.0.aside.make_file("probe")?;
    write_image(image.handle()).context("write", image.path())?;
    let found = read(image.path(), Path::new(NAME)).context("mount as a layer", image.path())?;
    if found == CONTENT { Ok(()) } else { Err(refuse("what the kernel reads out of one is not what is in it")) }
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
