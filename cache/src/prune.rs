//! What may go, and how does it go without anybody noticing?
//!
//! Pruning has three steps. It takes the exclusive side of the lease lock, so that nothing in the store is in use;
//! reads everything there is; and decides, as a pure function of that and the [`PrunePolicy`], what goes ([`plan`]).
//! Then one transaction removes the rows, renames move the files to `trash/`, and the lock is released. Deleting the
//! trash comes last and disturbs nobody.
//!
//! What keeps what: a name keeps its image; a container keeps its image and its layers; an image keeps its layers,
//! configuration and manifest; a record keeps its layers; a layer keeps its blobs. Everything without a keeper goes.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rbuild_core::Digest;

use crate::cache_mounts::CACHE_MOUNTS;
use crate::containers::{CONTAINERS, Container};
use crate::error::{Context, Result, StoreError};
use crate::images::{IMAGES, Image, NAMES, REMOTES};
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
            Ok::<_, StoreError>(())
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

/// Everything a decision can depend on.
#[derive(Debug, Default)]
struct State {
    now: u64,
    layers: Vec<Layer>,
    records: Vec<RecordState>,
    /// Cache key → record.
    keys: Vec<(Vec<u8>, Digest)>,
    /// Step key → its latest record.
    steps: Vec<(Vec<u8>, Digest)>,
    images: Vec<ListedState>,
    /// Remote name → image.
    remotes: Vec<(Vec<u8>, Digest)>,
    containers: Vec<Container>,
    mounts: Vec<MountState>,
    blobs: Vec<(Digest, u64)>,
}

#[derive(Clone, Debug)]
struct RecordState {
    id: Digest,
    layers: Vec<LayerId>,
    used: u64,
}

#[derive(Clone, Debug)]
struct ListedState {
    image: Image,
    named: bool,
    used: u64,
}

#[derive(Clone, Debug)]
struct MountState {
    hash: String,
    id: String,
    used: u64,
    bytes: u64,
}

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

/// What is to go.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Plan {
    images: Vec<Digest>,
    records: Vec<Digest>,
    layers: Vec<LayerId>,
    blobs: Vec<Digest>,
    mounts: Vec<String>,
    bytes: u64,
}

