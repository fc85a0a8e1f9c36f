//! What does a build see of a local directory?
//!
//! One walk under the ignore rules lists everything (`gather`); excluded directories are not entered unless an exception
//! reaches into them. Contents are read later, only of what is selected and has changed ([`StatCache`]). What cannot
//! be read is an error only once something selects it: an ignored directory with an exception below it, never by a
//! copy of everything, only by one that names what is below it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use rbuild_frontend::IgnoreFile;
use rustix::fd::AsFd;

use super::gather::{Found, Met, gather};
use super::path::walk_order;
use super::root::node_of;
use super::stat_cache::is_settled;
use super::tree::{Seen, SourceTree};
use super::{FileDigest, InnerPath, Kind, Node, Root, StatCache, Tree, content};

/// Why a directory cannot be a build context.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// It is missing, or no directory, or may not be read.
    #[error("cannot use `{directory}` as a build context")]
    Open {
        /// The directory.
        directory: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// A local directory as a build sees it, at one moment.
#[derive(Debug)]
pub struct ContextScan {
    root: Root,
    node: Node,
    ignore: IgnoreFile,
    /// In the order of a walk, without the root.
    entries: Vec<Met>,
    /// What is known of the content of each.
    digests: Vec<OnceLock<Known>>,
    unreadable: BTreeMap<InnerPath, io::Error>,
    cache: StatCache,
    /// Nanoseconds since the epoch when the walk began.
    clock: i64,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    digest: FileDigest,
    origin: Origin,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Origin {
    Cache,
    Read,
    /// The file changed between the walk and the reading.
    ReadLater,
}

impl ContextScan {
    /// Walks `directory`. `cache` is what an earlier scan of it left.
    ///
    /// # Errors
    /// If the directory itself cannot be read.
    pub fn new(directory: &Path, ignore: IgnoreFile, cache: StatCache) -> Result<Self, ScanError> {
        let error = |source| ScanError::Open { directory: directory.to_owned(), source };
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let root = Root::open(directory).map_err(error)?;
        let node = node_of(root.as_fd()).map_err(error)?;
        let Found { mut entries, mut unreadable } = gather(&root, &ignore);
        if let Some(source) = unreadable.remove(&InnerPath::root()) {
            return Err(error(source));
        }
        if !ignore.is_empty() {
            drop_excluded(&mut entries);
        }
        let digests = entries.iter().map(|_| OnceLock::new()).collect();
        let clock = i64::try_from(clock.as_nanos()).unwrap_or(i64::MAX);
        Ok(Self { root, node, ignore, entries, digests, unreadable, cache, clock })
    }

    /// Whether everything could be looked at.
    pub fn is_complete(&self) -> bool {
        self.unreadable.is_empty()
    }

    /// How many files, directories and links there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the context is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What the next scan wants to know of this one; nothing if it would learn nothing new.
    pub fn stat_cache(&self) -> Option<Vec<u8>> {
        let was_read = |known: &OnceLock<Known>| known.get().is_some_and(|known| known.origin == Origin::Read);
        if !self.digests.iter().any(was_read) {
            return None;
        }
        let files = self.entries.iter().zip(&self.digests).filter(|(entry, _)| entry.node.kind == Kind::File);
        Some(self.cache.renew(
            self.clock,
            files.map(|(entry, known)| {
                let known = known.get().filter(|known| known.origin != Origin::ReadLater);
                (&entry.node, known.map(|known| known.digest))
            }),
        ))
    }

    fn place(&self, path: &InnerPath) -> Option<usize> {
        self.entries.binary_search_by(|entry| walk_order(entry.path.as_bytes(), path.as_bytes())).ok()
    }

    /// The first place after `start` that is not below the directory at `start`.
    fn end_of(&self, start: usize) -> usize {
        let directory = &self.entries[start].path;
        let below = |entry: &Met| entry.path.is_below(directory);
        // Most directories are small: look close by first.
        let mut reach = 8;
        while self.entries.get(start + reach).is_some_and(below) {
            reach *= 2;
        }
        let end = self.entries.len().min(start + reach);
        start + 1 + self.entries[start + 1..end].partition_point(below)
    }

    fn error_at(&self, path: &InnerPath) -> Option<io::Error> {
        self.unreadable.get(path).map(copy_of)
    }

    /// Why it is not known what is at `path`: because of it or of a directory above it.
    fn error_on_the_way(&self, path: &InnerPath) -> Option<io::Error> {
        if self.unreadable.is_empty() {
            return None;
        }
        std::iter::successors(Some(path.clone()), InnerPath::parent).find_map(|path| self.error_at(&path))
    }
}

impl ContextScan {
    /// The digests of `files` as far as they are known, and of the others their number and their place in the scan.
    fn look_up(&self, files: &[(&InnerPath, &Node)]) -> (Vec<FileDigest>, Vec<(usize, Option<usize>)>) {
        let mut digests = vec![FileDigest::default(); files.len()];
        let mut unknown = Vec::new();
        // Files come in the order of the scan: each is looked for behind the last one first.
        let (mut next, mut cached) = (0, 0);
        for (number, (path, node)) in files.iter().enumerate() {
            // Attributes of directories do not count: reading them would take longer than all the rest of a scan.
            if node.is_directory() {
                next += 1;
                continue;
            }
            let mut place = Some(next);
            if self.entries.get(next).is_none_or(|entry| entry.path != **path) {
                place = self.place(path);
            }
            next = place.unwrap_or(self.entries.len()) + 1;
            let known = place.and_then(|place| {
                let known = &self.digests[place];
                known.get().copied().or_else(|| {
                    let digest = self.cache.find_near(&self.entries[place].node, &mut cached)?;
                    Some(*known.get_or_init(|| Known { digest, origin: Origin::Cache }))
                })
            });
            match known {
                Some(known) => digests[number] = known.digest,
                None => unknown.push((number, place)),
            }
        }
        (digests, unknown)
    }
}

fn copy_of(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

impl Tree for ContextScan {
    fn node(&self, path: &InnerPath) -> io::Result<Option<Node>> {
        if path.is_root() {
            return Ok(Some(self.node.clone()));
        }
        match self.place(path) {
            Some(place) => Ok(Some(self.entries[place].node.clone())),
            None => self.error_on_the_way(path).map_or(Ok(None), Err),
        }
    }

    fn node_without_links(&self, path: &InnerPath) -> Option<Node> {
        // Links have nothing below them here, so only the last name can be one.
        self.node(path).ok().flatten().filter(|node| node.kind != Kind::Symlink)
    }

    fn list(&self, directory: &InnerPath) -> io::Result<Vec<(OsString, Node)>> {
        if let Some(error) = self.error_at(directory) {
            return Err(error);
        }
        let (mut place, end) = if directory.is_root() {
            (0, self.entries.len())
        } else {
            let Some(place) = self.place(directory) else { return Err(io::ErrorKind::NotFound.into()) };
            (place + 1, self.end_of(place))
        };
        let skip = if directory.is_root() { 0 } else { directory.as_bytes().len() + 1 };
        let mut entries = Vec::new();
        while place < end {
            let entry = &self.entries[place];
            entries.push((OsStr::from_bytes(&entry.path.as_bytes()[skip..]).to_owned(), entry.node.clone()));
            place = if entry.node.is_directory() { self.end_of(place) } else { place + 1 };
        }
        let unreadable = self
            .unreadable
            .range(directory.clone()..)
            .take_while(|(path, _)| path == &directory || directory.strip(path.as_bytes()).is_some());
        for (path, error) in unreadable {
            // What the ignore file leaves out matters only to who names something that it takes back in below.
            if path.parent().as_ref() == Some(directory)
                && self.place(path).is_none()
                && !self.ignore.matched(path.as_relative()).is_excluded()
            {
                return Err(copy_of(error));
            }
        }
        // Walk order puts `a/…` before `a-b`; among the names of one directory that is no difference.
        Ok(entries)
    }
}

impl SourceTree for ContextScan {
    fn root(&self) -> &Root {
        &self.root
    }

    fn known_digests(&self, files: &[(&InnerPath, &Node)]) -> Option<Vec<FileDigest>> {
        let (digests, unknown) = self.look_up(files);
        unknown.is_empty().then_some(digests)
    }

    fn digests(&self, files: &[(&InnerPath, &Node)]) -> Result<Vec<FileDigest>, (InnerPath, io::Error)> {
        let (mut digests, unknown) = self.look_up(files);
        let unread: Vec<_> = unknown.iter().map(|(number, _)| files[*number]).collect();
        for ((number, place), (digest, now)) in unknown.into_iter().zip(content::digest_all(&self.root, &unread)?) {
            digests[number] = digest;
            if let Some(place) = place {
                let same = now.same_version(&self.entries[place].node);
                let origin = if same { Origin::Read } else { Origin::ReadLater };
                self.digests[place].get_or_init(|| Known { digest, origin });
            }
        }
        Ok(digests)
    }

    fn below(&self, directory: &InnerPath) -> Option<Vec<(&InnerPath, &Node)>> {
        if !self.is_complete() {
            return None;
        }
        let range = match self.place(directory) {
            _ if directory.is_root() => 0..self.entries.len(),
            Some(place) => place + 1..self.end_of(place),
            None => return None,
        };
        Some(self.entries[range].iter().map(|entry| (&entry.path, &entry.node)).collect())
    }

    fn known(&self, path: &InnerPath) -> Option<Seen<'_>> {
        let place = self.place(path)?;
        // A digest of something newer than the node is of no use beside it.
        let known = self.digests[place].get().filter(|known| known.origin != Origin::ReadLater);
        let node = &self.entries[place].node;
        Some(Seen { node, digest: known.map(|known| known.digest), settled: is_settled(node, self.clock) })
    }

    fn hidden_by(&self, path: &InnerPath) -> Option<String> {
        self.ignore.excludes(path.as_relative()).map(|pattern| pattern.text().to_owned())
    }

    fn keeps_directory_attributes(&self) -> bool {
        false
    }
}

/// Drops directories that are excluded and have nothing in them that is not.
fn drop_excluded(entries: &mut Vec<Met>) {
    let mut open: Vec<usize> = Vec::new();
    for place in 0..entries.len() {
        while let Some(top) = open.last()
            && !entries[place].path.is_below(&entries[*top].path)
        {
            open.pop();
        }
        if entries[place].excluded {
            open.push(place);
        } else {
            for place in open.drain(..) {
                entries[place].excluded = false;
            }
        }
    }
    entries.retain(|entry| !entry.excluded);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::Duration;

    use super::*;
    use crate::files::{Selection, Selector};

    fn context(files: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        directory
    }

    fn scan(directory: &Path, ignore: &str) -> ContextScan {
        ContextScan::new(directory, IgnoreFile::parse(ignore).unwrap(), StatCache::default()).unwrap()
    }

    fn names(scan: &ContextScan) -> String {
        let names = scan.entries.iter().map(|entry| String::from_utf8_lossy(entry.path.as_bytes()).into_owned());
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ignored_files_are_not_seen_unless_taken_back() {
        let files = ["a.log", ".git/x", ".gitignore", "keep/b.log", "vendor/drop", "vendor/keep/me", "vendor/keep/not"];
        let directory = context(&files);
        fs::write(directory.path().join(".gitignore"), "keep\n").unwrap();
        for (ignore, expected) in [
            (
                "",
                ".git .git/x .gitignore a.log keep keep/b.log vendor vendor/drop vendor/keep vendor/keep/me vendor/keep/not",
            ),
            ("*.log\n.git*\nvendor", "keep keep/b.log"),
            ("*\n!vendor/keep/me", "vendor vendor/keep vendor/keep/me"),
            ("*\n!vendor/missing", ""),
            ("vendor\n!vendor/*/me\n.*", "a.log keep keep/b.log vendor vendor/keep vendor/keep/me"),
        ] {
            assert_eq!(names(&scan(directory.path(), ignore)), expected, "{ignore}");
        }
    }

    #[test]
    fn lists_are_those_of_the_directories() {
        let directory = context(&["a/b/c", "a/z", "a-b", "a.b/x", "b"]);
        let scan = scan(directory.path(), "");
        let list = |path: &str| {
            let list = scan.list(&InnerPath::new(path)).unwrap();
            list.iter().map(|(name, _)| name.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(list(""), "a a-b a.b b");
        assert_eq!((&*list("a"), &*list("a/b"), &*list("a.b")), ("b z", "c", "x"));
        assert!(scan.list(&InnerPath::new("none")).is_err());
        assert!(scan.node(&InnerPath::new("a/b")).unwrap().unwrap().is_directory());
        assert_eq!(scan.node(&InnerPath::new("a/none")).unwrap(), None);
    }

    #[test]
    fn large_directories_are_skipped_at_once() {
        let files: Vec<String> = (0..100).map(|number| format!("many/f{number:03}")).collect();
        let directory = context(&files.iter().map(String::as_str).chain(["z"]).collect::<Vec<_>>());
        let scan = scan(directory.path(), "");
        let names: Vec<_> = scan.list(&InnerPath::root()).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["many", "z"]);
        assert_eq!(scan.list(&InnerPath::new("many")).unwrap().len(), 100);
    }

    #[test]
    fn walks_with_and_without_threads_find_the_same() {
        let files: Vec<String> =
            (0..3000).map(|number| format!("d{}/e{}/f{number}", number % 70, number % 7)).collect();
        let directory = context(&files.iter().map(String::as_str).collect::<Vec<_>>());
        let scan = scan(directory.path(), "d1*/e3\n!d10/*/f10");
        let expected = |file: &&String| {
            let mut parts = file.split('/');
            let (first, second) = (parts.next().unwrap(), parts.next().unwrap());
            !(first.starts_with("d1") && second == "e3") || **file == "d10/e3/f10"
        };
        let found = scan.entries.iter().filter(|entry| entry.node.kind == Kind::File).count();
        assert_eq!(found, files.iter().filter(expected).count());
        let root = Selection::of(&Root::open(directory.path()).unwrap(), &Selector::path("d2")).unwrap();
        let selector = Selector { owners: true, ..Selector::path("d2") };
        assert_eq!(Selection::of(&scan, &selector).unwrap(), root);
    }

    #[test]
    fn unchanged_files_are_not_read_again() {
        let directory = context(&["a", "b"]);
        let selector = Selector::path("");
        let first = scan(directory.path(), "");
        let digest = Selection::of(&first, &selector).unwrap().digest;
        // Younger than the scan: nothing may be believed yet.
        let bytes = first.stat_cache().unwrap();
        let second = ContextScan::new(directory.path(), IgnoreFile::default(), StatCache::from_bytes(bytes)).unwrap();
        assert_eq!(Selection::of(&second, &selector).unwrap().digest, digest);
        assert!(second.stat_cache().is_some());
        std::thread::sleep(Duration::from_millis(40));
        let third = scan(directory.path(), "");
        Selection::of(&third, &selector).unwrap();
        let bytes = third.stat_cache().unwrap();
        let fourth = ContextScan::new(directory.path(), IgnoreFile::default(), StatCache::from_bytes(bytes)).unwrap();
        assert_eq!(Selection::of(&fourth, &selector).unwrap().digest, digest);
        assert_eq!(fourth.stat_cache(), None, "nothing was read");
        fs::write(directory.path().join("a"), "A").unwrap();
        let bytes = third.stat_cache().unwrap();
        let fifth = ContextScan::new(directory.path(), IgnoreFile::default(), StatCache::from_bytes(bytes)).unwrap();
        assert_ne!(Selection::of(&fifth, &selector).unwrap().digest, digest);
    }

    #[test]
    fn what_cannot_be_read_matters_only_when_it_is_selected() {
        let directory = context(&["ok", "closed/in", "vanishes"]);
        symlink("nowhere", directory.path().join("dangling")).unwrap();
        let scan = scan(directory.path(), "closed\n!closed/none");
        fs::remove_file(directory.path().join("vanishes")).unwrap();
        assert!(Selection::of(&scan, &Selector::path("ok")).is_ok());
        assert!(Selection::of(&scan, &Selector::path("dangling")).is_ok());
        let error = Selection::of(&scan, &Selector::path("")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read `/vanishes`");
        if rustix::process::geteuid().is_root() {
            println!("skipped: root can read everything");
            return;
        }
        fs::set_permissions(directory.path().join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
        let scan = self::scan(directory.path(), "vanishes");
        let error = Selection::of(&scan, &Selector::path("")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read `/closed`");
        fs::set_permissions(directory.path().join("closed"), fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_missing_directory_is_no_context() {
        let directory = context(&["file"]);
        for name in ["none", "file"] {
            let error = ContextScan::new(&directory.path().join(name), IgnoreFile::default(), StatCache::default());
            assert!(error.unwrap_err().to_string().ends_with("as a build context"), "{name}");
        }
    }
}
