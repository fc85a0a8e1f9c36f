//! Which files of a local directory does a build see?
//!
//! A directory is walked at most once a build, and only when some step looks at it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rbuild_cache::Store;
use rbuild_core::Digest;
use rbuild_frontend::IgnoreFile;
use rbuild_solver::graph::LocalOp;
use tokio::sync::OnceCell;

use crate::blocking::blocking;
use crate::error::Error;
use crate::files::{ContextScan, Selection, Selector, StatCache};
use crate::files_error::FilesError;
use crate::worker::WorkerError;

/// A local directory under its ignore rules.
#[derive(Debug)]
pub(crate) struct Context {
    root: Place,
    ignore: IgnoreFile,
    scan: OnceCell<Arc<ContextScan>>,
    known: Mutex<Vec<(LocalOp, Digest)>>,
}

#[derive(Debug)]
enum Place {
    /// The user's.
    Directory(PathBuf),
    /// Of a build without files; removed when dropped.
    Empty(tempfile::TempDir),
}

impl Context {
    /// The files of `root`, an absolute path.
    pub(crate) fn new(root: PathBuf, ignore: IgnoreFile) -> Self {
        Self::at(Place::Directory(root), ignore)
    }

    /// No files.
    pub(crate) fn empty() -> Result<Self, Error> {
        let directory = tempfile::tempdir().map_err(Error::file("make a directory in", std::env::temp_dir()))?;
        Ok(Self::at(Place::Empty(directory), IgnoreFile::default()))
    }

    fn at(root: Place, ignore: IgnoreFile) -> Self {
        Self { root, ignore, scan: OnceCell::new(), known: Mutex::default() }
    }

    fn path(&self) -> &Path {
        match &self.root {
            Place::Directory(path) => path,
            Place::Empty(directory) => directory.path(),
        }
    }

    /// The walk's result.
    pub(crate) async fn scan(&self, store: &Store) -> Result<Arc<ContextScan>, WorkerError> {
        let scan = self.scan.get_or_try_init(|| async {
            let (store, path, ignore) = (store.clone(), self.path().to_owned(), self.ignore.clone());
            blocking(move || {
                let known = store.stat_cache().load(&path)?.map(StatCache::from_bytes).unwrap_or_default();
                let scan = ContextScan::new(&path, ignore, known).map_err(FilesError::from)?;
                Ok::<_, WorkerError>(Arc::new(scan))
            })
            .await
        });
        Ok(scan.await?.clone())
    }

    /// The digest of what `selection` selects.
    pub(crate) async fn digest(&self, store: &Store, selection: &LocalOp) -> Result<Digest, WorkerError> {
        let known = |known: &Mutex<Vec<(LocalOp, Digest)>>| {
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            known.iter().find(|(of, _)| of == selection).map(|(_, digest)| *digest)
        };
        if let Some(digest) = known(&self.known) {
            return Ok(digest);
        }
        let scan = self.scan(store).await?;
        let selector = Selector::from(selection);
        let found = blocking(move || Selection::of(&*scan, &selector)).await.map_err(FilesError::from)?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).push((selection.clone(), found.digest));
        Ok(found.digest)
    }

    /// Remembers what the walk learnt about files, for the next build.
    pub(crate) fn remember(&self, store: &Store) -> Result<(), Error> {
        match self.scan.get().and_then(|scan| scan.stat_cache()) {
            Some(bytes) => Ok(store.stat_cache().save(self.path(), &bytes)?),
            None => Ok(()),
        }
    }
}
