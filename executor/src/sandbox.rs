//! How does rbuild hold on to a running sandbox?
//!
//! By one socket to the supervisor. Dropping a [`Sandbox`] closes it, and so does the kernel when rbuild dies in
//! whatever way: the supervisor then kills pid 1, and with it everything in the sandbox.

use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::net::unix::pipe;

use crate::channel::{Command, Join, Report, Request};
use crate::error::Error;
use crate::exit::Exit;
use crate::plan::{DEFAULT_CAPABILITIES, Plan};
use crate::spec::{Privileges, Process};
use crate::supervisors::{Afterwards, Supervisor};

/// Where a sandboxed process reads from.
#[derive(Debug, Default)]
pub enum Input {
    /// `/dev/null`.
    #[default]
    Null,
    /// This descriptor.
    Descriptor(OwnedFd),
}

/// Where a sandboxed process writes to.
#[derive(Debug, Default)]
pub enum Output {
    /// A pipe, whose other end is in [`Sandbox::stdout`] or [`Sandbox::stderr`].
    #[default]
    Piped,
    /// `/dev/null`.
    Null,
    /// This descriptor.
    Descriptor(OwnedFd),
}

/// Standard input, output and error. Ignored by a process with a terminal of its own.
#[derive(Debug, Default)]
pub struct Stdio {
    /// Descriptor 0.
    pub stdin: Input,
    /// Descriptor 1.
    pub stdout: Output,
    /// Descriptor 2.
    pub stderr: Output,
}

/// The outer side of a sandboxed process's terminal.
#[derive(Debug)]
pub struct Terminal(OwnedFd);

impl Terminal {
    /// Tells the process how large the terminal is; it gets `SIGWINCH`.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        Ok(tcsetwinsize(&self.0, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?)
    }

    /// Another descriptor of it, to read what the process writes and to write what it reads. Reading fails with `EIO`
    /// once the last process has closed the other side.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }
}

/// A running sandbox, or a process that joined one.
#[derive(Debug)]
#[must_use = "dropping a sandbox kills everything in it"]
pub struct Sandbox {
    /// What the process writes to descriptor 1, if that is [`Output::Piped`].
    pub stdout: Option<pipe::Receiver>,
    /// What the process writes to descriptor 2, if that is [`Output::Piped`].
    pub stderr: Option<pipe::Receiver>,
    /// The process's terminal, if it was to have one.
    pub terminal: Option<Terminal>,
    pid: u32,
    process: OwnedFd,
    privileges: Privileges,
    /// Until the end is known.
    supervisor: Option<Supervisor>,
    exit: Option<Exit>,
}

impl Sandbox {
    /// Starts a sandbox, and returns when its process has replaced `__init`.
    ///
    /// The current program must call [`crate::init`] when its first argument is `__init`, before anything else.
    /// Dropping the future is the same as dropping the sandbox. Needs a tokio runtime with I/O.
    ///
    /// # Errors
    /// When the process never came to run; see [`Error`].
    pub async fn start(plan: Plan, stdio: Stdio) -> Result<Self, Error> {
        let privileges = if plan.filter { Privileges::Default } else { Privileges::All };
        Self::request(&Request::Start(Box::new(plan)), privileges, None, stdio).await
    }

    /// Runs another process in this sandbox, with the same privileges. It ends with the sandbox, or when the returned
    /// value is dropped.
    ///
    /// # Errors
    /// When the process never came to run, for instance because the sandbox has ended.
    pub async fn exec(&self, process: &Process, stdio: Stdio) -> Result<Self, Error> {
        Self::join(self.process.as_fd(), self.privileges, process, stdio).await
    }

    /// The same for a sandbox that another program started; `pid` is its [`Sandbox::pid`]. The caller vouches that the
    /// number still means that sandbox.
    ///
    /// # Errors
    /// When the process never came to run, for instance because the sandbox has ended.
    pub async fn exec_in(pid: u32, privileges: Privileges, process: &Process, stdio: Stdio) -> Result<Self, Error> {
        let found = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(rustix::io::Errno::SRCH);
        let found = found
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
            .map_err(|error| Error::Step { step: format!("find process {pid}"), source: error.into() })?;
        Self::join(found.as_fd(), privileges, process, stdio).await
    }

    async fn join(
        target: BorrowedFd<'_>,
        privileges: Privileges,
        process: &Process,
        stdio: Stdio,
    ) -> Result<Self, Error> {
        crate::plan::check_process(process)
            .map_err(|error| Error::Step { step: "plan the process".to_owned(), source: io::Error::other(error) })?;
        let confined = privileges == Privileges::Default;
        let join =
            Join { process: process.clone(), capabilities: confined.then_some(DEFAULT_CAPABILITIES), filter: confined };
        Self::request(&Request::Join(join), privileges, Some(target), stdio).await
    }

