//! How do many files get from a tree into an image?
//!
//! Directories are made one after the other as the walk meets them; the files in them collect in batches that are
//! copied in parallel. A batch is bounded, and so are the descriptors and the memory it holds. Hard links wait until
//! the file they are another name of has been copied.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, openat};

use super::super::root::node_of;
use super::super::tree::SourceTree;
use super::super::walk::{Reason, Visitor};
use super::super::{Attributes, InnerPath, Kind, Node};
use super::mode::ModeChange;
use super::owner::Ids;
use super::write::{DirectoryMeta, Meta, Place, TransferError, Writer, set_attributes, transfer};
use super::{Copied, CopyError};

const MOST_FILES: usize = 2048;
const MOST_DIRECTORIES: usize = 64;
const WORTH_THREADS: usize = 16;

/// What copies look like.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Who owns them; those of the source if absent.
    pub(crate) ids: Option<Ids>,
    pub(crate) mode: ModeChange,
}

impl Rules {
    pub(crate) fn meta(&self, node: &Node) -> Meta {
        Meta {
            ids: self.ids.unwrap_or(Ids { uid: node.uid, gid: node.gid }),
            mode: self.mode.apply(node.mode, node.kind),
            mtime: node.mtime,
        }
    }
}

/// What has been copied so far, counted by all threads.
#[derive(Default)]
pub(crate) struct Tally {
    files: AtomicU64,
    bytes: AtomicU64,
    changed: Mutex<Vec<InnerPath>>,
}

impl Tally {
    pub(crate) fn add(&self, bytes: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn changed(&self, path: InnerPath) {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).push(path);
    }

    pub(crate) fn into_copied(self) -> Copied {
        let mut changed = self.changed.into_inner().unwrap_or_else(PoisonError::into_inner);
        changed.sort();
        Copied { files: self.files.into_inner(), bytes: self.bytes.into_inner(), changed }
    }
}

/// A directory of the source and the one it is copied to.
#[derive(Debug)]
struct Pair {
    source: OwnedFd,
    source_path: InnerPath,
    place: Place,
}

struct Job {
    pair: Arc<Pair>,
    from: OsString,
    to: OsString,
    node: Node,
}

/// Copies from one tree.
pub(crate) struct Transfer<'a> {
    pub(crate) writer: &'a Writer<'a>,
    pub(crate) source: &'a dyn SourceTree,
    pub(crate) rules: &'a Rules,
    pub(crate) tally: &'a Tally,
    pub(crate) report: &'a (dyn Fn(u64) + Sync),
    /// The directories that are open, from where the walk began; between walks, those of the last single file.
    way: Vec<Arc<Pair>>,
    batch: Vec<Job>,
    /// Where the batch's single files go: a later one of the same name has to wait.
    names: HashSet<InnerPath>,
    directories: usize,
    /// Files with several names: where the first was copied to.
    first_names: HashMap<(u64, u64), InnerPath>,
    /// Other names, and what of.
    links: Vec<(InnerPath, InnerPath)>,
    /// How many entries the walk has shown.
    pub(crate) shown: u64,
}

impl<'a> Transfer<'a> {
    pub(crate) fn new(
        writer: &'a Writer<'a>,
        source: &'a dyn SourceTree,
        rules: &'a Rules,
        tally: &'a Tally,
        report: &'a (dyn Fn(u64) + Sync),
    ) -> Self {
        Self {
            writer,
            source,
            rules,
            tally,
            report,
            way: Vec::new(),
            batch: Vec::new(),
            names: HashSet::new(),
            directories: 0,
            first_names: HashMap::new(),
            links: Vec::new(),
            shown: 0,
        }
    }

    /// Begins a walk: what it shows of `directory` goes to `place`.
    pub(crate) fn begin(&mut self, directory: &InnerPath, place: Place) -> Result<(), CopyError> {
        self.flush()?;
        self.first_names.clear();
        self.way = vec![self.pair(directory, place)?];
        Ok(())
    }

    /// Ends a walk.
    pub(crate) fn end(&mut self) -> Result<(), CopyError> {
        self.way.clear();
        self.flush()?;
        let mut open: Option<Place> = None;
        for (path, target) in std::mem::take(&mut self.links) {
            let parent = path.parent().unwrap_or_default();
            let place = match open.take().filter(|place| place.path == parent) {
                Some(place) => place,
                None => self.writer.directory(&parent, self.writer.parents)?,
            };
            self.writer.hard_link(&place, path.name(), &target)?;
            self.tally.add(0);
            open = Some(place);
        }
        Ok(())
    }

    /// Copies one thing that is no directory to a place in the image.
    pub(crate) fn single(&mut self, from: &InnerPath, node: &Node, to: &InnerPath) -> Result<(), CopyError> {
        if !self.names.insert(to.clone()) {
            self.flush()?;
            self.names.insert(to.clone());
        }
        let (source, place) = (from.parent().unwrap_or_default(), to.parent().unwrap_or_default());
        let pair = match self.way.pop().filter(|pair| pair.source_path == source && pair.place.path == place) {
            Some(pair) => pair,
            None => self.pair(&source, self.writer.directory(&place, self.writer.parents)?)?,
        };
        self.entry(&pair, from.name(), to.name(), node)?;
        self.way = vec![pair];
        Ok(())
    }

