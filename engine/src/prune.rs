//! How is the store kept small?
//!
//! By `rbuild prune`, and by itself: a build that made something ends with a collection, unless there was one a short
//! while ago. [`CollectLimits`] says what that may take; its defaults are BuildKit's.

use std::str::FromStr;
use std::time::Duration;

pub use rbuild_cache::{Entry, Filter, FilterField, FilterTest, Item, PruneReport, Reason, Removal, Space, Swept};
use rbuild_cache::{PruneImages, PrunePolicy};
use rbuild_core::parse_size;

use crate::container::{Container, Status};
use crate::engine::Engine;
use crate::error::Error;

/// What `rbuild prune` removes.
#[derive(Clone, Debug, Default)]
pub struct PruneOptions {
    /// Images that no container uses, named or not, and cache mounts; otherwise only images without names.
    pub all: bool,
    /// Only what was not used for so long.
    pub unused_for: Option<Duration>,
    /// Only what all of these say.
    pub filters: Vec<Filter>,
    /// How much the cache may keep.
    pub space: Space,
}

impl PruneOptions {
    fn policy(&self) -> PrunePolicy {
        PrunePolicy {
            images: if self.all { PruneImages::Unused } else { PruneImages::Dangling },
            records: true,
            cache_mounts: self.all,
            unused_for: self.unused_for,
            filters: self.filters.clone(),
            space: self.space,
        }
    }

    /// Whether a container may go. What it has written is nowhere else: limits of space are about the cache alone.
    fn admits(&self, container: &Container, now: u64) -> bool {
        let ended = match &container.status {
            Status::Exited { finished, .. } => finished,
            Status::Dead { .. } => &container.created,
            Status::Created | Status::Running { .. } => return false,
        };
        let age = now.saturating_sub(crate::time::parse(Some(ended)));
        self.space == Space::default()
            && self.unused_for.is_none_or(|least| age >= least.as_secs())
            && self.filters.iter().all(|filter| filter.admits(&container.id, "container", &container.name))
    }
}

/// What `rbuild prune` removed.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    /// Names of containers that had ended.
    pub containers: Vec<String>,
    /// Everything else.
    pub store: PruneReport,
}

/// How often the store cleans itself up, at most.
const EVERY: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const GB: u64 = 1_000_000_000;

/// What the store removes by itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CollectLimits {
    /// Nothing.
    pub off: bool,
    /// What was not used for so long; 60 days if absent.
    pub unused_for: Option<Duration>,
    /// What the cache may take; fractions of the disk where absent.
    pub space: Space,
}

/// A text that is no [`CollectLimits`].
#[derive(Clone, Debug, thiserror::Error)]
#[error("`{0}` is not `off` or a list such as `max-used=50gb,min-free=20gb,reserved=5gb,unused=720h`")]
pub struct CollectLimitsError(String);

impl FromStr for CollectLimits {
    type Err = CollectLimitsError;

    fn from_str(text: &str) -> Result<Self, CollectLimitsError> {
        let wrong = || CollectLimitsError(text.to_owned());
        let mut limits = Self { off: text == "off", ..Self::default() };
        for part in text.split(',').filter(|part| !part.is_empty() && !limits.off) {
            let (name, value) = part.split_once('=').ok_or_else(wrong)?;
            let bytes = || parse_size(value.trim()).ok_or_else(wrong);
            match name.trim() {
                "max-used" => limits.space.max_used = Some(bytes()?),
                "min-free" => limits.space.min_free = Some(bytes()?),
                "reserved" => limits.space.reserved = Some(bytes()?),
                "unused" => {
                    let hours = value.trim().strip_suffix('h').and_then(|hours| hours.parse::<u32>().ok());
                    limits.unused_for = Some(Duration::from_secs(u64::from(hours.ok_or_else(wrong)?) * 3600));
                }
                _ => return Err(wrong()),
            }
        }
        Ok(limits)
    }
}

