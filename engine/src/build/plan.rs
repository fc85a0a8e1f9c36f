//! What would a build do, step by step?
//!
//! The way of a build up to the point where something would be executed: the file is lowered, contexts are read, the
//! cache is asked. Nothing is executed and no layer is fetched; configurations of base images are, if they are not here.

use std::collections::HashMap;
use std::sync::Arc;

use rbuild_cache::{LayerId, Store};
use rbuild_core::{Digest, Platform, Reporter};
use rbuild_frontend::{Diagnostic, Dockerfile, Source};
use rbuild_solver::Verdict;
use rbuild_solver::graph::{Op, VertexId};
use serde::{Deserialize, Serialize};

use super::cause::{Cause, FileChanges, causes};
use super::check::Purpose;
use super::steps::Steps;
use super::{BuildError, Prepared};
use crate::blocking::at_once;
use crate::engine::Engine;
use crate::error::Error;
use crate::request::BuildRequest;

/// A build that was not done.
#[derive(Clone, Debug)]
pub struct BuildPlan {
    /// The Dockerfile.
    pub source: Arc<Source>,
    /// What is legal but likely wrong.
    pub warnings: Vec<Diagnostic>,
    /// What the image would be for.
    pub platform: Platform,
    /// The stage that is asked for, by its place in `stages`.
    pub target: usize,
    /// All stages of the file, in its order.
    pub stages: Vec<PlannedStage>,
    /// The steps of the stages that the target needs, inputs first.
    pub steps: Vec<PlannedStep>,
}

/// One `FROM` and what follows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlannedStage {
    /// What the file calls it.
    pub name: Option<String>,
    /// What it starts from, as written.
    pub base: String,
    /// The line of its `FROM`.
    pub line: usize,
    /// Whether the target needs it. If not, it has no steps.
    pub needed: bool,
}

/// One step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlannedStep {
    /// Whose step it is, by its place among the stages.
    pub stage: usize,
    /// What progress would show: `[build 2/5] RUN make`.
    pub title: String,
    /// What is done.
    pub kind: StepKind,
    /// The first and the last line of its instruction; for the trigger of a base image that of the `FROM`.
    pub lines: (usize, usize),
    /// What it works on: first the root file system, then what it copies or mounts.
    pub inputs: Vec<StepInput>,
    /// What would come of it.
    pub forecast: Forecast,
}

/// What a step does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// Brings in a base image.
    Image,
    /// Fetches a file or a repository: `ADD https://…`.
    Source,
    /// Runs a process.
    Exec,
    /// Changes files without a process: `COPY`, `ADD`, `WORKDIR`.
    File,
    /// Puts layers upon others: `COPY --link`.
    Merge,
}

/// What a step needs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StepInput {
    /// The result of another step, by its place among the steps.
    Step(usize),
    /// Files of a context.
    Context {
        /// `context`, or the name of a `--build-context`.
        name: String,
        /// The files, as patterns; all if there are none.
        include: Vec<String>,
    },
    /// No files.
    Scratch,
}

/// What a build would do about a step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Forecast {
    /// Its result is there.
    Cached,
    /// Only found steps need it, so nobody looks whether its own result is there.
    Skipped,
    /// A base image of which layers have to be fetched.
    Pulled {
        /// How many are not here.
        missing: usize,
        /// How many it has.
        layers: usize,
    },
    /// It is executed.
    Runs(Cause),
    /// It is executed unless this step's result turns out to have the same content as before.
    Depends(usize),
    /// It is the same as this step, which is done once.
    Same(usize),
}

impl Engine {
    /// Says of each step of a build what would come of it.
    ///
    /// # Errors
    /// As [`Engine::build`], except for failed steps.
    pub async fn plan(&self, request: &BuildRequest) -> Result<BuildPlan, BuildError> {
        let _lease = self.store().lease("plan").map_err(Error::from)?;
        let Prepared { source, file, warnings, lowered, solver, .. } =
            self.prepare(request, Purpose::Build, &Reporter::silent()).await?;
        let graph = &lowered.graph;
        let verdicts = solver.explain(graph, lowered.result).await;
        let verdicts: HashMap<VertexId, Verdict> =
            verdicts.map_err(|error| BuildError::step(&source, error))?.into_iter().collect();
        let missing = self.missing_layers(&solver.worker().images).await?;
        let files = solver.worker().file_changes(graph, verdicts.values()).await;
        let steps = Steps::new(graph, lowered.result, &source);
        let view = View { steps, source: &source, file: &file, verdicts, files, missing };
        let platform = match &request.platform {
            Some(text) => text.parse().map_err(BuildError::Platform)?,
            None => Platform::host(),
        };
        let stages = view.stages(&lowered.needed);
        let steps = view.steps.ids().map(|id| view.step(id)).collect();
        Ok(BuildPlan { warnings, platform, target: lowered.target, stages, steps, source: source.clone() })
    }