fn plan(state: &State, policy: &PrunePolicy) -> Plan {
    let latest = policy.unused_for.map(|age| state.now.saturating_sub(age.as_secs()));
    let is_old = |used: u64| latest.is_none_or(|latest| used < latest);
    let mut plan = Plan::default();
    for listed in &state.images {
        let wanted = match policy.images {
            PruneImages::Keep => false,
            PruneImages::Dangling => !listed.named,
            PruneImages::Unused => true,
        };
        let in_use = state.containers.iter().any(|container| container.image == Some(listed.image.id));
        if wanted && !in_use && is_old(listed.used) {
            plan.images.push(listed.image.id);
        }
    }
    let dropped: HashSet<_> = plan.images.iter().copied().collect();

    let mut keepers: HashMap<&LayerId, usize> = HashMap::new();
    let kept_images = state.images.iter().filter(|listed| !dropped.contains(&listed.image.id));
    let of_images = kept_images.flat_map(|listed| &listed.image.layers);
    let of_containers = state.containers.iter().flat_map(|container| &container.layers);
    let of_records = state.records.iter().flat_map(|record| &record.layers);
    for layer in of_images.chain(of_containers).chain(of_records) {
        *keepers.entry(layer).or_default() += 1;
    }
    let sizes: HashMap<&LayerId, u64> = state.layers.iter().map(|layer| (&layer.id, layer.disk_bytes)).collect();
    let blob_sizes: HashMap<&Digest, u64> = state.blobs.iter().map(|(digest, size)| (digest, *size)).collect();
    let blobs_of: HashMap<&LayerId, u64> = state
        .layers
        .iter()
        .map(|layer| (&layer.id, layer.blobs.iter().filter_map(|blob| blob_sizes.get(&blob.digest)).sum()))
        .collect();
    let size_of = |id: &LayerId| sizes.get(id).unwrap_or(&0) + blobs_of.get(id).unwrap_or(&0);

    // Everything that has a keeper now; what has none goes in any case.
    let mut total: u64 = keepers.keys().map(|id| size_of(id)).sum();
    total += state.mounts.iter().map(|mount| mount.bytes).sum::<u64>();
    let enough = |total: u64| policy.keep_bytes.is_some_and(|keep| total <= keep);

    enum Candidate<'a> {
        Record(&'a RecordState),
        Mount(&'a MountState),
    }
    let records = state.records.iter().filter(|record| policy.records && is_old(record.used)).map(Candidate::Record);
    let mounts = state.mounts.iter().filter(|mount| policy.cache_mounts && is_old(mount.used)).map(Candidate::Mount);
    let mut candidates: Vec<_> = records.chain(mounts).collect();
    // Of one build, the steps near the end go first: the others can stand without them.
    candidates.sort_by_key(|candidate| match candidate {
        Candidate::Record(record) => (record.used, std::cmp::Reverse(record.layers.len())),
        Candidate::Mount(mount) => (mount.used, std::cmp::Reverse(0)),
    });
    for candidate in candidates {
        if enough(total) {
            break;
        }
        match candidate {
            Candidate::Mount(mount) => {
                total -= mount.bytes;
                plan.bytes += mount.bytes;
                plan.mounts.push(mount.hash.clone());
            }
            Candidate::Record(record) => {
                plan.records.push(record.id);
                for layer in &record.layers {
                    let Some(count) = keepers.get_mut(layer) else { continue };
                    *count -= 1;
                    if *count == 0 {
                        keepers.remove(layer);
                        total -= size_of(layer);
                    }
                }
            }
        }
    }
    for layer in state.layers.iter().filter(|layer| !keepers.contains_key(&layer.id)) {
        plan.bytes += layer.disk_bytes;
        plan.layers.push(layer.id.clone());
    }
    let kept = keep_blobs(state, |image| !dropped.contains(&image.id), |layer| keepers.contains_key(&layer.id));
    for (digest, size) in state.blobs.iter().filter(|(digest, _)| !kept.contains(digest)) {
        plan.bytes += size;
        plan.blobs.push(*digest);
    }
    plan
}

fn keep_blobs(state: &State, image: impl Fn(&Image) -> bool, layer: impl Fn(&Layer) -> bool) -> HashSet<Digest> {
    let images = state.images.iter().map(|listed| &listed.image).filter(|one| image(one));
    let of_images = images.flat_map(|one| one.manifest.iter().map(|manifest| manifest.digest).chain([one.id]));
    let of_layers =
        state.layers.iter().filter(|one| layer(one)).flat_map(|one| one.blobs.iter().map(|blob| blob.digest));
    of_images.chain(of_layers).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LayerKind;

    fn layer(name: &str, disk_bytes: u64) -> Layer {
        Layer {
            id: name.parse().unwrap(),
            identity: Digest::blake3([0; 32]),
            diff_id: None,
            size: None,
            form: Form::Directory,
            kind: LayerKind::Run,
            blobs: Vec::new(),
            sources: Vec::new(),
            entries: 1,
            disk_bytes,
            created: 0,
            last_used: 0,
        }
    }

    fn record(number: u8, layers: &[&str], used: u64) -> RecordState {
        let layers = layers.iter().map(|name| name.parse().unwrap()).collect();
        RecordState { id: Digest::blake3([number; 32]), layers, used }
    }

    fn image(number: u8, layers: &[&str], named: bool, used: u64) -> ListedState {
        let layers = layers.iter().map(|name| name.parse().unwrap()).collect();
        let image = Image { id: Digest::sha256([number; 32]), layers, manifest: None, created: 0, size: 0 };
        ListedState { image, named, used }
    }

    /// Two builds on one base; the second image was never named. `x` belongs to nothing.
    fn state() -> State {
        State {
            now: 1000,
            layers: vec![layer("base", 100), layer("a", 10), layer("b", 20), layer("c", 40), layer("x", 1)],
            records: vec![
                record(1, &["base", "a"], 500),
                record(2, &["base", "a", "b"], 500),
                record(3, &["base", "c"], 900),
            ],
            images: vec![image(1, &["base", "a"], true, 500), image(2, &["base", "c"], false, 900)],
            mounts: vec![MountState { hash: "h".into(), id: "/cache".into(), used: 700, bytes: 1000 }],
            blobs: vec![(Digest::sha256([1; 32]), 4), (Digest::sha256([2; 32]), 4), (Digest::sha256([9; 32]), 8)],
            ..State::default()
        }
    }

    /// Images, records, layers, blobs by their numbers and names.
    fn short(plan: &Plan) -> String {
        let number = |digest: &Digest| digest.as_bytes()[0].to_string();
        let images: Vec<_> = plan.images.iter().map(number).collect();
        let records: Vec<_> = plan.records.iter().map(number).collect();
        let layers: Vec<_> = plan.layers.iter().map(LayerId::as_str).collect();
        let blobs: Vec<_> = plan.blobs.iter().map(number).collect();
        let mounts = plan.mounts.join(" ");
        format!(
            "images {} records {} layers {} blobs {} mounts {mounts}",
            images.join(" "),
            records.join(" "),
            layers.join(" "),
            blobs.join(" ")
        )
    }

    #[test]
    fn policies_choose() {
        let none = PrunePolicy { images: PruneImages::Keep, records: false, ..PrunePolicy::default() };
        let age = Some(Duration::from_secs(300));
        for (policy, expected) in [
            (none.clone(), "images  records  layers x blobs 9 mounts "),
            (PrunePolicy::default(), "images 2 records 2 1 3 layers b c x blobs 2 9 mounts "),
            (
                PrunePolicy { images: PruneImages::Unused, cache_mounts: true, ..PrunePolicy::default() },
                "images 1 2 records 2 1 3 layers base a b c x blobs 1 2 9 mounts h",
            ),
            (
                PrunePolicy { unused_for: age, cache_mounts: true, ..PrunePolicy::default() },
                "images  records 2 1 layers b x blobs 9 mounts ",
            ),
            // 1170 bytes have a keeper: the oldest record frees 20, the next nothing, the mount 1000.
            (
                PrunePolicy { keep_bytes: Some(1170), cache_mounts: true, ..none.clone() },
                "images  records  layers x blobs 9 mounts ",
            ),
            (
                PrunePolicy { records: true, keep_bytes: Some(1160), cache_mounts: true, ..none.clone() },
                "images  records 2 layers b x blobs 9 mounts ",
            ),
            (
                PrunePolicy { records: true, keep_bytes: Some(1000), cache_mounts: true, ..none.clone() },
                "images  records 2 1 layers b x blobs 9 mounts h",
            ),
        ] {
            assert_eq!(short(&plan(&state(), &policy)), expected, "{policy:?}");
        }
    }

    #[test]
    fn containers_keep_their_image_and_layers() {
        let mut state = state();
        let details = serde_json::Value::Null;
        let image = Some(Digest::sha256([2; 32]));
        let layers = vec!["b".parse().unwrap()];
        state.containers = vec![Container { id: "1".into(), name: "one".into(), image, layers, created: 0, details }];
        let policy = PrunePolicy { images: PruneImages::Unused, ..PrunePolicy::default() };
        assert_eq!(short(&plan(&state, &policy)), "images 1 records 2 1 3 layers a x blobs 1 9 mounts ");
    }

    #[test]
    fn layers_keep_their_blobs() {
        let mut state = state();
        let blob = rbuild_image::Descriptor::new("a/b", Digest::sha256([9; 32]), 8);
        state.layers[1].blobs.push(blob);
        assert_eq!(
            short(&plan(&state, &PrunePolicy::default())),
            "images 2 records 2 1 3 layers b c x blobs 2 mounts "
        );
    }
}
