//! What has to be done, in which order, to make a sandbox?
//!
//! A pure function of a [`SandboxSpec`] and a [`Host`]. The [`Plan`] is plain data: it is shown by tests, written to a
//! file descriptor, and carried out by `__init` without further decisions. Two processes share the work:
//!
//! | who | does | because |
//! |---|---|---|
//! | supervisor, outside | control group, mountpoint stubs, the root overlay | it outlives pid 1 and can undo them |
//! | pid 1, inside | [`Plan::steps`] in order, then the process | only the inside can make its own mounts |

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use rbuild_core::{Lower, Mount, MountKind};
use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::spec::{
    Durability, Limits, Network, Privileges, Process, SandboxDevice, SandboxFile, SandboxMount, SandboxSpec,
};

/// Docker's fourteen default capabilities, as a bit set.
pub(crate) const DEFAULT_CAPABILITIES: u64 = 0xa804_25fb;

/// Docker's `/dev/shm`.
const SHM_SIZE: u64 = 64 << 20;

/// What tells about the host or could change it. Missing ones are skipped.
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// What may be read but not written. Missing ones are skipped.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Devices every process expects.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Devices of a privileged sandbox, as far as the host has them.
const MORE_DEVICES: [&str; 15] = [
    "kmsg",
    "fuse",
    "cuse",
    "kvm",
    "net/tun",
    "vhost-net",
    "loop-control",
    "loop0",
    "loop1",
    "loop2",
    "loop3",
    "loop4",
    "loop5",
    "loop6",
    "loop7",
];

/// Everything `__init` has to know.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Plan {
    /// Limits to be enforced by a control group; none is made without.
    pub cgroup: Option<Limits>,
    /// The root file system.
    pub root: RootPlan,
    /// The network namespace.
    pub network: Network,
    /// What pid 1 does before it becomes the process.
    pub steps: Vec<Step>,
    /// The process.
    pub process: Process,
    /// Resource limits: name, soft, hard.
    pub rlimits: Vec<(String, u64, u64)>,
    /// The process's capabilities if it is root's, and the most that any process in the sandbox can have; all if absent.
    pub capabilities: Option<u64>,
    /// Whether Docker's default system call filter is installed.
    pub filter: bool,
}

/// How the root file system is made.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RootPlan {
    /// The mount, stubs included.
    pub kind: MountKind,
    /// Whether syncing is skipped.
    pub volatile: bool,
    /// Where mountpoints are made before the root is mounted.
    pub stubs: Option<PathBuf>,
    /// Which mountpoints the root must have.
    pub mountpoints: Vec<Mountpoint>,
    /// Whether device nodes in it can be opened.
    pub devices: bool,
}

/// A path that must exist before something is mounted on it.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Mountpoint {
    /// Absolute and clean.
    pub path: PathBuf,
    /// What it must be.
    pub kind: MountpointKind,
}

/// What a mountpoint must be.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum MountpointKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// The same as this host path, below which the second path is looked up.
    Like(PathBuf, PathBuf),
    /// The same as a path below these layers, topmost first, seen as one tree.
    LikeLayers(Vec<Lower>, PathBuf),
}

/// One thing pid 1 does.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Step {
    /// Names the UTS namespace.
    Hostname(String),
    /// Brings loopback up.
    Loopback,
    /// Mounts something at its target, which is created if it is missing.
    Mount(SandboxMount),
    /// Binds a device of the host, which can be opened there as on the host.
    Device(SandboxDevice),
    /// Makes `/dev`: a small tmpfs, the host's devices bound into it, links, `pts`, `shm`, `mqueue`.
    Dev {
        /// Size of `/dev/shm`.
        shm_size: u64,
        /// Paths below `/dev` that must be there.
        devices: Vec<String>,
        /// Paths below `/dev` that are bound if the host has them.
        optional: Vec<String>,
        /// Whether group 5, which owns terminals, exists in the user namespace.
        tty_group: bool,
    },
    /// Shows the sandbox's own control group at `/sys/fs/cgroup`.
    Cgroup {
        /// Version 1 hierarchies: controllers and the host's mount point. The unified hierarchy if empty.
        v1: Vec<(String, PathBuf)>,
        /// Whether it can be written to.
        read_only: bool,
    },
    /// Mounts the files that name hosts, at most one each: in many sandboxes the same.
    Names(Vec<SandboxFile>),
    /// Mounts files that exist in memory only.
    Files(Vec<SandboxFile>),
    /// Hides a path, if it exists, behind `/dev/null` or an empty directory.
    Mask(PathBuf),
    /// Makes a path, if it exists, read-only.
    ReadOnly(PathBuf),
    /// Makes the new root `/` and forgets the old.
    Pivot,
    /// Makes the root file system itself read-only.
    ReadOnlyRoot,
    /// Makes a terminal in the sandbox's own `devpts` and mounts it at `/dev/console`.
    Terminal,
    /// Creates the working directory if it is missing.
    WorkingDirectory(PathBuf),
}

