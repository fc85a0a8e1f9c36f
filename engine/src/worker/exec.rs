//! How does a `RUN` run?
//!
//! Its root is an overlay of the layers below it with a fresh upper directory; everything else it sees is mounted, so
//! that the upper directory holds what the process changed and nothing of ours.

use std::collections::BTreeMap;
use std::path::PathBuf;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rbuild_cache::{ActiveSnapshot, CacheMount, LayerId};
use rbuild_core::{Event, Mount, MountKind, OverlayUpper};
use rbuild_executor::mount::lend;
use rbuild_executor::{
    Durability, Exit, Network, Privileges, Process, Sandbox, SandboxDevice, SandboxFile, SandboxMount, SandboxSpec,
    Stdio,
};
use rbuild_solver::graph::{CacheSharing, ExecMount, ExecMountKind, ExecOp, NetworkMode, SecurityMode};
use rbuild_solver::{Naming, Task};

use super::cache_mount::{self, Seed};
use super::{BuildWorker, WorkerError};
use crate::blocking::blocking;
use crate::cdi::Edits;
use crate::error::Error;
use crate::output;
use crate::ssh::AgentSocket;
use crate::value::Value;

/// A sandbox that is ready to start, and what must outlive it.
struct Prepared {
    spec: SandboxSpec,
    agents: Vec<AgentSocket>,
    /// Locks of cache mounts.
    _caches: Vec<CacheMount>,
}

/// A step that was successful.
pub(super) struct Ran {
    /// The root file system after it.
    pub(super) layers: Vec<LayerId>,
    /// Whether the topmost layer is one yet.
    pub(super) naming: Naming,
    pub(super) exit: Exit,
}

impl BuildWorker {
    /// Runs the process and keeps what it changed as a layer.
    pub(super) async fn run(&self, task: Task<'_>, op: &ExecOp, inputs: &[Value]) -> Result<Ran, WorkerError> {
        let mut below = self.layers_of(inputs, 0)?;
        self.materialize(&below, task.reporter, task.step).await?;
        let (store, parents) = (self.store().clone(), below.clone());
        let snapshot = blocking(move || store.layers().prepare(&parents)).await?;
        let mut prepared = self.prepare(task, op, inputs, &snapshot).await?;
        let mut agents: FuturesUnordered<_> = prepared.agents.iter().map(AgentSocket::serve).collect();
        let exit = tokio::select! {
            exit = self.execute_in(&mut prepared.spec, task) => exit?,
            Some(never) = agents.next() => match never {},
        };
        drop(agents);
        drop(prepared);
        task.reporter.emit(Event::Resources { step: task.step, resources: exit.resources });
        if !exit.success() {
            return Err(WorkerError::Exit { command: shown(&op.args), exit });
        }
        let (layer, naming) = self.close(task.step, snapshot).await?;
        below.push(layer);
        Ok(Ran { layers: below, naming, exit })
    }

    /// Runs the process to its end.
    async fn execute_in(&self, spec: &mut SandboxSpec, task: Task<'_>) -> Result<Exit, WorkerError> {
        // Only now that nothing has to be waited for: mounts that are lent cannot be let go.
        let (mut root, mut mounts) = (spec.root.clone(), std::mem::take(&mut spec.mounts));
        let lent;
        (spec.root, spec.mounts, lent) = blocking(move || {
            let lent = lend(mounts.iter_mut().map(|mount| &mut mount.mount.kind).chain([&mut root]));
            (root, mounts, lent)
        })
        .await;
        let plan = spec.plan(self.engine.host())?;
        let mut sandbox = Sandbox::start(plan, Stdio::default()).await?;
        drop(lent);
        let (reporter, step) = (task.reporter, task.step);
        output::pump(sandbox.stdout.take(), sandbox.stderr.take(), |stream, data| {
            reporter.emit(Event::Log { step, stream, data: data.to_vec() });
            Ok(())
        })
        .await
        .map_err(|source| Error::Stream { action: "read the step's output", source })?;
        Ok(sandbox.wait().await?)
    }

