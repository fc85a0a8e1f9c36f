//! Which vertices must be made, before anything is?
//!
//! First the keys: every needed vertex is fingerprinted, all at once, and gets its definition key, inputs first. Equal
//! definition keys are one vertex from then on. Then the look-ups, from the targets down: a vertex that is found hides
//! everything below it. Nothing is executed here, so `explain` asks the same questions.
//!
//! `ignore_cache` taints: a result above a vertex that is made again must not be found by its definition key, since that
//! record stands on the old result. It can still be found by its content key.

use std::collections::HashMap;

use futures_util::stream::{FuturesUnordered, StreamExt};
use rbuild_core::Digest;

use crate::graph::{Graph, Output, VertexId};
use crate::key;
use crate::records::{Records, Stored};
use crate::solve::SolveError;
use crate::worker::{Fingerprint, Worker};

/// What is known of the needed vertices without any record. Slices are indexed by vertex.
#[derive(Debug)]
pub(crate) struct Keys {
    /// The needed vertices, inputs first.
    pub(crate) order: Vec<VertexId>,
    facts: Vec<Option<Facts>>,
}

/// What is known of one needed vertex.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) definition: Digest,
    /// The first vertex with this definition key: the one that is solved.
    pub(crate) canonical: VertexId,
    /// Whether its own records are ignored. Kept by the canonical vertex.
    pub(crate) forced: bool,
    /// Whether its definition key proves nothing: it or something below it is forced.
    pub(crate) tainted: bool,
    /// How many outputs a record must have to be of use.
    pub(crate) outputs: usize,
}

impl Keys {
    pub(crate) async fn compute<W: Worker>(
        worker: &W,
        graph: &Graph,
        targets: &[Output],
    ) -> Result<Self, SolveError<W::Error>> {
        let order = graph.reachable(targets);
        let mut fingerprints = fingerprints(worker, graph, &order).await?;
        let mut keys = Self { facts: (0..graph.len()).map(|_| None).collect(), order };
        let mut first = HashMap::with_capacity(keys.order.len());
        for place in 0..keys.order.len() {
            let id = keys.order[place];
            let vertex = graph.vertex(id);
            let fingerprint = fingerprints[id.index()].take().expect("every needed vertex was fingerprinted");
            let inputs = vertex.inputs().iter().map(|input| (keys.of(input.vertex).definition, input.index));
            let definition = key::definition(&fingerprint, inputs);
            let forced = vertex.origin.ignore_cache;
            let canonical = *first.entry(definition).or_insert(id);
            keys.facts[id.index()] =
                Some(Facts { fingerprint, definition, canonical, forced, tainted: forced, outputs: 0 });
            if forced {
                let canonical = keys.of_mut(canonical);
                (canonical.forced, canonical.tainted) = (true, true);
            }
        }
        keys.spread_taint(graph);
        keys.count_outputs(targets);
        for place in 0..keys.order.len() {
            keys.count_outputs(graph.vertex(keys.order[place]).inputs());
        }
        Ok(keys)
    }

    pub(crate) fn of(&self, id: VertexId) -> &Facts {
        self.facts[id.index()].as_ref().expect("only needed vertices are asked for, inputs first")
    }

    pub(crate) fn canonical(&self, id: VertexId) -> VertexId {
        self.of(id).canonical
    }

    fn of_mut(&mut self, id: VertexId) -> &mut Facts {
        self.facts[id.index()].as_mut().expect("only needed vertices are asked for, inputs first")
    }

    fn count_outputs(&mut self, used: &[Output]) {
        for output in used {
            let canonical = self.canonical(output.vertex);
            let facts = self.of_mut(canonical);
            facts.outputs = facts.outputs.max(output.index as usize + 1);
        }
    }

    // After all are known: a forced twin can come after vertices that stand on its canonical vertex.
    fn spread_taint(&mut self, graph: &Graph) {
        for place in 0..self.order.len() {
            let id = self.order[place];
            let inputs = graph.vertex(id).inputs();
            if inputs.iter().any(|input| self.of(self.canonical(input.vertex)).tainted) {
                self.of_mut(id).tainted = true;
            }
        }
    }
}

async fn fingerprints<W: Worker>(
    worker: &W,
    graph: &Graph,
    order: &[VertexId],
) -> Result<Vec<Option<Fingerprint>>, SolveError<W::Error>> {
    let ask = |id: VertexId| async move { (id, worker.fingerprint(&graph.vertex(id).op).await) };
    let mut asked: FuturesUnordered<_> = order.iter().map(|id| ask(*id)).collect();
    let mut fingerprints = vec![None; graph.len()];
    while let Some((id, fingerprint)) = asked.next().await {
        fingerprints[id.index()] = Some(fingerprint.map_err(|source| SolveError::key(graph, id, source))?);
    }
    Ok(fingerprints)
}

/// What the records say about a canonical vertex.
#[derive(Debug)]
pub(crate) enum State<T> {
    /// Everything that needs it was found.
    Unneeded,
    /// Found by its definition key.
    Hit(Stored<T>),
    /// To be made, or at least to be looked for by its content key.
    Missed,
}

/// The states of all vertices by number; those that are not canonical stay [`State::Unneeded`].
#[derive(Debug)]
pub(crate) struct Plan<T>(Vec<State<T>>);

impl<T: Send> Plan<T> {
    pub(crate) async fn make<R: Records<T>>(records: &R, graph: &Graph, keys: &Keys, targets: &[Output]) -> Self {
        let mut states: Vec<State<T>> = (0..graph.len()).map(|_| State::Unneeded).collect();
        let mut asked = vec![false; graph.len()];
        let mut demanded: Vec<_> = targets.iter().map(|target| keys.canonical(target.vertex)).collect();
        let find = |id: VertexId| async move { (id, records.find(&keys.of(id).definition).await) };
        let mut searches = FuturesUnordered::new();
        let demand_inputs = |id, demanded: &mut Vec<_>| {
            demanded.extend(graph.vertex(id).inputs().iter().map(|input| keys.canonical(input.vertex)));
        };
        loop {
            while let Some(id) = demanded.pop() {
                if std::mem::replace(&mut asked[id.index()], true) {
                    continue;
                }
                if keys.of(id).tainted {
                    states[id.index()] = State::Missed;
                    demand_inputs(id, &mut demanded);
                } else {
                    searches.push(find(id));
                }
            }
            let Some((id, found)) = searches.next().await else { return Self(states) };
            match found {
                Some(stored) if stored.outputs.len() >= keys.of(id).outputs => {
                    states[id.index()] = State::Hit(stored);
                }
                _ => {
                    states[id.index()] = State::Missed;
                    demand_inputs(id, &mut demanded);
                }
            }
        }
    }

    /// The state of a canonical vertex.
    pub(crate) fn state(&self, id: VertexId) -> &State<T> {
        &self.0[id.index()]
    }

    pub(crate) fn is_hit(&self, id: VertexId) -> bool {
        matches!(self.state(id), State::Hit(_))
    }

    pub(crate) fn is_unneeded(&self, id: VertexId) -> bool {
        matches!(self.state(id), State::Unneeded)
    }

    pub(crate) fn is_missed(&self, id: VertexId) -> bool {
        matches!(self.state(id), State::Missed)
    }
}
