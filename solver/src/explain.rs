//! Why would a step have to run?
//!
//! Asks the questions a solve asks before it executes anything, and compares each step that is not found with its former
//! self (module `step`). Reasons are data; the sentences are the caller's.

use std::collections::HashMap;

use futures_util::future::try_join_all;
use rbuild_core::Digest;
use serde::{Deserialize, Serialize};

use crate::graph::{Component, Graph, Output, VertexId};
use crate::key;
use crate::plan::{Keys, Plan, State};
use crate::records::previous;
use crate::records::{Provenance, Records};
use crate::solve::{SolveError, Solver};
use crate::step;
use crate::worker::Worker;

/// What a solve would do with a vertex.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// There is a record under this definition key.
    Hit(Digest),
    /// There is none, but one under this content key: its inputs were made anew, or are others, with the same content.
    CutOff {
        /// The content key.
        key: Digest,
        /// Why it was not found by its definition key.
        reason: Reason,
    },
    /// It has to be executed, unless its inputs turn out to have the same content as before.
    Missed(Reason),
    /// It is the same step as this other vertex, whose verdict counts.
    Same(VertexId),
}

/// Why there is no record to use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reason {
    /// No such step is known.
    NeverBuilt,
    /// The step itself reads differently now. Never empty.
    OpChanged(Vec<ComponentChange>),
    /// The step is as before, but these inputs are others or will have to be made again. Never empty.
    InputsChanged(Vec<InputChange>),
    /// Records are to be ignored.
    Forced,
    /// Step and inputs are as before, but the record is gone: pruned, or its layers are.
    Forgotten,
}

/// One input that is not what it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InputChange {
    /// The input.
    pub input: Output,
    /// The definition key of what was in its place; absent if that is the same and it has to be made again.
    pub former: Option<Digest>,
}

/// One named value that differs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ComponentChange {
    /// The component's name; `order` if nothing but the order differs.
    pub name: String,
    /// The value when the step was last built; absent if it had none.
    pub before: Option<String>,
    /// The value now.
    pub after: Option<String>,
}

impl<W: Worker, R: Records<W::Output>> Solver<W, R> {
    /// Says of each vertex that a solve of `target` would look at, inputs first, whether it would be found. Vertices
    /// below a found one are left out. Executes nothing.
    ///
    /// # Errors
    /// If the worker cannot name an op or what it can see of an input.
    pub async fn explain(
        &self,
        graph: &Graph,
        target: Output,
    ) -> Result<Vec<(VertexId, Verdict)>, SolveError<W::Error>> {
        let (worker, records) = (&self.0.worker, &self.0.records);
        let keys = Keys::compute(worker, graph, &[target]).await?;
        let plan = Plan::make(records, graph, &keys, &[target]).await;
        let names = step::names(graph);
        let mut found: HashMap<VertexId, Vec<W::Output>> = HashMap::new();
        let mut verdicts = Vec::new();
        for id in keys.order.iter().copied() {
            let canonical = keys.canonical(id);
            let verdict = match plan.state(canonical) {
                State::Unneeded => continue,
                _ if canonical != id => Verdict::Same(canonical),
                State::Hit(stored) => {
                    found.insert(id, stored.outputs.clone());
                    Verdict::Hit(keys.of(id).definition)
                }
                State::Missed => {
                    let content = self.by_content(graph, &keys, &found, id).await?;
                    let previous = previous(records, &names[id.index()]).await;
                    let reason = reason(graph, &keys, id, previous.as_ref(), |input| !found.contains_key(&input));
                    match content {
                        Some((key, outputs)) => {
                            found.insert(id, outputs);
                            Verdict::CutOff { key, reason }
                        }
                        None => Verdict::Missed(reason),
                    }
                }
            };
            verdicts.push((id, verdict));
        }
        Ok(verdicts)
    }

