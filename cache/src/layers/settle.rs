//! When is a layer flushed to disk?

use std::fs;
use std::sync::atomic::Ordering;

use super::{Layers, Result, UNSETTLED};
use crate::error::Context;
use crate::store;

/// After so many seconds the kernel has usually written everything by itself, so that flushing costs little.
const SETTLE_AFTER: u64 = 120;

impl Layers<'_> {
    /// Flushes all layers to disk, so that they are still trusted after the machine was switched off. Takes as long as
    /// the disk needs, also for what others have written. [`Layers::prepare`] does it in the background for layers
    /// that are some minutes old, so nobody has to.
    ///
    /// # Errors
    /// The disk or the metadata fails.
    pub fn settle(&self) -> Result<()> {
        self.settle_older(0)
    }

    fn settle_older(&self, age: u64) -> Result<()> {
        let latest = store::now().saturating_sub(age);
        let marks = self.0.0.meta.read(|reader| reader.list(&UNSETTLED, b""))?;
        let is_ours = |(_, (boot, at)): &(_, (String, u64))| boot == store::boot() && *at <= latest;
        let ours: Vec<_> = marks.into_iter().filter(is_ours).collect();
        if ours.is_empty() {
            return Ok(());
        }
        let root = fs::File::open(self.0.root()).context("open", self.0.root())?;
        rustix::fs::syncfs(&root).context("flush", self.0.root())?;
        self.0.0.meta.write(|writer| {
            for (id, mark) in &ours {
                if writer.find(&UNSETTLED, id)?.as_ref() == Some(mark) {
                    writer.delete(&UNSETTLED, id)?;
                }
            }
            Ok(())
        })
    }

    /// Once per process, beside the first step that is really executed: a build that only finds things never waits for
    /// the disk.
    pub(super) fn settle_in_background(&self) {
        if self.0.0.settling.swap(true, Ordering::Relaxed) {
            return;
        }
        let store = self.0.clone();
        let settle = move || {
            if let Err(error) = store.layers().settle_older(SETTLE_AFTER) {
                tracing::debug!(%error, "layers not flushed");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("settle".into()).spawn(settle) {
            tracing::debug!(%error, "layers not flushed");
        }
    }
}
