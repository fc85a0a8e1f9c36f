//! Which files of a selection are not what they were?
//!
//! A selection's digest says that something changed. A [`Listing`] is kept beside the step's record to say what: each
//! path with its kind, its mode and the beginning of its digest. It is small, in memory and on disk: paths are written as
//! what they do not share with the one before, all is compressed as it is written, and two listings are compared side by
//! side as they are unpacked.

mod packed;
mod text;

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufRead};
use std::path::Path;

use self::packed::Packed;
use self::text::{Fact, Run, Text, Walk};
use super::path::walk_order;
use super::{DigestError, InnerPath, Selector, SourceTree};

/// How many paths [`Changes`] names.
const SHOWN: usize = 10;
/// A listing is not longer than this when it is unpacked, whatever its file says: a million long paths.
const LONGEST: usize = 256 << 20;

/// The files of a selection, as they are kept.
#[derive(Debug)]
pub struct Listing(Packed);

/// Why there is no listing.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    /// It is not known which files there are.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// It is long, and there is no room for it.
    #[error("cannot write the listing")]
    Write(#[from] io::Error),
}

/// What happened to one path.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It was not there before.
    Added,
    /// It is no longer there.
    Removed,
    /// What is in the file or where the link points, or an attribute that is copied.
    Content,
    /// Only its permission bits.
    Mode,
    /// It was a file and is a directory, and the like.
    Kind,
}

/// What happened to a selection.
#[derive(Clone, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Changes {
    /// The first paths in their order, from the context's root, as text.
    pub shown: Vec<(String, Change)>,
    /// How many others there are.
    pub others: usize,
}

impl Listing {
    /// Lists what is selected. Reads nothing that was read for the selection's digest. A long listing is in a file without
    /// a name in `scratch`, or where the system has such files.
    ///
    /// # Errors
    /// As [`Selector::digest`]; or it cannot be written.
    pub fn of(tree: &dyn SourceTree, selector: &Selector, scratch: Option<&Path>) -> Result<Self, ListingError> {
        // Each source is in order, and most often their paths are, too.
        let (mut runs, mut run) = (Vec::new(), Run::new(scratch));
        selector.visit(tree, |path, node, content| {
            let fact = Fact::of(node, content);
            if !run.add(path, fact) {
                runs.push(std::mem::replace(&mut run, Run::new(scratch)).finish());
                run.add(path, fact);
            }
        })?;
        if runs.is_empty() {
            return Ok(Self(run.finish()?.into_packed()?));
        }
        runs.push(run.finish());
        Ok(Self::of_runs(&runs.into_iter().collect::<io::Result<Vec<_>>>()?, scratch)?)
    }

    /// Of a path that comes several times, the first counts.
    fn of_runs(runs: &[Text], scratch: Option<&Path>) -> io::Result<Self> {
        let mut walks: Vec<Walk<'_>> = runs.iter().map(Walk::new).collect();
        let mut heads = BinaryHeap::new();
        let head = |walks: &mut [Walk<'_>], number: usize| {
            let walk = walks.get_mut(number)?;
            let fact = walk.next()??;
            Some(Reverse((InnerPath::from_clean(&walk.path), number, fact)))
        };
        heads.extend((0..walks.len()).filter_map(|number| head(&mut walks, number)));
        let mut merged = Run::new(scratch);
        while let Some(Reverse((path, number, fact))) = heads.pop() {
            merged.add(path.as_bytes(), fact);
            heads.extend(head(&mut walks, number));
        }
        merged.finish()?.into_packed().map(Self)
    }

