//! What does the process outside the sandbox do?
//!
//! It makes what must outlive pid 1 in order to be undone (control group, root file system with its mountpoints), clones
//! pid 1, and then waits for two things: the end of pid 1, and the end of rbuild, which it answers by killing pid 1.
//! It is the parent that pid 1's parent-death signal refers to, and being single-threaded, a reliable one: the signal
//! is sent when the parent *thread* ends, so a thread of rbuild's pool would not do.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rbuild_core::MountKind;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, pidfd_send_signal};

use super::{Descriptors, inside};
use crate::cgroup::Cgroup;
use crate::channel::{self, Command, Inside, Report};
use crate::error::Failure;
use crate::exit::Exit;
use crate::host::Host;
use crate::mount::{self, OverlayOptions};
use crate::plan::{MountpointKind, Plan, RootPlan};
use crate::resolve::{self, Created, Kind};
use crate::spec::Network;
use crate::sys;

/// Makes the sandbox and stays until it has ended.
pub(super) fn start(plan: &Plan, descriptors: Descriptors) {
    let report = match make(plan, descriptors) {
        Ok(exit) => Report::Exited(exit),
        Err(failure) => Report::Failed(failure),
    };
    // Nobody to tell means nobody to mind.
    drop(channel::send(rustix::stdio::stdin(), &report, &[]));
}

fn make(plan: &Plan, descriptors: Descriptors) -> Result<Exit, Failure> {
    let cgroup = match &plan.cgroup {
        Some(limits) => Some(
            Cgroup::create(limits, &Host::probe().cgroup).map_err(|error| Failure::step("limit resources", error))?,
        ),
        None => None,
    };
    let mut root = Root::make(&plan.root)?;
    let mut flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
    if plan.network == Network::None {
        flags |= libc::CLONE_NEWNET;
    }
    let (ours, theirs) = channel::pair().map_err(|error| Failure::step("make a socket", error))?;
    let child = sys::clone_into(flags).map_err(|error| Failure::step("make namespaces", error))?;
    let Some((pid, process)) = child else {
        drop(ours);
        inside::run(plan, &root.mount, theirs, descriptors);
    };
    drop((theirs, descriptors));
    let admitted = cgroup.as_ref().map_or(Ok(()), |cgroup| cgroup.add(pid));
    let outcome = match admitted {
        Ok(()) => oversee(pid, &process, &ours),
        Err(error) => {
            kill_and_reap(&process);
            Err(Failure::step("enter the control group", error))
        }
    };
    root.take_back();
    let mut outcome = outcome?;
    outcome.oom = cgroup.as_ref().is_some_and(Cgroup::out_of_memory);
    Ok(outcome)
}

/// The root file system and what was made in it only to be mounted upon.
struct Root {
    mount: OwnedFd,
    created: Vec<Created>,
}

