//! What did a solve do about each vertex, and why?
//!
//! A [`Journal`] is filled while a solve goes on, so that it also tells of one that failed or was dropped. Reasons are
//! found before anything is executed: what is recorded afterwards is the latest of each step, and hides its former self.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rbuild_core::Resources;

use crate::explain::{Reason, Verdict};
use crate::graph::VertexId;

/// What became of the vertices of one solve. Vertices that were not looked at, since what needs them was found, are not
/// in it.
#[derive(Debug, Default)]
pub struct Journal(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    of: BTreeMap<VertexId, Entry>,
    /// Whether they are those of an earlier try, until they are decided on again.
    again: bool,
}

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
        self.lock().of.iter().map(|(id, entry)| (*id, entry.clone())).collect()
    }

    /// Whether `is_so` of all entries.
    pub fn all(&self, is_so: impl Fn(&Entry) -> bool) -> bool {
        self.lock().of.values().all(is_so)
    }

    /// The solve begins anew, since something it had found turned out to be damaged and was given up.
    pub fn begin_again(&self) {
        self.lock().again = true;
    }

    pub(crate) fn decide(&self, id: VertexId, mut verdict: Verdict) {
        let mut entries = self.lock();
        if entries.again {
            match (entries.of.get(&id), &verdict) {
                // What was made a moment ago is found now.
                (Some(Entry { made: Some(_), .. }), Verdict::Hit(_)) => return,
                // The first answer was given before anything was lost.
                (Some(Entry { verdict: former @ Verdict::Missed(_), .. }), Verdict::Missed(_)) => {
                    verdict = former.clone();
                }
                // It was found, or not even looked for.
                (_, Verdict::Missed(Reason::NeverBuilt)) => verdict = Verdict::Missed(Reason::Forgotten),
                _ => {}
            }
        }
        entries.of.insert(id, Entry { verdict, made: None });
    }

    /// A vertex that was not found by its definition key is there.
    pub(crate) fn made(&self, id: VertexId, content: rbuild_core::Digest, making: Option<Making>) {
        let mut entries = self.lock();
        let Some(entry) = entries.of.get_mut(&id) else { return };
        entry.made = making;
        if making.is_none()
            && let Verdict::Missed(reason) = &entry.verdict
        {
            entry.verdict = Verdict::CutOff { key: content, reason: reason.clone() };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