    async fn prepare(
        &self,
        task: Task<'_>,
        op: &ExecOp,
        inputs: &[Value],
        snapshot: &ActiveSnapshot,
    ) -> Result<Prepared, WorkerError> {
        let variables = op.env.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut environment: Vec<(String, String)> = variables.collect();
        let mut spec = SandboxSpec::new(snapshot.root_mount().kind, Process::default());
        spec.durability = Durability::Volatile;
        spec.hostname.clone_from(&op.hostname);
        spec.hosts.clone_from(&op.extra_hosts);
        spec.shm_size = op.shm_size;
        spec.network = match op.network {
            NetworkMode::Default | NetworkMode::Host => Network::Host,
            NetworkMode::None => Network::None,
        };
        spec.resolv_conf = Some(rbuild_executor::net::resolv_conf(&spec.network));
        spec.privileges = match op.security {
            SecurityMode::Sandbox => Privileges::Default,
            SecurityMode::Insecure => Privileges::All,
        };
        let mut agents = Vec::new();
        let caches = self.caches(op, inputs).await?;
        for (number, mount) in op.mounts.iter().enumerate() {
            match &mount.kind {
                ExecMountKind::Bind { input, source, writable } => {
                    let bind = self.bind(task, inputs, *input, *writable, snapshot, number).await?;
                    spec.mounts.push(at(mount, bind, source, false));
                }
                ExecMountKind::Cache { id, read_only, .. } => {
                    let path = caches.get(id.as_str()).expect("all of the step's were taken").path();
                    spec.mounts.push(at(mount, MountKind::Bind { source: path, recursive: false }, "", *read_only));
                }
                ExecMountKind::Tmpfs { size } => {
                    spec.mounts.push(at(mount, MountKind::Tmpfs { size: *size, mode: 0o1777 }, "", false));
                }
                ExecMountKind::Inline { data, mode } => {
                    spec.files.push(SandboxFile {
                        target: PathBuf::from(&mount.target),
                        content: data.clone(),
                        mode: *mode,
                        uid: 0,
                        gid: 0,
                        read_only: true,
                    });
                }
                ExecMountKind::Ssh { id, required, mode, uid, gid } => {
                    let Some(agent) = self.agents.find(id) else {
                        if *required {
                            return Err(WorkerError::MissingAgent(id.clone()));
                        }
                        continue;
                    };
                    let directory = private(snapshot, &format!("agent-{number}"))?;
                    let socket = AgentSocket::open(&directory, agent.clone(), (*mode, *uid, *gid))
                        .map_err(Error::file("listen in", &directory))?;
                    let kind = MountKind::Bind { source: socket.path().to_owned(), recursive: false };
                    spec.mounts.push(at(mount, kind, "", false));
                    agents.push(socket);
                }
                ExecMountKind::Secret { id, required, file, env, mode, uid, gid } => {
                    let value = match self.secrets.read(id)? {
                        Some(value) => value,
                        None if *required => return Err(WorkerError::MissingSecret(id.clone())),
                        None => {
                            environment.extend(env.clone().map(|name| (name, String::new())));
                            continue;
                        }
                    };
                    if let Some(name) = env {
                        let text = String::from_utf8(value.clone()).map_err(|_| WorkerError::SecretText(id.clone()))?;
                        environment.push((name.clone(), text));
                    }
                    if *file {
                        spec.files.push(SandboxFile {
                            target: PathBuf::from(&mount.target),
                            content: value,
                            mode: *mode,
                            uid: *uid,
                            gid: *gid,
                            read_only: true,
                        });
                    }
                }
            }
        }
        environment.extend(op.proxy_env.iter().cloned());
        let groups = self.devices(op, &mut spec, &mut environment)?;
        if let Some(ca) = &self.host_ca {
            let variables: Vec<_> = ca.variables(&environment).collect();
            environment.extend(variables);
            spec.mounts.push(ca.mount().into());
        }
        spec.stubs = Some(match self.stubs.shared(self.store(), &spec)? {
            Some(shared) => shared,
            None => private(snapshot, "stubs")?,
        });
        // Parents first, whatever the order they were written in; of one place the last, as BuildKit has it.
        spec.mounts.sort_by(|one, other| one.mount.target.cmp(&other.mount.target));
        spec.process = Process {
            args: op.args.clone(),
            env: environment,
            cwd: PathBuf::from(&op.cwd),
            user: op.user.clone(),
            groups,
            terminal: false,
        };
        Ok(Prepared { spec, agents, _caches: caches.into_values().collect() })
    }

