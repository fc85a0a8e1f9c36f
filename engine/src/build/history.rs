//! What did the last build do, and why?
//!
//! A build that made something or failed leaves one row: its steps, what became of each, the causes, times and
//! resources. `why` reads it and looks at nothing else, so it tells of the past and executes nothing. A build that only
//! found things leaves no row: a transaction takes a quarter of a millisecond, more than all its look-ups.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use rbuild_cache::Build;
use rbuild_core::{Digest, KeyHasher, Platform, Resources, StepId};
use rbuild_solver::{Entry, Journal, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;

use super::cause::{Cause, causes, reason};
use super::contexts::Main;
use super::dockerfile::{DockerfilePlace, NAMES};
use super::numbers::Numbers;
use super::plan::StepKind;
use super::steps::Steps;
use super::{BuildError, Prepared};
use crate::context::Place;
use crate::engine::Engine;
use crate::error::Error;
use crate::request::{BuildRequest, DockerfileSource};

/// An account of a build.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PastBuild {
    /// The Dockerfile: an absolute path, or where else it came from.
    pub dockerfile: String,
    /// The directory that was its context, absolute, if it was one of this machine.
    pub context: Option<String>,
    /// The platform of the image.
    pub platform: Platform,
    /// When it ended, in seconds since 1970.
    pub ended: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// What came of it.
    pub result: PastResult,
    /// Its steps, inputs first.
    pub steps: Vec<PastStep>,
}

/// What came of a build.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PastResult {
    /// An image, by its ID.
    Image(Digest),
    /// Nothing; why not.
    Failed(String),
}

/// One step of it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PastStep {
    /// The number that progress gave it.
    pub number: Option<usize>,
    /// What progress called it.
    pub title: String,
    /// What it does.
    pub kind: StepKind,
    /// The first and the last line of its instruction.
    pub lines: (usize, usize),
    /// What became of it.
    pub verdict: PastVerdict,
    /// How long it was executed.
    pub duration: Option<Duration>,
    /// What its processes took.
    pub resources: Option<Resources>,
}

/// What became of a step.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PastVerdict {
    /// Its result was there.
    Cached,
    /// Only found steps needed it: nobody looked whether its own result was there.
    Skipped,
    /// It was the same as this step, by its place among the steps, and done with it.
    Same(usize),
    /// Its inputs were made anew or were others, with the content that was known: its result was found by that.
    Kept(Vec<Cause>),
    /// It was done.
    Ran(Vec<Cause>),
    /// It failed.
    Failed(Vec<Cause>),
    /// It would have been done, if another had not failed before.
    Unfinished(Vec<Cause>),
}

impl PastVerdict {
    /// Why it was not simply found; empty if it was.
    pub fn causes(&self) -> &[Cause] {
        match self {
            Self::Cached | Self::Skipped | Self::Same(_) => &[],
            Self::Kept(causes) | Self::Ran(causes) | Self::Failed(causes) | Self::Unfinished(causes) => causes,
        }
    }
}

/// What tells the builds of one Dockerfile from others.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) dockerfile: String,
    context: Option<String>,
}

impl Scope {
    pub(super) fn new(request: &BuildRequest, place: &DockerfilePlace, main: &Main) -> Self {
        let context = match &main.place {
            Place::Local(root) => Some(root.display().to_string()),
            Place::Fetched(_) => None,
        };
        let source = match &main.place {
            Place::Local(root) => root.display().to_string(),
            Place::Fetched(fetched) => fetched.what().to_owned(),
        };
        let dockerfile = match (place, &request.dockerfile) {
            (DockerfilePlace::Host(path), _) => absolute(path),
            (DockerfilePlace::Inside(path), _) => format!("{source}:{}", path.display()),
            (DockerfilePlace::Nowhere, Some(DockerfileSource::Http(url))) => url.clone(),
            (DockerfilePlace::Nowhere, _) => format!("-:{source}"),
        };
        Self { dockerfile, context }
    }

    fn digests(&self) -> Vec<Digest> {
        let context = self.context.iter().map(|context| scope("context", context));
        [scope("dockerfile", &self.dockerfile)].into_iter().chain(context).collect()
    }
}

fn absolute(path: &Path) -> String {
    let path = fs::canonicalize(path).or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned());
    path.display().to_string()
}

fn scope(kind: &str, name: &str) -> Digest {
    let mut hasher = KeyHasher::new("build-scope/1");
    hasher.text(kind).text(name);
    hasher.finish()
}

