//! Does pruning remove what may go, and nothing else?

#![expect(clippy::unwrap_used, reason = "tests, and what they share")]

use std::fs;
use std::time::Duration;

use rbuild_cache::{Image, LayerId, LayerKind, PruneError, PruneImages, PrunePolicy, Record, Sharing, Store, WhenBusy};
use rbuild_core::Digest;

fn layer(store: &Store, content: &str) -> LayerId {
    let snapshot = store.layers().prepare(&[]).unwrap();
    fs::write(snapshot.upper().join("file"), content).unwrap();
    snapshot.commit(LayerKind::Files).unwrap().id
}

fn record(store: &Store, number: u8, layers: &[&LayerId]) -> Digest {
    let key = Digest::blake3([number; 32]);
    let record = Record {
        layers: layers.iter().map(|id| (*id).clone()).collect(),
        outputs: serde_json::json!([number]),
        provenance: serde_json::Value::Null,
        title: "RUN x".into(),
        created: 1,
        duration_ms: 1,
    };
    store.records().insert(&[key], &[], &record).unwrap();
    key
}

fn count(store: &Store, name: &str) -> usize {
    fs::read_dir(store.root().join(name)).unwrap().count()
}

#[test]
fn what_images_need_survives_and_the_rest_leaves_the_disk() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let (kept, cached, orphan) = (layer(&store, "kept"), layer(&store, "cached"), layer(&store, "orphan"));
    let config = store.content().put("application/json", b"{}").unwrap();
    let stray = store.content().put("application/json", b"[]").unwrap();
    let image = Image { id: config.digest, layers: vec![kept.clone()], manifest: None, created: 1, size: 0 };
    store.images().put(&image, &["app"]).unwrap();
    let (with_image, without) = (record(&store, 1, &[&kept]), record(&store, 2, &[&kept, &cached]));
    let mut mount = store.cache_mounts().open("/cache", Sharing::Shared).unwrap();
    mount.finish_seed().unwrap();
    fs::write(mount.path().join("x"), vec![1; 100_000]).unwrap();
    drop(mount);
    fs::create_dir(store.root().join("layers-v1/left-by-a-crash")).unwrap();

    let usage = store.disk_usage().unwrap();
    assert_eq!((usage.images.count, usage.build_cache.count, usage.blobs.count), (1, 2, 2));
    assert!(usage.cache_mounts.bytes >= 100_000 && usage.images.reclaimable > 0);

    let lease = store.lease("test").unwrap();
    match store.prune(&PrunePolicy::default()) {
        Err(PruneError::Busy(holders)) => {
            assert_eq!(holders.iter().map(|holder| holder.pid).collect::<Vec<_>>(), [std::process::id()]);
        }
        other => panic!("pruned under a lease: {other:?}"),
    }
    drop(lease);

    let policy = PrunePolicy { images: PruneImages::Keep, records: false, ..PrunePolicy::default() };
    let report = store.prune(&policy).unwrap();
    assert_eq!((report.records, report.layers, report.blobs), (0, 1, 1));
    assert!(store.layers().find(&orphan).unwrap().is_none());
    assert!(!store.content().contains(&stray.digest));
    assert!(store.records().find(&without).unwrap().is_some());
    assert_eq!((count(&store, "layers-v1"), count(&store, "trash")), (2, 0));

    let young = PrunePolicy { unused_for: Some(Duration::from_secs(3600)), ..PrunePolicy::default() };
    store.records().find(&with_image).unwrap().unwrap();
    assert_eq!(store.prune(&young).unwrap().records, 0, "a found record was used just now");

    let report = store.prune(&PrunePolicy { cache_mounts: true, ..PrunePolicy::default() }).unwrap();
    assert_eq!((report.records, report.layers, report.cache_mounts.as_slice()), (2, 1, &["/cache".to_owned()][..]));
    assert!(report.bytes >= 100_000);
    assert!(store.layers().find(&cached).unwrap().is_none());
    assert!(store.layers().prepare(std::slice::from_ref(&kept)).is_ok());
    assert_eq!(store.images().resolve("app").unwrap(), Some(image));
    assert_eq!(count(&store, "cache-mounts"), 0);

    let everything = PrunePolicy { images: PruneImages::Unused, when_busy: WhenBusy::Wait, ..PrunePolicy::default() };
    let report = store.prune(&everything).unwrap();
    assert_eq!((report.images.len(), report.layers, report.blobs), (1, 1, 1));
    for name in ["layers-v1", "blobs/sha256", "ingest", "trash"] {
        assert_eq!(count(&store, name), 0, "{name}");
    }
    assert_eq!(store.disk_usage().unwrap().images.count, 0);
}
