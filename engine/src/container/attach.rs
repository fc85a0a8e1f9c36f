//! Who sees what a container prints, and who types?

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rbuild_core::Stream;
use rbuild_executor::{Input, Sandbox, Stdio, Terminal};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::net::unix::pipe::Receiver;

use super::record::Container;

/// The ends of a container's standard streams on our side.
pub enum Attach {
    /// Only the log. `started` is called once the process runs.
    Log {
        /// Tells whoever waits for it.
        started: Box<dyn FnOnce() + Send>,
    },
    /// This process's own standard streams, besides the log. Signals that this process receives meanwhile go to the
    /// container's process; a terminal is put into raw mode and back.
    Standard,
}

impl fmt::Debug for Attach {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Log { .. } => "Log",
            Self::Standard => "Standard",
        })
    }
}

impl Attach {
    /// What the sandbox gets, and what must stay open on our side.
    pub(super) fn stdio(&self, container: &Container) -> io::Result<(Stdio, Option<OwnedFd>)> {
        let mut stdio = Stdio::default();
        if !container.stdin || container.terminal {
            return Ok((stdio, None));
        }
        match self {
            Self::Standard => {
                stdio.stdin = Input::Descriptor(io::stdin().as_fd().try_clone_to_owned()?);
                Ok((stdio, None))
            }
            Self::Log { .. } => {
                let (reader, writer) = io::pipe()?;
                stdio.stdin = Input::Descriptor(reader.into());
                Ok((stdio, Some(writer.into())))
            }
        }
    }

    /// Tells who waits for the start.
    pub(super) fn started(&mut self) {
        if let Self::Log { started } = self {
            std::mem::replace(started, Box::new(|| ()))();
        }
    }

    /// Shows a piece of output. A reader that went away is no reason to end the container.
    pub(super) fn show(&self, stream: Stream, data: &[u8]) {
        let shown = match (self, stream) {
            (Self::Log { .. }, _) => return,
            (Self::Standard, Stream::Stdout) => {
                let mut out = io::stdout().lock();
                out.write_all(data).and_then(|()| out.flush())
            }
            (Self::Standard, Stream::Stderr) => io::stderr().lock().write_all(data),
        };
        if let Err(error) = shown {
            tracing::debug!(%error, "output is not shown");
        }
    }
}

/// What a started sandbox prints through: standard output and standard error, which a terminal has as one.
pub(super) fn outputs(sandbox: &mut Sandbox) -> io::Result<(Option<Receiver>, Option<Receiver>)> {
    match &sandbox.terminal {
        Some(terminal) => {
            let descriptor = terminal.descriptor()?;
            rustix::io::ioctl_fionbio(&descriptor, true)?;
            // A terminal reads as a pipe does, but for the error at its end.
            Ok((Some(Receiver::from_owned_fd_unchecked(descriptor)?), None))
        }
        None => Ok((sandbox.stdout.take(), sandbox.stderr.take())),
    }
}

/// Our terminal in raw mode. Dropping it restores what was.
#[derive(Debug)]
#[must_use = "dropping it ends raw mode"]
pub(super) struct Raw(Termios);

impl Raw {
    /// Changes standard input, if it is a terminal.
    pub(super) fn enter() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(io::stdin(), OptionalActions::Now, &self.0) {
            tracing::debug!(%error, "the terminal stays raw");
        }
    }
}

/// Types what arrives on standard input into the container's terminal, from a thread that ends with the process: a
/// read from a terminal cannot be cancelled.
pub(super) fn type_into(terminal: &Terminal) -> io::Result<()> {
    let mut keyboard = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut terminal = File::from(terminal.descriptor()?);
    std::thread::Builder::new().name("keyboard".to_owned()).spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = keyboard.read(&mut buffer) {
            if !write_patiently(&mut terminal, &buffer[..length]) {
                return;
            }
        }
        // Ctrl-D: the end of the input is the end of the line.
        write_patiently(&mut terminal, &[4]);
    })?;
    Ok(())
}

/// The descriptor does not block, since the other direction must not.
fn write_patiently(terminal: &mut File, mut data: &[u8]) -> bool {
    while !data.is_empty() {
        match terminal.write(data) {
            Ok(length) => data = &data[length..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut wait = [rustix::event::PollFd::new(terminal, rustix::event::PollFlags::OUT)];
                if rustix::event::poll(&mut wait, None).is_err() {
                    return false;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    true
}

/// Makes the container's terminal as large as ours.
pub(super) fn fit(terminal: &Terminal) {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    let fitted = size.map_err(io::Error::from).and_then(|size| terminal.resize(size.ws_row, size.ws_col));
    if let Err(error) = fitted {
        tracing::debug!(%error, "the terminal keeps its size");
    }
}
