//! What takes room, and what does this machine lack?

use rbuild_cache::{DiskUsage, Entry};
use rbuild_executor::Host;

use crate::engine::Engine;
use crate::error::Error;

/// One thing that `rbuild doctor` looked at.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Finding {
    /// What.
    pub what: &'static str,
    /// Whether it is as rbuild would like it.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What can be done about it.
    pub hint: Option<String>,
}

impl Engine {
    /// Every image, build result and cache mount, the least recently used first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn inventory(&self) -> Result<Vec<Entry>, Error> {
        Ok(self.store().inventory()?)
    }

    /// What takes how much room.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn disk_usage(&self) -> Result<DiskUsage, Error> {
        Ok(self.store().disk_usage()?)
    }

    /// What this machine offers and lacks.
    pub fn doctor() -> Vec<Finding> {
        let checks = Host::probe().report();
        let finding = |check: rbuild_executor::host::Check| Finding {
            what: check.what,
            ok: check.ok,
            detail: check.detail,
            hint: check.hint,
        };
        checks.into_iter().map(finding).collect()
    }
}
