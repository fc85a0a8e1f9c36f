//! What does a layer builder refuse, and what does it leave behind?

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use rbuild_cache::{FileContent, LayerBuilder, LayerError, LayerKind, Store};
use rbuild_image::{Change, Entry, EntryKind, Timestamp};

fn entry(path: &str, kind: EntryKind) -> Change {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mtime = Timestamp::from_seconds(7);
    Change::Upsert(Entry { path: path.into(), kind, mode: 0o755, uid, gid, mtime, xattrs: BTreeMap::new() })
}

/// One word for each change: `dir/`, `file`, `link=target`, `!removed`, `directory!!` for an opaque one.
fn append(builder: &mut LayerBuilder, word: &str) -> Result<(), LayerError> {
    if let Some((link, target)) = word.split_once('=') {
        return builder.append(&entry(link, EntryKind::Hardlink { target: target.into() }), FileContent::empty());
    }
    if let Some(path) = word.strip_suffix("!!") {
        return builder.append(&Change::Opaque(path.into()), FileContent::empty());
    }
    if let Some(path) = word.strip_prefix('!') {
        return builder.append(&Change::Remove(path.into()), FileContent::empty());
    }
    match word.strip_suffix('/') {
        Some(path) => builder.append(&entry(path, EntryKind::Directory), FileContent::empty()),
        None => builder.append(&entry(word, EntryKind::File { size: 2 }), FileContent::bytes(b"ab".to_vec()).linked()),
    }
}

#[test]
fn changes_come_in_canonical_order_below_directories() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    for (words, expected) in [
        ("a/ a/b a/c/ a/c/d a-b b", ""),
        ("a/ a/b/ a/b/c a/d e", ""),
        ("/ a", ""),
        ("a b=a c/ c/d=a", ""),
        ("a/ a/b a", "`a` comes at the wrong place of a layer"),
        ("a/ a", "`a` comes at the wrong place of a layer"),
        ("b a", "`a` comes at the wrong place of a layer"),
        ("a/ a-b a/b", "`a/b` comes at the wrong place of a layer"),
        ("a /", "`` comes at the wrong place of a layer"),
        ("a/ a/../b", "`a/../b` comes at the wrong place of a layer"),
        ("/a", "`/a` comes at the wrong place of a layer"),
        ("a a!!", "`a` comes at the wrong place of a layer"),
        ("a/ a/b a!!", "`a` comes at the wrong place of a layer"),
        ("a/b", "the layer contains `a/b` below something that is not a directory"),
        ("a a/b", "the layer contains `a/b` below something that is not a directory"),
        ("a/ b/ b/c a/b/c", "`a/b/c` comes at the wrong place of a layer"),
        ("a=none", "the layer links `a` to `none`, which is not a file in it"),
    ] {
        let mut builder = store.layers().build().unwrap();
        let result = words.split(' ').try_for_each(|word| append(&mut builder, word));
        let result = result.and_then(|()| builder.commit(LayerKind::Files).map(|_| ()));
        let found = result.err().map(|error| match error {
            LayerError::Change { action: "create", path, .. } => {
                format!("the layer links `{}` to `none`, which is not a file in it", path.display())
            }
            error => error.to_string(),
        });
        assert_eq!(found.unwrap_or_default(), expected, "{words}");
    }
    assert_eq!(fs::read_dir(root.path().join("ingest")).unwrap().count(), 0, "nothing is left of failures");
}

#[test]
fn content_of_another_length_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let file = |size| entry("f", EntryKind::File { size });
    for size in [4, 300_000] {
        let mut builder = store.layers().build().unwrap();
        let error = builder.append(&file(size), FileContent::reader(&mut &b"abc"[..])).unwrap_err();
        assert_eq!(error.to_string(), "cannot read what `f` should contain");
        let mut builder = store.layers().build().unwrap();
        assert!(builder.append(&file(size), FileContent::bytes(b"abc".to_vec())).is_err());
    }
    let mut builder = store.layers().build().unwrap();
    builder.append(&file(2), FileContent::reader(&mut b"abc".as_slice().chain(&b"d"[..]))).unwrap();
    let layer = builder.commit(LayerKind::Files).unwrap();
    assert_eq!(fs::read(root.path().join("layers-v1").join(layer.id.as_str()).join("f")).unwrap(), b"ab");
}

#[test]
fn deep_directories_need_few_descriptors() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let mut builder = store.layers().build().unwrap();
    let paths: Vec<String> = (1..=300).map(|depth| vec!["d"; depth].join("/")).collect();
    for path in &paths {
        append(&mut builder, &format!("{path}/")).unwrap();
    }
    let open = fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(open < 200, "{open} descriptors are open");
    for path in paths.iter().rev() {
        append(&mut builder, &format!("{path}/e")).unwrap();
    }
    assert_eq!(builder.commit(LayerKind::Files).unwrap().entries, 600);
}

#[test]
fn scratch_space_is_no_part_of_the_layer() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let builder = store.layers().build().unwrap();
    assert_eq!(builder.scratch().unwrap(), builder.scratch().unwrap());
    fs::write(builder.scratch().unwrap().join("spool"), "s").unwrap();
    let layer = builder.commit(LayerKind::Files).unwrap();
    assert!(layer.is_empty());
    let left: Vec<_> = fs::read_dir(root.path().join("layers-v1").join(layer.id.as_str())).unwrap().collect();
    assert_eq!(left.len(), 0);
    assert!(Path::new(root.path()).exists());
}
