//! When does the store clean itself up?
//!
//! After a build that made something, and not more often than the caller says. The time of the last collection is a row, so
//! that all processes together keep to it.

use std::time::Duration;

use super::policy::PrunePolicy;
use super::{PruneReport, Swept};
use crate::error::Result;
use crate::meta::Table;
use crate::store::{self, Store};

/// When the last collection began, in the only row of its table.
const COLLECTED: Table<u64> = Table::new(b'p', "collection");

impl Store {
    /// Prunes by each of `rules` in turn; `None` if that was done less than `every` ago, by whomever. Whoever has a lease
    /// should drop it first: it protects what it has seen.
    ///
    /// # Errors
    /// The disk or the metadata fails.
    pub fn collect(&self, rules: &[PrunePolicy], every: Duration) -> Result<Option<PruneReport>> {
        let now = store::now();
        let is_due = |last: Option<u64>| {
            // A clock that was ahead once does not keep us from it.
            last.is_none_or(|last| last > now || now - last >= every.as_secs())
        };
        if !is_due(self.0.meta.read(|reader| reader.find(&COLLECTED, b""))?) {
            return Ok(None);
        }
        let ours = self.0.meta.write(|writer| {
            let is_due = is_due(writer.find(&COLLECTED, b"")?);
            if is_due {
                writer.put(&COLLECTED, b"", &now)?;
            }
            Ok::<_, crate::StoreError>(is_due)
        })?;
        if !ours {
            return Ok(None);
        }
        let mut whole = PruneReport::default();
        for rule in rules {
            let part = self.prune(rule)?;
            whole.removals.extend(part.removals);
            whole.mount_bytes += part.mount_bytes;
            let Swept { layers, blobs, bytes } = part.swept;
            whole.swept.layers += layers;
            whole.swept.blobs += blobs;
            whole.swept.bytes += bytes;
            (whole.waiting, whole.holders) = (part.waiting, part.holders);
        }
        Ok(Some(whole))
    }

    /// Bytes of the file system that the store is on, and how many of them are free.
    ///
    /// # Errors
    /// The disk fails.
    pub fn disk(&self) -> Result<(u64, u64)> {
        use crate::error::Context;
        let disk = rustix::fs::statvfs(self.root()).context("read", self.root())?;
        Ok((disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize))
    }
}
