//! What did a solve do about each vertex, and why?
//!
//! A [`Journal`] is filled while a solve goes on, so that it also tells of one that failed or was dropped. Reasons are
//! found before anything is executed: what is recorded afterwards is the latest of each step, and hides its former self.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rbuild_core::Resources;

use crate::explain::Verdict;
use crate::graph::VertexId;

/// What became of the vertices of one solve. Vertices that were not looked at, since what needs them was found, are not
/// in it.
#[derive(Debug, Default)]
pub struct Journal(Mutex<BTreeMap<VertexId, Entry>>);

/// What became of one vertex.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Whether it was found, and why not.
    pub verdict: Verdict,
    /// What it took, once it was executed; absent if it was not, or did not succeed.
    pub made: Option<Making>,
}

/// What an execution took.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Making {
    /// From its start to its end.
    pub duration: Duration,
    /// What its processes took, if it ran any.
    pub resources: Option<Resources>,
}

impl Journal {
    /// All entries, inputs first.
    pub fn entries(&self) -> Vec<(VertexId, Entry)> {
        self.lock().iter().map(|(id, entry)| (*id, entry.clone())).collect()
    }

    pub(crate) fn decide(&self, id: VertexId, verdict: Verdict) {
        self.lock().insert(id, Entry { verdict, made: None });
    }

    /// A vertex that was not found by its definition key is there.
    pub(crate) fn made(&self, id: VertexId, content: rbuild_core::Digest, making: Option<Making>) {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(&id) else { return };
        entry.made = making;
        if making.is_none()
            && let Verdict::Missed(reason) = &entry.verdict
        {
            entry.verdict = Verdict::CutOff { key: content, reason: reason.clone() };
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<VertexId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
