//! Layers from changes to bytes and back, and what other tools make of the bytes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Cursor, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use rbuild_image::archive::{self, Format, Sniffed, decompress};
use rbuild_image::{
    Change, Compression, Entry, EntryKind, Layer, LayerError, LayerReader, LayerWriter, Timestamp, compress_layer,
    sha256,
};

fn entry(path: &str, kind: EntryKind) -> Entry {
    Entry {
        path: path.into(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Timestamp::from_seconds(1_700_000_000),
        xattrs: BTreeMap::new(),
    }
}

fn file(path: &str, content: &[u8]) -> (Change, Vec<u8>) {
    (Change::Upsert(entry(path, EntryKind::File { size: content.len() as u64 })), content.to_vec())
}

fn other(path: &str, kind: EntryKind) -> (Change, Vec<u8>) {
    (Change::Upsert(entry(path, kind)), Vec::new())
}

fn write(changes: &[(Change, Vec<u8>)], compression: Compression) -> io::Result<(Layer, Vec<u8>)> {
    let mut writer = LayerWriter::new(Vec::new(), compression)?;
    for (change, content) in changes {
        writer.append(change, &mut content.as_slice())?;
    }
    writer.finish_into()
}

fn read(tar: impl Read) -> Result<Vec<(Change, Vec<u8>)>, LayerError> {
    let mut reader = LayerReader::new(tar);
    let mut changes = Vec::new();
    while let Some((change, content)) = reader.next()? {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).map_err(LayerError::Read)?;
        changes.push((change, bytes));
    }
    Ok(changes)
}

/// One of everything.
fn sample() -> Vec<(Change, Vec<u8>)> {
    let mut capable = entry("usr/bin/ping", EntryKind::File { size: 3 });
    capable.mode = 0o4755;
    capable.xattrs.insert("security.capability".into(), b"\x01\0\0\x02\0\x20\n=\0".to_vec());
    let mut far = entry("far", EntryKind::File { size: 0 });
    (far.uid, far.gid, far.mtime) = (u32::MAX - 1, 3_000_000, Timestamp::from_seconds(-5));
    vec![
        other("", EntryKind::Directory),
        other("dev", EntryKind::Directory),
        other("dev/null", EntryKind::CharDevice { major: 1, minor: 3 }),
        other("dev/sda", EntryKind::BlockDevice { major: 8, minor: 0xf_ffff }),
        (Change::Opaque("etc".into()), Vec::new()),
        (Change::Remove("etc-old".into()), Vec::new()),
        (Change::Upsert(far), Vec::new()),
        file(&format!("{}/end", "long/".repeat(80).trim_end_matches('/')), b"x"),
        other("pipe", EntryKind::Fifo),
        file("usr/a", &[7; 1000]),
        other("usr/b", EntryKind::Hardlink { target: "usr/a".into() }),
        (Change::Upsert(capable), b"abc".to_vec()),
        other("usr/link", EntryKind::Symlink { target: "../../etc/\u{fc}ber".into() }),
        file("\u{fc}ber", b"1"),
    ]
}

#[test]
fn a_layer_of_everything_is_read_back() {
    for compression in [Compression::None, Compression::Gzip(6), Compression::Zstd(3)] {
        let (layer, bytes) = write(&sample(), compression).unwrap();
        assert_eq!((layer.descriptor.digest, layer.descriptor.size), (sha256(&bytes), bytes.len() as u64));
        let mut plain = Vec::new();
        decompress(bytes.as_slice()).unwrap().read_to_end(&mut plain).unwrap();
        assert_eq!((layer.diff_id, layer.size), (sha256(&plain), plain.len() as u64));
        assert_eq!(read(plain.as_slice()).unwrap(), sample());
        let again = compress_layer(&mut plain.as_slice(), io::sink(), compression).unwrap();
        assert_eq!(again, layer);
    }
}

