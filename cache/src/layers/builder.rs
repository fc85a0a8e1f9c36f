//! How does a layer come into being from its changes, without being read again?
//!
//! ```text
//! Layers::build ──► LayerBuilder ──append(change, content)*──► commit ──► Layer
//!                        │  drop: discarded
//!                        ├─► tree digest of what passes by: that of `tree::digest`, read from nowhere
//!                        └─► ingest/layer-*/upper: a directory in the overlay's terms, or a file with tar and metadata
//! ```
//!
//! Changes come as a stream, in canonical order: a directory before its entries, names of one directory by their bytes,
//! the first name of a file before its other names. So nothing but the way to the current directory is held, and a
//! form that is one file, written from its beginning to its end, needs no more than this one.
//!
//! - The first change may be the root directory itself (the empty path); without one it belongs to root, mode 0755.
//!   Its owner and mode are those of the mounted root, and in the layer's identity, but not in its tar.
//! - Every directory on the way has a change of its own. What a layer only passes through has the metadata of the
//!   layers below, as if the overlay had copied it up.
//! - Attributes that do not belong to a layer (`tree::is_kept`) are set where the file system takes them, and are in
//!   neither digest nor tar.

mod behind;
mod directory;
mod file;
mod former;
mod identity;
mod large;
mod linked;
mod output;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rbuild_image::{Change, Entry, EntryKind, Found, Timestamp};

use self::directory::Directory;
use self::file::TarFile;
pub use self::former::FormerLayer;
use self::identity::Identity;
use self::linked::Linked;
use self::output::Output;
use super::room::Guest;
use super::tree::{self, NodeKind};
use super::{Form, Layer, LayerError, LayerId, LayerKind, Layers, Result};
use crate::aside::Working;
use crate::error::{Context, StoreError};
use crate::store::{self, Store};

/// What a file contains.
pub struct FileContent<'a> {
    source: Source<'a>,
    digest: Option<[u8; 32]>,
    linked: bool,
}

enum Source<'a> {
    Empty,
    Bytes(Vec<u8>),
    Reader(&'a mut (dyn Read + 'a)),
    File(&'a File),
    Former(Found),
}

impl std::fmt::Debug for FileContent<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match &self.source {
            Source::Empty => "empty",
            Source::Bytes(_) => "bytes",
            Source::Reader(_) => "reader",
            Source::File(_) => "file",
            Source::Former(_) => "former",
        };
        formatter.debug_tuple("FileContent").field(&kind).finish()
    }
}

impl<'a> FileContent<'a> {
    fn new(source: Source<'a>) -> Self {
        Self { source, digest: None, linked: false }
    }

    /// Nothing: for empty files, and for changes that are no files.
    pub fn empty() -> Self {
        Self::new(Source::Empty)
    }

    /// All of a small file.
    pub fn bytes(bytes: Vec<u8>) -> Self {
        Self::new(Source::Bytes(bytes))
    }

    /// What a reader gives next, up to the entry's size.
    pub fn reader(reader: &'a mut (dyn Read + 'a)) -> Self {
        Self::new(Source::Reader(reader))
    }

    /// What an open file has from where it stands, up to the entry's size. The kernel may copy it, or share its blocks.
    pub fn file(file: &'a File) -> Self {
        Self::new(Source::File(file))
    }

    /// What the former layer has that was given to [`Layers::build_like`]. The digest is the one that it was found by.
    pub fn former(found: Found, digest: [u8; 32]) -> Self {
        Self { digest: Some(digest), ..Self::new(Source::Former(found)) }
    }

    /// The blake3 of the content is known, and believed.
    pub fn with_digest(self, digest: [u8; 32]) -> Self {
        Self { digest: Some(digest), ..self }
    }

    /// Hard links to this file will follow.
    pub fn linked(self) -> Self {
        Self { linked: true, ..self }
    }
}

/// A layer that is being made of changes.
#[derive(Debug)]
#[must_use = "dropping a layer builder discards the layer"]
pub struct LayerBuilder {
    // Before `working`: its threads end before what they write is discarded.
    output: Output,
    identity: Identity,
    /// Files that other names may follow for.
    linked: Linked,
    /// The directories that the next change may be in, the root first.
    way: Vec<PathBuf>,
    last: Option<PathBuf>,
    entries: u64,
    disk_bytes: u64,
    working: Working,
    store: Store,
}

