//! How does `ADD` unpack an archive?
//!
//! As `tar -x` over what is there: directories are merged, anything else is replaced, owners, modes and times are the
//! archive's. Links on the way to an entry are followed inside the image; the entry's own name never is. Names that
//! begin with `.wh.` are names like any other here; no layer takes them.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::Path;

use rbuild_image::{Change, Entry, EntryKind, LayerError, LayerReader};
use rustix::fs::makedev;

use super::super::{Attributes, InnerPath, Kind, Root, Timestamp, resolve};
use super::CopyError;
use super::destination::{Destination, Member};
use super::owner::Ids;
use super::write::{Meta, Writer};

/// Unpacks a plain tar into an empty directory. Everything belongs to whoever runs this: in a build context it does
/// not count who owns a file. `name` is for messages. A tar without its end may lack files as well, so it is an error.
pub(crate) fn unpack_context(tar: impl Read, into: &Root, name: &InnerPath) -> Result<(), CopyError> {
    let owner = Ids::default();
    let parents = Meta { ids: owner, mode: 0o755, mtime: super::now() };
    let mut writer = Writer::new(into, parents);
    let mut unpacker =
        Unpacker { image: &mut writer, archive: name, into: &InnerPath::root(), owner: Some(owner), parents };
    if let Some(offset) = unpacker.unpack(LayerReader::literal(tar))? {
        return Err(CopyError::Archive { archive: name.clone(), source: LayerError::Truncated(offset) });
    }
    writer.finish()
}

/// Whether bytes that begin with a tar header are an archive to `ADD`: whether Go's archive/tar can read all that belongs to
/// the first entry's headers. Everything else is a file like any other, even if it was meant to be an archive.
///
/// # Errors
/// What the operating system returns for reading.
pub(super) fn is_archive(mut tar: impl Read) -> io::Result<bool> {
    let mut start = Vec::new();
    (&mut tar).take(512).read_to_end(&mut start)?;
    // To Go a global header is an entry.
    if start.get(156) == Some(&b'g') {
        return Ok(true);
    }
    let mut reader = LayerReader::literal(io::Cursor::new(start).chain(tar));
    match reader.next() {
        Ok(first) => Ok(first.is_some()),
        // That of a decoder says what is there.
        Err(LayerError::Read(error)) if error.raw_os_error().is_some() => Err(error),
        // They say something that cannot be done.
        Err(LayerError::Path(_) | LayerError::Target { .. } | LayerError::Kind { .. } | LayerError::Owner { .. }) => {
            Ok(true)
        }
        Err(_) => Ok(false),
    }
}

/// Unpacks a plain tar.
pub(crate) struct Unpacker<'a, D> {
    pub(crate) image: &'a mut D,
    /// Where the archive is, for messages.
    pub(crate) archive: &'a InnerPath,
    /// The directory it is unpacked into, links followed.
    pub(crate) into: &'a InnerPath,
    /// Whose everything becomes; the archive says if absent.
    pub(crate) owner: Option<Ids>,
    /// How directories are made that the archive does not have.
    pub(crate) parents: Meta,
}

/// The directory of the last entry, as the archive calls it; most entries share it with the next.
type Last<D> = Option<(InnerPath, <D as Destination>::Place)>;

