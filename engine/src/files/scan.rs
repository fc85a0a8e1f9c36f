//! What does a build see of a local directory?
//!
//! One walk under the ignore rules lists everything (`gather`); excluded directories are not entered unless an exception
//! reaches into them. Contents are read later, only of what is selected and has changed ([`StatCache`]). What cannot
//! be read is an error only once something selects it: an ignored directory with an exception below it, never by a
//! copy of everything, only by one that names what is below it.

mod contents;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use rbuild_core::{MakeFile, Shelf};
use rbuild_frontend::IgnoreFile;
use rustix::fd::AsFd;

use self::contents::{Contents, Known, Origin};
use super::content::Reader;
use super::entries::{self, Entries};
use super::gather::{Found, gather};
use super::root::node_of;
use super::stat_cache::{Cursor, is_settled};
use super::tree::{Listed, Reading, Seen, ShowBelow, SourceTree};
use super::{FileDigest, InnerPath, Kind, Node, Root, StatCache, Tree};

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
    /// Without the root.
    entries: Entries,
    contents: Contents,
    unreadable: BTreeMap<InnerPath, io::Error>,
    /// Whether any file has several names here, once somebody asked.
    has_links: OnceLock<bool>,
    cache: StatCache,
    /// Nanoseconds since the epoch when the walk began.
    clock: i64,
}

/// How many files are read before what was found out is told.
const BATCH: usize = 8192;

impl ContextScan {
    /// Walks `directory`. `cache` is what an earlier scan of it left. What is too much for memory goes to a file without a
    /// name in `scratch`, or where the system has such files.
    ///
    /// # Errors
    /// If the directory itself cannot be read.
    pub fn new(
        directory: &Path,
        ignore: IgnoreFile,
        cache: StatCache,
        scratch: Option<PathBuf>,
    ) -> Result<Self, ScanError> {
        let error = |source| ScanError::Open { directory: directory.to_owned(), source };
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let root = Root::open(directory).map_err(error)?;
        let node = node_of(root.as_fd()).map_err(error)?;
        let make = || -> MakeFile {
            let scratch = scratch.clone();
            Box::new(move || scratch.as_ref().map_or_else(tempfile::tempfile, tempfile::tempfile_in))
        };
        let Found { entries, mut unreadable } =
            gather(&root, &ignore, Shelf::new(entries::MEMORY, entries::RECENT, make()));
        if let Some(source) = unreadable.remove(&InnerPath::root()) {
            return Err(error(source));
        }
        let contents = Contents::new(entries.numbers(), make());
        let clock = i64::try_from(clock.as_nanos()).unwrap_or(i64::MAX);
        Ok(Self { root, node, ignore, entries, contents, unreadable, has_links: OnceLock::new(), cache, clock })
    }

    /// Whether everything could be looked at.
    pub fn is_complete(&self) -> bool {
        self.unreadable.is_empty()
    }

    /// Whether the next scan would learn anything new from [`save_to`](Self::save_to).
    pub fn has_news(&self) -> bool {
        self.contents.any_read()
    }

    /// Writes what the next scan wants to know of this one, 80 bytes at a time.
    ///
    /// # Errors
    /// What writing returns.
    pub fn save_to(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut walk = self.entries.walk(None, b"");
        let files = std::iter::from_fn(|| {
            loop {
                let (number, _, node) = walk.next()?;
                if node.kind == Kind::File {
                    let known = self.contents.of(number).filter(|known| known.origin != Origin::ReadLater);
                    return Some((node, known.map(|known| known.digest)));
                }
            }
        });
        self.cache.renew(self.clock, files, out)
    }

    fn place(&self, path: &InnerPath) -> Option<u32> {
        self.entries.find(path.as_bytes())
    }

    /// The number of a directory's entry, which the root has not; nothing if it does not exist.
    fn directory(&self, path: &InnerPath) -> Option<Option<u32>> {
        if path.is_root() { Some(None) } else { self.place(path).map(Some) }
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
    /// The digest of a file, if it is known by now.
    fn known_content(&self, number: u32, node: &Node, cursor: &mut Cursor) -> Option<FileDigest> {
        if let Some(known) = self.contents.of(number) {
            return Some(known.digest);
        }
        let digest = self.cache.find_near(node, cursor)?;
        self.contents.learn(number, Known { digest, origin: Origin::Cache });
        Some(digest)
    }

    /// Keeps what was read of a file; `now` is what it was then.
    fn learn(&self, number: u32, before: &Node, digest: FileDigest, now: &Node) {
        let origin = if now.same_version(before) { Origin::Read } else { Origin::ReadLater };
        self.contents.learn(number, Known { digest, origin });
    }

    /// The digests of `files` as far as they are known, and of the others their number and their place in the scan.
    fn look_up(&self, files: &[(&InnerPath, &Node)]) -> (Vec<FileDigest>, Vec<(usize, Option<u32>)>) {
        let mut digests = vec![FileDigest::default(); files.len()];
        let mut unknown = Vec::new();
        let mut cursor = Cursor::default();
        for (number, (path, node)) in files.iter().enumerate() {
            // Attributes of directories do not count: reading them would take longer than all the rest of a scan.
            if node.is_directory() {
                continue;
            }
            let place = self.place(path);
            match place.and_then(|place| self.known_content(place, &self.entries.node(place), &mut cursor)) {
                Some(digest) => digests[number] = digest,
                None => unknown.push((number, place)),
            }
        }
        (digests, unknown)
    }
}

/// Files on the way from a walk to who wants to see them, in order.
struct Batch<'s> {
    scan: &'s ContextScan,
    reader: Reader<'s>,
    /// Each with its digest, as far as that is known.
    waiting: Vec<(InnerPath, u32, Node, Option<FileDigest>)>,
    unknown: usize,
}

