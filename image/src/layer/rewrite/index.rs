//! Which parts has a tar?
//!
//! ```text
//! magic 16 │ parts 8 │ states 8 │ { digest 24, blocks 4 }* │ { offset 8, state 104 }*
//! ```
//!
//! Numbers are little endian. Parts follow each other; bytes between them that have no name are a part whose digest is
//! NULs. Of a digest 192 bits are kept: indexes are as long as there are files.

use std::io::{self, Write};
use std::ops::Range;

use rbuild_core::{MakeFile, OnShelf, Shelf};

use super::super::writer::State;
use super::{BLOCK, PartDigest};

pub(super) const MAGIC: &[u8; 16] = b"rbuild-tar-idx/2";
pub(super) const HEADER: usize = 32;
pub(super) const PART: usize = 28;
pub(super) const STATE: usize = 8 + size_of::<State>();

/// How much of an index is in memory.
const MEMORY: usize = 4 << 20;
/// How much is put on the shelf at a time.
const PIECE: usize = 256 << 10;

/// The beginning of a [`PartDigest`].
pub(super) type Short = [u8; 24];

/// Of bytes that have no name.
pub(super) const NAMELESS: Short = [0; 24];

impl PartDigest {
    pub(super) fn short(&self) -> Short {
        *self.0.as_bytes().first_chunk().expect("a digest has 32 bytes")
    }
}

/// Where the parts of a tar are, and states of its hash.
#[derive(Debug)]
pub struct TarIndex {
    shelf: Shelf<Vec<u8>>,
    pieces: Vec<OnShelf<Vec<u8>>>,
    /// The last parts.
    rest: Vec<u8>,
    /// How many parts there are.
    count: u64,
    pub(super) states: Vec<(u64, State)>,
    /// In blocks, where the last part ends.
    end: u64,
}

impl TarIndex {
    pub(super) fn new(make: MakeFile) -> Self {
        let shelf = Shelf::new(MEMORY, 1, make);
        Self { shelf, pieces: Vec::new(), rest: Vec::new(), count: 0, states: Vec::new(), end: 0 }
    }

    pub(super) fn push(&mut self, digest: Short, bytes: &Range<u64>) {
        let (start, end) = (bytes.start / BLOCK, bytes.end / BLOCK);
        self.put(NAMELESS, start.saturating_sub(self.end));
        // What is longer than two terabytes is not found again.
        let blocks = end.saturating_sub(start);
        self.put(if u32::try_from(blocks).is_ok() { digest } else { NAMELESS }, blocks);
        self.end = end;
    }

    fn put(&mut self, digest: Short, mut blocks: u64) {
        while blocks > 0 {
            let some = u32::try_from(blocks).unwrap_or(u32::MAX);
            self.rest.extend_from_slice(&digest);
            self.rest.extend_from_slice(&some.to_le_bytes());
            self.count += 1;
            blocks -= u64::from(some);
            if self.rest.len() + PART > PIECE {
                self.pieces.push(self.shelf.put(std::mem::take(&mut self.rest)));
            }
        }
    }

    /// How many parts there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Writes it as it is kept beside the tar. Give it something that buffers.
    ///
    /// # Errors
    /// What writing returns.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(MAGIC)?;
        out.write_all(&self.count.to_le_bytes())?;
        out.write_all(&(self.states.len() as u64).to_le_bytes())?;
        for piece in &self.pieces {
            out.write_all(&self.shelf.get(piece))?;
        }
        out.write_all(&self.rest)?;
        for (offset, state) in &self.states {
            out.write_all(&offset.to_le_bytes())?;
            out.write_all(state)?;
        }
        Ok(())
    }
}
