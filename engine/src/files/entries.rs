//! How are all files of a context held in memory, if there are half a million of them?
//!
//! 48 bytes for each entry, and its name. Paths are made while one walks, a [`Node`] when somebody asks for it.
//!
//! ```text
//! listings   [ part, first, count ]         one for each directory, by number; 0 is the root's
//! part       entries  │a│b│c│ │x│y│ …        what a directory contains lies together, sorted by name
//!            names    a b c target-of-c x y … and where links point
//!            kinds    what many entries have in common: mode, owner, device
//! ```
//!
//! A part is what one thread has found: nothing is moved or copied when all are done. An entry's number counts through
//! the parts.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;

use super::{Kind, Node, Timestamp};

/// One entry of a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed {
    size: u64,
    /// Nanoseconds since the epoch; without the seconds if the entry's kind has those.
    mtime: i64,
    ctime: i64,
    ino: u64,
    /// Where its name begins.
    name: u32,
    /// Of a directory: the number of its listing. Of a link: where its target is.
    more: u32,
    kind: u32,
    length: u16,
    /// A directory that may be here only because of what was taken back in below it.
    excluded: bool,
}

/// What many entries have in common.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Common {
    kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
    dev: u64,
    links: u64,
    device: u64,
    /// The seconds of both times, if nanoseconds since the epoch cannot say them.
    seconds: Option<[i64; 2]>,
}

/// Entries one after the other that are in one directory.
#[derive(Clone, Copy, Debug, Default)]
struct Listing {
    part: u32,
    first: u32,
    count: u32,
}

/// What one thread has found.
#[derive(Debug, Default)]
pub(super) struct Part {
    names: Vec<u8>,
    entries: Vec<Packed>,
    kinds: Vec<Common>,
    numbers: HashMap<Common, u32>,
    /// The kinds of the last directory and of the last of the others: most are like them.
    last: [Option<u32>; 2],
    listings: Vec<(u32, Range<u32>)>,
}

impl Part {
    /// How many entries it has.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Keeps a name and makes an entry of it, for [`Part::add`].
    pub(super) fn pack(&mut self, name: &[u8], node: &Node, excluded: bool) -> io::Result<Packed> {
        let too_much = |_| io::Error::from(io::ErrorKind::OutOfMemory);
        let exact = [node.mtime, node.ctime].map(nanoseconds);
        let seconds = exact.contains(&None).then_some([node.mtime.seconds, node.ctime.seconds]);
        let stored = |exact: Option<i64>, time: Timestamp| match (seconds, exact) {
            (None, Some(exact)) => exact,
            _ => i64::from(time.nanoseconds),
        };
        let kind = self.kind(Common {
            kind: node.kind,
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            dev: node.dev,
            links: node.links,
            device: node.device,
            seconds,
        });
        let place = u32::try_from(self.names.len()).map_err(too_much)?;
        let length = u16::try_from(name.len()).map_err(too_much)?;
        self.names.extend_from_slice(name);
        let mut more = 0;
        if let Some(target) = &node.target {
            more = u32::try_from(self.names.len()).map_err(too_much)?;
            self.names.extend_from_slice(&u32::try_from(target.len()).map_err(too_much)?.to_le_bytes());
            self.names.extend_from_slice(target.as_bytes());
        }
        Ok(Packed {
            size: node.size,
            mtime: stored(exact[0], node.mtime),
            ctime: stored(exact[1], node.ctime),
            ino: node.ino,
            name: place,
            more,
            kind,
            length,
            excluded,
        })
    }

    fn kind(&mut self, common: Common) -> u32 {
        let last = &mut self.last[usize::from(common.kind == Kind::Directory)];
        if let Some(number) = *last
            && self.kinds[number as usize] == common
        {
            return number;
        }
        let kinds = &mut self.kinds;
        let number = *self.numbers.entry(common).or_insert_with(|| {
            kinds.push(common);
            // Each entry adds one at most, and the names end before the numbers do.
            (kinds.len() - 1) as u32
        });
        *last = Some(number);
        number
    }

    pub(super) fn name(&self, entry: &Packed) -> &[u8] {
        &self.names[entry.name as usize..][..usize::from(entry.length)]
    }

