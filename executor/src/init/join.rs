//! How does a second process get into a running sandbox?
//!
//! A supervisor of its own joins the namespaces of pid 1 by its descriptor and forks: the pid namespace takes effect for
//! children only. The child is confined like pid 1. It dies with the sandbox, whose pid namespace it is in, and with
//! whoever asked for it.

use std::cell::Cell;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::{fs, io};

use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::{Descriptors, inside, process, supervisor};
use crate::channel::{self, Inside, Join, Report};
use crate::error::Failure;
use crate::exit::Exit;
use crate::host::Host;
use crate::resolve::{self, Kind};
use crate::sys;

/// Runs the process and stays until it has ended.
pub(super) fn join(request: Join, descriptors: Descriptors) -> io::Result<()> {
    let report = match enter(request, descriptors) {
        Ok(exit) => Report::Exited(exit),
        Err(failure) => Report::Failed(failure),
    };
    channel::send(rustix::stdio::stdin(), &report, &[])
}

fn enter(request: Join, mut descriptors: Descriptors) -> Result<Exit, Failure> {
    let gone = |error| Failure::step("join the sandbox", error);
    let target = descriptors.target.take().ok_or_else(|| gone(rustix::io::Errno::SRCH))?;
    share_limits(&target);
    let spaces = different_namespaces(&target).ok_or_else(|| gone(rustix::io::Errno::SRCH))?;
    move_into_thread_name_spaces(target.as_fd(), spaces).map_err(gone)?;
    let failed = |error| Failure::step("make a socket", error);
    let (ours, theirs) = channel::pair().map_err(failed)?;
    let child = sys::clone_into(0).map_err(|error| Failure::step("make a process", error))?;
    let Some((pid, process)) = child else {
        drop((ours, target));
        let failure = become_process(&request, theirs.as_fd(), descriptors);
        drop(channel::send(&theirs, &Inside::Failed(failure), &[]));
        sys::exit_now(1)
    };
    drop((theirs, descriptors, target));
    supervisor::oversee_joined(pid, &process, &ours)
}

fn become_process(request: &Join, supervisor: BorrowedFd<'_>, descriptors: Descriptors) -> Failure {
    let prepare = || -> Result<[OwnedFd; 3], Failure> {
        inside::bind_to_supervisor(supervisor)?;
        match channel::receive::<()>(supervisor) {
            Ok(Some(_)) => {}
            _ => sys::exit_now(1),
        }
        let cwd = &request.process.cwd;
        if cwd.is_absolute() {
            let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                .map_err(|error| Failure::step("open `/`", error))?;
            resolve::open_or_create(root.as_fd(), cwd, Kind::Directory, &mut Vec::new())
                .map_err(|error| Failure::step(format!("create working directory `{}`", cwd.display()), error))?;
        }
        match request.process.terminal {
            true => inside::make_terminal(supervisor, inside::Console::Leave),
            false => Ok(descriptors.stdio),
        }
    };
    let confinement = process::Confinement {
        process: &request.process,
        rlimits: &[],
        capabilities: request.capabilities,
        filter: request.filter,
        ready: &Cell::new(false),
    };
    match prepare().and_then(|stdio| process::execute(&confinement, &stdio, supervisor)) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

/// Those that are not shared already: an ordinary user may not even join the host's network, in which he is.
fn different_namespaces(target: &OwnedFd) -> Option<ThreadNameSpaceType> {
    let pid = pid_of(target)?.as_raw_nonzero();
    let mut spaces = ThreadNameSpaceType::empty();
    for (name, space) in [
        ("mnt", ThreadNameSpaceType::MOUNT),
        ("pid", ThreadNameSpaceType::PROCESS_ID),
        ("uts", ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME),
        ("ipc", ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION),
        ("cgroup", ThreadNameSpaceType::CONTROL_GROUP),
        ("net", ThreadNameSpaceType::NETWORK),
    ] {
        let theirs = fs::read_link(format!("/proc/{pid}/ns/{name}")).ok()?;
        if fs::read_link(format!("/proc/self/ns/{name}")).ok()? != theirs {
            spaces |= space;
        }
    }
    Some(spaces)
}

/// Moves this process into the control groups of the sandbox, so that its limits hold for both. A sandbox without limits
/// is in the groups of whoever started it, which this process may not be allowed to enter, and need not.
fn share_limits(target: &OwnedFd) {
    let layout = Host::probe().cgroup;
    let Some(pid) = pid_of(target) else { return };
    let Ok(groups) = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())) else { return };
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        if !group.rsplit('/').next().is_some_and(|name| name.starts_with(crate::cgroup::PREFIX)) {
            continue;
        }
        let first = controllers.split(',').next().unwrap_or_default();
        let hierarchy = if first.is_empty() { layout.v2.as_deref() } else { layout.v1_hierarchy(first) };
        if let Some(hierarchy) = hierarchy {
            let path = hierarchy.join(group.trim_start_matches('/')).join("cgroup.procs");
            drop(fs::write(path, std::process::id().to_string()));
        }
    }
}

fn pid_of(process: &OwnedFd) -> Option<Pid> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd())).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    Pid::from_raw(line.trim().parse().ok()?)
}
