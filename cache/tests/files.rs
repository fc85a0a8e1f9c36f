//! Is a layer that is a file used only as long as it is what was written?

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rbuild_cache::{Form, Layer, LayerError, LayerForm, ReadErofs, Store, StoreOptions, TarOptions};
use rbuild_core::{Digest, Lower};
use rbuild_image::{Change, Compression, Entry, EntryKind, LayerWriter, Timestamp, media, sha256};
use rustix::io::Errno;

const MOUNTS: ReadErofs = |_, _| Ok(b"layers can be files\n".to_vec());
const FAILS: ReadErofs = |_, _| Err(Errno::PERM.into());

fn open(root: &Path, layers: LayerForm, read_erofs: Option<ReadErofs>) -> Store {
    Store::open_with(root, StoreOptions { layers, read_erofs, ..StoreOptions::default() }).unwrap()
}

fn store() -> (tempfile::TempDir, Store) {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path(), LayerForm::Erofs, Some(MOUNTS));
    (root, store)
}

/// A tar with a directory and two files, all of whoever runs this.
fn tar(content: &[u8]) -> Vec<u8> {
    let entry = |path: &str, kind| {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let (mode, mtime) = (0o755, Timestamp::from_seconds(1));
        Change::Upsert(Entry { path: path.into(), kind, mode, uid, gid, mtime, xattrs: BTreeMap::new() })
    };
    let mut writer = LayerWriter::new(Vec::new(), Compression::None).unwrap();
    writer.append(&entry("d", EntryKind::Directory), &mut io::empty()).unwrap();
    for name in ["d/a", "d/b"] {
        let kind = EntryKind::File { size: content.len() as u64 };
        writer.append(&entry(name, kind), &mut &*content).unwrap();
    }
    writer.finish_into().unwrap().1
}

/// A layer that can be pulled again.
fn import(store: &Store, tar: &[u8]) -> Layer {
    let blob = store.content().put(media::OCI_LAYER, tar).unwrap();
    let id = store.layers().register_remote(&sha256(tar), &blob, "example.com/a").unwrap();
    store.layers().import(&sha256(tar), &mut &*tar).unwrap();
    store.layers().read(&id).unwrap()
}

fn path(store: &Store, layer: &Layer) -> PathBuf {
    store.root().join("layers-v1").join(layer.id.as_str())
}

/// What a write to the disk that went wrong leaves: other bytes, and nothing that says so.
fn damage(path: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn a_layer_is_one_file_with_the_tar_in_it() {
    let (_root, store) = store();
    let tar = tar(b"content");
    let layer = import(&store, &tar);
    assert_eq!((layer.form, layer.size, layer.entries), (Form::Erofs, Some(tar.len() as u64), 3));
    let bytes = fs::read(path(&store, &layer)).unwrap();
    assert_eq!(&bytes[..8], b"rblayer1");
    assert!(bytes[4096..].starts_with(&tar));
    assert_eq!(fs::metadata(path(&store, &layer)).unwrap().mode() & 0o7777, 0o444);
    assert_eq!(layer.disk_bytes, bytes.len() as u64);
    let lower = store.layers().lower(std::slice::from_ref(&layer.id)).unwrap();
    assert_eq!(lower, [Lower::Erofs(path(&store, &layer))]);
    let mut packed = Vec::new();
    let options = TarOptions { compression: Compression::Gzip(6), clamp: None };
    let written = store.layers().write_tar(&layer.id, options, &mut packed).unwrap();
    assert_eq!((written.diff_id, written.size), (sha256(&tar), tar.len() as u64));
    assert!(matches!(store.layers().directory(&layer.id), Err(LayerError::NotADirectory(_))));
}

#[test]
fn a_file_that_somebody_wrote_to_is_pulled_again() {
    let tar = tar(&[7; 5000]);
    let length = 4096 + tar.len() as u64;
    // Header, superblock, content of a file, padding of the tar, metadata.
    for at in [0, 8, 1000, 1024, 1064, 4096 + 600, length - 1, length.next_multiple_of(4096) + 70] {
        let (_root, store) = store();
        let layer = import(&store, &tar);
        damage(&path(&store, &layer), at);
        let found = store.layers().find_intact(&layer.id).unwrap().unwrap();
        assert_eq!(found.form, Form::Remote, "byte {at}");
        assert!(!path(&store, &layer).exists());
        assert!(matches!(store.layers().view(std::slice::from_ref(&layer.id)), Err(LayerError::NotLocal(_))));
        store.layers().unpack(&layer.id).unwrap().unwrap();
        assert!(store.layers().view(&[layer.id]).is_ok());
    }
}

#[test]
fn a_file_that_was_cut_off_or_replaced_is_pulled_again() {
    for break_it in [
        (|path: &Path| fs::File::options().write(true).open(path).unwrap().set_len(5000).unwrap()) as fn(&Path),
        |path| fs::write(path, "").unwrap(),
        |path| fs::remove_file(path).unwrap(),
        |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        },
    ] {
        let (_root, store) = store();
        let layer = import(&store, &tar(b"content"));
        break_it(&path(&store, &layer));
        assert!(matches!(store.layers().prepare(std::slice::from_ref(&layer.id)), Err(LayerError::NotLocal(_))));
        assert_eq!(store.layers().read(&layer.id).unwrap().form, Form::Remote);
        import(&store, &tar(b"content"));
        assert!(store.layers().prepare(&[layer.id]).is_ok());
    }
}

