//! How are all files of a context held in little memory, however many they are?
//!
//! 48 bytes for each entry, and its name. Paths are made while one walks, a [`Node`] when somebody asks for it. What is more
//! than some megabytes is in a file.
//!
//! ```text
//! listings   [ first, count ]               one for each directory, by number; 0 is the root's
//! part       kinds                          what many entries have in common: mode, owner, device
//!            blocks ─► entries │a│b│c│…     what a directory contains lies together, sorted by name
//!                      text    a b c target-of-c …
//! ```
//!
//! A part is what one thread has found: nothing is moved or copied when all are done. An entry's number counts through
//! the parts.

mod part;
mod pile;

use std::cmp::Ordering;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;

use rbuild_core::{Held, OnShelf, Shelf};

pub(super) use self::part::{Block, Part};
use self::pile::Common;
pub(super) use self::pile::{Packed, Pile};
use super::{Kind, Node};

/// How much of a context's entries is in memory, at least.
pub(super) const MEMORY: usize = 16 << 20;
/// How many blocks of the others are in memory: several threads walk at several places, and at each of them next to what
/// each thread has found that listed the directories.
pub(super) const RECENT: usize = 96;

/// Entries one after the other that are in one directory.
#[derive(Clone, Copy, Debug, Default)]
struct Listing {
    first: u32,
    count: u32,
}

/// Everything below a directory.
#[derive(Debug)]
pub(super) struct Entries {
    shelf: Shelf<Block>,
    /// Each with the part that it is of.
    blocks: Vec<(OnShelf<Block>, u32)>,
    /// The number of each block's first entry.
    starts: Vec<u32>,
    /// What the entries of each part have in common.
    kinds: Vec<Vec<Common>>,
    listings: Vec<Listing>,
    count: u32,
    /// Directories that are not there after all.
    dropped: HashSet<u32>,
}

/// An entry, and what its numbers mean.
struct Entry<'a> {
    packed: Packed,
    common: &'a Common,
    block: Held<'a, Block>,
}

impl Entry<'_> {
    fn name(&self) -> &[u8] {
        self.block.text.name(&self.packed)
    }

    fn node(&self) -> Node {
        self.block.text.node(&self.packed, self.common)
    }

    fn is_directory(&self) -> bool {
        self.common.kind == Kind::Directory
    }
}

impl Entries {
    /// Puts together what was found; there are `count` listings at most.
    pub(super) fn new(parts: Vec<Part>, listings: usize, shelf: Shelf<Block>) -> Self {
        let mut entries = Self {
            shelf,
            blocks: Vec::new(),
            starts: Vec::new(),
            kinds: Vec::new(),
            listings: vec![Listing::default(); listings],
            count: 0,
            dropped: HashSet::new(),
        };
        for (part, found) in parts.into_iter().enumerate() {
            let found = found.finish(&entries.shelf);
            let before = entries.count;
            for (listing, range) in found.listings {
                let count = range.end - range.start;
                entries.listings[listing as usize] = Listing { first: before + range.start, count };
            }
            entries.starts.extend(found.starts.into_iter().map(|start| before + start));
            entries.blocks.extend(found.blocks.into_iter().map(|block| (block, part as u32)));
            entries.kinds.push(found.kinds);
            entries.count += found.count;
        }
        entries
    }

    /// Drops directories that are excluded and have nothing in them that is not, and those whose listings are `gone`.
    pub(super) fn drop_excluded(&mut self, gone: &HashSet<u32>) {
        let mut left: Vec<u32> = self.listings.iter().map(|listing| listing.count).collect();
        // A directory has a smaller number than all that are in it.
        for number in (0..self.listings.len()).rev() {
            let Listing { first, count } = self.listings[number];
            for entry in first..first + count {
                let Entry { packed, common, .. } = self.at(entry);
                let is_directory = common.kind == Kind::Directory;
                let is_dropped = || packed.excluded && left[packed.more as usize] == 0 || gone.contains(&packed.more);
                if is_directory && is_dropped() {
                    left[number] -= 1;
                    self.dropped.insert(entry);
                }
            }
        }
    }

    /// Above every entry's number.
    pub(super) fn numbers(&self) -> usize {
        self.count as usize
    }

