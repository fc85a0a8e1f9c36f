//! What of a tar belongs to the current entry?

use std::io::{self, Read};

use super::LayerError;
use crate::layer::header::{BLOCK, padding};
use crate::layer::sparse::{Map, Next};

/// The most bytes that the extension headers of one entry may have.
pub(super) const LARGEST_EXTENSION: u64 = 1 << 20;

/// The tar, and how much of it belongs to the current entry. As a `Read` it is that entry's content.
#[derive(Debug)]
pub(super) struct Input<R> {
    pub(super) inner: R,
    pub(super) offset: u64,
    pub(super) remaining: u64,
    pub(super) padding: usize,
    pub(super) dirty: bool,
    /// Up to where it may be skipped.
    pub(super) length: u64,
    /// Leaves out so many bytes, if it can.
    pub(super) skip: fn(&mut R, u64) -> bool,
    /// Where the current entry's content is not what the tar has, but NULs.
    pub(super) holes: Option<Map>,
    /// How much of the current entry's content was a map of its holes.
    pub(super) map_length: u64,
}

impl<R: Read> Input<R> {
    /// Declares that `size` bytes of content and their padding come next.
    pub(super) fn expect(&mut self, size: u64) {
        self.remaining = size;
        self.padding = padding(size);
        self.holes = None;
    }

    /// Fills `block`; false at the end of the input.
    pub(super) fn read_block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, LayerError> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(LayerError::Truncated(self.offset)),
                Ok(count) => {
                    filled += count;
                    self.offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LayerError::Read(error)),
            }
        }
        Ok(true)
    }

    /// `before` is how long those were that came before this one.
    pub(super) fn read_extension(&mut self, size: u64, before: &mut u64) -> Result<Vec<u8>, LayerError> {
        *before = before.saturating_add(size);
        if *before > LARGEST_EXTENSION {
            return Err(LayerError::Extension(*before));
        }
        self.expect(size);
        let mut data = Vec::new();
        self.read_to_end(&mut data).map_err(|error| self.error(error))?;
        self.skip_content()?;
        Ok(data)
    }

    pub(super) fn skip_content(&mut self) -> Result<(), LayerError> {
        self.holes = None;
        let mut scratch = [0; 8 << 10];
        let end = self.offset.saturating_add(self.remaining);
        if self.remaining > 0 && end <= self.length && (self.skip)(&mut self.inner, self.remaining) {
            (self.remaining, self.offset) = (0, end);
        }
        while self.remaining > 0 {
            self.read(&mut scratch).map_err(|error| self.error(error))?;
        }
        self.remaining = std::mem::take(&mut self.padding) as u64;
        while self.remaining > 0 {
            let count = self.read(&mut scratch).map_err(|error| self.error(error))?;
            self.dirty |= scratch[..count].iter().any(|byte| *byte != 0);
        }
        Ok(())
    }

    pub(super) fn error(&self, error: io::Error) -> LayerError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => LayerError::Truncated(self.offset),
            _ => LayerError::Read(error),
        }
    }
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(holes) = &mut self.holes else { return self.read_stored(buffer) };
        let most = |count: u64| usize::try_from(count).unwrap_or(usize::MAX).min(buffer.len());
        let count = match holes.next() {
            Next::End => return Ok(0),
            Next::Hole(length) => {
                let count = most(length);
                buffer[..count].fill(0);
                count
            }
            Next::Data(length) => {
                let most = most(length);
                self.read_stored(&mut buffer[..most])?
            }
        };
        if let Some(holes) = &mut self.holes {
            holes.advance(count as u64);
        }
        Ok(count)
    }
}

impl<R: Read> Input<R> {
    /// Reads what the tar has of the entry.
    fn read_stored(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = self.remaining.min(buffer.len() as u64) as usize;
        if limit == 0 {
            return Ok(0);
        }
        let count = loop {
            match self.inner.read(&mut buffer[..limit]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the tar ends in the middle of a file"));
        }
        self.remaining -= count as u64;
        self.offset += count as u64;
        Ok(count)
    }
}
