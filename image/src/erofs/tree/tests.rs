use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::erofs::{ErofsImage, ErofsNode};

fn entry(path: &str, kind: EntryKind) -> Change {
    let (mode, uid, gid, mtime) = (0o644, 1, 2, Timestamp { seconds: -3, nanoseconds: 4 });
    Change::Upsert(Entry { path: path.into(), kind, mode, uid, gid, mtime, xattrs: BTreeMap::new() })
}

fn with_attribute(change: Change, name: &str, value: &[u8]) -> Change {
    let Change::Upsert(mut entry) = change else { panic!("no entry") };
    entry.xattrs.insert(name.into(), value.to_vec());
    Change::Upsert(entry)
}

fn file(path: &str) -> Change {
    entry(path, EntryKind::File { size: 5 })
}

fn directory(path: &str) -> Change {
    entry(path, EntryKind::Directory)
}

fn symlink(path: &str, target: &str) -> Change {
    entry(path, EntryKind::Symlink { target: target.into() })
}

fn link(path: &str, target: &str) -> Change {
    entry(path, EntryKind::Hardlink { target: target.into() })
}

fn remove(path: &str) -> Change {
    Change::Remove(path.into())
}

fn opaque(path: &str) -> Change {
    Change::Opaque(path.into())
}

const TAR: u64 = 1 << 24;

fn image(changes: &[Change]) -> Result<(ErofsImage<Vec<u8>>, Vec<u8>)> {
    let mut tree = ErofsTree::new();
    for (index, change) in changes.iter().enumerate() {
        tree.apply(change, 512 * (index as u64 + 1))?;
    }
    let metadata = tree.finish(TAR)?;
    let mut bytes = Vec::new();
    metadata.write(&mut bytes).unwrap();
    assert_eq!((bytes.len() as u64, metadata.offset()), (metadata.length(), 4096 + TAR));
    let image = ErofsImage::new(&metadata.superblock([7; 16]), bytes.clone(), metadata.offset()).unwrap();
    Ok((image, bytes))
}

fn nodes(changes: &[Change]) -> Result<Vec<ErofsNode>> {
    Ok(image(changes)?.0.into_nodes().map(|node| node.unwrap()).collect())
}

