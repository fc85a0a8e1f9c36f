//! How is a file copied that is too large to be held in memory?

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use rbuild_image::{Change, Entry, EntryKind};
use rustix::fd::AsFd;

use super::super::super::content::combine;
use super::super::super::root::node_of;
use super::super::super::{Attributes, FileDigest, InnerPath, Node};
use super::super::CopyError;
use super::super::stage::{Content, Stage};
use super::Bytes;
use super::load::{Opener, look};

/// A large file that is open.
pub(super) struct Large {
    change: Change,
    source: Source,
    digest: Option<[u8; 32]>,
    size: u64,
    /// Where it is in a tree, what it was before it was read, and whether that was already wrong.
    from: Option<(InnerPath, Node, bool)>,
    /// The archive that it is part of.
    range: Option<InnerPath>,
    /// What the digest has to be of what was read and these attributes.
    check: Option<(FileDigest, Attributes)>,
}

enum Source {
    File(File),
    Exactly(Exactly),
}

impl Large {
    /// `name` is what the file will be called.
    pub(super) fn open(
        stage: &Stage<'_>,
        content: &Content,
        name: &OsStr,
        mut entry: Entry,
        opener: &mut Opener,
    ) -> Result<Self, CopyError> {
        let EntryKind::File { mut size } = entry.kind else { unreachable!("only files are large") };
        let (mut from, mut range, mut digest, mut check) = (None, None, None, None);
        let unread = |path: &InnerPath| {
            let path = path.clone();
            move |source| CopyError::Read { path, source }
        };
        let source = match content {
            Content::Bytes(bytes) => Source::Exactly(Exactly {
                input: Input::Bytes(io::Cursor::new(bytes.0.clone())),
                left: size,
                short: false,
                hasher: None,
            }),
            Content::Archive { archive, offset } => {
                let archive = &stage.archives[*archive as usize];
                let path = archive.name(name);
                let file = archive.file.try_clone().map_err(unread(&path))?;
                range = Some(path);
                Source::Exactly(Exactly { input: Input::Range(file, *offset), left: size, short: false, hasher: None })
            }
            Content::Below(path) => {
                let below = stage.below.ok_or_else(|| unread(path)(io::ErrorKind::NotFound.into()))?;
                let file = File::from(below.open_to_read(path).map_err(unread(path))?);
                entry.xattrs = Attributes::read_all(&file).map_err(unread(path))?.to_map();
                Source::File(file)
            }
            Content::Tree { .. } | Content::Numbered { .. } | Content::Mirrored(_) => {
                let (tree, path) = stage.source(content, name).expect("it comes from a tree");
                let file = opener.open(stage, tree, &path).map_err(unread(&path))?;
                let attributes = Attributes::read(&file).map_err(unread(&path))?;
                let (now, known) = look(stage, tree, &path, &file, &attributes).map_err(unread(&path))?;
                entry.xattrs = attributes.to_map();
                let changed = known.changed || now.size != size;
                let expected = known.expected.filter(|_| !changed);
                digest = known.digest.filter(|_| !changed);
                size = now.size;
                from = Some((path, now, changed));
                match digest {
                    Some(_) => Source::File(file),
                    None => {
                        check = expected.map(|expected| (expected, attributes));
                        let hasher = check.as_ref().map(|_| Box::default());
                        Source::Exactly(Exactly { input: Input::File(file), left: size, short: false, hasher })
                    }
                }
            }
        };
        entry.kind = EntryKind::File { size };
        Ok(Self { change: Change::Upsert(entry), source, digest, size, from, range, check })
    }

    pub(super) fn parts(&mut self) -> (&Change, Bytes<'_>, Option<[u8; 32]>) {
        let bytes = match &mut self.source {
            Source::File(file) => Bytes::File(file),
            Source::Exactly(exactly) => Bytes::Reader(exactly),
        };
        (&self.change, bytes, self.digest)
    }

    /// Why the bytes may have ended early for whoever reads them from the file itself.
    pub(super) fn shorter(&self) -> Option<CopyError> {
        let (Source::File(file), Some((path, ..))) = (&self.source, &self.from) else { return None };
        let is_shorter = file.metadata().is_ok_and(|now| now.len() < self.size);
        is_shorter.then(|| CopyError::Shorter { path: path.clone() })
    }

    /// How much was read, and the file if it has changed.
    pub(super) fn finish(self) -> Result<(u64, Option<InnerPath>), CopyError> {
        if let (Some(path), Source::Exactly(Exactly { short: true, .. })) = (&self.range, &self.source) {
            return Err(CopyError::Shorter { path: path.clone() });
        }
        let Some((path, before, changed)) = self.from else { return Ok((self.size, None)) };
        let (file, short) = match &self.source {
            Source::File(file) | Source::Exactly(Exactly { input: Input::File(file), short: false, .. }) => {
                (Some(file), false)
            }
            Source::Exactly(_) => (None, true),
        };
        let after = file.map(|file| node_of(file.as_fd())).transpose();
        let after = after.map_err(|source| CopyError::Read { path: path.clone(), source })?;
        let is_other = match (&self.source, &self.check) {
            (Source::Exactly(Exactly { hasher: Some(hasher), .. }), Some((expected, attributes))) => {
                combine(Some(*hasher.finalize().as_bytes()), attributes) != *expected
            }
            _ => false,
        };
        let changed = changed || short || is_other || after.is_some_and(|after| !after.same_version(&before));
        Ok((self.size, changed.then_some(path)))
    }
}

/// As many bytes as were promised, whatever becomes of the file meanwhile: what is missing is zeros, and told.
struct Exactly {
    input: Input,
    left: u64,
    short: bool,
    /// Hashes what passes by, if that has to be checked.
    hasher: Option<Box<blake3::Hasher>>,
}

enum Input {
    File(File),
    Range(File, u64),
    Bytes(io::Cursor<Vec<u8>>),
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..wanted];
        let mut count = match &mut self.input {
            Input::File(file) => file.read(buffer)?,
            Input::Bytes(bytes) => bytes.read(buffer)?,
            Input::Range(file, offset) => {
                let count = file.read_at(buffer, *offset)?;
                *offset += count as u64;
                count
            }
        };
        if count == 0 && wanted > 0 {
            self.short = true;
            buffer.fill(0);
            count = wanted;
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        self.left -= count as u64;
        Ok(count)
    }
}