/// The plain bytes are our format: a change here changes every layer that anybody builds.
#[test]
fn the_bytes_of_a_layer_never_change() {
    let (layer, _) = write(&sample(), Compression::None).unwrap();
    assert_eq!(layer.diff_id.to_string(), "sha256:25760eb6d9cc2208ca935daf36cbfe96d2ef6f3333d0e59ed37f761463facc55");
}

#[test]
fn an_owner_that_is_nobody_to_the_kernel_is_refused() {
    for (uid, gid, field) in [(u32::MAX, 1, "uid"), (1, u32::MAX, "gid")] {
        let change = Change::Upsert(Entry { uid, gid, ..entry("a", EntryKind::File { size: 0 }) });
        let mut writer = LayerWriter::new(Vec::new(), Compression::None).unwrap();
        writer.append(&change, &mut io::empty()).unwrap();
        let tar = writer.finish_into().unwrap().1;
        match LayerReader::new(&mut tar.as_slice()).next().map(drop) {
            Err(LayerError::Owner { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn content_offsets_point_into_the_plain_tar() {
    let mut writer = LayerWriter::new(Vec::new(), Compression::None).unwrap();
    let mut offsets = Vec::new();
    for (change, content) in sample() {
        offsets.push(writer.append(&change, &mut content.as_slice()).unwrap());
    }
    let (_, tar) = writer.finish_into().unwrap();
    let mut reader = LayerReader::new(tar.as_slice());
    for ((_, content), offset) in sample().iter().zip(offsets) {
        reader.next().unwrap().unwrap();
        assert_eq!(reader.content_offset(), offset);
        assert!(tar[usize::try_from(offset).unwrap()..].starts_with(content));
    }
}

#[test]
fn gnu_tar_lists_what_we_write() {
    let (_, tar) = write(&sample(), Compression::None).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("layer.tar");
    std::fs::write(&path, &tar).unwrap();
    let Ok(output) = Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(&path).env("LC_ALL", "C.UTF-8").output()
    else {
        println!("skipped: there is no `tar`");
        return;
    };
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    for expected in [
        "crw-r--r-- 0/0 1,3",
        "brw-r--r-- 0/0 8,1048575",
        "-rwsr-xr-x 0/0",
        "hrw-r--r-- 0/0",
        "prw-r--r-- 0/0",
        "4294967294/3000000",
        "1969-12-31",
        "usr/link -> ../../etc/",
        ".wh..wh..opq",
        "long/long/end",
    ] {
        let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(squeezed.contains(expected), "`{expected}` is not in\n{text}");
    }
    assert_eq!(text.lines().count(), sample().len());
}

#[test]
fn the_tar_crate_reads_the_same_fields() {
    let (_, bytes) = write(&sample()[6..10], Compression::None).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let entries: Vec<_> =
        archive.entries().unwrap().map(Result::unwrap).map(|entry| entry.path().unwrap().into_owned()).collect();
    let expected: Vec<PathBuf> = sample()[6..10].iter().map(|(change, _)| change.path().to_owned()).collect();
    assert_eq!(entries, expected);
}

#[test]
fn a231_headers_name_nobody_and_know_no_other_times() {
    let mut changes = sample();
    for (change, _) in &mut changes {
        let Change::Upsert(entry) = change else { continue };
        // The crate takes a line break in a value for its end.
        entry.xattrs.values_mut().for_each(|value| *value = b"v".to_vec());
    }
    let (_, bytes) = write(&changes, Compression::None).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let (mut names, mut links, mut attributes) = (Vec::new(), 0, 0);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        names.push(entry.path().unwrap().to_string_lossy().into_owned());
        links += usize::from(entry.header().entry_type().is_hard_link());
        assert_eq!(
            (entry.header().username_bytes(), entry.header().groupname_bytes()),
            (Some(&b""[..]), Some(&b""[..]))
        );
        for extension in entry.pax_extensions().unwrap().into_iter().flatten() {
            let key = extension.unwrap().key().unwrap().to_owned();
            attributes += usize::from(key == "SCHILY.xattr.security.capability");
            let known = ["path", "linkpath", "size", "uid", "gid", "mtime"];
            assert!(known.contains(&&*key) || key.starts_with("SCHILY.xattr."), "{key}");
        }
    }
    assert_eq!((links, attributes), (1, 1));
    for expected in ["etc/.wh..wh..opq", ".wh.etc-old"] {
        assert!(names.iter().any(|name| name == expected), "{expected}: {names:?}");
    }
}

#[test]
fn archives_of_gnu_tar_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let long = "l".repeat(200);
    std::fs::write(dir.path().join(&long), "content").unwrap();
    std::fs::create_dir(dir.path().join("d")).unwrap();
    std::os::unix::fs::symlink("m".repeat(150), dir.path().join("d/link")).unwrap();
    for format in ["gnu", "oldgnu", "pax", "posix", "ustar", "v7"] {
        let mut command = Command::new("tar");
        command.args(["-c", "-C"]).arg(dir.path()).arg(format!("--format={format}"));
        // These two cannot hold the long names.
        let small = matches!(format, "ustar" | "v7");
        if small {
            command.arg("--exclude=link");
        }
        command.args(if small { &["./d"][..] } else { &["."] });
        let Ok(output) = command.stderr(Stdio::inherit()).output() else {
            println!("skipped: there is no `tar`");
            return;
        };
        let changes = read(output.stdout.as_slice()).unwrap_or_else(|error| panic!("{format}: {error}"));
        let find = |path: &str| changes.iter().find(|(change, _)| change.path().as_os_str() == path).cloned();
        let is_directory =
            |change: &Change| matches!(change, Change::Upsert(entry) if entry.kind == EntryKind::Directory);
        assert!(is_directory(&find("d").unwrap().0), "{format}");
        if !small {
            assert_eq!(find(&long).unwrap().1, b"content", "{format}");
            let Change::Upsert(link) = find("d/link").unwrap().0 else { panic!("no link") };
            assert_eq!(link.kind, EntryKind::Symlink { target: "m".repeat(150).into() }, "{format}");
        }
    }
}

#[test]
fn hostile_and_broken_tars_are_refused() {
    let header = |path: &str, kind: tar::EntryType, size: u64, link: &str| {
        let mut header = tar::Header::new_ustar();
        let name = &mut header.as_old_mut().name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_link_name_literal(link).unwrap();
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    use tar::EntryType as T;
    // Each is small enough.
    let extensions = [header("a", T::XHeader, 400 << 10, ""), vec![0; 400 << 10]].concat();
    for (bytes, expected) in [
        (header("../up", T::Regular, 0, ""), "the tar contains the path `../up`"),
        (header("a/../../up", T::Directory, 0, ""), "the tar contains the path `a/../../up`"),
        (header("a/.wh...", T::Regular, 0, ""), "the tar contains the path `a/.wh...`"),
        (header("./", T::Regular, 0, ""), "the tar contains the path `./`"),
        (header("a", T::Link, 0, "../b"), "the tar links `a` to `../b`"),
        (header("a", T::Link, 0, "/"), "the tar links `a` to `/`"),
        (header("a", T::Symlink, 0, ""), "the tar links `a` to ``"),
        (header("a", T::GNUSparse, 7, ""), "`a` is a sparse file whose map of holes is wrong"),
        (header("a", T::new(b'M'), 0, ""), "`a` has the tar entry type `M`, which is not supported"),
        (header("a", T::Regular, 5, ""), "the tar ends in the middle of an entry, at byte 512"),
        (header("a", T::XHeader, 1 << 40, ""), "the tar has extension headers of 1099511627776 bytes for one entry"),
        (extensions.repeat(3), "the tar has extension headers of 1228800 bytes for one entry"),
        (header("a", T::GNULongName, 512, ""), "the tar ends in the middle of an entry, at byte 512"),
        (vec![1; 512], "there is no tar header at byte 0"),
        (vec![0; 100], "the tar ends in the middle of an entry, at byte 100"),
    ] {
        match read(bytes.as_slice()) {
            Ok(changes) => panic!("{expected}: {changes:?}"),
            // A file's content fails where it is read.
            Err(LayerError::Read(error)) => assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof),
            Err(error) => assert_eq!(error.to_string(), expected),
        }
    }
    assert_eq!(read(&[][..]).unwrap(), []);
}

/// What GNU tar makes of files with holes, in all its forms.
#[test]
fn holes_are_filled() {
    use std::os::unix::fs::FileExt;
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, size: u64, pieces: &[(u64, &[u8])]| {
        let file = std::fs::File::create(directory.path().join(name)).unwrap();
        pieces.iter().for_each(|(at, bytes)| file.write_all_at(bytes, *at).unwrap());
        file.set_len(size).unwrap();
        std::fs::read(directory.path().join(name)).unwrap()
    };
    // More pieces than a header of the old kind holds.
    let many: Vec<(u64, &[u8])> = (0..60).map(|number| (number * 65_536, &b"piece"[..])).collect();
    let expected = [
        ("begin", file("begin", 300_000, &[(0, b"begin")])),
        ("empty", file("empty", 1 << 20, &[])),
        ("end", file("end", 200_003, &[(200_000, b"end")])),
        ("many", file("many", 60 * 65_536, &many)),
        ("whole", file("whole", 5, &[(0, b"whole")])),
    ];
    let tar = |form: &[&str]| {
        let mut command = Command::new("tar");
        command.args(["-c", "-S", "--hole-detection=raw"]).args(form).args(expected.iter().map(|(name, _)| name));
        command.current_dir(directory.path()).output().unwrap().stdout
    };
    let forms: [&[&str]; 4] = [
        &["--format=gnu"],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ];
    for form in forms {
        let tar = tar(form);
        assert!(tar.len() < 1 << 20, "{form:?}: there are holes");
        let found = read(tar.as_slice()).unwrap();
        assert_eq!(found.len(), expected.len(), "{form:?}");
        for ((change, content), (name, bytes)) in found.iter().zip(&expected) {
            let Change::Upsert(entry) = change else { panic!("{change:?}") };
            assert_eq!(entry.path.as_os_str(), *name, "{form:?}");
            assert_eq!(entry.kind, EntryKind::File { size: bytes.len() as u64 }, "{form:?} {name}");
            assert!(content == bytes, "{form:?} {name}");
        }
        // Also if nobody reads it.
        let mut reader = LayerReader::new(tar.as_slice());
        let mut sparse = 0;
        while reader.next_at().unwrap().is_some() {
            sparse += usize::from(reader.is_sparse());
        }
        assert_eq!((sparse, reader.is_complete()), (4, true), "{form:?}");
        for end in (0..tar.len()).step_by(512) {
            drop(read(&tar[..end]));
        }
    }
}

#[test]
fn entries_that_no_layer_can_hold_are_refused() {
    let mut attribute = entry("a", EntryKind::Directory);
    attribute.xattrs.insert("user.a=b".into(), Vec::new());
    for change in [
        other("/a", EntryKind::Directory).0,
        other("a/../b", EntryKind::Directory).0,
        other("a//b", EntryKind::Directory).0,
        other(".wh.a", EntryKind::File { size: 0 }).0,
        other("", EntryKind::Fifo).0,
        other("a", EntryKind::Hardlink { target: "/b".into() }).0,
        other("a", EntryKind::Symlink { target: "".into() }).0,
        other("a", EntryKind::CharDevice { major: 1 << 21, minor: 0 }).0,
        Change::Remove("".into()),
        Change::Upsert(attribute),
    ] {
        let error = write(&[(change.clone(), Vec::new())], Compression::None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{change:?}");
    }
    let short = other("a", EntryKind::File { size: 1 });
    assert_eq!(write(&[short], Compression::None).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert!(write(&[], Compression::Zstd(0)).is_err() && write(&[], Compression::Gzip(10)).is_err());
}

#[test]
fn archives_are_recognised_by_content_in_every_compression() {
    let (_, tar) = write(&[file("a", &[b'x'; 100_000])], Compression::None).unwrap();
    let pipe = |program: &str, arguments: &[&str], input: &[u8]| -> Option<Vec<u8>> {
        use std::io::Write;
        let spawned = Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let Ok(mut child) = spawned else {
            println!("skipped: there is no `{program}`");
            return None;
        };
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap().unwrap();
        Some(output.stdout)
    };
    for (program, format) in [
        ("cat", Format::Plain),
        ("gzip", Format::Gzip),
        ("bzip2", Format::Bzip2),
        ("xz", Format::Xz),
        ("zstd", Format::Zstd),
    ] {
        // Two streams after one another are one.
        let (first, second) = tar.split_at(tar.len() / 2);
        let parts = [first, second].map(|part| pipe(program, if program == "cat" { &[] } else { &["-c"] }, part));
        let [Some(first), Some(second)] = parts else { continue };
        let packed = [first, second].concat();
        assert_eq!(Format::detect(&packed), format);
        let mut plain = Vec::new();
        archive::open(packed.as_slice()).unwrap().expect(program).read_to_end(&mut plain).unwrap();
        assert!(plain == tar, "{program}");
        let half = &packed[..packed.len() / 2];
        let cut = archive::open(half).unwrap().map(|mut archive| io::copy(&mut archive, &mut io::sink()));
        assert!(format == Format::Plain || cut.is_none_or(|copied| copied.is_err()), "{program}");
        let text = pipe(program, if program == "cat" { &[] } else { &["-c"] }, b"no tar").unwrap();
        assert!(archive::open(text.as_slice()).unwrap().is_none(), "{program}");
    }
    for nothing in [&b""[..], b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", &[0; 1024]] {
        assert!(archive::open(nothing).unwrap().is_none());
    }
}

#[test]
fn a192_a_stream_is_a_tar_or_is_handed_back_whole() {
    let (_, tar) = write(&[file("a", b"x")], Compression::None).unwrap();
    let (_, packed) = write(&[file("a", b"x")], Compression::Gzip(1)).unwrap();
    let sniff = |bytes: &[u8]| match archive::sniff(bytes).unwrap() {
        Sniffed::Tar(mut archive) => {
            let mut plain = Vec::new();
            archive.read_to_end(&mut plain).unwrap();
            format!("tar of {}", plain.len())
        }
        Sniffed::Compressed(format) => format!("{format:?}"),
        Sniffed::Other(mut whole) => {
            let mut text = Vec::new();
            whole.read_to_end(&mut text).unwrap();
            format!("{} bytes, the same: {}", text.len(), text == bytes)
        }
    };
    let long = [b"FROM x\n".as_slice(), &[b'#'; 5000]].concat();
    for (bytes, expected) in [
        (&tar[..], format!("tar of {}", tar.len())),
        (&packed[..], format!("tar of {}", tar.len())),
        (&[0; 10240], "tar of 10240".to_owned()),
        (b"\x1f\x8b\x08", "Gzip".to_owned()),
        (b"BZh9 is no Dockerfile", "Bzip2".to_owned()),
        (b"", "0 bytes, the same: true".to_owned()),
        (b"FROM x\n", "7 bytes, the same: true".to_owned()),
        (&long, "5007 bytes, the same: true".to_owned()),
        (&tar[..511], "511 bytes, the same: true".to_owned()),
    ] {
        assert_eq!(sniff(bytes), expected);
    }
}

#[test]
fn literal_archives_keep_whiteout_names() {
    let (_, tar) = write(&[(Change::Remove("a/b".into()), Vec::new())], Compression::None).unwrap();
    let mut reader = LayerReader::literal(Cursor::new(tar));
    let (change, _) = reader.next().unwrap().unwrap();
    assert!(matches!(change, Change::Upsert(entry) if entry.path.as_os_str() == "a/.wh.b"));
}

/// Counts what is read.
struct Counting<'a>(Cursor<&'a [u8]>, &'a std::cell::Cell<usize>);

impl Read for Counting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.set(self.1.get() + count);
        Ok(count)
    }
}

impl io::Seek for Counting<'_> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

#[test]
fn contents_in_a_file_are_skipped_unread() {
    let changes =
        [file("large", &vec![7; 3 << 20]), file("small", b"x"), file("odd", &vec![7; 100_001]), file("z", b"")];
    let (_, tar) = write(&changes, Compression::None).unwrap();
    let places = |mut reader: LayerReader<Box<dyn Read + '_>>| {
        let mut found = Vec::new();
        loop {
            match reader.next_at() {
                Ok(Some(place)) => found.push(format!("{place:?}")),
                other => break (found, format!("{other:?} {}", reader.is_complete())),
            }
        }
    };
    for end in [0, 100, 512, 513, 2 << 20, (3 << 20) + 512, (3 << 20) + 1024, tar.len() - 1024, tar.len()] {
        let cut = &tar[..end];
        let read = std::cell::Cell::new(0);
        let input = io::BufReader::with_capacity(4096, Counting(Cursor::new(cut), &read));
        let mut reader = LayerReader::literal_in_file(input, end as u64);
        let mut found = Vec::new();
        let last = loop {
            match reader.next_at() {
                Ok(Some(place)) => found.push(format!("{place:?}")),
                other => break format!("{other:?} {}", reader.is_complete()),
            }
        };
        assert_eq!((found, last), places(LayerReader::literal(Box::new(cut))), "{end}");
        assert!(end < tar.len() || read.get() < 64 << 10, "{}", read.get());
    }
}

fn any_path() -> impl Strategy<Value = PathBuf> {
    let part = prop::collection::vec(1..=255_u8, 1..40).prop_filter_map("a file name", |mut bytes| {
        bytes.retain(|byte| *byte != b'/');
        let fits = !matches!(bytes.as_slice(), b"" | b"." | b"..") && !bytes.starts_with(b".wh.");
        fits.then(|| OsString::from_vec(bytes))
    });
    prop::collection::vec(part, 1..12).prop_map(|parts| parts.iter().collect())
}

fn any_change() -> impl Strategy<Value = (Change, Vec<u8>)> {
    let content = prop::collection::vec(any::<u8>(), 0..2000);
    let kind = prop_oneof![
        4 => Just(EntryKind::File { size: 0 }),
        1 => Just(EntryKind::Directory),
        1 => any_path().prop_map(|target| EntryKind::Symlink { target }),
        1 => any_path().prop_map(|target| EntryKind::Hardlink { target }),
        1 => (0..1_u32 << 21, 0..1_u32 << 21).prop_map(|(major, minor)| EntryKind::CharDevice { major, minor }),
        1 => Just(EntryKind::Fifo),
    ];
    let xattrs = prop::collection::btree_map(
        "[a-z.]{1,20}".prop_map(OsString::from),
        prop::collection::vec(any::<u8>(), 0..100),
        0..3,
    );
    let ids = (0..u32::MAX, 0..u32::MAX, 0..0o10000_u32, any::<i64>());
    let upsert = (any_path(), kind, content, xattrs, ids).prop_map(
        |(path, kind, content, xattrs, (uid, gid, mode, seconds))| {
            let (kind, content) = match kind {
                EntryKind::File { .. } => (EntryKind::File { size: content.len() as u64 }, content),
                kind => (kind, Vec::new()),
            };
            let mtime = Timestamp::from_seconds(seconds >> 1);
            (Change::Upsert(Entry { path, kind, mode, uid, gid, mtime, xattrs }), content)
        },
    );
    prop_oneof![
        8 => upsert,
        1 => any_path().prop_map(|path| (Change::Remove(path), Vec::new())),
        1 => any_path().prop_map(|path| (Change::Opaque(path), Vec::new())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(changes in prop::collection::vec(any_change(), 0..12)) {
        let (_, bytes) = write(&changes, Compression::Zstd(1)).unwrap();
        prop_assert_eq!(read(decompress(bytes.as_slice()).unwrap()).unwrap(), changes);
    }

    #[test]
    fn damaged_tars_never_panic(
        changes in prop::collection::vec(any_change(), 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let (_, mut bytes) = write(&changes, Compression::None).unwrap();
        for (index, byte) in damage {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        drop(read(bytes.as_slice()));
    }
}
