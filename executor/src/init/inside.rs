//! What does pid 1 do before it becomes the process?
//!
//! It carries out the plan's steps, in order, then takes on the process's identity and executes it. Whatever fails is
//! sent to the supervisor with the name of the step.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rbuild_core::{Mount, MountKind};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountAttrFlags, MoveMountFlags, UnmountFlags, move_mount, unmount};
use rustix::process::{Signal, fchdir, pivot_root, set_parent_process_death_signal};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::sources::Sources;
use super::{mounts, process, supervisor};
use crate::channel::{self, Inside};
use crate::error::Failure;
use crate::mount::{bind, set_attributes};
use crate::plan::{Plan, Step};
use crate::resolve::{self, Kind};
use crate::spec::Network;
use crate::{net, sys};

/// What pid 1 works with. All of it belongs to the supervisor, whose memory pid 1 borrows.
pub(super) struct Start<'a> {
    pub(super) plan: &'a Plan,
    pub(super) sources: &'a Sources,
    /// The root file system, attached nowhere yet.
    pub(super) root: BorrowedFd<'a>,
    pub(super) stdio: &'a [OwnedFd; 3],
    /// Where a process enters its control groups.
    pub(super) cgroups: &'a [OwnedFd],
    /// Closed once the supervisor is gone.
    pub(super) lifeline: BorrowedFd<'a>,
    /// Where the terminal is sent to, if there is to be one.
    pub(super) terminal: Option<BorrowedFd<'a>>,
    /// Set when nothing is left to prepare.
    pub(super) ready: &'a Cell<bool>,
}

/// Becomes the process, or tells why not.
pub(super) fn run(inside: &Start<'_>) -> Failure {
    match prepare(inside) {
        Ok(terminal) => {
            let stdio = terminal.as_ref().unwrap_or(inside.stdio);
            process::become_process(inside.plan, stdio, inside.lifeline, inside.ready)
        }
        Err(failure) => failure,
    }
}

/// Asks to be killed when the supervisor dies, and ends if it already has.
pub(super) fn bind_to_supervisor(supervisor: BorrowedFd<'_>) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| Failure::step("bind the sandbox to its supervisor", error))?;
    if supervisor::is_closed(supervisor) {
        sys::exit_now(1);
    }
    Ok(())
}

fn prepare(inside: &Start<'_>) -> Result<Option<[OwnedFd; 3]>, Failure> {
    bind_to_supervisor(inside.lifeline)?;
    if !inside.cgroups.is_empty() {
        // The root of a control group namespace is the group one is in when it is made.
        supervisor::enter_cgroups(inside.cgroups).map_err(|error| Failure::step("enter the control group", error))?;
        sys::unshare(UnshareFlags::NEWCGROUP)
            .map_err(|error| Failure::step("make a control group namespace", error))?;
    }
    if let Some(network) = &inside.sources.network {
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| Failure::step("join the network", error))?;
    }
    attach_over_root(inside.root).map_err(|error| Failure::step("attach the root file system", error))?;
    let mounter = mounts::Mounter::new(inside.root, !inside.plan.root.devices);
    let mut terminal = None;
    for (step, source) in inside.plan.steps.iter().zip(&inside.sources.steps) {
        match step {
            Step::Terminal => {
                let to = inside.terminal.expect("the supervisor listens if there is to be a terminal");
                terminal = Some(make_terminal(to, Console::Mount)?);
            }
            Step::Mount(mount) if is_template_sysfs(&mount.mount, &inside.plan.network) => mounter.sysfs()?,
            Step::Mount(mount) => mounter.mount(mount, source.as_ref())?,
            Step::Device(device) => mounter.device(device, source.as_ref())?,
            Step::Dev { .. } => mounter.dev(&inside.sources.devices)?,
            other => carry_out(other, &mounter)?,
        }
    }
    Ok(terminal)
}

/// Whether the supervisor's template has what is wanted.
fn is_template_sysfs(wanted: &Mount, network: &Network) -> bool {
    wanted.kind == MountKind::Sysfs && wanted.read_only && *network == Network::Host
}

/// Puts a detached mount on top of `/`. Absolute paths are not affected: they start at this process's root, which is
/// beneath it.
pub(super) fn attach_over_root(mount: BorrowedFd<'_>) -> rustix::io::Result<()> {
    move_mount(mount, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn carry_out(step: &Step, mounter: &mounts::Mounter<'_>) -> Result<(), Failure> {
    match step {
        Step::Hostname(name) => {
            rustix::system::sethostname(name.as_bytes()).map_err(|error| Failure::step("set the host name", error))
        }
        Step::Loopback => net::loopback_up().map_err(|error| Failure::step("bring loopback up", error)),
        Step::Cgroup { v1, read_only } => mounter.cgroup(v1, *read_only),
        Step::Names(files) => mounter.names(files),
        Step::Files(files) => mounter.files(files),
        Step::Mask(path) => mounter.mask(path),
        Step::ReadOnly(path) => mounter.read_only(path),
        Step::Pivot => pivot(mounter.root()).map_err(|error| Failure::step("change the root", error)),
        Step::ReadOnlyRoot => set_attributes(mounter.root(), MountAttrFlags::MOUNT_ATTR_RDONLY, false)
            .map_err(|error| Failure::step("make the root file system read-only", error)),
        Step::WorkingDirectory(path) => resolve::open_or_create(mounter.root(), path, Kind::Directory, &mut Vec::new())
            .map(drop)
            .map_err(|error| Failure::step(format!("create working directory `{}`", path.display()), error)),
        Step::Mount(_) | Step::Device(_) | Step::Dev { .. } | Step::Terminal => Ok(()),
    }
}

/// `pivot_root(".", ".")` stacks the old root on the new one, from where it is dropped with everything on it.
fn pivot(root: BorrowedFd<'_>) -> rustix::io::Result<()> {
    fchdir(root)?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")
}

/// Whether `/dev/console` is to be the new terminal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Console {
    /// Yes: it is pid 1's.
    Mount,
    /// No.
    Leave,
}

/// Makes a terminal and sends its outer side away. It comes from the sandbox's own `devpts`, so that its name means the
/// same inside.
pub(super) fn make_terminal(supervisor: BorrowedFd<'_>, console: Console) -> Result<[OwnedFd; 3], Failure> {
    let make = || -> io::Result<[OwnedFd; 3]> {
        let open = |path, flags| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o600));
        let outer = open("/dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY)?;
        unlockpt(&outer)?;
        let inner = ioctl_tiocgptpeer(&outer, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        if console == Console::Mount {
            drop(open("/dev/console", OFlags::WRONLY | OFlags::CREATE)?);
            let place = open("/dev/console", OFlags::PATH)?;
            mounts::attach(bind(inner.as_fd(), false)?.as_fd(), place.as_fd())?;
        }
        channel::send(supervisor, &Inside::Terminal, &[outer.as_fd()])?;
        Ok([inner.try_clone()?, inner.try_clone()?, inner])
    };
    make().map_err(|error| Failure::step("make a terminal", error))
}
