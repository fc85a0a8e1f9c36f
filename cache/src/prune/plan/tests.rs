use std::time::Duration;

use super::*;
use crate::containers::Container;
use crate::prune::{Filter, FilterField, FilterTest, Space};
use crate::{Form, LayerKind};

fn layer(name: &str, disk_bytes: u64) -> Layer {
    Layer {
        id: name.parse().unwrap(),
        identity: Digest::blake3([0; 32]),
        diff_id: None,
        size: None,
        form: Form::Directory,
        file: None,
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
    RecordState {
        id: Digest::blake3([number; 32]),
        title: format!("step {number}"),
        layers,
        listings: Vec::new(),
        used,
    }
}

fn image(number: u8, layers: &[&str], named: bool, used: u64) -> ListedState {
    let layers = layers.iter().map(|name| name.parse().unwrap()).collect();
    let image = Image { id: Digest::sha256([number; 32]), layers, manifest: None, created: 0, size: 0 };
    ListedState { image, names: named.then(|| "app".to_owned()).into_iter().collect(), used }
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
fn short(plan: &[Removal]) -> String {
    let name = |item: &Item| match item {
        Item::Image(digest) | Item::Record(digest) | Item::Blob(digest) => digest.as_bytes()[0].to_string(),
        Item::Layer(id) => id.to_string(),
        Item::CacheMount(hash) => hash.clone(),
    };
    let of = |kind: &str| {
        let names: Vec<_> = plan.iter().filter(|gone| gone.item.kind() == kind).map(|gone| name(&gone.item)).collect();
        names.join(" ")
    };
    let (images, records, layers) = (of("image"), of("step"), of("layer"));
    format!("images {images} records {records} layers {layers} blobs {} mounts {}", of("blob"), of("cachemount"))
}

fn keep(bytes: u64) -> Space {
    Space { reserved: Some(bytes), ..Space::default() }
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
        // Only the cache has 1020 bytes: the oldest record frees 20, the next nothing, the mount 1000.
        (
            PrunePolicy { space: keep(1020), cache_mounts: true, ..none.clone() },
            "images  records  layers x blobs 9 mounts ",
        ),
        (
            PrunePolicy { records: true, space: keep(1010), cache_mounts: true, ..none.clone() },
            "images  records 2 layers b x blobs 9 mounts ",
        ),
        (
            PrunePolicy { records: true, space: keep(990), cache_mounts: true, ..none.clone() },
            "images  records 2 layers b x blobs 9 mounts h",
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
    assert_eq!(short(&plan(&state, &PrunePolicy::default())), "images 2 records 2 1 3 layers b c x blobs 2 mounts ");
}

#[test]
fn filters_must_all_agree() {
    let is = |field, text: &str| Filter { field, test: FilterTest::Is(text.to_owned()) };
    let matches = |text| FilterTest::Matches(regex::Regex::new(text).unwrap());
    for (filters, expected) in [
        (vec![is(FilterField::Kind, "cachemount")], "images  records  layers x blobs 9 mounts h"),
        (vec![is(FilterField::Description, "step 2")], "images  records 2 layers b x blobs 9 mounts "),
        (
            vec![Filter { field: FilterField::Description, test: matches("step [13]") }],
            "images  records 1 3 layers x blobs 9 mounts ",
        ),
        (
            vec![
                Filter { field: FilterField::Kind, test: FilterTest::IsNot("image".to_owned()) },
                Filter { field: FilterField::Description, test: matches("ca|3") },
            ],
            "images  records 3 layers x blobs 9 mounts h",
        ),
        (vec![is(FilterField::Id, "h"), is(FilterField::Kind, "step")], "images  records  layers x blobs 9 mounts "),
    ] {
        let policy = PrunePolicy { filters, cache_mounts: true, ..PrunePolicy::default() };
        assert_eq!(short(&plan(&state(), &policy)), expected, "{:?}", policy.filters);
    }
}

#[test]
fn reasons_read_well() {
    let policy =
        PrunePolicy { unused_for: Some(Duration::from_secs(300)), images: PruneImages::Keep, ..PrunePolicy::default() };
    let reasons: Vec<_> = plan(&state(), &policy)
        .iter()
        .map(|gone| format!("{} {}: {}", gone.item.kind(), gone.description, gone.reason))
        .collect();
    assert_eq!(
        reasons,
        [
            "step step 2: not used for 8 minutes",
            "step step 1: not used for 8 minutes",
            "layer : nothing needs it",
            "layer : nothing needs it",
            "blob : nothing needs it",
        ]
    );
    assert_eq!(Reason::Old(3 * 24 * 3600 + 5).to_string(), "not used for 3 days");
}
