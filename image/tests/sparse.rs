//! What do records about holes mean that GNU tar does not write?
//!
//! The expectations are what BuildKit in Docker Engine 26.1.5 made of `ADD` of these archives: a file, or no archive.

#![expect(clippy::unwrap_used, reason = "tests")]

use rbuild_image::{Change, EntryKind, LayerReader};

/// The keys without what they all begin with, and their values.
type Records<'a> = &'a [(&'a str, &'a str)];

fn header(name: &str, size: usize, kind: u8) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(size as u64);
    header.set_mode(0o644);
    header.as_mut_bytes()[156] = kind;
    header.set_cksum();
    header
}

fn entry(header: &tar::Header, content: &[u8]) -> Vec<u8> {
    let mut bytes = [header.as_bytes(), content].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn extension(kind: u8, records: Records<'_>) -> Vec<u8> {
    let mut data = String::new();
    for (key, value) in records {
        let record = format!(" GNU.sparse.{key}={value}\n").replace("GNU.sparse./", "");
        let length = (1..).find(|length| format!("{length}{record}").len() == *length).unwrap();
        data += &format!("{length}{record}");
    }
    entry(&header("x", data.len(), kind), data.as_bytes())
}

fn long_name(name: &str) -> Vec<u8> {
    entry(&header("long", name.len(), b'L'), name.as_bytes())
}

fn file(records: Records<'_>, content: &[u8]) -> Vec<u8> {
    [extension(b'x', records), entry(&header("a", content.len(), b'0'), content)].concat()
}

/// Of version 1.0: a map, and the data behind it.
fn with_map(records: Records<'_>, map: &str, data: &str) -> Vec<u8> {
    let content = [format!("{map:\0<512}").as_bytes(), data.as_bytes()].concat();
    file(&[&[("major", "1"), ("minor", "0")], records].concat(), &content)
}

/// Of type `S`: a map of two pieces, for a file of ten bytes.
fn of_gnu(magic: &[u8; 8]) -> Vec<u8> {
    let mut header = header("a", 2, b'S');
    let bytes = header.as_mut_bytes();
    bytes[257..265].copy_from_slice(magic);
    for (at, number) in [(386, 0), (398, 1), (410, 9), (422, 1), (483, 10)] {
        bytes[at..at + 12].copy_from_slice(format!("{number:011o}\0").as_bytes());
    }
    header.set_cksum();
    entry(&header, b"ab")
}

/// The path and the content of the first entry; what it is if it is no file.
fn read(archive: &[u8]) -> Option<(String, Vec<u8>)> {
    let mut reader = LayerReader::new(archive);
    let Change::Upsert(entry) = reader.next().ok()??.0 else { panic!("it removes something") };
    let mut content = Vec::new();
    reader.content().read_to_end(&mut content).ok()?;
    match entry.kind {
        EntryKind::File { size } => assert_eq!(size, content.len() as u64),
        other => content = format!("{other:?}").into_bytes(),
    }
    assert!(reader.next().ok()?.is_none());
    Some((entry.path.display().to_string(), content))
}

#[test]
fn holes_are_where_go_finds_them() {
    const M: &str = "1\n4\n2\n";
    let ten = [("realsize", "10")];
    let one = |map: &str, data: &str| with_map(&ten, map, data);
    let zero = |records: Records<'_>| file(records, b"ab");
    let map = |blocks, map| zero(&[("size", "10"), ("numblocks", blocks), ("map", map)]);
    let named = [("size", "10"), ("numblocks", "2"), ("map", "0,1,9,1"), ("name", "n")];
    let zeros = |length: usize| "\0".repeat(length);
    let (middle, ends) = (format!("{}ab{}", zeros(4), zeros(4)), format!("a{}b", zeros(8)));
    let long = "l".repeat(120);
    let text = |path: &str, content: &str| Some((path.to_owned(), content.as_bytes().to_vec()));
    let plain = || text("a", "ab");
    let sparse = || text("a", &ends);
    for (what, archive, expected) in [
        // The map in the content.
        ("1.0", with_map(&[ten[0], ("name", "n")], M, "ab"), text("n", &middle)),
        ("no size", with_map(&[], M, "ab"), text("a", &format!("{}ab{}", zeros(4), zeros(508)))),
        ("no size, and a hole", with_map(&[], "0\n", ""), text("a", &zeros(512))),
        ("a size that is too small", with_map(&[("realsize", "5")], M, "ab"), None),
        ("a size that is just right", with_map(&[("realsize", "6")], M, "ab"), text("a", &middle[..6])),
        ("two sizes", with_map(&[("size", "7"), ("realsize", "9")], M, "ab"), text("a", &middle[..7])),
        ("two sizes, turned", with_map(&[("realsize", "9"), ("size", "7")], M, "ab"), text("a", &middle[..7])),
        ("an empty size", with_map(&[("size", ""), ("realsize", "9")], M, "ab"), text("a", &middle[..9])),
        ("a size that is none", with_map(&[("size", "x"), ("realsize", "9")], M, "ab"), None),
        ("a size below zero", with_map(&[("realsize", "-1")], "0\n", ""), None),
        ("nothing at the end", one("2\n4\n2\n10\n0\n", "ab"), text("a", &middle)),
        ("nothing behind the end", one("2\n4\n2\n11\n0\n", "ab"), None),
        ("nothing in the middle", one("3\n4\n1\n5\n0\n5\n1\n", "ab"), text("a", &middle)),
        ("nothing within another", one("2\n4\n2\n5\n0\n", "ab"), None),
        ("no piece", one("0\n", ""), text("a", &zeros(10))),
        ("no piece, but data", one("0\n", "ab"), None),
        ("no file, but data", with_map(&[("realsize", "0")], "0\n", "ab"), None),
        ("too little data", one("1\n4\n3\n", "ab"), None),
        ("too much data", one("1\n4\n1\n", "ab"), None),
        ("signs", with_map(&[("realsize", "+10")], "+1\n+4\n+2\n", "ab"), text("a", &middle)),
        ("zeros", one("1\n0000000000000000000000000000004\n2\n", "ab"), text("a", &middle)),
        ("a zero below zero", one("1\n-0\n2\n", "ab"), text("a", &format!("ab{}", zeros(8)))),
        ("a place below zero", one("1\n-4\n2\n", "ab"), None),
        ("an odd number", one("1\n4\n", "ab"), None),
        ("pieces that overlap", one("2\n4\n1\n4\n1\n", "ab"), None),
        ("pieces in another order", one("2\n6\n1\n4\n1\n", "ab"), None),
        ("an end beyond all numbers", one("1\n9223372036854775807\n2\n", "ab"), None),
        ("a place beyond all numbers", one("1\n9223372036854775808\n2\n", "ab"), None),
        ("a count beyond all numbers", one("9999999999999999999\n", "ab"), None),
        ("no number", one("x\n", "ab"), None),
        ("an empty line", one("\n1\n4\n2\n", "ab"), None),
        ("a map that is cut off", file(&[("major", "1"), ("minor", "0"), ten[0]], M.as_bytes()), None),
        ("no map", file(&[("major", "1"), ("minor", "0"), ten[0]], b""), None),
        // What is no version of a sparse file.
        ("major only", zero(&[("major", "1"), ten[0], ("name", "n")]), plain()),
        ("minor only", zero(&[&[("minor", "0")], &named[..]].concat()), plain()),
        ("1.1", zero(&[("major", "1"), ("minor", "1"), ten[0], ("name", "n")]), plain()),
        ("2", zero(&[("major", "2"), ("offset", "x"), ("numbytes", "y")]), plain()),
        ("01", zero(&[("major", "01"), ("minor", "0"), ten[0]]), plain()),
        ("name only", zero(&[("name", "n")]), plain()),
        ("size only", zero(&[("size", "x")]), plain()),
        ("blocks only", zero(&[("numblocks", "x")]), plain()),
        // The map in a record.
        ("0.1", zero(&named), text("n", &ends)),
        ("0.1 in so many words", zero(&[&[("major", "0"), ("minor", "1")], &named[..]].concat()), text("n", &ends)),
        ("0.0, but a map", zero(&[&[("major", "0"), ("minor", "0")], &named[..3]].concat()), sparse()),
        ("an empty version", zero(&[&[("major", ""), ("minor", "")], &named[..3]].concat()), sparse()),
        ("the other size", zero(&[ten[0], named[1], named[2]]), sparse()),
        ("no size", zero(&[("numblocks", "1"), ("map", "0,2")]), plain()),
        ("an empty name", zero(&[named[0], named[1], named[2], ("name", "")]), sparse()),
        ("no blocks", zero(&[named[0], named[2]]), None),
        ("fewer blocks", map("1", "0,1,9,1"), None),
        ("more blocks", map("3", "0,1,9,1"), None),
        ("more blocks than numbers", map("9223372036854775807", "0,1,9,1"), None),
        ("an odd number", map("2", "0,1,9"), None),
        ("a comma at the end", map("2", "0,1,9,1,"), None),
        ("a space", map("2", "0, 1,9,1"), None),
        ("a piece behind the end", map("2", "0,1,8,3"), None),
        ("pieces in another order", map("2", "5,1,4,1"), None),
        ("an empty map", map("0", ""), plain()),
        (
            "an empty map that is meant",
            file(&[("major", "0"), ("minor", "1"), ("size", "10"), ("numblocks", "0")], b""),
            text("a", &zeros(10)),
        ),
        ("an empty map without blocks", file(&[("major", "0"), ("minor", "1"), ("size", "10")], b""), None),
        // The map in many records.
        (
            "0.0",
            zero(&[named[0], named[1], ("offset", "0"), ("numbytes", "1"), ("offset", "9"), ("numbytes", "1")]),
            sparse(),
        ),
        ("two records turned", zero(&[named[0], ("numbytes", "1"), ("offset", "0")]), None),
        ("an odd number", zero(&[named[0], named[1], ("offset", "0"), ("numbytes", "1"), ("offset", "9")]), None),
        ("a comma", zero(&[named[0], named[1], ("offset", "0,1"), ("numbytes", "9,1")]), None),
        (
            "records and a map",
            zero(&[
                named[0],
                named[1],
                ("offset", "0"),
                ("numbytes", "1"),
                ("offset", "9"),
                ("numbytes", "1"),
                ("map", "0,2"),
            ]),
            sparse(),
        ),
        (
            "records in two headers",
            [
                extension(b'x', &[named[0], named[1], ("offset", "0"), ("numbytes", "1")]),
                zero(&[("offset", "9"), ("numbytes", "1")]),
            ]
            .concat(),
            None,
        ),
        ("a second header", [extension(b'x', &named), zero(&[("/mtime", "5")])].concat(), plain()),
        ("a second header for all", [extension(b'x', &named), extension(b'g', &[]), zero(&[])].concat(), plain()),
        // Names, and what else there is.
        ("another name", zero(&[&[("/path", "p")], &named[..]].concat()), text("n", &ends)),
        ("a long name", [long_name(&long), zero(&named)].concat(), text("n", &ends)),
        ("a long name and another", [long_name(&long), zero(&[("/path", "p")])].concat(), text(&long, "ab")),
        ("another and an empty long name", [long_name("\0"), zero(&[("/path", "p")])].concat(), text("p", "ab")),
        ("an empty name", zero(&[("/path", "p"), ("/path", "")]), plain()),
        ("empty numbers", zero(&[("/size", ""), ("/uid", ""), ("/gid", ""), ("/mtime", "")]), plain()),
        (
            "another size",
            [extension(b'x', &[&[("/size", "2")], &named[..3]].concat()), entry(&header("a", 7, b'0'), b"ab")].concat(),
            sparse(),
        ),
        (
            "a directory",
            [extension(b'x', &[("major", "2")]), entry(&header("d/", 0, b'5'), b"")].concat(),
            text("d", "Directory"),
        ),
        (
            "a directory with holes",
            [
                extension(b'x', &[("major", "0"), ("minor", "1"), ("size", "0"), ("numblocks", "0"), ("name", "n")]),
                entry(&header("d/", 0, b'\0'), b""),
            ]
            .concat(),
            None,
        ),
        // BuildKit has no files of this type; this is what Go makes of them.
        ("S", of_gnu(b"ustar  \0"), sparse()),
        ("S with records", [extension(b'x', &named[..]), of_gnu(b"ustar  \0")].concat(), sparse()),
        ("S of ustar", of_gnu(b"ustar\x0000"), None),
        ("S of V7", of_gnu(&[0; 8]), None),
    ] {
        assert_eq!(read(&archive), expected, "{what}");
        let end = [&archive[..], &[0; 1024]].concat();
        assert_eq!(read(&end), expected, "{what}");
    }
}
