//! What does a policy remove?
//!
//! Pure: everything there is comes in, a list of what goes comes out.

use std::collections::{HashMap, HashSet};
use std::fmt;

use rbuild_core::Digest;

use super::policy::{PruneImages, PrunePolicy};
use super::state::{ListedState, MountState, RecordState, State};
use crate::images::Image;
use crate::layers::{Layer, LayerId};

/// Something that goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Removal {
    /// What it is.
    pub item: Item,
    /// An image's names, a step's title, a cache mount's id; empty for what has no other name than its own.
    pub description: String,
    /// Bytes on disk that are its own. Images and steps have none: layers have them.
    pub bytes: u64,
    /// Seconds since 1970.
    pub last_used: Option<u64>,
    /// Why it goes.
    pub reason: Reason,
}

/// What can go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Item {
    /// An image with its names.
    Image(Digest),
    /// A build record.
    Record(Digest),
    /// A cache mount, by the hash of its id.
    CacheMount(String),
    /// A layer.
    Layer(LayerId),
    /// A blob.
    Blob(Digest),
}

impl Item {
    /// The word for its kind, as filters use it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Image(_) => "image",
            Self::Record(_) => "step",
            Self::CacheMount(_) => "cachemount",
            Self::Layer(_) => "layer",
            Self::Blob(_) => "blob",
        }
    }

    /// Its name among its kind.
    pub fn id(&self) -> String {
        match self {
            Self::Image(id) => id.to_string(),
            Self::Blob(digest) => digest.to_string(),
            Self::Record(id) => id.hex(),
            Self::CacheMount(hash) => hash.clone(),
            Self::Layer(id) => id.to_string(),
        }
    }
}

/// Why something goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// Nothing needs it, or will when everything else on the list is gone.
    Unneeded,
    /// An image without a name, of which no container was made.
    Unnamed,
    /// An image of which no container was made.
    Unused,
    /// The policy takes all of its kind.
    Asked,
    /// It was not used for so many seconds.
    Old(u64),
    /// The store takes too much, and nothing that stays was used less recently.
    Room,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unneeded => formatter.write_str("nothing needs it"),
            Self::Unnamed => formatter.write_str("has no name, and no container uses it"),
            Self::Unused => formatter.write_str("no container uses it"),
            Self::Asked => formatter.write_str("all that may be made again goes"),
            Self::Old(seconds) => write!(formatter, "not used for {}", age(*seconds)),
            Self::Room => formatter.write_str("the longest unused of a store that takes too much"),
        }
    }
}