    pub(super) fn is_directory(&self, entry: &Packed) -> bool {
        self.kinds[entry.kind as usize].kind == Kind::Directory
    }

    /// Sorts what a directory contains.
    pub(super) fn sort(&self, entries: &mut [Packed]) {
        entries.sort_unstable_by(|left, right| self.name(left).cmp(self.name(right)));
    }

    /// Says which listing a directory has.
    pub(super) fn enter(entry: &mut Packed, listing: u32) {
        entry.more = listing;
    }

    /// Takes what a directory contains, sorted; `listing` is the directory's number.
    pub(super) fn add(&mut self, listing: u32, entries: &[Packed]) {
        let first = self.entries.len() as u32;
        self.entries.extend_from_slice(entries);
        self.listings.push((listing, first..self.entries.len() as u32));
    }

    /// Names and nodes of entries that are in no directory here, made as they are asked for.
    pub(super) fn into_list(self, entries: Vec<Packed>) -> impl Iterator<Item = (OsString, Node)> + Send {
        let shown = move |entry: Packed| (OsStr::from_bytes(self.name(&entry)).to_owned(), self.node(&entry));
        entries.into_iter().map(shown)
    }

    fn node(&self, entry: &Packed) -> Node {
        let common = &self.kinds[entry.kind as usize];
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

    fn target(&self, entry: &Packed) -> &[u8] {
        let Some((length, rest)) = self.names[entry.more as usize..].split_first_chunk() else { return &[] };
        &rest[..u32::from_le_bytes(*length) as usize]
    }
}

/// Exact, or none.
fn nanoseconds(time: Timestamp) -> Option<i64> {
    let whole = time.seconds.checked_mul(1_000_000_000)?;
    whole.checked_add(i64::from(time.nanoseconds)).filter(|_| time.nanoseconds < 1_000_000_000)
}

/// Everything below a directory.
#[derive(Debug, Default)]
pub(super) struct Entries {
    parts: Vec<Part>,
    /// The number of each part's first entry.
    first: Vec<u32>,
    listings: Vec<Listing>,
}

impl Entries {
    /// Puts together what was found; there are `count` listings at most.
    pub(super) fn new(mut parts: Vec<Part>, count: usize) -> Self {
        let mut listings = vec![Listing::default(); count];
        let mut first = Vec::new();
        let mut next = 0;
        for (number, part) in parts.iter_mut().enumerate() {
            for (listing, range) in std::mem::take(&mut part.listings) {
                let count = range.end - range.start;
                listings[listing as usize] = Listing { part: number as u32, first: next + range.start, count };
            }
            part.numbers = HashMap::new();
            part.entries.shrink_to_fit();
            part.names.shrink_to_fit();
            first.push(next);
            next += part.entries.len() as u32;
        }
        Self { parts, first, listings }
    }

    /// Drops directories that are excluded and have nothing in them that is not, and those whose listings are `gone`.
    pub(super) fn drop_excluded(&mut self, gone: &HashSet<u32>) {
        // A directory has a smaller number than all that are in it.
        for number in (0..self.listings.len()).rev() {
            let Listing { part, first, count } = self.listings[number];
            let Some(base) = self.first.get(part as usize) else { continue };
            let start = (first - base) as usize;
            let part = &mut self.parts[part as usize];
            let mut kept = start;
            for place in start..start + count as usize {
                let entry = part.entries[place];
                let is_empty = |number: u32| self.listings[number as usize].count == 0;
                let is_dropped = |number| entry.excluded && is_empty(number) || gone.contains(&number);
                if !(part.is_directory(&entry) && is_dropped(entry.more)) {
                    part.entries[kept] = entry;
                    kept += 1;
                }
            }
            self.listings[number].count = (kept - start) as u32;
        }
    }

    /// Above every entry's number.
    pub(super) fn numbers(&self) -> usize {
        self.parts.iter().map(Part::len).sum()
    }

    fn at(&self, number: u32) -> (&Part, &Packed) {
        let part = self.first.partition_point(|first| *first <= number) - 1;
        let entry = &self.parts[part].entries[(number - self.first[part]) as usize];
        (&self.parts[part], entry)
    }

