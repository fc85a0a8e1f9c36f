//! What may go, and how does it go without anybody noticing?
//!
//! Pruning never waits for anybody and nobody waits for it. One write transaction reads everything there is; decides, as a
//! pure function of that and the [`PrunePolicy`], what goes ([`plan`]); deletes the rows of images and records; and
//! condemns what only they needed ([`condemned`]). A sweep then moves to `trash/` what no lease can have seen; what one
//! may have seen is left to the sweep after that build. Deleting the trash comes last and disturbs nobody.
//!
//! What keeps what: a name keeps its image; a container keeps its image and its layers; an image keeps its layers,
//! configuration and manifest; a record keeps its layers; a layer keeps its blobs. Everything without a keeper goes.

mod collect;
pub(crate) mod condemned;
mod plan;
mod policy;
mod state;
mod usage;

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use rbuild_core::Digest;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use self::plan::plan;
use self::state::{State, mount_sizes, slots};
use crate::cache_mounts::{CACHE_MOUNTS, is_same};
use crate::error::{Context, Result, StoreError};
use crate::images::REMOTES;
use crate::lease::{self, Holder};
use crate::listings;
use crate::meta::Writer;
use crate::records::{KEYS, RECORDS, STEPS};
use crate::reserve;
use crate::store::{Store, USED, used_key};

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
        (report.swept, report.waiting) = self.sweep()?;
        if report.waiting != Swept::default() {
            report.holders = self.lease_holders()?;
        }
        self.reap()?;
        reserve::take(self.root());
        Ok(report)
    }

    /// The part of [`Store::prune`] that is one transaction. Returns the time it thought it was.
    fn remove(&self, policy: &PrunePolicy) -> Result<(u64, PruneReport)> {
        self.flush_used()?;
        let mounts = mount_sizes(self)?;
        self.0.meta.write(|writer| {
            let state = State::read(self, &writer.reader(), &mounts)?;
            let mut report = PruneReport { removals: plan(&state, policy), ..PruneReport::default() };
            for key in &state.damaged {
                writer.delete(&RECORDS, key)?;
            }
            self.carry_out(writer, &state, &mut report)?;
            Ok((state.now, report))
        })
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

    /// Deletes rows and cache mounts, condemns layers and blobs. Takes from `report` what turns out to be in use.
    fn carry_out(&self, writer: &mut Writer<'_>, state: &State, report: &mut PruneReport) -> Result<()> {
        let (mut images, mut records) = (HashSet::new(), HashSet::new());
        let (mut layers, mut blobs, mut mounts) = (Vec::new(), Vec::new(), HashSet::new());
        for removal in &report.removals {
            match &removal.item {
                Item::Image(id) => drop(images.insert(*id)),
                Item::Record(id) => drop(records.insert(*id)),
                Item::Layer(id) => layers.push(id.clone()),
                Item::Blob(digest) => blobs.push(*digest),
                Item::CacheMount(hash) => {
                    if self.remove_mount(writer, hash)? {
                        report.mount_bytes += removal.bytes;
                        mounts.insert(hash.clone());
                    }
                }
            }
        }
        report.removals.retain(|removal| match &removal.item {
            Item::CacheMount(hash) => mounts.contains(hash),
            _ => true,
        });
        for id in &images {
            let names = crate::images::names_of(&writer.reader(), id)?;
            crate::images::remove(writer, id, &names)?;
        }
        forget(writer, state, &images, &records)?;
        self.images().list_for_others(writer)?;
        let generation = lease::end_generation(writer)?;
        condemned::condemn(writer, &layers, &blobs, generation)?;

        // Directories without a row: what crashes leave. A directory gets its row in the transaction that makes it.
        let kept = state.layers.iter().map(|layer| layer.id.as_str().to_owned()).collect();
        self.discard_others("layers-v1", &kept)?;
        let kept = state.containers.iter().map(|container| container.id.clone()).collect();
        self.discard_others("containers", &kept)?;
        let stay = state.records.iter().filter(|record| !records.contains(&record.id));
        let kept = stay.flat_map(|record| record.listings.iter().map(Digest::hex)).collect();
        self.discard_others(listings::DIRECTORY, &kept)?;
        let kept: HashSet<_> = state.mounts.iter().map(|mount| mount.hash.clone()).collect();
        self.discard_mounts(&kept)
    }

    /// Removes a cache mount unless somebody is using it. Whether it went.
    fn remove_mount(&self, writer: &mut Writer<'_>, hash: &str) -> Result<bool> {
        let mut locks = Vec::new();
        let slots = slots(self.root(), hash);
        for slot in &slots {
            match lock_directory(slot)? {
                Claim::Ours(lock) => locks.push(lock),
                Claim::Absent => {}
                Claim::Busy => return Ok(false),
            }
        }
        for slot in &slots {
            self.0.aside.discard(slot)?;
        }
        writer.delete(&CACHE_MOUNTS, hash.as_bytes())?;
        writer.delete(&USED, &used_key(b'q', hash.as_bytes()))?;
        Ok(true)
    }

    /// Discards what is in a directory of the store and not in `kept`.
    fn discard_others(&self, name: &str, kept: &HashSet<String>) -> Result<()> {
        let directory = self.root().join(name);
        let entries = match fs::read_dir(&directory) {
            // Some are only made when something is put there.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.context("read", &directory)?,
        };
        for entry in entries {
            let entry = entry.context("read", &directory)?;
            if !entry.file_name().to_str().is_some_and(|name| kept.contains(name)) {
                self.0.aside.discard(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Discards cache mounts that are not in `kept`. One that is just being made has a user.
    fn discard_mounts(&self, kept: &HashSet<String>) -> Result<()> {
        let directory = self.root().join("cache-mounts");
        for entry in fs::read_dir(&directory).context("read", &directory)? {
            let entry = entry.context("read", &directory)?;
            let name = entry.file_name();
            let hash = name.to_str().map(|name| name.split('.').next().unwrap_or(name));
            if !hash.is_some_and(|hash| kept.contains(hash))
                && let Claim::Ours(_lock) = lock_directory(&entry.path())?
            {
                self.0.aside.discard(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// Deletes the rows of records, and rows that name a record or an image that is gone.
fn forget(
    writer: &mut Writer<'_>,
    state: &State,
    images: &HashSet<Digest>,
    records: &HashSet<Digest>,
) -> Result<(), StoreError> {
    for (name, image) in &state.remotes {
        if images.contains(image) || !state.images.iter().any(|listed| listed.image.id == *image) {
            writer.delete(&REMOTES, name)?;
        }
    }
    let known: HashSet<_> = state.records.iter().map(|record| record.id.as_bytes()).collect();
    let is_gone = |record: &Digest| records.contains(record) || !known.contains(record.as_bytes());
    for (table, rows) in [(&KEYS, &state.keys), (&STEPS, &state.steps)] {
        for (key, _) in rows.iter().filter(|(_, record)| is_gone(record)) {
            writer.delete(table, key)?;
        }
    }
    for id in records {
        writer.delete(&RECORDS, id.as_bytes())?;
        writer.delete(&USED, &used_key(b'r', id.as_bytes()))?;
    }
    Ok(())
}

enum Claim {
    /// The lock lasts as long as the file is open.
    Ours(File),
    Absent,
    Busy,
}

/// Locks a cache mount's directory if nobody has it.
fn lock_directory(path: &Path) -> Result<Claim> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(Claim::Absent),
        Err(error) => return Err(error).context("open", path),
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) if is_same(&file, path) => Ok(Claim::Ours(file)),
        Ok(()) => Ok(Claim::Absent),
        Err(Errno::WOULDBLOCK) => Ok(Claim::Busy),
        Err(error) => Err(error).context("lock", path),
    }
}
