//! In which order are the missed vertices made?
//!
//! Each starts when its last input is there. While there are fewer slots than processes to run, the one with the
//! longest path of work to a target goes first, by the durations recorded when the steps ran before.
//!
//! A process also starts on an input that is there and has no name yet, see [`ahead`].

mod ahead;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, try_join_all};
use futures_util::stream::{FuturesUnordered, StreamExt};
use rbuild_core::{Digest, Outcome};

use self::ahead::Unnamed;
use crate::explain::{Verdict, reason};
use crate::flight::{Boarding, Content, Flight, Landed, Name, Order, fly};
use crate::graph::{Graph, Output, VertexId};
use crate::journal::{Journal, Making};
use crate::key;
use crate::plan::{Keys, Plan, State};
use crate::progress::{Listener, Progress};
use crate::records::{Provenance, Records, previous};
use crate::solve::{Inner, SolveError, step};
use crate::step;
use crate::worker::Worker;

/// What a step that never ran is assumed to take, so that at least the number of steps counts.
const UNKNOWN: Duration = Duration::from_secs(1);

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
    priorities: Vec<Duration>,
    made: Vec<Option<Vec<W::Output>>>,
}

/// What happens to a vertex that is being made.
enum Arrival<T, E> {
    /// It has a flight.
    Boarded(VertexId, Name, Boarding<T, E>),
    /// Its outputs are there, without a name; nothing if there will be none before it lands.
    Ahead(VertexId, Option<Vec<T>>),
    /// Its flight has landed.
    Landed(VertexId, Landed<T, E>),
}

type ArrivalOf<W> = Arrival<<W as Worker>::Output, <W as Worker>::Error>;
type Arrivals<'b, W> = FuturesUnordered<BoxFuture<'b, Result<ArrivalOf<W>, SolveError<<W as Worker>::Error>>>>;

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
            priorities: vec![Duration::ZERO; count],
            made: (0..count).map(|_| None).collect(),
            missed,
        }
    }

    pub(crate) async fn finish(mut self, targets: &[Output]) -> Result<Vec<W::Output>, SolveError<W::Error>> {
        self.prioritise();
        self.made = self.make_missed().await?;
        targets.iter().map(|target| self.output(&self.made, *target)).collect()
    }

    async fn make_missed(&self) -> Result<Vec<Option<Vec<W::Output>>>, SolveError<W::Error>> {
        let mut made: Vec<Option<Vec<W::Output>>> = (0..self.made.len()).map(|_| None).collect();
        let mut needs = Needs::new(self);
        let mut running: Arrivals<'_, W> = FuturesUnordered::new();
        let mut unnamed = Unnamed::new();
        // Keeps what this solve has made shared with others until it ends, in case it could not be recorded.
        let mut kept = Vec::new();
        for id in self.missed.iter().filter(|id| needs.waiting[id.index()] == 0) {
            running.push(self.make(*id, self.inputs(&made, *id)?).boxed());
        }
        while let Some(arrival) = running.next().await {
            let followers = match arrival? {
                Arrival::Boarded(id, name, boarding) => {
                    running.push(self.landing(id, boarding.flight.clone()).boxed());
                    let outputs = boarding.ahead.outputs.clone();
                    running.push(async move { Ok(Arrival::Ahead(id, outputs.await.ok())) }.boxed());
                    unnamed.boarded(id, name, boarding.ahead.clone());
                    kept.push(boarding);
                    continue;
                }
                Arrival::Ahead(_, None) => continue,
                Arrival::Ahead(id, Some(outputs)) => {
                    unnamed.there(id, outputs);
                    unnamed.followers(&needs, id)
                }
                Arrival::Landed(id, landed) => {
                    let landed = landed.map_err(|source| SolveError::execution(self.graph, id, source))?;
                    let outcome = if landed.executed { Outcome::Done } else { Outcome::Cached };
                    let making = Making { duration: landed.duration, resources: landed.resources };
                    self.journal.made(id, landed.content, landed.executed.then_some(making));
                    made[id.index()] = Some(landed.outputs);
                    unnamed.landed(id);
                    self.progress.finish(step(id), &self.graph.vertex(id).origin.title, outcome);
                    let followers = unnamed.followers(&needs, id);
                    for ready in needs.finished(id) {
                        if !unnamed.has_begun(ready) {
                            running.push(self.make(ready, self.inputs(&made, ready)?).boxed());
                        }
                    }
                    followers
                }
            };
            // Whoever waits only for names may not have to.
            for dependent in followers.into_iter().filter(|id| needs.is_waiting(*id)) {
                if let Some(inputs) = self.inputs_ahead(&made, &unnamed, dependent)? {
                    unnamed.begin(dependent);
                    running.push(self.make_ahead(dependent, inputs).boxed());
                }
            }
        }
        self.report_twins();
        Ok(made)
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
                priority: self.priorities[id.index()],
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

    /// The longest path to a target behind each vertex; only worked out if somebody will have to wait.
    fn prioritise(&mut self) {
        if self.missed.is_empty() {
            return;
        }
        let processes: Vec<_> =
            self.missed.iter().copied().filter(|id| self.graph.vertex(*id).op.runs_process()).collect();
        if processes.len() <= self.solver.limits.jobs() {
            return;
        }
        for id in processes {
            let former = self.formers[id.index()].as_ref();
            self.priorities[id.index()] = former.map_or(UNKNOWN, |former| former.duration);
        }
        // What a vertex passes on is final when it is reached: all that need it come later in the order.
        let mut behind = vec![Duration::ZERO; self.graph.len()];
        for id in self.missed.iter().rev() {
            let total = behind[id.index()] + self.priorities[id.index()];
            self.priorities[id.index()] = total;
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
    let mut asked: FuturesUnordered<_> = missed.iter().copied().map(ask).collect();
    while let Some((id, former)) = asked.next().await {
        formers[id.index()] = former;
    }
    formers
}

/// Who waits for how many, and who waits for whom. Indexed by vertex.
struct Needs {
    waiting: Vec<usize>,
    dependents: Vec<Vec<VertexId>>,
}

impl Needs {
    fn new<W: Worker, R: Records<W::Output>>(run: &Run<'_, W, R>) -> Self {
        let mut needs = Self { waiting: vec![0; run.made.len()], dependents: vec![Vec::new(); run.made.len()] };
        for id in &run.missed {
            for input in run.graph.vertex(*id).inputs() {
                let input = run.keys.canonical(input.vertex);
                if run.plan.is_missed(input) {
                    needs.waiting[id.index()] += 1;
                    needs.dependents[input.index()].push(*id);
                }
            }
        }
        needs
    }

    /// Who waits for `id`; nobody once it has finished.
    fn on(&self, id: VertexId) -> &[VertexId] {
        &self.dependents[id.index()]
    }

    fn is_waiting(&self, id: VertexId) -> bool {
        self.waiting[id.index()] > 0
    }

    /// Who can start now that `id` is there.
    fn finished(&mut self, id: VertexId) -> Vec<VertexId> {
        let mut ready = std::mem::take(&mut self.dependents[id.index()]);
        ready.retain(|dependent| {
            self.waiting[dependent.index()] -= 1;
            self.waiting[dependent.index()] == 0
        });
        ready
    }
}
