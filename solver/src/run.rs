//! In which order are the missed vertices made?
//!
//! Each starts when its last input is there. While there are fewer slots than steps to execute, the longest path of
//! work to a target decides who goes first, by the durations recorded when the steps ran before; see [`crate::slots`].
//!
//! A process also starts on an input that is there and has no name yet, see [`ahead`].

mod ahead;
mod ongoing;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt};
use rbuild_core::{Digest, Outcome};

use self::ongoing::{Arrival, ArrivalOf};
use crate::explain::{Verdict, reason};
use crate::flight::{Boarding, Content, Flight, Name, Order, fly};
use crate::graph::{Graph, Output, VertexId, Work};
use crate::journal::Journal;
use crate::key;
use crate::plan::{Keys, Plan, State};
use crate::progress::{Listener, Progress};
use crate::records::{Provenance, Records, previous};
use crate::solve::{Inner, SolveError, step};
use crate::step;
use crate::worker::Worker;

/// What steps that never ran are assumed to take, so that at least their number counts.
const UNKNOWN_PROCESS: Duration = Duration::from_secs(1);
const UNKNOWN_FILES: Duration = Duration::from_millis(10);

/// How many records are asked for at once: each takes a thread for as long as it takes to look.
const ASKED: usize = 16;

pub(crate) struct Run<'a, W: Worker, R> {
    solver: &'a Arc<Inner<W, R>>,
    graph: &'a Graph,
    keys: &'a Keys,
    plan: Plan<W::Output>,
    progress: &'a Arc<Progress>,
    journal: &'a Journal,
    build: u64,
    /// The missed vertices, canonical, inputs first.
    missed: Vec<VertexId>,
    names: Vec<Vec<Digest>>,
    /// The former selves of the missed vertices, by vertex.
    formers: Vec<Option<Provenance>>,
    /// The longest path of work that begins with each vertex; zero for all if nobody will have to wait.
    paths: Vec<Duration>,
    made: Vec<Option<Vec<W::Output>>>,
}

impl<'a, W: Worker, R: Records<W::Output>> Run<'a, W, R> {
    pub(crate) async fn new(
        solver: &'a Arc<Inner<W, R>>,
        graph: &'a Graph,
        keys: &'a Keys,
        plan: Plan<W::Output>,
        progress: &'a Arc<Progress>,
        journal: &'a Journal,
    ) -> Self {
        let missed: Vec<_> =
            keys.order.iter().copied().filter(|id| keys.canonical(*id) == *id && plan.is_missed(*id)).collect();
        let count = if missed.is_empty() { 0 } else { graph.len() };
        let names = if missed.is_empty() { Vec::new() } else { step::names(graph) };
        let formers = formers(&solver.records, &names, &missed, count).await;
        for id in &missed {
            let missed = |input: VertexId| plan.is_missed(input);
            journal.decide(*id, Verdict::Missed(reason(graph, keys, *id, formers[id.index()].as_ref(), missed)));
        }
        Self {
            solver,
            graph,
            keys,
            plan,
            progress,
            journal,
            build: solver.builds.fetch_add(1, Ordering::Relaxed),
            names,
            formers,
            paths: vec![Duration::ZERO; count],
            made: (0..count).map(|_| None).collect(),
            missed,
        }
    }

    pub(crate) async fn finish(mut self, targets: &[Output]) -> Result<Vec<W::Output>, SolveError<W::Error>> {
        self.measure_paths();
        self.made = self.make_missed().await?;
        targets.iter().map(|target| self.output(&self.made, *target)).collect()
    }

    /// Makes one vertex from its finished inputs.
    async fn make(&self, id: VertexId, inputs: Vec<W::Output>) -> Result<ArrivalOf<W>, SolveError<W::Error>> {
        let vertex = self.graph.vertex(id);
        let facts = self.keys.of(id);
        let worker = &self.solver.worker;
        let identities = inputs.iter().enumerate().map(|(place, input)| worker.identity(&vertex.op, place, input));
        let identities = try_join_all(identities).await.map_err(|source| SolveError::key(self.graph, id, source))?;
        let content = key::content(&facts.fingerprint.content, &identities);
        let name = (content, facts.forced.then_some(self.build));
        Ok(Arrival::Boarded(id, name, self.board(id, name, inputs, Content::Known(content))))
    }

