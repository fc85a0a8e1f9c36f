//! What may go, and how does it go without anybody noticing?
//!
//! Pruning has three steps. It takes the exclusive side of the lease lock, so that nothing in the store is in use;
//! reads everything there is; and decides, as a pure function of that and the [`PrunePolicy`], what goes ([`plan`]).
//! Then one transaction removes the rows, renames move the files to `trash/`, and the lock is released. Deleting the
//! trash comes last and disturbs nobody.
//!
//! What keeps what: a name keeps its image; a container keeps its image and its layers; an image keeps its layers,
//! configuration and manifest; a record keeps its layers; a layer keeps its blobs. Everything without a keeper goes.

mod plan;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rbuild_core::Digest;

use self::plan::{ListedState, MountState, Plan, RecordState, State, keep_blobs, plan};
use crate::cache_mounts::CACHE_MOUNTS;
use crate::containers::CONTAINERS;
use crate::error::{Context, Result, StoreError};
use crate::images::{IMAGES, NAMES, REMOTES};
use crate::layers::{self, Form, Layer, LayerId};
use crate::meta::Reader;
use crate::records::{KEYS, RECORDS, STEPS};
use crate::store::{self, Exclusive, Holder, Store, USED, used_key};

/// Which images [`Store::prune`] removes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PruneImages {
    /// None.
    Keep,
    /// Those without a name.
    #[default]
    Dangling,
    /// All that no container uses.
    Unused,
}

/// What to do about a store in use.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WhenBusy {
    /// Wait until builds and containers have ended.
    Wait,
    /// Say who uses it.
    #[default]
    GiveUp,
}

/// What [`Store::prune`] removes, besides everything that nothing needs.
#[derive(Clone, Debug)]
pub struct PrunePolicy {
    /// Images.
    pub images: PruneImages,
    /// Build records: without them the layers go that no image needs.
    pub records: bool,
    /// `RUN --mount=type=cache` directories.
    pub cache_mounts: bool,
    /// Only what was not used for so long.
    pub unused_for: Option<Duration>,
    /// Only records and cache mounts, least recently used first, until the store takes at most so many bytes.
    pub keep_bytes: Option<u64>,
    /// What to do about a store in use.
    pub when_busy: WhenBusy,
}

impl Default for PrunePolicy {
    fn default() -> Self {
        Self {
            images: PruneImages::Dangling,
            records: true,
            cache_mounts: false,
            unused_for: None,
            keep_bytes: None,
            when_busy: WhenBusy::GiveUp,
        }
    }
}

/// What a prune removed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PruneReport {
    /// Image IDs.
    pub images: Vec<Digest>,
    /// How many build records.
    pub records: usize,
    /// How many layers.
    pub layers: usize,
    /// How many blobs.
    pub blobs: usize,
    /// Ids of cache mounts.
    pub cache_mounts: Vec<String>,
    /// How many bytes all that took.
    pub bytes: u64,
}

/// Why nothing was pruned.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The disk or the metadata failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody holds a lease.
    #[error("the store is in use by {}", display(.0))]
    Busy(Vec<Holder>),
}

impl PruneError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Busy(_) => Some("wait for it, or stop it".into()),
        }
    }
}

fn display(holders: &[Holder]) -> String {
    match holders {
        [] => "another process".to_owned(),
        holders => holders.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// How much of one kind there is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// How many.
    pub count: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes that would be free if the unused ones of this kind were pruned.
    pub reclaimable: u64,
}

/// What takes how much room.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DiskUsage {
    /// Images with the layers they need; a layer that several need counts once.
    pub images: Usage,
    /// Containers and what they have written.
    pub containers: Usage,
    /// Layers that only build records need.
    pub build_cache: Usage,
    /// Cache mounts.
    pub cache_mounts: Usage,
    /// Blobs, whatever they belong to.
    pub blobs: Usage,
    /// Discarded things that were not deleted yet.
    pub trash: Usage,
}

impl Store {
    /// Removes what `policy` says and what nothing needs. The caller must not hold a lease itself.
    ///
    /// # Errors
    /// `Busy` if there are leases and the policy does not wait for them.
    pub fn prune(&self, policy: &PrunePolicy) -> Result<PruneReport, PruneError> {
        let exclusive = match policy.when_busy {
            WhenBusy::Wait => self.exclusive()?,
            WhenBusy::GiveUp => {
                self.try_exclusive()?.map_or_else(|| Err(PruneError::Busy(self.lease_holders()?)), Ok)?
            }
        };
        self.flush_used()?;
        let state = State::read(self)?;
        let plan = plan(&state, policy);
        let report = self.carry_out(&state, &plan, &exclusive)?;
        let oldest = policy.unused_for.unwrap_or(STAT_CACHE_LIFE).as_secs();
        self.stat_cache().remove_older(state.now.saturating_sub(oldest))?;
        drop(exclusive);
        self.reap()?;
        Ok(report)
    }

