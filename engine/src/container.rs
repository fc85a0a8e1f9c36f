//! How are containers made, watched and removed?
//!
//! A container is a row in the store, a directory with its writable layer and its log, and (while it runs) one process
//! that watches it: the `rbuild run` in the foreground, or a monitor that `rbuild run -d` leaves behind. There is no
//! daemon: who wants something from a running container talks to its watcher through a socket in its directory, and
//! who wants to know whether it runs tries the lock the watcher holds.

mod attach;
mod configure;
mod control;
mod inspect;
mod lock;
mod log;
mod monitor;
mod names;
mod network;
mod ports;
mod record;
mod run;
mod volumes;

use std::io;
use std::time::{Duration, Instant};

use rbuild_core::{Platform, Reporter, StepId, Stream};

pub use self::attach::Attach;
pub use self::configure::ConfigureError;
pub use self::log::LogLine;
use self::log::LogReader;
pub use self::monitor::monitor;
pub use self::ports::{PortError, PortMapping};
use self::record::Places;
pub use self::record::{Container, NetworkKind, Status};
pub use self::volumes::{VolumeError, VolumeMount};
use crate::engine::Engine;
use crate::error::Error;
use crate::images::pull::Freshness;
use crate::request::RunRequest;

/// Why a container could not be made or run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The request makes no sense.
    #[error(transparent)]
    Configure(#[from] ConfigureError),
    /// The sandbox could not be described.
    #[error(transparent)]
    Plan(#[from] rbuild_executor::PlanError),
    /// The sandbox could not be started.
    #[error(transparent)]
    Sandbox(#[from] rbuild_executor::Error),
    /// A port of the host cannot be listened on.
    #[error("cannot listen on port {port} of {address}")]
    Listen {
        /// The address.
        address: std::net::IpAddr,
        /// The port.
        port: u16,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What the container's watcher said when it failed to start it.
    #[error("{message}")]
    Monitor {
        /// The message, causes included.
        message: String,
        /// The exit code that goes with it.
        code: i32,
    },
    /// It does not run.
    #[error("container `{0}` is not running")]
    NotRunning(String),
    /// It runs.
    #[error("container `{0}` is running")]
    Running(String),
    /// A signal nobody knows.
    #[error("`{0}` is not a signal")]
    Signal(String),
    /// Everything else.
    #[error(transparent)]
    Other(#[from] Error),
}

impl RunError {
    /// The exit code that `docker run` would give: 125, 126 or 127.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Sandbox(error) => error.exit_code(),
            Self::Monitor { code, .. } => *code,
            _ => 125,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Running(name) => Some(format!("`rbuild stop {name}` first, or use `-f`")),
            Self::Listen { .. } => Some("choose another host port with `-p HOST:CONTAINER`".to_owned()),
            Self::Other(error) => error.hint(),
            _ => None,
        }
    }
}

macro_rules! from_errors {
    ($($error:ty),*) => {$(
        impl From<$error> for RunError {
            fn from(error: $error) -> Self {
                Self::Other(error.into())
            }
        }
    )*};
}
from_errors!(rbuild_cache::StoreError, rbuild_cache::ContainerError, rbuild_cache::LayerError);

/// What of a container is malformed if anything is.
pub(crate) const RECORD: &str = "record";

/// How long a watcher that runs may be without its socket, at its start and its end.
const REACHABLE: Duration = Duration::from_secs(5);

/// Which part of a container's output is wanted, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogOptions {
    /// Whether to wait for more until the container ends.
    pub follow: bool,
    /// Only this many lines from the end.
    pub tail: Option<usize>,
}

/// A container whose record cannot be understood.
#[derive(Debug)]
pub struct BrokenContainer {
    /// Its whole id.
    pub id: String,
    /// What is wrong.
    pub error: Error,
}

impl Engine {
    /// Makes a container; pulls its image if it is not there. It is not started.
    ///
    /// # Errors
    /// If the image cannot be had or the request makes no sense.
    pub async fn create(&self, request: &RunRequest, reporter: &Reporter) -> Result<Container, RunError> {
        let _lease = self.store().lease("create")?;
        let (image, config) = self.obtain(&request.image, &Platform::host(), Freshness::Local).await?;
        self.materialize(&image.layers, reporter, StepId(0)).await?;
        let id = random_id()?;
        let mut container = configure::configure(
            &id,
            image.id,
            &config.config,
            request,
            |name| std::env::var(name).ok(),
            crate::time::now_text(),
        )?;
        if self.config().rootless && container.network == NetworkKind::Bridge {
            let message = "as an ordinary user the container serves its published ports but cannot connect to the \
                           outside; `--network host` can";
            reporter.emit(rbuild_core::Event::Notice { message: message.to_owned() });
        }
        // Two generated names can meet; the id tells them apart.
        let generated = request.name.is_none();
        loop {
            let row = rbuild_cache::Container {
                id: container.id.clone(),
                name: container.name.clone(),
                image: Some(image.id),
                layers: image.layers.clone(),
                created: crate::time::now(),
                details: details(&container),
            };
            match self.store().containers().create(&row) {
                Ok(_) => return Ok(container),
                Err(rbuild_cache::ContainerError::NameTaken { .. }) if generated => {
                    container.name = format!("{}_{}", names::from_id(&id), &container.id[..6]);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// All containers, newest first, and those of which no more is known than why not.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn containers(&self) -> Result<(Vec<Container>, Vec<BrokenContainer>), Error> {
        let (rows, unreadable) = self.store().containers().list()?;
        let broken = |id: String, error: Error| BrokenContainer { id, error };
        let mut all: Vec<_> = unreadable.into_iter().map(|(id, error)| broken(id, error.into())).collect();
        let mut containers = Vec::new();
        for row in rows {
            let id = row.id.clone();
            match self.container_of(row) {
                Ok(container) => containers.push(container),
                Err(error @ Error::Malformed { .. }) => all.push(broken(id, error)),
                Err(error) => return Err(error),
            }
        }
        Ok((containers, all))
    }

    /// The container of this name, id or beginning of an id.
    ///
    /// # Errors
    /// If there is none, or several.
    pub fn container(&self, name: &str) -> Result<Container, Error> {
        let row = self.store().containers().resolve(name)?;
        self.container_of(row.ok_or_else(|| rbuild_cache::ContainerError::NotFound(name.to_owned()))?)
    }

    /// Hands a container's log to `sink`, line by line.
    ///
    /// # Errors
    /// If the log cannot be read, or `sink` fails.
    pub fn logs(
        &self,
        container: &Container,
        options: LogOptions,
        sink: &mut dyn FnMut(Stream, &LogLine) -> io::Result<()>,
    ) -> Result<(), Error> {
        let path = self.places(&container.id).log();
        let failed = || Error::file("read", &path);
        let mut reader = match LogReader::open(&path) {
            Ok(reader) => reader,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed()(error)),
        };
        if let Some(lines) = options.tail {
            reader.skip_to_tail(lines).map_err(failed())?;
        }
        loop {
            // Asked before reading: what was written until then is read below.
            let running = options.follow && self.is_watched(&container.id);
            while let Some(line) = reader.next().map_err(failed())? {
                sink(line.stream, &line).map_err(|source| Error::Stream { action: "write the log", source })?;
            }
            if !running {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Asks the process to end, and ends it after `timeout`. Does nothing if it does not run.
    ///
    /// # Errors
    /// If its watcher cannot be reached, or it runs on all the same.
    pub async fn stop(&self, container: &Container, timeout: Duration) -> Result<(), RunError> {
        let signal = container.stop_signal.as_deref().unwrap_or("SIGTERM");
        for (signal, timeout) in [(signal, timeout), ("SIGKILL", Duration::from_secs(10))] {
            match self.kill(container, signal) {
                Err(RunError::NotRunning(_)) => return Ok(()),
                Err(error) => return Err(error),
                Ok(()) if self.ended_within(&container.id, timeout).await => return Ok(()),
                Ok(()) => {}
            }
        }
        Err(RunError::Running(container.name.clone()))
    }

    /// Sends a signal, by name or number, to the container's process.
    ///
    /// # Errors
    /// If it does not run, or there is no such signal.
    pub fn kill(&self, container: &Container, signal: &str) -> Result<(), RunError> {
        self.kill_by_id(&container.id, &container.name, signal)
    }

    fn kill_by_id(&self, id: &str, name: &str, signal: &str) -> Result<(), RunError> {
        let number = control::signal_number(signal).ok_or_else(|| RunError::Signal(signal.to_owned()))?;
        if !self.is_watched(id) {
            return Err(RunError::NotRunning(name.to_owned()));
        }
        let end = Instant::now() + REACHABLE;
        loop {
            match control::send(&self.store().containers().directory(id), number) {
                Ok(()) => return Ok(()),
                // It ended in between.
                Err(_) if !self.is_watched(id) => return Ok(()),
                Err(source) if Instant::now() >= end => {
                    return Err(Error::Stream { action: "talk to the container's watcher", source }.into());
                }
                // Its socket is not there yet, or no longer.
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Removes the container of this name, id or beginning of an id and what it wrote, also one whose record cannot be
    /// understood; a running one only with `force`, which kills it first.
    ///
    /// # Errors
    /// If there is none, or several; if it runs, or its files cannot be removed.
    pub async fn remove_container(&self, name: &str, force: bool) -> Result<(), RunError> {
        let id = self.store().containers().resolve_id(name)?;
        let id = id.ok_or_else(|| rbuild_cache::ContainerError::NotFound(name.to_owned()))?;
        if force {
            match self.kill_by_id(&id, name, "SIGKILL") {
                Ok(()) => drop(self.ended_within(&id, Duration::from_secs(10)).await),
                Err(RunError::NotRunning(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if self.remove_ended(&id)? { Ok(()) } else { Err(RunError::Running(name.to_owned())) }
    }

    /// Removes a container unless it runs, which it cannot begin to do meanwhile; tells whether it is gone.
    pub(crate) fn remove_ended(&self, id: &str) -> Result<bool, Error> {
        let path = self.places(id).lock();
        let _lock = match lock::take(&path) {
            Ok(Some(lock)) => Some(lock),
            Ok(None) => return Ok(false),
            // Its own `--rm` was faster, or somebody was killed while removing it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::file("lock", path)(error)),
        };
        match self.store().containers().remove(id) {
            Ok(()) | Err(rbuild_cache::ContainerError::NotFound(_)) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    async fn ended_within(&self, id: &str, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        let mut pause = Duration::from_millis(2);
        while self.is_watched(id) {
            if Instant::now() >= end {
                return false;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        true
    }

    fn places(&self, id: &str) -> Places {
        Places::new(self.store().containers().directory(id))
    }

    /// Whether somebody watches the container's process, which is to say that it runs.
    fn is_watched(&self, id: &str) -> bool {
        lock::is_taken(&self.places(id).lock())
    }

    fn container_of(&self, row: rbuild_cache::Container) -> Result<Container, Error> {
        let parse = |row: rbuild_cache::Container| {
            serde_json::from_value(row.details).map_err(|source| Error::malformed(RECORD, row.id, source))
        };
        let mut container: Container = parse(row)?;
        let unwatched = |container: &Container| {
            matches!(container.status, Status::Running { .. }) && !self.is_watched(&container.id)
        };
        if unwatched(&container) {
            // It may have ended after its row was read: a watcher writes down how before it lets go.
            if let Some(row) = self.store().containers().resolve(&container.id)? {
                container = parse(row)?;
            }
            if unwatched(&container) {
                container.status = Status::Dead { reason: "whoever watched it was killed".to_owned() };
            }
        }
        Ok(container)
    }

    fn update(&self, container: &Container) -> Result<(), Error> {
        self.store().containers().update(&container.id, |row| row.details = details(container))?;
        Ok(())
    }
}

fn details(container: &Container) -> serde_json::Value {
    serde_json::to_value(container).expect("a container has only texts, numbers and lists")
}

fn random_id() -> Result<rbuild_core::Digest, Error> {
    let mut bytes = [0; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        let more = rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty());
        filled += more.map_err(|error| Error::Stream { action: "make a random id", source: error.into() })?;
    }
    Ok(rbuild_core::Digest::sha256(bytes))
}
