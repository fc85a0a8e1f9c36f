//! Random layers and what is left of them after some changes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;

use super::super::{Entry, EntryKind, Timestamp};
use super::*;

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.as_slice().read_exact_at(buffer, offset)
    }
}

#[derive(Clone, Debug)]
struct File {
    mode: u32,
    content: Vec<u8>,
    long_name: bool,
}

type Tree = BTreeMap<u16, File>;

fn tree() -> impl Strategy<Value = Tree> {
    // Some are so large that the hash has states in between.
    let size = prop_oneof![8 => 0..3000_usize, 1 => Just(0), 2 => 100_000..400_000_usize];
    let file =
        (0..0o7777_u32, size, any::<u8>(), prop::bool::weighted(0.1)).prop_map(|(mode, size, seed, long_name)| {
            let byte = |at: usize| (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ seed;
            File { mode, content: (0..size).map(byte).collect(), long_name }
        });
    prop::collection::btree_map(any::<u16>(), file, 0..12)
}

fn changes(tree: &Tree) -> Vec<(Change, &[u8])> {
    fn change<'t>((number, file): (&u16, &'t File)) -> (Change, &'t [u8]) {
        let long = if file.long_name { "x".repeat(120) } else { String::new() };
        let (path, kind) =
            (PathBuf::from(format!("{number:05}{long}")), EntryKind::File { size: file.content.len() as u64 });
        let entry =
            Entry { path, kind, mode: file.mode, uid: 1, gid: 2, mtime: Timestamp::default(), xattrs: BTreeMap::new() };
        (Change::Upsert(entry), file.content.as_slice())
    }
    let mut changes: Vec<_> = tree.iter().map(change).collect();
    changes.push((Change::Remove("z/removed".into()), &[]));
    changes
}

fn plain(tree: &Tree) -> (Layer, Vec<u8>) {
    let mut writer = LayerWriter::new(Vec::new(), Compression::None).unwrap();
    for (change, content) in changes(tree) {
        writer.append(&change, &mut &*content).unwrap();
    }
    writer.finish_into().unwrap()
}

/// Stands for a content whose digest is known.
fn digest(content: &[u8]) -> [u8; 32] {
    let mut hasher = KeyHasher::new("test");
    hasher.bytes(content);
    *hasher.finish().as_bytes()
}

fn rewritten(tree: &Tree, former: Option<&Arc<FormerTar<Vec<u8>>>>) -> (Layer, TarIndex, Vec<u8>, u64) {
    let mut writer = LayerRewriter::new(Vec::new(), former.cloned(), Box::new(tempfile::tempfile));
    let mut read = 0;
    for (change, content) in changes(tree) {
        let part = PartDigest::of(&change, &digest(content)).unwrap();
        let at = match former.and_then(|former| former.find(&part)) {
            Some(found) => writer.repeat(found, content.len() as u64).unwrap(),
            None => {
                read += content.len() as u64;
                let at = match content.len() {
                    200_000.. => writer.append_placed(&change, |out, see| placed(content, out, see)).unwrap(),
                    _ => writer.append(&change, &mut &*content).unwrap(),
                };
                writer.name(part);
                at
            }
        };
        assert_eq!(at % BLOCK, 0);
    }
    let (layer, index, tar) = writer.finish().unwrap();
    (layer, index, tar, read)
}

