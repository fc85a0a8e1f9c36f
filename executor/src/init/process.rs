//! How does pid 1 become the user's process?
//!
//! The order is forced: limits while still privileged; the filter while there is `CAP_SYS_ADMIN`, since without
//! `no_new_privs` (which would break `sudo`) only that may install one; the bounding set while there is `CAP_SETPCAP`;
//! groups, then user; capabilities last.

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, fchown, fstat};
use rustix::process::{Gid, Rlimit, Uid, ioctl_tiocsctty, prlimit, setsid, umask};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::inside::bind_to_supervisor;
use crate::error::Failure;
use crate::plan::Plan;
use crate::spec::Process;
use crate::user::{Identity, identify};
use crate::{rlimit, seccomp, sys};

/// What execvp uses when there is no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How a process is confined.
pub(super) struct Confinement<'a> {
    pub(super) process: &'a Process,
    pub(super) rlimits: &'a [(String, u64, u64)],
    pub(super) capabilities: Option<u64>,
    pub(super) filter: bool,
    /// Set when all that is left to do is to execute the command.
    pub(super) ready: &'a Cell<bool>,
}

pub(super) fn become_process(
    plan: &Plan,
    stdio: &[OwnedFd; 3],
    supervisor: BorrowedFd<'_>,
    ready: &Cell<bool>,
) -> Failure {
    let confinement = Confinement {
        process: &plan.process,
        rlimits: &plan.rlimits,
        capabilities: plan.capabilities,
        filter: plan.filter,
        ready,
    };
    match execute(&confinement, stdio, supervisor) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

/// Executes the process in the current namespaces, whose root is `/` already.
pub(super) fn execute(
    confinement: &Confinement<'_>,
    stdio: &[OwnedFd; 3],
    supervisor: BorrowedFd<'_>,
) -> Result<std::convert::Infallible, Failure> {
    let step = |what: &str| {
        let what = what.to_owned();
        move |error: rustix::io::Errno| Failure::step(what, error)
    };
    let process = confinement.process;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(step("open `/`"))?;
    let identity = identify(root.as_fd(), &process.user, &process.groups)?;
    let strings = Strings::new(process, &identity);

    setsid().map_err(step("start a session"))?;
    if process.terminal {
        ioctl_tiocsctty(&stdio[0]).map_err(step("take the terminal"))?;
    }
    let own = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    for (number, descriptor) in (0..).zip(stdio) {
        give(descriptor, own, process.terminal);
        sys::install_stdio(descriptor.as_fd(), number).map_err(|error| Failure::step("pass on stdio", error))?;
    }
    sys::close_on_exec_from(3).map_err(|error| Failure::step("close descriptors", error))?;
    for (name, soft, hard) in confinement.rlimits {
        let limit = Rlimit { current: Some(*soft), maximum: Some(*hard) };
        let resource = rlimit::resource(name).expect("the plan checked the name");
        prlimit(None, resource, limit).map_err(step(&format!("limit `{name}`")))?;
    }
    umask(Mode::from_raw_mode(0o022));
    let cwd = if process.cwd.as_os_str().is_empty() { "/".as_ref() } else { process.cwd.as_path() };
    rustix::process::chdir(cwd).map_err(step(&format!("enter working directory `{}`", cwd.display())))?;
    // Built before the filter is in place: then nothing but the calls below has to be allowed.
    if confinement.filter {
        match sys::install_filter(&seccomp::default_filter()) {
            Err(error) if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => {
                return Err(Failure::step("install the system call filter", error));
            }
            // A kernel without filters: Docker runs without, too.
            _ => {}
        }
    }
    confine(confinement.capabilities).map_err(step("give up capabilities"))?;
    become_user(&identity)?;
    if identity.uid == 0 {
        keep(confinement.capabilities).map_err(step("give up capabilities"))?;
    }
    // A change of user makes the kernel forget the parent-death signal.
    bind_to_supervisor(supervisor)?;
    confinement.ready.set(true);
    Err(strings.execute())
}

/// Standard streams that are pipes or the sandbox's terminal belong to the process, which may want to open them again
/// by name (`/dev/stdout`). Others are somebody else's.
fn give(descriptor: &OwnedFd, (uid, gid): (Uid, Gid), terminal: bool) {
    let pipe = fstat(descriptor).is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Fifo);
    if terminal {
        // Group `tty`, as the mount options say.
        let _ = fchown(descriptor, Some(uid), None);
    } else if pipe {
        let _ = fchown(descriptor, Some(uid), Some(gid));
    }
}

