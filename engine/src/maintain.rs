//! How is the store kept small, and what does this machine lack?

use std::time::Duration;

use rbuild_cache::{DiskUsage, PruneImages, PrunePolicy, PruneReport, WhenBusy};
use rbuild_executor::Host;

use crate::container::Status;
use crate::engine::Engine;
use crate::error::Error;

/// What `rbuild prune` removes.
#[derive(Clone, Copy, Debug, Default)]
pub struct PruneOptions {
    /// Images that no container uses, named or not, and cache mounts; otherwise only images without names.
    pub all: bool,
    /// Only what was not used for so long.
    pub unused_for: Option<Duration>,
    /// Only the least recently used build results, until the store takes at most so many bytes.
    pub keep_bytes: Option<u64>,
}

/// What `rbuild prune` removed.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    /// Names of containers that had ended.
    pub containers: Vec<String>,
    /// Everything else.
    pub store: PruneReport,
}

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
    /// Removes containers that have ended, build results and images that nothing needs.
    ///
    /// # Errors
    /// If somebody is using the store, or the disk fails.
    pub fn prune(&self, options: PruneOptions) -> Result<Pruned, Error> {
        let mut pruned = Pruned::default();
        for container in self.containers()? {
            if matches!(container.status, Status::Exited { .. } | Status::Dead { .. }) {
                // Unless somebody is starting it again.
                if self.remove_ended(&container)? {
                    pruned.containers.push(container.name);
                }
            }
        }
        let policy = PrunePolicy {
            images: if options.all { PruneImages::Unused } else { PruneImages::Dangling },
            records: true,
            cache_mounts: options.all,
            unused_for: options.unused_for,
            keep_bytes: options.keep_bytes,
            when_busy: WhenBusy::GiveUp,
        };
        pruned.store = self.store().prune(&policy)?;
        Ok(pruned)
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