    async fn request(
        request: &Request,
        privileges: Privileges,
        target: Option<BorrowedFd<'_>>,
        stdio: Stdio,
    ) -> Result<Self, Error> {
        let memory = memory_file(request).map_err(Error::Spawn)?;
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| Error::Spawn(error.into()))?;
        let (stdout_theirs, stdout) = output(stdio.stdout, &null).map_err(Error::Spawn)?;
        let (stderr_theirs, stderr) = output(stdio.stderr, &null).map_err(Error::Spawn)?;
        let stdin = match stdio.stdin {
            Input::Null => null,
            Input::Descriptor(descriptor) => descriptor,
        };
        let mut descriptors = vec![memory.as_fd(), stdin.as_fd(), stdout_theirs.as_fd(), stderr_theirs.as_fd()];
        descriptors.extend(target);
        let afterwards = if target.is_some() { Afterwards::Ends } else { Afterwards::Waits };
        let supervisor = Supervisor::ask(&descriptors, afterwards)?;
        drop((stdin, stdout_theirs, stderr_theirs));
        let (report, descriptors) = supervisor.receive().await?.ok_or(Error::Lost)?;
        let mut descriptors = descriptors.into_iter();
        match (report, descriptors.next()) {
            (Report::Started { pid }, Some(process)) => Ok(Self {
                stdout,
                stderr,
                terminal: descriptors.next().map(Terminal),
                pid: pid.unsigned_abs(),
                process,
                privileges,
                supervisor: Some(supervisor),
                exit: None,
            }),
            (Report::Failed(failure), _) => Err(failure.into()),
            _ => Err(Error::Lost),
        }
    }

    /// The process's pid, as seen by the program that started it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the process, and with it everything in the sandbox, is gone, and the root file system unmounted.
    /// Cancelling this future leaves the sandbox running. What [`Sandbox::stdout`] holds is still there afterwards.
    ///
    /// # Errors
    /// [`Error::Lost`] if the supervisor was killed; the sandbox died with it. [`Error::Step`] if it could not wait.
    pub async fn wait(&mut self) -> Result<Exit, Error> {
        if let Some(supervisor) = &self.supervisor {
            let report = supervisor.receive().await?;
            let supervisor = self.supervisor.take().expect("it was there a moment ago");
            match report {
                Some((Report::Exited(exit), _)) => {
                    self.exit = Some(exit);
                    supervisor.keep();
                }
                Some((Report::Failed(failure), _)) => return Err(failure.into()),
                Some((Report::Started { .. }, _)) | None => {}
            }
        }
        self.exit.ok_or(Error::Lost)
    }

    /// Sends a signal to the process, by number. As pid 1 it ignores all but `SIGKILL` and what it handles.
    ///
    /// # Errors
    /// [`Error::Channel`] if it has ended.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        let ended = || Error::Channel(io::ErrorKind::NotConnected.into());
        self.supervisor.as_ref().ok_or_else(ended)?.send(&Command::Signal(signal))
    }
}

fn output(output: Output, null: &OwnedFd) -> io::Result<(OwnedFd, Option<pipe::Receiver>)> {
    match output {
        Output::Null => Ok((null.try_clone()?, None)),
        Output::Descriptor(descriptor) => Ok((descriptor, None)),
        Output::Piped => {
            let (reader, writer) = io::pipe()?;
            Ok((writer.into(), Some(pipe::Receiver::from_owned_fd(reader.into())?)))
        }
    }
}

fn memory_file(request: &Request) -> io::Result<OwnedFd> {
    let mut file = std::fs::File::from(memfd_create("rbuild-plan", MemfdFlags::CLOEXEC)?);
    file.write_all(&serde_json::to_vec(request)?)?;
    debug_assert!(file.as_raw_fd() > 2, "standard descriptors are open");
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel;
    use crate::error::Failure;

    #[tokio::test]
    async fn the_reason_of_a_supervisor_that_fails_at_the_end_is_told() {
        let (theirs, supervisor) = Supervisor::pretended().unwrap();
        let mut sandbox = Sandbox {
            stdout: None,
            stderr: None,
            terminal: None,
            pid: 1,
            process: theirs.try_clone().unwrap(),
            privileges: Privileges::default(),
            supervisor: Some(supervisor),
            exit: None,
        };
        let failure = Failure::step("wait for the process", rustix::io::Errno::CHILD);
        channel::send(&theirs, &Report::Failed(failure), &[]).unwrap();
        let error = sandbox.wait().await.unwrap_err();
        assert_eq!(error.to_string(), "cannot wait for the process");
        assert!(std::error::Error::source(&error).is_some_and(|source| source.to_string().contains("No child")));
        assert!(matches!(sandbox.wait().await, Err(Error::Lost)));
    }
}
