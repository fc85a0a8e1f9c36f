//! What may go, and how does it go without anybody noticing?
//!
//! Pruning never waits for anybody and nobody waits for it. Everything there is is read; what goes is decided as a pure
//! function of that and the [`PrunePolicy`] ([`plan`]). Then one write transaction, short since it mostly deletes, takes
//! away the rows of images and records, and condemns what only they needed ([`remove`], [`condemned`]). A sweep then
//! moves to `trash/` what no lease can have seen; what one may have seen is left to the sweep after that build. Deleting
//! the trash comes last and disturbs nobody.
//!
//! What keeps what: a name keeps its image; a container keeps its image and its layers; an image keeps its layers,
//! configuration and manifest; a record keeps its layers; a layer keeps its blobs. Everything without a keeper goes.

mod collect;
pub(crate) mod condemned;
mod plan;
mod policy;
mod remove;
mod state;
mod strangers;
mod usage;

use std::time::Duration;

use self::plan::plan;
use self::state::{State, mount_sizes};
use crate::error::Result;
use crate::lease::Holder;
use crate::reserve;
use crate::store::Store;

pub use condemned::Swept;
pub use plan::{Item, Reason, Removal};
pub use policy::{Filter, FilterField, FilterTest, PruneImages, PrunePolicy, Space};
pub use usage::{DiskUsage, Entry, Usage};

/// What a prune removed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PruneReport {
    /// What went, and why. Layers and blobs are on the list when they are condemned, which may be a while before they
    /// are swept.
    pub removals: Vec<Removal>,
    /// Layers and blobs that left the disk, also of earlier prunes.
    pub swept: Swept,
    /// Bytes of cache mounts that left the disk.
    pub mount_bytes: u64,
    /// What leaves the disk when builds end that may be using it.
    pub waiting: Swept,
    /// Whose builds, if anything is waiting.
    pub holders: Vec<Holder>,
}

impl PruneReport {
    /// How many of a kind went, as [`Item::kind`] calls it.
    pub fn count(&self, kind: &str) -> usize {
        self.removals.iter().filter(|removal| removal.item.kind() == kind).count()
    }

    /// Bytes that left the disk.
    pub fn bytes(&self) -> u64 {
        self.swept.bytes + self.mount_bytes
    }
}

/// Contexts that were not built for so long are scanned anew.
const STAT_CACHE_LIFE: Duration = Duration::from_secs(60 * 24 * 3600);

impl Store {
    /// Removes what `policy` says and what nothing needs. What a lease may have seen stays until that lease has ended,
    /// also a lease of the caller.
    ///
    /// # Errors
    /// The disk or the metadata fails.
    pub fn prune(&self, policy: &PrunePolicy) -> Result<PruneReport> {
        // On a full disk this is all the room there is for what follows.
        self.reap_ingest()?;
        self.0.aside.empty_trash()?;
        let (now, mut report) = match self.remove(policy) {
            Err(error) if error.is_full() => {
                // Transfers that somebody may want to go on with are what can be spared next.
                self.0.aside.reap_ingest(|_, _| false)?;
                self.0.aside.empty_trash()?;
                reserve::give_up(self.root());
                self.remove(policy)?
            }
            other => other?,
        };
        self.stat_cache().remove_older(now.saturating_sub(STAT_CACHE_LIFE.as_secs()))?;
        let sweep = self.sweep()?;
        (report.swept, report.waiting) = (sweep.swept, sweep.waiting);
        report.removals.retain(|removal| !sweep.is_needed(&removal.item));
        if report.waiting != Swept::default() {
            report.holders = self.lease_holders()?;
        }
        self.reap()?;
        reserve::take(self.root());
        Ok(report)
    }

    /// What [`Store::prune`] would remove, without removing anything.
    ///
    /// # Errors
    /// The disk or the metadata fails.
    pub fn prunable(&self, policy: &PrunePolicy) -> Result<Vec<Removal>> {
        let mounts = mount_sizes(self)?;
        let state = self.0.meta.read(|reader| State::read(self, reader, &mounts))?;
        Ok(plan(&state, policy))
    }
}