/// A tree in one line: names, whiteouts with `!`, opaque directories with `*`, hard links with the number of names.
fn shown(changes: &[Change]) -> String {
    let nodes = match nodes(changes) {
        Ok(nodes) => nodes,
        Err(error) => return error.to_string(),
    };
    let one = |node: &ErofsNode| {
        let mark = match &node.kind {
            EntryKind::Directory if node.opaque => "/*".to_owned(),
            EntryKind::Directory => "/".to_owned(),
            EntryKind::CharDevice { major: 0, minor: 0 } => "!".to_owned(),
            EntryKind::Symlink { target } => format!("→{}", target.display()),
            EntryKind::File { .. } if node.links > 1 => format!("#{}", node.links),
            _ => String::new(),
        };
        format!("{}{mark}", node.path.display())
    };
    nodes.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn changes_mean_what_they_mean_to_a_directory() {
    for (changes, expected) in [
        (vec![], "/"),
        (vec![file("b"), file("a")], "/ a b"),
        (vec![file("d/e/f")], "/ d/ d/e/ d/e/f"),
        (vec![file("a-b"), file("a/b"), directory("a")], "/ a/ a/b a-b"),
        (vec![file("a"), symlink("a", "x")], "/ a→x"),
        (vec![directory("d"), file("d/a"), directory("d")], "/ d/ d/a"),
        (vec![file("d/a"), file("d")], "/ d"),
        (vec![file("d"), directory("d")], "/ d/"),
        (vec![remove("a")], "/ a!"),
        (vec![remove("d"), directory("d")], "/ d/*"),
        (vec![remove("d"), file("d/a")], "/ d/* d/a"),
        (vec![directory("d"), remove("d")], "/ d/*"),
        (vec![file("a"), remove("a")], "/ a"),
        (vec![remove("a"), file("a")], "/ a"),
        (vec![remove("a"), remove("a")], "/ a!"),
        (vec![opaque("d/e")], "/ d/ d/e/*"),
        (vec![opaque("")], "/*"),
        (vec![entry("w", EntryKind::CharDevice { major: 0, minor: 0 })], "/ w!"),
        (vec![file("a"), link("d/b", "a")], "/ a#2 d/ d/b#2"),
        (vec![file("a"), link("b", "a"), file("a")], "/ a b"),
        (vec![symlink("a", "x"), link("b", "a")], "/ a→x b→x"),
        (vec![file("d/a"), link("d", "d/a")], "/ d"),
        (vec![file("a"), link("a", "a")], "`a` is a hard link to something that is no earlier file"),
        (vec![link("a", "b"), file("b")], "`a` is a hard link to something that is no earlier file"),
        (vec![directory("d"), link("a", "d")], "`a` is a hard link to something that is no earlier file"),
        (vec![remove("w"), link("a", "w")], "`a` is a hard link to something that is no earlier file"),
        (vec![symlink("s", "d"), file("s/a")], "`s` lies below something that is not a directory"),
        (vec![file("f"), file("f/a")], "`f` lies below something that is not a directory"),
        (vec![remove("")], "`` lies below something that is not a directory"),
    ] {
        assert_eq!(shown(&changes), expected, "{changes:?}");
    }
}

#[test]
fn what_no_inode_can_hold_is_undescribable() {
    let long = "n".repeat(256);
    let deep = "d/".repeat(2048) + "f";
    let owner = |uid| {
        let Change::Upsert(entry) = file("a") else { unreachable!() };
        Change::Upsert(Entry { uid, ..entry })
    };
    let device = |major, minor| entry("a", EntryKind::BlockDevice { major, minor });
    for (change, fits) in [
        (file(&long), false),
        (file(&long[1..]), true),
        (file(&deep), false),
        (file(&deep[2..]), true),
        (symlink("a", &"t".repeat(4095)), true),
        (symlink("a", &"t".repeat(4096)), false),
        (owner(u32::MAX - 1), true),
        (owner(u32::MAX), false),
        (device(4095, (1 << 20) - 1), true),
        (device(4096, 0), false),
        (with_attribute(file("a"), "user.a", &[1; 3800]), true),
        (with_attribute(with_attribute(file("a"), "user.a", &[1; 2000]), "user.b", &[1; 2000]), false),
        (with_attribute(file("a"), "user.a", &[1; 65535]), false),
        (with_attribute(file("a"), "user.a", &[1; 65536]), false),
        (with_attribute(file("a"), &format!("user.{}", "a".repeat(250)), b""), true),
        (with_attribute(file("a"), &format!("user.{}", "a".repeat(251)), b""), false),
        (with_attribute(file("a"), "user.", b""), false),
        (with_attribute(file("a"), "security.capability", b"nonsense"), false),
        (with_attribute(file("a"), "system.posix_acl_access", b"\x02\0\0\0"), false),
        (with_attribute(file("a"), "system.other", b""), true),
    ] {
        assert_eq!(nodes(std::slice::from_ref(&change)).is_ok(), fits, "{change:?}");
    }
    let mut tree = ErofsTree::new();
    assert_eq!(tree.apply(&file("a"), 100), Err(Undescribable::Alignment("a".into())));
    assert_eq!(tree.apply(&file("b"), 2 << 40), Err(Undescribable::Large));
    assert!(matches!(ErofsTree::new().finish(2 << 40), Err(Undescribable::Large)));
}

#[test]
fn attributes_are_those_of_files_that_are_unpacked() {
    let capability = [&[1, 0, 0, 2][..], &[0x20; 16]].concat();
    let all = [
        ("security.capability", &capability[..]),
        ("trusted.overlay.opaque", b"y"),
        ("trusted.x", b"t"),
        ("user.overlay.opaque", b"y"),
        ("user.empty", b""),
        ("user.longer", &[3; 1000]),
        ("unknown.x", b"u"),
    ];
    let mut changes = [file("f"), directory("d"), symlink("l", "t")];
    for change in &mut changes {
        for (name, value) in all {
            *change = with_attribute(change.clone(), name, value);
        }
    }
    let changes = [changes.to_vec(), vec![with_attribute(directory("d"), "user.later", b"1"), opaque("d")]].concat();
    let nodes = nodes(&changes).unwrap();
    let names = |path: &str| {
        let node = nodes.iter().find(|node| node.path.as_os_str() == path).unwrap();
        node.xattrs.keys().map(|name| name.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names("f"), "security.capability trusted.x user.empty user.longer");
    assert_eq!(names("d"), "security.capability trusted.x user.empty user.later user.longer");
    assert_eq!(names("l"), "");
    let file = nodes.iter().find(|node| node.path.as_os_str() == "f").unwrap();
    assert_eq!(file.xattrs[std::ffi::OsStr::new("security.capability")], capability);
    assert_eq!((file.uid, file.gid, file.mode, file.mtime.seconds, file.mtime.nanoseconds), (1, 2, 0o644, -3, 4));
    assert_eq!((file.content, &file.kind), (512, &EntryKind::File { size: 5 }));
}

#[test]
fn directories_of_every_size_are_listed_in_order() {
    // Around one block, and where names sort before `.` and `..`.
    for count in [0, 1, 2, 15, 16, 17, 18, 30, 31, 32, 33, 100, 5000] {
        for length in [1, 3, 60, 250] {
            let name = |number: usize| {
                format!("d/{}{number:05}", "!+-.az"[number % 6..].chars().next().unwrap()) + &"x".repeat(length - 1)
            };
            // Beside others, some as large.
            let others = [directory("d"), directory("c"), symlink("link", &"t".repeat(600))];
            let all = (0..count).flat_map(|number| [name(number), format!("e/{number}/{:0100}", 0)]);
            let changes: Vec<_> = all.map(|path| file(&path)).chain(others).collect();
            let found = nodes(&changes).unwrap().into_iter().map(|node| node.path);
            let found: Vec<_> = found.filter(|path| path.starts_with("d") && path.as_os_str() != "d").collect();
            let mut expected: Vec<_> = (0..count).map(|number| PathBuf::from(name(number))).collect();
            expected.sort_by(|left, right| left.as_os_str().cmp(right.as_os_str()));
            assert_eq!(found, expected, "{count} names of {length}");
        }
    }
}

#[test]
fn no_content_beside_an_inode_crosses_a_block() {
    let mut changes: Vec<_> =
        (0..200).map(|length| symlink(&format!("l{length}"), &"t".repeat(length * 3 + 1))).collect();
    changes.extend((0..50).map(|number| with_attribute(directory(&format!("d{number}")), "user.x", &[1; 90])));
    let (image, bytes) = image(&changes).unwrap();
    let nodes: Vec<_> = image.into_nodes().map(|node| node.unwrap()).collect();
    for node in &nodes {
        let start = (node.inode as usize - 16) * 32;
        let head = &bytes[start..start + 64];
        if head[0] >> 1 == 2 {
            let attributes = usize::from(u16::from_le_bytes([head[2], head[3]]));
            let content = start + 64 + if attributes == 0 { 0 } else { 12 + 4 * (attributes - 1) };
            let end = content + u64::from_le_bytes(head[8..16].try_into().unwrap()) as usize;
            assert_eq!(content / 512, (end - 1) / 512, "{}", node.path.display());
        }
    }
    assert_eq!(nodes.len(), 251);
}

#[test]
fn equal_changes_give_equal_bytes() {
    let changes = [file("a"), link("b", "a"), directory("d"), symlink("d/s", "t"), remove("x")];
    assert_eq!(image(&changes).unwrap().1, image(&changes).unwrap().1);
}

#[test]
fn damaged_metadata_are_an_error_and_no_panic() {
    let changes: Vec<_> = (0..12).map(|number| with_attribute(file(&format!("d/{number}")), "user.x", b"1")).collect();
    let mut tree = ErofsTree::new();
    changes.iter().for_each(|change| tree.apply(change, 512).unwrap());
    let metadata = tree.finish(TAR).unwrap();
    let mut bytes = Vec::new();
    metadata.write(&mut bytes).unwrap();
    let superblock = metadata.superblock([0; 16]);
    let read = |bytes: Vec<u8>| {
        let image = ErofsImage::new(&superblock, bytes, metadata.offset())?;
        image.into_nodes().collect::<std::result::Result<Vec<_>, _>>()
    };
    assert!(read(bytes.clone()).is_ok());
    assert!(read(bytes[..bytes.len() - 1].to_vec()).is_err());
    assert!(ErofsImage::new(&[0; 128], bytes.clone(), metadata.offset()).is_err());
    for at in 0..bytes.len() {
        for value in [0, 0x7f, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] = value;
            drop(read(damaged));
        }
    }
}

#[test]
fn half_a_million_files_need_little_memory() {
    let mut tree = ErofsTree::new();
    for number in 0..500_000_u64 {
        let path = format!("usr/share/package-{:03}/files/file-{number}.txt", number % 1000);
        tree.apply(&file(&path), number * 1024 + 512).unwrap();
    }
    assert!(tree.memory < 100 << 20, "{}", tree.memory);
    let metadata = tree.finish(1 << 30).unwrap();
    assert_eq!(metadata.inodes(), 502_003);
    // An inode, an entry and a name each.
    assert!(metadata.length() < 500_000 * 100, "{}", metadata.length());
}

#[test]
fn names_that_are_put_aside_come_back_as_they_were() {
    let long = "x".repeat(150);
    let mut changes = Vec::new();
    for number in 0..400 {
        changes.push(directory(&format!("d{number}")));
        changes.extend((0..500).map(|file| self::file(&format!("d{number}/{file:04}{long}"))));
    }
    // Back in directories that were left: something replaced, taken away, new before all others and behind them.
    for number in [3, 150, 3, 151, 150] {
        changes.push(symlink(&format!("d{number}/0007{long}"), "elsewhere"));
        changes.push(remove(&format!("d{number}/gone")));
        changes.push(file(&format!("d{number}/!{number}/below")));
        changes.push(file(&format!("d{number}/z{number}")));
        changes.push(link(&format!("d{number}/link"), &format!("d8/0001{long}")));
    }
    let of = |mut tree: ErofsTree| {
        for (index, change) in changes.iter().enumerate() {
            tree.apply(change, 512 * (index as u64 + 1)).unwrap();
        }
        let (memory, mut bytes) = (tree.memory(), Vec::new());
        tree.finish(1 << 30).unwrap().write(&mut bytes).unwrap();
        (memory, bytes)
    };
    let (memory, expected) = of(ErofsTree::new());
    let (with_file, found) = of(ErofsTree::with_file(Box::new(tempfile::tempfile)));
    assert!(found == expected);
    assert!(with_file < memory * 2 / 3 && with_file > FEW, "{with_file} and {memory}");
    let (without, found) = of(ErofsTree::with_file(Box::new(|| Err(std::io::ErrorKind::StorageFull.into()))));
    assert!(found == expected);
    assert_eq!(without, memory);
}

#[test]
fn links_to_directories_by_turns_take_no_longer_than_the_directories() {
    let long = "x".repeat(190);
    let mut tree = ErofsTree::with_file(Box::new(tempfile::tempfile));
    let mut apply = |change: Change| tree.apply(&change, 512).unwrap();
    for number in 0..8 {
        (0..12_000).for_each(|file| apply(self::file(&format!("d{number}/{file:05}{long}"))));
    }
    apply(file("l/first"));
    // More directories than are in memory after they were read.
    for number in 0..4000 {
        apply(link(&format!("l/{number:06}"), &format!("d{}/00001{long}", number % 8)));
    }
    let read = tree.directories.times_read();
    assert!((1..12).contains(&read), "{read}");
}

#[test]
fn an_attribute_that_all_files_have_counts_for_each() {
    let one = with_attribute(file("a"), "user.a", &[1; 3800]);
    let Change::Upsert(entry) = one else { panic!("no entry") };
    let describe = |count| {
        let mut tree = ErofsTree::new();
        for number in 0..count {
            tree.apply(&Change::Upsert(Entry { path: format!("{number}").into(), ..entry.clone() }), 512)?;
        }
        tree.finish(TAR).map(|metadata| metadata.length())
    };
    assert!(describe(1000).unwrap() > 3_800_000);
    assert_eq!(describe(70_000), Err(Undescribable::Large));
}

#[test]
fn times_are_those_that_ext4_holds() {
    let of = |seconds, nanoseconds| {
        let Change::Upsert(entry) = file("a") else { panic!("no entry") };
        let mtime = Timestamp { seconds, nanoseconds };
        nodes(&[Change::Upsert(Entry { mtime, ..entry })]).unwrap()[1].mtime
    };
    assert_eq!(of(i64::MAX, 5), Timestamp::from_seconds(15_032_385_535));
    assert_eq!(of(i64::MIN, 5), Timestamp::from_seconds(-2_147_483_648));
    assert_eq!(of(15_032_385_534, 5), Timestamp { seconds: 15_032_385_534, nanoseconds: 5 });
}
