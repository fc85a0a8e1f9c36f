//! What takes how much room?

use std::collections::{HashMap, HashSet};
use std::fs;

use super::plan::{Item, keep_blobs};
use super::state::{ListedState, State, mount_sizes, tree_bytes};
use crate::error::{Context, Result};
use crate::layers::LayerId;
use crate::store::Store;

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

/// Something in the store, and what it takes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// What it is: an image, a build record or a cache mount.
    pub item: Item,
    /// An image's names, a step's title, a cache mount's id.
    pub description: String,
    /// Bytes on disk: of a step its own layer, of an image all layers.
    pub bytes: u64,
    /// Whether others need some of these bytes, too.
    pub shared: bool,
    /// Whether an image, for a step, or a container, for an image, keeps it.
    pub in_use: bool,
    /// Seconds since 1970.
    pub last_used: u64,
}

impl Store {
    /// Every image, build record and cache mount, the least recently used first.
    ///
    /// # Errors
    /// The disk or the metadata fails.
    pub fn inventory(&self) -> Result<Vec<Entry>> {
        let mounts = mount_sizes(self)?;
        let state = self.0.meta.read(|reader| State::read(self, reader, &mounts))?;
        let sizes: HashMap<&LayerId, u64> = state.layers.iter().map(|layer| (&layer.id, layer.disk_bytes)).collect();
        let size = |id: &LayerId| sizes.get(id).copied().unwrap_or(0);
        let mut users: HashMap<&LayerId, usize> = HashMap::new();
        let of_images: Vec<_> = state.images.iter().flat_map(|listed| &listed.image.layers).collect();
        let of_containers: Vec<_> = state.containers.iter().flat_map(|container| &container.layers).collect();
        let own = state.records.iter().filter_map(|record| record.layers.last());
        of_images.iter().chain(&of_containers).copied().chain(own).for_each(|id| *users.entry(id).or_default() += 1);
        let kept: HashSet<_> = of_images.into_iter().chain(of_containers).collect();
        let is_shared = |id: &LayerId| users.get(id).is_some_and(|users| *users > 1);

        let mut entries = Vec::new();
        for listed in &state.images {
            let id = listed.image.id;
            entries.push(Entry {
                item: Item::Image(id),
                description: listed.names.join(" "),
                bytes: listed.image.layers.iter().map(size).sum(),
                shared: listed.image.layers.iter().any(is_shared),
                in_use: state.containers.iter().any(|container| container.image == Some(id)),
                last_used: listed.used,
            });
        }
        for record in &state.records {
            let own = record.layers.last();
            entries.push(Entry {
                item: Item::Record(record.id),
                description: record.title.clone(),
                bytes: own.map_or(0, size),
                shared: own.is_some_and(is_shared),
                in_use: own.is_some_and(|own| kept.contains(own)),
                last_used: record.used,
            });
        }
        for mount in &state.mounts {
            let item = Item::CacheMount(mount.hash.clone());
            let (description, bytes, last_used) = (mount.id.clone(), mount.bytes, mount.used);
            entries.push(Entry { item, description, bytes, shared: false, in_use: false, last_used });
        }
        entries.sort_by_key(|entry| entry.last_used);
        Ok(entries)
    }

    /// What takes how much room. Reads all metadata and walks what is not accounted there.
    ///
    /// # Errors
    /// The disk or the metadata fails.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        let mounts = mount_sizes(self)?;
        let state = self.0.meta.read(|reader| State::read(self, reader, &mounts))?;
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
}
