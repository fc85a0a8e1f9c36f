//! Does every layer come back as it went in, and does every damaged one fail in peace?

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "tests, and what they share")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use rbuild_cache::{FileContent, Form, LayerForm, LayerKind, Store, StoreOptions, TarOptions};
use rbuild_image::{Change, Compression, Entry, EntryKind, LayerWriter, Timestamp, sha256};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen};

/// One file of a random tree.
#[derive(Clone, Debug)]
enum Kind {
    File(Vec<u8>),
    Directory { opaque: bool },
    Symlink(Vec<u8>),
    Link(usize),
    Char(u32, u32),
    Fifo,
    Whiteout,
}

#[derive(Clone, Debug)]
struct Node {
    kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
    seconds: i64,
    xattrs: BTreeMap<String, Vec<u8>>,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    // Few letters, so that paths meet; those that sort around `/`; those that are not text.
    prop::collection::vec(prop::sample::select(b"ab-.0 \xff\xc3\n".to_vec()), 1..4)
        .prop_filter("special names", |name| name != b"." && name != b"..")
}

fn node() -> impl Strategy<Value = Node> {
    let kind = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..2000).prop_map(Kind::File),
        6 => prop::bool::weighted(0.2).prop_map(|opaque| Kind::Directory { opaque }),
        1 => prop::collection::vec(1..=255_u8, 1..150).prop_map(Kind::Symlink),
        2 => any::<prop::sample::Index>().prop_map(|index| Kind::Link(index.index(1000))),
        1 => (1..200_u32, 0..200_u32).prop_map(|(major, minor)| Kind::Char(major, minor)),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::Whiteout),
    ];
    let xattrs = prop::collection::btree_map("user\\.[a-z]{1,8}", prop::collection::vec(any::<u8>(), 0..100), 0..2);
    let times = prop_oneof![Just(0), -100_000..5_000_000_000_i64];
    (kind, 0..0o10000_u32, 0..100_000_u32, 0..100_000_u32, times, xattrs)
        .prop_map(|(kind, mode, uid, gid, seconds, xattrs)| Node { kind, mode, uid, gid, seconds, xattrs })
}

/// The changes of a random layer, in canonical order, with their content.
fn layer() -> impl Strategy<Value = Vec<(Change, Vec<u8>)>> {
    prop::collection::btree_map(prop::collection::vec(name(), 1..5), node(), 0..40).prop_map(|nodes| {
        // Vectors of names sort like paths do canonically.
        let mut kept: BTreeMap<Vec<Vec<u8>>, Node> = BTreeMap::new();
        for (path, node) in nodes {
            let is_directory = |parent: &[Vec<u8>]| {
                parent.is_empty() || kept.get(parent).is_some_and(|node| matches!(node.kind, Kind::Directory { .. }))
            };
            if is_directory(&path[..path.len() - 1]) {
                kept.insert(path, node);
            }
        }
        let path_of = |path: &[Vec<u8>]| PathBuf::from(OsString::from_vec(path.join(&b'/')));
        let mut files: Vec<(PathBuf, Entry)> = Vec::new();
        let mut changes = Vec::new();
        for (path, node) in &kept {
            let path = path_of(path);
            let mut entry = Entry {
                path: path.clone(),
                kind: EntryKind::Fifo,
                mode: node.mode,
                uid: node.uid,
                gid: node.gid,
                mtime: Timestamp::from_seconds(node.seconds),
                xattrs: BTreeMap::new(),
            };
            let mut content = Vec::new();
            match &node.kind {
                Kind::Whiteout => {
                    changes.push((Change::Remove(path), content));
                    continue;
                }
                Kind::Link(index) if !files.is_empty() => {
                    let (target, first) = files[index % files.len()].clone();
                    entry = Entry { path, kind: EntryKind::Hardlink { target }, xattrs: BTreeMap::new(), ..first };
                }
                Kind::File(bytes) => {
                    content.clone_from(bytes);
                    entry.kind = EntryKind::File { size: bytes.len() as u64 };
                    entry.xattrs = node.xattrs.iter().map(|(name, value)| (name.into(), value.clone())).collect();
                    files.push((path, entry.clone()));
                }
                Kind::Directory { .. } => {
                    entry.kind = EntryKind::Directory;
                    entry.xattrs = node.xattrs.iter().map(|(name, value)| (name.into(), value.clone())).collect();
                }
                Kind::Symlink(target) => {
                    entry.kind = EntryKind::Symlink { target: OsString::from_vec(target.clone()).into() };
                    entry.mode = 0o777;
                }
                Kind::Char(major, minor) => entry.kind = EntryKind::CharDevice { major: *major, minor: *minor },
                Kind::Link(_) | Kind::Fifo => {}
            }
            let opaque = matches!(node.kind, Kind::Directory { opaque: true }).then(|| entry.path.clone());
            changes.push((Change::Upsert(entry), content));
            changes.extend(opaque.map(|path| (Change::Opaque(path), Vec::new())));
        }
        with_shared_metadata(changes)
    })
}

