//! Is a layer that takes parts of a former one the layer that it would be without?

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;

use rbuild_cache::{FileContent, Form, FormerLayer, Layer, LayerForm, LayerKind, Store, StoreOptions, TarOptions};
use rbuild_image::{Change, Entry, EntryKind, Timestamp};

fn store(root: &Path, layers: LayerForm) -> Store {
    let read_erofs: rbuild_cache::ReadErofs = |_, _| Ok(b"layers can be files\n".to_vec());
    Store::open_with(root, StoreOptions { layers, read_erofs: Some(read_erofs), ..StoreOptions::default() }).unwrap()
}

fn entry(path: &str, kind: EntryKind) -> Change {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mtime = Timestamp::from_seconds(7);
    Change::Upsert(Entry { path: path.into(), kind, mode: 0o755, uid, gid, mtime, xattrs: BTreeMap::new() })
}

/// Files of one directory; says how many were taken from the former layer.
fn build(store: &Store, files: &[(String, Vec<u8>)], former: Option<&FormerLayer>) -> (Layer, usize) {
    let mut builder = store.layers().build_like(former.cloned()).unwrap();
    builder.append(&entry("d", EntryKind::Directory), FileContent::empty()).unwrap();
    let mut taken = 0;
    for (name, content) in files {
        let change = entry(&format!("d/{name}"), EntryKind::File { size: content.len() as u64 });
        let digest = *blake3::hash(content).as_bytes();
        let given = match former.and_then(|former| former.find(&change, &digest)) {
            Some(found) => {
                taken += 1;
                FileContent::former(found, digest)
            }
            None => FileContent::bytes(content.clone()),
        };
        builder.append(&change, given.linked()).unwrap();
    }
    let (first, _) = &files[0];
    let link = EntryKind::Hardlink { target: format!("d/{first}").into() };
    builder.append(&entry("e", link), FileContent::empty()).unwrap();
    (builder.commit(LayerKind::Files).unwrap(), taken)
}

fn tar(store: &Store, layer: &Layer) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.layers().write_tar(&layer.id, TarOptions::default(), &mut bytes).unwrap();
    bytes
}

#[test]
fn unchanged_files_are_taken_from_the_former_layer() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path(), LayerForm::Erofs);
    let file = |number: usize| (format!("{number:04}"), vec![number as u8; number * 97 % 30_000]);
    let files: Vec<_> = (0..1500).map(file).collect();
    let (first, _) = build(&store, &files, None);
    assert_eq!(first.form, Form::Erofs);
    let former = store.layers().former(&first.id).unwrap().unwrap();
    let mut changed = files.clone();
    changed[1200].1 = b"changed".to_vec();
    changed.remove(300);
    changed.push(("9999".into(), b"new".to_vec()));
    for files in [&files, &changed] {
        let (plain, _) = build(&store, files, None);
        let (layer, taken) = build(&store, files, Some(&former));
        assert_eq!(taken, files.len() - if files.len() == 1500 && files[300].0 == "0300" { 0 } else { 2 });
        assert_eq!((layer.identity, layer.diff_id, layer.size), (plain.identity, plain.diff_id, plain.size));
        assert!(tar(&store, &layer) == tar(&store, &plain));
        // A layer made like this is as good a former one as any.
        let again = store.layers().former(&layer.id).unwrap().unwrap();
        let (next, taken) = build(&store, files, Some(&again));
        assert_eq!((next.diff_id, taken), (plain.diff_id, files.len()));
    }
}

#[test]
fn nothing_is_taken_from_other_forms() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path(), LayerForm::Directory);
    let (layer, _) = build(&store, &[("f".into(), b"f".to_vec())], None);
    assert!(store.layers().former(&layer.id).unwrap().is_none());
    std::fs::remove_dir_all(root.path().join("layers-v1").join(layer.id.as_str())).unwrap();
    assert!(store.layers().former(&layer.id).unwrap().is_none(), "nor from what is not there");
}
