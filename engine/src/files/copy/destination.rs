//! What does an archive need to be unpacked?
//!
//! A [`Stage`], where its entries are planned, or a [`Writer`], which makes them at once.

use std::ffi::OsStr;
use std::io::{self, Read};

use rustix::fd::AsFd;

use super::super::root::node_at;
use super::super::tree::Tree;
use super::super::{Attributes, InnerPath, Kind, Node};
use super::CopyError;
use super::stage::{Archived, Stage};
use super::write::{DirectoryMeta, Meta, Place, Writer, set_attributes, write_all};

/// The content of an archive's entry.
pub(crate) struct Member<'a> {
    pub(crate) size: u64,
    /// Where it begins in the plain archive, if it is one piece of that.
    pub(crate) offset: Option<u64>,
    pub(crate) content: &'a mut dyn Read,
    pub(crate) buffer: &'a mut [u8],
    /// The archive, for messages.
    pub(crate) archive: &'a InnerPath,
}

/// An image that entries of an archive are put into, with the meaning that the methods have at [`Writer`].
pub(crate) trait Destination {
    /// A directory that something may be put into.
    type Place;

    fn tree(&self) -> &dyn Tree;
    fn path<'p>(&self, place: &'p Self::Place) -> &'p InnerPath;
    fn node(&self, place: &Self::Place, name: &OsStr) -> io::Result<Option<Node>>;
    fn directory(&mut self, path: &InnerPath, parents: Meta) -> Result<Self::Place, CopyError>;
    fn subdirectory(&mut self, place: &Self::Place, name: &OsStr) -> Result<Self::Place, CopyError>;
    fn set_attributes(&mut self, place: &Self::Place, attributes: &Attributes) -> Result<(), CopyError>;
    fn later(&mut self, path: InnerPath, meta: DirectoryMeta);
    /// Returns how many bytes were read.
    fn file(
        &mut self,
        place: &Self::Place,
        name: &OsStr,
        meta: Meta,
        attributes: Attributes,
        member: Member<'_>,
    ) -> Result<u64, CopyError>;
    fn symlink(&mut self, place: &Self::Place, name: &OsStr, target: &OsStr, meta: Meta) -> Result<(), CopyError>;
    fn special(
        &mut self,
        place: &Self::Place,
        name: &OsStr,
        kind: Kind,
        device: u64,
        meta: Meta,
    ) -> Result<(), CopyError>;
    fn hard_link(&mut self, place: &Self::Place, name: &OsStr, target: &InnerPath) -> Result<(), CopyError>;
    fn change(&mut self, place: &Self::Place, name: &OsStr, meta: Meta) -> Result<(), CopyError>;
    fn remove(&mut self, place: &Self::Place, name: &OsStr) -> Result<(), CopyError>;
}

