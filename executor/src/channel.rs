//! How do rbuild, the supervisor and pid 1 talk?
//!
//! Over `SOCK_SEQPACKET` socket pairs: one message is one JSON value with at most a few descriptors, and the end of one
//! side is an end of file on the other, however it died. That end of file *is* the lifeline.
//!
//! ```text
//! rbuild ── Command(Request) + descriptors ──► supervisor ── Go ──► pid 1
//!        ◄── Report(Started|Failed) ──────────            ◄─ Ready|Failure
//!        ── Command(Signal) ─────────────────►
//!        ◄── Report(Exited) ─────────────────
//!        ── Command(Request) + descriptors ──► …
//! ```

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::exit::Exit;
use crate::plan::Plan;
use crate::spec::Process;

/// What `__init` is asked to do. Sent through a memory file, since an environment can be longer than a message.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Request {
    /// Make a sandbox.
    Start(Box<Plan>),
    /// Run another process in the sandbox whose pid 1 is the descriptor after standard error.
    Join(Join),
}

/// A process for an existing sandbox.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Join {
    pub(crate) process: Process,
    pub(crate) capabilities: Option<u64>,
    pub(crate) filter: bool,
}

/// From rbuild to the supervisor.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Command {
    /// Do what the first descriptor says, a memory file with a [`Request`]; standard input, output and error follow,
    /// then the process to join if one is to be joined. Only after the report of the end of the one before.
    Request,
    /// Send it to the process. One that comes after the end of the process is for nobody.
    Signal(i32),
}

/// From the supervisor to rbuild.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Report {
    /// The process runs. Comes with a descriptor of it, and with the terminal if it has one.
    Started { pid: i32 },
    /// It never ran.
    Failed(Failure),
    /// It ended, and what had to be undone is undone.
    Exited(Exit),
}

/// From pid 1 to the supervisor. A successful `execve` closes the socket instead.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Inside {
    /// Here is the terminal.
    Terminal,
    /// It did not work.
    Failed(Failure),
}

const LONGEST: usize = 64 << 10;
const DESCRIPTORS: usize = 8;

/// Two connected ends, closed by `execve`.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends one message.
pub(crate) fn send(socket: impl AsFd, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    sendmsg(socket, &[IoSlice::new(&text)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message; `None` when the other side is gone.
pub(crate) fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut buffer = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(&socket, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            // A socket whose peer closed with unread messages reports this once instead of an end of file.
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            other => break other?,
        }
    };
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&buffer[..received.bytes])?, descriptors)))
}
