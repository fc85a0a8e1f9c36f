//! What does a step take of the machine?

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a process and all it started took until they ended, as the kernel counts it for who waits for them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Resources {
    /// Processor time in their own code.
    pub user: Duration,
    /// Processor time in the kernel on their behalf.
    pub system: Duration,
    /// The most memory, in bytes, that any one of them had at once; not the sum of several.
    pub peak_memory: u64,
    /// Bytes that had to come from a disk: what was in the page cache does not count.
    pub read: u64,
    /// Bytes that were to go to a disk; files that were removed before they got there count.
    pub written: u64,
}

impl Resources {
    /// Processor time in all.
    pub fn cpu(&self) -> Duration {
        self.user + self.system
    }
}
