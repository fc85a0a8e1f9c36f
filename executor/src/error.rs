//! What can go wrong before the sandboxed process runs?
//!
//! An error here means that the command never started; how it ended once it did is an [`crate::Exit`]. Errors inside
//! `__init` cross a pipe as a [`Failure`] and come out as an [`Error`].

use std::io;

use serde::{Deserialize, Serialize};

/// Why a sandbox could not be started or observed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The supervisor process could not be made.
    #[error("cannot start the sandbox's supervisor")]
    Spawn(#[source] io::Error),
    /// The supervisor died or spoke nonsense, for instance because somebody killed it.
    #[error("the sandbox's supervisor ended without a report")]
    Lost,
    /// Talking to the supervisor failed.
    #[error("cannot talk to the sandbox's supervisor")]
    Channel(#[source] io::Error),
    /// A step of the plan failed.
    #[error("cannot {step}")]
    Step {
        /// What was being done, such as ``mount overlay at `/` ``.
        step: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// `user[:group]` names somebody who is not in the sandbox's `/etc/passwd` or `/etc/group`.
    #[error("no {kind} `{name}` in the image's `{file}`")]
    UnknownUser {
        /// `user` or `group`.
        kind: String,
        /// What was looked for.
        name: String,
        /// Where.
        file: String,
    },
    /// The command does not exist: code 127 to a shell.
    #[error("command `{0}` not found")]
    CommandNotFound(String),
    /// The command exists but cannot be executed: code 126 to a shell.
    #[error("command `{command}` cannot be executed")]
    NotExecutable {
        /// Its path.
        command: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// The exit code a shell or `docker run` would use for this error.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::CommandNotFound(_) => 127,
            Self::NotExecutable { .. } => 126,
            _ => 125,
        }
    }
}

impl Error {
    /// What the user could do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        let Self::Step { step, source } = self else { return None };
        match (step.as_str(), source.raw_os_error()?) {
            ("make namespaces", libc::EPERM) => Some("sandboxes need root, or a user namespace: see `rbuild doctor`"),
            (step, libc::EINVAL) if step.starts_with("become ") => {
                Some("this id is not mapped: you need more subordinate ids in /etc/subuid and /etc/subgid")
            }
            (step, libc::EPERM) if step.starts_with("mount proc") => {
                Some("the kernel shows a new /proc only where a complete one is visible: not in a confined container")
            }
            ("limit resources", libc::EACCES | libc::EPERM | libc::EROFS) => {
                Some("limits need a control group that is delegated to you, or root")
            }
            _ => None,
        }
    }
}

/// An [`Error`] on its way out of the sandbox.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Failure {
    Step { step: String, errno: Option<i32>, reason: String },
    UnknownUser { kind: String, name: String, file: String },
    CommandNotFound(String),
    NotExecutable { command: String, errno: i32 },
}

impl Failure {
    pub(crate) fn step(step: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        Self::Step { step: step.into(), errno: source.raw_os_error(), reason: source.to_string() }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Step { step, errno: Some(errno), .. } => {
                Self::Step { step, source: io::Error::from_raw_os_error(errno) }
            }
            Failure::Step { step, errno: None, reason } => Self::Step { step, source: io::Error::other(reason) },
            Failure::UnknownUser { kind, name, file } => Self::UnknownUser { kind, name, file },
            Failure::CommandNotFound(command) => Self::CommandNotFound(command),
            Failure::NotExecutable { command, errno } => {
                Self::NotExecutable { command, source: io::Error::from_raw_os_error(errno) }
            }
        }
    }
}
