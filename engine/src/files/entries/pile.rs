//! What does a directory contain, while it is being listed?

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

use super::super::{Kind, Node, Timestamp};

/// One entry of a directory.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Packed {
    size: u64,
    /// Nanoseconds since the epoch; without the seconds if the entry's kind has those.
    mtime: i64,
    ctime: i64,
    pub(super) ino: u64,
    /// Where its name begins.
    name: u32,
    /// Of a directory: the number of its listing. Of a link: where its target is.
    pub(super) more: u32,
    pub(super) kind: u32,
    length: u16,
    /// A directory that may be here only because of what was taken back in below it.
    pub(super) excluded: bool,
}

/// What many entries have in common.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Common {
    pub(super) kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
    pub(super) dev: u64,
    pub(super) links: u64,
    device: u64,
    /// The seconds of both times, if nanoseconds since the epoch cannot say them.
    seconds: Option<[i64; 2]>,
}

/// Names of entries, and where links point.
#[derive(Clone, Debug, Default)]
pub(super) struct Text(pub(super) Vec<u8>);

/// Each kind once.
#[derive(Debug, Default)]
struct Kinds {
    all: Vec<Common>,
    numbers: HashMap<Common, u32>,
    /// The kinds of the last directory and of the last of the others: most are like them.
    last: [Option<u32>; 2],
}

/// Entries of a directory, their names, and the kinds of all that came by.
#[derive(Debug, Default)]
pub(in super::super) struct Pile {
    pub(super) text: Text,
    kinds: Kinds,
}

impl Pile {
    /// Forgets the names: a new directory begins.
    pub(in super::super) fn clear(&mut self) {
        self.text.0.clear();
    }

    /// Keeps a name and makes an entry of it.
    pub(in super::super) fn pack(&mut self, name: &[u8], node: &Node, excluded: bool) -> io::Result<Packed> {
        let exact = [node.mtime, node.ctime].map(nanoseconds);
        let seconds = exact.contains(&None).then_some([node.mtime.seconds, node.ctime.seconds]);
        let stored = |exact: Option<i64>, time: Timestamp| match (seconds, exact) {
            (None, Some(exact)) => exact,
            _ => i64::from(time.nanoseconds),
        };
        let kind = self.kinds.number(Common {
            kind: node.kind,
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            dev: node.dev,
            links: node.links,
            device: node.device,
            seconds,
        });
        let length = u16::try_from(name.len()).map_err(too_much)?;
        let mut packed = Packed {
            size: node.size,
            mtime: stored(exact[0], node.mtime),
            ctime: stored(exact[1], node.ctime),
            ino: node.ino,
            name: 0,
            more: 0,
            kind,
            length,
            excluded,
        };
        self.text.keep(&mut packed, name, node.target.as_deref().map(OsStrExt::as_bytes))?;
        Ok(packed)
    }

    pub(in super::super) fn name(&self, entry: &Packed) -> &[u8] {
        self.text.name(entry)
    }

    pub(in super::super) fn is_directory(&self, entry: &Packed) -> bool {
        self.kind(entry) == Kind::Directory
    }

    pub(super) fn kind(&self, entry: &Packed) -> Kind {
        self.kinds.all[entry.kind as usize].kind
    }

    /// Sorts what a directory contains.
    pub(in super::super) fn sort(&self, entries: &mut [Packed]) {
        entries.sort_unstable_by(|left, right| self.name(left).cmp(self.name(right)));
    }

    /// Says which listing a directory has.
    pub(in super::super) fn enter(entry: &mut Packed, listing: u32) {
        entry.more = listing;
    }

    /// Names and nodes of entries, made as they are asked for.
    pub(in super::super) fn into_list(self, entries: Vec<Packed>) -> impl Iterator<Item = (OsString, Node)> + Send {
        let Self { text, kinds } = self;
        entries.into_iter().map(move |entry| {
            let node = text.node(&entry, &kinds.all[entry.kind as usize]);
            (OsStr::from_bytes(text.name(&entry)).to_owned(), node)
        })
    }

    pub(super) fn into_kinds(self) -> Vec<Common> {
        self.kinds.all
    }
}

