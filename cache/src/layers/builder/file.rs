//! How do changes become one file?
//!
//! ```text
//! change, content ──► blake3 ──► tar, sha256 ──► file (another thread, once there is much)
//!        └──────────► what the metadata say ───► after the tar
//! ```
//!
//! If the metadata cannot say something, the tar is written nonetheless, and unpacked at the end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rbuild_core::Digest;
use rbuild_image::erofs::{ErofsTree, TAR_OFFSET, Undescribable, holds_attribute, holds_attributes};
use rbuild_image::{Change, Entry, EntryKind, LayerRewriter, PartDigest};
use rustix::io::Errno;

use super::super::file::{self, Incomplete};
use super::super::room::Guest;
use super::super::tree::is_kept;
use super::super::{LayerError, Result};
use super::Source;
use super::behind::Behind;
use super::directory::{Xattrs, failed};
use super::former::{FormerLayer, InLayer};
use super::large::{Failed, Large};
use crate::error::{Context, StoreError};
use crate::scratch::nameless_file;

/// Files of at least this size are read and written by threads of their own.
const LARGE: u64 = 4 << 20;

/// A file that changes are written to.
#[derive(Debug)]
pub(super) struct TarFile {
    path: PathBuf,
    file: Arc<File>,
    writer: LayerRewriter<Behind, InLayer>,
    former: Option<FormerLayer>,
    tree: Result<ErofsTree, Undescribable>,
    /// As long as the tree is there.
    guest: Guest,
    root: Entry,
}

/// What became of the changes.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) diff_id: Digest,
    pub(super) size: u64,
    pub(super) disk_bytes: u64,
    /// Whether it is a layer; if not, it has to be unpacked.
    pub(super) described: bool,
    /// What the tar does not say.
    pub(super) root: Entry,
}

