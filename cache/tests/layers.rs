//! Do layers come out of the store as they went in, and is nothing else touched on the way?

#![expect(clippy::unwrap_used, reason = "tests, and what they share")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rbuild_cache::{Form, LayerError, LayerKind, Store, TarOptions};
use rbuild_core::{Digest, MountKind};
use rbuild_image::{Change, Compression, Entry, EntryKind, LayerWriter, Timestamp, sha256};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

macro_rules! need_root {
    () => {
        if !is_root() {
            println!("skipped: needs root for owners and devices");
            return;
        }
    };
}

fn store() -> (tempfile::TempDir, Store) {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    (root, store)
}

fn entry(path: &str, kind: EntryKind) -> Entry {
    let mtime = Timestamp::from_seconds(1_000_000_000);
    Entry { path: path.into(), kind, mode: 0o755, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() }
}

fn directory(path: &str) -> Change {
    Change::Upsert(entry(path, EntryKind::Directory))
}

fn file(path: &str, content: &str) -> (Change, Vec<u8>) {
    let kind = EntryKind::File { size: content.len() as u64 };
    (Change::Upsert(entry(path, kind)), content.as_bytes().to_vec())
}

fn tar(changes: &[(Change, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = LayerWriter::new(&mut bytes, Compression::None).unwrap();
    for (change, content) in changes {
        writer.append(change, &mut content.as_slice()).unwrap();
    }
    writer.finish().unwrap();
    bytes
}

fn every_kind() -> Vec<(Change, Vec<u8>)> {
    let plain = |change| (change, Vec::new());
    let with = |path: &str, kind, change: fn(&mut Entry)| {
        let mut entry = entry(path, kind);
        change(&mut entry);
        Change::Upsert(entry)
    };
    vec![
        plain(directory("a")),
        plain(Change::Remove("a/gone".into())),
        file("a/one", "content"),
        plain(Change::Upsert(entry("a/two", EntryKind::Hardlink { target: "a/one".into() }))),
        // Sorted as a/two < a-b in canonical order, although `-` is smaller than `/`.
        file("a-b", ""),
        plain(with("dev", EntryKind::Directory, |entry| entry.mode = 0o1777)),
        plain(with("dev/block", EntryKind::BlockDevice { major: 8, minor: 1 }, |entry| entry.mode = 0o660)),
        plain(with("dev/null", EntryKind::CharDevice { major: 1, minor: 3 }, |entry| entry.mode = 0o666)),
        plain(with("dev/pipe", EntryKind::Fifo, |entry| entry.uid = 1000)),
        plain(with("fresh", EntryKind::Directory, |entry| (entry.uid, entry.gid) = (7, 8))),
        plain(Change::Opaque("fresh".into())),
        plain(with("link", EntryKind::Symlink { target: "/no/where".into() }, |entry| {
            (entry.mode, entry.uid) = (0o777, 1000);
        })),
        (
            with("setuid", EntryKind::File { size: 3 }, |entry| {
                entry.mode = 0o4755;
                entry.gid = 100_000;
                let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
                entry.xattrs.insert("security.capability".into(), capability);
                entry.xattrs.insert("user.note".into(), b"x\0y".to_vec());
                entry.mtime = Timestamp::from_seconds(-5);
            }),
            b"abc".to_vec(),
        ),
    ]
}

#[test]
fn a_canonical_tar_comes_back_byte_for_byte() {
    need_root!();
    let (_root, store) = store();
    let tar = tar(&every_kind());
    let layer = store.layers().import(&sha256(&tar), &mut tar.as_slice()).unwrap();
    assert_eq!((layer.form, layer.size, layer.entries), (Form::Directory, Some(tar.len() as u64), 13));
    let mut again = Vec::new();
    let written = store.layers().write_tar(&layer.id, TarOptions::default(), &mut again).unwrap();
    let changes: Vec<_> = store.layers().changes(&layer.id).unwrap().map(Result::unwrap).collect();
    let expected: Vec<_> = every_kind().into_iter().map(|(change, _)| change).collect();
    similar(&changes, &expected);
    assert_eq!(written.diff_id, sha256(&tar));
    assert!(again == tar);
    assert_eq!(store.layers().describe(&layer.id).unwrap(), (sha256(&tar), tar.len() as u64));
    let path = store.root().join("layers-v1").join(layer.id.as_str());
    let link = fs::metadata(path.join("a/one")).unwrap();
    assert_eq!((link.nlink(), link.ino()), (2, fs::metadata(path.join("a/two")).unwrap().ino()));
}

#[track_caller]
fn similar(left: &[Change], right: &[Change]) {
    for (left, right) in left.iter().zip(right) {
        // Whiteouts have no metadata of their own, and links share their file's.
        if !matches!(right, Change::Upsert(Entry { kind: EntryKind::Hardlink { .. }, .. })) {
            assert_eq!(left, right);
        }
    }
    assert_eq!(left.len(), right.len());
}

#[test]
fn later_times_are_clamped_without_renaming_the_layer() {
    need_root!();
    let (_root, store) = store();
    let layers = store.layers();
    let snapshot = layers.prepare(&[]).unwrap();
    fs::write(snapshot.upper().join("new"), b"x").unwrap();
    let layer = snapshot.commit(LayerKind::Files).unwrap();
    let options = TarOptions { clamp: Some(5), ..TarOptions::default() };
    let clamped = layers.write_tar(&layer.id, options, io::sink()).unwrap();
    assert_eq!(layers.read(&layer.id).unwrap().diff_id, None);
    let (diff_id, size) = layers.describe(&layer.id).unwrap();
    assert_ne!(clamped.diff_id, diff_id);
    assert_eq!(clamped.size, size);
    assert_eq!(layers.find_by_diff_id(&diff_id).unwrap().unwrap().id, layer.id);
    let mut bytes = Vec::new();
    layers.write_tar(&layer.id, options, &mut bytes).unwrap();
    let mut reader = rbuild_image::LayerReader::new(bytes.as_slice());
    let Some((Change::Upsert(entry), _)) = reader.next().unwrap() else { panic!("no entry") };
    assert_eq!(entry.mtime, Timestamp::from_seconds(5));
}

/// Makes a layer of a tree that `change` has changed.
fn identity(store: &Store, change: impl FnOnce(&Path)) -> Digest {
    let snapshot = store.layers().prepare(&[]).unwrap();
    let upper = snapshot.upper();
    fs::create_dir(upper.join("d")).unwrap();
    fs::write(upper.join("d/file"), b"content").unwrap();
    fs::write(upper.join("d/other"), b"content").unwrap();
    symlink("target", upper.join("link")).unwrap();
    for name in ["d", "d/file", "d/other"] {
        run(Command::new("touch").args(["-d", "@100"]).arg(upper.join(name)));
    }
    change(&upper);
    let layer = snapshot.commit(LayerKind::Run).unwrap();
    assert_eq!(layer.identity.algorithm().name(), "blake3");
    layer.identity
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_tree_digest_sees_everything_but_times_and_inodes() {
    need_root!();
    let (_root, store) = store();
    let base = identity(&store, |_| {});
    let chown =
        |owner: &'static str| move |upper: &Path| run(Command::new("chown").arg(owner).arg(upper.join("d/file")));
    let mknod = |what: &'static [&'static str]| {
        move |upper: &Path| run(Command::new("mknod").arg(upper.join("node")).args(what))
    };
    let xattr = |name: &'static str, value: &'static str| {
        move |upper: &Path| {
            let path = upper.join("d");
            rustix::fs::setxattr(path, name, value.as_bytes(), rustix::fs::XattrFlags::empty()).unwrap();
        }
    };
    type Step = Box<dyn FnOnce(&Path)>;
    let same: Vec<(&str, Step)> = vec![
        ("nothing", Box::new(|_| {})),
        ("mtime", Box::new(|upper| run(Command::new("touch").args(["-d", "@5"]).arg(upper.join("d/file"))))),
        (
            "another inode",
            Box::new(|upper| {
                fs::write(upper.join("new"), b"content").unwrap();
                fs::rename(upper.join("new"), upper.join("d/file")).unwrap();
            }),
        ),
        (
            "a hard link instead of a copy",
            Box::new(|upper| {
                fs::remove_file(upper.join("d/other")).unwrap();
                fs::hard_link(upper.join("d/file"), upper.join("d/other")).unwrap();
            }),
        ),
        ("a foreign attribute", Box::new(xattr("trusted.note", "x"))),
        ("the overlay's origin", Box::new(xattr("trusted.overlay.origin", "x"))),
    ];
    for (what, step) in same {
        assert_eq!(identity(&store, step), base, "{what}");
    }
    let different: Vec<(&str, Step)> = vec![
        ("content", Box::new(|upper| fs::write(upper.join("d/file"), b"CONTENT").unwrap())),
        ("size", Box::new(|upper| fs::write(upper.join("d/file"), b"contents").unwrap())),
        ("name", Box::new(|upper| fs::rename(upper.join("d/file"), upper.join("d/File")).unwrap())),
        ("place", Box::new(|upper| fs::rename(upper.join("d/file"), upper.join("file")).unwrap())),
        ("a new file", Box::new(|upper| fs::write(upper.join("new"), b"").unwrap())),
        ("mode", Box::new(|upper| run(Command::new("chmod").arg("600").arg(upper.join("d/file"))))),
        ("set-user-id", Box::new(|upper| run(Command::new("chmod").arg("u+s").arg(upper.join("d/file"))))),
        ("the root's mode", Box::new(|upper| run(Command::new("chmod").arg("700").arg(upper)))),
        ("uid", Box::new(chown("5:0"))),
        ("gid", Box::new(chown("0:5"))),
        (
            "link target",
            Box::new(|upper| {
                fs::remove_file(upper.join("link")).unwrap();
                symlink("Target", upper.join("link")).unwrap();
            }),
        ),
        (
            "a link instead of a file",
            Box::new(|upper| {
                fs::remove_file(upper.join("d/file")).unwrap();
                symlink("content", upper.join("d/file")).unwrap();
            }),
        ),
        ("a fifo", Box::new(mknod(&["p"]))),
        ("a device", Box::new(mknod(&["c", "1", "3"]))),
        ("another device", Box::new(mknod(&["c", "1", "5"]))),
        ("a block device", Box::new(mknod(&["b", "1", "3"]))),
        ("a whiteout", Box::new(mknod(&["c", "0", "0"]))),
        ("opaque", Box::new(xattr("trusted.overlay.opaque", "y"))),
        ("an attribute", Box::new(xattr("user.a", "1"))),
        ("an attribute's value", Box::new(xattr("user.a", "2"))),
        ("an attribute's name", Box::new(xattr("user.b", "1"))),
    ];
    let mut seen = vec![("nothing", base)];
    for (what, step) in different {
        let digest = identity(&store, step);
        for (other, taken) in &seen {
            assert_ne!(digest, *taken, "{what} is like {other}");
        }
        seen.push((what, digest));
    }
}

#[test]
fn big_and_many_files_are_hashed_like_small_ones() {
    let (_root, store) = store();
    let commit = |chunk: usize| {
        let snapshot = store.layers().prepare(&[]).unwrap();
        let mut file = fs::File::create(snapshot.upper().join("big")).unwrap();
        let bytes: Vec<u8> = (0..9 << 20).map(|index: u32| (index / 7) as u8).collect();
        bytes.chunks(chunk).for_each(|part| file.write_all(part).unwrap());
        for index in 0..300 {
            let path = snapshot.upper().join(format!("{}/{}", index % 7, index % 5));
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join(index.to_string()), index.to_string()).unwrap();
        }
        snapshot.commit(LayerKind::Run).unwrap()
    };
    let (one, two) = (commit(1 << 20), commit(4097));
    assert_eq!(one.identity, two.identity);
    assert_ne!(one.id, two.id, "built layers are not merged");
    assert_eq!(one.entries, 1 + 300 + 7 + 35);
}

#[test]
fn snapshots_name_their_parents_topmost_first() {
    let (_root, store) = store();
    let layers = store.layers();
    let make = |name: &str, parents: &[_]| {
        let snapshot = layers.prepare(parents).unwrap();
        fs::write(snapshot.upper().join(name), name).unwrap();
        assert!(snapshot.scratch().is_dir());
        snapshot.commit(LayerKind::Files).unwrap().id
    };
    let one = make("one", &[]);
    let two = make("two", std::slice::from_ref(&one));
    let snapshot = layers.prepare(&[one.clone(), two.clone()]).unwrap();
    let MountKind::Overlay { lower, upper: Some(upper) } = snapshot.root_mount().kind else { panic!("not writable") };
    let path = |id: &rbuild_cache::LayerId| store.root().join("layers-v1").join(id.as_str());
    assert_eq!(lower, [path(&two).into(), path(&one).into()]);
    assert!(upper.upper.is_dir() && upper.work.is_dir());
    let view = layers.view(std::slice::from_ref(&one)).unwrap();
    assert!(view.read_only && view.kind == MountKind::Overlay { lower: vec![path(&one).into()], upper: None });
    drop(snapshot);
    assert_eq!(fs::read_dir(store.root().join("ingest")).unwrap().count(), 0, "dropping discards");
    let gone = "gone".parse().unwrap();
    assert!(matches!(layers.prepare(&[one.clone(), gone]), Err(LayerError::Missing(_))));
    let many: Vec<_> = (0..500).map(|number| format!("layer-{number}").parse().unwrap()).collect();
    assert!(matches!(layers.prepare(&many), Err(LayerError::TooMany(500))));
    assert!(layers.prepare(&vec![one.clone(); 1000]).is_ok(), "the same one counts once");
    fs::remove_dir_all(path(&one)).unwrap();
    assert!(matches!(layers.prepare(std::slice::from_ref(&one)), Err(LayerError::NotLocal(_))));
    assert!(layers.find(&one).unwrap().is_none(), "a lost layer is forgotten");
}

#[test]
fn steps_that_change_nothing_share_a_layer() {
    let (_root, store) = store();
    let layers = store.layers();
    let snapshot = layers.prepare(&[]).unwrap();
    fs::write(snapshot.upper().join("file"), "x").unwrap();
    let full = snapshot.commit(LayerKind::Run).unwrap().id;
    let empty = || layers.prepare(std::slice::from_ref(&full)).unwrap();
    let one = empty().commit(LayerKind::Run).unwrap();
    assert_eq!(empty().commit(LayerKind::Run).unwrap().id, one.id);
    // A changed root is a change.
    let snapshot = empty();
    fs::set_permissions(snapshot.upper(), fs::Permissions::from_mode(0o711)).unwrap();
    assert_ne!(snapshot.commit(LayerKind::Run).unwrap().id, one.id);
    // Overlay takes a directory once.
    let list = [full.clone(), one.id.clone(), full.clone(), one.id.clone(), one.id.clone()];
    let path = |id: &rbuild_cache::LayerId| store.root().join("layers-v1").join(id.as_str()).into();
    assert_eq!(layers.lower(&list).unwrap(), [path(&one.id), path(&full)]);
    // One that somebody deleted is made again.
    fs::remove_dir_all(store.root().join("layers-v1").join(one.id.as_str())).unwrap();
    let again = empty().commit(LayerKind::Run).unwrap();
    assert!(layers.lower(&[full, again.id]).is_ok());
}

#[test]
fn the_roots_owner_and_mode_come_from_below() {
    need_root!();
    let (_root, store) = store();
    let snapshot = store.layers().prepare(&[]).unwrap();
    run(Command::new("chmod").arg("1750").arg(snapshot.upper()));
    run(Command::new("chown").arg("3:4").arg(snapshot.upper()));
    let layer = snapshot.commit(LayerKind::Run).unwrap();
    let next = store.layers().prepare(&[layer.id]).unwrap();
    let root = fs::metadata(next.upper()).unwrap();
    assert_eq!((root.mode() & 0o7777, root.uid(), root.gid()), (0o1750, 3, 4));
}

#[test]
fn a_remote_layer_becomes_local_and_keeps_what_was_known() {
    let (_root, store) = store();
    let layers = store.layers();
    let mut entry = entry("f", EntryKind::File { size: 1 });
    (entry.uid, entry.gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let tar = tar(&[(Change::Upsert(entry), b"x".to_vec())]);
    let diff_id = sha256(&tar);
    let mut packed = Vec::new();
    let blob = rbuild_image::compress_layer(&mut tar.as_slice(), &mut packed, Compression::Gzip(6)).unwrap().descriptor;
    let id = layers.register_remote(&diff_id, &blob, "example.com/a").unwrap();
    assert_eq!(layers.register_remote(&diff_id, &blob, "example.com/b").unwrap(), id);
    assert!(matches!(layers.prepare(std::slice::from_ref(&id)), Err(LayerError::NotLocal(_))));
    assert!(layers.unpack(&id).unwrap().is_none());
    store.content().put(&blob.media_type, &packed).unwrap();
    let layer = layers.unpack(&id).unwrap().unwrap();
    assert_eq!((layer.form, layer.identity, layer.size), (Form::Directory, diff_id, Some(tar.len() as u64)));
    assert_eq!(layer.sources, ["example.com/a", "example.com/b"]);
    assert_eq!(layer.blobs.len(), 1);
    assert_eq!(layers.read(&id).unwrap().blobs, layer.blobs);
    drop(layers.prepare(&[id]).unwrap());
}

#[test]
fn a_damaged_blob_is_removed_and_leaves_nothing() {
    let (_root, store) = store();
    let layers = store.layers();
    let tar = tar(&[]);
    let right = sha256(&tar);
    let other = store.content().put("application/x-tar", &[0; 512]).unwrap();
    let id = layers.register_remote(&right, &other, "example.com/a").unwrap();
    assert!(matches!(layers.unpack(&id), Err(LayerError::DiffId { .. })));
    assert!(!store.content().contains(&other.digest));
    assert_eq!(layers.read(&id).unwrap().form, Form::Remote);
    assert_eq!(fs::read_dir(store.root().join("ingest")).unwrap().count(), 0);
}

#[test]
fn the_original_bytes_of_a_pulled_layer_are_never_faked() {
    need_root!();
    let (_root, store) = store();
    let layers = store.layers();
    let mut foreign = tar(&[(directory("d"), Vec::new())]);
    foreign.extend([0; 10 * 512]);
    let layer = layers.import(&sha256(&foreign), &mut foreign.as_slice()).unwrap();
    let error = layers.write_tar(&layer.id, TarOptions::default(), io::sink()).unwrap_err();
    assert!(matches!(error, LayerError::Foreign(_)), "{error}");
    let blob = store.content().put("application/x-tar", &foreign).unwrap();
    layers.add_blob(&layer.id, &blob).unwrap();
    let mut bytes = Vec::new();
    layers.write_tar(&layer.id, TarOptions::default(), &mut bytes).unwrap();
    assert!(bytes == foreign);
}

#[test]
fn an_adopted_tar_counts_by_its_files() {
    need_root!();
    let (_root, store) = store();
    let layers = store.layers();
    let mut foreign = tar(&[(directory("d"), Vec::new())]);
    let plain = layers.adopt(&mut foreign.as_slice()).unwrap();
    foreign.extend([0; 10 * 512]);
    let padded = layers.adopt(&mut foreign.as_slice()).unwrap();
    assert_eq!(plain.identity, padded.identity);
    let mut bytes = Vec::new();
    let written = layers.write_tar(&padded.id, TarOptions::default(), &mut bytes).unwrap();
    assert_eq!(written.diff_id, layers.describe(&plain.id).unwrap().0);
    assert_eq!(written.diff_id, sha256(&bytes));
    assert!(layers.adopt(&mut b"no tar at all".as_slice()).is_err());
    assert_eq!(fs::read_dir(store.root().join("ingest")).unwrap().count(), 0);
}

/// A tar header that says whatever it is told.
fn raw(kind: tar::EntryType, path: &str, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// Every path below `root`, with what it is.
fn listing(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let text = match metadata.file_type() {
                kind if kind.is_dir() => {
                    waiting.push(path.clone());
                    "directory".to_owned()
                }
                kind if kind.is_symlink() => format!("-> {}", fs::read_link(&path).unwrap().display()),
                kind if kind.is_file() => fs::read_to_string(&path).unwrap(),
                _ => "special".to_owned(),
            };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), text);
        }
    }
    found
}