    /// Joins or starts the flight of a vertex.
    pub(crate) fn board(
        &self,
        id: VertexId,
        name: Name,
        inputs: Vec<W::Output>,
        content: Content<W::Error>,
    ) -> Boarding<W::Output, W::Error> {
        let vertex = self.graph.vertex(id);
        let facts = self.keys.of(id);
        let listener =
            Listener { progress: Arc::downgrade(self.progress), step: step(id), title: vertex.origin.title.clone() };
        self.solver.flights.join(name, listener, |audience, herald| {
            let order = Order {
                vertex: vertex.clone(),
                step: step(id),
                inputs,
                content,
                definition: facts.definition,
                forced: facts.forced,
                path: self.paths[id.index()],
                provenance: self.provenance(id),
            };
            Box::pin(fly(Arc::clone(self.solver), order, audience, herald))
        })
    }

    async fn landing(
        &self,
        id: VertexId,
        flight: Flight<W::Output, W::Error>,
    ) -> Result<ArrivalOf<W>, SolveError<W::Error>> {
        let facts = self.keys.of(id);
        let landed = flight.await;
        if let Ok(made) = &landed
            && made.definition != facts.definition
        {
            let provenance = Provenance { duration: made.duration, resources: made.resources, ..self.provenance(id) };
            self.solver.records.insert(&[facts.definition], &made.outputs, &provenance).await;
        }
        Ok(Arrival::Landed(id, landed))
    }

    fn provenance(&self, id: VertexId) -> Provenance {
        let vertex = self.graph.vertex(id);
        Provenance {
            title: vertex.origin.title.clone(),
            steps: self.names[id.index()].clone(),
            components: self.keys.of(id).fingerprint.components.clone(),
            inputs: vertex.inputs().iter().map(|input| self.keys.of(input.vertex).definition).collect(),
            duration: Duration::ZERO,
            resources: None,
        }
    }

    fn inputs(&self, made: &[Option<Vec<W::Output>>], id: VertexId) -> Result<Vec<W::Output>, SolveError<W::Error>> {
        self.graph.vertex(id).inputs().iter().map(|input| self.output(made, *input)).collect()
    }

    fn output(&self, made: &[Option<Vec<W::Output>>], output: Output) -> Result<W::Output, SolveError<W::Error>> {
        let id = self.keys.canonical(output.vertex);
        let outputs = match self.plan.state(id) {
            State::Hit(stored) => &stored.outputs,
            _ => made[id.index()].as_ref().expect("a vertex is asked for its outputs after it has finished"),
        };
        let found = outputs.get(output.index as usize).cloned();
        found.ok_or_else(|| SolveError::outputs(self.graph, id, outputs.len(), self.keys.of(id).outputs))
    }

    /// Vertices that are the same as one that was made.
    fn report_twins(&self) {
        for id in &self.keys.order {
            let canonical = self.keys.canonical(*id);
            if canonical != *id && self.plan.is_missed(canonical) {
                self.progress.finish(step(*id), &self.graph.vertex(*id).origin.title, Outcome::Cached);
            }
        }
    }

    /// Works out the longest paths, if a step may have to wait for its turn.
    fn measure_paths(&mut self) {
        let work = |id: &VertexId| self.graph.vertex(*id).op.work();
        let limits = self.solver.limits;
        let steps = self.missed.iter().filter(|id| work(id) != Work::Fetch).count();
        if steps == 0 || steps <= limits.of(Work::Process).min(limits.of(Work::Files)) {
            return;
        }
        for id in &self.missed {
            let unknown = match work(id) {
                Work::Process => UNKNOWN_PROCESS,
                Work::Files => UNKNOWN_FILES,
                Work::Fetch => Duration::ZERO,
            };
            self.paths[id.index()] = self.formers[id.index()].as_ref().map_or(unknown, |former| former.duration);
        }
        // What a vertex passes on is final when it is reached: all that need it come later in the order.
        let mut behind = vec![Duration::ZERO; self.graph.len()];
        for id in self.missed.iter().rev() {
            let total = behind[id.index()] + self.paths[id.index()];
            self.paths[id.index()] = total;
            for input in self.graph.vertex(*id).inputs() {
                let input = self.keys.canonical(input.vertex).index();
                behind[input] = behind[input].max(total);
            }
        }
    }
}

/// The latest provenance of each missed vertex, in a list of `count` places.
async fn formers<T, R: Records<T>>(
    records: &R,
    names: &[Vec<Digest>],
    missed: &[VertexId],
    count: usize,
) -> Vec<Option<Provenance>> {
    let mut formers = vec![None; count];
    let ask = |id: VertexId| async move { (id, previous(records, &names[id.index()]).await) };
    let mut asked = stream::iter(missed.iter().copied().map(ask)).buffer_unordered(ASKED);
    while let Some((id, former)) = asked.next().await {
        formers[id.index()] = former;
    }
    formers
}
