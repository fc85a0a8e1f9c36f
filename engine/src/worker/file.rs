//! How do `COPY`, `ADD` and `WORKDIR` change a root file system?
//!
//! The changes are planned over a read-only view of the layers below, mounted where nobody else sees it, and then
//! written as a layer, each content once.

use std::collections::BTreeMap;

use rbuild_cache::{LayerId, Record};
use rbuild_core::Digest;
use rbuild_solver::Task;
use rbuild_solver::graph::{CopySource, FileAction, FileOp, LocalOp};

use super::layer_sink::LayerSink;
use super::{BuildWorker, WorkerError};
use crate::blocking::blocking;
use crate::files::copy::{Sources, Stage};
use crate::files::{InnerPath, Selector};
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
        let former = self.former(task.names);
        let layer = blocking(move || {
            let view = match &below[..] {
                [] => None,
                below => Some(Mounted::new(&store.layers().view(below)?)?),
            };
            let mut sink = LayerSink::new(store.layers(), former.as_ref())?;
            let mut stage = stage_over(view.as_ref(), &sink)?;
            let trees = sources.iter().map(|(input, source)| (*input, source.tree())).collect();
            plan(&mut stage, &op, &trees)?;
            unchanged(&stage.carry_out(&mut sink, &|_| ())?.changed)?;
            // To complete a layer of many files takes memory of its own.
            drop(stage);
            sink.commit()
        })
        .await?;
        layers.push(layer.id);
        Ok(layers)
    }

    /// The layer that the step made when it was executed last, if that is known.
    fn former(&self, names: &[Digest]) -> Option<LayerId> {
        let records = self.store().records();
        let record = names.iter().find_map(|name| records.latest(name).ok().flatten())?;
        record.layers.last().cloned()
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
            let mut sink = LayerSink::new(store.layers(), None)?;
            let mut stage = stage_over(None, &sink)?;
            stage.mirror(&selector, &*scan).map_err(FilesError::from)?;
            unchanged(&stage.carry_out(&mut sink, &|_| ())?.changed)?;
            drop(stage);
            let layer = sink.commit()?;
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

/// An image on which changes are planned that will go into `sink`.
fn stage_over<'a>(below: Option<&'a Mounted>, sink: &LayerSink) -> Result<Stage<'a>, WorkerError> {
    let stage = Stage::over(below.map(|below| &below.root), Some(sink.scratch()?));
    Ok(stage.map_err(FilesError::from)?)
}

fn plan<'a>(stage: &mut Stage<'a>, op: &FileOp, sources: &Sources<'a>) -> Result<(), FilesError> {
    for action in &op.actions {
        match action {
            FileAction::Copy(action) => stage.copy(action, sources)?,
            FileAction::MakeDirectory { path, owner, mtime } => stage.make_directory(path, owner.as_ref(), *mtime)?,
        }
    }
    Ok(())
}