/// A hard link says what its file says, attributes included, as far as the tar's reader compares them.
fn with_shared_metadata(changes: Vec<(Change, Vec<u8>)>) -> Vec<(Change, Vec<u8>)> {
    let xattrs: BTreeMap<_, _> = changes
        .iter()
        .filter_map(|(change, _)| match change {
            Change::Upsert(entry) => Some((entry.path.clone(), entry.xattrs.clone())),
            _ => None,
        })
        .collect();
    let share = |change| match change {
        Change::Upsert(Entry { kind: EntryKind::Hardlink { target }, path, mode, uid, gid, mtime, .. }) => {
            let xattrs = xattrs[&target].clone();
            Change::Upsert(Entry { kind: EntryKind::Hardlink { target }, path, mode, uid, gid, mtime, xattrs })
        }
        other => other,
    };
    changes.into_iter().map(|(change, content)| (share(change), content)).collect()
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

fn copy(from: &Path, to: &Path) {
    let mut command = Command::new("cp");
    assert!(command.args(["-a", "--no-preserve=timestamps"]).arg(from.join(".")).arg(to).status().unwrap().success());
}

/// A store that makes layers in this form. Nothing is mounted unless the test does it.
fn store(root: &Path, layers: LayerForm) -> Store {
    let read_erofs: rbuild_cache::ReadErofs = |_, _| Ok(b"layers can be files\n".to_vec());
    Store::open_with(root, StoreOptions { layers, read_erofs: Some(read_erofs), ..StoreOptions::default() }).unwrap()
}

const FORMS: [LayerForm; 2] = [LayerForm::Directory, LayerForm::Erofs];

/// The file system in a file, at no place; `None` where it cannot be mounted.
fn mounted(file: &Path) -> Option<OwnedFd> {
    let mount = || {
        let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, "source", file)?;
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)
    };
    mount().inspect_err(|error| println!("skipped: the kernel does not mount a file: {error}")).ok()
}

