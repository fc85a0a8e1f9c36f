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

mod former;
mod index;

use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::Arc;

use rbuild_core::{Digest, KeyHasher, MakeFile};

pub use self::former::{FormerTar, Found};
pub use self::index::TarIndex;
use super::writer::{LayerWriter, header_of};
use super::{Change, Compression, Layer};

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
    /// A layer without changes yet. `make` makes the file where a large index waits until the layer is complete.
    pub fn new(out: W, former: Option<Arc<FormerTar<R>>>, make: MakeFile) -> Self {
        Self { output: Output::Untouched(out), former, run: 0..0, last: 0..0, index: TarIndex::new(make) }
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
            && let Some((offset, state)) = former.states_to(run.end).last()
            && let Output::Untouched(_) = self.output
        {
            let Output::Untouched(mut out) = std::mem::replace(&mut self.output, Output::Taken) else { unreachable!() };
            section.left.end = *offset;
            io::copy(&mut io::BufReader::with_capacity(1 << 20, &mut section), &mut out)?;
            section.left = *offset..run.end;
            let resumed = LayerWriter::resume(out, *offset, state);
            let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the state of a hash is damaged");
            self.output = Output::Writer(Box::new(resumed.ok_or_else(damaged)?));
            self.index.states.extend(former.states_to(*offset));
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
