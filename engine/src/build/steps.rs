//! Which vertices of a graph are steps, and what are they called?
//!
//! A plan and the account of a build count alike: a step is a vertex that makes files, in the order of the graph, which
//! is that of the Dockerfile. What a step reads from a context, and the empty file system of `scratch`, are inputs of
//! steps and none themselves.

use rbuild_frontend::Source;
use rbuild_solver::graph::{Graph, Op, Output, Vertex, VertexId};

use super::plan::StepKind;

/// The steps that a target needs.
#[derive(Clone, Debug)]
pub(super) struct Steps<'a> {
    pub(super) graph: &'a Graph,
    source: &'a Source,
    ids: Vec<VertexId>,
}

impl<'a> Steps<'a> {
    pub(super) fn new(graph: &'a Graph, target: Output, source: &'a Source) -> Self {
        let is_step = |id: &VertexId| !matches!(graph.vertex(*id).op, Op::Local(_) | Op::Scratch);
        let ids = graph.reachable(&[target]).into_iter().filter(is_step).collect();
        Self { graph, source, ids }
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = VertexId> {
        self.ids.iter().copied()
    }

    /// The place of a step among the steps.
    pub(super) fn number(&self, id: VertexId) -> usize {
        self.ids.binary_search(&id).expect("every needed vertex with files of its own is a step")
    }

    /// The first and the last line of its instruction.
    pub(super) fn lines(&self, id: VertexId) -> (usize, usize) {
        let spans = &self.graph.vertex(id).origin.spans;
        let all = spans.iter().copied().reduce(|all, span| all.to(span)).unwrap_or_default();
        self.source.lines(all)
    }

    pub(super) fn kind(&self, id: VertexId) -> StepKind {
        kind(self.graph.vertex(id))
    }
}

fn kind(vertex: &Vertex) -> StepKind {
    match &vertex.op {
        Op::Image(_) => StepKind::Image,
        Op::Http(_) | Op::Git(_) => StepKind::Source,
        Op::Exec(_) => StepKind::Exec,
        Op::File(_) | Op::Local(_) | Op::Scratch => StepKind::File,
        Op::Merge => StepKind::Merge,
    }
}
