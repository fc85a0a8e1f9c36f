//! Is a layer with a large file the same however the file comes, and what is left if it does not come whole?

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use rbuild_cache::{FileContent, Form, Layer, LayerError, LayerForm, LayerKind, Store, StoreOptions, TarOptions};
use rbuild_image::{Change, Entry, EntryKind, Timestamp};

const MIB: u64 = 1 << 20;
const FULL: &str = "RBUILD_CACHE_TEST_FULL";

fn store(root: &Path) -> Store {
    let read_erofs: rbuild_cache::ReadErofs = |_, _| Ok(b"layers can be files\n".to_vec());
    let options = StoreOptions { layers: LayerForm::Erofs, read_erofs: Some(read_erofs), ..StoreOptions::default() };
    Store::open_with(root, options).unwrap()
}

fn entry(path: &str, kind: EntryKind) -> Change {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mtime = Timestamp::from_seconds(7);
    Change::Upsert(Entry { path: path.into(), kind, mode: 0o755, uid, gid, mtime, xattrs: BTreeMap::new() })
}

fn noise(length: u64) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 29) as u8).collect()
}

#[derive(Clone, Copy)]
enum Way {
    Bytes,
    Reader,
    File,
    Known,
}

/// A large file between two others.
fn build(store: &Store, content: &[u8], file: &File, way: Way) -> Layer {
    let mut builder = store.layers().build().unwrap();
    builder.append(&entry("a", EntryKind::File { size: 300_000 }), FileContent::bytes(noise(300_000))).unwrap();
    let change = entry("b", EntryKind::File { size: content.len() as u64 });
    let mut reader = content;
    let given = match way {
        Way::Bytes => FileContent::bytes(content.to_vec()),
        Way::Reader => FileContent::reader(&mut reader),
        Way::File => FileContent::file(file),
        Way::Known => FileContent::file(file).with_digest(*blake3::hash(content).as_bytes()),
    };
    builder.append(&change, given.linked()).unwrap();
    builder.append(&entry("c", EntryKind::File { size: 2_000_000 }), FileContent::bytes(noise(2_000_000))).unwrap();
    let link = EntryKind::Hardlink { target: "b".into() };
    builder.append(&entry("d", link), FileContent::empty()).unwrap();
    builder.commit(LayerKind::Files).unwrap()
}

fn tar(store: &Store, layer: &Layer) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.layers().write_tar(&layer.id, TarOptions::default(), &mut bytes).unwrap();
    bytes
}

#[test]
fn every_way_gives_the_same_layer() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let sparse = |data: &[(u64, u64)], length| {
        let file = tempfile::tempfile().unwrap();
        file.set_len(length).unwrap();
        data.iter().for_each(|(at, length)| file.write_all_at(&noise(*length), *at).unwrap());
        file
    };
    let cases = [
        ("data", sparse(&[(0, 21 * MIB + 5)], 21 * MIB + 5)),
        ("nothing but a hole", sparse(&[], 30 * MIB)),
        ("data in the middle", sparse(&[(11 * MIB + 100, 3 * MIB)], 32 * MIB + 511)),
        ("data at both ends", sparse(&[(0, 1), (25 * MIB - 1, 1)], 25 * MIB)),
    ];
    for (name, file) in &cases {
        let mut content = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut content, 0).unwrap();
        let ways = [Way::Bytes, Way::Reader, Way::File, Way::Known];
        let layers = ways.map(|way| {
            // From where it stands.
            std::io::Seek::rewind(&mut &*file).unwrap();
            build(&store, &content, file, way)
        });
        let expected = tar(&store, &layers[0]);
        for layer in &layers {
            assert_eq!(layer.form, Form::Erofs, "{name}");
            assert_eq!((layer.identity, layer.diff_id), (layers[0].identity, layers[0].diff_id), "{name}");
            assert!(tar(&store, layer) == expected, "{name}");
        }
        let room =
            |layer: &Layer| fs::metadata(root.path().join("layers-v1").join(layer.id.as_str())).unwrap().blocks() * 512;
        if *name == "nothing but a hole" {
            assert!(room(&layers[0]) > 30 * MIB && room(&layers[3]) < 6 * MIB, "holes stay holes");
        }
        // What the next layer may take from such a layer.
        let former = store.layers().former(&layers[3].id).unwrap().unwrap();
        let mut builder = store.layers().build_like(Some(former.clone())).unwrap();
        for (path, content) in [("a", noise(300_000)), ("b", content), ("c", noise(2_000_001))] {
            let change = entry(path, EntryKind::File { size: content.len() as u64 });
            let digest = *blake3::hash(&content).as_bytes();
            let found = former.find(&change, &digest);
            assert_eq!(found.is_some(), path != "c", "{name}");
            let given = found.map_or_else(|| FileContent::bytes(content), |found| FileContent::former(found, digest));
            builder.append(&change, given).unwrap();
        }
        let next = builder.commit(LayerKind::Files).unwrap();
        let bytes = tar(&store, &next);
        assert_eq!(next.diff_id, Some(rbuild_image::sha256(&bytes)), "{name}");
        assert!(bytes[..21 << 20] == expected[..21 << 20], "{name}");
    }
}

#[test]
fn a_file_that_became_shorter_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    for (length, known) in [(0, None), (5 * MIB, None), (19 * MIB, Some([7; 32])), (20 * MIB - 1, None)] {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&noise(length), 0).unwrap();
        let mut builder = store.layers().build().unwrap();
        let given = FileContent::file(&file);
        let given = known.map_or(FileContent::file(&file), |digest| given.with_digest(digest));
        let error = builder.append(&entry("f", EntryKind::File { size: 20 * MIB }), given).unwrap_err();
        assert!(matches!(&error, LayerError::Source { path, .. } if path == Path::new("f")), "{error}");
        drop(builder);
        assert_eq!(fs::read_dir(root.path().join("ingest")).unwrap().count(), 0);
    }
}

/// In a mount namespace of its own, on a file system that is too small.
#[test]
fn a_full_disk_leaves_nothing() {
    if let Some(root) = std::env::var_os(FULL) {
        return fill(Path::new(&root));
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root for a small file system");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=12m none "$1" || exit 77; shift; exec "$@""#;
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_full_disk_leaves_nothing", "--nocapture", "--test-threads=1"])
        .env(FULL, directory.path())
        .output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) if output.status.code() != Some(77) => {
            panic!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
        }
        _ => println!("skipped: cannot mount a tmpfs here"),
    }
}

fn fill(root: &Path) {
    let store = store(root);
    let file = File::from(rustix::fs::memfd_create("content", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    file.write_all_at(&noise(40 * MIB), 0).unwrap();
    let mut builder = store.layers().build().unwrap();
    let error = builder.append(&entry("f", EntryKind::File { size: 40 * MIB }), FileContent::file(&file)).unwrap_err();
    assert!(error.hint().unwrap().contains("disk is full"), "{error:?}");
    drop(builder);
    assert_eq!(fs::read_dir(root.join("ingest")).unwrap().count(), 0);
    // And there is room again.
    store.reap().unwrap();
    build(&store, &noise(5 * MIB), &file, Way::File);
}