/// Why there is no plan for a [`SandboxSpec`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// Nothing to run.
    #[error("there is no command to run")]
    NoCommand,
    /// A path is relative, or has a `..` or a NUL in it.
    #[error("`{0}` is not an absolute path without `..`")]
    Path(PathBuf),
    /// Something is mounted over the root.
    #[error("nothing can be mounted on `/`")]
    OverRoot,
    /// The root is not a tree of files.
    #[error("{0} cannot be a root file system")]
    Root(String),
    /// An argument, a variable or the host name has a NUL in it, a variable's name is empty or has a `=`.
    #[error("`{0}` cannot be passed to a process")]
    Text(String),
    /// The host has no control group hierarchy that could enforce a limit.
    #[error("cannot limit {0}: this host has no control group for it")]
    Limit(&'static str),
    /// An unknown resource name.
    #[error("`{0}` is not a resource limit")]
    Rlimit(String),
}

impl Plan {
    /// What the root must have to be mounted upon, sorted. A directory of stubs serves any plan with the same list.
    pub fn mountpoints(&self) -> &[Mountpoint] {
        &self.root.mountpoints
    }
}

impl SandboxSpec {
    /// Decides everything that can be decided without touching the system.
    ///
    /// # Errors
    /// If the request is contradictory, or asks for a limit that `host` cannot enforce.
    pub fn plan(&self, host: &Host) -> Result<Plan, PlanError> {
        check_process(&self.process)?;
        check_text(&self.hostname)?;
        self.check_limits(host)?;
        let confined = self.privileges == Privileges::Default;
        let steps = self.steps(host, confined)?;
        Ok(Plan {
            cgroup: self.limits.needs_cgroup().then(|| self.limits.clone()),
            root: self.root(&steps, confined)?,
            network: self.network.clone(),
            steps,
            process: self.process.clone(),
            rlimits: self.limits.rlimits.clone(),
            capabilities: confined.then_some(DEFAULT_CAPABILITIES),
            filter: confined,
        })
    }

    fn root(&self, steps: &[Step], confined: bool) -> Result<RootPlan, PlanError> {
        let mut kind = self.root.clone();
        match &mut kind {
            MountKind::Overlay { lower, .. } => lower.extend(self.stubs.clone().map(Lower::Directory)),
            MountKind::Bind { .. } => {}
            other => return Err(PlanError::Root(format!("{other:?}"))),
        }
        let stubs = self.stubs.clone().filter(|_| matches!(kind, MountKind::Overlay { .. }));
        let volatile = self.durability == Durability::Volatile;
        Ok(RootPlan { kind, volatile, stubs, mountpoints: mountpoints(steps), devices: !confined })
    }

    fn steps(&self, host: &Host, confined: bool) -> Result<Vec<Step>, PlanError> {
        let mut steps = vec![Step::Hostname(self.hostname.clone())];
        if self.network == Network::None {
            steps.push(Step::Loopback);
        }
        let kernel = |target: &str, kind, read_only| {
            Step::Mount(Mount { target: PathBuf::from(target), kind, read_only }.into())
        };
        steps.push(kernel("/proc", MountKind::Proc, false));
        // sysfs shows a network namespace, so only the owner of that may mount it; others borrow the host's.
        let sysfs = if host.user_namespace && self.network != Network::None {
            MountKind::Bind { source: PathBuf::from("/sys"), recursive: true }
        } else {
            MountKind::Sysfs
        };
        steps.push(kernel("/sys", sysfs, confined));
        steps.extend(self.cgroup_view(host, confined));
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        steps.push(Step::Dev {
            shm_size: self.shm_size.unwrap_or(SHM_SIZE),
            devices: names(&DEVICES),
            optional: if confined { Vec::new() } else { names(&MORE_DEVICES) },
            tty_group: !host.user_namespace || host.mapped_ids > 5,
        });
        steps.push(Step::Names(self.etc_files()));
        // Before the caller's own mounts: a mask must not cover what was asked for.
        if confined {
            steps.extend(MASKED.iter().map(|path| Step::Mask(PathBuf::from(path))));
            steps.extend(READ_ONLY.iter().map(|path| Step::ReadOnly(PathBuf::from(path))));
        }
        for mount in &self.mounts {
            let mut mount = mount.clone();
            mount.mount.target = clean(&mount.mount.target)?;
            steps.push(Step::Mount(mount));
        }
        for device in &self.devices {
            steps.push(Step::Device(SandboxDevice { target: clean(&device.target)?, ..device.clone() }));
        }
        if !self.files.is_empty() {
            let clean_file = |file: &SandboxFile| Ok(SandboxFile { target: clean(&file.target)?, ..file.clone() });
            steps.push(Step::Files(self.files.iter().map(clean_file).collect::<Result<_, _>>()?));
        }
        steps.push(Step::Pivot);
        if self.process.terminal {
            steps.push(Step::Terminal);
        }
        let cwd = self.process.cwd.as_path();
        if !matches!(cwd.to_str(), Some("" | "/")) {
            steps.push(Step::WorkingDirectory(clean(cwd)?));
        }
        if self.root_read_only {
            steps.push(Step::ReadOnlyRoot);
        }
        Ok(steps)
    }

