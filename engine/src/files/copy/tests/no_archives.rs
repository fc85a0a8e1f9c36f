//! What does `ADD` make of files that only look like archives?

use super::*;

/// A header whose checksum is right whatever it says, and its content.
fn entry(kind: u8, content: &[u8], change: impl FnOnce(&mut [u8; 512])) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o644);
    header.set_uid(u64::from(rustix::process::geteuid().as_raw()));
    header.set_gid(u64::from(rustix::process::getegid().as_raw()));
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    header.as_old_mut().name[0] = b'a';
    change(header.as_mut_bytes());
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file() -> Vec<u8> {
    entry(b'0', b"x", |_| ())
}

fn broken() -> Vec<u8> {
    let mut bytes = file();
    bytes[5] ^= 1;
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut compressed = Vec::new();
    rbuild_image::compress_layer(&mut &*bytes, &mut compressed, rbuild_image::Compression::Gzip(6)).unwrap();
    compressed
}

/// Docker Engine 26.1.5 answered all of them in the same way.
#[test]
fn what_has_no_first_entry_is_no_archive() {
    if !root() {
        return;
    }
    let end = || vec![0; 1024];
    let field = |place: std::ops::Range<usize>, value: &'static [u8]| {
        [entry(b'0', b"x", |header| header[place].copy_from_slice(value)), end()].concat()
    };
    let pax = |records: &[u8]| entry(b'x', records, |_| ());
    let path = b"10 path=b\n";
    let sparse = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n25 GNU.sparse.realsize=9\n";
    let noise: Vec<u8> = (0..20_000_u32).flat_map(|number| *blake3::hash(&number.to_le_bytes()).as_bytes()).collect();
    let large = [entry(b'0', &noise, |_| ()), end()].concat();
    let long = |name: &[u8]| entry(b'L', name, |_| ());
    let good = [file(), end()].concat();
    let cut = |bytes: Vec<u8>, length: usize| bytes[..length].to_vec();
    for (what, content, expected) in [
        ("nothing", Vec::new(), "copied"),
        ("an end", end(), "copied"),
        ("text before it", [&b"x"[..], &good].concat(), "copied"),
        ("a wrong checksum", broken(), "copied"),
        ("511 bytes", cut(file(), 511), "copied"),
        ("a header alone", cut(file(), 512), "refused"),
        ("no end", file(), "unpacked"),
        ("a second header that is wrong", [file(), broken()].concat(), "refused"),
        ("a size", field(124..136, b"zzzzzzzzzzz\0"), "copied"),
        ("a negative size", field(124..136, &[0xff; 12]), "copied"),
        ("a mode", field(100..108, b"zzzzzzz\0"), "copied"),
        ("an owner", field(108..116, b"zzzzzzz\0"), "copied"),
        ("a time", field(136..148, b"zzzzzzzzzzz\0"), "copied"),
        ("a type", field(156..157, b"Z"), "refused"),
        ("records", [pax(path), file()].concat(), "unpacked"),
        ("no records", [pax(b"garbage\n"), file()].concat(), "copied"),
        ("a record of a size", [pax(b"11 size=zz\n"), file()].concat(), "copied"),
        ("a record of an owner", [pax(b"10 uid=zz\n"), file()].concat(), "copied"),
        ("a record of a time", [pax(b"12 mtime=zz\n"), file()].concat(), "copied"),
        ("records of nothing", pax(path), "copied"),
        ("records of an end", [pax(path), end()].concat(), "copied"),
        ("records of half a header", cut([pax(path), file()].concat(), 1400), "copied"),
        ("records of a wrong header", [pax(path), broken()].concat(), "copied"),
        ("a sparse file without a map", [pax(sparse), file()].concat(), "copied"),
        ("an old one", [entry(b'S', b"x", |_| ()), end()].concat(), "copied"),
        ("a name of nothing", [long(b"b\0"), end()].concat(), "copied"),
        ("a very long name", [long(&vec![b'b'; 2 << 20]), file()].concat(), "copied"),
        ("a comment", [entry(b'g', b"13 comment=b\n", |_| ()), end()].concat(), "nothing"),
        ("a link to nowhere", entry(b'2', b"", |_| ()), "refused"),
        ("gzip", gzip(&good), "unpacked"),
        ("gzip and more", [gzip(&good), b"more".to_vec()].concat(), "unpacked"),
        ("half a gzip", cut(gzip(&large), large.len() / 2), "refused"),
        ("the beginning of a gzip", cut(gzip(&large), 30), "copied"),
        ("the magic of gzip", cut(gzip(&large), 3), "copied"),
        ("gzip of nothing", gzip(b""), "copied"),
        ("gzip of an end", gzip(&end()), "copied"),
        ("gzip of text", gzip(&b"hello".repeat(500)), "copied"),
        ("gzip of gzip", gzip(&gzip(&good)), "copied"),
        ("gzip of no records", gzip(&[pax(b"garbage\n"), file()].concat()), "copied"),
        ("the beginning of a zstd", cut(zstd::encode_all(&*large, 1).unwrap(), 60), "copied"),
    ] {
        let bench = Bench::new();
        bench.file("context/f", &content);
        let found = match bench.run(r#"ADD ["f", "/t/"]"#) {
            Err(CopyError::Archive { .. } | CopyError::Read { .. }) => "refused".to_owned(),
            Err(error) => error.to_string(),
            Ok(_) => match &*bench.names() {
                "/t /t/f" if fs::read(bench.at("image/t/f")).unwrap() == content => "copied".to_owned(),
                "/t /t/a" | "/t /t/b" if bench.text(&bench.names()[4..]) == "x" => "unpacked".to_owned(),
                "/t" => "nothing".to_owned(),
                other => other.to_owned(),
            },
        };
        assert_eq!(found, expected, "{what}");
    }
}
