//! How is the content of a planned file read?

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use rbuild_image::{Change, Entry, EntryKind, Found};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, openat};

use super::super::super::content::combine;
use super::super::super::root::node_of;
use super::super::super::tree::Seen;
use super::super::super::{Attributes, FileDigest, InnerPath, Kind, Node};
use super::super::CopyError;
use super::super::stage::{Content, Item, Stage, What};
use super::Former;
use super::walk::{Held, Part, Planned, SMALL};

/// A change with its content, if that is small.
pub(super) struct Loaded<'s> {
    pub(super) change: Change,
    pub(super) body: Body<'s>,
    pub(super) linked: bool,
    /// What is not any more what it was when it was planned.
    pub(super) changed: Option<InnerPath>,
}

pub(super) enum Body<'s> {
    /// It is no file.
    Nothing,
    Small {
        bytes: Vec<u8>,
        digest: [u8; 32],
    },
    /// Not to be read: the former layer has it.
    Former {
        found: Found,
        digest: [u8; 32],
        size: u64,
    },
    /// To be read when its turn has come; the name that it will have.
    Large(Held<'s>, Box<OsStr>),
}

/// Opens the files of trees; remembers the last directory.
#[derive(Default)]
pub(super) struct Opener {
    last: Option<(u32, InnerPath, OwnedFd)>,
}

impl Opener {
    pub(super) fn open(&mut self, stage: &Stage<'_>, tree: u32, path: &InnerPath) -> io::Result<File> {
        let (name, place) = (path.name(), path.parent().unwrap_or_default());
        if self.last.as_ref().is_none_or(|(last, known, _)| (*last, known) != (tree, &place)) {
            let directory = stage.trees[tree as usize].root().open_directory(&place)?;
            self.last = Some((tree, place, directory));
        }
        let (_, _, directory) = self.last.as_ref().expect("it was just put there");
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(File::from(openat(directory, name, flags, Mode::empty())?))
    }
}

/// Makes a change of what is planned; reads it if it is small.
pub(super) fn load<'s>(
    stage: &'s Stage<'_>,
    planned: &Planned<'s>,
    opener: &mut Opener,
    former: Option<&dyn Former>,
) -> Result<Loaded<'s>, CopyError> {
    let path = PathBuf::from(planned.path.as_relative());
    let done = |change| Ok(Loaded { change, body: Body::Nothing, linked: false, changed: None });
    let (item, linked) = match &planned.what {
        Part::Removed => return done(Change::Remove(path)),
        Part::Opaque => return done(Change::Opaque(path)),
        Part::Link { item, target } => {
            let target = PathBuf::from(target.as_relative());
            return done(Change::Upsert(entry(path, item, EntryKind::Hardlink { target })));
        }
        Part::New { item, linked } => (item, *linked),
    };
    let (size, content) = match &item.what {
        What::File { size, content } => (*size, content),
        What::Directory(_) => return done(Change::Upsert(entry(path, item, EntryKind::Directory))),
        What::Symlink(target) => {
            let target = PathBuf::from(&**target);
            return done(Change::Upsert(entry(path, item, EntryKind::Symlink { target })));
        }
        What::Special(kind, device) => {
            let (major, minor) = (rustix::fs::major(*device), rustix::fs::minor(*device));
            let kind = match kind {
                Kind::CharacterDevice => EntryKind::CharDevice { major, minor },
                Kind::BlockDevice => EntryKind::BlockDevice { major, minor },
                _ => EntryKind::Fifo,
            };
            return done(Change::Upsert(entry(path, item, kind)));
        }
    };
    let mut entry = entry(path, item, EntryKind::File { size });
    let name = planned.path.name();
    let known = former.and_then(|former| Some((former, known_digest(stage, content, name, size)?)));
    if let Some((former, digest)) = known {
        let change = Change::Upsert(entry);
        if let Some(found) = former.find(&change, &digest) {
            return Ok(Loaded { change, body: Body::Former { found, digest, size }, linked, changed: None });
        }
        let Change::Upsert(again) = change else { unreachable!("it was just made") };
        entry = again;
    }
    if size > SMALL {
        let body = Body::Large(item.clone(), name.into());
        return Ok(Loaded { change: Change::Upsert(entry), body, linked, changed: None });
    }
    let small = Small::read(stage, content, name, size, opener)?;
    entry.kind = EntryKind::File { size: small.bytes.len() as u64 };
    if let Some(attributes) = &small.attributes {
        entry.xattrs = attributes.to_map();
    }
    let body = Body::Small { bytes: small.bytes, digest: small.digest };
    Ok(Loaded { change: Change::Upsert(entry), body, linked, changed: small.changed })
}

/// The digest that the scan of a tree has of a file. If the file has attributes it is not that of its content, and so of
/// nothing that any layer has.
fn known_digest(stage: &Stage<'_>, content: &Content, name: &OsStr, size: u64) -> Option<[u8; 32]> {
    let (tree, path) = stage.source(content, name)?;
    let Seen { node, digest, .. } = stage.trees[tree as usize].known(&path)?;
    let FileDigest(digest) = digest.filter(|_| node.kind == Kind::File && node.size == size)?;
    // Nothing is found by an empty file's content, which tells it from others no more.
    (size > 0 || digest == *blake3::hash(&[]).as_bytes()).then_some(digest)
}

