//! Does pruning remove what may go, and nothing else?

#![expect(clippy::unwrap_used, reason = "tests, and what they share")]

use std::fs;
use std::time::Duration;

use rbuild_cache::{Image, LayerId, LayerKind, PruneImages, PrunePolicy, Record, Sharing, Space, Store, Swept};
use rbuild_core::Digest;

fn layer(store: &Store, content: &str) -> LayerId {
    let snapshot = store.layers().prepare(&[]).unwrap();
    fs::write(snapshot.upper().join("file"), content).unwrap();
    snapshot.commit(LayerKind::Files).unwrap().id
}

fn record(store: &Store, number: u8, layers: &[&LayerId]) -> Digest {
    let key = Digest::blake3([number; 32]);
    let record = Record {
        listings: Vec::new(),
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

    let policy = PrunePolicy { images: PruneImages::Keep, records: false, ..PrunePolicy::default() };
    let report = store.prune(&policy).unwrap();
    assert_eq!((report.count("step"), report.swept.layers, report.swept.blobs), (0, 1, 1));
    assert_eq!((report.waiting, report.holders), (Swept::default(), Vec::new()));
    assert!(store.layers().find(&orphan).unwrap().is_none());
    assert!(!store.content().contains(&stray.digest));
    assert!(store.records().find(&without).unwrap().is_some());
    assert_eq!((count(&store, "layers-v1"), count(&store, "trash")), (2, 0));

    let young = PrunePolicy { unused_for: Some(Duration::from_secs(3600)), ..PrunePolicy::default() };
    store.records().find(&with_image).unwrap().unwrap();
    assert_eq!(store.prune(&young).unwrap().count("step"), 0, "a found record was used just now");

    let report = store.prune(&PrunePolicy { cache_mounts: true, ..PrunePolicy::default() }).unwrap();
    assert_eq!((report.count("step"), report.swept.layers, report.count("cachemount")), (2, 1, 1));
    assert!(report.bytes() >= 100_000);
    assert!(store.layers().find(&cached).unwrap().is_none());
    assert!(store.layers().prepare(std::slice::from_ref(&kept)).is_ok());
    assert_eq!(store.images().resolve("app").unwrap(), Some(image));
    assert_eq!(count(&store, "cache-mounts"), 0);

    let everything = PrunePolicy { images: PruneImages::Unused, ..PrunePolicy::default() };
    let report = store.prune(&everything).unwrap();
    assert_eq!((report.count("image"), report.swept.layers, report.swept.blobs), (1, 1, 1));
    for name in ["layers-v1", "blobs/sha256", "ingest", "trash"] {
        assert_eq!(count(&store, name), 0, "{name}");
    }
    assert_eq!(store.disk_usage().unwrap().images.count, 0);
}

/// Everything that nothing needs, and every record.
fn sweep(store: &Store) -> Swept {
    store
        .prune(&PrunePolicy { images: PruneImages::Unused, cache_mounts: true, ..PrunePolicy::default() })
        .unwrap()
        .swept
}

#[test]
fn what_a_lease_may_have_seen_stays_until_it_has_ended() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let layer = layer(&store, "seen");
    let key = record(&store, 1, &[&layer]);
    let config = store.content().put("application/json", b"{}").unwrap();

    let old = store.lease("old").unwrap();
    assert!(store.records().find(&key).unwrap().is_some());
    let report = store.prune(&PrunePolicy::default()).unwrap();
    assert_eq!((report.count("step"), report.swept), (1, Swept::default()));
    assert_eq!((report.waiting.layers, report.waiting.blobs), (1, 1));
    assert_eq!(report.holders.iter().map(|holder| holder.pid).collect::<Vec<_>>(), [std::process::id()]);
    assert!(store.records().find(&key).unwrap().is_none(), "nobody finds it any more");
    assert!(store.layers().prepare(std::slice::from_ref(&layer)).is_ok(), "who has found it goes on");
    assert_eq!(fs::read_dir(store.root().join("blobs/sha256")).unwrap().count(), 1);

    let new = store.lease("new").unwrap();
    assert_eq!(sweep(&store), Swept::default());
    drop(old);
    let swept = sweep(&store);
    assert_eq!((swept.layers, swept.blobs), (1, 1), "a later lease cannot have seen it");
    assert!(store.layers().find(&layer).unwrap().is_none() && !store.content().contains(&config.digest));
    drop(new);
}

#[test]
fn what_is_wanted_again_is_spared() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let (again, by_image) = (layer(&store, "again"), layer(&store, "by an image"));
    let tar = [0_u8; 1024];
    let diff_id = rbuild_image::sha256(&tar);
    let pulled = store.layers().import(&diff_id, &mut &tar[..]).unwrap().id;
    let config = store.content().put("application/json", b"{}").unwrap();

    let lease = store.lease("build").unwrap();
    assert_eq!(sweep(&store), Swept::default());
    // Each of them gets somebody who needs it, in another way.
    let key = record(&store, 1, &[&again]);
    assert_eq!(store.layers().find_by_diff_id(&diff_id).unwrap().unwrap().id, pulled);
    let image = Image { id: config.digest, layers: vec![by_image], manifest: None, created: 1, size: 0 };
    store.images().put(&image, &["app"]).unwrap();
    drop(lease);
    store.reap().unwrap();
    assert!(store.records().find(&key).unwrap().is_some());
    assert!(store.content().contains(&config.digest));
    assert!(store.layers().prepare(&image.layers).is_ok());
    // Found, though nothing needs it yet: whoever found it has a lease that began before the next prune.
    assert!(store.layers().prepare(&[pulled]).is_ok());
    assert_eq!(sweep(&store).layers, 3);
}