fn become_user(identity: &Identity) -> Result<(), Failure> {
    let groups: Vec<Gid> = identity.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    match set_thread_groups(&groups) {
        // With a single mapped id there are no other groups, and the kernel forbids the call.
        Err(rustix::io::Errno::PERM) if single_id() => {}
        Err(error) => return Err(Failure::step("set the groups", error)),
        Ok(()) => {}
    }
    let gid = Gid::from_raw(identity.gid);
    set_thread_res_gid(gid, gid, gid)
        .map_err(|error| Failure::step(format!("become group {} (is it mapped?)", identity.gid), error))?;
    let uid = Uid::from_raw(identity.uid);
    set_thread_res_uid(uid, uid, uid)
        .map_err(|error| Failure::step(format!("become user {} (is it mapped?)", identity.uid), error))
}

fn single_id() -> bool {
    // From the process's point of view: /proc is the sandbox's own by now.
    std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny")
}

/// Drops everything else from the bounding set, for good.
fn confine(wanted: Option<u64>) -> rustix::io::Result<()> {
    clear_ambient_capability_set()?;
    let Some(wanted) = wanted else { return Ok(()) };
    for bit in (0..64).filter(|bit| wanted & (1 << bit) == 0) {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            // The kernel knows no capability of this number, nor any of a higher one.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Keeps only the wanted capabilities, and only those that are there.
fn keep(wanted: Option<u64>) -> rustix::io::Result<()> {
    let Some(wanted) = wanted else { return Ok(()) };
    let wanted = capabilities(None)?.permitted & CapabilitySet::from_bits_retain(wanted);
    let sets = CapabilitySets { effective: wanted, permitted: wanted, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets)
}

/// Arguments and environment in the form the kernel takes them.
struct Strings {
    command: String,
    path: String,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Strings {
    fn new(process: &Process, identity: &Identity) -> Self {
        let c_string = |text: String| CString::new(text).expect("the plan refused NULs");
        let mut env: Vec<(&str, &str)> = Vec::new();
        for (name, value) in &process.env {
            match env.iter_mut().find(|(other, _)| other == name) {
                Some(earlier) => earlier.1 = value,
                None => env.push((name, value)),
            }
        }
        if !env.iter().any(|(name, value)| *name == "HOME" && !value.is_empty()) {
            env.retain(|(name, _)| *name != "HOME");
            env.push(("HOME", &identity.home));
        }
        let path = env.iter().find(|(name, _)| *name == "PATH").map_or(DEFAULT_PATH, |(_, value)| value);
        Self {
            command: process.args[0].clone(),
            path: path.to_owned(),
            args: process.args.iter().cloned().map(c_string).collect(),
            env: env.iter().map(|(name, value)| c_string(format!("{name}={value}"))).collect(),
        }
    }

    /// Like execvp: the first hit in `PATH` that can be executed; failing that, the reason why one could not.
    fn execute(&self) -> Failure {
        if self.command.contains('/') {
            return match self.execute_one(&self.args[0]) {
                error if error.raw_os_error() == Some(libc::ENOENT) && !exists(&self.args[0]) => {
                    Failure::CommandNotFound(self.command.clone())
                }
                error => self.not_executable(&self.command, &error),
            };
        }
        let mut refused = None;
        for directory in self.path.split(':') {
            let directory = if directory.is_empty() { "." } else { directory };
            let file = format!("{directory}/{}", self.command);
            let path = CString::new(file.clone()).expect("the plan refused NULs");
            if !is_file(&path) {
                continue;
            }
            let error = self.execute_one(&path);
            refused.get_or_insert_with(|| self.not_executable(&file, &error));
        }
        refused.unwrap_or_else(|| Failure::CommandNotFound(self.command.clone()))
    }

    fn execute_one(&self, path: &CStr) -> io::Error {
        sys::execve(path, &self.args, &self.env)
    }

    fn not_executable(&self, path: &str, error: &io::Error) -> Failure {
        Failure::NotExecutable { command: path.to_owned(), errno: error.raw_os_error().unwrap_or(libc::EIO) }
    }
}

fn exists(path: &CStr) -> bool {
    rustix::fs::statat(CWD, path, rustix::fs::AtFlags::empty()).is_ok()
}

fn is_file(path: &CStr) -> bool {
    let found = rustix::fs::statat(CWD, path, rustix::fs::AtFlags::empty());
    found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) != FileType::Directory)
}