/// What goes first, what later; `disk` is the size of the file system in bytes.
fn rules(limits: &CollectLimits, disk: u64) -> Vec<PrunePolicy> {
    let cache = PrunePolicy { images: PruneImages::Keep, cache_mounts: true, ..PrunePolicy::default() };
    let given = limits.space;
    let space = Space {
        reserved: given.reserved.or(Some((disk / 10).min(10 * GB))),
        max_used: given.max_used.or(Some((disk / 5 * 4).min(100 * GB))),
        min_free: given.min_free.or(Some(disk / 5)),
    };
    vec![
        // Cache mounts are the easiest to fill again.
        PrunePolicy {
            records: false,
            unused_for: Some(2 * DAY),
            space: Space { reserved: Some(512_000_000), ..Space::default() },
            ..cache.clone()
        },
        PrunePolicy { unused_for: Some(limits.unused_for.unwrap_or(60 * DAY)), ..cache.clone() },
        PrunePolicy { space, ..cache },
    ]
}

impl Engine {
    /// Removes containers that have ended, build results and images that nothing needs, as far as the options go. Builds
    /// may go on meanwhile: what they may be using goes when they have ended.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn prune(&self, options: &PruneOptions) -> Result<Pruned, Error> {
        let mut pruned = Pruned::default();
        for container in self.ended(options)? {
            // Unless somebody is starting it again.
            if self.remove_ended(&container.id)? {
                pruned.containers.push(container.name);
            }
        }
        pruned.store = self.store().prune(&options.policy())?;
        Ok(pruned)
    }

    /// What [`Engine::prune`] would remove: names of containers, and everything else but what only they need.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn prunable(&self, options: &PruneOptions) -> Result<(Vec<String>, Vec<Removal>), Error> {
        let containers = self.ended(options)?.into_iter().map(|container| container.name).collect();
        Ok((containers, self.store().prunable(&options.policy())?))
    }

    /// The containers that have ended and may go.
    fn ended(&self, options: &PruneOptions) -> Result<Vec<Container>, Error> {
        let (mut containers, _) = self.containers()?;
        let now = crate::time::now();
        containers.retain(|one| options.admits(one, now));
        Ok(containers)
    }

    /// Removes what the limits do not allow, if that was not done lately. Blocks; the caller holds no lease.
    pub(crate) fn collect(&self) -> Result<(), Error> {
        let limits = &self.config().collect;
        if limits.off {
            return Ok(());
        }
        let (disk, _) = self.store().disk()?;
        if let Some(report) = self.store().collect(&rules(limits, disk), EVERY)? {
            tracing::info!(removed = report.removals.len(), bytes = report.bytes(), "the store was cleaned up");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        let limits = |text: &str| text.parse::<CollectLimits>().map_err(|error| error.to_string());
        assert_eq!(limits(""), Ok(CollectLimits::default()));
        assert!(limits("off").unwrap().off);
        let found = limits("max-used=50gb,min-free=2g,reserved=500000,unused=48h").unwrap();
        let space = Space { reserved: Some(500_000), max_used: Some(50 << 30), min_free: Some(2 << 30) };
        assert_eq!(found, CollectLimits { off: false, unused_for: Some(2 * DAY), space });
        for text in ["on", "max-used", "max-used=10%", "unused=3d", "max=1", "max-used=999999999999tb"] {
            assert!(limits(text).is_err(), "{text}");
        }
    }

    #[test]
    fn defaults_are_parts_of_the_disk() {
        for (disk, reserved, max_used, min_free) in
            [(50 * GB, 5 * GB, 40 * GB, 10 * GB), (1000 * GB, 10 * GB, 100 * GB, 200 * GB)]
        {
            let space = Space { reserved: Some(reserved), max_used: Some(max_used), min_free: Some(min_free) };
            assert_eq!(rules(&CollectLimits::default(), disk)[2].space, space, "{disk}");
        }
    }
}
