//! How do mounts and a process become an exit status, leaving nothing behind?
//!
//! A [`SandboxSpec`] says what is wanted, [`SandboxSpec::plan`] decides (purely) what has to be done, and
//! [`Sandbox::start`] has it done by a re-executed, single-threaded copy of this program. The sequence, with the reason
//! of each step, is in `docs/sandbox.md`.

mod error;
mod exit;
pub mod host;
pub mod mount;
mod spec;
mod sys;
pub mod userns;

pub use error::Error;
pub use exit::Exit;
pub use host::Host;
pub use spec::{Durability, Limits, Network, Privileges, Process, SandboxFile, SandboxMount, SandboxSpec};
