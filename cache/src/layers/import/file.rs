//! How does a tar become a layer that is a file?
//!
//! It is written as it comes, and read on the way for what the metadata have to say. If they cannot say it, the tar is
//! all there, and is unpacked.

use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rbuild_core::Digest;
use rbuild_image::erofs::{ErofsNode, ErofsTree, TAR_OFFSET};
use rbuild_image::{Change, Compression, Entry, EntryKind, LayerReader};

use super::super::attributes::Attributes;
use super::super::file::{self, FileStamp, Incomplete, LayerFile, Part};
use super::super::room::Guest;
use super::super::{
    Changes, FileContent, Form, LAYERS, Layer, LayerError, LayerId, LayerKind, Layers, Result, UNSETTLED, put, rename,
};
use super::{Chunks, Unpacked, read_hashed};
use crate::aside::Working;
use crate::error::Context;
use crate::scratch::nameless_file;
use crate::store;

/// A tar in a file.
struct Spooled {
    working: Working,
    digest: Digest,
    size: u64,
    /// What is in it and how many changes that are, unless it has to be unpacked.
    tree: Option<(ErofsTree, u64)>,
    /// As long as the tree is there.
    guest: Guest,
}

impl Layers<'_> {
    /// Imports `tar` as a file, or unpacks it if it cannot be one.
    pub(super) fn import_file(&self, diff_id: &Digest, tar: &mut (dyn Read + Send)) -> Result<Layer> {
        let Spooled { working, digest, size, tree, guest } = self.spool(tar)?;
        if digest != *diff_id {
            return Err(LayerError::DiffId { expected: *diff_id, found: digest });
        }
        let file = working.handle();
        let Some((tree, entries)) = tree else {
            drop(guest);
            return self.import_directory(diff_id, &mut Part::new(file, TAR_OFFSET, size));
        };
        match file::complete(file, tree, size, digest, None) {
            Ok(()) => {}
            Err(Incomplete::Undescribable(reason)) => {
                tracing::info!(%diff_id, %reason, "unpacked");
                drop(guest);
                return self.import_directory(diff_id, &mut Part::new(file, TAR_OFFSET, size));
            }
            Err(Incomplete::Disk(error)) => return Err(error).context("write", working.path()).map_err(Into::into),
        }
        drop(guest);
        let disk_bytes = file.metadata().context("read", working.path())?.len().next_multiple_of(4096);
        let layer = self.known_as(diff_id)?;
        let layer = Layer { form: Form::Erofs, size: Some(size), entries, disk_bytes, ..layer };
        // Dropping `working` discards it if another process was faster.
        self.publish(working.path(), layer)
    }

    /// Makes a layer of the files in `tar`, whose own bytes are of no interest.
    pub(super) fn adopt_file(&self, tar: &mut (dyn Read + Send)) -> Result<Layer> {
        let Spooled { working, digest, size, tree, guest } = self.spool(tar)?;
        let file = working.handle();
        let completed = match tree {
            Some((tree, _)) => file::complete(file, tree, size, digest, None),
            None => {
                drop(guest);
                return self.adopt_directory(&mut Part::new(file, TAR_OFFSET, size));
            }
        };
        // The layer made of it wants the room, too.
        drop(guest);
        match completed {
            Ok(()) => {}
            Err(Incomplete::Undescribable(_)) => return self.adopt_directory(&mut Part::new(file, TAR_OFFSET, size)),
            Err(Incomplete::Disk(error)) => return Err(error).context("write", working.path()).map_err(Into::into),
        }
        let made = LayerFile::open(working.path()).context("read", working.path())?;
        let mut builder = self.build()?;
        if let Some(root) = made.nodes().context("read", working.path())?.next() {
            let ErofsNode { path, mode, uid, gid, mtime, xattrs, .. } = root.context("read", working.path())?;
            let root = Entry { path, kind: EntryKind::Directory, mode, uid, gid, mtime, xattrs };
            builder.append(&Change::Upsert(root), FileContent::empty())?;
        }
        let nodes = made.nodes().context("read", working.path())?;
        let mut changes = Changes::of_file(working.path().to_owned(), made.file, nodes, |_| true);
        while let Some(change) = changes.next() {
            let change = change?;
            let Change::Upsert(Entry { kind: EntryKind::File { .. }, .. }) = change else {
                builder.append(&change, FileContent::empty())?;
                continue;
            };
            let mut content = changes.content()?;
            let content = FileContent::reader(&mut content);
            builder.append(&change, if changes.is_linked() { content.linked() } else { content })?;
        }
        builder.commit(LayerKind::Files)
    }

    fn spool(&self, tar: &mut (dyn Read + Send)) -> Result<Spooled> {
        let working = self.0.0.aside.make_file("layer")?;
        let mut described = None;
        let mut guest = Guest::of(&self.0.0.room);
        let (digest, size) = read_hashed(tar, |chunks| {
            let mut spool = Spool { chunks, file: working.handle(), at: TAR_OFFSET, failed: None };
            let tree = ErofsTree::with_file(nameless_file(working.path().parent().unwrap_or(working.path())));
            let read = describe(&mut spool, tree, &mut guest);
            // Whatever is in the tar, all of it is written, and hashed.
            let rest = io::copy(&mut spool, &mut io::sink());
            if let Some(error) = spool.failed {
                return Err(error).context("write", working.path()).map_err(Into::into);
            }
            rest.map_err(|error| LayerError::Tar(rbuild_image::LayerError::Read(error)))?;
            described = read?;
            Ok(())
        })?;
        Ok(Spooled { working, digest, size, tree: described, guest })
    }

    /// Makes a directory of a layer that is a file, which cannot be mounted here.
    pub(in super::super) fn unpack_file(&self, id: &LayerId) -> Result<()> {
        let layer = self.local(id)?;
        if layer.form != Form::Erofs {
            return Ok(());
        }
        let file = self.open_file(&layer)?;
        let working = self.0.0.aside.make_directory("layer")?;
        let Unpacked { digest, disk_bytes, .. } = self.unpack_new(&working, &mut file.tar())?;
        if digest != file.header.diff_id {
            let error = io::Error::new(io::ErrorKind::InvalidData, "the layer's file is damaged");
            return Err(self.damaged(&layer, error));
        }
        self.keep_tar(&layer, &mut file.tar())?;
        self.replace_file(id, working.path(), disk_bytes)
    }

    /// Keeps the bytes of a tar that somebody else wrote, and that cannot be had from anywhere again.
    fn keep_tar(&self, layer: &Layer, tar: &mut dyn Read) -> Result<()> {
        let content = self.0.content();
        let kept = layer.blobs.iter().any(|blob| content.contains(&blob.digest));
        if kept || layer.kind != LayerKind::Image || !layer.sources.is_empty() {
            return Ok(());
        }
        let mut blob = content.growing()?;
        let written = rbuild_image::compress_layer(tar, &mut blob, Compression::GZIP).map_err(LayerError::Write)?;
        blob.commit(&written.descriptor)?;
        self.add_blob(&layer.id, &written.descriptor)
    }

    /// Puts `directory`, complete, in the place of a layer's file. The row goes first: a file says itself whose it is, so
    /// who dies before the second transaction leaves one that is found to be a file again (`Layers::lose`).
    fn replace_file(&self, id: &LayerId, directory: &Path, disk_bytes: u64) -> Result<()> {
        let target = self.path(id);
        loop {
            let known = self.0.0.meta.write(|writer| {
                let Some(known) = writer.find(&LAYERS, id.as_bytes())? else { return Ok(None) };
                if known.form != Form::Erofs {
                    return Ok(Some(known.form));
                }
                writer.put(&UNSETTLED, id.as_bytes(), &(store::boot().to_owned(), store::now()))?;
                put(writer, &Layer { form: Form::Directory, file: None, disk_bytes, ..known })?;
                Ok::<_, LayerError>(Some(Form::Directory))
            })?;
            if known != Some(Form::Directory) {
                return Err(LayerError::NotLocal(id.clone()));
            }
            let done = self.0.0.meta.write(|writer| {
                let known = writer.find(&LAYERS, id.as_bytes())?;
                match known.map(|known| known.form) {
                    Some(Form::Directory) if target.is_dir() => Ok(true),
                    Some(Form::Directory) => rename(self.0, directory, &target).map(|()| true),
                    // Somebody took it for what a dead process left, or lost it.
                    _ => Ok::<_, crate::StoreError>(false),
                }
            })?;
            if done {
                return Ok(());
            }
        }
    }
}

