//! What is kept of one file, and when can it be believed?

use std::io::{self, Write};

use super::super::{FileDigest, Node};

/// Bytes of one.
pub(super) const RECORD: usize = 80;

/// The kernel stamps files with a clock that stands still for up to one tick (10 ms at 100 Hz).
pub(super) const TICK: i64 = 20_000_000;

/// Some file systems keep even or whole seconds only.
const COARSE_TICK: i64 = 2_000_000_000;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Record {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: i64,
    ctime: i64,
    mode: u32,
    pub(super) age: u32,
    pub(super) digest: FileDigest,
}

impl Record {
    pub(crate) fn new(node: &Node, digest: FileDigest) -> Self {
        Self {
            dev: node.dev,
            ino: node.ino,
            size: node.size,
            mtime: node.mtime.total_nanoseconds(),
            ctime: node.ctime.total_nanoseconds(),
            mode: node.mode,
            age: 0,
            digest,
        }
    }

    pub(super) fn is_of(&self, node: &Node) -> bool {
        Self { age: self.age, ..Self::new(node, self.digest) } == *self
    }

    /// As it is kept after one more scan without the file.
    pub(super) fn aged(self) -> Self {
        Self { age: self.age + 1, ..self }
    }

    /// Whether a change after `clock` would have given the file other times.
    pub(super) fn is_settled(&self, clock: i64) -> bool {
        let coarse = self.mtime % 1_000_000_000 == 0 && self.ctime % 1_000_000_000 == 0;
        let tick = if coarse { COARSE_TICK } else { TICK };
        self.mtime.max(self.ctime) < clock.saturating_sub(tick)
    }

    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut bytes = [0; RECORD];
        let numbers = [self.dev, self.ino, self.size, self.mtime.cast_unsigned(), self.ctime.cast_unsigned()];
        for (place, number) in bytes.as_chunks_mut().0.iter_mut().zip(numbers) {
            *place = number.to_le_bytes();
        }
        bytes[40..44].copy_from_slice(&self.mode.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.age.to_le_bytes());
        bytes[48..].copy_from_slice(&self.digest.0);
        out.write_all(&bytes)
    }

    pub(super) fn read(bytes: &[u8; RECORD]) -> Self {
        let small = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        Self {
            dev: number(bytes, 0),
            ino: number(bytes, 8),
            size: number(bytes, 16),
            mtime: number(bytes, 24).cast_signed(),
            ctime: number(bytes, 32).cast_signed(),
            mode: small(40),
            age: small(44),
            digest: FileDigest(bytes[48..RECORD].try_into().expect("the rest of a record")),
        }
    }
}

pub(super) fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Device and inode.
pub(super) fn key_of(record: &[u8; RECORD]) -> (u64, u64) {
    (number(record, 0), number(record, 8))
}