/// What a load or push does while somebody prunes: the image is listed for others in the transaction that spares it.
#[test]
fn a_condemned_manifest_can_be_listed() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let _lease = store.lease("load").unwrap();
    let config = store.content().put("application/vnd.oci.image.config.v1+json", b"{}").unwrap();
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[]}}"#,
        serde_json::to_string(&config).unwrap()
    );
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = Some(store.content().put(media_type, text.as_bytes()).unwrap());
    assert_eq!(store.prune(&PrunePolicy::default()).unwrap().waiting.blobs, 2);
    let image = Image { id: config.digest, layers: Vec::new(), manifest, created: 1, size: 0 };
    store.images().put(&image, &["app"]).unwrap();
    let listed = fs::read_to_string(store.root().join("index.json")).unwrap();
    assert!(listed.contains("app"), "{listed}");
    // A build that knows nothing of a push does not take its manifest away.
    store.images().put(&Image { manifest: None, ..image.clone() }, &["again"]).unwrap();
    assert_eq!(store.images().find(&image.id).unwrap(), Some(image));
}

#[test]
fn a_cache_mount_in_use_stays() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let mut used = store.cache_mounts().open("/used", Sharing::Shared).unwrap();
    used.finish_seed().unwrap();
    drop(store.cache_mounts().open("/idle", Sharing::Locked).unwrap());
    let policy = PrunePolicy { cache_mounts: true, ..PrunePolicy::default() };
    let gone = |report: rbuild_cache::PruneReport| {
        report.removals.into_iter().map(|removal| removal.description).collect::<Vec<_>>()
    };
    assert_eq!(gone(store.prune(&policy).unwrap()), ["/idle"]);
    assert!(used.path().is_dir());
    drop(used);
    assert_eq!(gone(store.prune(&policy).unwrap()), ["/used"]);
    assert_eq!(count(&store, "cache-mounts"), 0);
}

#[test]
fn a_dry_run_says_the_same_and_does_nothing() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let kept = layer(&store, "kept");
    record(&store, 1, &[&kept, &layer(&store, "other")]);
    let policy = PrunePolicy { space: Space { reserved: Some(0), ..Space::default() }, ..PrunePolicy::default() };
    let planned = store.prunable(&policy).unwrap();
    assert_eq!((planned.len(), store.records().list().unwrap().len(), count(&store, "layers-v1")), (3, 1, 2));
    assert_eq!(store.prune(&policy).unwrap().removals, planned);
}

/// Threads that make, find and use things as builds do, while others prune everything all the time.
#[test]
fn builds_and_prunes_do_not_meet() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let done = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for number in 0..3_u8 {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                for round in 0..40 {
                    build(store, number, round);
                }
                done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            });
        }
        scope.spawn(|| {
            while done.load(std::sync::atomic::Ordering::Relaxed) < 3 {
                sweep(&store);
            }
        });
    });
    sweep(&store);
    for name in ["layers-v1", "blobs/sha256", "ingest", "trash", "cache-mounts"] {
        assert_eq!(count(&store, name), 0, "{name}");
    }
}

fn build(store: &Store, number: u8, round: u32) {
    let _lease = store.lease("build").unwrap();
    // Two steps that others make, too, and one of its own.
    let mut layers = Vec::new();
    for step in [0, 1 + number % 2, 10 + number] {
        let key = Digest::blake3([step; 32]);
        let found = match store.records().find(&key).unwrap() {
            Some(record) => record.layers,
            None => {
                let made = layer(store, &format!("{step} {round}"));
                let all: Vec<_> = layers.iter().chain([&made]).cloned().collect();
                record(store, step, &all.iter().collect::<Vec<_>>());
                all
            }
        };
        // What was found can be used, whatever was pruned meanwhile.
        drop(store.layers().prepare(&found).unwrap());
        layers = found;
    }
    let mut mount = store.cache_mounts().open("/cache", Sharing::Shared).unwrap();
    mount.finish_seed().unwrap();
    fs::write(mount.path().join(number.to_string()), "x").unwrap();
    let config = store.content().put("application/json", format!("{number}").as_bytes()).unwrap();
    let image = Image { id: config.digest, layers: layers.clone(), manifest: None, created: 1, size: 0 };
    store.images().put(&image, &["app"]).unwrap();
    drop(store.layers().prepare(&layers).unwrap());
    assert_eq!(store.content().read_verified(&config.digest).unwrap(), format!("{number}").as_bytes());
    assert!(mount.path().join(number.to_string()).is_file());
}
