//! Which files of a selection are not what they were?
//!
//! A selection's digest says that something changed. A [`Listing`] is kept beside the step's record to say what: each
//! path with its kind, its mode and the beginning of its digest. On disk it is small, since nobody asks for it before
//! the next miss: paths are written as what they do not share with the one before, and all of it is compressed.
//!
//! ```text
//! zstd( for each path, sorted: shared length, rest's length (LEB128), rest, kind's letter or `!`, mode (2), tag (8) )
//! ```

use std::collections::btree_map::{BTreeMap, Entry};

use super::{DigestError, FileDigest, Kind, Node, Selection, Selector, SourceTree};

/// How many paths [`Changes`] names.
const SHOWN: usize = 10;
/// A listing is not longer than this when it is unpacked, whatever its file says: a million long paths.
const LONGEST: usize = 256 << 20;
/// Fast: a listing is written more often than read.
const LEVEL: i32 = 1;

/// The files of a selection.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Listing(BTreeMap<Box<[u8]>, Fact>);

/// What is compared of one path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Fact {
    /// `!` for what is named and does not exist.
    letter: u8,
    mode: u16,
    tag: [u8; 8],
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
    /// Lists what is selected. Reads nothing that was read for the selection's digest.
    ///
    /// # Errors
    /// As [`Selection::of`].
    pub fn of(tree: &dyn SourceTree, selector: &Selector) -> Result<Self, DigestError> {
        let mut facts = BTreeMap::new();
        Selection::visit(tree, selector, |path, node, content| {
            if let Entry::Vacant(vacant) = facts.entry(path.as_bytes().into()) {
                vacant.insert(Fact::of(node, content));
            }
        })?;
        Ok(Self(facts))
    }

    /// As it is kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut plain = Vec::with_capacity(self.0.len() * 32);
        let mut last: &[u8] = &[];
        for (path, fact) in &self.0 {
            let shared = path.iter().zip(last).take_while(|(one, other)| one == other).count();
            number(&mut plain, shared);
            number(&mut plain, path.len() - shared);
            plain.extend_from_slice(&path[shared..]);
            plain.push(fact.letter);
            plain.extend_from_slice(&fact.mode.to_le_bytes());
            plain.extend_from_slice(&fact.tag);
            last = path;
        }
        zstd::bulk::compress(&plain, LEVEL).expect("compressing into memory does not fail")
    }

    /// Reads what [`Listing::to_bytes`] wrote; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        use std::io::Read;
        let mut plain = Vec::new();
        let mut reader = zstd::Decoder::new(bytes).ok()?.take(LONGEST as u64);
        reader.read_to_end(&mut plain).ok()?;
        let mut rest = &plain[..];
        let mut facts = BTreeMap::new();
        let mut path: Vec<u8> = Vec::new();
        while !rest.is_empty() {
            let (shared, length) = (take_number(&mut rest)?, take_number(&mut rest)?);
            if shared > path.len() {
                return None;
            }
            path.truncate(shared);
            path.extend_from_slice(rest.split_off(..length)?);
            // No kernel gives out longer ones, and a short input could ask for a lot of them.
            if path.len() > 1 << 16 {
                return None;
            }
            let [letter, low, high, tag @ ..] = *rest.split_off(..11)?.first_chunk::<11>()?;
            facts.insert(path.as_slice().into(), Fact { letter, mode: u16::from_le_bytes([low, high]), tag });
        }
        Some(Self(facts))
    }

    /// What is different in `self`, which is newer.
    pub fn changes_since(&self, before: &Self) -> Changes {
        let mut all: Vec<(&[u8], Change)> = Vec::new();
        for (path, fact) in &self.0 {
            let change = match before.0.get(path) {
                None => Change::Added,
                Some(former) if former == fact => continue,
                Some(former) if former.letter == b'!' => Change::Added,
                Some(_) if fact.letter == b'!' => Change::Removed,
                Some(former) if former.letter != fact.letter => Change::Kind,
                Some(former) if former.tag != fact.tag => Change::Content,
                Some(_) => Change::Mode,
            };
            all.push((path, change));
        }
        let gone = before.0.iter().filter(|(path, fact)| fact.letter != b'!' && !self.0.contains_key(*path));
        all.extend(gone.map(|(path, _)| (&**path, Change::Removed)));
        all.sort_unstable_by_key(|(path, _)| *path);
        let text =
            |path: &[u8]| if path.is_empty() { ".".to_owned() } else { String::from_utf8_lossy(path).into_owned() };
        let shown = all.iter().take(SHOWN).map(|(path, change)| (text(path), *change)).collect();
        Changes { shown, others: all.len().saturating_sub(SHOWN) }
    }
}

impl Fact {
    fn of(node: Option<&Node>, content: FileDigest) -> Self {
        let Some(node) = node else { return Self { letter: b'!', mode: 0, tag: [0; 8] } };
        let beginning = |digest: &[u8; 32]| *digest.first_chunk().expect("eight of thirty-two bytes");
        let tag = match node.kind {
            Kind::File | Kind::Directory => beginning(&content.0),
            Kind::Symlink => {
                let target = node.target.as_deref().map(std::os::unix::ffi::OsStrExt::as_bytes).unwrap_or_default();
                beginning(blake3::hash(target).as_bytes())
            }
            Kind::CharacterDevice | Kind::BlockDevice => node.device.to_le_bytes(),
            Kind::Fifo | Kind::Socket => [0; 8],
        };
        Self { letter: node.kind.letter(), mode: (node.mode & 0o7777) as u16, tag }
    }
}

fn number(bytes: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take_number(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0;
    for shift in (0..28).step_by(7) {
        let byte = *rest.split_off_first()?;
        value |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use rbuild_frontend::IgnoreFile;

    use super::*;
    use crate::files::{ContextScan, StatCache};

    fn listing(directory: &Path, include: &[&str]) -> Listing {
        let scan = ContextScan::new(directory, IgnoreFile::default(), StatCache::default()).unwrap();
        let include = include.iter().map(|path| (*path).to_owned()).collect();
        let selector = Selector { include, wildcards: true, parents: false, exclude: Vec::new(), owners: false };
        Listing::of(&scan, &selector).unwrap()
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
        let after = Listing::from_bytes(&listing(context.path(), &["."]).to_bytes()).unwrap();
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
        let bytes = full.to_bytes();
        assert!(bytes.len() < 500 * 15, "{}", bytes.len());
        assert_eq!(Listing::from_bytes(&bytes), Some(full));
    }

    #[test]
    fn damaged_bytes_are_no_listing_and_no_panic() {
        let context = tempfile::tempdir().unwrap();
        fs::write(context.path().join("file"), "").unwrap();
        let good = listing(context.path(), &["."]);
        let bytes = good.to_bytes();
        assert_eq!(Listing::from_bytes(&bytes).as_ref(), Some(&good));
        for end in 0..bytes.len() {
            assert_ne!(Listing::from_bytes(&bytes[..end]).as_ref(), Some(&good));
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x55;
            drop(Listing::from_bytes(&bytes));
        }
        for plain in [&[5, 1, b'a'][..], &[0, 0xff, 0xff, 0xff, 0xff], &[0, 1, b'a', b'-', 0]] {
            assert_eq!(Listing::from_bytes(&zstd::bulk::compress(plain, 1).unwrap()), None, "{plain:?}");
        }
    }
}
