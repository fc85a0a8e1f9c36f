//! What does a layer of many small files cost? Ignored: seconds are for people.
//!
//! `cargo test -p rbuild-image --test speed -- --ignored --nocapture`

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::time::Instant;

use rbuild_image::{Change, Compression, Entry, EntryKind, LayerReader, LayerWriter, Timestamp, compress_layer};

#[test]
#[ignore = "a measurement"]
fn fifty_thousand_small_files() {
    const FILES: u32 = 50_000;
    let content = [b'x'; 700];
    let changes: Vec<Change> = (0..FILES)
        .map(|number| {
            Change::Upsert(Entry {
                path: format!("srv/app/node_modules/package-{}/lib/file-{number}.js", number / 20).into(),
                kind: EntryKind::File { size: content.len() as u64 },
                mode: 0o644,
                uid: 1000,
                gid: 1000,
                mtime: Timestamp::from_seconds(1_700_000_000),
                xattrs: BTreeMap::new(),
            })
        })
        .collect();
    let start = Instant::now();
    let mut writer = LayerWriter::new(Vec::new(), Compression::None).expect("no compressor");
    for change in &changes {
        writer.append(change, &mut content.as_slice()).expect("memory takes everything");
    }
    let (layer, tar) = writer.finish_into().expect("memory takes everything");
    println!("write: {:?} for each of {FILES} files, {} MiB", start.elapsed() / FILES, layer.size >> 20);
    let start = Instant::now();
    let mut reader = LayerReader::new(tar.as_slice());
    while let Some((_, content)) = reader.next().expect("our own tar") {
        io::copy(content, &mut io::sink()).expect("memory");
    }
    println!("read: {:?} for each", start.elapsed() / FILES);
    let large: Vec<u8> = tar.iter().copied().cycle().take(256 << 20).collect();
    for compression in
        [Compression::None, Compression::Gzip(1), Compression::GZIP, Compression::Gzip(6), Compression::Zstd(3)]
    {
        let start = Instant::now();
        let layer = compress_layer(&mut large.as_slice().take(u64::MAX), io::sink(), compression).expect("memory");
        println!(
            "{compression:?}: {:.0} MiB/s, to {} MiB",
            256.0 / start.elapsed().as_secs_f64(),
            layer.descriptor.size >> 20
        );
    }
}
