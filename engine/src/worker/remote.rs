//! What do `ADD https://…` and `ADD git@…` depend on, and what do they give?
//!
//! The world is asked once in a build: what a fingerprint found out is what execution uses.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rbuild_core::{Reporter, StepId};
use rbuild_solver::Task;
use rbuild_solver::graph::{Component, GitOp, HttpOp, Op};
use tokio::sync::OnceCell;

use super::{BuildWorker, WorkerError};
use crate::remote::{Commit, Download};
use crate::value::Value;

/// What this build has found out about other machines.
#[derive(Debug, Default)]
pub(crate) struct Remotes {
    downloads: Once<HttpOp, Download>,
    commits: Once<GitOp, Commit>,
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
                // Keys are computed outside of any step.
                let found = self.downloaded(http, (&Reporter::silent(), StepId(u32::MAX))).await?;
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

    async fn commit(&self, op: &GitOp) -> Result<Commit, WorkerError> {
        let cell = once(&self.remotes.commits, op);
        let found = cell.get_or_try_init(|| self.engine.resolve_commit(op, &self.secrets)).await?;
        Ok(found.clone())
    }
}
