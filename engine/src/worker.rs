//! What do the ops of a build graph mean?
//!
//! The solver decides what must be made; this makes it, with the store, the sandbox and the registry. Everything that
//! keeps a thread busy goes through [`blocking`].

mod cache_mount;
mod exec;
mod file;
mod layer_sink;
mod listings;
mod remote;
mod seal;
mod stubs;
mod tree;

#[cfg(test)]
pub(crate) use self::layer_sink::LayerSink;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rbuild_cache::{LayerId, Store};
use rbuild_core::{Digest, KeyHasher, Reporter, StepId};
use rbuild_executor::Exit;
use rbuild_solver::graph::{Component, ExecMountKind, LocalOp, Op};
use rbuild_solver::{Executed, Fingerprint, Naming, Task, Worker};

use crate::blocking::blocking;
use crate::cdi::{DeviceError, Devices};
use crate::context::{Context, Fetcher};
use crate::engine::Engine;
use crate::error::Error;
use crate::files::Selector;
use crate::files::listing::Listing;
use crate::files_error::FilesError;
use crate::host_ca::HostCa;
use crate::secret::{SecretError, Secrets};
use crate::ssh::Agents;
use crate::value::Value;

pub(crate) use self::listings::Listings;
pub(crate) use self::remote::Remotes;
pub(crate) use self::seal::Seals;
pub(crate) use self::stubs::Stubs;

/// Executes the ops of one build.
#[derive(Debug)]
pub(crate) struct BuildWorker {
    pub(crate) engine: Engine,
    /// The layers of the base images.
    pub(crate) images: HashMap<Digest, Vec<LayerId>>,
    /// Whether files were made.
    pub(crate) made: AtomicBool,
    /// Local directories by name; `context` is the build's own.
    pub(crate) contexts: BTreeMap<String, Arc<Context>>,
    pub(crate) secrets: Secrets,
    pub(crate) agents: Agents,
    pub(crate) devices: Devices,
    pub(crate) host_ca: Option<HostCa>,
    pub(crate) remotes: Remotes,
    pub(crate) listings: Listings,
    pub(crate) seals: Seals,
    pub(crate) stubs: Stubs,
}

/// Why a vertex could not be made.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The process of a `RUN` failed.
    #[error("process `{command}` did not complete successfully: {exit}")]
    Exit {
        /// The command line.
        command: String,
        /// How it ended.
        exit: Exit,
    },
    /// A sandbox could not be described.
    #[error(transparent)]
    Plan(#[from] rbuild_executor::PlanError),
    /// A sandbox could not be started.
    #[error(transparent)]
    Sandbox(#[from] rbuild_executor::Error),
    /// Files could not be scanned or copied.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// A secret could not be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A secret that the build needs was not given.
    #[error("secret `{0}` is required, and was not given")]
    MissingSecret(String),
    /// A secret that is to be a variable is not UTF-8.
    #[error("secret `{0}` cannot be a variable: it is not UTF-8 text")]
    SecretText(String),
    /// An SSH agent that the build needs was not given.
    #[error("SSH agent `{0}` is required, and was not given")]
    MissingAgent(String),
    /// A device has changed since the build began.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Somebody wrote to the context while it was copied: the copy is not what its cache key says.
    #[error("`{path}`{} changed while it was copied", more(*others))]
    Changed {
        /// One such file.
        path: String,
        /// How many others there are.
        others: usize,
    },
    /// The store, a registry, an image.
    #[error(transparent)]
    Engine(#[from] Error),
}

/// What to do about an error that comes of a lack of room.
fn room(error: &WorkerError) -> Option<&'static str> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
            Some(std::io::ErrorKind::StorageFull) => {
                return Some("the disk is full: `rbuild prune` removes what no image needs");
            }
            Some(std::io::ErrorKind::FileTooLarge) => {
                return Some("a limit on the size of files is in force (`ulimit -f`): raise it");
            }
            _ => cause = error.source(),
        }
    }
    None
}

fn more(others: usize) -> String {
    if others == 0 { String::new() } else { format!(" and {others} other files") }
}

impl WorkerError {
    /// Whether a layer that a record names turned out not to be there any more.
    pub(crate) fn is_lost_layer(&self) -> bool {
        use rbuild_cache::LayerError::{Missing, NotLocal};
        matches!(
            self,
            Self::Engine(Error::LayerVanished { .. } | Error::LayerGone(_) | Error::Layer(Missing(_) | NotLocal(_)))
        )
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        if let Some(hint) = room(self) {
            return Some(hint.to_owned());
        }
        match self {
            Self::MissingSecret(id) => Some(format!("give it with `--secret id={id},src=FILE` or `,env=NAME`")),
            Self::MissingAgent(id) if id == "default" => Some("give it with `--ssh default`".to_owned()),
            Self::MissingAgent(id) => Some(format!("give it with `--ssh {id}=SOCKET` or `--ssh {id}=KEYFILE`")),
            Self::Exit { exit, .. } if exit.oom => Some("the step ran out of memory".to_owned()),
            Self::Changed { .. } => Some("build again".to_owned()),
            Self::Device(error) => error.hint(),
            Self::Files(error) => error.hint(),
            Self::Engine(error) => error.hint(),
            _ => None,
        }
    }
}

macro_rules! from_store {
    ($($error:ty),*) => {$(
        impl From<$error> for WorkerError {
            fn from(error: $error) -> Self {
                Self::Engine(error.into())
            }
        }
    )*};
}
from_store!(
    rbuild_cache::StoreError,
    rbuild_cache::LayerError,
    rbuild_cache::ImageError,
    rbuild_executor::mount::MountError,
    crate::remote::RemoteError
);