    /// Adds the devices of a step; tells which groups the process needs for them.
    fn devices(
        &self,
        op: &ExecOp,
        spec: &mut SandboxSpec,
        environment: &mut Vec<(String, String)>,
    ) -> Result<Vec<String>, WorkerError> {
        let mut groups = Vec::new();
        for wanted in &op.devices {
            let Edits { env, nodes, binds, groups: more } = self.devices.edits(wanted)?;
            environment.extend(env);
            spec.devices
                .extend(nodes.into_iter().map(|node| SandboxDevice { source: node.source, target: node.target }));
            spec.mounts.extend(binds.into_iter().map(|bind| {
                SandboxMount::from(Mount {
                    target: bind.target,
                    kind: MountKind::Bind { source: bind.source, recursive: bind.recursive },
                    read_only: bind.read_only,
                })
            }));
            groups.extend(more.iter().map(u32::to_string));
        }
        Ok(groups)
    }

    /// Another result as something to mount. Writes to a writable one go to a directory that is thrown away.
    async fn bind(
        &self,
        task: Task<'_>,
        inputs: &[Value],
        input: usize,
        writable: bool,
        snapshot: &ActiveSnapshot,
        number: usize,
    ) -> Result<MountKind, WorkerError> {
        let layers = match inputs.get(input) {
            Some(Value::Local { selection, digest }) => vec![self.local_layer(selection, digest).await?],
            _ => self.layers_of(inputs, input)?,
        };
        self.materialize(&layers, task.reporter, task.step).await?;
        let view = self.store().layers().view(&layers)?;
        let MountKind::Overlay { lower, .. } = view.kind else { return Ok(view.kind) };
        let upper = if writable {
            let upper = private(snapshot, &format!("bind-{number}"))?;
            let work = private(snapshot, &format!("bind-{number}-work"))?;
            Some(OverlayUpper { upper, work })
        } else {
            None
        };
        Ok(MountKind::Overlay { lower, upper })
    }

    /// Takes the cache mounts of a step, by id.
    async fn caches<'a>(&self, op: &'a ExecOp, inputs: &[Value]) -> Result<BTreeMap<&'a str, CacheMount>, WorkerError> {
        let mut caches = BTreeMap::new();
        for (id, kind) in cache_mount::wanted(&op.mounts) {
            let ExecMountKind::Cache { sharing, from, source, mode, uid, gid, .. } = kind else { continue };
            let sharing = match sharing {
                CacheSharing::Shared => rbuild_cache::Sharing::Shared,
                CacheSharing::Private => rbuild_cache::Sharing::Private,
                CacheSharing::Locked => rbuild_cache::Sharing::Locked,
            };
            let seed = match from {
                Some(input) => Some(Seed { tree: self.source(inputs, *input).await?, path: source.clone() }),
                None => None,
            };
            let store = self.store().clone();
            caches.insert(id, cache_mount::open(store, id.to_owned(), sharing, seed, (*mode, *uid, *gid)).await?);
        }
        Ok(caches)
    }
}

/// A directory that lives as long as the snapshot and never enters its layer.
fn private(snapshot: &ActiveSnapshot, name: &str) -> Result<PathBuf, Error> {
    let path = snapshot.scratch().join(name);
    std::fs::create_dir(&path).map_err(Error::file("make", &path))?;
    Ok(path)
}

fn at(mount: &ExecMount, kind: MountKind, source: &str, read_only: bool) -> SandboxMount {
    let writable_overlay = matches!(&kind, MountKind::Overlay { upper: Some(_), .. });
    let overlay = matches!(&kind, MountKind::Overlay { .. });
    SandboxMount {
        mount: Mount {
            target: PathBuf::from(&mount.target),
            kind,
            read_only: read_only || (overlay && !writable_overlay),
        },
        subpath: PathBuf::from(source.trim_start_matches('/')),
    }
}

/// The command line as a person would write it, for messages.
fn shown(args: &[String]) -> String {
    let quoted = |word: &String| {
        if word.is_empty() || word.contains(|c: char| c.is_whitespace() || "\"'\\$`".contains(c)) {
            format!("{word:?}")
        } else {
            word.clone()
        }
    };
    match args {
        [shell, flag, script] if flag == "-c" => format!("{shell} -c {script}"),
        _ => args.iter().map(quoted).collect::<Vec<_>>().join(" "),
    }
}