impl Layers<'_> {
    /// Unpacks the tar in a file that did not become a layer's into an empty directory.
    /// `root` is what the tar does not say about that.
    pub(in super::super) fn unpack_tar_of(&self, file: &Path, size: u64, directory: &Path, root: &Entry) -> Result<()> {
        let file = std::fs::File::open(file).context("open", file)?;
        self.unpack_into(directory, &mut Part::new(file, TAR_OFFSET, size))?;
        let attributes = Attributes { root: directory.to_owned(), overlay: self.0.0.options.overlay_xattrs };
        attributes.apply_to_file(&std::fs::File::open(directory).context("open", directory)?, root)
    }
}

/// What is in a tar, put into an empty tree; `None` if metadata cannot say it.
fn describe(spool: &mut Spool<'_>, mut tree: ErofsTree, guest: &mut Guest) -> Result<Option<(ErofsTree, u64)>> {
    let mut reader = LayerReader::new(spool);
    let mut entries = 0;
    while let Some((change, _)) = reader.next().map_err(LayerError::Tar)? {
        entries += 1;
        if reader.is_sparse() {
            tracing::info!(reason = "a file has holes", "unpacked");
            return Ok(None);
        }
        if let Err(reason) = tree.apply(&change, reader.content_offset()) {
            tracing::info!(%reason, "unpacked");
            return Ok(None);
        }
        guest.hold(&tree);
    }
    if reader.has_dirty_padding() {
        // Who maps a file sees what follows its content up to the page's end.
        tracing::info!(reason = "something follows the content of a file", "unpacked");
        return Ok(None);
    }
    Ok(Some((tree, entries)))
}

/// Writes what is read.
struct Spool<'a> {
    chunks: &'a mut Chunks,
    file: &'a std::fs::File,
    at: u64,
    failed: Option<io::Error>,
}

impl Read for Spool<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.chunks.is_used_up() {
            let chunk = self.chunks.receive()?;
            if let Err(error) = self.file.write_all_at(chunk, self.at) {
                self.failed = Some(error);
                return Err(io::Error::other("the tar cannot be written"));
            }
            self.at += chunk.len() as u64;
        }
        self.chunks.read(buffer)
    }
}

impl FileStamp {
    /// What the file at `path` looks like now.
    pub(in super::super) fn at(path: &Path) -> Result<Self, crate::StoreError> {
        Ok(Self::of(&std::fs::symlink_metadata(path).context("read", path)?))
    }
}