impl TarFile {
    /// Makes the file, which must not be there.
    pub(super) fn new(path: PathBuf, former: Option<FormerLayer>, guest: Guest) -> Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(&path).context("create", &path)?;
        let file = Arc::new(file);
        let behind = Behind::new(Arc::clone(&file), TAR_OFFSET);
        let make = || nameless_file(path.parent().unwrap_or(&path));
        let writer = LayerRewriter::new(behind, former.as_ref().map(|former| Arc::clone(&former.0)), make());
        let tree = Ok(ErofsTree::with_file(make()));
        Ok(Self { path, file, writer, former, tree, guest, root: super::root() })
    }

    pub(super) fn root(&mut self, entry: &Entry) -> Xattrs {
        let (held, kept) = split(entry);
        // Not in the tar: nobody's root directory is.
        self.root = entry.clone();
        self.describe(&Change::Upsert(Entry { xattrs: held, ..entry.clone() }), 0);
        kept
    }

    /// Anything but a file and a hard link.
    pub(super) fn other(&mut self, entry: &Entry) -> Result<Xattrs> {
        if entry.kind == (EntryKind::CharDevice { major: 0, minor: 0 }) {
            // To the overlay it would be a whiteout.
            return Err(failed("make the device", &entry.path, Errno::PERM));
        }
        let (held, kept) = match entry.kind {
            EntryKind::Directory => split(entry),
            _ => (Xattrs::new(), Xattrs::new()),
        };
        let mode = if matches!(entry.kind, EntryKind::Symlink { .. }) { 0o777 } else { entry.mode };
        let change = Change::Upsert(Entry { xattrs: kept.clone(), mode, ..entry.clone() });
        self.append_without_content(&change)?;
        self.describe(&Change::Upsert(Entry { xattrs: held, ..entry.clone() }), 0);
        Ok(kept)
    }

    /// A whiteout, or the mark of an opaque directory.
    pub(super) fn mark(&mut self, change: &Change) -> Result<()> {
        self.append_without_content(change)?;
        self.describe(change, 0);
        Ok(())
    }

    /// Returns the attributes the file has and the digest of its content.
    pub(super) fn file(
        &mut self,
        entry: &Entry,
        source: Source<'_>,
        digest: Option<[u8; 32]>,
    ) -> Result<(Xattrs, [u8; 32])> {
        let EntryKind::File { size } = entry.kind else { unreachable!("only called for files") };
        let (held, kept) = split(entry);
        let change = Change::Upsert(Entry { xattrs: kept.clone(), ..entry.clone() });
        let (digest, content) = match source {
            Source::Former(found) => {
                let digest = digest.ok_or_else(|| LayerError::Write(io::ErrorKind::InvalidInput.into()))?;
                (digest, self.writer.repeat(found, size).map_err(|error| failed("write", &entry.path, error))?)
            }
            Source::Empty => self.bytes(&change, &[], size, digest)?,
            Source::Bytes(bytes) => self.bytes(&change, &bytes, size, digest)?,
            Source::Reader(reader) => self.stream(&change, reader, digest)?,
            Source::File(from) if size >= LARGE => self.large(&change, from, size, digest)?,
            Source::File(mut from) => self.stream(&change, &mut from, digest)?,
        };
        self.describe(&Change::Upsert(Entry { xattrs: held, ..entry.clone() }), content);
        Ok((kept, digest))
    }

    /// Another name of `first`.
    pub(super) fn link(&mut self, path: &Path, first: &Entry) -> Result<()> {
        let kind = EntryKind::Hardlink { target: first.path.clone() };
        let change = Change::Upsert(Entry { path: path.to_owned(), kind, ..first.clone() });
        self.mark(&change)
    }

    /// Completes the file.
    pub(super) fn finish(self) -> Result<(Finished, PathBuf)> {
        let (written, index, behind) = self.writer.finish().map_err(LayerError::Write)?;
        behind.finish().map_err(LayerError::Write)?;
        let completed = match self.tree {
            Ok(tree) => file::complete(&self.file, tree, written.size, written.diff_id, Some(&index)),
            Err(reason) => Err(Incomplete::Undescribable(reason)),
        };
        let described = match completed {
            Ok(()) => true,
            Err(Incomplete::Undescribable(reason)) => {
                tracing::info!(%reason, "unpacked");
                false
            }
            Err(Incomplete::Disk(error)) => return Err(StoreError::io("write", &self.path, error).into()),
        };
        let disk_bytes = self.file.metadata().context("read", &self.path)?.len().next_multiple_of(4096);
        let finished =
            Finished { diff_id: written.diff_id, size: written.size, disk_bytes, described, root: self.root };
        Ok((finished, self.path))
    }

    /// As if there had been something that metadata cannot say.
    #[cfg(test)]
    pub(super) fn give_up(&mut self) {
        self.tree = Err(Undescribable::Large);
    }

    fn describe(&mut self, change: &Change, content: u64) {
        let Ok(tree) = &mut self.tree else { return };
        match tree.apply(change, content) {
            Ok(()) => self.guest.hold(tree),
            Err(reason) => self.tree = Err(reason),
        }
    }

    fn bytes(
        &mut self,
        change: &Change,
        mut bytes: &[u8],
        size: u64,
        digest: Option<[u8; 32]>,
    ) -> Result<([u8; 32], u64)> {
        if bytes.len() as u64 != size {
            let source = io::ErrorKind::UnexpectedEof.into();
            return Err(LayerError::Source { path: change.path().to_owned(), source });
        }
        let digest = digest.unwrap_or_else(|| *blake3::hash(bytes).as_bytes());
        Ok((digest, self.append_named(change, &mut bytes, &digest)?))
    }

    /// What the former layer has need not be written from memory, so that runs of its tar stay whole.
    fn append_named(&mut self, change: &Change, content: &mut dyn Read, digest: &[u8; 32]) -> Result<u64> {
        let refused = |error| failed("write to a tar", change.path(), error);
        let part = PartDigest::of(change, digest).map_err(refused)?;
        if let Some(found) = self.former.as_ref().and_then(|former| former.0.find(&part)) {
            let size =
                if let Change::Upsert(Entry { kind: EntryKind::File { size }, .. }) = change { *size } else { 0 };
            return self.writer.repeat(found, size).map_err(|error| failed("write", change.path(), error));
        }
        let place = self.append(change, content)?;
        self.writer.name(part);
        Ok(place)
    }

    fn append_without_content(&mut self, change: &Change) -> Result<()> {
        self.append_named(change, &mut io::empty(), &[0; 32]).map(drop)
    }

    fn name(&mut self, change: &Change, digest: &[u8; 32]) -> Result<()> {
        self.writer
            .name(PartDigest::of(change, digest).map_err(|error| failed("write to a tar", change.path(), error))?);
        Ok(())
    }

    fn stream(&mut self, change: &Change, from: &mut dyn Read, digest: Option<[u8; 32]>) -> Result<([u8; 32], u64)> {
        let mut hasher = blake3::Hasher::new();
        let mut content = Hashing { from, hasher: digest.is_none().then_some(&mut hasher) };
        let place = self.append(change, &mut content)?;
        let digest = digest.unwrap_or_else(|| *hasher.finalize().as_bytes());
        self.name(change, &digest)?;
        Ok((digest, place))
    }

    fn large(
        &mut self,
        change: &Change,
        mut from: &File,
        size: u64,
        digest: Option<[u8; 32]>,
    ) -> Result<([u8; 32], u64)> {
        let unread = |source| LayerError::Source { path: change.path().to_owned(), source };
        let start = from.stream_position().map_err(unread)?;
        let to = Arc::clone(&self.file);
        let mut hasher = blake3::Hasher::new();
        let content = self.writer.append_placed(change, |out, see| {
            let large = Large { from, start, size, to: &to, at: out.at() };
            large.copy(digest.is_none().then_some(&mut hasher), see)?;
            Ok(out.pass(size)?)
        });
        let content = content.map_err(|error| match error {
            Failed::Read(source) => unread(source),
            Failed::Write(source) if source.kind() == io::ErrorKind::InvalidInput => {
                failed("write to a tar", change.path(), source)
            }
            Failed::Write(source) => failed("write", change.path(), source),
        })?;
        let digest = digest.unwrap_or_else(|| *hasher.finalize().as_bytes());
        self.name(change, &digest)?;
        Ok((digest, content))
    }

    /// Returns where the content begins.
    fn append(&mut self, change: &Change, content: &mut dyn Read) -> Result<u64> {
        let mut content = Noted { from: content, failed: None };
        let written = self.writer.append(change, &mut content);
        let path = || change.path().to_owned();
        match (written, content.failed) {
            (Err(_), Some(source)) => Err(LayerError::Source { path: path(), source }),
            (Err(source), None) if source.kind() == io::ErrorKind::UnexpectedEof => {
                Err(LayerError::Source { path: path(), source })
            }
            (Err(source), None) if source.kind() == io::ErrorKind::InvalidInput => {
                Err(failed("write to a tar", change.path(), source))
            }
            (Err(source), None) => Err(failed("write", change.path(), source)),
            (Ok(place), _) => Ok(place),
        }
    }
}

/// The attributes that a file system of this form holds, and those of them that belong to a layer.
fn split(entry: &Entry) -> (Xattrs, Xattrs) {
    let attribute = |(name, value): (&_, &Vec<u8>)| (std::ffi::OsString::clone(name), value.clone());
    let mut held: Xattrs =
        entry.xattrs.iter().filter(|(name, value)| holds_attribute(name, value)).map(attribute).collect();
    // As a directory does, which takes them in this order until one does not fit.
    if !holds_attributes(&held) {
        for (name, value) in std::mem::take(&mut held) {
            held.insert(name.clone(), value);
            if !holds_attributes(&held) {
                held.remove(&name);
            }
        }
    }
    let kept: BTreeMap<_, _> = held.iter().filter(|(name, _)| is_kept(name.as_bytes())).map(attribute).collect();
    (held, kept)
}

/// Tells errors of the input from those of the output.
struct Noted<'a> {
    from: &'a mut dyn Read,
    failed: Option<io::Error>,
}

impl Read for Noted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.from.read(buffer).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.failed = Some(error);
            }
            kind.into()
        })
    }
}

struct Hashing<'a> {
    from: &'a mut dyn Read,
    hasher: Option<&'a mut blake3::Hasher>,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        Ok(count)
    }
}
