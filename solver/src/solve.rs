//! How does a graph become results?
//!
//! ```text
//! plan      keys of all vertices; look-ups from the targets down                     (module plan)
//! run       each missed vertex, as soon as its inputs are there:
//!             single-flighted per content key:                                       (module flight)
//!               record under the content key?      -> hit (early cut-off), also stored under the definition key
//!               take a slot; lock against other processes                            (module turn)
//!               execute; store under both keys
//! ```
//!
//! One solve is one future that owns all its work: no task is spawned, so a solve that is dropped has stopped when the
//! drop returns. Vertices wait in a counter, not on each other's futures: depth costs no stack. No slot and no lock is
//! held while waiting for another vertex, or for the same one in another process. The first failure ends the solve and
//! thereby cancels what runs; what was finished is recorded.

use std::fmt;
use std::num::NonZero;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use rbuild_core::{Outcome, Reporter, Span, StepId, with_causes};

use crate::explain::Verdict;
use crate::flight::Flights;
use crate::graph::{Graph, Output, VertexId, Work};
use crate::journal::Journal;
use crate::plan::{Keys, Plan};
use crate::progress::{Closing, Progress};
use crate::records::Records;
use crate::run::Run;
use crate::slots::Slots;
use crate::worker::Worker;

/// How much may be executed at once, by all solves of one solver together. Zero counts as one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Vertices that start a process: `--jobs`. If absent, several per core, since build steps wait for networks and disks
    /// as often as they compute.
    pub jobs: Option<usize>,
    /// Vertices that only fetch something.
    pub fetches: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { jobs: None, fetches: 64 }
    }
}

impl Limits {
    /// The most of one kind that execute at once. Unless it was said, the kernel is asked, which takes as long as finding
    /// a dozen results.
    pub(crate) fn of(self, work: Work) -> usize {
        match work {
            Work::Process => self.jobs.unwrap_or_else(several),
            Work::Files => several(),
            Work::Fetch => self.fetches,
        }
    }
}

/// Several for each core: who waits for a disk or a network leaves it to others.
fn several() -> usize {
    (4 * cores()).max(16)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Why a solve failed.
#[derive(Debug, thiserror::Error)]
pub enum SolveError<E: std::error::Error + 'static> {
    /// Executing a vertex failed.
    #[error("`{title}` failed")]
    Vertex {
        /// The step's title.
        title: String,
        /// The instruction's places in the Dockerfile.
        spans: Vec<Span>,
        /// The vertex.
        vertex: VertexId,
        /// What the worker said; shared with other solves that waited for the same execution.
        #[source]
        source: Arc<E>,
    },
    /// The worker could not tell what goes into one of the vertex's keys.
    #[error("cannot compute the cache key of `{title}`")]
    Key {
        /// The step's title.
        title: String,
        /// The instruction's places in the Dockerfile.
        spans: Vec<Span>,
        /// The vertex.
        vertex: VertexId,
        /// What the worker said.
        #[source]
        source: Arc<E>,
    },
    /// The worker made fewer outputs than others of the graph use.
    #[error("`{title}` made {made} outputs where {wanted} are used")]
    Outputs {
        /// The step's title.
        title: String,
        /// The instruction's places in the Dockerfile.
        spans: Vec<Span>,
        /// The vertex.
        vertex: VertexId,
        /// How many there are.
        made: usize,
        /// How many there should be.
        wanted: usize,
    },
}

impl<E: std::error::Error + 'static> SolveError<E> {
    /// The vertex it happened at.
    pub fn vertex(&self) -> VertexId {
        match self {
            Self::Vertex { vertex, .. } | Self::Key { vertex, .. } | Self::Outputs { vertex, .. } => *vertex,
        }
    }

    pub(crate) fn key(graph: &Graph, vertex: VertexId, source: E) -> Self {
        let origin = graph.vertex(vertex).origin.clone();
        Self::Key { title: origin.title, spans: origin.spans, vertex, source: Arc::new(source) }
    }

    pub(crate) fn execution(graph: &Graph, vertex: VertexId, source: Arc<E>) -> Self {
        let origin = graph.vertex(vertex).origin.clone();
        Self::Vertex { title: origin.title, spans: origin.spans, vertex, source }
    }

    pub(crate) fn outputs(graph: &Graph, vertex: VertexId, made: usize, wanted: usize) -> Self {
        let origin = graph.vertex(vertex).origin.clone();
        Self::Outputs { title: origin.title, spans: origin.spans, vertex, made, wanted }
    }

    /// What the worker said, if it was the worker that failed.
    pub fn worker_error(&self) -> Option<&E> {
        match self {
            Self::Vertex { source, .. } | Self::Key { source, .. } => Some(source),
            Self::Outputs { .. } => None,
        }
    }

    fn reason(&self) -> String {
        match self {
            Self::Vertex { source, .. } | Self::Key { source, .. } => with_causes(source.as_ref()),
            Self::Outputs { .. } => self.to_string(),
        }
    }
}