impl Worker for BuildWorker {
    type Output = Value;
    type Error = WorkerError;

    async fn fingerprint(&self, op: &Op) -> Result<Fingerprint, WorkerError> {
        let mut components = op.components();
        if let Op::Local(selection) = op {
            let digest = self.context(&selection.name).digest(self.fetcher(), selection).await?;
            components.push(Component::new("files", digest.to_string()));
        }
        components.extend(self.remote_components(op).await?);
        Ok(Fingerprint::of(components))
    }

    async fn identity(&self, op: &Op, input: usize, output: &Value) -> Result<Digest, WorkerError> {
        match (op, output) {
            (_, Value::Local { digest, .. }) => Ok(*digest),
            (_, Value::Source { identity, .. }) => Ok(*identity),
            (Op::File(file), Value::Root(layers)) if input > 0 => self.copied_identity(file, input, layers).await,
            (Op::Exec(exec), Value::Root(layers)) if input > 0 => {
                let mut hasher = KeyHasher::new("mounts/1");
                for mount in &exec.mounts {
                    match &mount.kind {
                        ExecMountKind::Bind { input: of, source, .. } if *of == input => {
                            hasher.digest(&self.mounted_identity(layers, source).await?);
                        }
                        // Not looked into: it counts where in the input a cache starts, even if both places are alike.
                        ExecMountKind::Cache { from: Some(of), source, .. } if *of == input => {
                            hasher.digest(&self.chain(layers)?).text(source);
                        }
                        _ => {}
                    }
                }
                Ok(hasher.finish())
            }
            (_, Value::Root(layers)) => self.chain(layers),
        }
    }

    async fn execute(&self, task: Task<'_>, inputs: &[Value]) -> Result<Executed<Value>, WorkerError> {
        let (mut resources, mut naming) = (None, Naming::Done);
        let output = match task.op {
            Op::Scratch => Value::Root(Vec::new()),
            Op::Image(image) => {
                // Its layers, not its row: that may have been pruned meanwhile.
                let layers = self.images.get(&image.id).ok_or_else(|| Error::NoSuchImage(image.name.clone()))?;
                Value::Root(layers.clone())
            }
            Op::Local(selection) => {
                let context = self.context(&selection.name);
                let digest = context.digest(self.fetcher(), selection).await?;
                let scan = context.scan(self.fetcher()).await?;
                self.listings.make(self.store(), scan, selection, task.definition);
                Value::Local { selection: selection.clone(), digest }
            }
            Op::Http(http) => self.download(task, http).await?,
            Op::Git(git) => self.check_out(git).await?,
            Op::Merge => {
                let mut layers = Vec::new();
                for input in 0..inputs.len() {
                    layers.extend(self.layers_of(inputs, input)?);
                }
                Value::Root(layers)
            }
            Op::File(file) => {
                self.made.store(true, Ordering::Relaxed);
                Value::Root(self.change(task, file, inputs).await?)
            }
            Op::Exec(exec) => {
                self.made.store(true, Ordering::Relaxed);
                let ran = self.run(task, exec, inputs).await?;
                (resources, naming) = (Some(ran.exit.resources), ran.naming);
                Value::Root(ran.layers)
            }
        };
        Ok(Executed { outputs: vec![output], resources, naming })
    }

    async fn settle(&self, outputs: &[Value]) -> Result<(), WorkerError> {
        for output in outputs {
            if let Value::Root(layers) = output
                && let Some(top) = layers.last()
            {
                self.sealing(top).await?;
            }
        }
        Ok(())
    }
}

impl BuildWorker {
    fn store(&self) -> &Store {
        self.engine.store()
    }

    fn fetcher(&self) -> Fetcher<'_> {
        Fetcher { engine: &self.engine, secrets: &self.secrets }
    }

    fn context(&self, name: &str) -> &Arc<Context> {
        self.contexts.get(name).expect("lowering only names contexts that the build opened")
    }

    /// The files of a selection, listed in this build or now; `None` if they cannot be read.
    pub(crate) async fn listing(&self, selection: &LocalOp) -> Option<Arc<Listing>> {
        let listings = self.listings.clone();
        blocking(move || listings.finish()).await;
        if let Some(listing) = self.listings.of(selection) {
            return Some(listing);
        }
        let scan = self.context(&selection.name).scan(self.fetcher()).await.ok()?;
        let selector = Selector::from(selection);
        let scratch = self.engine.store().nameless_files();
        blocking(move || Listing::of(&*scan, &selector, Some(&scratch))).await.ok().map(Arc::new)
    }

    /// The layers of an input that is a root file system.
    #[expect(clippy::unused_self, reason = "reads as the others do")]
    fn layers_of(&self, inputs: &[Value], input: usize) -> Result<Vec<LayerId>, WorkerError> {
        match inputs.get(input) {
            Some(Value::Root(layers)) => Ok(layers.clone()),
            Some(Value::Source { layer, .. }) => Ok(vec![layer.clone()]),
            _ => unreachable!("lowering gives root file systems where it says so"),
        }
    }

    /// What a root file system is, without looking into it: the identities of its layers.
    fn chain(&self, layers: &[LayerId]) -> Result<Digest, WorkerError> {
        let mut hasher = KeyHasher::new("chain/1");
        hasher.number(layers.len() as u64);
        for id in layers {
            let layer = self.store().layers().find(id)?.ok_or_else(|| self.engine.vanished(id))?;
            hasher.digest(&layer.identity);
        }
        Ok(hasher.finish())
    }

    /// Brings layers that are still at a registry into the store.
    async fn materialize(&self, layers: &[LayerId], reporter: &Reporter, step: StepId) -> Result<(), WorkerError> {
        Ok(self.engine.materialize(layers, reporter, step).await?)
    }
}
