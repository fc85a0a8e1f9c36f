//! What do other names of a file have to say about it?
//!
//! That is known when its first name comes, and held until the layer is complete: some 80 bytes for each such file, however
//! long its path is. Of a path a digest is held, and what many files have in common once.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rbuild_image::{Entry, EntryKind, Timestamp};

/// Files that have several names, by their first.
#[derive(Debug, Default)]
pub(super) struct Linked {
    places: HashMap<[u8; 16], u32>,
    files: Vec<File>,
    commons: Vec<Common>,
    numbers: HashMap<Common, u32>,
}

#[derive(Debug)]
struct File {
    size: u64,
    content: [u8; 32],
    seconds: i64,
    nanoseconds: u32,
    common: u32,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Common {
    mode: u32,
    uid: u32,
    gid: u32,
    xattrs: BTreeMap<OsString, Vec<u8>>,
}

impl Linked {
    /// Keeps what is known of a file; `content` is its digest. What is no file has no other names.
    pub(super) fn remember(&mut self, entry: &Entry, content: [u8; 32]) {
        let EntryKind::File { size } = entry.kind else { return };
        let common = Common { mode: entry.mode, uid: entry.uid, gid: entry.gid, xattrs: entry.xattrs.clone() };
        let commons = &mut self.commons;
        let common = *self.numbers.entry(common).or_insert_with_key(|common| {
            commons.push(common.clone());
            (commons.len() - 1) as u32
        });
        let Timestamp { seconds, nanoseconds } = entry.mtime;
        self.files.push(File { size, content, seconds, nanoseconds, common });
        self.places.insert(key(&entry.path), (self.files.len() - 1) as u32);
    }

    /// The file with this first name, and the digest of its content.
    pub(super) fn find(&self, first: &Path) -> Option<(Entry, [u8; 32])> {
        let file = &self.files[*self.places.get(&key(first))? as usize];
        let Common { mode, uid, gid, xattrs } = self.commons[file.common as usize].clone();
        let kind = EntryKind::File { size: file.size };
        let mtime = Timestamp { seconds: file.seconds, nanoseconds: file.nanoseconds };
        Some((Entry { path: first.to_owned(), kind, mode, uid, gid, mtime, xattrs }, file.content))
    }
}

/// Nobody finds two paths for which it is the same.
fn key(path: &Path) -> [u8; 16] {
    *blake3::hash(path.as_os_str().as_bytes()).as_bytes().first_chunk().expect("sixteen of thirty-two bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_it_was() {
        let entry = |path: &str, mode, xattrs: &[(&str, &[u8])]| Entry {
            path: path.into(),
            kind: EntryKind::File { size: u64::from(mode) },
            mode,
            uid: 7,
            gid: u32::MAX,
            mtime: Timestamp { seconds: -5, nanoseconds: 6 },
            xattrs: xattrs.iter().map(|(name, value)| (name.into(), value.to_vec())).collect(),
        };
        let files = [entry("a/b", 0o644, &[]), entry("a/c", 0o755, &[("user.x", b"1")]), entry("a/d", 0o644, &[])];
        let mut linked = Linked::default();
        for (file, content) in files.iter().zip([[1; 32], [2; 32], [3; 32]]) {
            linked.remember(file, content);
        }
        let found: Vec<_> = files.iter().filter_map(|file| linked.find(&file.path)).collect();
        assert_eq!(found, files.into_iter().zip([[1; 32], [2; 32], [3; 32]]).collect::<Vec<_>>());
        assert_eq!((linked.find(Path::new("a")), linked.commons.len()), (None, 2));
    }

    /// What all files take; of which few have anything of their own.
    fn reserved(Linked { places, files, commons, numbers }: &Linked) -> usize {
        assert_eq!((commons.len(), numbers.len()), (10, 10));
        // Of a table's buckets, an eighth stays free, and each has a byte more.
        let buckets = places.capacity() / 7 * 8;
        buckets * (size_of::<([u8; 16], u32)>() + 1) + files.capacity() * size_of::<File>()
    }

    #[test]
    fn what_a_file_takes_does_not_depend_on_its_path() {
        const FILES: u32 = 200_000;
        let directory = "some-directory/".repeat(30);
        let entry = |number: u32| Entry {
            path: format!("{directory}{number}").into(),
            kind: EntryKind::File { size: number.into() },
            mode: 0o644,
            uid: number % 10,
            gid: 0,
            mtime: Timestamp { seconds: number.into(), nanoseconds: number },
            xattrs: [("user.x".into(), vec![7; 100])].into(),
        };
        let content = |number: u32| *blake3::hash(&number.to_le_bytes()).as_bytes();
        let mut linked = Linked::default();
        for number in 0..FILES {
            linked.remember(&entry(number), content(number));
        }
        let each = reserved(&linked) / FILES as usize;
        // The tables grow by doubling.
        assert!((80..=160).contains(&each), "{each} bytes for each");
        for number in (0..FILES).step_by(997) {
            assert_eq!(linked.find(&entry(number).path), Some((entry(number), content(number))));
        }
        assert_eq!(linked.find(&entry(FILES).path), None);
    }
}