#[test]
fn hostile_tars_stay_inside() {
    need_root!();
    use tar::EntryType as T;
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("victim"), b"untouched").unwrap();
    let out = outside.path().to_str().unwrap();
    let up = "../".repeat(8);
    let here = out.trim_start_matches('/');
    let dots = format!("{up}{here}");
    let link = format!("-> {out}/victim");
    let linked = [("l", link.as_str()), ("h", "1")];
    // Each: the tar, and what is in the layer afterwards, or `None` if it must be refused.
    type Case<'a> = (&'a str, Vec<Vec<u8>>, Option<&'a [(&'a str, &'a str)]>);
    let cases: Vec<Case<'_>> = vec![
        ("dot dot", vec![raw(T::Regular, "../x", "", b"1")], None),
        ("dot dot inside", vec![raw(T::Regular, "a/../../x", "", b"1")], None),
        ("absolute", vec![raw(T::Regular, "/etc/x", "", b"1")], Some(&[("etc", "directory"), ("etc/x", "1")])),
        (
            "write through an absolute link to a missing directory",
            vec![raw(T::Symlink, "l", out, b""), raw(T::Regular, "l/victim", "", b"1")],
            None,
        ),
        (
            "write through a link upwards",
            vec![raw(T::Symlink, "l", &dots, b""), raw(T::Regular, "l/victim", "", b"1")],
            None,
        ),
        (
            "write through a link to the root",
            vec![raw(T::Symlink, "l", "/", b""), raw(T::Regular, "l/x", "", b"1")],
            Some(&[("l", "-> /"), ("x", "1")]),
        ),
        (
            "write through a link to parents",
            vec![raw(T::Symlink, "l", "../../..", b""), raw(T::Regular, "l/x", "", b"1")],
            Some(&[("l", "-> ../../.."), ("x", "1")]),
        ),
        (
            "a link within the layer is followed",
            vec![
                raw(T::Directory, "usr/", "", b""),
                raw(T::Directory, "usr/lib/", "", b""),
                raw(T::Symlink, "lib", "usr/lib", b""),
                raw(T::Regular, "lib/x", "", b"1"),
            ],
            Some(&[("usr", "directory"), ("usr/lib", "directory"), ("lib", "-> usr/lib"), ("usr/lib/x", "1")]),
        ),
        (
            "a file replaces a link, not its target",
            vec![raw(T::Symlink, "l", &format!("{out}/victim"), b""), raw(T::Regular, "l", "", b"1")],
            Some(&[("l", "1")]),
        ),
        (
            "a directory replaces a link",
            vec![
                raw(T::Symlink, "l", out, b""),
                raw(T::Directory, "l/", "", b""),
                raw(T::Regular, "l/victim", "", b"1"),
            ],
            Some(&[("l", "directory"), ("l/victim", "1")]),
        ),
        ("hard link upwards", vec![raw(T::Link, "h", &format!("{dots}/victim"), b"")], None),
        ("hard link to an absolute path", vec![raw(T::Link, "h", &format!("{out}/victim"), b"")], None),
        ("hard link through a link", vec![raw(T::Symlink, "l", out, b""), raw(T::Link, "h", "l/victim", b"")], None),
        ("hard link to itself", vec![raw(T::Regular, "h", "", b"1"), raw(T::Link, "h", "h", b"")], None),
        ("hard link to a directory", vec![raw(T::Directory, "d", "", b""), raw(T::Link, "h", "d", b"")], None),
        (
            "a hard link to a symlink links the symlink",
            vec![
                raw(T::Symlink, "l", &format!("{out}/victim"), b""),
                raw(T::Link, "h", "l", b""),
                raw(T::Regular, "h", "", b"1"),
            ],
            Some(&linked),
        ),
        ("below a file", vec![raw(T::Regular, "f", "", b"1"), raw(T::Regular, "f/x", "", b"1")], None),
        (
            "a symlink loop",
            vec![raw(T::Symlink, "a", "b", b""), raw(T::Symlink, "b", "a", b""), raw(T::Regular, "a/x", "", b"1")],
            None,
        ),
        (
            "whiteout through a link",
            vec![raw(T::Symlink, "l", out, b""), raw(T::Regular, "l/.wh.victim", "", b"")],
            None,
        ),
        (
            "a directory and then a file",
            vec![raw(T::Directory, "d/", "", b""), raw(T::Regular, "d/x", "", b"1"), raw(T::Regular, "d", "", b"2")],
            Some(&[("d", "2")]),
        ),
        ("truncated", vec![raw(T::Regular, "f", "", b"1")[..512].to_vec()], None),
        ("garbage", vec![vec![0x55; 1024]], None),
        ("empty", vec![], Some(&[])),
    ];
    for (what, parts, expected) in cases {
        let (_root, store) = store();
        let bytes = parts.concat();
        let result = store.layers().import(&sha256(&bytes), &mut bytes.as_slice());
        match (result, expected) {
            (Ok(layer), Some(expected)) => {
                let path = store.root().join("layers-v1").join(layer.id.as_str());
                let expected = expected.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
                assert_eq!(listing(&path), expected, "{what}");
            }
            (Err(error), None) => assert!(!error.to_string().is_empty()),
            (Ok(layer), None) => {
                let path = store.root().join("layers-v1").join(layer.id.as_str());
                panic!("{what} was accepted: {:?}", listing(&path));
            }
            (Err(error), Some(_)) => panic!("{what}: {error:?}"),
        }
        assert_eq!(fs::read_dir(store.root().join("ingest")).unwrap().count(), 0, "{what}");
        let around = listing(outside.path());
        assert_eq!(around, [(PathBuf::from("victim"), "untouched".to_owned())].into(), "{what}");
    }
}

