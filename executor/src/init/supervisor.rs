//! What does the process outside the sandbox do?
//!
//! It makes what must outlive pid 1 in order to be undone (control group, root file system with its mountpoints), clones
//! pid 1, and then waits for two things: the end of pid 1, and the end of rbuild, which it answers by killing pid 1.
//! It is the parent that pid 1's parent-death signal refers to, and being single-threaded, a reliable one: the signal
//! is sent when the parent *thread* ends, so a thread of rbuild's pool would not do.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rbuild_core::MountKind;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, pidfd_send_signal};

use super::sources::Sources;
use super::template::Template;
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
use crate::sys::{self, Stack};

/// A supervisor, and what it keeps from one sandbox to the next.
pub(super) struct Supervisor {
    template: Option<Template>,
    stack: Stack,
    /// What pid 1 listens to has no other end once this process is gone.
    lifeline: (OwnedFd, OwnedFd),
}

impl Supervisor {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { template: None, stack: Stack::new()?, lifeline: channel::pair()? })
    }

    /// Makes a sandbox and stays until it has ended.
    pub(super) fn start(&mut self, plan: &Plan, descriptors: Descriptors) {
        let mut remains = Remains::default();
        let report = match self.make(plan, descriptors, &mut remains) {
            Ok(exit) => Report::Exited(exit),
            Err(failure) => Report::Failed(failure),
        };
        if plan.root.devices {
            // It could mount: nothing that it saw is for the next.
            self.template = None;
        }
        if !plan.root.volatile {
            // Unmounting writes to the disk what the report says has happened.
            drop(std::mem::take(&mut remains));
        }
        // Nobody to tell means nobody to mind.
        drop(channel::send(rustix::stdio::stdin(), &report, &[]));
    }

    fn make(&mut self, plan: &Plan, descriptors: Descriptors, remains: &mut Remains) -> Result<Exit, Failure> {
        let cgroup = match &plan.cgroup {
            Some(limits) => Some(
                Cgroup::create(limits, &Host::probe().cgroup)
                    .map_err(|error| Failure::step("limit resources", error))?,
            ),
            None => None,
        };
        let mut root = Root::make(&plan.root)?;
        let made = self.make_process(plan, descriptors, &root, cgroup.as_ref());
        let outcome = made.and_then(|(pid, process, terminal)| {
            remains.namespace = mount_namespace(pid);
            oversee(pid, &process, terminal)
        });
        root.take_back();
        remains.root = Some(root);
        let mut outcome = outcome?;
        outcome.oom = cgroup.as_ref().is_some_and(Cgroup::out_of_memory);
        Ok(outcome)
    }

    /// Returns when pid 1 has become the process: what it was given is closed then.
    fn make_process(
        &mut self,
        plan: &Plan,
        descriptors: Descriptors,
        root: &Root,
        cgroup: Option<&Cgroup>,
    ) -> Result<(Pid, OwnedFd, Option<OwnedFd>), Failure> {
        let sources = Sources::open(plan)?;
        if self.template.is_none() {
            self.template = Some(Template::new()?);
        }
        let template = self.template.as_mut().expect("made above");
        template.prepare(plan)?;
        let failed = |what: &'static str| move |error| Failure::step(what, error);
        let cgroups = cgroup.map_or(Ok(Vec::new()), Cgroup::doors).map_err(failed("enter the control group"))?;
        let mut flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
        if plan.network == Network::None {
            flags |= libc::CLONE_NEWNET;
        }
        if cgroups.is_empty() {
            flags |= libc::CLONE_NEWCGROUP;
        }
        let terminal =
            if plan.process.terminal { Some(channel::pair().map_err(failed("make a socket"))?) } else { None };
        let (alive, lifeline) = &self.lifeline;
        let start = inside::Start {
            plan,
            sources: &sources,
            root: root.mount.as_fd(),
            stdio: &descriptors.stdio,
            cgroups: &cgroups,
            lifeline: lifeline.as_fd(),
            terminal: terminal.as_ref().map(|(_, theirs)| theirs.as_fd()),
            ready: &Cell::new(false),
        };
        // Pid 1 tells it by way of the memory that it borrows.
        let mut failure = None;
        let stack = &mut self.stack;
        let child = || {
            sys::close_copy(alive.as_fd());
            failure = Some(inside::run(&start));
            1
        };
        let (pid, process) = template
            .inside(|| sys::spawn_borrowing(flags, stack, child))
            .map_err(|error| Failure::step("make namespaces", error))?;
        let killed = || Failure::step("start the process", io::Error::other("it was killed before it ran"));
        if let Some(failure) = failure.or_else(|| (!start.ready.get()).then(killed)) {
            kill_and_reap(&process);
            return Err(failure);
        }
        let terminal = match terminal {
            Some((ours, theirs)) => {
                drop(theirs);
                channel::receive::<Inside>(&ours)
                    .map_err(failed("receive the terminal"))?
                    .and_then(|(_, descriptors)| descriptors.into_iter().next())
            }
            None => None,
        };
        Ok((pid, process, terminal))
    }
}

/// What holds the file systems of a sandbox that has ended. Dropping it unmounts them, which nobody has to wait for: no
/// process is left that could write to them.
#[derive(Default)]
struct Remains {
    root: Option<Root>,
    namespace: Option<OwnedFd>,
}

/// Holds on to the mounts of a process. One that has ended already has none.
fn mount_namespace(pid: Pid) -> Option<OwnedFd> {
    let path = format!("/proc/{}/ns/mnt", pid.as_raw_nonzero());
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// Enters control groups by their opened `cgroup.procs`.
pub(super) fn enter_cgroups(doors: &[OwnedFd]) -> io::Result<()> {
    doors.iter().try_for_each(|door| rustix::io::write(door, b"0").map(drop)).map_err(Into::into)
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

/// Lets a process that joins a sandbox go, and stays until it has ended. `inside` closes when it has been executed.
pub(super) fn oversee_joined(pid: Pid, process: &OwnedFd, inside: &OwnedFd) -> Result<Exit, Failure> {
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
    oversee(pid, process, terminal)
}

/// Reports the start of a process that has been executed, and waits for its end.
fn oversee(pid: Pid, process: &OwnedFd, terminal: Option<OwnedFd>) -> Result<Exit, Failure> {
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