    /// What takes how much room. Reads all metadata and walks what is not accounted there.
    ///
    /// # Errors
    /// The disk or the metadata fails.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        let state = State::read(self)?;
        let sizes: HashMap<&LayerId, u64> = state.layers.iter().map(|layer| (&layer.id, layer.disk_bytes)).collect();
        let sum = |ids: &HashSet<&LayerId>| ids.iter().filter_map(|id| sizes.get(id)).sum::<u64>();
        let of_containers: HashSet<_> = state.containers.iter().flat_map(|container| &container.layers).collect();
        let of_images: HashSet<_> = state.images.iter().flat_map(|listed| &listed.image.layers).collect();
        let used = |listed: &&ListedState| state.containers.iter().any(|has| has.image == Some(listed.image.id));
        let of_used: HashSet<_> = state.images.iter().filter(used).flat_map(|listed| &listed.image.layers).collect();
        let of_used: HashSet<_> = of_used.union(&of_containers).copied().collect();
        let unused: HashSet<_> = of_images.difference(&of_used).copied().collect();
        let cached: HashSet<_> =
            sizes.keys().filter(|id| !of_images.contains(*id) && !of_containers.contains(*id)).copied().collect();
        let kept_blobs = keep_blobs(&state, |_| true, |_| true);
        let blobs = |wanted: bool| {
            let of = state.blobs.iter().filter(|(digest, _)| wanted || !kept_blobs.contains(digest));
            of.map(|(_, size)| size).sum::<u64>()
        };
        let mounts = state.mounts.iter().map(|mount| mount.bytes).sum();
        let containers = tree_bytes(&self.root().join("containers"));
        let trash = self.root().join("trash");
        let entries = fs::read_dir(&trash).context("read", &trash)?.count() as u64;
        let trash = tree_bytes(&trash);
        Ok(DiskUsage {
            images: Usage { count: state.images.len() as u64, bytes: sum(&of_images), reclaimable: sum(&unused) },
            containers: Usage { count: state.containers.len() as u64, bytes: containers, reclaimable: 0 },
            build_cache: Usage { count: cached.len() as u64, bytes: sum(&cached), reclaimable: sum(&cached) },
            cache_mounts: Usage { count: state.mounts.len() as u64, bytes: mounts, reclaimable: mounts },
            blobs: Usage { count: state.blobs.len() as u64, bytes: blobs(true), reclaimable: blobs(false) },
            trash: Usage { count: entries, bytes: trash, reclaimable: trash },
        })
    }

    fn carry_out(&self, state: &State, plan: &Plan, _exclusive: &Exclusive) -> Result<PruneReport> {
        let images: HashSet<_> = plan.images.iter().collect();
        let records: HashSet<_> = plan.records.iter().map(Digest::as_bytes).collect();
        let gone: HashSet<_> = plan.layers.iter().collect();
        self.0.meta.write(|writer| {
            for id in &plan.images {
                let names = crate::images::names_of(&writer.reader(), id)?;
                crate::images::remove(writer, id, &names)?;
            }
            for (name, image) in &state.remotes {
                if images.contains(image) || !state.images.iter().any(|listed| listed.image.id == *image) {
                    writer.delete(&REMOTES, name)?;
                }
            }
            let known: HashSet<_> = state.records.iter().map(|record| record.id.as_bytes()).collect();
            let is_gone = |record: &Digest| records.contains(record.as_bytes()) || !known.contains(record.as_bytes());
            for (table, rows) in [(&KEYS, &state.keys), (&STEPS, &state.steps)] {
                for (key, _) in rows.iter().filter(|(_, record)| is_gone(record)) {
                    writer.delete(table, key)?;
                }
            }
            for id in &plan.records {
                writer.delete(&RECORDS, id.as_bytes())?;
                writer.delete(&USED, &used_key(b'r', id.as_bytes()))?;
            }
            for layer in state.layers.iter().filter(|layer| gone.contains(&layer.id)) {
                layers::remove(writer, layer)?;
            }
            for hash in &plan.mounts {
                writer.delete(&CACHE_MOUNTS, hash.as_bytes())?;
                writer.delete(&USED, &used_key(b'q', hash.as_bytes()))?;
            }
            self.images().list_for_others(writer)
        })?;
        // From here on nothing is lost by dying: what has no row is found by the next prune.
        for digest in &plan.blobs {
            self.0.aside.discard(&self.root().join("blobs/sha256").join(digest.hex()))?;
        }
        let is_kept = |layer: &&Layer| layer.form == Form::Directory && !gone.contains(&layer.id);
        let kept = state.layers.iter().filter(is_kept).map(|layer| layer.id.as_str().to_owned()).collect();
        self.discard_others("layers-v1", &kept, |name| name.to_owned())?;
        let kept = state.containers.iter().map(|container| container.id.clone()).collect();
        self.discard_others("containers", &kept, |name| name.to_owned())?;
        let mounts = state.mounts.iter().filter(|mount| !plan.mounts.contains(&mount.hash));
        let kept = mounts.map(|mount| mount.hash.clone()).collect();
        let slot = |name: &str| name.split('.').next().unwrap_or(name).to_owned();
        self.discard_others("cache-mounts", &kept, slot)?;
        let removed = state.mounts.iter().filter(|mount| plan.mounts.contains(&mount.hash));
        Ok(PruneReport {
            images: plan.images.clone(),
            records: plan.records.len(),
            layers: plan.layers.len(),
            blobs: plan.blobs.len(),
            cache_mounts: removed.map(|mount| mount.id.clone()).collect(),
            bytes: plan.bytes,
        })
    }

    /// Discards what is in a directory of the store and not in `kept`, which has the names that `key` makes.
    fn discard_others(&self, name: &str, kept: &HashSet<String>, key: impl Fn(&str) -> String) -> Result<()> {
        let directory = self.root().join(name);
        for entry in fs::read_dir(&directory).context("read", &directory)? {
            let entry = entry.context("read", &directory)?;
            if !entry.file_name().to_str().is_some_and(|name| kept.contains(&key(name))) {
                self.0.aside.discard(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// Contexts that were not built for so long are scanned anew.
const STAT_CACHE_LIFE: Duration = Duration::from_secs(60 * 24 * 3600);

impl State {
    fn read(store: &Store) -> Result<Self> {
        let mut state = store.0.meta.read(|reader| Self::read_rows(reader, store.root()))?;
        let directory = store.root().join("blobs/sha256");
        for entry in fs::read_dir(&directory).context("read", &directory)? {
            let entry = entry.context("read", &directory)?;
            let digest = format!("sha256:{}", entry.file_name().to_string_lossy()).parse();
            if let (Ok(digest), Ok(metadata)) = (digest, entry.metadata()) {
                state.blobs.push((digest, metadata.blocks() * 512));
            }
        }
        Ok(state)
    }

    fn read_rows(reader: &Reader<'_>, root: &Path) -> Result<Self> {
        let used = |letter: u8, key: &[u8], otherwise: u64| {
            Ok::<_, StoreError>(reader.find(&USED, &used_key(letter, key))?.unwrap_or(otherwise))
        };
        let mut state = Self { now: store::now(), layers: layers::list(reader)?, ..Self::default() };
        for (key, record) in reader.list(&RECORDS, b"")? {
            let Ok(id) = <[u8; 32]>::try_from(key.as_slice()).map(Digest::blake3) else { continue };
            let used = used(b'r', &key, record.created)?;
            state.records.push(RecordState { id, layers: record.layers, used });
        }
        state.keys = reader.list(&KEYS, b"")?;
        state.steps = reader.list(&STEPS, b"")?;
        let named: HashSet<_> = reader.list(&NAMES, b"")?.into_iter().map(|(_, id)| id).collect();
        for (key, image) in reader.list(&IMAGES, b"")? {
            // An image's creation time is its author's; never used means just made.
            let used = used(b'i', &key, state.now)?;
            state.images.push(ListedState { named: named.contains(&image.id), used, image });
        }
        state.remotes = reader.list(&REMOTES, b"")?.into_iter().map(|(name, remote)| (name, remote.image)).collect();
        state.containers = reader.list(&CONTAINERS, b"")?.into_iter().map(|(_, container)| container).collect();
        for (key, id) in reader.list(&CACHE_MOUNTS, b"")? {
            let hash = String::from_utf8_lossy(&key).into_owned();
            let bytes = slots(root, &hash).iter().map(|path| tree_bytes(path)).sum();
            state.mounts.push(MountState { hash, id, used: used(b'q', &key, state.now)?, bytes });
        }
        Ok(state)
    }
}

/// The directories of one cache mount.
fn slots(root: &Path, hash: &str) -> Vec<PathBuf> {
    let directory = root.join("cache-mounts");
    let first = directory.join(hash);
    let others = (1..).map(|slot| directory.join(format!("{hash}.{slot}"))).take_while(|path| path.exists());
    std::iter::once(first).chain(others).collect()
}

/// Bytes on disk of everything below `path`, as far as it can be seen. A file with several names counts once.
fn tree_bytes(path: &Path) -> u64 {
    let mut seen = HashSet::new();
    let mut waiting = vec![path.to_owned()];
    let mut bytes = 0;
    while let Some(directory) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.nlink() == 1 || metadata.is_dir() || seen.insert(metadata.ino()) {
                bytes += metadata.blocks() * 512;
            }
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    bytes
}
