//! What is there, and what needs what?

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use ignore::{WalkBuilder, WalkState};
use rbuild_core::Digest;

use super::plan::Needed;
use crate::cache_mounts::CACHE_MOUNTS;
use crate::containers::{CONTAINERS, Container};
use crate::error::{Context, Result, StoreError};
use crate::images::{IMAGES, Image, NAMES, REMOTES};
use crate::layers::{self, LAYERS, Layer, LayerId};
use crate::meta::Reader;
use crate::records::{HOLDERS, Holder, KEYS, STEPS};
use crate::store::{self, Store, USED, used_key};

/// Everything a decision can depend on.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) now: u64,
    /// Bytes free on the file system.
    pub(super) free: u64,
    pub(super) layers: Vec<Layer>,
    pub(super) records: Vec<RecordState>,
    /// The keys of records that cannot be read.
    pub(super) damaged: Vec<Vec<u8>>,
    /// Cache key → record.
    pub(super) keys: Vec<(Vec<u8>, Digest)>,
    /// Step key → its latest record.
    pub(super) steps: Vec<(Vec<u8>, Digest)>,
    /// Name → image.
    pub(super) names: Vec<(Vec<u8>, Digest)>,
    pub(super) images: Vec<ListedState>,
    /// Remote name → image.
    pub(super) remotes: Vec<(Vec<u8>, Digest)>,
    pub(super) containers: Vec<Container>,
    pub(super) mounts: Vec<MountState>,
    /// With their bytes on disk.
    pub(super) blobs: Vec<(Digest, u64)>,
    /// The transaction whose state this is.
    pub(super) transaction: usize,
}

#[derive(Clone, Debug)]
pub(super) struct RecordState {
    pub(super) id: Digest,
    pub(super) title: String,
    pub(super) layers: Vec<LayerId>,
    pub(super) listings: Vec<Digest>,
    pub(super) used: u64,
}

#[derive(Clone, Debug)]
pub(super) struct ListedState {
    pub(super) image: Image,
    pub(super) names: Vec<String>,
    pub(super) used: u64,
}

#[derive(Clone, Debug)]
pub(super) struct MountState {
    pub(super) hash: String,
    pub(super) id: String,
    pub(super) used: u64,
    pub(super) bytes: u64,
}