    /// The record under the content key, if all inputs are known.
    async fn by_content(
        &self,
        graph: &Graph,
        keys: &Keys,
        found: &HashMap<VertexId, Vec<W::Output>>,
        id: VertexId,
    ) -> Result<Option<(Digest, Vec<W::Output>)>, SolveError<W::Error>> {
        let vertex = graph.vertex(id);
        let input = |input: &Output| found.get(&keys.canonical(input.vertex))?.get(input.index as usize);
        let Some(inputs) = vertex.inputs().iter().map(input).collect::<Option<Vec<_>>>() else { return Ok(None) };
        if keys.of(id).forced {
            return Ok(None);
        }
        let worker = &self.0.worker;
        let identities = inputs.into_iter().enumerate().map(|(place, input)| worker.identity(&vertex.op, place, input));
        let identities = try_join_all(identities).await.map_err(|source| SolveError::key(graph, id, source))?;
        let content = key::content(&keys.of(id).fingerprint.content, &identities);
        let stored = self.0.records.find(&content).await.filter(|stored| stored.outputs.len() >= keys.of(id).outputs);
        Ok(stored.map(|stored| (content, stored.outputs)))
    }
}

/// Why a vertex has no record to use. `missed` says which canonical vertices have none either.
pub(crate) fn reason(
    graph: &Graph,
    keys: &Keys,
    id: VertexId,
    previous: Option<&Provenance>,
    missed: impl Fn(VertexId) -> bool,
) -> Reason {
    let facts = keys.of(id);
    if facts.forced {
        return Reason::Forced;
    }
    let Some(previous) = previous else { return Reason::NeverBuilt };
    let changes = changes(&previous.components, &facts.fingerprint.components);
    if !changes.is_empty() {
        return Reason::OpChanged(changes);
    }
    let mut former = previous.inputs.iter();
    let (mut others, mut again) = (Vec::new(), Vec::new());
    for input in graph.vertex(id).inputs() {
        let former = former.next().copied();
        if former != Some(keys.of(input.vertex).definition) {
            others.push(InputChange { input: *input, former });
        } else if missed(keys.canonical(input.vertex)) {
            again.push(InputChange { input: *input, former: None });
        }
    }
    // An input that only has to be made again explains nothing beside one that is another.
    match [others, again].into_iter().find(|changes| !changes.is_empty()) {
        Some(changes) => Reason::InputsChanged(changes),
        None => Reason::Forgotten,
    }
}

/// What differs between two lists of components; those of equal names are compared in their order.
fn changes(before: &[Component], after: &[Component]) -> Vec<ComponentChange> {
    if before == after {
        return Vec::new();
    }
    let mut former: HashMap<(&str, usize), &str> = HashMap::new();
    let mut changes = Vec::new();
    for (key, value) in numbered(before) {
        former.insert(key, value);
    }
    for (key, value) in numbered(after) {
        let before = former.remove(&key);
        if before != Some(value) {
            changes.push(change(key.0, before, Some(value)));
        }
    }
    let removed = numbered(before).filter(|(key, _)| former.contains_key(key));
    changes.extend(removed.map(|(key, value)| change(key.0, Some(value), None)));
    if changes.is_empty() {
        let order = |list: &[Component]| list.iter().map(|one| one.name.as_ref()).collect::<Vec<_>>().join(", ");
        changes.push(change("order", Some(&order(before)), Some(&order(after))));
    }
    changes
}

/// Each component's name, how many of that name came before it, and its value.
fn numbered(components: &[Component]) -> impl Iterator<Item = ((&str, usize), &str)> {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    components.iter().map(move |component| {
        let count = seen.entry(&component.name).or_default();
        *count += 1;
        ((component.name.as_ref(), *count), component.value.as_str())
    })
}

fn change(name: &str, before: Option<&str>, after: Option<&str>) -> ComponentChange {
    ComponentChange { name: name.to_owned(), before: before.map(str::to_owned), after: after.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<Component> {
        let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| Component::new(name.to_owned(), value)).collect()
    }

    #[test]
    fn changes_name_what_differs() {
        for (before, after, expected) in [
            ("a=1 b=2", "a=1 b=2", vec![]),
            ("a=1 b=2", "a=1 b=3", vec![("b", Some("2"), Some("3"))]),
            ("a=1", "a=1 b=3", vec![("b", None, Some("3"))]),
            ("a=1 b=2", "b=2", vec![("a", Some("1"), None)]),
            ("x=1 x=2", "x=1 x=3", vec![("x", Some("2"), Some("3"))]),
            ("a=1 b=2", "b=2 a=1", vec![("order", Some("a, b"), Some("b, a"))]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(|(name, old, new)| change(name, old, new)).collect();
            assert_eq!(changes(&list(before), &list(after)), expected, "{before} → {after}");
        }
    }
}
