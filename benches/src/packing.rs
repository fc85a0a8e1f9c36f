//! What does it cost to write a layer's tar, beside reading the files?

use std::io;

use rbuild_image::{Change, Compression, Entry, EntryKind, LayerWriter, Timestamp};

/// A layer of `count` files of 4 KB, uncompressed, hashed and thrown away.
///
/// # Errors
/// None that anything here could cause.
pub fn write(count: usize) -> io::Result<u64> {
    let content = [7; 4096];
    let mut writer = LayerWriter::new(io::sink(), Compression::None)?;
    for number in 0..count {
        let entry = Entry {
            path: format!("usr/lib/package-{}/file-{number}.js", number / 100).into(),
            kind: EntryKind::File { size: content.len() as u64 },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Timestamp { seconds: 1_700_000_000, nanoseconds: 0 },
            xattrs: Default::default(),
        };
        writer.append(&Change::Upsert(entry), &mut &content[..])?;
    }
    Ok(writer.finish()?.size)
}
