//! Which supervisor makes the next sandbox?
//!
//! One that has nothing to do, else a new one: to execute this program costs more than all the rest of a sandbox. Each
//! serves one sandbox at a time, so that one that is killed takes one sandbox with it. Those without one are kept here,
//! and end when this process does, by the end of their sockets.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::CWD;
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::channel::{self, Command, Report};
use crate::error::Error;
use crate::mount::set_attributes;

/// As many as may be without work. More than that have ended with their sandboxes.
const IDLE: usize = 8;
/// How many sandboxes one makes: what pid 1 has on the heap when it becomes the process is never freed.
const REQUESTS: u32 = 1000;
/// How long [`dismiss`] waits at most.
const PATIENCE: Duration = Duration::from_secs(1);

/// A supervisor that was given something to do. Dropping it kills the sandbox it has.
#[derive(Debug)]
pub(crate) struct Supervisor {
    /// A stream only in name: messages are received with `recvmsg`, never read.
    channel: UnixStream,
    process: Process,
    /// How many requests it has had.
    requests: u32,
    afterwards: Afterwards,
}

/// What a supervisor does when the sandbox has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Afterwards {
    /// It makes another.
    Waits,
    /// It ends too: it has joined namespaces that it cannot leave.
    Ends,
}

/// A supervisor that waits for a request.
#[derive(Debug)]
struct Idle {
    channel: OwnedFd,
    process: Process,
    requests: u32,
}

/// The process; reaped, some time after it has ended, by whoever needs a supervisor next.
#[derive(Debug)]
struct Process(Option<Child>);

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take()
            && !has_ended(&mut child)
        {
            kept().ending.push(child);
        }
    }
}

#[derive(Debug)]
struct Kept {
    idle: Vec<Idle>,
    /// They have nobody to listen to and are about to end.
    ending: Vec<Child>,
}

fn kept() -> MutexGuard<'static, Kept> {
    static KEPT: Mutex<Kept> = Mutex::new(Kept { idle: Vec::new(), ending: Vec::new() });
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

fn has_ended(child: &mut Child) -> bool {
    !matches!(child.try_wait(), Ok(None))
}

impl Supervisor {
    /// Passes a request on to one that has nothing to do.
    pub(crate) fn ask(descriptors: &[BorrowedFd<'_>], afterwards: Afterwards) -> Result<Self, Error> {
        loop {
            let (idle, new) = match idle() {
                Some(idle) => (idle, false),
                None => (start().map_err(Error::Spawn)?, true),
            };
            match channel::send(&idle.channel, &Command::Request, descriptors) {
                // Somebody killed it while it had nothing to do.
                Err(_) if !new => {}
                other => {
                    other.map_err(Error::Channel)?;
                    let channel = UnixStream::from_std(idle.channel.into()).map_err(Error::Channel)?;
                    return Ok(Self { channel, process: idle.process, requests: idle.requests + 1, afterwards });
                }
            }
        }
    }

    /// The next message; `None` if it was killed.
    pub(crate) async fn receive(&self) -> Result<Option<(Report, Vec<OwnedFd>)>, Error> {
        let receive = || channel::receive(&self.channel);
        self.channel.async_io(Interest::READABLE, receive).await.map_err(Error::Channel)
    }

    pub(crate) fn send(&self, command: &Command) -> Result<(), Error> {
        channel::send(&self.channel, command, &[]).map_err(Error::Channel)
    }

    /// One without a process: whoever has the other end says what it reports.
    #[cfg(test)]
    pub(crate) fn pretended() -> io::Result<(OwnedFd, Self)> {
        let (ours, theirs) = channel::pair()?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let channel = UnixStream::from_std(ours.into())?;
        Ok((theirs, Self { channel, process: Process(None), requests: 1, afterwards: Afterwards::Ends }))
    }

    /// Keeps it for the next sandbox, after the report of the end of the one it had.
    pub(crate) fn keep(self) {
        if self.requests >= REQUESTS || self.afterwards == Afterwards::Ends {
            return;
        }
        let Ok(channel) = self.channel.into_std() else { return };
        let idle = Idle { channel: channel.into(), process: self.process, requests: self.requests };
        let mut kept = kept();
        if kept.idle.len() < IDLE {
            kept.idle.push(idle);
            return;
        }
        // The end of `idle` takes the lock.
        drop(kept);
    }
}

/// Ends the supervisors that have nothing to do and waits until they are gone, and with them the mounts they have seen.
/// For the end of a program, which does not wait for long; those that still serve a sandbox are left alone.
pub fn dismiss() {
    let Kept { idle, mut ending } = std::mem::replace(&mut *kept(), Kept { idle: Vec::new(), ending: Vec::new() });
    for Idle { channel, mut process, .. } in idle {
        drop(channel);
        ending.extend(process.0.take());
    }
    let deadline = Instant::now() + PATIENCE;
    for mut child in ending {
        // Where it cannot be waited for, it ends a moment after this program.
        _ = ended_until(&child, deadline);
        has_ended(&mut child);
    }
}

fn ended_until(child: &Child, deadline: Instant) -> rustix::io::Result<()> {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let rest = deadline.saturating_duration_since(Instant::now());
    let rest = Timespec::try_from(rest).unwrap_or_default();
    poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&rest)).map(drop)
}

fn idle() -> Option<Idle> {
    let mut kept = kept();
    if !kept.ending.is_empty() {
        kept.ending.retain_mut(|child| !has_ended(child));
    }
    kept.idle.pop()
}

fn start() -> io::Result<Idle> {
    let (ours, theirs) = channel::pair()?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    let child = std::process::Command::new(program())
        .arg0("rbuild")
        .arg("__init")
        .env_clear()
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Away from the terminal's foreground group: Ctrl-C is for rbuild, which ends its sandboxes in order.
        .process_group(0)
        .spawn()?;
    Ok(Idle { channel: ours, process: Process(Some(child)), requests: 0 })
}

/// This program, by a path that stays usable and leads to a mount of it that cannot be written to. While `__init` is
/// inside, a process of the sandbox that is as privileged as root could otherwise open `/proc/PID/exe` and overwrite the
/// host's rbuild (CVE-2019-5736).
fn program() -> PathBuf {
    static READ_ONLY: OnceLock<Option<OwnedFd>> = OnceLock::new();
    let own = "/proc/self/exe";
    let made = READ_ONLY.get_or_init(|| {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let made = open_tree(CWD, own, flags).ok()?;
        set_attributes(made.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, false).ok()?;
        Some(made)
    });
    // Without the privilege to make mounts there will be no sandbox either, with an error that says so.
    made.as_ref().map_or(PathBuf::from(own), |made| PathBuf::from(format!("/proc/self/fd/{}", made.as_raw_fd())))
}
