//! How do mounts and a process become an exit status, leaving nothing behind?
//!
//! A [`SandboxSpec`] says what is wanted, [`SandboxSpec::plan`] decides (purely) what has to be done, and
//! [`Sandbox::start`] has it done by a re-executed, single-threaded copy of this program. The sequence, with the reason
//! of each step, is in `docs/sandbox.md`.

mod cgroup;
mod channel;
mod error;
mod exit;
pub mod host;
mod init;
mod memory;
pub mod mount;
pub mod net;
mod plan;
mod resolve;
mod rlimit;
mod sandbox;
mod seccomp;
mod spec;
mod supervisors;
mod sys;
mod user;
pub mod userns;

pub use error::Error;
pub use exit::Exit;
pub use host::Host;
pub use init::init;
pub use memory::give_memory_back;
pub use plan::{Mountpoint, MountpointKind, Plan, PlanError, RootPlan, Step};
pub use sandbox::{Input, Output, Sandbox, Stdio, Terminal};
pub use spec::{
    Durability, Limits, Network, Privileges, Process, SandboxDevice, SandboxFile, SandboxMount, SandboxSpec,
};
pub use supervisors::dismiss;
pub use sys::let_large_writes_fail;