impl State {
    /// All there is. `mounts` are what cache mounts take.
    pub(super) fn read(store: &Store, reader: &Reader<'_>, mounts: &[(String, u64)]) -> Result<Self> {
        let mut state = Self::read_rows(reader, mounts)?;
        (_, state.free) = store.disk()?;
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

    fn read_rows(reader: &Reader<'_>, mounts: &[(String, u64)]) -> Result<Self> {
        let used = |letter: u8, key: &[u8], otherwise: u64| {
            Ok::<_, StoreError>(reader.find(&USED, &used_key(letter, key))?.unwrap_or(otherwise))
        };
        let transaction = reader.transaction();
        let mut state = Self { now: store::now(), layers: layers::list(reader)?, transaction, ..Self::default() };
        let records = reader.list_sound(&HOLDERS)?;
        state.damaged = records.damaged;
        for (key, record) in records.rows {
            let Ok(id) = <[u8; 32]>::try_from(key.as_slice()).map(Digest::blake3) else { continue };
            let Holder { title, layers, listings, created, .. } = record;
            let used = used(b'r', &key, created)?;
            state.records.push(RecordState { id, title, layers, listings, used });
        }
        state.keys = reader.list(&KEYS, b"")?;
        state.steps = reader.list(&STEPS, b"")?;
        state.names = reader.list(&NAMES, b"")?;
        for (key, image) in reader.list(&IMAGES, b"")? {
            // An image's creation time is its author's; never used means just made.
            let used = used(b'i', &key, state.now)?;
            let names = state.names.iter().filter(|(_, id)| *id == image.id);
            let names = names.map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
            state.images.push(ListedState { names, used, image });
        }
        state.remotes = reader.list(&REMOTES, b"")?.into_iter().map(|(name, remote)| (name, remote.image)).collect();
        state.containers = reader.list(&CONTAINERS, b"")?.into_iter().map(|(_, container)| container).collect();
        for (key, id) in reader.list(&CACHE_MOUNTS, b"")? {
            let hash = String::from_utf8_lossy(&key).into_owned();
            let bytes = mounts.iter().find(|(known, _)| *known == hash).map_or(0, |(_, bytes)| *bytes);
            state.mounts.push(MountState { hash, id, used: used(b'q', &key, state.now)?, bytes });
        }
        Ok(state)
    }
}

/// Layers and blobs that some row needs, other than those of layers that nothing needs.
pub(super) fn needed(reader: &Reader<'_>) -> Result<Needed> {
    let mut needed = Needed::default();
    for (_, image) in reader.list(&IMAGES, b"")? {
        needed.blobs.insert(image.id);
        needed.blobs.extend(image.manifest.map(|manifest| manifest.digest));
        needed.layers.extend(image.layers);
    }
    for (_, container) in reader.list(&CONTAINERS, b"")? {
        needed.layers.extend(container.layers);
    }
    for (_, record) in reader.list_sound(&HOLDERS)?.rows {
        needed.layers.extend(record.layers);
    }
    for id in &needed.layers {
        if let Some(layer) = reader.find(&LAYERS, id.as_bytes())? {
            needed.blobs.extend(layer.blobs.iter().map(|blob| blob.digest));
        }
    }
    Ok(needed)
}

/// What each cache mount takes, by the hash of its id.
pub(super) fn mount_sizes(store: &Store) -> Result<Vec<(String, u64)>> {
    let rows = store.0.meta.read(|reader| reader.list(&CACHE_MOUNTS, b""))?;
    let size = |(key, _): (Vec<u8>, String)| {
        let hash = String::from_utf8_lossy(&key).into_owned();
        let bytes = slots(store.root(), &hash).iter().map(|path| tree_bytes(path)).sum();
        (hash, bytes)
    };
    Ok(rows.into_iter().map(size).collect())
}

/// The directories of one cache mount.
pub(super) fn slots(root: &Path, hash: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root.join("cache-mounts")) else { return Vec::new() };
    let is_one = |name: &str| name == hash || name.strip_prefix(hash).is_some_and(|rest| rest.starts_with('.'));
    entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_one)).map(|entry| entry.path()).collect()
}

/// Bytes on disk of everything below `path`, as far as it can be seen. A file with several names counts once.
///
/// Several threads look: cache mounts of package managers are the largest trees that a store does not know file by file.
pub(super) fn tree_bytes(path: &Path) -> u64 {
    let linked = Mutex::new(HashSet::new());
    let bytes = AtomicU64::new(0);
    WalkBuilder::new(path).standard_filters(false).build_parallel().run(|| {
        Box::new(|entry| {
            let below = entry.ok().filter(|entry| entry.depth() > 0);
            let Some(metadata) = below.and_then(|entry| entry.metadata().ok()) else { return WalkState::Continue };
            let is_new = || linked.lock().unwrap_or_else(PoisonError::into_inner).insert(metadata.ino());
            if metadata.nlink() == 1 || metadata.is_dir() || is_new() {
                bytes.fetch_add(metadata.blocks() * 512, Ordering::Relaxed);
            }
            WalkState::Continue
        })
    });
    bytes.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_a_tree_count_each_file_once() {
        let top = tempfile::tempdir().unwrap();
        let below = top.path().join("tree/.hidden/deep");
        fs::create_dir_all(&below).unwrap();
        fs::write(top.path().join("tree/.gitignore"), "*\n").unwrap();
        fs::write(below.join("one"), vec![1; 100_000]).unwrap();
        fs::hard_link(below.join("one"), top.path().join("tree/other name")).unwrap();
        fs::write(top.path().join("tree/two"), vec![2; 50_000]).unwrap();
        std::os::unix::fs::symlink("/", top.path().join("tree/link")).unwrap();
        let parts = [".hidden", ".hidden/deep", ".gitignore", ".hidden/deep/one", "two", "link"];
        let bytes = |part| fs::symlink_metadata(top.path().join("tree").join(part)).unwrap().blocks() * 512;
        assert_eq!(tree_bytes(&top.path().join("tree")), parts.into_iter().map(bytes).sum::<u64>());
        assert_eq!(tree_bytes(&top.path().join("nothing")), 0);
    }
}
