//! Which files of a context does a build see?
//!
//! A context is a directory of the user's, or files that were sent or fetched ([`Fetched`]). It is walked at most once
//! a build, and only when some step looks at it; a named one on the network is fetched no sooner than that.
//!
//! Before there is an event loop only what the stat cache knows is believed: reading files takes threads, and for an
//! ordinary user the powers of the namespace that is entered with the event loop.

mod error;
mod fetch;
mod fetched;
mod look;
mod source;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rbuild_cache::Store;
use rbuild_core::{Digest, Reporter, StepId};
use rbuild_frontend::IgnoreFile;
use rbuild_solver::graph::LocalOp;
use tokio::sync::OnceCell;

pub use self::error::ContextError;
pub(crate) use self::fetch::{Fetcher, file_at, repository_at};
pub(crate) use self::fetched::{Fetched, STANDARD_INPUT};
pub(crate) use self::look::{IGNORE_FILE, Look, Malformed, Place};
pub(crate) use self::source::{Layout, NamedSource};
use crate::blocking::{blocking, event_loop, has_event_loop};
use crate::error::Error;
use crate::files::{ContextScan, Selector, StatCache};
use crate::files_error::FilesError;
use crate::request::{ContextSource, RemoteIgnore};
use crate::worker::WorkerError;

/// Files under ignore rules.
#[derive(Debug)]
pub(crate) struct Context {
    opened: OnceCell<Opened>,
    /// What is still to be fetched.
    later: Option<(ContextSource, RemoteIgnore)>,
    scan: OnceCell<Arc<ContextScan>>,
    known: Mutex<HashMap<LocalOp, Digest>>,
}

/// A context that is on this machine.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) place: Place,
    pub(crate) ignore: IgnoreFile,
}

impl Context {
    /// Files that are there.
    pub(crate) fn new(opened: Opened) -> Self {
        Self { opened: OnceCell::new_with(Some(opened)), ..Self::closed(None) }
    }

    /// Files that are fetched when somebody wants them.
    pub(crate) fn later(source: ContextSource, ignore: RemoteIgnore) -> Self {
        Self::closed(Some((source, ignore)))
    }

    fn closed(later: Option<(ContextSource, RemoteIgnore)>) -> Self {
        Self { opened: OnceCell::new(), later, scan: OnceCell::new(), known: Mutex::default() }
    }

    /// What of it no build sees, as far as that is known before it is fetched.
    pub(crate) fn ignore(&self) -> IgnoreFile {
        self.opened.get().map(|opened| opened.ignore.clone()).unwrap_or_default()
    }

    async fn opened(&self, fetcher: Fetcher<'_>) -> Result<&Opened, Error> {
        let fetch = || async {
            let (source, rule) = self.later.as_ref().expect("a context is there or can be fetched");
            // Nobody is told about this transfer but the log: it may be for a key, outside of any step.
            let fetched = fetcher.fetch(source, false, (&Reporter::silent(), StepId(u32::MAX))).await?;
            let place = Place::Fetched(fetched);
            let ignore = match rule {
                RemoteIgnore::Apply => place.look()?.ignore_file(Path::new(IGNORE_FILE))?.unwrap_or_default(),
                RemoteIgnore::Skip => IgnoreFile::default(),
            };
            Ok(Opened { place, ignore })
        };
        self.opened.get_or_try_init(fetch).await
    }

    /// The walk's result.
    pub(crate) async fn scan(&self, fetcher: Fetcher<'_>) -> Result<Arc<ContextScan>, WorkerError> {
        let scan = self.scan.get_or_try_init(|| async {
            let opened = self.opened(fetcher).await?;
            let (store, path, ignore) =
                (fetcher.engine.store().clone(), opened.place.root().to_owned(), opened.ignore.clone());
            let is_kept = opened.place.is_kept();
            let look = move || {
                let known = if is_kept { store.stat_cache().open(&path)? } else { None };
                let known = known.map(|(file, length)| StatCache::from_file(file, length)).unwrap_or_default();
                let scan = ContextScan::new(&path, ignore.clone(), known, Some(store.nameless_files()));
                Ok::<_, WorkerError>(Arc::new(scan.map_err(FilesError::from)?))
            };
            if !has_event_loop() {
                match look() {
                    Ok(scan) if scan.is_complete() => return Ok(scan),
                    _ => event_loop().await,
                }
            }
            blocking(look).await
        });
        Ok(scan.await?.clone())
    }

    /// The digest of what `selection` selects.
    pub(crate) async fn digest(&self, fetcher: Fetcher<'_>, selection: &LocalOp) -> Result<Digest, WorkerError> {
        let known = |known: &Mutex<HashMap<LocalOp, Digest>>| {
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(selection).copied()
        };
        if let Some(digest) = known(&self.known) {
            return Ok(digest);
        }
        let scan = self.scan(fetcher).await?;
        let selector = Selector::from(selection);
        let easy = if has_event_loop() { None } else { selector.known_digest(&*scan).ok().flatten() };
        let digest = match easy {
            Some(digest) => digest,
            None => blocking(move || selector.digest(&*scan)).await.map_err(FilesError::from)?,
        };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(selection.clone(), digest);
        Ok(digest)
    }

    /// Remembers what the walk learnt about files, for the next build.
    pub(crate) fn remember(&self, store: &Store) -> Result<(), Error> {
        let place = self.opened.get().map(|opened| &opened.place).filter(|place| place.is_kept());
        match (place, self.scan.get().filter(|scan| scan.has_news())) {
            (Some(place), Some(scan)) => Ok(store.stat_cache().save(place.root(), |out| scan.save_to(out))?),
            _ => Ok(()),
        }
    }
}