fn placed(content: &[u8], out: &mut Vec<u8>, see: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    out.extend_from_slice(content);
    content.chunks(70_001).for_each(see);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_rewritten_layer_is_the_one_written_at_once(before in tree(), other in tree(), kept: u16) {
        let (layer, index, tar, _) = rewritten(&before, None);
        let (expected, bytes) = plain(&before);
        prop_assert!(layer == expected && tar == bytes);
        let former = Arc::new(former_of(&index, tar));
        // Most of the former files, and some others.
        let mut after = other;
        after.extend(before.iter().filter(|(number, _)| (**number ^ kept) % 5 > 0).map(|(n, file)| (*n, file.clone())));
        let (expected, bytes) = plain(&after);
        let (layer, index, tar, read) = rewritten(&after, Some(&former));
        prop_assert!(layer == expected && tar == bytes);
        let same = |(number, file): &(&u16, &File)| {
            before.get(number).is_some_and(|known| (known.mode, &known.content, known.long_name) == (file.mode, &file.content, file.long_name))
        };
        let fresh = after.iter().filter(|file| !same(file)).map(|(_, file)| file.content.len() as u64).sum::<u64>();
        prop_assert_eq!(read, fresh, "what was there before is not read again");
        // And again from there.
        let former = Arc::new(former_of(&index, tar));
        let (layer, _, tar, _) = rewritten(&before, Some(&former));
        let (expected, bytes) = plain(&before);
        prop_assert!(layer == expected && tar == bytes);
    }
}

#[test]
fn a_damaged_index_is_none() {
    let tree: Tree =
        (0..4).map(|number| (number, File { mode: 0, content: vec![1; 200_000], long_name: false })).collect();
    let (_, index, ..) = rewritten(&tree, None);
    assert!(!index.states.is_empty());
    let bytes = bytes_of(&index);
    let is_one = |bytes: &[u8]| FormerTar::new(bytes.to_vec(), bytes.len() as u64, Vec::new()).unwrap().is_some();
    assert!(is_one(&bytes));
    for end in (0..bytes.len()).step_by(7) {
        assert!(!is_one(&bytes[..end]), "{end} bytes");
    }
    assert!(!is_one(&[&bytes[..], &[0]].concat()));
}

#[test]
fn a_part_is_found_among_so_many_that_their_index_is_in_a_file() {
    // As many parts as take two times what is in memory.
    let count = 300_000_u64;
    let part = |number: u64| {
        let mut hasher = KeyHasher::new("test");
        hasher.bytes(&number.to_le_bytes());
        PartDigest(hasher.finish())
    };
    let mut index = TarIndex::new(Box::new(tempfile::tempfile));
    for number in 0..count {
        // A block without a name lies between two parts, of one and of two blocks.
        let start = number / 2 * 5 + number % 2 * 2;
        index.push(part(number).short(), &(start * BLOCK..(start + 1 + number % 2) * BLOCK));
    }
    let former = former_of(&index, Vec::new());
    for number in (0..count).step_by(97).chain((0..count).rev().step_by(1013)).chain(2040..2060) {
        let found = former.find(&part(number)).unwrap();
        let start = number / 2 * 5 + number % 2 * 2;
        assert_eq!(found.bytes(), start * BLOCK..(start + 1 + number % 2) * BLOCK, "{number}");
    }
    assert_eq!(former.find(&part(count)), None);
}

fn bytes_of(index: &TarIndex) -> Vec<u8> {
    let mut bytes = Vec::new();
    index.write(&mut bytes).unwrap();
    bytes
}

fn former_of(index: &TarIndex, tar: Vec<u8>) -> FormerTar<Vec<u8>> {
    let bytes = bytes_of(index);
    let length = bytes.len() as u64;
    FormerTar::new(bytes, length, tar).unwrap().unwrap()
}

#[test]
fn content_that_was_not_all_shown_is_an_error() {
    let kind = EntryKind::File { size: 3 };
    let path = PathBuf::from("f");
    let entry = Entry { path, kind, mode: 0o644, uid: 1, gid: 2, mtime: Timestamp::default(), xattrs: BTreeMap::new() };
    let change = Change::Upsert(entry);
    for (shown, is_right) in [(&b""[..], false), (b"ab", false), (b"abc", true), (b"abcd", false)] {
        let mut writer: LayerRewriter<_, Vec<u8>> = LayerRewriter::new(Vec::new(), None, Box::new(tempfile::tempfile));
        let result = writer.append_placed(&change, |out, see| placed(shown, out, see));
        let kind = result.err().map(|error: io::Error| error.kind());
        assert_eq!(kind, (!is_right).then_some(io::ErrorKind::UnexpectedEof), "{shown:?}");
    }
}