impl Batch<'_> {
    fn push(
        &mut self,
        entry: (InnerPath, u32, Node, Option<FileDigest>),
        show: ShowBelow<'_>,
    ) -> Result<(), (InnerPath, io::Error)> {
        self.unknown += usize::from(entry.3.is_none());
        self.waiting.push(entry);
        if self.unknown >= BATCH || self.waiting.len() >= 2 * BATCH { self.flush(show) } else { Ok(()) }
    }

    /// Reads what is not known.
    fn flush(&mut self, show: ShowBelow<'_>) -> Result<(), (InnerPath, io::Error)> {
        let unread: Vec<(&InnerPath, &Node)> =
            self.waiting.iter().filter(|entry| entry.3.is_none()).map(|(path, _, node, _)| (path, node)).collect();
        let mut read = self.reader.read(&unread)?.into_iter();
        for (path, number, node, known) in self.waiting.drain(..) {
            let digest = known.unwrap_or_else(|| {
                let (digest, now) = read.next().expect("all that was not known was read");
                self.scan.learn(number, &node, digest, &now);
                digest
            });
            show(path.as_bytes(), &node, digest);
        }
        self.unknown = 0;
        Ok(())
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
            Some(place) => Ok(Some(self.entries.node(place))),
            None => self.error_on_the_way(path).map_or(Ok(None), Err),
        }
    }

    fn node_without_links(&self, path: &InnerPath) -> Option<Node> {
        // Links have nothing below them here, so only the last name can be one.
        self.node(path).ok().flatten().filter(|node| node.kind != Kind::Symlink)
    }

    fn list(&self, directory: &InnerPath) -> io::Result<Vec<(OsString, Node)>> {
        self.entries(directory).map(Iterator::collect)
    }

    fn entries(&self, directory: &InnerPath) -> io::Result<Listed<'_>> {
        if let Some(error) = self.error_at(directory) {
            return Err(error);
        }
        let Some(number) = self.directory(directory) else { return Err(io::ErrorKind::NotFound.into()) };
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
        Ok(Box::new(self.entries.list(number)))
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
        let read = Reader::new(&self.root).read(&unread)?;
        for ((number, place), (digest, now)) in unknown.into_iter().zip(read) {
            digests[number] = digest;
            if let Some(place) = place {
                self.learn(place, &self.entries.node(place), digest, &now);
            }
        }
        Ok(digests)
    }

    fn show_below(
        &self,
        directory: &InnerPath,
        reading: Reading,
        show: ShowBelow<'_>,
    ) -> Option<Result<bool, (InnerPath, io::Error)>> {
        if !self.is_complete() {
            return None;
        }
        let mut walk = self.entries.walk(self.directory(directory)?, directory.as_bytes());
        let mut cursor = Cursor::default();
        let mut batch = Batch { scan: self, reader: Reader::new(&self.root), waiting: Vec::new(), unknown: 0 };
        while let Some((number, path, node)) = walk.next() {
            let known = match node.kind {
                Kind::File => self.known_content(number, &node, &mut cursor),
                _ => Some(FileDigest::default()),
            };
            let shown = match known {
                None if reading == Reading::Never => return Some(Ok(false)),
                Some(digest) if batch.waiting.is_empty() => {
                    show(path, &node, digest);
                    Ok(())
                }
                known => batch.push((InnerPath::from_clean(path), number, node, known), show),
            };
            if let Err(error) = shown {
                return Some(Err(error));
            }
        }
        Some(batch.flush(show).map(|()| true))
    }

    fn held(&self, directory: &InnerPath) -> Option<Listed<'_>> {
        if !self.is_complete() || self.has_links() {
            return None;
        }
        Some(Box::new(self.entries.list(self.directory(directory)?)))
    }

    fn number(&self, path: &InnerPath) -> Option<u32> {
        self.place(path)
    }

    fn name(&self, number: u32) -> OsString {
        self.entries.name(number)
    }

    fn is_held(&self) -> bool {
        true
    }

    fn has_links(&self) -> bool {
        *self.has_links.get_or_init(|| self.entries.has_links())
    }

    fn known(&self, path: &InnerPath) -> Option<Seen> {
        let place = self.place(path)?;
        // A digest of something newer than the node is of no use beside it.
        let known = self.contents.of(place).filter(|known| known.origin != Origin::ReadLater);
        let node = self.entries.node(place);
        let settled = is_settled(&node, self.clock);
        Some(Seen { node, digest: known.map(|known| known.digest), settled })
    }

    fn hidden_by(&self, path: &InnerPath) -> Option<String> {
        self.ignore.excludes(path.as_relative()).map(|pattern| pattern.text().to_owned())
    }

    fn keeps_directory_attributes(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
