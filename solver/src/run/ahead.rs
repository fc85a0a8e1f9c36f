//! When does a process start on an input whose digest is still being taken?
//!
//! The content key of a step needs the names of its inputs, and naming a large layer takes as long as reading it. A step
//! that cannot be found anyway need not wait for that: it begins at once ([`Content::Later`]), and is recorded when the
//! names are known. It is not begun
//! - if it could be found: an op that reads as its former self did has a record, which counts if the input turns out to
//!   be what it was then (early cut-off). Unless records are not to be used;
//! - if its op has to look into the input, or has another input that is not there yet;
//! - if the worker has named the input at once, since it was small.
//!
//! Should the result be known all the same, from another Dockerfile or another process, it is made again and replaces
//! what was there: work is lost then, nothing else.

use std::collections::{HashMap, HashSet};

use futures_util::future::{FutureExt, pending, try_join_all};
use rbuild_core::{Digest, KeyHasher};

use super::Run;
use super::ongoing::{Arrival, ArrivalOf, Needs};
use crate::flight::{Ahead, Content, LaterKey, Name};
use crate::graph::VertexId;
use crate::key;
use crate::plan::State;
use crate::records::Records;
use crate::solve::SolveError;
use crate::worker::Worker;

/// What is known of vertices whose flight has not landed.
#[derive(Debug)]
pub(super) struct Unnamed<T> {
    flights: HashMap<VertexId, (Name, Ahead<T>)>,
    outputs: HashMap<VertexId, Vec<T>>,
    /// The vertices that have begun before their inputs were named.
    begun: HashSet<VertexId>,
}

/// An input of a vertex that begins early.
#[derive(Debug)]
pub(super) struct EarlyInput<T> {
    output: T,
    /// How it is made, if it has no name yet.
    making: Option<(Name, Ahead<T>)>,
}

/// All inputs of a vertex, if it can begin.
type Inputs<T> = Option<Vec<EarlyInput<T>>>;

impl<T: Clone> Unnamed<T> {
    pub(super) fn new() -> Self {
        Self { flights: HashMap::new(), outputs: HashMap::new(), begun: HashSet::new() }
    }

    pub(super) fn boarded(&mut self, id: VertexId, name: Name, ahead: Ahead<T>) {
        self.flights.insert(id, (name, ahead));
    }

    /// The outputs of a vertex are there.
    pub(super) fn there(&mut self, id: VertexId, outputs: Vec<T>) {
        // It may have landed before this was heard of.
        if self.flights.contains_key(&id) {
            self.outputs.insert(id, outputs);
        }
    }

    /// Whose outputs are there, also if nobody has heard of it.
    pub(super) fn there_already(&self) -> impl Iterator<Item = VertexId> {
        let is_there = |ahead: &Ahead<T>| matches!(ahead.outputs.clone().now_or_never(), Some(Ok(_)));
        self.flights.iter().filter(move |(_, (_, ahead))| is_there(ahead)).map(|(id, _)| *id)
    }

    pub(super) fn landed(&mut self, id: VertexId) {
        self.flights.remove(&id);
        self.outputs.remove(&id);
    }

    pub(super) fn begin(&mut self, id: VertexId) {
        self.begun.insert(id);
    }

    pub(super) fn has_begun(&self, id: VertexId) -> bool {
        self.begun.contains(&id)
    }

    /// Who needs `id` and might begin early now that something happened to it: none in most builds, at no cost.
    pub(super) fn followers(&self, needs: &Needs, id: VertexId) -> Vec<VertexId> {
        if self.outputs.is_empty() {
            return Vec::new();
        }
        let waiting = needs.on(id).iter().copied().filter(|id| !self.has_begun(*id));
        let mut waiting: Vec<_> = waiting.collect();
        // Who needs several outputs of one vertex is mentioned several times.
        waiting.dedup();
        waiting
    }
}

