//! What does a policy remove?
//!
//! Pure: everything there is comes in, a list of what goes comes out.

use std::collections::{HashMap, HashSet};

use rbuild_core::Digest;

use super::{PruneImages, PrunePolicy};
use crate::containers::Container;
use crate::images::Image;
use crate::layers::{Layer, LayerId};

/// Everything a decision can depend on.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) now: u64,
    pub(super) layers: Vec<Layer>,
    pub(super) records: Vec<RecordState>,
    /// Cache key → record.
    pub(super) keys: Vec<(Vec<u8>, Digest)>,
    /// Step key → its latest record.
    pub(super) steps: Vec<(Vec<u8>, Digest)>,
    pub(super) images: Vec<ListedState>,
    /// Remote name → image.
    pub(super) remotes: Vec<(Vec<u8>, Digest)>,
    pub(super) containers: Vec<Container>,
    pub(super) mounts: Vec<MountState>,
    pub(super) blobs: Vec<(Digest, u64)>,
}

#[derive(Clone, Debug)]
pub(super) struct RecordState {
    pub(super) id: Digest,
    pub(super) layers: Vec<LayerId>,
    pub(super) used: u64,
}

#[derive(Clone, Debug)]
pub(super) struct ListedState {
    pub(super) image: Image,
    pub(super) named: bool,
    pub(super) used: u64,
}

#[derive(Clone, Debug)]
pub(super) struct MountState {
    pub(super) hash: String,
    pub(super) id: String,
    pub(super) used: u64,
    pub(super) bytes: u64,
}

/// What is to go.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Plan {
    pub(super) images: Vec<Digest>,
    pub(super) records: Vec<Digest>,
    pub(super) layers: Vec<LayerId>,
    pub(super) blobs: Vec<Digest>,
    pub(super) mounts: Vec<String>,
    pub(super) bytes: u64,
}

pub(super) fn plan(state: &State, policy: &PrunePolicy) -> Plan {
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

pub(super) fn keep_blobs(
    state: &State,
    image: impl Fn(&Image) -> bool,
    layer: impl Fn(&Layer) -> bool,
) -> HashSet<Digest> {
    let images = state.images.iter().map(|listed| &listed.image).filter(|one| image(one));
    let of_images = images.flat_map(|one| one.manifest.iter().map(|manifest| manifest.digest).chain([one.id]));
    let of_layers =
        state.layers.iter().filter(|one| layer(one)).flat_map(|one| one.blobs.iter().map(|blob| blob.digest));
    of_images.chain(of_layers).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Form, LayerKind};

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
