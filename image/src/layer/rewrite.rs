//! How little has to be done for a tar that is nearly the one before?
//!
//! ```text
//! former  ████████████████▒▒▒▒▒▒▒▒xxxxx▒▒▒▒▒▒▒▒▒▒▒▒▒      ▒ read in one piece, hashed
//! new     ████████████████▒▒▒▒▒▒▒▒yyyyyyyy▒▒▒▒▒▒▒▒▒▒▒▒▒   █ read in one piece, not even hashed
//! ```
//!
//! A *part* of a tar is an entry with its headers, content and padding. It is known by a digest of its headers and of
//! its content's digest, so a part that both tars have is found without reading any content, and neighbours are copied
//! together. A sha256 depends on all bytes before, but its state was kept every few megabytes: hashing begins at the
//! last of those before the first difference.
//!
//! The tar is the one that a [`LayerWriter`] makes, byte for byte.
//!
//! ```text
//! index   magic 16 │ parts 8 │ states 8 │ { digest 24, blocks 4 }* │ { offset 8, state 104 }*
//! ```
//!
//! Numbers are little endian. Parts follow each other; bytes between them that have no name are a part whose digest is
//! NULs. Of a digest 192 bits are kept: an index is in memory while a layer is made of the one before.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::Arc;

use rbuild_core::{Digest, KeyHasher};

use super::writer::{LayerWriter, State, header_of};
use super::{Change, Compression, Layer};

const MAGIC: &[u8; 16] = b"rbuild-tar-idx/2";
const HEADER: usize = 32;
const PART: usize = 28;
const STATE: usize = 8 + size_of::<State>();
const BLOCK: u64 = super::header::BLOCK as u64;

/// What a part of a tar is, headers and content.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PartDigest(Digest);

impl PartDigest {
    /// Of a change; `content` is the blake3 of a file's content, if it has any.
    ///
    /// # Errors
    /// As [`LayerWriter::append`]: no layer can express the change.
    pub fn of(change: &Change, content: &[u8; 32]) -> io::Result<Self> {
        let mut header = Vec::with_capacity(512);
        let size = header_of(change, &mut header)?;
        let mut hasher = KeyHasher::new("tar-part/1");
        hasher.bytes(&header);
        if size > 0 {
            hasher.bytes(content);
        }
        Ok(Self(hasher.finish()))
    }
}

impl PartDigest {
    fn short(&self) -> Short {
        *self.0.as_bytes().first_chunk().expect("a digest has 32 bytes")
    }
}

/// The beginning of a [`PartDigest`].
type Short = [u8; 24];

/// Of bytes that have no name.
const NAMELESS: Short = [0; 24];

/// Where the parts of a tar are, and states of its hash.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TarIndex {
    /// The header, without numbers, and all parts: as they are kept.
    bytes: Vec<u8>,
    states: Vec<(u64, State)>,
    /// In blocks, where the last part ends.
    end: u64,
}

impl Default for TarIndex {
    fn default() -> Self {
        let mut bytes = MAGIC.to_vec();
        bytes.resize(HEADER, 0);
        Self { bytes, states: Vec::new(), end: 0 }
    }
}

impl TarIndex {
    fn push(&mut self, digest: Short, bytes: &Range<u64>) {
        let (start, end) = (bytes.start / BLOCK, bytes.end / BLOCK);
        let mut put = |digest: Short, mut blocks: u64| {
            while blocks > 0 {
                let some = u32::try_from(blocks).unwrap_or(u32::MAX);
                self.bytes.extend_from_slice(&digest);
                self.bytes.extend_from_slice(&some.to_le_bytes());
                blocks -= u64::from(some);
            }
        };
        put(NAMELESS, start.saturating_sub(self.end));
        // What is longer than two terabytes is not found again.
        let blocks = end.saturating_sub(start);
        put(if u32::try_from(blocks).is_ok() { digest } else { NAMELESS }, blocks);
        self.end = end;
    }

    fn count(&self) -> usize {
        (self.bytes.len() - HEADER) / PART
    }

    /// As bytes, to be kept beside the tar.
    pub fn into_bytes(self) -> Vec<u8> {
        let count = self.count() as u64;
        let mut bytes = self.bytes;
        bytes[16..24].copy_from_slice(&count.to_le_bytes());
        bytes[24..HEADER].copy_from_slice(&(self.states.len() as u64).to_le_bytes());
        for (offset, state) in &self.states {
            bytes.extend_from_slice(&offset.to_le_bytes());
            bytes.extend_from_slice(state);
        }
        bytes
    }