    /// How many layers of each base image are not here, and how many there are.
    async fn missing_layers(
        &self,
        images: &HashMap<Digest, Vec<LayerId>>,
    ) -> Result<HashMap<Digest, (usize, usize)>, Error> {
        let (store, images) = (self.store().clone(), images.clone());
        at_once(move || images.iter().map(|(id, layers)| Ok((*id, missing(&store, layers)?))).collect()).await
    }
}

fn missing(store: &Store, layers: &[LayerId]) -> Result<(usize, usize), Error> {
    let mut missing = 0;
    for layer in layers {
        let here = store.layers().find(layer)?.is_some_and(|layer| layer.form.is_local());
        missing += usize::from(!here);
    }
    Ok((missing, layers.len()))
}

/// Everything that says something about a vertex.
struct View<'a> {
    steps: Steps<'a>,
    source: &'a Source,
    file: &'a Dockerfile,
    verdicts: HashMap<VertexId, Verdict>,
    files: FileChanges,
    missing: HashMap<Digest, (usize, usize)>,
}

impl View<'_> {
    fn stages(&self, needed: &[bool]) -> Vec<PlannedStage> {
        let stage = |(stage, needed): (&rbuild_frontend::ast::Stage, &bool)| PlannedStage {
            name: stage.from.name.as_ref().map(|name| name.word.text.clone()),
            base: stage.from.image.text.clone(),
            line: self.source.position(stage.header.span.start).line,
            needed: *needed,
        };
        self.file.stages.iter().zip(needed).map(stage).collect()
    }

    fn step(&self, id: VertexId) -> PlannedStep {
        let vertex = self.steps.graph.vertex(id);
        let start = vertex.origin.spans.first().map_or(0, |span| span.start);
        let before = self.file.stages.partition_point(|stage| stage.header.span.start <= start);
        PlannedStep {
            stage: before.saturating_sub(1),
            title: vertex.origin.title.clone(),
            kind: self.steps.kind(id),
            lines: self.steps.lines(id),
            inputs: vertex.inputs().iter().map(|input| self.input(input.vertex)).collect(),
            forecast: self.forecast(id),
        }
    }

    fn input(&self, id: VertexId) -> StepInput {
        match &self.steps.graph.vertex(id).op {
            Op::Local(local) => StepInput::Context { name: local.name.clone(), include: local.include.clone() },
            Op::Scratch => StepInput::Scratch,
            Op::Image(_) | Op::Http(_) | Op::Git(_) | Op::Exec(_) | Op::File(_) | Op::Merge => {
                StepInput::Step(self.steps.number(id))
            }
        }
    }

    fn has_inputs(&self, id: VertexId) -> bool {
        let verdict = |id: VertexId| match self.verdicts.get(&id) {
            Some(Verdict::Same(other)) => self.verdicts.get(other),
            other => other,
        };
        let inputs = self.steps.graph.vertex(id).inputs();
        inputs.iter().all(|input| matches!(verdict(input.vertex), Some(Verdict::Hit(_) | Verdict::CutOff { .. })))
    }

    fn forecast(&self, id: VertexId) -> Forecast {
        let Some(verdict) = self.verdicts.get(&id) else { return Forecast::Skipped };
        let reason = match verdict {
            Verdict::Hit(_) | Verdict::CutOff { .. } => return Forecast::Cached,
            Verdict::Same(other) => return Forecast::Same(self.steps.number(*other)),
            Verdict::Missed(reason) => reason,
        };
        if let Op::Image(image) = &self.steps.graph.vertex(id).op {
            return match self.missing.get(&image.id) {
                Some((missing, layers)) if *missing > 0 => Forecast::Pulled { missing: *missing, layers: *layers },
                _ => Forecast::Cached,
            };
        }
        let mut causes = causes(self.steps.graph, reason, &self.files, |id| self.steps.number(id));
        // What is certain goes before what depends.
        let certain = causes.iter().position(|cause| !matches!(cause, Cause::Input(_))).unwrap_or(0);
        match causes.swap_remove(certain) {
            // With all inputs at hand their content was compared, too.
            Cause::Input(number) if !self.has_inputs(id) => Forecast::Depends(number),
            cause => Forecast::Runs(cause),
        }
    }
}