#[test]
fn the_file_of_another_layer_is_not_taken_for_this_one() {
    let uses: [fn(&Store, &Layer); 4] = [
        |store, layer| assert_eq!(store.layers().find_intact(&layer.id).unwrap().unwrap().form, Form::Remote),
        |store, layer| assert!(store.layers().changes(&layer.id).is_err()),
        |store, layer| {
            assert!(store.layers().write_tar(&layer.id, TarOptions::default(), io::sink()).is_err());
        },
        |store, layer| assert!(store.layers().view(std::slice::from_ref(&layer.id)).is_err()),
    ];
    for use_it in uses {
        let (_root, store) = store();
        let (wanted, other) = (import(&store, &tar(b"wanted")), import(&store, &tar(b"another")));
        let (at, from) = (path(&store, &wanted), path(&store, &other));
        fs::remove_file(&at).unwrap();
        fs::copy(from, &at).unwrap();
        use_it(&store, &wanted);
        assert_eq!(store.layers().read(&wanted.id).unwrap().form, Form::Remote);
        assert!(!at.exists());
    }
}

#[test]
fn a_copied_store_is_looked_at_once_and_trusted() {
    let (_root, store) = store();
    let layer = import(&store, &tar(b"content"));
    let path = path(&store, &layer);
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    assert_eq!(store.layers().find_intact(&layer.id).unwrap().unwrap().form, Form::Erofs);
    let row = |store: &Store| store.dump().unwrap().into_iter().find(|(letter, ..)| *letter == 'l').unwrap().2;
    let inode = fs::metadata(&path).unwrap().ino();
    assert!(row(&store).contains(&format!("\"inode\":{inode}")), "{}", row(&store));
}

#[test]
fn what_cannot_be_mounted_is_unpacked_before_it_is_used() {
    let (root, store) = store();
    let tar = tar(b"content");
    let layer = import(&store, &tar);
    drop(store);
    let store = open(root.path(), LayerForm::Auto, Some(FAILS));
    let lower = store.layers().lower(std::slice::from_ref(&layer.id)).unwrap();
    assert_eq!(lower, [Lower::Directory(path(&store, &layer))]);
    assert_eq!(fs::read(path(&store, &layer).join("d/b")).unwrap(), b"content");
    let now = store.layers().read(&layer.id).unwrap();
    assert_eq!((now.form, now.identity, now.diff_id), (Form::Directory, layer.identity, layer.diff_id));
    assert_eq!(fs::read_dir(root.path().join("ingest")).unwrap().count(), 0);
}

#[test]
fn the_form_is_what_was_asked_for_and_can_be_had() {
    let form = |layers, read_erofs| {
        let root = tempfile::tempdir().unwrap();
        let store = open(root.path(), layers, read_erofs);
        let tar = tar(b"x");
        let made = store.layers().import(&sha256(&tar), &mut tar.as_slice()).map(|layer| layer.form);
        assert_eq!(fs::read_dir(root.path().join("ingest")).unwrap().count(), 0);
        made
    };
    assert_eq!(form(LayerForm::Auto, Some(MOUNTS)).unwrap(), Form::Erofs);
    assert_eq!(form(LayerForm::Auto, Some(FAILS)).unwrap(), Form::Directory);
    assert_eq!(form(LayerForm::Auto, None).unwrap(), Form::Directory);
    assert_eq!(form(LayerForm::Directory, Some(MOUNTS)).unwrap(), Form::Directory);
    assert_eq!(form(LayerForm::Erofs, Some(MOUNTS)).unwrap(), Form::Erofs);
    let wrong: ReadErofs = |_, _| Ok(b"something else".to_vec());
    for refused in [Some(FAILS), Some(wrong), None] {
        let error = form(LayerForm::Erofs, refused).unwrap_err();
        assert_eq!(error.to_string(), "layers cannot be erofs files here");
        assert!(error.hint().unwrap().contains("RBUILD_LAYERS"));
    }
}

