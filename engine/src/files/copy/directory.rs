//! How is a plan carried out in a directory that is there?
//!
//! Where no layer is wanted: caches that are filled for the first time, exports to a directory.

use std::ffi::OsStr;

use rbuild_image::{Change, Entry, EntryKind};
use rustix::fd::AsFd;
use rustix::fs::makedev;

use super::super::root::node_at;
use super::super::{Attributes, InnerPath, Kind, Root, Timestamp};
use super::CopyError;
use super::carry::{Bytes, Filling, Sink};
use super::owner::Ids;
use super::write::{Meta, Place, TransferError, Writer, set_attributes, transfer, write_all};

/// Makes changes in a directory. What is there may be what the plan was made over: it is merged or replaced.
pub(super) struct DirectorySink<'a> {
    writer: Writer<'a>,
    /// Where the last change was; most share it with the next.
    place: Option<Place>,
}

impl<'a> DirectorySink<'a> {
    pub(super) fn new(root: &'a Root) -> Self {
        Self { writer: Writer::new(root, Meta { mode: 0o755, ..Meta::default() }), place: None }
    }

    pub(super) fn finish(self) -> Result<(), CopyError> {
        self.writer.finish()
    }

    fn place(&mut self, path: &InnerPath) -> Result<Place, CopyError> {
        let parent = path.parent().unwrap_or_default();
        match self.place.take().filter(|place| place.path == parent) {
            Some(place) => Ok(place),
            None => self.writer.directory(&parent, self.writer.parents),
        }
    }

    fn upsert(&self, entry: &Entry, place: &Place, name: &OsStr, filling: Filling<'_>) -> Result<(), CopyError> {
        let meta = meta(entry);
        let attributes = Attributes::of_map(&entry.xattrs);
        let path = || place.path.join(name);
        let unread = |source| CopyError::Read { path: path(), source };
        let is_directory = entry.kind == EntryKind::Directory;
        // The plan knows what becomes of what is in the way.
        let there = node_at(place.directory.as_fd(), name).map_err(unread)?;
        if there.is_some_and(|there| there.is_directory() != is_directory) {
            self.writer.remove(place, name)?;
        }
        let special = |kind, device| self.writer.special(place, name, kind, device, meta);
        match &entry.kind {
            EntryKind::File { size } => self.writer.file(place, name, meta, &attributes, |file| match filling.bytes {
                Bytes::Empty => Ok(()),
                Bytes::Small(bytes) => {
                    write_all(file, &bytes).map_err(|error| CopyError::Write { path: path(), source: error.into() })
                }
                Bytes::File(from) => transfer(from.as_fd(), file, *size).map(drop).map_err(|error| match error {
                    TransferError::Read(error) => unread(error.into()),
                    TransferError::Write(error) => CopyError::Write { path: path(), source: error.into() },
                }),
                // Nobody was offered any.
                Bytes::Former(_) => Err(unread(std::io::ErrorKind::Unsupported.into())),
                Bytes::Reader(from) => {
                    let mut file = std::fs::File::from(file.try_clone_to_owned().map_err(unread)?);
                    std::io::copy(from, &mut file).map(drop).map_err(|source| CopyError::Write { path: path(), source })
                }
            }),
            EntryKind::Directory => {
                let (directory, _) = self.writer.subdirectory(place, name)?;
                set_attributes(directory.directory.as_fd(), &attributes);
                self.writer.later(directory.path, meta.into());
                Ok(())
            }
            EntryKind::Symlink { target } => self.writer.symlink(place, name, target.as_os_str(), meta),
            EntryKind::Hardlink { target } => self.writer.hard_link(place, name, &InnerPath::new(target)),
            EntryKind::CharDevice { major, minor } => special(Kind::CharacterDevice, makedev(*major, *minor)),
            EntryKind::BlockDevice { major, minor } => special(Kind::BlockDevice, makedev(*major, *minor)),
            EntryKind::Fifo => special(Kind::Fifo, 0),
        }
    }
}

impl Sink for DirectorySink<'_> {
    type Error = CopyError;

    fn put(&mut self, change: &Change, filling: Filling<'_>) -> Result<(), CopyError> {
        let path = InnerPath::new(change.path());
        if let Change::Opaque(_) = change {
            // What was there before went when it was no directory; otherwise it is as empty as the plan wants it.
            let place = self.writer.directory(&path, self.writer.parents)?;
            let failed = |source| CopyError::Read { path: path.clone(), source };
            for name in super::super::root::names(place.directory.as_fd()).map_err(failed)? {
                self.writer.remove(&place, &name)?;
            }
            return Ok(());
        }
        if path.is_root() {
            if let Change::Upsert(entry) = change {
                self.writer.later(path, meta(entry).into());
            }
            return Ok(());
        }
        let place = self.place(&path)?;
        let name = path.name();
        match change {
            Change::Upsert(entry) => self.upsert(entry, &place, name, filling)?,
            Change::Remove(_) => self.writer.remove(&place, name)?,
            Change::Opaque(_) => {}
        }
        self.place = Some(place);
        Ok(())
    }
}

fn meta(entry: &Entry) -> Meta {
    Meta {
        ids: Ids { uid: entry.uid, gid: entry.gid },
        mode: entry.mode,
        mtime: Timestamp { seconds: entry.mtime.seconds, nanoseconds: entry.mtime.nanoseconds },
    }
}
