//! What has one thread found, and how is it put on the shelf?

use std::io;
use std::ops::Range;

use rbuild_core::{OnShelf, Shelf, Shelved};

use super::super::Kind;
use super::pile::{Common, Packed, Pile, Text};

/// How much is put on the shelf at a time.
const BLOCK: usize = 64 << 10;

/// Entries that follow each other, and their names.
#[derive(Debug, Default)]
pub(in super::super) struct Block {
    pub(super) entries: Vec<Packed>,
    pub(super) text: Text,
}

/// Entries in the order of their numbers.
#[derive(Debug, Default)]
pub(in super::super) struct Part {
    /// What the directory that is listed contains.
    pub(in super::super) pile: Pile,
    /// What is not on the shelf yet.
    block: Block,
    blocks: Vec<OnShelf<Block>>,
    /// The number of each block's first entry, and the next number.
    starts: Vec<u32>,
    next: u32,
    listings: Vec<(u32, Range<u32>)>,
}

/// What a part is when everything is found.
pub(super) struct Finished {
    pub(super) kinds: Vec<Common>,
    pub(super) blocks: Vec<OnShelf<Block>>,
    pub(super) starts: Vec<u32>,
    /// How many entries there are.
    pub(super) count: u32,
    pub(super) listings: Vec<(u32, Range<u32>)>,
}

impl Part {
    /// How many entries it has.
    pub(in super::super) fn len(&self) -> usize {
        self.next as usize
    }

    /// Takes what a directory contains, sorted, from the pile; `listing` is the directory's number.
    ///
    /// # Errors
    /// Names that take gigabytes.
    pub(in super::super) fn add(&mut self, listing: u32, entries: &[Packed], shelf: &Shelf<Block>) -> io::Result<()> {
        let first = self.next;
        for entry in entries {
            if self.block.size() >= BLOCK {
                self.put(shelf);
            }
            let is_link = self.pile.kind(entry) == Kind::Symlink;
            let target = is_link.then(|| self.pile.text.target(entry));
            let mut entry = *entry;
            let name = self.pile.text.name(&entry);
            self.block.text.keep(&mut entry, name, target)?;
            self.block.entries.push(entry);
            self.next = self.next.checked_add(1).ok_or(io::ErrorKind::OutOfMemory)?;
        }
        self.listings.push((listing, first..self.next));
        Ok(())
    }

    fn put(&mut self, shelf: &Shelf<Block>) {
        let Block { mut entries, mut text } = std::mem::take(&mut self.block);
        entries.shrink_to_fit();
        text.0.shrink_to_fit();
        self.starts.push(self.next - entries.len() as u32);
        self.blocks.push(shelf.put(Block { entries, text }));
    }

    /// Puts the rest on the shelf.
    pub(super) fn finish(mut self, shelf: &Shelf<Block>) -> Finished {
        if !self.block.entries.is_empty() {
            self.put(shelf);
        }
        let Self { pile, blocks, starts, next, listings, .. } = self;
        Finished { kinds: pile.into_kinds(), blocks, starts, count: next, listings }
    }
}

impl Shelved for Block {
    fn size(&self) -> usize {
        self.entries.len() * Packed::WRITTEN + self.text.0.len()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        self.entries.iter().for_each(|entry| out.extend_from_slice(&entry.write()));
        out.extend_from_slice(&self.text.0);
    }

    fn read(bytes: &[u8]) -> Self {
        let (count, rest) = bytes.split_first_chunk().expect("a block that was written");
        let (entries, text) = rest.split_at(u32::from_le_bytes(*count) as usize * Packed::WRITTEN);
        Self { entries: entries.as_chunks().0.iter().map(Packed::read).collect(), text: Text(text.to_vec()) }
    }
}
