//! Who watches a container that runs in the background?
//!
//! A copy of this program that `rbuild run -d` starts and leaves: it tells its parent over a pipe whether the process
//! runs, then only writes the log and forwards ports until the process ends.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::attach::Attach;
use super::{Container, RunError};
use crate::engine::{Config, Engine};
use crate::error::Error;

/// What a monitor tells its parent, once.
#[derive(Debug, Deserialize, Serialize)]
enum Answer {
    Running,
    Failed { message: String, code: i32 },
}

impl Engine {
    /// Starts a container in the background and returns when its process runs.
    ///
    /// # Errors
    /// If it cannot be started; the container stays, with its reason.
    pub fn start_detached(&self, container: &Container) -> Result<(), RunError> {
        let failed = |source| Error::Stream { action: "start the container's watcher", source };
        let rootless = if self.config().rootless { "rootless" } else { "root" };
        let mut command = Command::new("/proc/self/exe");
        command.arg0("rbuild").arg("__monitor").arg(self.store().root()).arg(rootless).arg(&container.id);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut child = command.spawn().map_err(failed)?;
        let stdout = child.stdout.take().expect("it was asked for");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).map_err(failed)?;
        match serde_json::from_str(&line) {
            Ok(Answer::Running) => Ok(()),
            Ok(Answer::Failed { message, code }) => {
                let _status = child.wait().map_err(failed)?;
                Err(RunError::Monitor { message, code })
            }
            Err(_) => {
                let status = child.wait().map_err(failed)?;
                Err(RunError::Monitor { message: format!("the container's watcher ended early ({status})"), code: 125 })
            }
        }
    }
}

/// The body of the hidden command `rbuild __monitor ROOT root|rootless ID`. Returns the exit code of this process.
pub fn monitor(root: &Path, rootless: bool, id: &str) -> u8 {
    // Away from the terminal: closing it must not end the container.
    if let Err(error) = rustix::process::setsid() {
        tracing::debug!(%error, "setsid");
    }
    let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    // Nor must the container keep the file system busy in which it was started by chance.
    if root.is_absolute()
        && let Err(error) = rustix::process::chdir("/")
    {
        tracing::debug!(%error, "chdir");
    }
    let (collect, layers) = Default::default();
    let config = Config { root, rootless, insecure_registries: Vec::new(), collect, layers };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return answer(&Answer::Failed { message: error.to_string(), code: 125 }),
    };
    let result = runtime.block_on(async {
        let engine = Engine::open(config)?;
        let container = engine.container(id)?;
        let attach = Attach::Log {
            started: Box::new(|| {
                answer(&Answer::Running);
            }),
        };
        engine.watch(container, attach).await
    });
    match result {
        Ok(_) => 0,
        Err(error) => {
            let message = rbuild_core::with_causes(&error);
            answer(&Answer::Failed { message, code: error.exit_code() })
        }
    }
}

/// Tells the parent; 0 if that worked. Afterwards nothing holds the pipe.
fn answer(answer: &Answer) -> u8 {
    let mut line = serde_json::to_vec(answer).expect("an answer has only texts and numbers");
    line.push(b'\n');
    let told = std::io::stdout().write_all(&line).and_then(|()| std::io::stdout().flush());
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::WRONLY, rustix::fs::Mode::empty());
    if let Ok(null) = null
        && let Err(error) = rustix::stdio::dup2_stdout(null)
    {
        tracing::debug!(%error, "standard output stays open");
    }
    u8::from(told.is_err() || matches!(answer, Answer::Failed { .. }))
}
