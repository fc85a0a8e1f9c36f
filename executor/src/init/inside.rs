//! What does pid 1 do before it becomes the process?
//!
//! It carries out the plan's steps, in order, then takes on the process's identity and executes it. Whatever fails is
//! sent to the supervisor with the name of the step.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_change, move_mount, unmount,
};
use rustix::process::{Signal, fchdir, pivot_root, set_parent_process_death_signal};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::{Descriptors, devices, mounts, process, supervisor};
use crate::channel::{self, Inside};
use crate::error::Failure;
use crate::mount::{bind, set_attributes};
use crate::plan::{Plan, Step};
use crate::resolve::{self, Kind};
use crate::spec::Network;
use crate::{net, sys};

/// Becomes the process, or reports why not.
pub(super) fn run(plan: &Plan, root: &OwnedFd, supervisor: OwnedFd, descriptors: Descriptors) -> ! {
    let failure = match prepare(plan, root, &supervisor) {
        Ok(terminal) => {
            let stdio = terminal.unwrap_or(descriptors.stdio);
            process::become_process(plan, &stdio, supervisor.as_fd())
        }
        Err(failure) => failure,
    };
    drop(channel::send(&supervisor, &Inside::Failed(failure), &[]));
    sys::exit_now(1)
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

fn prepare(plan: &Plan, root: &OwnedFd, supervisor: &OwnedFd) -> Result<Option<[OwnedFd; 3]>, Failure> {
    bind_to_supervisor(supervisor.as_fd())?;
    // The go-ahead: this process is in its control group now, whose namespace can therefore be entered.
    match channel::receive::<()>(supervisor) {
        Ok(Some(_)) => {}
        _ => sys::exit_now(1),
    }
    sys::unshare(UnshareFlags::NEWCGROUP).map_err(|error| Failure::step("make a control group namespace", error))?;
    if let Network::Join(path) = &plan.network {
        let failed = |error| Failure::step(format!("join network `{}`", path.display()), error);
        let namespace = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).map_err(failed)?;
    }
    // Mounts made here must not spread to the host through shared propagation.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|error| Failure::step("make the mounts private", error))?;
    attach_over_root(root.as_fd()).map_err(|error| Failure::step("attach the root file system", error))?;
    let nodev = !plan.root.devices;
    let mut mounter = mounts::Mounter::new(root.as_fd(), nodev);
    let mut terminal = None;
    for step in &plan.steps {
        match step {
            Step::Terminal => terminal = Some(make_terminal(supervisor.as_fd(), Console::Mount)?),
            other => carry_out(other, &mut mounter)?,
        }
    }
    Ok(terminal)
}

/// Puts a detached mount on top of `/`. Absolute paths are not affected: they start at this process's root, which is
/// beneath it.
pub(super) fn attach_over_root(mount: BorrowedFd<'_>) -> rustix::io::Result<()> {
    move_mount(mount, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn carry_out(step: &Step, mounter: &mut mounts::Mounter<'_>) -> Result<(), Failure> {
    match step {
        Step::Hostname(name) => {
            rustix::system::sethostname(name.as_bytes()).map_err(|error| Failure::step("set the host name", error))
        }
        Step::Loopback => net::loopback_up().map_err(|error| Failure::step("bring loopback up", error)),
        Step::Mount(mount) => mounter.mount(mount),
        Step::Device(device) => mounter.device(device),
        Step::Dev { shm_size, devices, optional, tty_group } => {
            devices::make(mounter, *shm_size, devices, optional, *tty_group)
        }
        Step::Cgroup { v1, read_only } => mounter.cgroup(v1, *read_only),
        Step::Files(files) => mounter.files(files),
        Step::Mask(path) => mounter.mask(path),
        Step::ReadOnly(path) => mounter.read_only(path),
        Step::Pivot => pivot(mounter.root()).map_err(|error| Failure::step("change the root", error)),
        Step::ReadOnlyRoot => set_attributes(mounter.root(), MountAttrFlags::MOUNT_ATTR_RDONLY, false)
            .map_err(|error| Failure::step("make the root file system read-only", error)),
        Step::WorkingDirectory(path) => resolve::open_or_create(mounter.root(), path, Kind::Directory, &mut Vec::new())
            .map(drop)
            .map_err(|error| Failure::step(format!("create working directory `{}`", path.display()), error)),
        Step::Terminal => Ok(()),
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
