//! What is known about a container?

use std::path::PathBuf;

use rbuild_core::Digest;
use serde::{Deserialize, Serialize};

use super::ports::PortMapping;
use super::volumes::VolumeMount;

/// A container: the record that outlives the process.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Unique in the store.
    pub name: String,
    /// What the user called the image.
    pub image: String,
    /// Which image that was.
    pub image_id: Digest,
    /// The whole command line.
    pub command: Vec<String>,
    /// The environment.
    pub env: Vec<(String, String)>,
    /// Absolute working directory.
    pub workdir: String,
    /// `user[:group]`; empty for root.
    pub user: String,
    /// Host name.
    pub hostname: String,
    /// `bridge`, `host` or `none`.
    pub network: NetworkKind,
    /// Published ports.
    pub ports: Vec<PortMapping>,
    /// Files of the host.
    pub volumes: Vec<VolumeMount>,
    /// Lines for `/etc/hosts`: name and address.
    pub add_hosts: Vec<(String, String)>,
    /// Metadata.
    pub labels: Vec<(String, String)>,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Whether standard input stays open.
    pub stdin: bool,
    /// Whether it is removed when it ends.
    pub remove: bool,
    /// Whether the host's certificates are shown to it.
    pub host_ca: bool,
    /// The signal that asks it to end; `SIGTERM` if absent.
    pub stop_signal: Option<String>,
    /// RFC 3339 time of creation.
    pub created: String,
    /// What it is doing.
    pub status: Status,
}

/// What a container is doing.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum Status {
    /// Never started.
    Created,
    /// Its process runs.
    Running {
        /// The process's number on the host, as the monitor saw it.
        pid: u32,
        /// RFC 3339 time.
        started: String,
    },
    /// Its process ended.
    Exited {
        /// Exit code; 128 + N after signal N.
        code: i32,
        /// RFC 3339 time.
        started: String,
        /// RFC 3339 time.
        finished: String,
    },
    /// It could not be started, or whoever watched it was killed.
    Dead {
        /// What happened.
        reason: String,
    },
}

/// Which network a container has.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkKind {
    /// Its own, with published ports forwarded.
    #[default]
    Bridge,
    /// The host's.
    Host,
    /// Its own, with nothing but loopback.
    None,
}

/// Where a container's things lie below its directory in the store.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    directory: PathBuf,
}

impl Places {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Mountpoints that no layer shall have.
    pub(crate) fn stubs(&self) -> PathBuf {
        self.directory.join("stubs")
    }

    /// One JSON object a line: stream, time, text.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join("log.json")
    }

    /// Locked by whoever watches the process, for as long as it does.
    pub(crate) fn lock(&self) -> PathBuf {
        self.directory.join("lock")
    }
}
