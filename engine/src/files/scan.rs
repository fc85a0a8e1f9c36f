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
mod tests;