fn entry(path: PathBuf, item: &Item, kind: EntryKind) -> Entry {
    let meta = item.meta;
    Entry {
        path,
        kind,
        mode: meta.mode,
        uid: meta.ids.uid,
        gid: meta.ids.gid,
        mtime: rbuild_image::Timestamp { seconds: meta.mtime.seconds, nanoseconds: meta.mtime.nanoseconds },
        xattrs: item.attributes.as_ref().map(|attributes| attributes.to_map()).unwrap_or_default(),
    }
}

struct Small {
    bytes: Vec<u8>,
    digest: [u8; 32],
    /// Where they are not known from the plan.
    attributes: Option<Attributes>,
    changed: Option<InnerPath>,
}

impl Small {
    fn read(
        stage: &Stage<'_>,
        content: &Content,
        name: &OsStr,
        size: u64,
        opener: &mut Opener,
    ) -> Result<Self, CopyError> {
        let plain = |bytes: Vec<u8>| {
            let digest = *blake3::hash(&bytes).as_bytes();
            Self { bytes, digest, attributes: None, changed: None }
        };
        match content {
            Content::Bytes(bytes) => Ok(plain(bytes.0.clone())),
            Content::Archive { archive, offset } => {
                let archive = &stage.archives[*archive as usize];
                let bytes = archive.part(*offset, usize::try_from(size).expect("a small size"));
                Ok(plain(bytes.map_err(|source| CopyError::Read { path: archive.name(name), source })?))
            }
            Content::Below(path) => {
                let unread = |source| CopyError::Read { path: (**path).clone(), source };
                let below = stage.below.ok_or_else(|| unread(io::ErrorKind::NotFound.into()))?;
                let file = File::from(below.open_to_read(path).map_err(unread)?);
                let bytes = read_up_to(&file, size).map_err(unread)?;
                let attributes = Some(Attributes::read_all(&file).map_err(unread)?);
                Ok(Self { attributes, ..plain(bytes) })
            }
            Content::Tree { .. } | Content::Numbered { .. } | Content::Mirrored(_) => {
                let (tree, path) = stage.source(content, name).expect("it comes from a tree");
                let unread = |source| CopyError::Read { path: path.clone(), source };
                let file = opener.open(stage, tree, &path).map_err(unread)?;
                let bytes = read_up_to(&file, size).map_err(unread)?;
                let attributes = Attributes::read(&file).map_err(unread)?;
                let (now, known) = look(stage, tree, &path, &file, &attributes).map_err(unread)?;
                let digest = known.digest.unwrap_or_else(|| *blake3::hash(&bytes).as_bytes());
                let changed = known.changed || now.size != size || bytes.len() as u64 != size;
                let changed =
                    changed || known.expected.is_some_and(|expected| combine(Some(digest), &attributes) != expected);
                Ok(Self { bytes, digest, attributes: Some(attributes), changed: changed.then_some(path) })
            }
        }
    }
}

/// One byte more than expected tells that there is more.
fn read_up_to(file: &File, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(size).expect("a small size") + 1);
    file.take(size + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a tree knows of a file that is open.
pub(super) struct Known {
    /// The digest of the content, if it may be believed.
    pub(super) digest: Option<[u8; 32]>,
    /// Otherwise, what the digest of content and attributes has to be.
    pub(super) expected: Option<FileDigest>,
    pub(super) changed: bool,
}

/// Compares an open file with what its tree knows of it.
pub(super) fn look(
    stage: &Stage<'_>,
    tree: u32,
    path: &InnerPath,
    file: &File,
    attributes: &Attributes,
) -> io::Result<(Node, Known)> {
    let now = node_of(file.as_fd())?;
    if now.kind != Kind::File {
        return Err(io::Error::other("it is no longer a file"));
    }
    let known = match stage.trees[tree as usize].known(path) {
        None => Known { digest: None, expected: None, changed: false },
        Some(Seen { node, digest, settled }) => {
            // With attributes it is a digest of more than the content.
            let believed = attributes.is_empty() && settled && now.same_version(&node);
            Known {
                digest: digest.filter(|_| believed).map(|FileDigest(digest)| digest),
                expected: digest.filter(|_| !believed),
                changed: !now.same_content(&node),
            }
        }
    };
    Ok((now, known))
}

/// The content of a small staged file.
pub(crate) fn read_staged(stage: &Stage<'_>, content: &Content, name: &OsStr, size: u64) -> io::Result<Vec<u8>> {
    Small::read(stage, content, name, size, &mut Opener::default()).map(|small| small.bytes).map_err(
        |error| match error {
            CopyError::Read { source, .. } => source,
            other => io::Error::other(other),
        },
    )
}