/// Finds or makes the results of graphs. Concurrent solves of one solver share what they have in common.
pub struct Solver<W: Worker, R>(pub(crate) Arc<Inner<W, R>>);

pub(crate) struct Inner<W: Worker, R> {
    pub(crate) worker: W,
    pub(crate) records: R,
    pub(crate) limits: Limits,
    /// By kind of work.
    slots: [OnceLock<Slots>; 3],
    unrecorded: [OnceLock<Slots>; 3],
    pub(crate) flights: Flights<W::Output, W::Error>,
    pub(crate) builds: AtomicU64,
}

impl<W: Worker, R> Inner<W, R> {
    /// Where such work waits until other steps are recorded, one for each core more than may execute. Recording takes its
    /// time, and if nobody waited for it, all chains of steps would take turns, see [`crate::slots`].
    pub(crate) fn unrecorded(&self, work: Work) -> &Slots {
        self.unrecorded[work as usize].get_or_init(|| Slots::new(self.limits.of(work) + cores()))
    }

    /// Where such work waits for its turn.
    pub(crate) fn slots(&self, work: Work) -> &Slots {
        self.slots[work as usize].get_or_init(|| Slots::new(self.limits.of(work)))
    }
}

impl<W: Worker, R: Records<W::Output>> Solver<W, R> {
    /// A solver with nothing to do yet.
    pub fn new(worker: W, records: R, limits: Limits) -> Self {
        Self(Arc::new(Inner {
            worker,
            records,
            limits,
            slots: std::array::from_fn(|_| OnceLock::new()),
            unrecorded: std::array::from_fn(|_| OnceLock::new()),
            flights: Flights::new(),
            builds: AtomicU64::new(0),
        }))
    }

    /// The worker it was made with.
    pub fn worker(&self) -> &W {
        &self.0.worker
    }

    /// The records it was made with.
    pub fn records(&self) -> &R {
        &self.0.records
    }

    /// Finds or makes `targets`, in their order. Dropping the future cancels what no other solve waits for.
    ///
    /// A step's number in events is its vertex's [`VertexId::index`]. Vertices that did not have to be looked at, since
    /// what needs them was found, are reported as cached.
    ///
    /// # Errors
    /// The first failure; everything else that was still running is cancelled then.
    pub async fn solve(
        &self,
        graph: &Graph,
        targets: &[Output],
        reporter: &Reporter,
    ) -> Result<Vec<W::Output>, SolveError<W::Error>> {
        self.solve_noting(graph, targets, reporter, &Journal::default()).await
    }

    /// As [`Solver::solve`]; `journal`, which is empty, says afterwards what was done and why, also after a failure.
    ///
    /// # Errors
    /// As [`Solver::solve`].
    pub async fn solve_noting(
        &self,
        graph: &Graph,
        targets: &[Output],
        reporter: &Reporter,
        journal: &Journal,
    ) -> Result<Vec<W::Output>, SolveError<W::Error>> {
        let progress = Closing(Arc::new(Progress::new(reporter)));
        let result = self.attempt(graph, targets, &progress.0, journal).await;
        if let Err(error) = &result {
            let id = error.vertex();
            progress.0.finish(step(id), &graph.vertex(id).origin.title, Outcome::Failed(error.reason()));
        }
        result
    }

    async fn attempt(
        &self,
        graph: &Graph,
        targets: &[Output],
        progress: &Arc<Progress>,
        journal: &Journal,
    ) -> Result<Vec<W::Output>, SolveError<W::Error>> {
        let keys = Keys::compute(&self.0.worker, graph, targets).await?;
        progress.planned(keys.order.len());
        let plan = Plan::make(&self.0.records, graph, &keys, targets).await;
        for id in &keys.order {
            let canonical = keys.canonical(*id);
            if canonical != *id && !plan.is_unneeded(canonical) {
                journal.decide(*id, Verdict::Same(canonical));
            } else if plan.is_hit(*id) {
                journal.decide(*id, Verdict::Hit(keys.of(*id).definition));
            }
            if !plan.is_missed(canonical) {
                progress.finish(step(*id), &graph.vertex(*id).origin.title, Outcome::Cached);
            }
        }
        Run::new(&self.0, graph, &keys, plan, progress, journal).await.finish(targets).await
    }
}

impl<W: Worker, R> fmt::Debug for Solver<W, R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Solver").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

/// The step that stands for a vertex.
pub(crate) fn step(id: VertexId) -> StepId {
    StepId(u32::try_from(id.index()).expect("petgraph numbers nodes with 32 bits"))
}
