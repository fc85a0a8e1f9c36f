//! What do `ADD https://…` and `ADD git@…` depend on, and what do they give?
//!
//! The world is asked once in a build: what a fingerprint found out is what execution uses.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use rbuild_core::{Event, Outcome, Reporter, StepId, with_causes};
use rbuild_frontend::remote::redacted;
use rbuild_solver::Task;
use rbuild_solver::graph::{Component, GitOp, HttpOp, Op};
use tokio::sync::OnceCell;

use super::{BuildWorker, WorkerError};
use crate::remote::{Commit, Download};
use crate::value::Value;

/// What this build has found out about other machines.
#[derive(Debug)]
pub(crate) struct Remotes {
    /// For downloads before the first step.
    reporter: Reporter,
    /// How many of those there were.
    early: AtomicU32,
    downloads: Once<HttpOp, Download>,
    commits: Once<GitOp, Commit>,
}

impl Remotes {
    pub(crate) fn new(reporter: Reporter) -> Self {
        Self { reporter, early: AtomicU32::new(0), downloads: Once::default(), commits: Once::default() }
    }

    /// A step for a download that no step stands for, told of only if something is really transferred.
    fn early_step(&self, title: String) -> (Reporter, StepId, Arc<OnceLock<Instant>>) {
        // From the other end of the numbers than the solver's, beside those of contexts.
        let step = StepId(u32::MAX - 1000 - self.early.fetch_add(1, Ordering::Relaxed));
        let (reporter, started) = (self.reporter.clone(), Arc::new(OnceLock::new()));
        let begun = Arc::clone(&started);
        let forward = Reporter::new(move |event| {
            begun.get_or_init(|| {
                reporter.emit(Event::StepStarted { step, title: title.clone() });
                Instant::now()
            });
            reporter.emit(event);
        });
        (forward, step, started)
    }
}

type Once<K, V> = Mutex<HashMap<K, Arc<OnceCell<V>>>>;

fn once<K: Clone + Eq + std::hash::Hash, V>(known: &Once<K, V>, key: &K) -> Arc<OnceCell<V>> {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(known.entry(key.clone()).or_default())
}

impl BuildWorker {
    /// What is known of a remote source only once its server was asked.
    pub(super) async fn remote_components(&self, op: &Op) -> Result<Vec<Component>, WorkerError> {
        match op {
            Op::Http(http) if http.checksum.is_none() => {
                let found = self.downloaded_early(http).await?;
                let time = found.modified.map(|time| time.to_string()).unwrap_or_default();
                let content = Component::new("content", found.digest.to_string());
                Ok(vec![content, Component::new("modification time", time)])
            }
            Op::Git(git) => Ok(vec![Component::new("commit", self.commit(git).await?.id)]),
            _ => Ok(Vec::new()),
        }
    }

    /// A downloaded file as a root.
    pub(super) async fn download(&self, task: Task<'_>, op: &HttpOp) -> Result<Value, WorkerError> {
        let found = self.downloaded(op, (task.reporter, task.step)).await?;
        Ok(Value::Source { identity: found.identity(), layer: found.layer })
    }

    /// The files of a commit as a root.
    pub(super) async fn check_out(&self, op: &GitOp) -> Result<Value, WorkerError> {
        let commit = self.commit(op).await?;
        let found = self.engine.check_out(op, &commit, &self.secrets).await?;
        Ok(Value::Source { identity: found.identity, layer: found.layer })
    }

    async fn downloaded(&self, op: &HttpOp, progress: (&Reporter, StepId)) -> Result<Download, WorkerError> {
        let cell = once(&self.remotes.downloads, op);
        let found = cell.get_or_try_init(|| self.engine.download(op, &self.secrets, progress)).await?;
        Ok(found.clone())
    }

    /// Keys are computed outside of any step.
    async fn downloaded_early(&self, op: &HttpOp) -> Result<Download, WorkerError> {
        let title = format!("[internal] download {}", redacted(&op.url));
        let (reporter, step, started) = self.remotes.early_step(title);
        let found = self.downloaded(op, (&reporter, step)).await;
        if let Some(started) = started.get() {
            let outcome = found.as_ref().map_or_else(|error| Outcome::Failed(with_causes(error)), |_| Outcome::Done);
            self.remotes.reporter.emit(Event::StepFinished { step, outcome, elapsed: started.elapsed() });
        }
        found
    }

    async fn commit(&self, op: &GitOp) -> Result<Commit, WorkerError> {
        let cell = once(&self.remotes.commits, op);
        let found = cell.get_or_try_init(|| self.engine.resolve_commit(op, &self.secrets)).await?;
        Ok(found.clone())
    }
}
