//! What is known of the content of each entry of a scan?
//!
//! Four bytes for each entry, and 32 for each digest that is known, of which most are in a file if there are very many. Many
//! ask at the same time, and the first answer stays.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock};

use rbuild_core::{MakeFile, OnShelf, Shelf, Shelved};

use super::super::FileDigest;

/// How many bytes of digests are in memory, at least.
const MEMORY: usize = 8 << 20;
/// How many blocks of the others are in memory.
const RECENT: usize = 24;
/// How many digests are put on the shelf at a time.
const BLOCK: usize = 8192;

#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) digest: FileDigest,
    pub(super) origin: Origin,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    Cache,
    Read,
    /// The file changed between the walk and the reading.
    ReadLater,
}

const READ: u32 = 1 << 31;
const LATER: u32 = 1 << 30;

/// By the entries' numbers.
#[derive(Debug)]
pub(super) struct Contents {
    /// 0, or one more than the place of a digest, and where that came from.
    slots: Box<[AtomicU32]>,
    digests: RwLock<Digests>,
    shelf: Shelf<Block>,
}

#[derive(Debug, Default)]
struct Digests {
    blocks: Vec<OnShelf<Block>>,
    /// The last ones.
    rest: Vec<FileDigest>,
}

#[derive(Debug)]
struct Block(Box<[FileDigest]>);

impl Contents {
    /// Of so many entries nothing is known yet.
    pub(super) fn new(entries: usize, make: MakeFile) -> Self {
        let slots = (0..entries).map(|_| AtomicU32::new(0)).collect();
        Self { slots, digests: RwLock::default(), shelf: Shelf::new(MEMORY, RECENT, make) }
    }

    pub(super) fn of(&self, entry: u32) -> Option<Known> {
        let slot = self.slots[entry as usize].load(Ordering::Acquire);
        let place = (slot & !(READ | LATER)).checked_sub(1)? as usize;
        let digests = self.digests.read().unwrap_or_else(PoisonError::into_inner);
        let digest = match digests.blocks.get(place / BLOCK) {
            Some(block) => self.shelf.get(block).0[place % BLOCK],
            None => digests.rest[place % BLOCK],
        };
        Some(Known { digest, origin: origin(slot) })
    }

    /// Remembers what was found out, unless something was known.
    pub(super) fn learn(&self, entry: u32, known: Known) {
        let mut digests = self.digests.write().unwrap_or_else(PoisonError::into_inner);
        let slot = &self.slots[entry as usize];
        // A thousand million digests are more than there are files.
        let place = (digests.blocks.len() * BLOCK + digests.rest.len()) as u32 + 1;
        if slot.load(Ordering::Relaxed) != 0 || place >= LATER {
            return;
        }
        digests.rest.push(known.digest);
        if digests.rest.len() == BLOCK {
            let full = std::mem::take(&mut digests.rest);
            digests.blocks.push(self.shelf.put(Block(full.into())));
        }
        let origin = match known.origin {
            Origin::Cache => 0,
            Origin::Read => READ,
            Origin::ReadLater => LATER,
        };
        slot.store(place | origin, Ordering::Release);
    }

    /// Whether any file was read and is what the walk saw.
    pub(super) fn any_read(&self) -> bool {
        self.slots.iter().any(|slot| origin(slot.load(Ordering::Acquire)) == Origin::Read)
    }
}

fn origin(slot: u32) -> Origin {
    match (slot & READ != 0, slot & LATER != 0) {
        (true, _) => Origin::Read,
        (_, true) => Origin::ReadLater,
        _ => Origin::Cache,
    }
}

impl Shelved for Block {
    fn size(&self) -> usize {
        size_of_val(&*self.0)
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|digest| out.extend_from_slice(&digest.0));
    }

    fn read(bytes: &[u8]) -> Self {
        Self(bytes.as_chunks().0.iter().map(|digest| FileDigest(*digest)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_in_the_file_are_as_those_in_memory() {
        // A little more than there is memory for.
        let count = (MEMORY / size_of::<FileDigest>() + 3 * BLOCK) as u32;
        let contents = Contents::new(count as usize, Box::new(tempfile::tempfile));
        let known = |entry: u32| {
            let origin = [Origin::Cache, Origin::Read, Origin::ReadLater][entry as usize % 3];
            Known { digest: FileDigest(*blake3::hash(&entry.to_le_bytes()).as_bytes()), origin }
        };
        for entry in (0..count).filter(|entry| entry % 1000 != 7) {
            contents.learn(entry, known(entry));
        }
        // The first answer stays.
        contents.learn(count - 1, known(0));
        for entry in 0..count {
            let found = contents.of(entry);
            if entry % 1000 == 7 {
                assert!(found.is_none());
            } else {
                let (found, expected) = (found.unwrap(), known(entry));
                assert_eq!((found.digest, found.origin), (expected.digest, expected.origin));
            }
        }
    }
}