impl Destination for Stage<'_> {
    type Place = InnerPath;

    fn tree(&self) -> &dyn Tree {
        self
    }

    fn path<'p>(&self, place: &'p InnerPath) -> &'p InnerPath {
        place
    }

    fn node(&self, place: &InnerPath, name: &OsStr) -> io::Result<Option<Node>> {
        Tree::node(self, &place.join(name))
    }

    fn directory(&mut self, path: &InnerPath, parents: Meta) -> Result<InnerPath, CopyError> {
        Stage::directory(self, path, parents)?;
        Ok(path.clone())
    }

    fn subdirectory(&mut self, place: &InnerPath, name: &OsStr) -> Result<InnerPath, CopyError> {
        Ok(Stage::subdirectory(self, place, name)?.0)
    }

    fn set_attributes(&mut self, place: &InnerPath, attributes: &Attributes) -> Result<(), CopyError> {
        Stage::set_attributes(self, place, attributes)
    }

    fn later(&mut self, path: InnerPath, meta: DirectoryMeta) {
        Stage::later(self, path, meta);
    }

    fn file(
        &mut self,
        place: &InnerPath,
        name: &OsStr,
        meta: Meta,
        attributes: Attributes,
        member: Member<'_>,
    ) -> Result<u64, CopyError> {
        let Member { size, offset, content, buffer, archive } = member;
        let (kept, read) = self.archived(offset, content, buffer).map_err(|error| match error {
            Archived::Read(source) => CopyError::Read { path: archive.clone(), source },
            Archived::Write(source) => CopyError::Write { path: place.join(name), source },
        })?;
        Stage::file(self, place, name, meta, attributes, size, kept)?;
        Ok(read)
    }

    fn symlink(&mut self, place: &InnerPath, name: &OsStr, target: &OsStr, meta: Meta) -> Result<(), CopyError> {
        Stage::symlink(self, place, name, target, meta)
    }

    fn special(
        &mut self,
        place: &InnerPath,
        name: &OsStr,
        kind: Kind,
        device: u64,
        meta: Meta,
    ) -> Result<(), CopyError> {
        Stage::special(self, place, name, kind, device, meta)
    }

    fn hard_link(&mut self, place: &InnerPath, name: &OsStr, target: &InnerPath) -> Result<(), CopyError> {
        Stage::hard_link(self, place, name, target)
    }

    fn change(&mut self, place: &InnerPath, name: &OsStr, meta: Meta) -> Result<(), CopyError> {
        Stage::change(self, place, name, meta)
    }

    fn remove(&mut self, place: &InnerPath, name: &OsStr) -> Result<(), CopyError> {
        Stage::remove(self, place, name)
    }
}

impl Destination for Writer<'_> {
    type Place = Place;

    fn tree(&self) -> &dyn Tree {
        self.image
    }

    fn path<'p>(&self, place: &'p Place) -> &'p InnerPath {
        &place.path
    }

    fn node(&self, place: &Place, name: &OsStr) -> io::Result<Option<Node>> {
        node_at(place.directory.as_fd(), name)
    }

    fn directory(&mut self, path: &InnerPath, parents: Meta) -> Result<Place, CopyError> {
        Writer::directory(self, path, parents)
    }

    fn subdirectory(&mut self, place: &Place, name: &OsStr) -> Result<Place, CopyError> {
        Ok(Writer::subdirectory(self, place, name)?.0)
    }

    fn set_attributes(&mut self, place: &Place, attributes: &Attributes) -> Result<(), CopyError> {
        set_attributes(place.directory.as_fd(), attributes);
        Ok(())
    }

    fn later(&mut self, path: InnerPath, meta: DirectoryMeta) {
        Writer::later(self, path, meta);
    }

    fn file(
        &mut self,
        place: &Place,
        name: &OsStr,
        meta: Meta,
        attributes: Attributes,
        member: Member<'_>,
    ) -> Result<u64, CopyError> {
        let Member { content, buffer, archive, .. } = member;
        let mut total = 0;
        Writer::file(self, place, name, meta, &attributes, |file| {
            loop {
                match content.read(buffer) {
                    Ok(0) => return Ok(()),
                    Ok(length) => {
                        write_all(file, &buffer[..length])
                            .map_err(|error| CopyError::Write { path: place.path.join(name), source: error.into() })?;
                        total += length as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(source) => return Err(CopyError::Read { path: archive.clone(), source }),
                }
            }
        })?;
        Ok(total)
    }

    fn symlink(&mut self, place: &Place, name: &OsStr, target: &OsStr, meta: Meta) -> Result<(), CopyError> {
        Writer::symlink(self, place, name, target, meta)
    }

    fn special(&mut self, place: &Place, name: &OsStr, kind: Kind, device: u64, meta: Meta) -> Result<(), CopyError> {
        Writer::special(self, place, name, kind, device, meta)
    }

    fn hard_link(&mut self, place: &Place, name: &OsStr, target: &InnerPath) -> Result<(), CopyError> {
        Writer::hard_link(self, place, name, target)
    }

    fn change(&mut self, place: &Place, name: &OsStr, meta: Meta) -> Result<(), CopyError> {
        Writer::change(self, place, name, meta)
    }

    fn remove(&mut self, place: &Place, name: &OsStr) -> Result<(), CopyError> {
        Writer::remove(self, place, name)
    }
}
