//! Which files need not be read again?
//!
//! A file whose device, inode, size, times and mode are those of last time has the content of last time: what git's
//! index relies on. And as in git, this is not believed of a file that was changed so shortly before it was read that
//! a second change could have got the same time ("racily clean"): such files are read again.
//!
//! ```text
//! magic(16) clock(8) { dev(8) ino(8) size(8) mtime(8) ctime(8) mode(4) age(4) digest(32) }*
//! ```
//!
//! Numbers are little-endian, times in nanoseconds. Records are in the order in which the scan met the files, and the next
//! scan meets most of them in the same order: the one that is wanted is nearly always the next one. So a cache stays in
//! its file, and a piece of it is in memory. Whoever keeps the bytes makes sure that they come back whole; bytes that are
//! not like this count as an empty cache, and a record that cannot be read as none.

mod record;

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

pub(crate) use self::record::Record;
use self::record::{RECORD, key_of, number};
use super::{FileDigest, Node};

const MAGIC: &[u8; 16] = b"rbuild-stat/3\0\0\0";
const HEADER: usize = 24;

/// How many times a cache is rewritten before it forgets a file that no scan has met since: other Dockerfiles with
/// other ignore files may share the directory.
const MAX_AGE: u32 = 8;

/// Digests of files as they were, from one scan of a context to the next.
#[derive(Debug, Default)]
pub struct StatCache {
    saved: Saved,
    clock: i64,
    count: usize,
    /// Made once enough records were not where they were expected.
    index: OnceLock<Index>,
}

/// Where the bytes are.
#[derive(Debug)]
enum Saved {
    Bytes(Vec<u8>),
    File(File),
}

impl Default for Saved {
    fn default() -> Self {
        Self::Bytes(Vec::new())
    }
}

impl Saved {
    fn read(&self, buffer: &mut [u8], at: usize) -> io::Result<()> {
        match self {
            Self::Bytes(bytes) => {
                let there = bytes.get(at..at + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
                buffer.copy_from_slice(there);
                Ok(())
            }
            Self::File(file) => file.read_exact_at(buffer, at as u64),
        }
    }
}

/// Where records are, by a hash of device and inode: pairs of hash and number, sorted.
#[derive(Debug, Default)]
struct Index {
    hasher: RandomState,
    places: Vec<(u32, u32)>,
}

/// How far a record is looked for before an index of all of them is made: some files came or went.
const NEAR: usize = 64;

/// How many records are in memory at a time, at most.
const WINDOW: usize = 512;

/// A place in a cache.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    /// The record that is expected to be wanted next.
    next: usize,
    /// Records from `start` on.
    window: Vec<[u8; RECORD]>,
    start: usize,
}

/// Whether a change after `clock` would have given a file other times.
pub(crate) fn is_settled(node: &Node, clock: i64) -> bool {
    Record::new(node, FileDigest::default()).is_settled(clock)
}

