//! What happens while the missed vertices are made, and what when one fails?
//!
//! Arrivals come in any order; each may let vertices start. The first failure ends the solve: nothing starts any more,
//! and what runs is dropped. What has been made already and only waits for its name is waited for, so that no work is
//! lost which the next build could find.

use std::collections::HashSet;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use rbuild_core::Outcome;

use super::Run;
use super::ahead::Unnamed;
use crate::flight::{Boarding, Landed, Made, Name};
use crate::graph::VertexId;
use crate::journal::Making;
use crate::records::Records;
use crate::solve::{SolveError, step};
use crate::worker::Worker;

/// What happens to a vertex that is being made.
pub(super) enum Arrival<T, E> {
    /// It has a flight.
    Boarded(VertexId, Name, Boarding<T, E>),
    /// Its outputs are there, without a name; nothing if there will be none before it lands.
    Ahead(VertexId, Option<Vec<T>>),
    /// Its flight has landed.
    Landed(VertexId, Landed<T, E>),
}

pub(super) type ArrivalOf<W> = Arrival<<W as Worker>::Output, <W as Worker>::Error>;
type Arrivals<'b, W> = FuturesUnordered<BoxFuture<'b, Result<ArrivalOf<W>, SolveError<<W as Worker>::Error>>>>;

/// How far a solve is.
struct Ongoing<'r, W: Worker> {
    running: Arrivals<'r, W>,
    /// Outputs of what has landed.
    made: Vec<Option<Vec<W::Output>>>,
    needs: Needs,
    unnamed: Unnamed<W::Output>,
    /// Keeps what this solve has made shared with others until it ends, in case it could not be recorded.
    kept: Vec<Boarding<W::Output, W::Error>>,
}

impl<W: Worker, R: Records<W::Output>> Run<'_, W, R> {
    /// The outputs of all missed vertices, by vertex.
    pub(super) async fn make_missed(&self) -> Result<Vec<Option<Vec<W::Output>>>, SolveError<W::Error>> {
        let mut ongoing = Ongoing {
            running: FuturesUnordered::new(),
            made: (0..self.made.len()).map(|_| None).collect(),
            needs: Needs::new(self),
            unnamed: Unnamed::new(),
            kept: Vec::new(),
        };
        for id in self.missed.iter().filter(|id| ongoing.needs.waiting[id.index()] == 0) {
            ongoing.running.push(self.make(*id, self.inputs(&ongoing.made, *id)?).boxed());
        }
        while let Some(arrival) = ongoing.running.next().await {
            let failed = match &arrival {
                Ok(Arrival::Landed(id, Err(_))) => Some(*id),
                _ => None,
            };
            if let Err(error) = self.arrived(arrival, &mut ongoing) {
                self.let_land(ongoing, failed).await;
                return Err(error);
            }
        }
        self.report_twins();
        Ok(ongoing.made)
    }

    /// Starts whatever can start because of an arrival.
    fn arrived<'r>(
        &'r self,
        arrival: Result<ArrivalOf<W>, SolveError<W::Error>>,
        ongoing: &mut Ongoing<'r, W>,
    ) -> Result<(), SolveError<W::Error>> {
        let Ongoing { running, made, needs, unnamed, kept } = ongoing;
        let followers = match arrival? {
            Arrival::Boarded(id, name, boarding) => {
                running.push(self.landing(id, boarding.flight.clone()).boxed());
                let outputs = boarding.ahead.outputs.clone();
                running.push(async move { Ok(Arrival::Ahead(id, outputs.await.ok())) }.boxed());
                unnamed.boarded(id, name, boarding.ahead.clone());
                kept.push(boarding);
                return Ok(());
            }
            Arrival::Ahead(_, None) => return Ok(()),
            Arrival::Ahead(id, Some(outputs)) => {
                unnamed.there(id, outputs);
                unnamed.followers(needs, id)
            }
            Arrival::Landed(id, landed) => {
                let landed = landed.map_err(|source| SolveError::execution(self.graph, id, source))?;
                made[id.index()] = Some(self.report(id, landed));
                unnamed.landed(id);
                let followers = unnamed.followers(needs, id);
                for ready in needs.finished(id) {
                    if !unnamed.has_begun(ready) {
                        running.push(self.make(ready, self.inputs(made, ready)?).boxed());
                    }
                }
                followers
            }
        };
        // Whoever waits only for names may not have to.
        for dependent in followers.into_iter().filter(|id| needs.is_waiting(*id)) {
            if let Some(inputs) = self.inputs_ahead(made, unnamed, dependent)? {
                unnamed.begin(dependent);
                running.push(self.make_ahead(dependent, inputs).boxed());
            }
        }
        Ok(())
    }

    /// Says that a vertex was made, and what.
    fn report(&self, id: VertexId, made: Made<W::Output>) -> Vec<W::Output> {
        let outcome = if made.executed { Outcome::Done } else { Outcome::Cached };
        let making = Making { duration: made.duration, resources: made.resources };
        self.journal.made(id, made.content, made.executed.then_some(making));
        self.progress.finish(step(id), &self.graph.vertex(id).origin.title, outcome);
        made.outputs
    }

    /// After a failure: waits for what was made and is about to be named and recorded.
    async fn let_land(&self, mut ongoing: Ongoing<'_, W>, failed: Option<VertexId>) {
        let mut awaited = self.about_to_land(&ongoing.unnamed, failed);
        while !awaited.is_empty()
            && let Some(Ok(arrival)) = ongoing.running.next().await
        {
            match arrival {
                Arrival::Landed(id, Ok(landed)) => {
                    awaited.remove(&id);
                    self.report(id, landed);
                }
                Arrival::Landed(_, Err(_)) => return,
                Arrival::Boarded(..) | Arrival::Ahead(..) => {}
            }
        }
    }

    /// The vertices whose outputs are there, except those that can have no name because what they began on failed.
    fn about_to_land(&self, unnamed: &Unnamed<W::Output>, failed: Option<VertexId>) -> HashSet<VertexId> {
        let mut lost: HashSet<VertexId> = failed.into_iter().collect();
        for id in self.missed.iter().filter(|id| unnamed.has_begun(**id)) {
            let inputs = self.graph.vertex(*id).inputs();
            if inputs.iter().any(|input| lost.contains(&self.keys.canonical(input.vertex))) {
                lost.insert(*id);
            }
        }
        unnamed.there_already().filter(|id| !lost.contains(id)).collect()
    }
}

/// Who waits for how many, and who waits for whom. Indexed by vertex.
pub(super) struct Needs {
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
    pub(super) fn on(&self, id: VertexId) -> &[VertexId] {
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