    fn at(&self, number: u32) -> Entry<'_> {
        let place = self.starts.partition_point(|start| *start <= number) - 1;
        let (block, part) = &self.blocks[place];
        let block = self.shelf.get(block);
        let packed = block.entries[(number - self.starts[place]) as usize];
        Entry { packed, common: &self.kinds[*part as usize][packed.kind as usize], block }
    }

    pub(super) fn name(&self, number: u32) -> OsString {
        OsStr::from_bytes(self.at(number).name()).to_owned()
    }

    pub(super) fn node(&self, number: u32) -> Node {
        self.at(number).node()
    }

    /// Where what is in a directory is numbered, sorted by name; of the root if there is no number.
    fn range(&self, directory: Option<&Entry<'_>>) -> Range<u32> {
        let listing = match directory {
            None => 0,
            Some(entry) if entry.is_directory() => entry.packed.more,
            Some(_) => return 0..0,
        };
        let Listing { first, count } = self.listings.get(listing as usize).copied().unwrap_or_default();
        first..first + count
    }

    fn is_there(&self, number: u32) -> bool {
        self.dropped.is_empty() || !self.dropped.contains(&number)
    }

    /// Whether any file has several names here.
    pub(super) fn has_links(&self) -> bool {
        let linked = |common: &Common| common.kind == Kind::File && common.links > 1;
        if !self.kinds.iter().flatten().any(linked) {
            return false;
        }
        // Others of their names may be elsewhere: in the store of a package manager, in a copy made with `cp -l`.
        let files = (0..self.count).filter_map(|number| {
            let Entry { packed, common, .. } = self.at(number);
            linked(common).then_some((common.dev, packed.ino))
        });
        let mut files: Vec<(u64, u64)> = files.collect();
        files.sort_unstable();
        files.windows(2).any(|pair| pair[0] == pair[1])
    }

    /// What is at a path, which is not the root's.
    pub(super) fn find(&self, path: &[u8]) -> Option<u32> {
        let mut range = self.range(None);
        let mut names = path.split(|byte| *byte == b'/');
        let mut name = names.next()?;
        loop {
            let (found, entry) = self.child(range, name)?;
            let Some(next) = names.next() else { return Some(found) };
            range = self.range(Some(&entry));
            name = next;
        }
    }

    /// An entry of a directory.
    fn child(&self, Range { mut start, mut end }: Range<u32>, name: &[u8]) -> Option<(u32, Entry<'_>)> {
        while start < end {
            let middle = start + (end - start) / 2;
            let entry = self.at(middle);
            match entry.name().cmp(name) {
                Ordering::Less => start = middle + 1,
                Ordering::Equal => return self.is_there(middle).then_some((middle, entry)),
                Ordering::Greater => end = middle,
            }
        }
        None
    }

    /// What is in a directory, made as it is asked for; in the root if there is no number.
    pub(super) fn list(&self, directory: Option<u32>) -> impl Iterator<Item = (OsString, Node)> + Send + '_ {
        let range = self.range(directory.map(|number| self.at(number)).as_ref());
        range.filter(|number| self.is_there(*number)).map(|number| {
            let entry = self.at(number);
            (OsStr::from_bytes(entry.name()).to_owned(), entry.node())
        })
    }

    /// Goes through everything below a directory; `path` is the directory's.
    pub(super) fn walk(&self, directory: Option<u32>, path: &[u8]) -> Walk<'_> {
        let range = self.range(directory.map(|number| self.at(number)).as_ref());
        Walk { entries: self, open: vec![(range, path.len())], path: path.to_vec() }
    }
}

/// Depth first, names by their bytes: the order of [`InnerPath`](super::InnerPath).
pub(super) struct Walk<'a> {
    entries: &'a Entries,
    /// What is left in each directory, and the length of its path.
    open: Vec<(Range<u32>, usize)>,
    path: Vec<u8>,
}