impl StatCache {
    /// Takes what an earlier [`ContextScan::save_to`](super::ContextScan::save_to) wrote.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        let length = bytes.len() as u64;
        Self::of(Saved::Bytes(bytes), length)
    }

    /// Takes what was written then, the first `length` bytes of a file. Nobody writes to it any more.
    pub fn from_file(file: File, length: u64) -> Self {
        Self::of(Saved::File(file), length)
    }

    fn of(saved: Saved, length: u64) -> Self {
        let records = usize::try_from(length).ok().and_then(|length| length.checked_sub(HEADER));
        let mut header = [0; HEADER];
        let well_formed = saved.read(&mut header, 0).is_ok()
            && header.starts_with(MAGIC)
            && records.is_some_and(|records| records.is_multiple_of(RECORD));
        match records {
            Some(records) if well_formed => {
                let (clock, count) = (number(&header, 16).cast_signed(), records / RECORD);
                Self { saved, clock, count, index: OnceLock::new() }
            }
            _ => Self::default(),
        }
    }

    /// The record at a place, which the cursor is moved to if it has to be.
    fn record<'c>(&self, place: usize, cursor: &'c mut Cursor) -> Option<&'c [u8; RECORD]> {
        let behind = place.checked_sub(cursor.start).is_some_and(|behind| behind < cursor.window.len());
        if !behind {
            // Who goes on gets more at a time, who jumps about little.
            let goes_on = place == cursor.start + cursor.window.len();
            let count = if goes_on { WINDOW.min(2 * cursor.window.len()) } else { 0 }.max(NEAR);
            let count = count.min(self.count.checked_sub(place)?);
            cursor.start = place;
            cursor.window.resize(count, [0; RECORD]);
            if self.saved.read(cursor.window.as_flattened_mut(), HEADER + place * RECORD).is_err() {
                cursor.window.clear();
            }
        }
        cursor.window.get(place - cursor.start)
    }

    /// Where the record of a file is, close to the cursor if possible.
    fn place(&self, key: (u64, u64), cursor: &mut Cursor) -> Option<usize> {
        if self.count == 0 {
            return None;
        }
        let near = cursor.next;
        for place in near..self.count.min(near + NEAR) {
            if self.record(place, cursor).is_some_and(|record| key_of(record) == key) {
                return Some(place);
            }
        }
        let index = self.index.get_or_init(|| self.index());
        let hash = index.hasher.hash_one(key) as u32;
        let from = index.places.partition_point(|(known, _)| *known < hash);
        let same = index.places[from..].iter().take_while(|(known, _)| *known == hash);
        same.map(|(_, place)| *place as usize).find(|place| {
            let mut found = [0; 16];
            let read = self.saved.read(&mut found, HEADER + place * RECORD);
            read.is_ok() && (number(&found, 0), number(&found, 8)) == key
        })
    }

    fn index(&self) -> Index {
        let (hasher, mut cursor) = (RandomState::new(), Cursor::default());
        // More than four thousand million files are not looked for.
        let most = u32::try_from(self.count).unwrap_or(u32::MAX);
        let mut places = Vec::with_capacity(most as usize);
        for place in 0..most {
            if let Some(record) = self.record(place as usize, &mut cursor) {
                places.push((hasher.hash_one(key_of(record)) as u32, place));
            }
        }
        places.sort_unstable();
        Index { hasher, places }
    }

    /// The digest of a file that has not changed.
    #[cfg(test)]
    fn find(&self, node: &Node) -> Option<FileDigest> {
        self.find_near(node, &mut Cursor::default())
    }

    /// The digest of a file that has not changed. It is looked for at the cursor first, which then is behind it.
    pub(crate) fn find_near(&self, node: &Node, cursor: &mut Cursor) -> Option<FileDigest> {
        let place = self.place((node.dev, node.ino), cursor)?;
        cursor.next = place + 1;
        self.at(place, node, cursor)
    }

    /// The digest in a record, if it is of the file as it is.
    fn at(&self, place: usize, node: &Node, cursor: &mut Cursor) -> Option<FileDigest> {
        let record = Record::read(self.record(place, cursor)?);
        (record.is_of(node) && record.is_settled(self.clock)).then_some(record.digest)
    }

    /// Writes the cache after a scan that began at `clock` and met `met`: for each file its digest if it is known by now.
    pub(crate) fn renew(
        &self,
        clock: i64,
        met: impl Iterator<Item = (Node, Option<FileDigest>)>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        out.write_all(MAGIC)?;
        out.write_all(&clock.to_le_bytes())?;
        let mut cursor = Cursor::default();
        // Records of files that were met: they are not to be kept as what they are.
        let mut replaced = vec![false; self.count];
        // A file may have several names, and a digest need not be known by all of them.
        let mut seen: HashSet<(u64, u64)> = HashSet::new();
        for (node, digest) in met {
            let key = (node.dev, node.ino);
            if node.links > 1 && seen.contains(&key) {
                continue;
            }
            let place = self.place(key, &mut cursor);
            if let Some(place) = place {
                (cursor.next, replaced[place]) = (place + 1, true);
            }
            let digest = digest.or_else(|| self.at(place?, &node, &mut cursor));
            let record = digest.map(|digest| Record::new(&node, digest)).filter(|record| record.is_settled(clock));
            if let Some(record) = record {
                record.write(out)?;
                if node.links > 1 {
                    seen.insert(key);
                }
            }
        }
        for place in (0..self.count).filter(|place| !replaced[*place]) {
            let Some(record) = self.record(place, &mut cursor).map(Record::read) else { continue };
            if record.age < MAX_AGE && record.is_settled(self.clock) {
                record.aged().write(out)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::record::TICK;
    use super::*;
    use crate::files::{Kind, Timestamp};

    fn node(ino: u64, seconds: i64) -> Node {
        let time = Timestamp { seconds, nanoseconds: 5 };
        Node {
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 3,
            mtime: time,
            ctime: time,
            dev: 1,
            ino,
            links: 1,
            device: 0,
            target: None,
        }
    }

    fn digest(byte: u8) -> Option<FileDigest> {
        Some(FileDigest([byte; 32]))
    }

    const CLOCK: i64 = 1_000_000_000_000;

    impl StatCache {
        fn renewed(&self, clock: i64, met: impl Iterator<Item = (Node, Option<FileDigest>)>) -> Vec<u8> {
            let mut bytes = Vec::new();
            self.renew(clock, met, &mut bytes).unwrap();
            bytes
        }
    }

    #[test]
    fn unchanged_files_are_found_and_changed_ones_are_not() {
        let nodes: Vec<Node> = (0..100).map(|ino| node(ino, 10)).collect();
        let cache = StatCache::default();
        let bytes =
            cache.renewed(CLOCK, nodes.iter().map(|node| (node.clone(), digest(u8::try_from(node.ino).unwrap()))));
        let cache = StatCache::from_bytes(bytes);
        assert!(nodes.iter().all(|node| cache.find(node) == digest(u8::try_from(node.ino).unwrap())));
        let same = node(7, 10);
        assert_eq!(cache.find(&same), digest(7));
        for changed in [
            Node { size: 4, ..same.clone() },
            Node { mode: 0o755, ..same.clone() },
            Node { mtime: Timestamp { seconds: 10, nanoseconds: 6 }, ..same.clone() },
            Node { ctime: Timestamp::seconds(11), ..same.clone() },
            Node { ino: 1000, ..same.clone() },
            Node { dev: 2, ..same },
        ] {
            assert_eq!(cache.find(&changed), None, "{changed:?}");
        }
    }

    #[test]
    fn records_are_found_wherever_they_are() {
        let nodes: Vec<Node> = (0..1000).map(|ino| node(ino, 10)).collect();
        let met = nodes.iter().map(|node| (node.clone(), digest(node.ino.to_le_bytes()[0])));
        let cache = StatCache::from_bytes(StatCache::default().renewed(CLOCK, met));
        let gone = |ino: u64| ino.is_multiple_of(3) || (200..400).contains(&ino);
        let orders: [Box<dyn Iterator<Item = &Node>>; 3] = [
            Box::new(nodes.iter().filter(|node| !gone(node.ino))),
            Box::new(nodes.iter().rev()),
            Box::new(nodes.iter().flat_map(|node| [node, node])),
        ];
        for order in orders {
            let mut next = Cursor::default();
            for node in order {
                assert_eq!(cache.find_near(node, &mut next), digest(node.ino.to_le_bytes()[0]), "{}", node.ino);
                assert_eq!(cache.find_near(&self::node(node.ino + 5000, 10), &mut next), None);
            }
        }
    }

    #[test]
    fn a_file_with_several_names_has_one_record() {
        let (first, second) = (Node { links: 2, ..node(1, 10) }, Node { links: 2, ..node(2, 10) });
        let met = [(&first, None), (&second, digest(2)), (&first, digest(1)), (&first, digest(1)), (&second, None)];
        let met = met.map(|(node, digest)| (node.clone(), digest));
        let bytes = StatCache::default().renewed(CLOCK, met.into_iter());
        let cache = StatCache::from_bytes(bytes);
        assert_eq!((cache.count, cache.find(&first), cache.find(&second)), (2, digest(1), digest(2)));
    }

    #[test]
    fn files_younger_than_the_scan_are_read_again() {
        let at = |nanoseconds: i64| {
            let rest = u32::try_from(nanoseconds % 1_000_000_000).unwrap();
            let time = Timestamp { seconds: nanoseconds / 1_000_000_000, nanoseconds: rest };
            Node { mtime: time, ..node(1, 10) }
        };
        for (time, trusted) in [
            (CLOCK + 5, false),
            (CLOCK - TICK / 2 + 5, false),
            (CLOCK - TICK - 5, true),
            // Whole seconds: the file system may know no finer ones.
            (CLOCK - 1_000_000_000, true),
        ] {
            let node = at(time);
            let cache =
                StatCache::from_bytes(StatCache::default().renewed(CLOCK, [(node.clone(), digest(1))].into_iter()));
            assert_eq!(cache.find(&node).is_some(), trusted, "{time}");
        }
        let whole = Node { mtime: Timestamp::seconds(999), ctime: Timestamp::seconds(999), ..node(1, 10) };
        let cache =
            StatCache::from_bytes(StatCache::default().renewed(CLOCK, [(whole.clone(), digest(1))].into_iter()));
        assert_eq!(cache.find(&whole), None);
    }

    #[test]
    fn files_not_met_are_forgotten_after_a_while() {
        let kept = node(1, 10);
        let mut cache =
            StatCache::from_bytes(StatCache::default().renewed(CLOCK, [(kept.clone(), digest(1))].into_iter()));
        for round in 0..=MAX_AGE {
            assert_eq!(cache.find(&kept).is_some(), round <= MAX_AGE, "{round}");
            cache = StatCache::from_bytes(cache.renewed(CLOCK, std::iter::empty()));
        }
        assert_eq!(cache.find(&kept), None);
        // Met but not asked for: kept as young as it was.
        let cache = StatCache::from_bytes(StatCache::default().renewed(CLOCK, [(kept.clone(), digest(1))].into_iter()));
        let cache = StatCache::from_bytes(cache.renewed(CLOCK, [(kept.clone(), None)].into_iter()));
        assert_eq!(cache.find(&kept), digest(1));
    }

    #[test]
    fn damaged_bytes_are_an_empty_cache() {
        let good = StatCache::default().renewed(CLOCK, [(node(1, 10), digest(1))].into_iter());
        assert!(StatCache::from_bytes(good.clone()).find(&node(1, 10)).is_some());
        for end in 0..good.len() {
            assert!(StatCache::from_bytes(good[..end].to_vec()).find(&node(1, 10)).is_none());
        }
        for at in 0..MAGIC.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            assert!(StatCache::from_bytes(bytes).find(&node(1, 10)).is_none(), "{at}");
        }
    }
}
