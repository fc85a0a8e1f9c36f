//! Why could a result not be used, in terms of steps and files?
//!
//! The solver's reasons name vertices; these name steps, and of a context the files. A plan and the account of a build
//! have them from here.

use std::collections::HashMap;

use rbuild_core::Digest;
use rbuild_solver::graph::{Graph, LocalOp, Op, VertexId};
use rbuild_solver::{ComponentChange, Reason, Verdict};
use serde::{Deserialize, Serialize};

use crate::blocking::blocking;
use crate::files::listing::{Changes, Listing};
use crate::worker::BuildWorker;

/// Why a result cannot be used. Steps are named by their place among the steps.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// No such step is known.
    NeverBuilt,
    /// The step itself reads differently now. Never empty.
    Changed(Vec<ComponentChange>),
    /// The files it needs of a context are others now.
    Files {
        /// `context`, or the name of a `--build-context`.
        context: String,
        /// Which; absent if it is not known any more what they were.
        changes: Option<Changes>,
    },
    /// This step is another than before, or had to be done again.
    Input(usize),
    /// Earlier results may not be used.
    Forced,
    /// Nothing is different, but the result is no longer there.
    Forgotten,
}

/// Which files changed, by the vertex that stands for them.
pub(super) type FileChanges = HashMap<VertexId, Changes>;

/// The reason of a verdict, if it has one.
pub(super) fn reason(verdict: &Verdict) -> Option<&Reason> {
    match verdict {
        Verdict::Missed(reason) | Verdict::CutOff { reason, .. } => Some(reason),
        Verdict::Hit(_) | Verdict::Same(_) => None,
    }
}

/// All causes behind a reason; `number` tells the place of a vertex among the steps.
pub(super) fn causes(
    graph: &Graph,
    reason: &Reason,
    files: &FileChanges,
    number: impl Fn(VertexId) -> usize,
) -> Vec<Cause> {
    let changes = match reason {
        Reason::NeverBuilt => return vec![Cause::NeverBuilt],
        Reason::OpChanged(changes) => return vec![Cause::Changed(changes.clone())],
        Reason::Forced => return vec![Cause::Forced],
        Reason::Forgotten => return vec![Cause::Forgotten],
        Reason::InputsChanged(changes) => changes,
    };
    let mut causes = Vec::new();
    for change in changes {
        let cause = match &graph.vertex(change.input.vertex).op {
            Op::Local(local) => {
                // Files are looked at whenever something above them is: that is no news.
                if change.former.is_none() && changes.len() > 1 {
                    continue;
                }
                Cause::Files { context: local.name.clone(), changes: files.get(&change.input.vertex).cloned() }
            }
            Op::Scratch => continue,
            Op::Image(_) | Op::Http(_) | Op::Git(_) | Op::Exec(_) | Op::File(_) | Op::Merge => {
                Cause::Input(number(change.input.vertex))
            }
        };
        if !causes.contains(&cause) {
            causes.push(cause);
        }
    }
    if causes.is_empty() { vec![Cause::Forgotten] } else { causes }
}

impl BuildWorker {
    /// Which files changed where verdicts say that some did.
    pub(super) async fn file_changes<'a>(
        &self,
        graph: &Graph,
        verdicts: impl Iterator<Item = &'a Verdict>,
    ) -> FileChanges {
        let mut found = FileChanges::new();
        for verdict in verdicts {
            let Some(Reason::InputsChanged(changes)) = reason(verdict) else { continue };
            for change in changes {
                let (Op::Local(selection), Some(former)) = (&graph.vertex(change.input.vertex).op, change.former)
                else {
                    continue;
                };
                found.extend(self.changes_of(selection, former).await.map(|changes| (change.input.vertex, changes)));
            }
        }
        found
    }

    /// What is different in a selection from the one that was listed under `former`.
    async fn changes_of(&self, selection: &LocalOp, former: Digest) -> Option<Changes> {
        let store = self.engine.store().clone();
        let before = blocking(move || Listing::from_file(store.listings().open(&former).ok()??)).await?;
        let now = self.listing(selection).await?;
        let changes = now.changes_since(&before);
        // The same files under other names: those of the listing are not what a copy calls them.
        (!changes.shown.is_empty()).then_some(changes)
    }
}