impl<W: Worker, R: Records<W::Output>> Run<'_, W, R> {
    /// The inputs of a vertex, if it can begin before they all have names.
    pub(super) fn inputs_ahead(
        &self,
        made: &[Option<Vec<W::Output>>],
        unnamed: &Unnamed<W::Output>,
        id: VertexId,
    ) -> Result<Inputs<W::Output>, SolveError<W::Error>> {
        if self.could_be_found(id) {
            return Ok(None);
        }
        let vertex = self.graph.vertex(id);
        let mut inputs = Vec::with_capacity(vertex.inputs().len());
        for (place, input) in vertex.inputs().iter().enumerate() {
            let source = self.keys.canonical(input.vertex);
            if matches!(self.plan.state(source), State::Hit(_)) || made[source.index()].is_some() {
                inputs.push(EarlyInput { output: self.output(made, *input)?, making: None });
                continue;
            }
            let (Some(outputs), Some(making)) = (unnamed.outputs.get(&source), unnamed.flights.get(&source)) else {
                return Ok(None);
            };
            let Some(output) = outputs.get(input.index as usize).filter(|_| vertex.op.can_begin_on(place)) else {
                return Ok(None);
            };
            inputs.push(EarlyInput { output: output.clone(), making: Some(making.clone()) });
        }
        Ok(Some(inputs))
    }

    /// Whether a record may exist that counts if the inputs turn out to be what they were.
    fn could_be_found(&self, id: VertexId) -> bool {
        let facts = self.keys.of(id);
        let former = self.formers[id.index()].as_ref();
        !facts.forced && former.is_some_and(|former| former.components == facts.fingerprint.components)
    }

    /// Makes one vertex from inputs of which some have no name yet.
    pub(super) async fn make_ahead(
        &self,
        id: VertexId,
        inputs: Vec<EarlyInput<W::Output>>,
    ) -> Result<ArrivalOf<W>, SolveError<W::Error>> {
        let vertex = self.graph.vertex(id);
        let facts = self.keys.of(id);
        let worker = &self.solver.worker;
        let name = |place: usize, input: &EarlyInput<W::Output>| {
            let making = input.making.as_ref().map(|(name, ahead)| name_of(*name, ahead.number));
            let output = input.output.clone();
            async move {
                match making {
                    Some(name) => Ok(name),
                    None => worker.identity(&vertex.op, place, &output).await,
                }
            }
        };
        let names = inputs.iter().enumerate().map(|(place, input)| name(place, input));
        let names = try_join_all(names).await.map_err(|source| SolveError::key(self.graph, id, source))?;
        let name = key::ahead(&facts.fingerprint.content, &names);
        let content = Content::Later(name, self.later_key(id, &inputs));
        let name = (name, facts.forced.then_some(self.build));
        let inputs = inputs.into_iter().map(|input| input.output).collect();
        Ok(Arrival::Boarded(id, name, self.board(id, name, inputs, content)))
    }

    /// The content key of a vertex, once its inputs have names. Never ready if one of them fails.
    fn later_key(&self, id: VertexId, inputs: &[EarlyInput<W::Output>]) -> LaterKey<W::Error> {
        let named: Vec<_> = inputs.iter().filter_map(|input| Some(input.making.as_ref()?.1.named.clone())).collect();
        let inputs: Vec<_> = inputs.iter().map(|input| input.output.clone()).collect();
        let op = self.graph.vertex(id).op.clone();
        let fingerprint = self.keys.of(id).fingerprint.content;
        let solver = std::sync::Arc::clone(self.solver);
        let key = async move {
            for named in named {
                if named.await.is_err() {
                    // Whoever waits for this also waits for what failed: for that very flight, whose number is in this
                    // one's name.
                    return pending().await;
                }
            }
            let worker = &solver.worker;
            let identities = inputs.iter().enumerate().map(|(place, input)| worker.identity(&op, place, input));
            let identities = try_join_all(identities).await.map_err(std::sync::Arc::new)?;
            Ok(key::content(&fingerprint, &identities))
        };
        key.boxed().shared()
    }
}

/// The name of what is being made, as one digest. What stands on a flight that failed is not for whoever makes the same
/// again: it will never have a name, and its input may be gone.
fn name_of((name, build): Name, flight: u64) -> Digest {
    let mut hasher = KeyHasher::new("flight/2");
    hasher.digest(&name).number(build.map_or(0, |build| build + 1)).number(flight);
    hasher.finish()
}