/// Everything below a directory that a program can see, and which names are the same file.
fn seen(root: &Path) -> BTreeMap<PathBuf, String> {
    let (mut seen, mut names_of) = (BTreeMap::new(), BTreeMap::new());
    let mut waiting = vec![PathBuf::new()];
    while let Some(path) = waiting.pop() {
        let full = root.join(&path);
        let is = fs::symlink_metadata(&full).unwrap();
        let mut names = vec![0; 64 << 10];
        let length = rustix::fs::llistxattr(&full, &mut names[..]).unwrap();
        let mut xattrs = BTreeMap::new();
        for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::lgetxattr(&full, name, &mut value[..]).unwrap();
            xattrs.insert(name.to_vec(), value[..length].to_vec());
        }
        let content = match is.file_type() {
            kind if kind.is_file() => fs::read(&full).unwrap(),
            kind if kind.is_symlink() => fs::read_link(&full).unwrap().into_os_string().into_vec(),
            kind if kind.is_dir() => {
                waiting.extend(fs::read_dir(&full).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
                Vec::new()
            }
            _ => Vec::new(),
        };
        let links = if is.is_dir() { 0 } else { is.nlink() };
        let size = if is.is_dir() { 0 } else { is.size() };
        // Nobody says the time of the root, or of a whiteout.
        let is_whiteout = !is.is_dir() && is.rdev() == 0 && is.mode() & 0o170_000 == 0o020_000;
        let time = if path.as_os_str().is_empty() || is_whiteout { (0, 0) } else { (is.mtime(), is.mtime_nsec()) };
        let numbers = (is.mode(), is.uid(), is.gid(), is.rdev(), size, links, time);
        if !is.is_dir() {
            names_of.entry(is.ino()).or_insert_with(Vec::new).push(path.clone());
        }
        seen.insert(path, format!("{numbers:?} {xattrs:?} {content:?}"));
    }
    for names in names_of.values_mut() {
        names.sort();
        let all = format!(" {names:?}");
        names.iter().for_each(|name| seen.get_mut(name).unwrap().push_str(&all));
    }
    seen
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("skipped: needs root for owners and devices");
    }
    is_root
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_layer_is_the_same_after_a_round_trip(changes in layer(), form in prop::sample::select(&FORMS)) {
        if is_root() {
            let root = tempfile::tempdir().unwrap();
            let store = store(root.path(), form);
            let bytes = tar(&changes);
            let layer = store.layers().import(&sha256(&bytes), &mut bytes.as_slice()).unwrap();
            prop_assert_eq!(layer.form == Form::Erofs, form == LayerForm::Erofs);
            let mut found = store.layers().changes(&layer.id).unwrap();
            for (change, content) in &changes {
                prop_assert_eq!(&found.next().unwrap().unwrap(), change);
                let mut read = Vec::new();
                std::io::Read::read_to_end(&mut found.content().unwrap(), &mut read).unwrap();
                prop_assert_eq!(&read, content);
            }
            prop_assert!(found.next().is_none());
            let (mut again, mut clamped) = (Vec::new(), Vec::new());
            store.layers().write_tar(&layer.id, TarOptions::default(), &mut again).unwrap();
            prop_assert!(again == bytes);
            // Through the changes, even where the tar is there.
            let clamp = TarOptions { clamp: Some(i64::MAX), ..TarOptions::default() };
            store.layers().write_tar(&layer.id, clamp, &mut clamped).unwrap();
            prop_assert!(clamped == bytes);
        }
    }

    #[test]
    fn a_file_shows_the_kernel_what_a_directory_does(changes in layer()) {
        if is_root() {
            let roots = FORMS.map(|_| tempfile::tempdir().unwrap());
            let bytes = tar(&changes);
            let paths = [0, 1].map(|index| {
                let store = store(roots[index].path(), FORMS[index]);
                let layer = store.layers().import(&sha256(&bytes), &mut bytes.as_slice()).unwrap();
                roots[index].path().join("layers-v1").join(layer.id.as_str())
            });
            if let Some(mount) = mounted(&paths[1]) {
                let mount = PathBuf::from(format!("/proc/self/fd/{}/", mount.as_raw_fd()));
                prop_assert_eq!(seen(&mount), seen(&paths[0]));
            }
        }
    }

    #[test]
    fn an_adopted_tar_is_the_same_layer_in_both_forms(changes in layer(), backwards in any::<bool>()) {
        if is_root() {
            let mut order: Vec<_> = changes.iter().collect();
            let has_links = changes.iter().any(|(change, _)| {
                matches!(change, Change::Upsert(Entry { kind: EntryKind::Hardlink { .. }, .. }))
            });
            if backwards && !has_links {
                order.reverse();
            }
            let order: Vec<_> = order.into_iter().cloned().collect();
            let bytes = tar(&order);
            let [directory, file] = FORMS.map(|form| {
                let root = tempfile::tempdir().unwrap();
                let store = store(root.path(), form);
                let layer = store.layers().adopt(&mut bytes.as_slice()).unwrap();
                assert_eq!(layer.form == Form::Erofs, form == LayerForm::Erofs);
                assert_eq!(fs::read_dir(root.path().join("ingest")).unwrap().count(), 0);
                let mut canonical = Vec::new();
                store.layers().write_tar(&layer.id, TarOptions::default(), &mut canonical).unwrap();
                (layer.identity, canonical)
            });
            prop_assert_eq!(directory.0, file.0);
            prop_assert!(directory.1 == file.1);
        }
    }

    #[test]
    fn a_layer_that_is_built_of_changes_is_the_one_that_its_files_make(
        changes in layer(),
        forms in prop::collection::vec(0..6_u8, 40),
        root_mode in prop::option::of(0..0o10000_u32),
        form in prop::sample::select(&FORMS),
    ) {
        if is_root() {
            let root = tempfile::tempdir().unwrap();
            let store = store(root.path(), form);
            let linked = |path: &Path| {
                changes.iter().any(|(change, _)| {
                    let Change::Upsert(Entry { kind: EntryKind::Hardlink { target }, .. }) = change else { return false };
                    target == path
                })
            };
            let mut builder = store.layers().build().unwrap();
            if let Some(mode) = root_mode {
                let (path, kind, xattrs) = (PathBuf::new(), EntryKind::Directory, BTreeMap::new());
                let entry = Entry { path, kind, mode, uid: 3, gid: 4, mtime: Timestamp::from_seconds(5), xattrs };
                builder.append(&Change::Upsert(entry), FileContent::empty()).unwrap();
            }
            for ((change, content), form) in changes.iter().zip(forms.iter().cycle()) {
                let is_file = matches!(change, Change::Upsert(Entry { kind: EntryKind::File { .. }, .. }));
                let (mut reader, file) = (content.as_slice(), tempfile::tempfile().unwrap());
                let mut given = match form {
                    _ if !is_file => FileContent::empty(),
                    0 | 1 => FileContent::bytes(content.clone()),
                    2 | 3 => FileContent::reader(&mut reader),
                    _ => {
                        std::io::Write::write_all(&mut &file, content).unwrap();
                        std::io::Seek::rewind(&mut &file).unwrap();
                        FileContent::file(&file)
                    }
                };
                if form % 2 == 1 {
                    given = given.with_digest(*blake3::hash(content).as_bytes());
                }
                if linked(change.path()) {
                    given = given.linked();
                }
                builder.append(change, given).unwrap();
            }
            let built = builder.commit(LayerKind::Files).unwrap();
            prop_assert_eq!(built.form == Form::Erofs, form == LayerForm::Erofs);
            let mut source = root.path().join("layers-v1").join(built.id.as_str());
            let mut mount = None;
            if built.form == Form::Erofs {
                mount = mounted(&source);
                let Some(mount) = &mount else { return Ok(()) };
                source = PathBuf::from(format!("/proc/{}/fd/{}/", std::process::id(), mount.as_raw_fd()));
            }
            let metadata = fs::metadata(&source).unwrap();
            let snapshot = store.layers().prepare(&[]).unwrap();
            copy(&source, &snapshot.upper());
            drop(mount);
            let read = snapshot.commit(LayerKind::Files).unwrap();
            prop_assert_eq!((&built.identity, built.entries), (&read.identity, read.entries));
            prop_assert_eq!(metadata.mode() & 0o7777, root_mode.unwrap_or(0o755));
            let mut bytes = Vec::new();
            store.layers().write_tar(&built.id, TarOptions::default(), &mut bytes).unwrap();
            prop_assert!(bytes == tar(&changes));
        }
    }

    #[test]
    fn a_damaged_tar_is_an_error_or_a_layer_but_never_a_panic(
        changes in layer(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        if is_root() {
            let mut bytes = tar(&changes);
            for (index, byte) in damage {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            // Wrong checksums would hide everything behind them.
            for block in 0..bytes.len() / 512 {
                let header = &mut bytes[block * 512..][..512];
                if &header[257..262] == b"ustar" {
                    header[148..156].fill(b' ');
                    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
                    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
                }
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            let results = FORMS.map(|form| {
                let root = tempfile::tempdir().unwrap();
                let store = store(root.path(), form);
                let result = store.layers().import(&sha256(&bytes), &mut bytes.as_slice());
                let made = fs::read_dir(root.path().join("layers-v1")).unwrap().count();
                assert_eq!(made, usize::from(result.is_ok()));
                assert_eq!(fs::read_dir(root.path().join("ingest")).unwrap().count(), 0);
                let layer = result.map_err(|error| error.to_string().replace(root.path().to_str().unwrap(), ""))?;
                let changes = store.layers().changes(&layer.id).unwrap();
                Ok::<_, String>(changes.map(Result::unwrap).collect::<Vec<_>>())
            });
            prop_assert_eq!(&results[0].is_ok(), &results[1].is_ok(), "{:?}", results);
            if let [Ok(directory), Ok(file)] = &results {
                prop_assert_eq!(directory, file);
            }
        }
    }

    #[test]
    fn the_tree_digest_is_that_of_the_content(left in layer(), right in layer()) {
        if is_root() {
            let root = tempfile::tempdir().unwrap();
            let store = Store::open(root.path()).unwrap();
            let identity = |changes: &[(Change, Vec<u8>)]| {
                let bytes = tar(changes);
                let id = store.layers().import(&sha256(&bytes), &mut bytes.as_slice()).unwrap().id;
                let source = root.path().join("layers-v1").join(id.as_str());
                let snapshot = store.layers().prepare(&[]).unwrap();
                copy(&source, &snapshot.upper());
                snapshot.commit(LayerKind::Files).unwrap().identity
            };
            // What the digest does not see: times, and which names share an inode.
            let seen = |changes: &[(Change, Vec<u8>)]| {
                let contents: BTreeMap<_, _> =
                    changes.iter().map(|(change, content)| (change.path().to_owned(), content.clone())).collect();
                let seen = changes.iter().map(|(change, content)| match change {
                    Change::Upsert(entry) => {
                        let mut entry = Entry { mtime: Timestamp::default(), ..entry.clone() };
                        let mut content = content.clone();
                        if let EntryKind::Hardlink { target } = &entry.kind {
                            content.clone_from(&contents[target]);
                            entry.kind = EntryKind::File { size: content.len() as u64 };
                        }
                        (Change::Upsert(entry), content)
                    }
                    other => (other.clone(), content.clone()),
                });
                seen.collect::<Vec<_>>()
            };
            prop_assert_eq!(identity(&left), identity(&left));
            prop_assert_eq!(identity(&left) == identity(&right), seen(&left) == seen(&right));
        }
    }
}

#[test]
fn the_kernel_sees_directories_files_and_links_of_every_size() {
    if !is_root() {
        return;
    }
    let entry = |path: String, kind| {
        let (mode, uid, gid) = (0o755, 1, u32::MAX - 1);
        let (mtime, xattrs) = (Timestamp::from_seconds(1), BTreeMap::new());
        Change::Upsert(Entry { path: path.into(), kind, mode, uid, gid, mtime, xattrs })
    };
    let mut changes = Vec::new();
    for count in [1, 16, 17, 31, 32, 33, 400, 3000] {
        for length in [1, 40, 250] {
            let directory = format!("d-{count:04}-{length:03}");
            changes.push((entry(directory.clone(), EntryKind::Directory), Vec::new()));
            for number in 0..count {
                let path = format!("{directory}/{number:04}{}", "x".repeat(length - 1));
                let size = if count == 400 { number * 13 % 3000 } else { 0 };
                let kind = EntryKind::File { size: size as u64 };
                changes.push((entry(path, kind), vec![number as u8; size]));
            }
        }
    }
    changes.push((entry("e-large".into(), EntryKind::File { size: 3_000_001 }), vec![7; 3_000_001]));
    for length in (1..4096).step_by(61) {
        let kind = EntryKind::Symlink { target: "t".repeat(length).into() };
        changes.push((entry(format!("link-{length:04}"), kind), Vec::new()));
    }
    let roots = FORMS.map(|_| tempfile::tempdir().unwrap());
    let bytes = tar(&changes);
    let paths = [0, 1].map(|index| {
        let store = store(roots[index].path(), FORMS[index]);
        let layer = store.layers().import(&sha256(&bytes), &mut bytes.as_slice()).unwrap();
        roots[index].path().join("layers-v1").join(layer.id.as_str())
    });
    if let Some(mount) = mounted(&paths[1]) {
        let mount = PathBuf::from(format!("/proc/self/fd/{}/", mount.as_raw_fd()));
        let (file, directory) = (seen(&mount), seen(&paths[0]));
        assert_eq!(file.len(), directory.len());
        assert!(file == directory);
    }
}