impl Root {
    fn make(plan: &RootPlan) -> Result<Self, Failure> {
        let points: Vec<_> = plan
            .mountpoints
            .iter()
            .filter_map(|point| {
                let kind = match &point.kind {
                    MountpointKind::Directory => Kind::Directory,
                    MountpointKind::File => Kind::File,
                    // A missing source is reported by the step that mounts it.
                    MountpointKind::Like(source, below) => kind_of(source, below).ok()?,
                    MountpointKind::LikeLayers(lower, below) => kind_in_layers(lower, below)?,
                };
                Some((point.path.as_path(), kind))
            })
            .collect();
        if let Some(stubs) = &plan.stubs {
            let failed = |error: io::Error| Failure::step(format!("make mountpoints in `{}`", stubs.display()), error);
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = rustix::fs::open(stubs, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
            for (path, kind) in points.iter().filter(|(path, _)| !is_kept(path)) {
                resolve::make_stub(directory.as_fd(), path, *kind).map_err(failed)?;
            }
        }
        let failed = |error: mount::MountError| {
            let (what, source) = error.into_parts();
            Failure::step(format!("make the root file system: {what}"), source)
        };
        let mount = match &plan.kind {
            MountKind::Overlay { lower, upper } => {
                mount::overlay(lower, upper.as_ref(), OverlayOptions { volatile: plan.volatile }).map_err(failed)?
            }
            other => {
                let root = rbuild_core::Mount { target: "/".into(), kind: other.clone(), read_only: false };
                mount::detached(&root).map_err(failed)?
            }
        };
        if !plan.devices {
            // The sandbox may make device nodes (images contain them), but not open any except those in its /dev.
            mount::set_attributes(mount.as_fd(), rustix::mount::MountAttrFlags::MOUNT_ATTR_NODEV, true)
                .map_err(|error| Failure::step("disable devices in the root file system", error))?;
        }
        let mut root = Self { mount, created: Vec::new() };
        for (path, kind) in points {
            let mut kept = Vec::new();
            let created = if is_kept(path) { &mut kept } else { &mut root.created };
            let made = resolve::open_or_create(root.mount.as_fd(), path, kind, created);
            if let Err(error) = made {
                root.take_back();
                return Err(Failure::step(format!("make mountpoint `{}`", path.display()), error));
            }
        }
        Ok(root)
    }

    /// Removes the mountpoints, last first. What cannot be removed has become the process's own.
    fn take_back(&mut self) {
        for created in self.created.drain(..).rev() {
            drop(created.remove());
        }
    }
}

/// Mountpoints that stay in an image that has none: BuildKit leaves these three behind, and only these.
fn is_kept(path: &Path) -> bool {
    ["/dev", "/proc", "/sys"].iter().any(|kept| path == Path::new(kept))
}

fn kind_of(source: &Path, below: &Path) -> io::Result<Kind> {
    let found = rustix::fs::open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    match below.as_os_str().is_empty() {
        true => kind_of_open(&found),
        false => kind_of_open(&mount::open_beneath(found.as_fd(), below, OFlags::empty())?),
    }
}

fn kind_in_layers(lower: &[rbuild_core::Lower], below: &Path) -> Option<Kind> {
    let merged = mount::overlay(lower, None, OverlayOptions::default()).ok()?;
    kind_of_open(&mount::open_beneath(merged.as_fd(), below, OFlags::empty()).ok()?).ok()
}

fn kind_of_open(found: &OwnedFd) -> io::Result<Kind> {
    let mode = rustix::fs::fstat(found)?.st_mode;
    let directory = rustix::fs::FileType::from_raw_mode(mode) == rustix::fs::FileType::Directory;
    Ok(if directory { Kind::Directory } else { Kind::File })
}

/// Lets pid 1 go, reports its start, and waits for its end. `inside` closes when the process has been executed.
pub(super) fn oversee(pid: Pid, process: &OwnedFd, inside: &OwnedFd) -> Result<Exit, Failure> {
    let started = channel::send(inside, &(), &[]).and_then(|()| await_start(inside));
    let terminal = match started {
        Ok(Ok(terminal)) => terminal,
        Ok(Err(failure)) => {
            kill_and_reap(process);
            return Err(failure);
        }
        Err(error) => {
            kill_and_reap(process);
            return Err(Failure::step("start the process", error));
        }
    };
    let mut descriptors = vec![process.as_fd()];
    descriptors.extend(terminal.as_ref().map(|terminal| terminal.as_fd()));
    let report = Report::Started { pid: pid.as_raw_nonzero().get() };
    let told = channel::send(rustix::stdio::stdin(), &report, &descriptors);
    drop(terminal);
    if told.is_err() {
        kill(process);
    }
    wait(process)
}

/// The terminal if there is one, once the process has been executed.
fn await_start(inside: &OwnedFd) -> io::Result<Result<Option<OwnedFd>, Failure>> {
    let mut terminal = None;
    loop {
        // While pid 1 prepares itself rbuild may die; the end of file is then seen here.
        let mut fds =
            [PollFd::new(inside, PollFlags::IN), PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN)];
        poll_forever(&mut fds)?;
        if !fds[0].revents().is_empty() {
            match channel::receive::<Inside>(inside)? {
                None => return Ok(Ok(terminal)),
                Some((Inside::Failed(failure), _)) => return Ok(Err(failure)),
                Some((Inside::Terminal, descriptors)) => terminal = descriptors.into_iter().next(),
            }
        } else if channel::receive::<Command>(rustix::stdio::stdin())?.is_none() {
            return Err(io::Error::other("rbuild is gone"));
        }
    }
}

fn wait(process: &OwnedFd) -> Result<Exit, Failure> {
    let stdin = rustix::stdio::stdin();
    let mut listening = true;
    loop {
        let mut fds = vec![PollFd::new(process, PollFlags::IN)];
        if listening {
            fds.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
        }
        poll_forever(&mut fds).map_err(|error| Failure::step("wait for the process", error))?;
        if !fds[0].revents().is_empty() {
            return reap(process);
        }
        match channel::receive::<Command>(stdin) {
            Ok(Some((Command::Signal(number), _))) => send_signal(process, number),
            Ok(None | Some((Command::Request, _))) | Err(_) => {
                listening = false;
                kill(process);
            }
        }
    }
}

fn poll_forever(fds: &mut [PollFd<'_>]) -> io::Result<()> {
    loop {
        match poll(fds, None) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map(drop).map_err(Into::into),
        }
    }
}

fn reap(process: &OwnedFd) -> Result<Exit, Failure> {
    let (end, resources) = sys::reap(process.as_fd()).map_err(|error| Failure::step("wait for the process", error))?;
    Ok(match end {
        sys::End::Exited(code) => Exit { code, signal: None, oom: false, resources },
        sys::End::Killed(signal) => Exit { code: 128 + signal, signal: Some(signal), oom: false, resources },
    })
}

fn send_signal(process: &OwnedFd, number: i32) {
    // A number that is no signal, or a process that has just ended: in neither case is there anything to do.
    if let Some(signal) = Signal::from_named_raw(number) {
        let _ = pidfd_send_signal(process, signal);
    }
}

fn kill(process: &OwnedFd) {
    let _ = pidfd_send_signal(process, Signal::KILL);
}

fn kill_and_reap(process: &OwnedFd) {
    kill(process);
    drop(reap(process));
}

/// Whether the other side of a socket is gone.
pub(super) fn is_closed(socket: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::empty())];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}
