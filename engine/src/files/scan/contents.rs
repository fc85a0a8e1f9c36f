//! What is known of the content of each entry of a scan?
//!
//! Four bytes for each entry, and 32 for each digest that is known. Many ask at the same time, and the first answer stays.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock};

use super::super::FileDigest;

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
    digests: RwLock<Vec<FileDigest>>,
}

impl Contents {
    /// Of so many entries nothing is known yet.
    pub(super) fn new(entries: usize) -> Self {
        Self { slots: (0..entries).map(|_| AtomicU32::new(0)).collect(), digests: RwLock::default() }
    }

    pub(super) fn of(&self, entry: u32) -> Option<Known> {
        let slot = self.slots[entry as usize].load(Ordering::Acquire);
        let place = (slot & !(READ | LATER)).checked_sub(1)?;
        let digest = *self.digests.read().unwrap_or_else(PoisonError::into_inner).get(place as usize)?;
        Some(Known { digest, origin: origin(slot) })
    }

    /// Remembers what was found out, unless something was known.
    pub(super) fn learn(&self, entry: u32, known: Known) {
        let mut digests = self.digests.write().unwrap_or_else(PoisonError::into_inner);
        let slot = &self.slots[entry as usize];
        // A thousand million digests are more than there is memory for.
        let place = digests.len() as u32 + 1;
        if slot.load(Ordering::Relaxed) != 0 || place >= LATER {
            return;
        }
        digests.push(known.digest);
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