/// What is known of a build besides its steps.
#[derive(Debug)]
pub(super) struct Account<'a> {
    pub(super) request: &'a BuildRequest,
    pub(super) elapsed: Duration,
    pub(super) result: Result<Digest, &'a BuildError>,
    pub(super) numbers: &'a Numbers,
    pub(super) journal: &'a Journal,
}

/// Whether there is something to tell of a build: it made something or failed.
pub(super) fn is_worth_a_row(account: &Account<'_>) -> bool {
    let found = |entry: &Entry| matches!(entry.verdict, Verdict::Hit(_) | Verdict::Same(_));
    account.result.is_err() || !account.journal.all(found)
}

impl PastBuild {
    pub(super) async fn new(prepared: &Prepared, account: &Account<'_>) -> Self {
        let Prepared { source, lowered, solver, scope, .. } = prepared;
        let entries: HashMap<_, _> = account.journal.entries().into_iter().collect();
        let verdicts = entries.values().map(|entry| &entry.verdict);
        let files = solver.worker().file_changes(&lowered.graph, verdicts).await;
        let steps = Steps::new(&lowered.graph, lowered.result, source);
        let failed = match account.result {
            Err(BuildError::Step { vertex, .. }) => *vertex,
            _ => None,
        };
        let step = |id| {
            let entry = entries.get(&id);
            let because = entry.and_then(|entry| reason(&entry.verdict));
            let because = because.map(|reason| causes(steps.graph, reason, &files, |id| steps.number(id)));
            let because = because.unwrap_or_default();
            let verdict = match entry.map(|entry| (&entry.verdict, &entry.made)) {
                None => PastVerdict::Skipped,
                Some((Verdict::Hit(_), _)) => PastVerdict::Cached,
                Some((Verdict::Same(other), _)) => PastVerdict::Same(steps.number(*other)),
                Some((Verdict::CutOff { .. }, _)) => PastVerdict::Kept(because),
                Some((Verdict::Missed(_), Some(_))) => PastVerdict::Ran(because),
                Some((Verdict::Missed(_), None)) if failed == Some(id) => PastVerdict::Failed(because),
                Some((Verdict::Missed(_), None)) => PastVerdict::Unfinished(because),
            };
            let made = entry.and_then(|entry| entry.made);
            PastStep {
                number: u32::try_from(id.index()).ok().and_then(|index| account.numbers.of(StepId(index))),
                title: steps.graph.vertex(id).origin.title.clone(),
                kind: steps.kind(id),
                lines: steps.lines(id),
                verdict,
                duration: made.map(|made| made.duration),
                resources: made.and_then(|made| made.resources),
            }
        };
        let platform = account.request.platform.as_ref().and_then(|text| text.parse().ok());
        Self {
            dockerfile: scope.dockerfile.clone(),
            context: scope.context.clone(),
            platform: platform.unwrap_or_else(Platform::host),
            ended: crate::time::now(),
            elapsed: account.elapsed,
            result: match account.result {
                Ok(image) => PastResult::Image(image),
                Err(error) => PastResult::Failed(error.to_string()),
            },
            steps: steps.ids().map(step).collect(),
        }
    }

    pub(super) fn row(&self, scope: &Scope) -> Build {
        let told = to_raw_value(self).expect("texts and numbers are JSON");
        Build { scopes: scope.digests(), told }
    }
}

impl Engine {
    /// The last build that made something or failed: of the Dockerfile at `file` if that is given, else of a Dockerfile
    /// or of a context in `directory`. `None` if none is remembered.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn past_build(&self, file: Option<&Path>, directory: &Path) -> Result<Option<PastBuild>, Error> {
        let scopes = match file {
            Some(file) => vec![scope("dockerfile", &absolute(file))],
            None => {
                let files = NAMES.iter().map(|name| scope("dockerfile", &absolute(&directory.join(name))));
                files.chain([scope("context", &absolute(directory))]).collect()
            }
        };
        self.read_past_build(&scopes)
    }

    /// The last build of all that made something or failed.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn latest_build(&self) -> Result<Option<PastBuild>, Error> {
        self.read_past_build(&[])
    }

    fn read_past_build(&self, scopes: &[Digest]) -> Result<Option<PastBuild>, Error> {
        let build = self.store().builds().latest(scopes)?;
        // What another version wrote may read differently: then it is as good as forgotten.
        Ok(build.and_then(|build| serde_json::from_str(build.told.get()).ok()))
    }
}