/// In the largest unit that says something.
fn age(seconds: u64) -> String {
    let units = [(24 * 3600, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds")];
    let (size, name) = units.into_iter().find(|(size, _)| seconds >= 2 * size).unwrap_or((1, "seconds"));
    format!("{} {name}", seconds / size)
}

/// What some rows need.
#[derive(Debug, Default)]
pub(super) struct Needed {
    pub(super) layers: HashSet<LayerId>,
    pub(super) blobs: HashSet<Digest>,
}

/// Everything that goes.
pub(super) fn plan(state: &State, policy: &PrunePolicy) -> Vec<Removal> {
    let mut choice = Choice::new(state, policy);
    choice.images();
    choice.cache();
    choice.unneeded();
    choice.removals
}

struct Choice<'a> {
    state: &'a State,
    policy: &'a PrunePolicy,
    removals: Vec<Removal>,
    dropped_images: HashSet<Digest>,
    /// How many rows that stay need each layer.
    keepers: HashMap<&'a LayerId, usize>,
    /// Bytes of a layer with its blobs.
    sizes: HashMap<&'a LayerId, u64>,
}

impl<'a> Choice<'a> {
    fn new(state: &'a State, policy: &'a PrunePolicy) -> Self {
        let blobs: HashMap<&Digest, u64> = state.blobs.iter().map(|(digest, size)| (digest, *size)).collect();
        let of_blobs = |layer: &Layer| layer.blobs.iter().filter_map(|blob| blobs.get(&blob.digest)).sum::<u64>();
        let sizes = state.layers.iter().map(|layer| (&layer.id, layer.disk_bytes + of_blobs(layer))).collect();
        let dropped_images = HashSet::new();
        Self { state, policy, removals: Vec::new(), dropped_images, keepers: HashMap::new(), sizes }
    }

    fn images(&mut self) {
        for listed in &self.state.images {
            let wanted = match self.policy.images {
                PruneImages::Keep => None,
                PruneImages::Dangling => listed.names.is_empty().then_some(Reason::Unnamed),
                PruneImages::Unused => Some(Reason::Unused),
            };
            let id = listed.image.id;
            let in_use = self.state.containers.iter().any(|container| container.image == Some(id));
            let Some(reason) = wanted.filter(|_| !in_use) else { continue };
            let description = listed.names.join(" ");
            let item = Item::Image(id);
            if let Some(reason) = self.admitted(&item, &description, listed.used, reason) {
                self.dropped_images.insert(id);
                self.removals.push(Removal { item, description, bytes: 0, last_used: Some(listed.used), reason });
            }
        }
    }

    /// Records and cache mounts.
    fn cache(&mut self) {
        let kept_images = self.state.images.iter().filter(|listed| !self.dropped_images.contains(&listed.image.id));
        let of_images = kept_images.flat_map(|listed| &listed.image.layers);
        let of_containers = self.state.containers.iter().flat_map(|container| &container.layers);
        for layer in of_images.chain(of_containers) {
            *self.keepers.entry(layer).or_default() += 1;
        }
        let others: HashSet<_> = self.keepers.keys().copied().collect();
        for layer in self.state.records.iter().flat_map(|record| &record.layers) {
            *self.keepers.entry(layer).or_default() += 1;
        }
        // What only the cache has. Images are no cache, and what nothing has goes in any case.
        let cached = self.keepers.keys().filter(|id| !others.contains(*id));
        let mut total: u64 = cached.filter_map(|id| self.sizes.get(id)).sum();
        total += self.state.mounts.iter().map(|mount| mount.bytes).sum::<u64>();
        let keep = self.policy.space.keeps(total, self.state.free);
        for candidate in self.candidates() {
            if keep.is_some_and(|keep| total <= keep) {
                break;
            }
            if let (Some(_), Candidate::Record(record)) = (keep, candidate)
                && record.layers.iter().all(|layer| others.contains(layer))
            {
                // Makes no room: images have the same layers.
                continue;
            }
            let asked = if keep.is_some() { Reason::Room } else { Reason::Asked };
            let (item, description, used, bytes) = match candidate {
                Candidate::Mount(mount) => {
                    (Item::CacheMount(mount.hash.clone()), mount.id.clone(), mount.used, mount.bytes)
                }
                Candidate::Record(record) => (Item::Record(record.id), record.title.clone(), record.used, 0),
            };
            let Some(reason) = self.admitted(&item, &description, used, asked) else { continue };
            total -= bytes;
            if let Candidate::Record(record) = candidate {
                total -= self.forget(record);
            }
            self.removals.push(Removal { item, description, bytes, last_used: Some(used), reason });
        }
    }

    /// What the policy may take, in the order in which it does.
    fn candidates(&self) -> Vec<Candidate<'a>> {
        let records = self.state.records.iter().filter(|_| self.policy.records).map(Candidate::Record);
        let mounts = self.state.mounts.iter().filter(|_| self.policy.cache_mounts).map(Candidate::Mount);
        let mut candidates: Vec<_> = records.chain(mounts).collect();
        // Of one build, the steps near the end go first: the others can stand without them.
        candidates.sort_by_key(|candidate| match candidate {
            Candidate::Record(record) => (record.used, std::cmp::Reverse(record.layers.len())),
            Candidate::Mount(mount) => (mount.used, std::cmp::Reverse(0)),
        });
        candidates
    }

    /// The bytes that nothing needs once the record is gone.
    fn forget(&mut self, record: &'a RecordState) -> u64 {
        let mut freed = 0;
        for layer in &record.layers {
            let Some(count) = self.keepers.get_mut(layer) else { continue };
            *count -= 1;
            if *count == 0 {
                self.keepers.remove(layer);
                freed += self.sizes.get(layer).unwrap_or(&0);
            }
        }
        freed
    }

    /// Layers and blobs that nothing needs any more.
    fn unneeded(&mut self) {
        let (state, keepers) = (self.state, &self.keepers);
        let removal = |item, bytes, last_used| {
            let (description, reason) = (String::new(), Reason::Unneeded);
            Removal { item, description, bytes, last_used, reason }
        };
        for layer in state.layers.iter().filter(|layer| !keepers.contains_key(&layer.id)) {
            self.removals.push(removal(Item::Layer(layer.id.clone()), layer.disk_bytes, Some(layer.last_used)));
        }
        let dropped = &self.dropped_images;
        let kept = keep_blobs(state, |image| !dropped.contains(&image.id), |layer| keepers.contains_key(&layer.id));
        for (digest, size) in state.blobs.iter().filter(|(digest, _)| !kept.contains(digest)) {
            self.removals.push(removal(Item::Blob(*digest), *size, None));
        }
    }

    /// The reason, if age and filters let the thing go.
    fn admitted(&self, item: &Item, description: &str, used: u64, reason: Reason) -> Option<Reason> {
        let unused = self.state.now.saturating_sub(used);
        let passes = |filter: &super::Filter| filter.admits(&item.id(), item.kind(), description);
        if !self.policy.filters.iter().all(passes) {
            return None;
        }
        match self.policy.unused_for {
            None => Some(reason),
            Some(least) if unused <= least.as_secs() => None,
            Some(_) if matches!(reason, Reason::Asked) => Some(Reason::Old(unused)),
            Some(_) => Some(reason),
        }
    }
}

#[derive(Clone, Copy)]
enum Candidate<'a> {
    Record(&'a RecordState),
    Mount(&'a MountState),
}

/// The blobs that images and layers need, as far as those stay.
pub(super) fn keep_blobs(
    state: &State,
    image: impl Fn(&Image) -> bool,
    layer: impl Fn(&Layer) -> bool,
) -> HashSet<Digest> {
    let images = state.images.iter().map(|listed: &ListedState| &listed.image).filter(|one| image(one));
    let of_images = images.flat_map(|one| one.manifest.iter().map(|manifest| manifest.digest).chain([one.id]));
    let of_layers =
        state.layers.iter().filter(|one| layer(one)).flat_map(|one| one.blobs.iter().map(|blob| blob.digest));
    of_images.chain(of_layers).collect()
}

#[cfg(test)]
mod tests;
