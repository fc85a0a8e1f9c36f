//! What would a build do, and what is doubtful about its Dockerfile?
//!
//! The same way as a build, up to the point where something would be executed.

use std::sync::Arc;

use rbuild_core::Reporter;
use rbuild_frontend::{Diagnostic, Source};
use rbuild_solver::{Reason, Verdict};

use super::{BuildError, Prepared};
use crate::engine::Engine;
use crate::error::Error;
use crate::request::BuildRequest;

/// A Dockerfile without mistakes.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What is legal but likely wrong.
    pub warnings: Vec<Diagnostic>,
    /// The Dockerfile, to draw the warnings with.
    pub source: Arc<Source>,
}

/// What a build would do with one step.
#[derive(Clone, Debug)]
pub struct StepVerdict {
    /// What a person calls the step.
    pub title: String,
    /// Whether it would be found or why not.
    pub verdict: Verdict,
    /// The title of the input that [`Reason::InputChanged`] is about.
    pub input: Option<String>,
}

impl Engine {
    /// Reads, checks and lowers a Dockerfile without building it.
    ///
    /// # Errors
    /// As [`Engine::build`], except for failed steps.
    pub async fn check(&self, request: &BuildRequest) -> Result<Checked, BuildError> {
        let _lease = self.store().lease("check").map_err(Error::from)?;
        let Prepared { source, warnings, .. } = self.prepare(request, &Reporter::silent()).await?;
        Ok(Checked { warnings, source })
    }

    /// Says of each step whether a build would find its result or why it would execute it, inputs first. Steps that
    /// only found ones need are left out.
    ///
    /// # Errors
    /// As [`Engine::build`], except for failed steps.
    pub async fn explain(&self, request: &BuildRequest) -> Result<Vec<StepVerdict>, BuildError> {
        let _lease = self.store().lease("explain").map_err(Error::from)?;
        let Prepared { source, lowered, solver, .. } = self.prepare(request, &Reporter::silent()).await?;
        let graph = &lowered.graph;
        let verdicts = solver.explain(graph, lowered.result).await;
        let verdicts = verdicts.map_err(|error| BuildError::step(&source, error))?;
        let title = |vertex| graph.vertex(vertex).origin.title.clone();
        let verdict = |(vertex, verdict)| {
            let input = match &verdict {
                Verdict::Missed(Reason::InputChanged(input)) => Some(title(input.vertex)),
                Verdict::Hit(_) | Verdict::Missed(_) => None,
            };
            StepVerdict { title: title(vertex), verdict, input }
        };
        Ok(verdicts.into_iter().map(verdict).collect())
    }
}
