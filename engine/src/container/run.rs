//! How does a container's process run, from its start to its end?
//!
//! Whoever calls [`Engine::watch`] is the container's watcher: it holds the lock, answers the control socket, writes
//! the log, forwards the ports, and writes down how it ended.

use std::fs::File;
use std::io;

use rbuild_core::Stream;
use rbuild_executor::{Exit, Process, Sandbox, SandboxSpec};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::RunError;
use super::attach::{self, Attach, Raw};
use super::control::Control;
use super::lock;
use super::log::LogWriter;
use super::network::ContainerNetwork;
use super::record::{Container, Status};
use crate::engine::Engine;
use crate::error::Error;
use crate::host_ca::HostCa;
use crate::output;

impl Engine {
    /// Runs a container's process to its end and returns its exit code. Dropping the future kills it.
    ///
    /// # Errors
    /// If it cannot be started; the container then stays, marked dead with the reason.
    pub async fn watch(&self, mut container: Container, attach: Attach) -> Result<i32, RunError> {
        let lock = self.take(&container)?;
        let started = crate::time::now_text();
        let result = self.run(&mut container, attach, &started).await;
        container.status = match &result {
            Ok(exit) => Status::Exited { code: exit.code, started, finished: crate::time::now_text() },
            Err(error) => Status::Dead { reason: rbuild_core::with_causes(error) },
        };
        if container.remove {
            self.store().containers().remove(&container.id)?;
        } else {
            self.update(&container)?;
        }
        drop(lock);
        result.map(|exit| exit.code)
    }

