//! What is to be built?
//!
//! A directed acyclic graph of vertices. A vertex is an [`Op`] and an ordered list of inputs; an [`Output`] names one
//! result of a vertex. The op model is BuildKit's LLB (`solver/pb/ops.proto` there), so that LLB can be imported.

mod component;
mod fields;
mod op;
mod variables;

pub use component::{Component, KeyScope};
pub use op::*;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;
use rbuild_core::Span;
pub use variables::Variables;

/// A vertex of one [`Graph`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct VertexId(NodeIndex);

impl VertexId {
    /// Position in order of addition: inputs always have a smaller one.
    pub fn index(self) -> usize {
        self.0.index()
    }
}

/// One result of a vertex.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Output {
    /// Who makes it.
    pub vertex: VertexId,
    /// Which of its results; 0 is the root file system (or the only result).
    pub index: u32,
}

/// Where a vertex comes from, for people.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Origin {
    /// What progress shows: `[build 2/5] RUN make`.
    pub title: String,
    /// The instruction's places in the Dockerfile; empty for vertices that no instruction stands for.
    pub spans: Vec<Span>,
    /// Whether its cached results must not be used (`--no-cache`, `--no-cache-filter`).
    pub ignore_cache: bool,
}

/// An op, its place, and (through the graph) its inputs.
#[derive(Clone, Debug)]
pub struct Vertex {
    /// What is done.
    pub op: Op,
    /// For whom it is done.
    pub origin: Origin,
    inputs: Box<[Output]>,
}

impl Vertex {
    /// What it works on, in the order the op counts them.
    pub fn inputs(&self) -> &[Output] {
        &self.inputs
    }
}

/// The edge payload: which output of the source enters at which place of the target.
#[derive(Clone, Copy, Debug)]
struct Input {
    #[expect(dead_code, reason = "read by petgraph's dot output in `rbuild plan`")]
    place: u32,
}

/// Why a vertex cannot be added.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GraphError {
    /// An input belongs to another graph.
    #[error("input {0} of the new vertex is not in this graph")]
    UnknownInput(usize),
}

/// The build graph. Acyclic by construction: a vertex can only refer to vertices that were added before it.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    inner: DiGraph<Vertex, Input>,
    scope: String,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says what tells this build from unrelated ones when a step is compared with its former self, such as the
    /// path of the Dockerfile. Enters no cache key.
    pub fn set_scope(&mut self, scope: impl Into<String>) {
        self.scope = scope.into();
    }

    /// What [`Graph::set_scope`] said; empty if nothing.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// Adds a vertex and names its first output.
    ///
    /// # Errors
    /// If an input is not a vertex of this graph.
    pub fn add(&mut self, op: Op, inputs: &[Output], mut origin: Origin) -> Result<Output, GraphError> {
        for (place, input) in inputs.iter().enumerate() {
            if self.inner.node_weight(input.vertex.0).is_none() {
                return Err(GraphError::UnknownInput(place));
            }
        }
        origin.title.shrink_to_fit();
        let node = self.inner.add_node(Vertex { op, origin, inputs: inputs.into() });
        for (place, input) in inputs.iter().enumerate() {
            self.inner.add_edge(input.vertex.0, node, Input { place: u32::try_from(place).unwrap_or(u32::MAX) });
        }
        Ok(Output { vertex: VertexId(node), index: 0 })
    }

    /// The vertex behind an id of this graph.
    ///
    /// # Panics
    /// If the id is of another, larger graph.
    pub fn vertex(&self, id: VertexId) -> &Vertex {
        &self.inner[id.0]
    }

    /// How many vertices there are.
    pub fn len(&self) -> usize {
        self.inner.node_count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All vertices, inputs before what needs them.
    pub fn vertices(&self) -> impl Iterator<Item = (VertexId, &Vertex)> {
        self.inner.node_indices().map(|node| (VertexId(node), &self.inner[node]))
    }

    /// Who needs an output of `id`.
    pub fn dependents(&self, id: VertexId) -> impl Iterator<Item = VertexId> {
        self.inner.edges_directed(id.0, petgraph::Direction::Outgoing).map(|edge| VertexId(edge.target()))
    }

    /// The vertices that `targets` need, themselves included; inputs before what needs them.
    pub fn reachable(&self, targets: &[Output]) -> Vec<VertexId> {
        let mut wanted = vec![false; self.len()];
        let mut stack: Vec<_> = targets.iter().map(|target| target.vertex).collect();
        while let Some(id) = stack.pop() {
            if !std::mem::replace(&mut wanted[id.index()], true) {
                stack.extend(self.vertex(id).inputs.iter().map(|input| input.vertex));
            }
        }
        self.inner.node_indices().filter(|node| wanted[node.index()]).map(VertexId).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_target_needs_is_reachable_and_inputs_come_first() {
        let mut graph = Graph::new();
        let base = graph.add(Op::Scratch, &[], Origin::default()).unwrap();
        let unused = graph.add(Op::Scratch, &[base], Origin::default()).unwrap();
        let top = graph.add(Op::Merge, &[base, base], Origin::default()).unwrap();
        assert_eq!(graph.reachable(&[top]), [base.vertex, top.vertex]);
        assert_eq!(graph.dependents(base.vertex).filter(|id| *id == unused.vertex).count(), 1);
    }

    #[test]
    fn an_input_of_another_graph_is_refused() {
        let mut other = Graph::new();
        let foreign = other.add(Op::Scratch, &[], Origin::default()).unwrap();
        assert_eq!(Graph::new().add(Op::Merge, &[foreign], Origin::default()), Err(GraphError::UnknownInput(0)));
    }
}