    /// As it is kept.
    pub fn bytes(&self) -> Box<dyn BufRead + Send + '_> {
        self.0.reader()
    }

    /// Takes a file with what [`Listing::bytes`] returned; `None` for anything else.
    pub fn from_file(file: File) -> Option<Self> {
        Self::from_packed(Packed::File(file))
    }

    fn from_packed(packed: Packed) -> Option<Self> {
        let mut walk = Walk::within(&packed, LONGEST as u64);
        let (mut last, mut sorted, mut count, mut bytes) = (Vec::new(), true, 0_usize, 0);
        while let Some(fact) = walk.next() {
            fact?;
            sorted &= count == 0 || walk_order(&last, &walk.path).is_lt();
            last.clone_from(&walk.path);
            count += 1;
            bytes += walk.path.len();
            // Below they are held whole, which can be far longer than what says how they differ.
            if !sorted && bytes > LONGEST {
                return None;
            }
        }
        drop(walk);
        if sorted {
            return Some(Self(packed));
        }
        // Listings were once in another order.
        let mut all = Vec::with_capacity(count);
        let mut walk = Walk::within(&packed, LONGEST as u64);
        while let Some(fact) = walk.next() {
            all.push((InnerPath::from_clean(&walk.path), fact?));
        }
        all.sort_by(|(left, _), (right, _)| left.cmp(right));
        let mut run = Run::default();
        for (path, fact) in all {
            run.add(path.as_bytes(), fact);
        }
        run.finish().and_then(Text::into_packed).ok().map(Self)
    }

    /// What is different in `self`, which is newer.
    pub fn changes_since(&self, before: &Self) -> Changes {
        let mut changes = Changes::default();
        let (mut now, mut then) = (Walk::within(&self.0, u64::MAX), Walk::within(&before.0, u64::MAX));
        let (mut fact, mut former) = (now.next().flatten(), then.next().flatten());
        loop {
            let order = match (fact, former) {
                (None, None) => return changes,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(_), Some(_)) => walk_order(&now.path, &then.path),
            };
            let path = if order.is_gt() { &then.path } else { &now.path };
            if let Some(change) = change(former.filter(|_| order.is_ge()), fact.filter(|_| order.is_le())) {
                changes.add(path, change);
            }
            if order.is_le() {
                fact = now.next().flatten();
            }
            if order.is_ge() {
                former = then.next().flatten();
            }
        }
    }
}

/// What happened at a path.
fn change(before: Option<Fact>, now: Option<Fact>) -> Option<Change> {
    let there = |fact: &Fact| fact.letter != b'!';
    match (before.filter(there), now.filter(there)) {
        // What is named and does not exist was not even named before: it was asked for, and it is news that it is missing.
        (None, None) => (before.is_none() && now.is_some()).then_some(Change::Added),
        (None, Some(_)) => Some(Change::Added),
        (Some(_), None) => Some(Change::Removed),
        (Some(before), Some(now)) if before == now => None,
        (Some(before), Some(now)) if before.letter != now.letter => Some(Change::Kind),
        (Some(before), Some(now)) if before.tag != now.tag => Some(Change::Content),
        (Some(_), Some(_)) => Some(Change::Mode),
    }
}

