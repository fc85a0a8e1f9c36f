//! How do `COPY`, `ADD` and `WORKDIR` change a root file system?
//!
//! The layers below are mounted under a fresh upper directory, detached from every mount namespace; our own code
//! changes the tree through that mount, and what it wrote is the layer.

use std::collections::BTreeMap;

use rbuild_cache::{LayerId, LayerKind, Record};
use rbuild_core::Digest;
use rbuild_solver::Task;
use rbuild_solver::graph::{CopySource, FileAction, FileOp, LocalOp};

use super::tree::SourceRoot;
use super::{BuildWorker, WorkerError};
use crate::blocking::blocking;
use crate::files::{InnerPath, Root, Selector, copy};
use crate::files_error::FilesError;
use crate::lock::key_lock;
use crate::mounted::Mounted;
use crate::value::Value;

impl BuildWorker {
    /// Carries out all actions and keeps the result as one layer.
    pub(super) async fn change(
        &self,
        task: Task<'_>,
        op: &FileOp,
        inputs: &[Value],
    ) -> Result<Vec<LayerId>, WorkerError> {
        let mut layers = self.layers_of(inputs, 0)?;
        self.materialize(&layers, task.reporter, task.step).await?;
        let mut sources = BTreeMap::new();
        for input in used(op) {
            sources.insert(input, self.source(inputs, input).await?);
        }
        let (store, below, op) = (self.store().clone(), layers.clone(), op.clone());
        let layer = blocking(move || {
            let snapshot = store.layers().prepare(&below)?;
            let mounted = Mounted::new(&snapshot.root_mount())?;
            unchanged(&apply(&op, &sources, &mounted.root)?)?;
            drop(mounted);
            Ok::<_, WorkerError>(snapshot.commit(LayerKind::Files)?)
        })
        .await?;
        layers.push(layer.id);
        Ok(layers)
    }

    /// A layer that holds a copy of `selection`, found under `key` if it was made before.
    pub(super) async fn copied_layer(&self, key: Digest, selection: &LocalOp) -> Result<LayerId, WorkerError> {
        let known = |worker: &Self| {
            let record = worker.store().records().find(&key)?;
            Ok::<_, WorkerError>(record.and_then(|record| record.layers.into_iter().next()))
        };
        if let Some(layer) = known(self)? {
            return Ok(layer);
        }
        let _lock = key_lock(self.store(), &key).await?;
        if let Some(layer) = known(self)? {
            return Ok(layer);
        }
        let scan = self.context(&selection.name).scan(self.fetcher()).await?;
        let (store, selector) = (self.store().clone(), Selector::from(selection));
        blocking(move || {
            let snapshot = store.layers().prepare(&[])?;
            let mounted = Mounted::new(&snapshot.root_mount())?;
            unchanged(&copy::mirror(&selector, &*scan, &mounted.root).map_err(FilesError::from)?.changed)?;
            drop(mounted);
            let layer = snapshot.commit(LayerKind::Files)?;
            let record = Record {
                listings: Vec::new(),
                layers: vec![layer.id.clone()],
                outputs: serde_json::Value::Null,
                provenance: serde_json::Value::Null,
                title: "files of the build context".to_owned(),
                created: layer.created,
                duration_ms: 0,
            };
            store.records().insert(&[key], &[], &record)?;
            Ok(layer.id)
        })
        .await
    }
}

/// A copy of files that changed meanwhile is not what its key says, and is thrown away.
fn unchanged(changed: &[InnerPath]) -> Result<(), WorkerError> {
    match changed {
        [] => Ok(()),
        [path, others @ ..] => Err(WorkerError::Changed { path: path.to_string(), others: others.len() }),
    }
}

/// The inputs that the actions copy from.
fn used(op: &FileOp) -> Vec<usize> {
    let copies = op.actions.iter().filter_map(|action| match action {
        FileAction::Copy(copy) => Some(copy),
        FileAction::MakeDirectory { .. } => None,
    });
    let mut inputs: Vec<_> = copies
        .flat_map(|copy| &copy.sources)
        .filter_map(|source| match source {
            CopySource::Path { input, .. } => Some(*input),
            CopySource::Inline { .. } => None,
        })
        .collect();
    inputs.sort_unstable();
    inputs.dedup();
    inputs
}

/// Returns the files that changed since the cache key was computed.
fn apply(op: &FileOp, sources: &BTreeMap<usize, SourceRoot>, root: &Root) -> Result<Vec<InnerPath>, FilesError> {
    let trees = sources.iter().map(|(input, source)| (*input, source.tree())).collect();
    let mut changed = Vec::new();
    for action in &op.actions {
        match action {
            FileAction::Copy(action) => changed.extend(copy::apply(action, &trees, root, &|_| ())?.changed),
            FileAction::MakeDirectory { path, owner, mtime } => {
                copy::make_directory(path, owner.as_ref(), *mtime, root)?;
            }
        }
    }
    Ok(changed)
}