/// As whoever mounts reports it: with the kernel's reason somewhere below.
#[derive(Debug, thiserror::Error)]
#[error("cannot mount")]
struct Refused(#[source] io::Error);

#[test]
fn only_a_kernel_that_cannot_makes_directories() {
    macro_rules! fails {
        ($errno:ident) => {
            (Errno::$errno, (|_, _| Err(io::Error::other(Refused(Errno::$errno.into())))) as ReadErofs)
        };
    }
    let tar = tar(b"content");
    let no = [fails!(NODEV), fails!(PERM), fails!(NOTBLK), fails!(OPNOTSUPP), fails!(INVAL), fails!(NOSYS)];
    let unknown =
        [fails!(MFILE), fails!(NFILE), fails!(NOMEM), fails!(ACCESS), fails!(INTR), fails!(IO), fails!(NOENT)];
    for (errno, read_erofs, is_no) in no
        .iter()
        .map(|(errno, read)| (errno, read, true))
        .chain(unknown.iter().map(|(errno, read)| (errno, read, false)))
    {
        let (root, before) = store();
        let layer = import(&before, &tar);
        let store = open(root.path(), LayerForm::Auto, Some(*read_erofs));
        let found = store.layers().lower(std::slice::from_ref(&layer.id));
        let now = before.layers().read(&layer.id).unwrap().form;
        if is_no {
            assert!(matches!(found.unwrap()[..], [Lower::Directory(_)]), "{errno:?}");
            assert_eq!(now, Form::Directory, "{errno:?}");
        } else {
            assert!(matches!(found, Err(LayerError::Store(_))), "{errno:?}: {found:?}");
            assert_eq!(now, Form::Erofs, "{errno:?}");
            let made = store.layers().adopt(&mut tar.as_slice());
            assert!(matches!(made, Err(LayerError::Store(_))), "{errno:?}: {made:?}");
        }
    }
}

#[test]
fn a_probe_that_failed_for_a_moment_is_made_again() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let read_erofs: ReadErofs = |image, file| match CALLS.fetch_add(1, Ordering::Relaxed) {
        0 => Err(Errno::MFILE.into()),
        _ => MOUNTS(image, file),
    };
    let (root, before) = store();
    let layer = import(&before, &tar(b"content"));
    let store = open(root.path(), LayerForm::Auto, Some(read_erofs));
    assert!(store.layers().lower(std::slice::from_ref(&layer.id)).is_err());
    for _ in 0..2 {
        assert!(matches!(store.layers().lower(std::slice::from_ref(&layer.id)).unwrap()[..], [Lower::Erofs(_)]));
    }
    assert_eq!(CALLS.load(Ordering::Relaxed), 2);
}

#[test]
fn who_insists_on_files_converts_none() {
    let (root, before) = store();
    let layer = import(&before, &tar(b"content"));
    let store = open(root.path(), LayerForm::Erofs, Some(FAILS));
    let found = store.layers().lower(std::slice::from_ref(&layer.id));
    assert!(matches!(found, Err(LayerError::Unmountable(_))), "{found:?}");
    assert_eq!(before.layers().read(&layer.id).unwrap().form, Form::Erofs);
}

#[test]
fn a_tar_that_no_metadata_describe_is_unpacked() {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |path: &str, link: Option<&str>, content: &[u8]| {
        let mut header = header.clone();
        header.set_size(content.len() as u64);
        header.set_uid(rustix::process::geteuid().as_raw().into());
        header.set_gid(rustix::process::getegid().as_raw().into());
        match link {
            Some(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                builder.append_link(&mut header, path, target).unwrap();
            }
            None => builder.append_data(&mut header, path, content).unwrap(),
        }
    };
    add("real/a", None, b"one");
    add("link", Some("real"), b"");
    add("link/b", None, b"two");
    let through_link = builder.into_inner().unwrap();
    let mut dirty = tar(b"content");
    let content = dirty.windows(7).position(|window| window == b"content").unwrap();
    dirty[content + 7] = 1;
    for (tar, file, expected) in [(through_link, "real/b", &b"two"[..]), (dirty, "d/a", b"content")] {
        let (_root, store) = store();
        let layer = store.layers().import(&sha256(&tar), &mut tar.as_slice()).unwrap();
        assert_eq!(layer.form, Form::Directory);
        assert_eq!(fs::read(path(&store, &layer).join(file)).unwrap(), expected);
        assert_eq!(fs::read_dir(store.root().join("ingest")).unwrap().count(), 0);
    }
}

/// A file with this time and these attributes, of whoever runs this.
fn one_file(seconds: i64, xattrs: BTreeMap<std::ffi::OsString, Vec<u8>>) -> Entry {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let kind = EntryKind::File { size: 0 };
    Entry { path: "a".into(), kind, mode: 0o644, uid, gid, mtime: Timestamp::from_seconds(seconds), xattrs }
}

