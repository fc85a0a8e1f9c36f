//! How much memory does a layer of many files take?
//!
//! Alone in its process, whose memory is measured.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use rbuild_cache::{Form, LayerForm, LayerKind, ReadErofs, Store, StoreOptions, TarOptions};
use rbuild_image::{Change, Compression, Entry, EntryKind, LayerWriter, Timestamp};

const FILES: usize = 30_000;
/// How many names a file has.
const NAMES: usize = 10_000;

/// The most bytes that this process has had while `work` was done, beyond what it had before.
fn growth(work: impl FnOnce()) -> u64 {
    let most = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    };
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = most();
    work();
    most() - before
}

fn name(number: usize) -> String {
    format!("d{}/some-file-with-a-name-{number:06}", number / 20_000)
}

/// Most of them are other names of others, which is faster made.
fn fill(directory: &Path) {
    let mut first = directory.join(name(0));
    for number in 0..FILES {
        let path = directory.join(name(number));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if number % NAMES == 0 {
            first = path;
            fs::write(&first, format!("{number}")).unwrap();
        } else {
            fs::hard_link(&first, path).unwrap();
        }
    }
}

fn tar() -> Vec<u8> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut writer = LayerWriter::new(Vec::new(), Compression::None).unwrap();
    for number in 0..FILES {
        let (kind, mtime, xattrs) = (EntryKind::File { size: 1 }, Timestamp::from_seconds(1), BTreeMap::new());
        let entry = Entry { path: name(number).into(), kind, mode: 0o644, uid, gid, mtime, xattrs };
        writer.append(&Change::Upsert(entry), &mut &b"x"[..]).unwrap();
    }
    writer.finish_into().unwrap().1
}

#[test]
fn half_a_million_files_in_a_layer_would_take_little_memory() {
    let open = |root: &Path, layers, read_erofs| {
        Store::open_with(root, StoreOptions { layers, read_erofs, ..StoreOptions::default() }).unwrap()
    };
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path(), LayerForm::Directory, None);
    let snapshot = store.layers().prepare(&[]).unwrap();
    fill(&snapshot.upper());
    let mut id = None;
    let hashed = growth(|| id = Some(snapshot.commit(LayerKind::Run).unwrap().id));
    let written = growth(|| {
        store.layers().write_tar(id.as_ref().unwrap(), TarOptions::default(), io::sink()).unwrap();
    });
    // 400 bytes for each file would be 12 MB.
    assert!(hashed < 8 << 20, "hashing takes {hashed} bytes");
    assert!(written < 8 << 20, "writing takes {written} bytes");

    let mounts: ReadErofs = |_, _| Ok(b"layers can be files\n".to_vec());
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path(), LayerForm::Erofs, Some(mounts));
    let tar = tar();
    let mut layer = None;
    let adopted = growth(|| layer = Some(store.layers().adopt(&mut tar.as_slice()).unwrap()));
    let layer = layer.unwrap();
    assert_eq!((layer.form, layer.entries), (Form::Erofs, FILES as u64 + 2));
    let clamp = TarOptions { clamp: Some(0), ..TarOptions::default() };
    let clamped = growth(|| {
        store.layers().write_tar(&layer.id, clamp, io::sink()).unwrap();
    });
    // 140 bytes for each file, and what comes next.
    assert!(adopted < 14 << 20, "adopting takes {adopted} bytes");
    assert!(clamped < 4 << 20, "writing a file's tar anew takes {clamped} bytes");
}