impl<D: Destination> Unpacker<'_, D> {
    /// Where the tar was cut off, if it was, between two entries.
    pub(crate) fn unpack(&mut self, mut reader: LayerReader<impl Read>) -> Result<Option<u64>, CopyError> {
        let archive = self.archive;
        let damaged = |source| CopyError::Archive { archive: archive.clone(), source };
        let mut last = None;
        let mut buffer = vec![0; 128 * 1024];
        while let Some((change, offset)) = reader.next_at().map_err(damaged)? {
            // A literal reader has no removals, and `.` is the directory that is unpacked into.
            if let Change::Upsert(entry) = change
                && !entry.path.as_os_str().is_empty()
            {
                let offset = (!reader.is_sparse()).then_some(offset);
                let size = if let EntryKind::File { size } = entry.kind { size } else { 0 };
                let member = Member { size, offset, content: reader.content(), buffer: &mut buffer, archive };
                self.entry(&entry, member, &mut last)?;
            }
        }
        Ok((!reader.is_complete()).then(|| reader.content_offset()))
    }

    fn entry(&mut self, entry: &Entry, member: Member<'_>, last: &mut Last<D>) -> Result<(), CopyError> {
        let inner = InnerPath::new(&entry.path);
        let parent = inner.parent().unwrap_or_default();
        let place = match last.take() {
            Some((known, place)) if known == parent => place,
            _ => {
                let path = self.follow(&parent)?;
                self.image.directory(&path, self.parents)?
            }
        };
        let name = inner.name();
        let is_directory = entry.kind == EntryKind::Directory;
        let path = || self.image.path(&place).join(name);
        let there = self.image.node(&place, name).map_err(|source| CopyError::Read { path: path(), source })?;
        let replaces = there.is_some_and(|node| node.is_directory() != is_directory);
        if replaces {
            self.image.remove(&place, name)?;
        }
        self.write(entry, &place, name, member)?;
        // What follows may lead through what was just put there.
        if !replaces && !matches!(entry.kind, EntryKind::Symlink { .. }) {
            *last = Some((parent, place));
        }
        Ok(())
    }

    fn write(&mut self, entry: &Entry, place: &D::Place, name: &OsStr, member: Member<'_>) -> Result<(), CopyError> {
        let meta = Meta {
            ids: self.owner.unwrap_or(Ids { uid: entry.uid, gid: entry.gid }),
            mode: entry.mode,
            mtime: Timestamp { seconds: entry.mtime.seconds, nanoseconds: entry.mtime.nanoseconds },
        };
        let attributes = Attributes::kept_of(&entry.xattrs);
        let image = &mut *self.image;
        match &entry.kind {
            EntryKind::File { .. } => image.file(place, name, meta, attributes, member).map(drop),
            EntryKind::Directory => {
                let directory = image.subdirectory(place, name)?;
                image.set_attributes(&directory, &attributes)?;
                let path = image.path(&directory).clone();
                image.later(path, meta.into());
                Ok(())
            }
            EntryKind::Symlink { target } => image.symlink(place, name, target.as_os_str(), meta),
            EntryKind::Hardlink { target } => {
                let path = image.path(place).join(name);
                let target = self.link_target(target, &path)?;
                self.image.hard_link(place, name, &target)?;
                // The other name's header is the later one, so it counts.
                self.image.change(place, name, meta)
            }
            EntryKind::CharDevice { major, minor } => {
                image.special(place, name, Kind::CharacterDevice, makedev(*major, *minor), meta)
            }
            EntryKind::BlockDevice { major, minor } => {
                image.special(place, name, Kind::BlockDevice, makedev(*major, *minor), meta)
            }
            EntryKind::Fifo => image.special(place, name, Kind::Fifo, 0, meta),
        }
    }

    /// What a hard link links to: a file that is there and no directory.
    fn link_target(&self, target: &Path, path: &InnerPath) -> Result<InnerPath, CopyError> {
        let written = InnerPath::new(target);
        let full = self.follow(&written.parent().unwrap_or_default())?.join(written.name());
        let found = resolve(self.image.tree(), &full, false);
        match found {
            Ok(found) if found.node.as_ref().is_some_and(|node| !node.is_directory()) => Ok(found.path),
            _ => Err(CopyError::ArchiveLink { archive: self.archive.clone(), path: path.clone(), target: full }),
        }
    }

    /// The place of a directory that the archive names.
    fn follow(&self, directory: &InnerPath) -> Result<InnerPath, CopyError> {
        let path = self.into.join_path(directory);
        match resolve(self.image.tree(), &path, true) {
            Ok(found) => Ok(found.path),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(CopyError::NotADirectory { path }),
            Err(source) => Err(CopyError::Write { path, source }),
        }
    }
}