    /// What [`into_bytes`](Self::into_bytes) returned; `None` for other bytes. Whoever keeps them makes sure that they
    /// come back whole.
    pub fn from_bytes(mut bytes: Vec<u8>) -> Option<Self> {
        let number = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        if !bytes.starts_with(MAGIC) {
            return None;
        }
        let (parts, states) = (number(bytes.get(16..)?)?, number(bytes.get(24..)?)?);
        let (parts, states) = (usize::try_from(parts).ok()?, usize::try_from(states).ok()?);
        let behind = HEADER.checked_add(parts.checked_mul(PART)?)?;
        if Some(bytes.len()) != behind.checked_add(states.checked_mul(STATE)?) {
            return None;
        }
        let state = |state: &[u8; STATE]| Some((number(state)?, *state[8..].first_chunk()?));
        let states = bytes[behind..].as_chunks().0.iter().map(state).collect::<Option<_>>()?;
        bytes.truncate(behind);
        bytes[16..HEADER].fill(0);
        let end = parts_of(&bytes).map(|(_, blocks)| u64::from(blocks)).sum();
        Some(Self { bytes, states, end })
    }
}

/// The digests of an index and how many blocks each means.
fn parts_of(bytes: &[u8]) -> impl Iterator<Item = (Short, u32)> + '_ {
    bytes[HEADER..].as_chunks::<PART>().0.iter().map(|part| {
        let (digest, blocks) = part.split_first_chunk().expect("a part begins with a digest");
        (*digest, u32::from_le_bytes(blocks.try_into().expect("and ends with a number")))
    })
}

/// A tar whose bytes can be read anywhere.
pub trait ReadAt {
    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// If they cannot be read, or there are not so many.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = self.get(start..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A tar that was written before.
#[derive(Debug)]
pub struct FormerTar<R> {
    /// In the order of their digests.
    parts: Vec<Found>,
    states: Vec<(u64, State)>,
    tar: R,
}

/// A part of a former tar.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Found {
    digest: Short,
    start: u32,
    blocks: u32,
}

impl Found {
    fn bytes(&self) -> Range<u64> {
        let start = u64::from(self.start) * BLOCK;
        start..start + u64::from(self.blocks) * BLOCK
    }
}

impl<R: ReadAt> FormerTar<R> {
    /// `index` is what was made of it when it was written.
    pub fn new(index: TarIndex, tar: R) -> Self {
        let mut parts = Vec::with_capacity(index.count());
        let mut start = 0;
        for (digest, blocks) in parts_of(&index.bytes) {
            // What lies behind two terabytes is not found again.
            if digest != NAMELESS
                && let Ok(start) = u32::try_from(start)
            {
                parts.push(Found { digest, start, blocks });
            }
            start += u64::from(blocks);
        }
        parts.sort_unstable();
        Self { parts, states: index.states, tar }
    }

    /// The part with this digest.
    pub fn find(&self, part: &PartDigest) -> Option<Found> {
        let digest = part.short();
        let at = self.parts.binary_search_by(|part| part.digest.cmp(&digest)).ok()?;
        Some(self.parts[at])
    }

    /// The last place up to `end` where hashing can be resumed.
    fn state_before(&self, end: u64) -> Option<&(u64, State)> {
        let count = self.states.partition_point(|(offset, _)| *offset <= end);
        self.states[..count].last()
    }
}

/// Writes a plain layer that has parts in common with a former one. Dropping it without [`finish`](Self::finish) leaves
/// a truncated layer.
#[must_use = "a layer is complete only after `finish`"]
pub struct LayerRewriter<W: Write, R> {
    output: Output<W>,
    former: Option<Arc<FormerTar<R>>>,
    /// Bytes of the former tar that come next.
    run: Range<u64>,
    /// What was appended last and has no name.
    last: Range<u64>,
    index: TarIndex,
}

enum Output<W: Write> {
    /// Nothing is written yet.
    Untouched(W),
    Writer(Box<LayerWriter<W>>),
    /// Only between two lines.
    Taken,
}

impl<W: Write, R> std::fmt::Debug for LayerRewriter<W, R> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LayerRewriter").field("parts", &self.index.count()).finish_non_exhaustive()
    }
}

impl<W: Write, R: ReadAt> LayerRewriter<W, R> {
    /// A layer without changes yet.
    pub fn new(out: W, former: Option<Arc<FormerTar<R>>>) -> Self {
        Self { output: Output::Untouched(out), former, run: 0..0, last: 0..0, index: TarIndex::default() }
    }

    /// Adds one change, as [`LayerWriter::append`] does. The next layer can have the same part only if it is
    /// [named](Self::name). Returns where the content begins in the tar.
    ///
    /// # Errors
    /// As there.
    pub fn append(&mut self, change: &Change, content: &mut dyn Read) -> io::Result<u64> {
        self.end_run()?;
        let writer = self.writer()?;
        let start = writer.offset();
        let content_at = writer.append(change, content)?;
        self.last = start..writer.offset();
        Ok(content_at)
    }