impl Kinds {
    fn number(&mut self, common: Common) -> u32 {
        let last = &mut self.last[usize::from(common.kind == Kind::Directory)];
        if let Some(number) = *last
            && self.all[number as usize] == common
        {
            return number;
        }
        let all = &mut self.all;
        let number = *self.numbers.entry(common).or_insert_with(|| {
            all.push(common);
            // Each entry adds one at most, and the memory ends before the numbers do.
            (all.len() - 1) as u32
        });
        *last = Some(number);
        number
    }
}

impl Text {
    /// Keeps an entry's name, and where it points if it is a link.
    pub(super) fn keep(&mut self, entry: &mut Packed, name: &[u8], target: Option<&[u8]>) -> io::Result<()> {
        entry.name = u32::try_from(self.0.len()).map_err(too_much)?;
        self.0.extend_from_slice(name);
        if let Some(target) = target {
            entry.more = u32::try_from(self.0.len()).map_err(too_much)?;
            self.0.extend_from_slice(&u32::try_from(target.len()).map_err(too_much)?.to_le_bytes());
            self.0.extend_from_slice(target);
        }
        Ok(())
    }

    pub(super) fn name(&self, entry: &Packed) -> &[u8] {
        &self.0[entry.name as usize..][..usize::from(entry.length)]
    }

    /// Where a link points.
    pub(super) fn target(&self, entry: &Packed) -> &[u8] {
        let Some((length, rest)) = self.0[entry.more as usize..].split_first_chunk() else { return &[] };
        &rest[..u32::from_le_bytes(*length) as usize]
    }

    pub(super) fn node(&self, entry: &Packed, common: &Common) -> Node {
        let time = |stored: i64, which: usize| match common.seconds {
            Some(seconds) => Timestamp { seconds: seconds[which], nanoseconds: stored as u32 },
            None => Timestamp {
                seconds: stored.div_euclid(1_000_000_000),
                nanoseconds: stored.rem_euclid(1_000_000_000) as u32,
            },
        };
        Node {
            kind: common.kind,
            mode: common.mode,
            uid: common.uid,
            gid: common.gid,
            size: entry.size,
            mtime: time(entry.mtime, 0),
            ctime: time(entry.ctime, 1),
            dev: common.dev,
            ino: entry.ino,
            links: common.links,
            device: common.device,
            target: (common.kind == Kind::Symlink).then(|| OsStr::from_bytes(self.target(entry)).into()),
        }
    }
}

impl Packed {
    /// Bytes of one that is written.
    pub(super) const WRITTEN: usize = 48;

    pub(super) fn write(&self) -> [u8; Self::WRITTEN] {
        let mut bytes = [0; Self::WRITTEN];
        let numbers = [self.size, self.mtime.cast_unsigned(), self.ctime.cast_unsigned(), self.ino];
        for (place, number) in bytes.as_chunks_mut().0.iter_mut().zip(numbers) {
            *place = number.to_le_bytes();
        }
        for (place, number) in bytes[32..].as_chunks_mut().0.iter_mut().zip([self.name, self.more, self.kind]) {
            *place = number.to_le_bytes();
        }
        bytes[44..46].copy_from_slice(&self.length.to_le_bytes());
        bytes[46] = u8::from(self.excluded);
        bytes
    }

    pub(super) fn read(bytes: &[u8; Self::WRITTEN]) -> Self {
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let short = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        Self {
            size: long(0),
            mtime: long(8).cast_signed(),
            ctime: long(16).cast_signed(),
            ino: long(24),
            name: short(32),
            more: short(36),
            kind: short(40),
            length: u16::from_le_bytes([bytes[44], bytes[45]]),
            excluded: bytes[46] != 0,
        }
    }
}

/// Exact, or none.
fn nanoseconds(time: Timestamp) -> Option<i64> {
    let whole = time.seconds.checked_mul(1_000_000_000)?;
    whole.checked_add(i64::from(time.nanoseconds)).filter(|_| time.nanoseconds < 1_000_000_000)
}

fn too_much(_: std::num::TryFromIntError) -> io::Error {
    io::ErrorKind::OutOfMemory.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_million_entries_take_half_of_fifty_megabytes() {
        assert!(size_of::<Packed>() <= Packed::WRITTEN);
    }
}