impl Changes {
    fn add(&mut self, path: &[u8], change: Change) {
        if self.shown.len() == SHOWN {
            self.others += 1;
            return;
        }
        let text = if path.is_empty() { ".".to_owned() } else { String::from_utf8_lossy(path).into_owned() };
        self.shown.push((text, change));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rbuild_frontend::IgnoreFile;

    use super::text::{BATCH, number};
    use super::*;
    use crate::files::{ContextScan, StatCache};

    fn bytes(listing: &Listing) -> Vec<u8> {
        let mut bytes = Vec::new();
        listing.bytes().read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// Both ways in which it can be there.
    fn from_bytes(bytes: &[u8]) -> Option<Listing> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let (read, held) = (Listing::from_file(file), Listing::from_packed(Packed::Memory(bytes.to_vec())));
        assert_eq!(read.as_ref().map(self::bytes), held.as_ref().map(self::bytes));
        read
    }

    fn listing(directory: &Path, include: &[&str]) -> Listing {
        let scan = ContextScan::new(directory, IgnoreFile::default(), StatCache::default(), None).unwrap();
        let include = include.iter().map(|path| (*path).to_owned()).collect();
        let selector = Selector { include, wildcards: true, parents: false, exclude: Vec::new(), owners: false };
        Listing::of(&scan, &selector, None).unwrap()
    }

    #[test]
    fn what_happened_to_each_file_is_named() {
        let context = tempfile::tempdir().unwrap();
        let at = |path: &str| context.path().join(path);
        fs::create_dir(at("d")).unwrap();
        for path in ["changed", "d/gone", "kept", "mode", "turned", "d/kept"] {
            fs::write(at(path), path).unwrap();
        }
        symlink("kept", at("link")).unwrap();
        let before = listing(context.path(), &["."]);
        assert_eq!(before.changes_since(&before), Changes::default());

        fs::write(at("changed"), "CHANGED").unwrap();
        fs::remove_file(at("d/gone")).unwrap();
        fs::write(at("d/new"), "").unwrap();
        fs::set_permissions(at("mode"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::remove_file(at("link")).unwrap();
        symlink("d", at("link")).unwrap();
        fs::remove_file(at("turned")).unwrap();
        fs::create_dir(at("turned")).unwrap();
        let after = from_bytes(&bytes(&listing(context.path(), &["."]))).unwrap();
        let shown = [
            ("changed", Change::Content),
            ("d/gone", Change::Removed),
            ("d/new", Change::Added),
            ("link", Change::Content),
            ("mode", Change::Mode),
            ("turned", Change::Kind),
        ];
        let shown = shown.map(|(path, change)| (path.to_owned(), change)).to_vec();
        assert_eq!(after.changes_since(&before), Changes { shown, others: 0 });
        assert_eq!(listing(context.path(), &[]).changes_since(&before).others, 0);
    }

    #[test]
    fn a_listing_that_says_one_long_path_again_and_again_is_none() {
        let path = vec![b'a'; 60_000];
        let again = |times: usize| {
            let mut run = Run::default();
            run.add(&path, Fact { letter: b'f', mode: 0o644, tag: [0; 8] });
            for _ in 0..times {
                number(&mut run.plain, path.len());
                number(&mut run.plain, 0);
                run.plain.extend_from_slice(&[b'f', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            }
            Listing(run.finish().unwrap().into_packed().unwrap())
        };
        assert!(from_bytes(&bytes(&again(10))).is_some());
        assert!(from_bytes(&bytes(&again(LONGEST / path.len() + 1))).is_none());
    }

    #[test]
    fn what_was_named_and_missing_is_added_when_it_appears() {
        let context = tempfile::tempdir().unwrap();
        let before = listing(context.path(), &["file"]);
        fs::write(context.path().join("file"), "").unwrap();
        let after = listing(context.path(), &["file"]);
        assert_eq!(after.changes_since(&before).shown, [("file".to_owned(), Change::Added)]);
        assert_eq!(before.changes_since(&after).shown, [("file".to_owned(), Change::Removed)]);
    }

    #[test]
    fn many_changes_are_counted_and_take_little_room() {
        let context = tempfile::tempdir().unwrap();
        let empty = listing(context.path(), &["."]);
        for number in 0..500 {
            fs::write(context.path().join(format!("some-long-name-of-a-module-{number}.js")), number.to_string())
                .unwrap();
        }
        let full = listing(context.path(), &["."]);
        let changes = full.changes_since(&empty);
        assert_eq!((changes.shown.len(), changes.others), (SHOWN, 490));
        let bytes = bytes(&full);
        assert!(bytes.len() < 500 * 15, "{}", bytes.len());
        assert_eq!(self::bytes(&from_bytes(&bytes).unwrap()), bytes);
    }

    #[test]
    fn a_long_listing_is_compressed_as_it_comes() {
        let fact = |place: u32| Fact { letter: b'-', mode: 0o644, tag: u64::from(place).to_le_bytes() };
        let path = |place: u32| format!("directory-{:03}/file-{place:06}", place / 1000).into_bytes();
        let runs = |starts: &[u32]| {
            let (mut runs, last) = (Vec::new(), 60_000);
            for (start, end) in starts.iter().zip(starts[1..].iter().chain([&last])) {
                let mut run = Run::default();
                (*start..*end).for_each(|place| assert!(run.add(&path(place), fact(place))));
                assert!(run.plain.len() < BATCH);
                runs.insert(0, run.finish().unwrap());
            }
            Listing::of_runs(&runs, None).unwrap()
        };
        let (whole, parts) = (runs(&[0]), runs(&[0, 500, 1000, 40_000]));
        assert_eq!(whole.changes_since(&parts), Changes::default());
        assert_eq!(parts.changes_since(&whole), Changes::default());
        assert_eq!(bytes(&from_bytes(&bytes(&parts)).unwrap()), bytes(&parts));
        let changes = parts.changes_since(&runs(&[2]));
        assert_eq!((changes.shown.len(), changes.others), (2, 0));
    }

    #[test]
    fn what_is_too_long_for_memory_is_in_a_file() {
        let listing = |scratch: &Path| {
            let mut run = Run::new(Some(scratch));
            for place in 0..200_000_u32 {
                let tag = *blake3::hash(&place.to_le_bytes()).as_bytes().first_chunk().unwrap();
                run.add(format!("{place:06}").as_bytes(), Fact { letter: b'-', mode: 0o644, tag });
            }
            run.finish().and_then(Text::into_packed).map(Listing)
        };
        let scratch = tempfile::tempdir().unwrap();
        let long = listing(scratch.path()).unwrap();
        assert!(matches!(long.0, Packed::File(_)));
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "the file has no name");
        assert_eq!(long.changes_since(&from_bytes(&bytes(&long)).unwrap()), Changes::default());
        let empty = Listing(Run::default().finish().unwrap().into_packed().unwrap());
        assert_eq!(long.changes_since(&empty).others, 200_000 - SHOWN);
        assert!(listing(&scratch.path().join("nothing")).is_err());
    }

    #[test]
    fn sources_in_any_order_are_one_listing() {
        let context = tempfile::tempdir().unwrap();
        for directory in ["a", "a-b", "b"] {
            fs::create_dir(context.path().join(directory)).unwrap();
            fs::write(context.path().join(directory).join("file"), directory).unwrap();
        }
        let expected = listing(context.path(), &["a", "a-b", "b"]);
        for include in [&["b", "a-b", "a"][..], &["b", "a", "b", "a-b", "a/file", "a"]] {
            assert_eq!(bytes(&listing(context.path(), include)), bytes(&expected), "{include:?}");
        }
        // Of a store from before listings were in the order of a walk.
        let mut plain = Vec::new();
        for path in ["a", "a-b", "a/file"] {
            number(&mut plain, 0);
            number(&mut plain, path.len());
            plain.extend_from_slice(path.as_bytes());
            plain.extend_from_slice(b"-\xff\x0112345678");
        }
        let former = from_bytes(&zstd::bulk::compress(&plain, 1).unwrap()).unwrap();
        let shown: Vec<_> = expected.changes_since(&former).shown.into_iter().map(|(path, _)| path).collect();
        assert_eq!(shown, ["a", "a/file", "a-b", "a-b/file", "b", "b/file"]);
    }

    #[test]
    fn damaged_bytes_are_no_listing_and_no_panic() {
        let context = tempfile::tempdir().unwrap();
        fs::write(context.path().join("file"), "").unwrap();
        let good = listing(context.path(), &["."]);
        let bytes = bytes(&good);
        let is_good = |bytes: &[u8]| from_bytes(bytes).is_some_and(|found| self::bytes(&found) == self::bytes(&good));
        assert!(is_good(&bytes));
        for end in 0..bytes.len() {
            assert!(!is_good(&bytes[..end]));
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x55;
            drop(from_bytes(&bytes));
        }
        for plain in [&[5, 1, b'a'][..], &[0, 0xff, 0xff, 0xff, 0xff], &[0, 1, b'a', b'-', 0]] {
            assert!(from_bytes(&zstd::bulk::compress(plain, 1).unwrap()).is_none(), "{plain:?}");
        }
    }
}