    /// On version 1 hosts the view costs a mount for each of a dozen hierarchies, and says nothing unless there are
    /// limits.
    fn cgroup_view(&self, host: &Host, confined: bool) -> Option<Step> {
        let unified = host.cgroup.v1.is_empty() && host.cgroup.v2.is_some();
        if unified {
            return Some(Step::Cgroup { v1: Vec::new(), read_only: confined });
        }
        let wanted = !host.cgroup.v1.is_empty() && (self.limits.needs_cgroup() || !confined);
        wanted.then(|| Step::Cgroup { v1: host.cgroup.v1.clone(), read_only: confined })
    }

    fn etc_files(&self) -> Vec<SandboxFile> {
        let file = |target: &str, content: String| SandboxFile {
            target: PathBuf::from(target),
            content: content.into_bytes(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            read_only: self.etc_read_only,
        };
        let mut hosts = format!("127.0.0.1\tlocalhost {}\n::1\tlocalhost ip6-localhost ip6-loopback\n", self.hostname);
        for (name, address) in &self.hosts {
            hosts.push_str(&format!("{address}\t{name}\n"));
        }
        let mut files = vec![file("/etc/hosts", hosts), file("/etc/hostname", format!("{}\n", self.hostname))];
        files.extend(self.resolv_conf.as_ref().map(|content| file("/etc/resolv.conf", content.clone())));
        files
    }

    fn check_limits(&self, host: &Host) -> Result<(), PlanError> {
        for (name, ..) in &self.limits.rlimits {
            if crate::rlimit::resource(name).is_none() {
                return Err(PlanError::Rlimit(name.clone()));
            }
        }
        let limits = &self.limits;
        for (wanted, controller, what) in [
            (limits.memory.is_some() || limits.memory_swap.is_some(), "memory", "memory"),
            (limits.pids.is_some(), "pids", "processes"),
            (limits.milli_cpus.is_some() || limits.cpu_shares.is_some(), "cpu", "processor time"),
            (limits.cpuset.is_some(), "cpuset", "processors"),
        ] {
            let layout = &host.cgroup;
            let possible = layout.v1_hierarchy(controller).is_some() || (layout.v1.is_empty() && layout.v2.is_some());
            if wanted && !possible {
                return Err(PlanError::Limit(what));
            }
        }
        Ok(())
    }
}

/// What must exist in the root itself; what lies below another mount is that mount's business.
fn mountpoints(steps: &[Step]) -> Vec<Mountpoint> {
    let virtual_roots = ["/proc", "/sys", "/dev"];
    let inside = |path: &Path| virtual_roots.iter().any(|root| path != Path::new(root) && path.starts_with(root));
    let mut found = BTreeSet::new();
    let mut add = |path: &Path, kind| {
        if !inside(path) {
            found.insert(Mountpoint { path: path.to_owned(), kind });
        }
    };
    for step in steps {
        match step {
            Step::Mount(SandboxMount { mount, subpath }) => {
                let kind = match &mount.kind {
                    MountKind::Bind { source, .. } if source == Path::new("/sys") => MountpointKind::Directory,
                    MountKind::Bind { source, .. } => MountpointKind::Like(source.clone(), subpath.clone()),
                    MountKind::Overlay { lower, .. } if !subpath.as_os_str().is_empty() => {
                        MountpointKind::LikeLayers(lower.clone(), subpath.clone())
                    }
                    _ => MountpointKind::Directory,
                };
                add(&mount.target, kind);
            }
            Step::Device(device) => add(&device.target, MountpointKind::File),
            Step::Dev { .. } => add(Path::new("/dev"), MountpointKind::Directory),
            Step::Names(files) | Step::Files(files) => {
                for file in files {
                    add(&file.target, MountpointKind::File);
                }
            }
            _ => {}
        }
    }
    found.into_iter().collect()
}

/// An absolute path without `.`, doubled or trailing slashes.
fn clean(path: &Path) -> Result<PathBuf, PlanError> {
    let error = || PlanError::Path(path.to_owned());
    if !path.is_absolute() || path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(error());
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(error());
    }
    let cleaned: PathBuf = path.components().collect();
    if cleaned == Path::new("/") { Err(PlanError::OverRoot) } else { Ok(cleaned) }
}

/// Refuses what `execve` could not take, so that the error names it.
pub(crate) fn check_process(process: &Process) -> Result<(), PlanError> {
    let Some(command) = process.args.first() else { return Err(PlanError::NoCommand) };
    if command.is_empty() {
        return Err(PlanError::NoCommand);
    }
    process.args.iter().try_for_each(|text| check_text(text))?;
    for (name, value) in &process.env {
        check_text(name)?;
        // A value may be a secret: only its name is told.
        check_text(value).map_err(|_| PlanError::Text(name.clone()))?;
        if name.is_empty() || name.contains('=') {
            return Err(PlanError::Text(name.clone()));
        }
    }
    Ok(())
}

fn check_text(text: &str) -> Result<(), PlanError> {
    if text.contains('\0') { Err(PlanError::Text(text.replace('\0', "\\0"))) } else { Ok(()) }
}
