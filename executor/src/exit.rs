//! How did a sandboxed process end?

use std::fmt;

use rbuild_core::Resources;
use serde::{Deserialize, Serialize};

/// The end of the sandbox's first process.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Exit {
    /// What it passed to `exit`, or 128 plus the signal that killed it, as a shell counts.
    pub code: i32,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// Whether the kernel killed anything in the sandbox for want of memory. Only known when a memory limit was set.
    pub oom: bool,
    /// What it and everything it started took.
    #[serde(default)]
    pub resources: Resources,
}

impl Exit {
    /// Whether the process ended by itself with code 0.
    pub fn success(&self) -> bool {
        self.code == 0
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.signal {
            Some(signal) => write!(formatter, "killed by signal {signal}")?,
            None => write!(formatter, "exit code: {}", self.code)?,
        }
        if self.oom { formatter.write_str(" (out of memory)") } else { Ok(()) }
    }
}