#[test]
fn times_that_no_disk_holds_are_the_same_in_all_forms() {
    for seconds in [1 << 34, 1 << 50, -(1 << 32), -(1 << 50)] {
        let change = Change::Upsert(one_file(seconds, BTreeMap::new()));
        let mut writer = LayerWriter::new(Vec::new(), Compression::None).unwrap();
        writer.append(&change, &mut io::empty()).unwrap();
        let tar = writer.finish_into().unwrap().1;
        let mut seen = Vec::new();
        for layers in [LayerForm::Erofs, LayerForm::Directory] {
            let root = tempfile::tempdir().unwrap();
            let store = open(root.path(), layers, Some(MOUNTS));
            let imported = store.layers().import(&sha256(&tar), &mut tar.as_slice()).unwrap();
            let mut builder = store.layers().build().unwrap();
            builder.append(&change, rbuild_cache::FileContent::empty()).unwrap();
            let built = builder.commit(rbuild_cache::LayerKind::Files).unwrap();
            for id in [&imported.id, &built.id] {
                match store.layers().changes(id).unwrap().next().unwrap().unwrap() {
                    Change::Upsert(entry) => seen.push(entry.mtime.seconds),
                    other => panic!("{other:?}"),
                }
            }
            let mut bytes = Vec::new();
            store.layers().write_tar(&built.id, TarOptions::default(), &mut bytes).unwrap();
            let (change, _) = rbuild_image::LayerReader::new(&mut bytes.as_slice()).next().unwrap().unwrap();
            assert!(matches!(change, Change::Upsert(entry) if entry.mtime.seconds == seen[0]));
        }
        let expected = if seconds > 0 { 15_032_385_535 } else { -2_147_483_648 };
        assert_eq!(seen, [expected; 4]);
    }
}

#[test]
fn attributes_that_a_disk_cannot_hold_do_not_fill_it() {
    let long = |name: &str| (name.into(), vec![1; 3000]);
    let change = Change::Upsert(one_file(1, [long("user.a"), long("user.b")].into()));
    let mut writer = LayerWriter::new(Vec::new(), Compression::None).unwrap();
    writer.append(&change, &mut io::empty()).unwrap();
    let tar = writer.finish_into().unwrap().1;
    let (_root, store) = store();
    match store.layers().import(&sha256(&tar), &mut tar.as_slice()) {
        // Some file systems have the room.
        Ok(layer) => assert_eq!(layer.form, Form::Directory),
        Err(LayerError::Store(error)) => assert!(!error.is_full(), "{error:?}"),
        Err(other) => panic!("{other:?}"),
    }
    let mut builder = store.layers().build().unwrap();
    builder.append(&change, rbuild_cache::FileContent::empty()).unwrap();
    let built = builder.commit(rbuild_cache::LayerKind::Files).unwrap();
    assert_eq!(built.form, Form::Erofs, "what does not fit is left out");
}

#[test]
fn another_tar_or_none_is_an_error_in_both_forms() {
    let tar = tar(b"content");
    for layers in [LayerForm::Directory, LayerForm::Erofs] {
        let root = tempfile::tempdir().unwrap();
        let store = open(root.path(), layers, Some(MOUNTS));
        let other = Digest::sha256([1; 32]);
        let found = store.layers().import(&other, &mut tar.as_slice());
        assert!(matches!(found, Err(LayerError::DiffId { .. })), "{found:?}");
        let nonsense = b"no tar at all, but long enough to be a header: ".repeat(20);
        let found = store.layers().import(&sha256(&nonsense), &mut nonsense.as_slice());
        assert!(matches!(found, Err(LayerError::Tar(_))), "{found:?}");
        for place in ["ingest", "layers-v1"] {
            assert_eq!(fs::read_dir(root.path().join(place)).unwrap().count(), 0, "{layers:?} {place}");
        }
    }
}

#[test]
fn files_are_pruned_like_directories() {
    let (_root, store) = store();
    let layer = import(&store, &tar(b"content"));
    fs::write(store.root().join("layers-v1/left-by-a-crash"), "x").unwrap();
    assert!(path(&store, &layer).exists());
    store.prune(&rbuild_cache::PrunePolicy::default()).unwrap();
    store.reap().unwrap();
    assert_eq!(fs::read_dir(store.root().join("layers-v1")).unwrap().count(), 0);
}

#[test]
fn rows_of_older_stores_have_no_file_and_are_read() {
    let row = r#"{"id":"sha256-1","identity":"sha256:0101010101010101010101010101010101010101010101010101010101010101",
        "diff_id":null,"size":null,"form":"Directory","kind":"Image","blobs":[],"sources":[],"entries":1,
        "disk_bytes":2,"created":3}"#;
    let layer: Layer = serde_json::from_str(row).unwrap();
    assert_eq!((layer.form, layer.entries), (Form::Directory, 1));
    assert!(!serde_json::to_string(&layer).unwrap().contains("file"));
}
