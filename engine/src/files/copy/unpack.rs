//! How does `ADD` unpack an archive?
//!
//! As `tar -x` over what is there: directories are merged, anything else is replaced, owners, modes and times are the
//! archive's. Links on the way to an entry are followed inside the image; the entry's own name never is. Names that
//! begin with `.wh.` are names like any other.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::Path;

use rbuild_image::{Change, Entry, EntryKind, LayerError, LayerReader};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::makedev;

use super::super::root::node_at;
use super::super::{Attributes, InnerPath, Kind, Root, Timestamp, resolve};
use super::CopyError;
use super::owner::Ids;
use super::transfer::Tally;
use super::write::{Meta, Place, Writer, set_attributes, write_all};

/// Unpacks a plain tar into an empty directory. Everything belongs to whoever runs this: in a build context it does
/// not count who owns a file. `name` is for messages. A tar without its end may lack files as well, so it is an error.
pub(crate) fn unpack_context(tar: impl Read, into: &Root, name: &InnerPath) -> Result<(), CopyError> {
    let owner = Ids::default();
    let writer = Writer::new(into, Meta { ids: owner, mode: 0o755, mtime: super::now() });
    let unpacker = Unpacker {
        writer: &writer,
        archive: name,
        into: &InnerPath::root(),
        owner: Some(owner),
        tally: &Tally::default(),
        report: &|_| {},
    };
    if let Some(offset) = unpacker.unpack(tar)? {
        return Err(CopyError::Archive { archive: name.clone(), source: LayerError::Truncated(offset) });
    }
    writer.finish()
}

/// Unpacks a plain tar.
pub(crate) struct Unpacker<'a> {
    pub(crate) writer: &'a Writer<'a>,
    /// Where the archive is, for messages.
    pub(crate) archive: &'a InnerPath,
    /// The directory it is unpacked into, links followed.
    pub(crate) into: &'a InnerPath,
    /// Whose everything becomes; the archive says if absent.
    pub(crate) owner: Option<Ids>,
    pub(crate) tally: &'a Tally,
    pub(crate) report: &'a (dyn Fn(u64) + Sync),
}

/// The directory of the last entry, as the archive calls it; most entries share it with the next.
type Last = Option<(InnerPath, Place)>;

impl Unpacker<'_> {
    /// Where the tar was cut off, if it was, between two entries.
    pub(crate) fn unpack(&self, tar: impl Read) -> Result<Option<u64>, CopyError> {
        let damaged = |source| CopyError::Archive { archive: self.archive.clone(), source };
        let mut reader = LayerReader::literal(tar);
        let mut last = None;
        let mut buffer = vec![0; 128 * 1024];
        while let Some((change, content)) = reader.next().map_err(damaged)? {
            // A literal reader has no removals, and `.` is the directory that is unpacked into.
            if let Change::Upsert(entry) = change
                && !entry.path.as_os_str().is_empty()
            {
                self.entry(&entry, content, &mut last, &mut buffer)?;
            }
        }
        Ok((!reader.is_complete()).then(|| reader.content_offset()))
    }

    fn entry(
        &self,
        entry: &Entry,
        content: &mut dyn Read,
        last: &mut Last,
        buffer: &mut [u8],
    ) -> Result<(), CopyError> {
        let inner = InnerPath::new(&entry.path);
        let parent = inner.parent().unwrap_or_default();
        let place = match last.take() {
            Some((known, place)) if known == parent => place,
            _ => self.writer.directory(&self.follow(&parent)?, self.parents())?,
        };
        let name = inner.name();
        let is_directory = entry.kind == EntryKind::Directory;
        let there = node_at(place.directory.as_fd(), name)
            .map_err(|source| CopyError::Read { path: place.path.join(name), source })?;
        let replaces = there.is_some_and(|node| node.is_directory() != is_directory);
        if replaces {
            self.writer.remove(&place, name)?;
        }
        self.write(entry, &place, name, content, buffer)?;
        self.tally.add(0);
        // What follows may lead through what was just put there.
        if !replaces && !matches!(entry.kind, EntryKind::Symlink { .. }) {
            *last = Some((parent, place));
        }
        Ok(())
    }

    fn write(
        &self,
        entry: &Entry,
        place: &Place,
        name: &OsStr,
        content: &mut dyn Read,
        buffer: &mut [u8],
    ) -> Result<(), CopyError> {
        let meta = Meta {
            ids: self.owner.unwrap_or(Ids { uid: entry.uid, gid: entry.gid }),
            mode: entry.mode,
            mtime: Timestamp { seconds: entry.mtime.seconds, nanoseconds: entry.mtime.nanoseconds },
        };
        let attributes = Attributes::kept_of(&entry.xattrs);
        let special = |kind, device| self.writer.special(place, name, kind, device, meta);
        match &entry.kind {
            EntryKind::File { .. } => self.writer.file(place, name, meta, &attributes, |file| {
                self.fill(file, content, buffer, || place.path.join(name))
            }),
            EntryKind::Directory => {
                let (directory, _) = self.writer.subdirectory(place, name)?;
                set_attributes(directory.directory.as_fd(), &attributes);
                self.writer.later(directory.path, meta.into());
                Ok(())
            }
            EntryKind::Symlink { target } => self.writer.symlink(place, name, target.as_os_str(), meta),
            EntryKind::Hardlink { target } => {
                let target = self.link_target(target, &place.path.join(name))?;
                self.writer.hard_link(place, name, &target)?;
                // The other name's header is the later one, so it counts.
                self.writer.change(place, name, meta)
            }
            EntryKind::CharDevice { major, minor } => special(Kind::CharacterDevice, makedev(*major, *minor)),
            EntryKind::BlockDevice { major, minor } => special(Kind::BlockDevice, makedev(*major, *minor)),
            EntryKind::Fifo => special(Kind::Fifo, 0),
        }
    }

    fn fill(
        &self,
        file: BorrowedFd<'_>,
        content: &mut dyn Read,
        buffer: &mut [u8],
        path: impl Fn() -> InnerPath,
    ) -> Result<(), CopyError> {
        loop {
            match content.read(buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => {
                    write_all(file, &buffer[..length])
                        .map_err(|error| CopyError::Write { path: path(), source: error.into() })?;
                    (self.report)(length as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(CopyError::Read { path: self.archive.clone(), source }),
            }
        }
    }

    /// What a hard link links to: a file that is there and no directory.
    fn link_target(&self, target: &Path, path: &InnerPath) -> Result<InnerPath, CopyError> {
        let written = InnerPath::new(target);
        let full = self.follow(&written.parent().unwrap_or_default())?.join(written.name());
        let found = resolve(self.writer.image, &full, false);
        match found {
            Ok(found) if found.node.as_ref().is_some_and(|node| !node.is_directory()) => Ok(found.path),
            _ => Err(CopyError::ArchiveLink { archive: self.archive.clone(), path: path.clone(), target: full }),
        }
    }

    /// The place of a directory that the archive names.
    fn follow(&self, directory: &InnerPath) -> Result<InnerPath, CopyError> {
        let path = self.into.join_path(directory);
        match resolve(self.writer.image, &path, true) {
            Ok(found) => Ok(found.path),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(CopyError::NotADirectory { path }),
            Err(source) => Err(CopyError::Write { path, source }),
        }
    }

    fn parents(&self) -> Meta {
        Meta { ids: self.owner.unwrap_or_default(), mode: 0o755, ..self.writer.parents }
    }
}