#[test]
fn whiteouts_speak_about_lower_layers_only() {
    need_root!();
    let (_root, store) = store();
    let changes = [
        (directory("before"), Vec::new()),
        file("before/x", "1"),
        (Change::Remove("before".into()), Vec::new()),
        (Change::Remove("after".into()), Vec::new()),
        (directory("after"), Vec::new()),
        (Change::Remove("implied".into()), Vec::new()),
        file("implied/x", "1"),
        file("file", "1"),
        (Change::Remove("file".into()), Vec::new()),
        (Change::Remove("gone".into()), Vec::new()),
        file("gone", "back"),
    ];
    let tar = tar(&changes);
    let layer = store.layers().import(&sha256(&tar), &mut tar.as_slice()).unwrap();
    let changes = store.layers().changes(&layer.id).unwrap();
    let texts: Vec<_> = changes
        .map(|change| match change.unwrap() {
            Change::Upsert(entry) => entry.path.display().to_string(),
            Change::Remove(path) => format!("-{}", path.display()),
            Change::Opaque(path) => format!("!{}", path.display()),
        })
        .collect();
    assert_eq!(
        texts,
        ["after", "!after", "before", "!before", "before/x", "file", "gone", "implied", "!implied", "implied/x"]
    );
}

#[test]
fn the_kernels_overlay_and_the_store_mean_the_same() {
    need_root!();
    let (_root, store) = store();
    let layers = store.layers();
    let base = tar(&[
        (directory("d"), Vec::new()),
        file("d/old", "1"),
        file("f", "1"),
        (directory("gone"), Vec::new()),
        file("gone/x", "1"),
        file("kept", "1"),
    ]);
    let base = layers.import(&sha256(&base), &mut base.as_slice()).unwrap();
    let top = tar(&[
        (directory("d"), Vec::new()),
        (Change::Opaque("d".into()), Vec::new()),
        file("d/new", "2"),
        (Change::Remove("f".into()), Vec::new()),
    ]);
    let top = layers.import(&sha256(&top), &mut top.as_slice()).unwrap();
    let snapshot = layers.prepare(&[base.id, top.id]).unwrap();
    let MountKind::Overlay { lower, upper: Some(upper) } = snapshot.root_mount().kind else { panic!("not writable") };
    let lower: Vec<_> = lower.iter().map(|lower| lower.path().to_str().unwrap()).collect();
    let options =
        format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), upper.upper.display(), upper.work.display());
    let merged = tempfile::tempdir().unwrap();
    let script = r#"set -e
        mount -t overlay overlay -o "$1" "$2" || exit 77
        cd "$2"
        test "$(echo *)" = "d gone kept" && test "$(echo d/*)" = d/new && test "$(cat d/new)" = 2
        rm -r gone kept; mkdir kept; rm -r d; mkdir d; touch d/newer; echo 3 > f"#;
    let status = Command::new("unshare").args(["-m", "sh", "-c", script, "sh", &options]).arg(merged.path()).status();
    match status.map(|status| status.code()) {
        Ok(Some(0)) => {}
        Ok(Some(77)) | Err(_) => {
            println!("skipped: cannot mount an overlay here");
            return;
        }
        Ok(code) => panic!("the overlay shows something else: {code:?}"),
    }
    let layer = snapshot.commit(LayerKind::Run).unwrap();
    let changes = layers.changes(&layer.id).unwrap();
    let mut removed = Vec::new();
    let mut made = Vec::new();
    for change in changes {
        match change.unwrap() {
            Change::Upsert(entry) => made.push(entry.path.to_str().unwrap().to_owned()),
            Change::Remove(path) | Change::Opaque(path) => removed.push(path.to_str().unwrap().to_owned()),
        }
    }
    assert_eq!(made, ["d", "d/newer", "f", "kept"]);
    // A directory made anew is opaque, even where a file was.
    assert_eq!(removed, ["d", "gone", "kept"]);
}