impl Layers<'_> {
    /// A new layer without changes yet.
    ///
    /// # Errors
    /// The disk fails.
    pub fn build(&self) -> Result<LayerBuilder> {
        self.build_like(None)
    }

    /// A new layer without changes yet, that will have much in common with another one.
    ///
    /// # Errors
    /// The disk fails.
    pub fn build_like(&self, former: Option<FormerLayer>) -> Result<LayerBuilder> {
        let files = self.makes_files()?;
        self.build_as(if files { Form::Erofs } else { Form::Directory }, former)
    }

    fn build_as(&self, form: Form, former: Option<FormerLayer>) -> Result<LayerBuilder> {
        let working = self.0.0.aside.make_directory("layer")?;
        let upper = output::place(working.path());
        let output = if form == Form::Erofs {
            Output::File(Box::new(TarFile::new(upper, former, Guest::of(&self.0.0.room))?))
        } else {
            std::fs::create_dir(&upper).context("create", &upper)?;
            Output::Directory(Directory::new(upper, self.0.0.options.overlay_xattrs)?)
        };
        self.settle_in_background();
        Ok(LayerBuilder {
            output,
            identity: Identity::new(),
            linked: Linked::default(),
            way: vec![PathBuf::new()],
            last: None,
            entries: 0,
            disk_bytes: 0,
            working,
            store: self.0.clone(),
        })
    }
}

impl LayerBuilder {
    /// A private directory that never enters the layer, on the same file system.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn scratch(&self) -> Result<PathBuf> {
        let path = self.working.path().join("scratch");
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(StoreError::io("create", &path, error).into())
            }
            _ => Ok(path),
        }
    }

    /// Adds one change. `content` is that of a regular file, of as many bytes as the entry says.
    ///
    /// # Errors
    /// `Order` or `Parent` if the change cannot come here, `Link` if a hard link leads to no file that was announced as
    /// linked, `Source` if the content cannot be read or is too short, `Change` if the file system refuses. An error
    /// may be about an earlier change: files are completed by other threads.
    pub fn append(&mut self, change: &Change, content: FileContent<'_>) -> Result<()> {
        let clamped;
        let change = match change {
            Change::Upsert(entry) if entry.mtime != entry.mtime.clamped() => {
                clamped = Change::Upsert(Entry { mtime: entry.mtime.clamped(), ..entry.clone() });
                &clamped
            }
            other => other,
        };
        self.step_to(change)?;
        let entry = match change {
            Change::Upsert(entry) => entry,
            Change::Remove(path) => {
                self.entries += 1;
                self.output.whiteout(path)?;
                self.identity.add(path, NodeKind::Whiteout, &Entry { path: path.clone(), ..root() }, None);
                return Ok(());
            }
            Change::Opaque(path) => {
                self.output.opaque(path)?;
                self.identity.opaque();
                return Ok(());
            }
        };
        if entry.path.as_os_str().is_empty() {
            let entry = Entry { xattrs: self.output.root(entry)?, ..entry.clone() };
            self.identity.root(&entry);
            return Ok(());
        }
        self.entries += 1;
        let path = &entry.path;
        let plain = |kind| (kind, Entry { xattrs: BTreeMap::new(), ..entry.clone() }, None);
        let (kind, seen, digest) = match &entry.kind {
            EntryKind::File { size } => {
                self.disk_bytes += size.next_multiple_of(4096);
                let FileContent { source, digest, linked } = content;
                let (xattrs, digest) = self.output.file(entry, source, digest)?;
                let seen = Entry { xattrs, ..entry.clone() };
                if linked {
                    self.linked.remember(&seen, digest);
                }
                (NodeKind::File { size: *size }, seen, Some(digest))
            }
            EntryKind::Directory => {
                self.disk_bytes += 4096;
                let xattrs = self.output.enter(entry)?;
                self.way.push(path.clone());
                (NodeKind::Directory { opaque: false }, Entry { xattrs, ..entry.clone() }, None)
            }
            EntryKind::Hardlink { target } => {
                let bad = || LayerError::Link { path: path.clone(), target: target.clone() };
                let (first, digest) = self.linked.find(target).ok_or_else(bad)?;
                self.output.link(path, &first)?;
                let EntryKind::File { size } = first.kind else { return Err(bad()) };
                (NodeKind::File { size }, first, Some(digest))
            }
            EntryKind::Symlink { target } => {
                self.output.symlink(entry, target)?;
                // A link's mode says nothing, and is this one everywhere.
                let (kind, seen, digest) = plain(NodeKind::Symlink { target: target.clone() });
                (kind, Entry { mode: 0o777, ..seen }, digest)
            }
            EntryKind::CharDevice { major, minor } => {
                self.output.special(entry)?;
                plain(NodeKind::CharDevice { major: *major, minor: *minor })
            }
            EntryKind::BlockDevice { major, minor } => {
                self.output.special(entry)?;
                plain(NodeKind::BlockDevice { major: *major, minor: *minor })
            }
            EntryKind::Fifo => {
                self.output.special(entry)?;
                plain(NodeKind::Fifo)
            }
        };
        self.identity.add(path, kind, &seen, digest);
        Ok(())
    }

    /// Checks that the change may come next, and leaves the directories that it is not in.
    fn step_to(&mut self, change: &Change) -> Result<()> {
        let path = change.path();
        let order = || LayerError::Order { path: path.to_owned() };
        if matches!(change, Change::Opaque(_)) {
            // Of the directory that was the last change; of the root if there was none.
            let last = self.last.as_deref().unwrap_or(Path::new(""));
            let is_last = last == path && self.way.last().is_some_and(|way| way == path);
            self.last = Some(path.to_owned());
            return if is_last { Ok(()) } else { Err(order()) };
        }
        let later = self.last.as_ref().is_none_or(|last| tree::canonical(last, path).is_lt());
        if !later || !is_clean(path) {
            return Err(order());
        }
        self.last = Some(path.to_owned());
        let Some(parent) = path.parent() else {
            let is_directory = matches!(change, Change::Upsert(Entry { kind: EntryKind::Directory, .. }));
            return if is_directory { Ok(()) } else { Err(LayerError::Parent { path: path.to_owned() }) };
        };
        while self.way.last().is_some_and(|way| way != parent) {
            self.way.pop();
            if self.way.is_empty() {
                return Err(LayerError::Parent { path: path.to_owned() });
            }
            self.output.leave()?;
        }
        Ok(())
    }

    /// Makes the changes a layer, moves it into place and remembers it.
    ///
    /// # Errors
    /// As [`LayerBuilder::append`], or the disk or the metadata fails. The layer is then discarded.
    pub fn commit(self, kind: LayerKind) -> Result<Layer> {
        let layers = self.store.layers();
        let upper = output::place(self.working.path());
        let (mut form, mut described, mut disk_bytes) = (Form::Directory, None, self.disk_bytes);
        match self.output {
            Output::Directory(mut directory) => directory.finish()?,
            Output::File(file) => {
                let (finished, path) = file.finish()?;
                described = Some((finished.diff_id, finished.size));
                if finished.described {
                    (form, disk_bytes) = (Form::Erofs, finished.disk_bytes);
                } else {
                    let aside = self.working.path().join("tar");
                    std::fs::rename(&path, &aside).context("rename", &path)?;
                    std::fs::create_dir(&upper).context("create", &upper)?;
                    layers.unpack_tar_of(&aside, finished.size, &upper, &finished.root)?;
                }
            }
        }
        let identity = self.identity.finish();
        let now = store::now();
        let layer = Layer {
            id: LayerId::of_built(&identity),
            identity,
            diff_id: described.map(|(diff_id, _)| diff_id),
            size: described.map(|(_, size)| size),
            form,
            file: None,
            kind,
            blobs: Vec::new(),
            sources: Vec::new(),
            entries: self.entries,
            disk_bytes,
            created: now,
            last_used: now,
        };
        // What remains beside `upper` is discarded when `self` is dropped.
        layers.publish(&upper, layer)
    }
}

