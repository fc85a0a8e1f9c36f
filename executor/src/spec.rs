//! What is asked of a sandbox?
//!
//! Plain data, written by `engine`. Nothing here is checked or carried out: [`SandboxSpec::plan`] does the one,
//! [`crate::Sandbox::start`] the other.

use std::fmt;
use std::path::PathBuf;

use rbuild_core::{Mount, MountKind};
use serde::{Deserialize, Serialize};

/// A root file system, what is mounted into it, and the process that runs there.
///
/// `/proc`, `/sys`, `/dev`, the control group, `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` are added by
/// [`SandboxSpec::plan`]; `mounts` and `files` come after them, in order, and may cover them.
#[derive(Clone, Debug)]
pub struct SandboxSpec {
    /// What becomes `/`. Its target must be `/`; its kind an overlay, or a bind of a directory that is already mounted
    /// or merged.
    pub root: MountKind,
    /// Whether the root file system is read-only.
    pub root_read_only: bool,
    /// A directory on the file system of the layers (overlay renumbers inodes when they differ), which becomes the
    /// lowest layer and holds the mountpoints, so that none of them ever appears in the upper directory. Mountpoints
    /// are added to it and never removed: sandboxes with the same [`crate::Plan::mountpoints`] may share one, also at
    /// the same time, and with a shared one that is already filled a sandbox starts without creating any file on disk.
    /// Only needed when `root` is an overlay; the caller owns it.
    pub stubs: Option<PathBuf>,
    /// What is mounted besides the root, in order.
    pub mounts: Vec<SandboxMount>,
    /// Small files that exist only in memory and only in this sandbox: secrets, heredocs.
    pub files: Vec<SandboxFile>,
    /// Devices of the host besides the usual ones. What the host allows its owner and mode say.
    pub devices: Vec<SandboxDevice>,
    /// What runs.
    pub process: Process,
    /// Which network it sees.
    pub network: Network,
    /// How much it may use.
    pub limits: Limits,
    /// How much it may do.
    pub privileges: Privileges,
    /// The host name in the sandbox's own UTS namespace.
    pub hostname: String,
    /// Lines added to `/etc/hosts`: name, then address.
    pub hosts: Vec<(String, String)>,
    /// Whether `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` are read-only, as they are for `RUN`.
    pub etc_read_only: bool,
    /// Content of `/etc/resolv.conf`, usually [`crate::net::resolv_conf`]; the image's own file stays if absent.
    pub resolv_conf: Option<String>,
    /// Size of `/dev/shm` in bytes; Docker's 64 MiB if absent.
    pub shm_size: Option<u64>,
    /// Whether the upper directory survives a crash of the machine. `Volatile` skips all syncing; the upper directory
    /// of an interrupted volatile run must be thrown away, which is what rbuild does with it anyway.
    pub durability: Durability,
}

impl SandboxSpec {
    /// A sandbox with Docker's defaults: no extra mounts, the host's network, default privileges, no limits.
    pub fn new(root: MountKind, process: Process) -> Self {
        Self {
            root,
            root_read_only: false,
            stubs: None,
            mounts: Vec::new(),
            files: Vec::new(),
            devices: Vec::new(),
            process,
            network: Network::Host,
            limits: Limits::default(),
            privileges: Privileges::Default,
            hostname: "buildkitsandbox".to_owned(),
            hosts: Vec::new(),
            etc_read_only: true,
            resolv_conf: None,
            shm_size: None,
            durability: Durability::Durable,
        }
    }
}

/// A mount, possibly of only a part of its source.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SandboxMount {
    /// What is mounted, and where.
    pub mount: Mount,
    /// Path below the source that is mounted instead of the whole; empty for the whole. Symlinks in it are resolved
    /// beneath the source, never outside: the source may be somebody else's image.
    pub subpath: PathBuf,
}

impl From<Mount> for SandboxMount {
    fn from(mount: Mount) -> Self {
        Self { mount, subpath: PathBuf::new() }
    }
}

/// A device node of the host that can be opened in the sandbox.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SandboxDevice {
    /// The node on the host.
    pub source: PathBuf,
    /// Absolute path in the sandbox.
    pub target: PathBuf,
}

/// A file in memory, mounted at `target`.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub struct SandboxFile {
    /// Absolute path in the sandbox.
    pub target: PathBuf,
    /// The bytes. Not shown by `Debug`: they may be a secret.
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Whether writes fail with `EROFS`.
    pub read_only: bool,
}

impl fmt::Debug for SandboxFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, content, mode, uid, gid, .. } = self;
        let (path, length) = (target.display(), content.len());
        write!(formatter, "SandboxFile({path}, {length} bytes, mode {mode:o}, owner {uid}:{gid})")
    }
}

/// The process that becomes pid 1 of the sandbox.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Process {
    /// The command line. A first word without `/` is looked up in the environment's `PATH`.
    pub args: Vec<String>,
    /// The environment, in order; the last of two equal names wins. `HOME` is added from `/etc/passwd` if absent.
    pub env: Vec<(String, String)>,
    /// Absolute working directory, created as root's with mode 0755 if it does not exist; `/` if empty.
    pub cwd: PathBuf,
    /// `user[:group]`, by name or number, looked up in the sandbox's own `/etc/passwd` and `/etc/group`; root if
    /// empty.
    pub user: String,
    /// Supplementary groups besides those of `/etc/group`, by name or number.
    pub groups: Vec<String>,
    /// Whether it gets a terminal of its own instead of the given stdio.
    pub terminal: bool,
}

/// What a sandbox sees of the network.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Network {
    /// The network of the process that starts it.
    #[default]
    Host,
    /// A namespace of its own in which only loopback is up.
    None,
    /// An existing namespace, such as [`crate::net::Namespace::path`] or `/run/netns/NAME`.
    Join(PathBuf),
}

/// Upper bounds. An absent one is not enforced; with all absent no control group is made.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Limits {
    /// Bytes of memory; the kernel kills when they are exceeded.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together; as `memory` allows if absent.
    pub memory_swap: Option<u64>,
    /// Number of processes and threads.
    pub pids: Option<u64>,
    /// Thousandths of a processor.
    pub milli_cpus: Option<u32>,
    /// Relative weight under contention, 1024 being normal, as `--cpu-shares` counts.
    pub cpu_shares: Option<u64>,
    /// Processors it may use, such as `0-3,7`.
    pub cpuset: Option<String>,
    /// Resource limits of the process, such as (`nofile`, 1024, 4096): name as in `--ulimit`, soft, hard.
    pub rlimits: Vec<(String, u64, u64)>,
}

impl Limits {
    /// Whether a control group is needed.
    pub fn needs_cgroup(&self) -> bool {
        self.memory.is_some()
            || self.memory_swap.is_some()
            || self.pids.is_some()
            || self.milli_cpus.is_some()
            || self.cpu_shares.is_some()
            || self.cpuset.is_some()
    }
}

/// How much the process may do.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Privileges {
    /// Docker's fourteen capabilities, its default seccomp profile, masked and read-only paths, default devices.
    #[default]
    Default,
    /// `--security=insecure` and `--privileged`: all capabilities, no filter, no masks, the host's devices, writable
    /// `/sys` and control groups.
    All,
}

/// What a crash of the machine may do to the upper directory.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Durability {
    /// Nothing that overlay can prevent.
    #[default]
    Durable,
    /// Anything; in exchange nothing waits for the disk. Falls back to durable where the kernel refuses.
    Volatile,
}