    pub(super) fn name(&self, number: u32) -> &[u8] {
        let (part, entry) = self.at(number);
        part.name(entry)
    }

    pub(super) fn node(&self, number: u32) -> Node {
        let (part, entry) = self.at(number);
        part.node(entry)
    }

    pub(super) fn is_directory(&self, number: u32) -> bool {
        let (part, entry) = self.at(number);
        part.is_directory(entry)
    }

    /// The numbers of what is in a directory, sorted by name; of the root if there is no number.
    pub(super) fn children(&self, directory: Option<u32>) -> Range<u32> {
        let listing = match directory.map(|number| self.at(number)) {
            None => 0,
            Some((part, entry)) if part.is_directory(entry) => entry.more,
            Some(_) => return 0..0,
        };
        let Listing { first, count, .. } = self.listings.get(listing as usize).copied().unwrap_or_default();
        first..first + count
    }

    /// Whether any file has several names here.
    pub(super) fn has_links(&self) -> bool {
        let linked = |common: &Common| common.kind == Kind::File && common.links > 1;
        if !self.parts.iter().flat_map(|part| &part.kinds).any(linked) {
            return false;
        }
        // Others of their names may be elsewhere: in the store of a package manager, in a copy made with `cp -l`.
        let numbers = self.listings.iter().flat_map(|listing| listing.first..listing.first + listing.count);
        let files = numbers.filter_map(|number| {
            let (part, entry) = self.at(number);
            let common = &part.kinds[entry.kind as usize];
            linked(common).then_some((common.dev, entry.ino))
        });
        let mut files: Vec<(u64, u64)> = files.collect();
        files.sort_unstable();
        files.windows(2).any(|pair| pair[0] == pair[1])
    }

    /// What is at a path, which is not the root's.
    pub(super) fn find(&self, path: &[u8]) -> Option<u32> {
        let mut found = None;
        for name in path.split(|byte| *byte == b'/') {
            found = Some(self.child(found, name)?);
        }
        found
    }

    /// An entry of a directory.
    fn child(&self, directory: Option<u32>, name: &[u8]) -> Option<u32> {
        let Range { mut start, mut end } = self.children(directory);
        while start < end {
            let middle = start + (end - start) / 2;
            match self.name(middle).cmp(name) {
                Ordering::Less => start = middle + 1,
                Ordering::Equal => return Some(middle),
                Ordering::Greater => end = middle,
            }
        }
        None
    }

    /// What is in a directory, made as it is asked for.
    pub(super) fn list(&self, directory: Option<u32>) -> impl Iterator<Item = (OsString, Node)> + Send + '_ {
        self.children(directory).map(|number| (OsStr::from_bytes(self.name(number)).to_owned(), self.node(number)))
    }

    /// Goes through everything below a directory; `path` is the directory's.
    pub(super) fn walk(&self, directory: Option<u32>, path: &[u8]) -> Walk<'_> {
        Walk { entries: self, open: vec![(self.children(directory), path.len())], path: path.to_vec() }
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
    /// The next entry and its path.
    pub(super) fn next(&mut self) -> Option<(u32, &[u8])> {
        loop {
            let (left, length) = self.open.last_mut()?;
            self.path.truncate(*length);
            let Some(number) = left.next() else {
                self.open.pop();
                continue;
            };
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(self.entries.name(number));
            if self.entries.is_directory(number) {
                self.open.push((self.entries.children(Some(number)), self.path.len()));
            }
            return Some((number, &self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_million_entries_take_half_of_fifty_megabytes() {
        assert!(size_of::<Packed>() <= 48);
    }

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
        let mut part = Part::default();
        let names: Vec<String> = (0..nodes.len()).map(|number| format!("name{number}")).collect();
        let packed: Vec<_> =
            nodes.iter().zip(&names).map(|(node, name)| part.pack(name.as_bytes(), node, false).unwrap()).collect();
        part.add(0, &packed);
        let entries = Entries::new(vec![Part::default(), part], 1);
        let found: Vec<_> = entries.list(None).map(|(name, node)| (name.into_string().unwrap(), node)).collect();
        assert_eq!(found, names.into_iter().zip(nodes).collect::<Vec<_>>());
    }
}