    fn pair(&mut self, source_path: &InnerPath, place: Place) -> Result<Arc<Pair>, CopyError> {
        self.directories += 1;
        let source = self
            .source
            .root()
            .open_directory(source_path)
            .map_err(|source| CopyError::Read { path: source_path.clone(), source })?;
        Ok(Arc::new(Pair { source, source_path: source_path.clone(), place }))
    }

    fn entry(&mut self, pair: &Arc<Pair>, from: &OsStr, to: &OsStr, node: &Node) -> Result<(), CopyError> {
        match node.kind {
            Kind::Socket | Kind::Directory => return Ok(()),
            Kind::File => {
                let job = Job { pair: Arc::clone(pair), from: from.to_owned(), to: to.to_owned(), node: node.clone() };
                self.batch.push(job);
                if self.batch.len() >= MOST_FILES || self.directories >= MOST_DIRECTORIES {
                    self.flush()?;
                }
                return Ok(());
            }
            Kind::Symlink => {
                let target = node.target.as_deref().unwrap_or_default();
                self.writer.symlink(&pair.place, to, target, self.rules.meta(node))?;
            }
            Kind::Fifo | Kind::CharacterDevice | Kind::BlockDevice => {
                self.writer.special(&pair.place, to, node.kind, node.device, self.rules.meta(node))?;
            }
        }
        self.tally.add(0);
        Ok(())
    }

    /// Copies the files of the batch.
    pub(crate) fn flush(&mut self) -> Result<(), CopyError> {
        let batch = std::mem::take(&mut self.batch);
        self.names.clear();
        self.directories = 0;
        if batch.len() < WORTH_THREADS {
            batch.iter().try_for_each(|job| self.run(job))
        } else {
            let this = &*self;
            batch.par_iter().try_for_each(|job| this.run(job))
        }
    }

    fn run(&self, job: &Job) -> Result<(), CopyError> {
        let path = || job.pair.source_path.join(&job.from);
        let unread = |source: io::Error| CopyError::Read { path: path(), source };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let from = openat(&job.pair.source, &job.from, flags, Mode::empty()).map_err(|error| unread(error.into()))?;
        let now = node_of(from.as_fd()).map_err(unread)?;
        if now.kind != Kind::File {
            return Err(unread(io::Error::other("it is no longer a file")));
        }
        let attributes = Attributes::read(&from).map_err(unread)?;
        let mut copied = 0;
        self.writer.file(&job.pair.place, &job.to, self.rules.meta(&job.node), &attributes, |to| {
            copied = transfer(from.as_fd(), to, now.size).map_err(|error| match error {
                TransferError::Read(error) => unread(error.into()),
                TransferError::Write(error) => {
                    CopyError::Write { path: job.pair.place.path.join(&job.to), source: error.into() }
                }
            })?;
            Ok(())
        })?;
        if copied != now.size || !now.same_content(&job.node) {
            self.tally.changed(path());
        }
        self.tally.add(copied);
        (self.report)(copied);
        Ok(())
    }
}

impl Visitor for Transfer<'_> {
    type Error = CopyError;

    fn enter(&mut self, path: &InnerPath, node: &Node, reason: Reason) -> Result<(), CopyError> {
        self.shown += 1;
        let Some(parent) = self.way.last().map(Arc::clone) else { return Ok(()) };
        let source_path = parent.source_path.join(path.name());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let unread = |source| CopyError::Read { path: source_path.clone(), source };
        let source = openat(&parent.source, path.name(), flags, Mode::empty()).map_err(|error| unread(error.into()))?;
        let (place, made) = self.writer.subdirectory(&parent.place, path.name())?;
        let meta = if made || reason == Reason::Selected {
            if self.source.keeps_directory_attributes() {
                set_attributes(place.directory.as_fd(), &Attributes::read(&source).map_err(unread)?);
            }
            self.rules.meta(node).into()
        } else {
            DirectoryMeta { mode: Some(node.mode), ..DirectoryMeta::default() }
        };
        self.writer.later(place.path.clone(), meta);
        self.directories += 1;
        self.way.push(Arc::new(Pair { source, source_path, place }));
        Ok(())
    }

    fn leave(&mut self) -> Result<(), CopyError> {
        self.way.pop();
        Ok(())
    }

    fn other(&mut self, path: &InnerPath, node: &Node) -> Result<(), CopyError> {
        self.shown += 1;
        let Some(pair) = self.way.last().map(Arc::clone) else { return Ok(()) };
        if node.kind == Kind::File && node.links > 1 {
            let to = pair.place.path.join(path.name());
            if let Some(first) = self.first_names.get(&(node.dev, node.ino)) {
                self.links.push((to, first.clone()));
                return Ok(());
            }
            self.first_names.insert((node.dev, node.ino), to);
        }
        self.entry(&pair, path.name(), path.name(), node)
    }
}