impl Walk<'_> {
    /// The next entry, its path and what it is.
    pub(super) fn next(&mut self) -> Option<(u32, &[u8], Node)> {
        loop {
            let (left, length) = self.open.last_mut()?;
            self.path.truncate(*length);
            let Some(number) = left.next() else {
                self.open.pop();
                continue;
            };
            if !self.entries.is_there(number) {
                continue;
            }
            let entry = self.entries.at(number);
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(entry.name());
            if entry.is_directory() {
                self.open.push((self.entries.range(Some(&entry)), self.path.len()));
            }
            return Some((number, &self.path, entry.node()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Timestamp;
    use super::*;

    #[test]
    fn every_node_comes_back_as_it_was() {
        let time = |seconds, nanoseconds| Timestamp { seconds, nanoseconds };
        let plain = Node {
            kind: Kind::File,
            mode: 0o4755,
            uid: 7,
            gid: u32::MAX,
            size: u64::MAX,
            mtime: time(1_700_000_000, 999_999_999),
            ctime: time(-1, 1),
            dev: 1 << 40,
            ino: u64::MAX,
            links: 3,
            device: 0,
            target: None,
        };
        let nodes = [
            plain.clone(),
            Node { mtime: time(i64::MAX, 5), ctime: time(i64::MIN, 0), ..plain.clone() },
            Node { mtime: time(9_223_372_036, 999_999_999), ..plain.clone() },
            Node { ctime: time(4, u32::MAX), ..plain.clone() },
            Node { kind: Kind::Symlink, target: Some(OsStr::new("").into()), ..plain.clone() },
            Node { kind: Kind::Symlink, target: Some(OsStr::new("../where/ever").into()), ..plain.clone() },
            Node { kind: Kind::BlockDevice, device: u64::MAX, ..plain },
        ];
        let names: Vec<String> = (0..nodes.len()).map(|number| format!("name{number}")).collect();
        for memory in [0, usize::MAX] {
            let shelf = Shelf::new(memory, RECENT, Box::new(tempfile::tempfile));
            let mut part = Part::default();
            let pack = |(node, name): (&Node, &String)| part.pile.pack(name.as_bytes(), node, false).unwrap();
            let packed: Vec<_> = nodes.iter().zip(&names).map(pack).collect();
            part.add(0, &packed, &shelf).unwrap();
            let entries = Entries::new(vec![Part::default(), part], 1, shelf);
            let found: Vec<_> = entries.list(None).map(|(name, node)| (name.into_string().unwrap(), node)).collect();
            assert_eq!(found, names.clone().into_iter().zip(nodes.clone()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_in_the_file_is_found_as_what_is_in_memory() {
        // 20,000 files in ten directories, found by two threads, in several blocks.
        let node = |kind, ino| Node {
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: ino,
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
            dev: 1,
            ino,
            links: 1,
            device: 0,
            target: (kind == Kind::Symlink).then(|| OsStr::new(&format!("to/{ino}")).into()),
        };
        let shelf = Shelf::new(1 << 20, RECENT, Box::new(tempfile::tempfile));
        let mut parts = [Part::default(), Part::default()];
        let mut expected = Vec::new();
        let mut packed: Vec<_> = (0..10)
            .map(|number| {
                let name = format!("directory{number}");
                let mut packed = parts[0].pile.pack(name.as_bytes(), &node(Kind::Directory, number), false).unwrap();
                Pile::enter(&mut packed, number as u32 + 1);
                packed
            })
            .collect();
        parts[0].add(0, &packed, &shelf).unwrap();
        for directory in 0..10_u32 {
            let part = &mut parts[directory as usize % 2];
            part.pile.clear();
            packed.clear();
            expected.push((format!("directory{directory}"), u64::from(directory)));
            for file in 0..2000_u64 {
                let (name, kind) = (format!("{file:04}"), if file % 3 == 0 { Kind::Symlink } else { Kind::File });
                let ino = u64::from(directory) * 10_000 + file;
                packed.push(part.pile.pack(name.as_bytes(), &node(kind, ino), false).unwrap());
                expected.push((format!("directory{directory}/{name}"), ino));
            }
            part.add(directory + 1, &packed, &shelf).unwrap();
        }
        let entries = Entries::new(parts.into(), 11, shelf);
        assert!(entries.blocks.len() >= 4, "{}", entries.blocks.len());
        let mut walk = entries.walk(None, b"");
        let mut found = Vec::new();
        while let Some((number, path, node)) = walk.next() {
            let path = String::from_utf8(path.to_vec()).unwrap();
            assert_eq!(entries.find(path.as_bytes()), Some(number));
            if let Some(target) = &node.target {
                assert_eq!(**target, *format!("to/{}", node.ino));
            }
            found.push((path, node.ino));
        }
        assert!(found == expected);
        for path in ["directory3/2000", "directory3/0000/x", "nothing", "directory3/0"] {
            assert_eq!(entries.find(path.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn several_who_walk_at_once_read_what_one_reads() {
        const THREADS: usize = 12;
        const WALKS: u32 = 6;
        const DIRECTORIES: u32 = 20_000;
        let time = Timestamp::default();
        let node = |kind| Node {
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 1,
            mtime: time,
            ctime: time,
            dev: 1,
            ino: 1,
            links: 1,
            device: 0,
            target: None,
        };
        let shelf = Shelf::new(0, RECENT, Box::new(tempfile::tempfile));
        let mut parts: Vec<_> = (0..THREADS).map(|_| Part::default()).collect();
        let mut list = |part: usize, listing: u32, kind: Kind, count: u32| {
            let part = &mut parts[part];
            part.pile.clear();
            let pack = |number: u32| {
                let mut packed = part.pile.pack(format!("{number:020}").as_bytes(), &node(kind), false).unwrap();
                if kind == Kind::Directory {
                    Pile::enter(&mut packed, number + 1);
                }
                packed
            };
            let packed: Vec<_> = (0..count).map(pack).collect();
            part.add(listing, &packed, &shelf).unwrap();
        };
        list(0, 0, Kind::Directory, DIRECTORIES);
        // By turns, and the last one first.
        (1..=DIRECTORIES).rev().for_each(|listing| list(listing as usize % THREADS, listing, Kind::File, 10));
        let entries = Entries::new(parts, DIRECTORIES as usize + 1, shelf);
        let mut walks: Vec<_> = (0..WALKS).map(|_| entries.walk(None, b"")).collect();
        for (walk, ahead) in walks.iter_mut().zip(0..) {
            (0..ahead * DIRECTORIES * 11 / WALKS).for_each(|_| assert!(walk.next().is_some()));
        }
        let before = entries.shelf.times_read();
        while walks.iter_mut().filter_map(|walk| walk.next().map(drop)).count() > 0 {}
        let read = entries.shelf.times_read() - before;
        assert!((2..=4).contains(&read), "{read}");
    }
}
