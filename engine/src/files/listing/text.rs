//! How is a listing written, and read again, without all of it being in memory?
//!
//! ```text
//! zstd( for each path, in the order of a walk:
//!       shared length, rest's length (LEB128), rest, kind's letter or `!`, mode (2), tag (8) )
//! ```

use std::cmp::Ordering;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use tempfile::SpooledTempFile;

use super::super::path::walk_order;
use super::super::{FileDigest, Kind, Node};
use super::packed::Packed;

/// Fast: a listing is written more often than read.
const LEVEL: i32 = 1;
/// How much waits to be compressed.
pub(super) const BATCH: usize = 256 << 10;
/// No kernel gives out longer paths, and a short input could ask for a lot of them.
const LONGEST_PATH: usize = 1 << 16;

/// What is compared of one path.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Fact {
    /// `!` for what is named and does not exist.
    pub(super) letter: u8,
    pub(super) mode: u16,
    pub(super) tag: [u8; 8],
}

impl Fact {
    pub(super) fn of(node: Option<&Node>, content: FileDigest) -> Self {
        let Some(node) = node else { return Self { letter: b'!', mode: 0, tag: [0; 8] } };
        let beginning = |digest: &[u8; 32]| *digest.first_chunk().expect("eight of thirty-two bytes");
        let tag = match node.kind {
            Kind::File | Kind::Directory => beginning(&content.0),
            Kind::Symlink => {
                let target = node.target.as_deref().map(std::os::unix::ffi::OsStrExt::as_bytes).unwrap_or_default();
                beginning(blake3::hash(target).as_bytes())
            }
            Kind::CharacterDevice | Kind::BlockDevice => node.device.to_le_bytes(),
            Kind::Fifo | Kind::Socket => [0; 8],
        };
        Self { letter: node.kind.letter(), mode: (node.mode & 0o7777) as u16, tag }
    }
}

/// Paths that come in order, as they are written.
#[derive(Default)]
pub(super) struct Run<'a> {
    /// Where files without names can be made.
    scratch: Option<&'a Path>,
    /// What is not compressed yet.
    pub(super) plain: Vec<u8>,
    last: Option<Vec<u8>>,
    packed: Option<zstd::Encoder<'static, SpooledTempFile>>,
    /// Why nothing can be written any more.
    failed: Option<io::Error>,
}

/// What a [`Run`] has written.
pub(super) enum Text {
    /// All of it: it is short.
    Plain(Vec<u8>),
    Packed(Packed),
}

impl<'a> Run<'a> {
    /// None yet.
    pub(super) fn new(scratch: Option<&'a Path>) -> Self {
        Self { scratch, ..Self::default() }
    }

    /// Adds a path, unless it is the last one again; `false` if it cannot come here.
    pub(super) fn add(&mut self, path: &[u8], fact: Fact) -> bool {
        match self.last.as_ref().map(|last| walk_order(last, path)) {
            None | Some(Ordering::Less) => {}
            Some(Ordering::Equal) => return true,
            Some(Ordering::Greater) => return false,
        }
        let last = self.last.get_or_insert_default();
        let shared = path.iter().zip(&*last).take_while(|(one, other)| one == other).count();
        number(&mut self.plain, shared);
        number(&mut self.plain, path.len() - shared);
        self.plain.extend_from_slice(&path[shared..]);
        self.plain.push(fact.letter);
        self.plain.extend_from_slice(&fact.mode.to_le_bytes());
        self.plain.extend_from_slice(&fact.tag);
        last.truncate(shared);
        last.extend_from_slice(&path[shared..]);
        if self.plain.len() >= BATCH
            && self.failed.is_none()
            && let Err(error) = self.pack()
        {
            self.failed = Some(error);
        }
        true
    }

    fn pack(&mut self) -> io::Result<()> {
        let plain = std::mem::take(&mut self.plain);
        let encoder = match &mut self.packed {
            Some(encoder) => encoder,
            none => none.insert(zstd::Encoder::new(Packed::spool(self.scratch), LEVEL)?),
        };
        encoder.write_all(&plain)
    }

    /// All that was added.
    ///
    /// # Errors
    /// It is long, and cannot be written.
    pub(super) fn finish(mut self) -> io::Result<Text> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.packed.is_some() {
            self.pack()?;
        }
        match self.packed {
            Some(encoder) => Packed::of(encoder.finish()?).map(Text::Packed),
            None => Ok(Text::Plain(self.plain)),
        }
    }
}

impl Text {
    pub(super) fn into_packed(self) -> io::Result<Packed> {
        match self {
            Self::Plain(plain) => zstd::bulk::compress(&plain, LEVEL).map(Packed::Memory),
            Self::Packed(packed) => Ok(packed),
        }
    }
}

/// Goes through what a [`Run`] wrote.
pub(super) struct Walk<'a> {
    rest: Box<dyn BufRead + 'a>,
    /// Of the fact returned last.
    pub(super) path: Vec<u8>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(text: &'a Text) -> Self {
        match text {
            Text::Plain(plain) => Self { rest: Box::new(&**plain), path: Vec::new() },
            Text::Packed(packed) => Self::within(packed, u64::MAX),
        }
    }

    /// Of what is packed, at most so many bytes.
    pub(super) fn within(packed: &'a Packed, most: u64) -> Self {
        let rest: Box<dyn BufRead + 'a> = match zstd::Decoder::with_buffer(packed.reader()) {
            Ok(decoder) => Box::new(BufReader::with_capacity(32 << 10, decoder.take(most))),
            // That there is no memory is an error where the first byte is asked for.
            Err(error) => Box::new(BufReader::new(Failing(Some(error)))),
        };
        Self { rest, path: Vec::new() }
    }

    /// What is known of the next path; `Some(None)` if the bytes are malformed.
    pub(super) fn next(&mut self) -> Option<Option<Fact>> {
        match self.rest.fill_buf() {
            Ok([]) => None,
            Ok(_) => Some(self.read()),
            Err(_) => Some(None),
        }
    }

    fn read(&mut self) -> Option<Fact> {
        let (shared, length) = (take_number(&mut self.rest)?, take_number(&mut self.rest)?);
        if shared > self.path.len() || shared + length > LONGEST_PATH {
            return None;
        }
        self.path.resize(shared + length, 0);
        self.rest.read_exact(&mut self.path[shared..]).ok()?;
        let mut fact = [0; 11];
        self.rest.read_exact(&mut fact).ok()?;
        let [letter, low, high, tag @ ..] = fact;
        Some(Fact { letter, mode: u16::from_le_bytes([low, high]), tag })
    }
}

/// Nothing but an error.
struct Failing(Option<io::Error>);

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(self.0.take().unwrap_or_else(|| io::ErrorKind::OutOfMemory.into()))
    }
}

pub(super) fn number(bytes: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take_number(rest: &mut dyn BufRead) -> Option<usize> {
    let mut value = 0;
    for shift in (0..28).step_by(7) {
        let byte = *rest.fill_buf().ok()?.first()?;
        rest.consume(1);
        value |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