    /// [`append`](Self::append) of a file whose content does not pass through here: `place` puts as many bytes as the entry
    /// says into the output, behind those that were written, and shows them in their order.
    ///
    /// # Errors
    /// As there, [`io::ErrorKind::UnexpectedEof`] if other than so many bytes were shown, and what `place` returns.
    pub fn append_placed<E: From<io::Error>>(
        &mut self,
        change: &Change,
        place: impl FnOnce(&mut W, &mut dyn FnMut(&[u8])) -> Result<(), E>,
    ) -> Result<u64, E> {
        self.end_run()?;
        let writer = self.writer()?;
        let start = writer.offset();
        let content_at = writer.append_placed(change, place)?;
        self.last = start..writer.offset();
        Ok(content_at)
    }

    /// Says what the change is that was appended last.
    pub fn name(&mut self, part: PartDigest) {
        let bytes = std::mem::take(&mut self.last);
        if !bytes.is_empty() {
            self.index.push(part.short(), &bytes);
        }
    }

    /// Adds a change as the former tar has it; `size` is that of its content. Returns where the content begins in the tar.
    ///
    /// # Errors
    /// The former tar cannot be read, or what writing returns.
    pub fn repeat(&mut self, found: Found, size: u64) -> io::Result<u64> {
        if self.former.is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let bytes = found.bytes();
        if self.run.end != bytes.start || self.run.is_empty() {
            self.end_run()?;
            self.run = bytes.start..bytes.start;
        }
        let start = self.offset();
        self.run.end = bytes.end;
        let length = bytes.end - bytes.start;
        self.index.push(found.digest, &(start..start + length));
        Ok((start + length).saturating_sub(size.next_multiple_of(BLOCK)))
    }

    /// Completes the layer, flushes the output and gives it back.
    ///
    /// # Errors
    /// The former tar cannot be read, or what writing returns.
    pub fn finish(mut self) -> io::Result<(Layer, TarIndex, W)> {
        self.end_run()?;
        self.writer()?;
        let Output::Writer(writer) = self.output else { unreachable!("a writer was just made") };
        self.index.states.extend_from_slice(writer.states());
        let (layer, out) = writer.finish_into()?;
        Ok((layer, self.index, out))
    }

    /// Where the next part will be.
    fn offset(&self) -> u64 {
        let written = if let Output::Writer(writer) = &self.output { writer.offset() } else { 0 };
        written + (self.run.end - self.run.start)
    }

    fn writer(&mut self) -> io::Result<&mut LayerWriter<W>> {
        if let Output::Untouched(_) = self.output {
            let Output::Untouched(out) = std::mem::replace(&mut self.output, Output::Taken) else { unreachable!() };
            self.output = Output::Writer(Box::new(LayerWriter::new(out, Compression::None)?));
        }
        match &mut self.output {
            Output::Writer(writer) => Ok(writer),
            _ => Err(io::Error::other("the layer could not be written before")),
        }
    }

    /// Writes what was only counted.
    fn end_run(&mut self) -> io::Result<()> {
        let run = std::mem::take(&mut self.run);
        let Some(former) = self.former.clone().filter(|_| !run.is_empty()) else { return Ok(()) };
        let mut section = Section { tar: &former.tar, left: run.clone() };
        if run.start == 0
            && let Some((offset, state)) = former.state_before(run.end)
            && let Output::Untouched(_) = self.output
        {
            let Output::Untouched(mut out) = std::mem::replace(&mut self.output, Output::Taken) else { unreachable!() };
            section.left.end = *offset;
            io::copy(&mut io::BufReader::with_capacity(1 << 20, &mut section), &mut out)?;
            section.left = *offset..run.end;
            let resumed = LayerWriter::resume(out, *offset, state);
            let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the state of a hash is damaged");
            self.output = Output::Writer(Box::new(resumed.ok_or_else(damaged)?));
            let states = former.states.iter().take_while(|(at, _)| at <= offset);
            self.index.states.extend(states.copied());
        }
        let length = section.left.end - section.left.start;
        self.writer()?.raw(&mut section, length)
    }
}

/// Reads a range of a tar.
struct Section<'t, R> {
    tar: &'t R,
    left: Range<u64>,
}

impl<R: ReadAt> Read for Section<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.left.end - self.left.start).unwrap_or(usize::MAX);
        let count = left.min(buffer.len());
        self.tar.read_exact_at(&mut buffer[..count], self.left.start)?;
        self.left.start += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
