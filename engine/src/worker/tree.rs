//! What do other results look like to a step that copies from them or mounts them?

use std::sync::Arc;

use rbuild_cache::LayerId;
use rbuild_core::{Digest, KeyHasher, Reporter, StepId};
use rbuild_solver::graph::{FileAction, FileOp, LocalOp};

use super::{BuildWorker, WorkerError};
use crate::blocking::blocking;
use crate::files::{ContextScan, Selector, SourceTree};
use crate::files_error::FilesError;
use crate::mounted::Mounted;
use crate::value::Value;

/// A tree that can be copied from.
#[derive(Clone, Debug)]
pub(super) enum SourceRoot {
    /// Files of the host.
    Context(Arc<ContextScan>),
    /// An image or a stage, mounted where nobody else sees it.
    Image(Arc<Mounted>),
}

impl SourceRoot {
    pub(super) fn tree(&self) -> &dyn SourceTree {
        match self {
            Self::Context(scan) => &**scan,
            Self::Image(mounted) => &mounted.root,
        }
    }
}

impl BuildWorker {
    /// A read-only look at a root file system, which is pulled if need be.
    pub(super) async fn view(&self, layers: &[LayerId]) -> Result<Arc<Mounted>, WorkerError> {
        // Keys are computed outside of any step: nobody is told about this pull but the log.
        self.materialize(layers, &Reporter::silent(), StepId(u32::MAX)).await?;
        let (store, layers) = (self.store().clone(), layers.to_vec());
        blocking(move || Ok(Arc::new(Mounted::new(&store.layers().view(&layers)?)?))).await
    }

    /// One input as something to copy from.
    pub(super) async fn source(&self, inputs: &[Value], input: usize) -> Result<SourceRoot, WorkerError> {
        match inputs.get(input) {
            Some(Value::Local { selection, .. }) => {
                Ok(SourceRoot::Context(self.context(&selection.name).scan(self.fetcher()).await?))
            }
            _ => Ok(SourceRoot::Image(self.view(&self.layers_of(inputs, input)?).await?)),
        }
    }

    /// What the copies of `op` can see of its input number `input`.
    pub(super) async fn copied_identity(
        &self,
        op: &FileOp,
        input: usize,
        layers: &[LayerId],
    ) -> Result<Digest, WorkerError> {
        let view = self.view(layers).await?;
        let selectors: Vec<_> = op
            .actions
            .iter()
            .filter_map(|action| match action {
                FileAction::Copy(copy) => Some(Selector::of_copy(copy, input)),
                FileAction::MakeDirectory { .. } => None,
            })
            .filter(|selector| !selector.include.is_empty())
            .collect();
        blocking(move || {
            let mut hasher = KeyHasher::new("copied/1");
            for selector in &selectors {
                hasher.digest(&selector.digest(&view.root).map_err(FilesError::from)?);
            }
            Ok(hasher.finish())
        })
        .await
    }

    /// What a bind mount of `source` shows.
    pub(super) async fn mounted_identity(&self, layers: &[LayerId], source: &str) -> Result<Digest, WorkerError> {
        if source.trim_matches('/').is_empty() {
            return self.chain(layers);
        }
        let view = self.view(layers).await?;
        let selector = Selector::path(source);
        Ok(blocking(move || selector.digest(&view.root)).await.map_err(FilesError::from)?)
    }

    /// Selected files of a context as a layer, for mounting them: owned by root and without what the ignore file
    /// excludes, as a copy of them would be. Made once for each content.
    pub(super) async fn local_layer(&self, selection: &LocalOp, digest: &Digest) -> Result<LayerId, WorkerError> {
        let mut hasher = KeyHasher::new("local-layer/1");
        hasher.digest(digest).number(selection.include.len() as u64);
        for include in &selection.include {
            hasher.text(include);
        }
        self.copied_layer(hasher.finish(), selection).await
    }
}
