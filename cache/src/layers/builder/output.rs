//! Where do changes go?

use std::path::{Path, PathBuf};

use rbuild_image::{Change, Entry};

use super::directory::{Directory, Xattrs};
use super::file::TarFile;
use super::{Result, Source};

/// A layer in one of its forms, on the way.
#[derive(Debug)]
pub(super) enum Output {
    Directory(Directory),
    File(Box<TarFile>),
}

impl Output {
    pub(super) fn root(&mut self, entry: &Entry) -> Result<Xattrs> {
        match self {
            Self::Directory(directory) => directory.root(entry),
            Self::File(file) => Ok(file.root(entry)),
        }
    }

    pub(super) fn enter(&mut self, entry: &Entry) -> Result<Xattrs> {
        match self {
            Self::Directory(directory) => directory.enter(entry),
            Self::File(file) => file.other(entry),
        }
    }

    pub(super) fn leave(&mut self) -> Result<()> {
        match self {
            Self::Directory(directory) => directory.leave(),
            Self::File(_) => Ok(()),
        }
    }

    pub(super) fn opaque(&mut self, path: &Path) -> Result<()> {
        match self {
            Self::Directory(directory) => directory.opaque(path),
            Self::File(file) => file.mark(&Change::Opaque(path.to_owned())),
        }
    }

    pub(super) fn whiteout(&mut self, path: &Path) -> Result<()> {
        match self {
            Self::Directory(directory) => directory.whiteout(path),
            Self::File(file) => file.mark(&Change::Remove(path.to_owned())),
        }
    }

    pub(super) fn file(
        &mut self,
        entry: &Entry,
        source: Source<'_>,
        digest: Option<[u8; 32]>,
    ) -> Result<(Xattrs, [u8; 32])> {
        match self {
            Self::Directory(directory) => directory.file(entry, source, digest),
            Self::File(file) => file.file(entry, source, digest),
        }
    }

    /// Another name of `first`, which is as it came to be.
    pub(super) fn link(&mut self, path: &Path, first: &Entry) -> Result<()> {
        match self {
            Self::Directory(directory) => directory.link(path, &first.path),
            Self::File(file) => file.link(path, first),
        }
    }

    pub(super) fn symlink(&mut self, entry: &Entry, target: &Path) -> Result<()> {
        match self {
            Self::Directory(directory) => directory.symlink(entry, target),
            Self::File(file) => file.other(entry).map(drop),
        }
    }

    pub(super) fn special(&mut self, entry: &Entry) -> Result<()> {
        match self {
            Self::Directory(directory) => directory.special(entry),
            Self::File(file) => file.other(entry).map(drop),
        }
    }
}

/// The entry of a layer being built that becomes the layer.
pub(super) fn place(working: &Path) -> PathBuf {
    working.join("upper")
}