    /// Becomes the container's watcher until the file is closed, by whatever way.
    fn take(&self, container: &Container) -> Result<File, RunError> {
        let path = self.places(&container.id).lock();
        let gone = || rbuild_cache::ContainerError::NotFound(container.name.clone());
        let lock = match lock::take(&path) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Err(RunError::Running(container.name.clone())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::from(gone()).into()),
            Err(error) => return Err(Error::file("lock", path)(error).into()),
        };
        // Somebody who removed it had the lock before.
        self.store().containers().resolve(&container.id).map_err(Error::from)?.ok_or_else(|| Error::from(gone()))?;
        Ok(lock)
    }

    async fn run(&self, container: &mut Container, mut attach: Attach, started: &str) -> Result<Exit, RunError> {
        // Only while it starts: afterwards the container's row keeps its layers.
        let lease = self.store().lease("start a container")?;
        let streams = |source| Error::Stream { action: "attach to the container", source };
        let directory = self.store().containers().directory(&container.id);
        let control = Control::open(&directory).map_err(streams)?;
        let mut log = LogWriter::open(&self.places(&container.id).log()).map_err(streams)?;
        let network = ContainerNetwork::open(container)?;
        let plan = self.spec(container, &network)?.plan(self.host())?;
        let (stdio, _stdin) = attach.stdio(container).map_err(streams)?;
        let mut sandbox = Sandbox::start(plan, stdio).await?;
        container.status = Status::Running { pid: sandbox.pid(), started: started.to_owned() };
        self.update(container)?;
        attach.started();
        drop(lease);

        let mut signals = Signals::new(&attach).map_err(streams)?;
        let mut raw = None;
        if let (Attach::Standard, Some(terminal)) = (&attach, &sandbox.terminal) {
            attach::fit(terminal);
            if container.stdin {
                raw = Raw::enter();
                attach::type_into(terminal).map_err(streams)?;
            }
        }
        let (stdout, stderr) = attach::outputs(&mut sandbox).map_err(streams)?;
        let output = async {
            output::pump(stdout, stderr, |stream: Stream, data: &[u8]| {
                attach.show(stream, data);
                log.write(stream, data)
            })
            .await?;
            log.finish()
        };
        let mut output = std::pin::pin!(output);
        let (mut exit, mut printed) = (None, false);
        while exit.is_none() || !printed {
            tokio::select! {
                done = &mut output, if !printed => {
                    done.map_err(|source| Error::Stream { action: "write the container's log", source })?;
                    printed = true;
                }
                ended = sandbox.wait(), if exit.is_none() => exit = Some(ended?),
                asked = control.next() => pass_on(&sandbox, asked.map_err(streams)?),
                received = signals.next() => match (received, &sandbox.terminal) {
                    (Received::Resize, Some(terminal)) => attach::fit(terminal),
                    (Received::Resize, None) => {}
                    (Received::Signal(number), _) => pass_on(&sandbox, number),
                },
            }
        }
        drop(raw);
        exit.ok_or_else(|| rbuild_executor::Error::Lost.into())
    }

    fn spec(&self, container: &Container, network: &ContainerNetwork) -> Result<SandboxSpec, RunError> {
        let row = self.store().containers().resolve(&container.id)?;
        let row = row.ok_or_else(|| rbuild_cache::ContainerError::NotFound(container.id.clone()))?;
        let root = self.store().containers().root_mount(&row)?;
        let stubs = self.places(&container.id).stubs();
        match std::fs::create_dir(&stubs) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::file("make", &stubs)(error).into());
            }
            _ => {}
        }
        let mut env = container.env.clone();
        let mut mounts = Vec::new();
        for volume in &container.volumes {
            mounts.push(volume.mount().map_err(super::ConfigureError::from)?.into());
        }
        if let Some(ca) = container.host_ca.then(HostCa::find).flatten() {
            let variables: Vec<_> = ca.variables(&env).collect();
            env.extend(variables);
            mounts.push(ca.mount().into());
        }
        if !env.iter().any(|(name, _)| name == "HOSTNAME") {
            env.push(("HOSTNAME".to_owned(), container.hostname.clone()));
        }
        let mut spec = SandboxSpec::new(
            root.kind,
            Process {
                args: container.command.clone(),
                env,
                cwd: container.workdir.clone().into(),
                user: container.user.clone(),
                groups: Vec::new(),
                terminal: container.terminal,
            },
        );
        spec.stubs = Some(stubs);
        spec.etc_read_only = false;
        spec.mounts = mounts;
        spec.hostname.clone_from(&container.hostname);
        spec.hosts.clone_from(&container.add_hosts);
        spec.network = network.of_sandbox();
        spec.resolv_conf = Some(rbuild_executor::net::resolv_conf(&spec.network));
        Ok(spec)
    }
}

/// Sends a signal; to a process that has just ended it makes no difference.
fn pass_on(sandbox: &Sandbox, signal: i32) {
    if let Err(error) = sandbox.signal(signal) {
        tracing::debug!(%error, signal, "signal not delivered");
    }
}

/// What this process was told by the kernel while it watched.
enum Received {
    Signal(i32),
    Resize,
}

/// Signals to pass on; none for a watcher in the background, which is spoken to through its socket.
struct Signals {
    forwarded: Vec<(i32, Signal)>,
    resize: Option<Signal>,
}

impl Signals {
    fn new(attach: &Attach) -> io::Result<Self> {
        let Attach::Standard = attach else { return Ok(Self { forwarded: Vec::new(), resize: None }) };
        let kinds = [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()];
        let forwarded = kinds.into_iter().map(|kind| Ok((kind.as_raw_value(), signal(kind)?)));
        Ok(Self {
            forwarded: forwarded.collect::<io::Result<_>>()?,
            resize: Some(signal(SignalKind::window_change())?),
        })
    }

    async fn next(&mut self) -> Received {
        std::future::poll_fn(|context| {
            for (number, signal) in &mut self.forwarded {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(Received::Signal(*number));
                }
            }
            match &mut self.resize {
                Some(resize) => resize.poll_recv(context).map(|_| Received::Resize),
                None => std::task::Poll::Pending,
            }
        })
        .await
    }
}
