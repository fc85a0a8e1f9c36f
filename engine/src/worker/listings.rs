//! Which files is a step built from, for the day it has to be said what changed?
//!
//! Listings are made beside the steps: nothing waits for one but the end of the build. One that cannot be made or saved
//! is traced, and a later miss is then explained without the names of files.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rbuild_cache::Store;
use rbuild_core::Digest;
use rbuild_solver::graph::LocalOp;

use crate::files::listing::Listing;
use crate::files::{ContextScan, Selector};

/// The listings of one build.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listings(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// How many are being made.
    running: usize,
    made: HashMap<LocalOp, Arc<Listing>>,
    keys: HashSet<Digest>,
}

/// One that is being made, until this is dropped.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        self.0.done.notify_all();
    }
}

impl Listings {
    /// Begins to list a selection and to save that under `key`.
    pub(super) fn make(&self, store: &Store, scan: Arc<ContextScan>, selection: &LocalOp, key: &Digest) {
        if !self.0.lock().keys.insert(*key) {
            return;
        }
        self.0.lock().running += 1;
        let running = Running(Arc::clone(&self.0));
        let (store, selection, key) = (store.clone(), selection.clone(), *key);
        rayon::spawn(move || match Listing::of(&*scan, &Selector::from(&selection), Some(&store.nameless_files())) {
            Ok(listing) => {
                if !store.listings().has(&key)
                    && let Err(error) = store.listings().save(&key, &mut listing.bytes())
                {
                    tracing::debug!(%error, "listing not saved");
                }
                running.0.lock().made.insert(selection, Arc::new(listing));
            }
            Err(error) => tracing::debug!(%error, "no listing"),
        });
    }

    /// Waits until all that were begun are there. Blocks.
    pub(crate) fn finish(&self) {
        let mut state = self.0.lock();
        while state.running > 0 {
            state = self.0.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The listing of a selection, if this build made one.
    pub(crate) fn of(&self, selection: &LocalOp) -> Option<Arc<Listing>> {
        self.0.lock().made.get(selection).cloned()
    }

    /// Those of `keys` that have a listing.
    pub(crate) fn among(&self, keys: &[Digest]) -> Vec<Digest> {
        let state = self.0.lock();
        keys.iter().filter(|key| state.keys.contains(*key)).copied().collect()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