/// What the root directory is if nobody says.
fn root() -> Entry {
    Entry {
        path: PathBuf::new(),
        kind: EntryKind::Directory,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: Timestamp { seconds: i64::try_from(store::now()).unwrap_or(i64::MAX), nanoseconds: 0 },
        xattrs: BTreeMap::new(),
    }
}

/// Whether a path is relative, without `.`, `..` or doubled slashes. The empty path is.
fn is_clean(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let bytes = path.as_os_str().as_bytes();
    bytes.is_empty() || bytes.split(|byte| *byte == b'/').all(|name| !matches!(name, b"" | b"." | b".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_metadata_cannot_say_becomes_a_directory_of_the_same_tree() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let entry = |path: &str, kind| {
            Change::Upsert(Entry {
                path: path.into(),
                kind,
                uid,
                gid,
                mode: 0o751,
                mtime: Timestamp::from_seconds(7),
                ..super::root()
            })
        };
        let [described, unpacked, directory] = [0, 1, 2].map(|case| {
            let form = if case == 2 { Form::Directory } else { Form::Erofs };
            let mut builder = store.layers().build_as(form, None).unwrap();
            let mut append = |change: Change, content: FileContent<'_>| builder.append(&change, content).unwrap();
            append(entry("", EntryKind::Directory), FileContent::empty());
            append(entry("d", EntryKind::Directory), FileContent::empty());
            append(entry("d/f", EntryKind::File { size: 3 }), FileContent::bytes(b"abc".to_vec()).linked());
            append(entry("e", EntryKind::Hardlink { target: "d/f".into() }), FileContent::empty());
            if let (1, Output::File(file)) = (case, &mut builder.output) {
                file.give_up();
            }
            builder.commit(LayerKind::Files).unwrap()
        });
        assert_eq!([described.form, unpacked.form], [Form::Erofs, Form::Directory]);
        assert_eq!([described.identity, unpacked.identity], [directory.identity; 2]);
        let place = |layer: &Layer| store.layers().path(&layer.id);
        let overlay = crate::OverlayXattrs::Trusted;
        assert_eq!(tree::digest(&place(&unpacked), overlay).unwrap().identity, directory.identity);
        assert_eq!(
            store.layers().describe(&directory.id).unwrap(),
            (described.diff_id.unwrap(), described.size.unwrap())
        );
        assert_eq!(std::fs::read_dir(root.path().join("ingest")).unwrap().count(), 0);
    }
}
