//! Can an archive do anything outside of where it is unpacked, or come out of the store as something else?
//!
//! Each input is read as a layer and as a plain archive, imported into a store, and unpacked by `ADD` over links that lead
//! to canaries. As root it can really do everything: see `rbuild_fuzz::jail`.

#![no_main]

use std::path::Component;
use std::sync::{LazyLock, Mutex};

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use rbuild_cache::{Store, TarOptions};
use rbuild_fuzz::jail::Jail;
use rbuild_fuzz::{cost::bounded, tar};
use rbuild_image::{Change, EntryKind, LayerReader, archive, sha256};

static JAIL: LazyLock<Mutex<Jail>> = LazyLock::new(Mutex::default);

fuzz_target!(|bytes: &[u8]| {
    let entries = bounded("reading", bytes.len(), || read(LayerReader::new(bytes)));
    bounded("reading literally", bytes.len(), || read(LayerReader::literal(bytes)));
    // A map of holes makes much of little, as it may.
    let Some(entries) = entries else { return };
    let mut jail = JAIL.lock().expect("one thread");
    // The smallest tar with one entry; what is no archive is copied, which is another target's business.
    if bytes.len() < 512 {
        return;
    }
    if entries > 0 {
        import(&jail.store(), bytes);
    }
    if archive::open(bytes).is_ok_and(|archive| archive.is_some()) {
        let _ = jail.add(bytes);
    }
    jail.check();
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = match seed % 4 {
        0 => tar::add(&mut data[..max_size], size, seed / 4),
        _ => fuzzer_mutate(data, size, max_size),
    };
    // One in many keeps its wrong sums. Compressed ones have none.
    if seed % 61 != 0 && data.get(257..262).is_some_and(|magic| magic == b"ustar") {
        tar::repair(&mut data[..size]);
    }
    size
});

/// The most that a file's holes may take to be read here.
const LARGEST: u64 = 1 << 20;

/// Reads all entries and says how many there were; nothing if one of them is large for its holes.
fn read(mut reader: LayerReader<&[u8]>) -> Option<usize> {
    let mut count = 0;
    while let Ok(Some((change, _))) = reader.next() {
        count += 1;
        let (path, size) = match &change {
            Change::Upsert(entry) => {
                let size = if let EntryKind::File { size } = entry.kind { size } else { 0 };
                if let EntryKind::Hardlink { target } = &entry.kind {
                    assert!(target.components().all(|part| matches!(part, Component::Normal(_))), "{change:?}");
                }
                (&entry.path, size)
            }
            Change::Remove(path) | Change::Opaque(path) => (path, 0),
        };
        assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{change:?}");
        if size > LARGEST && reader.is_sparse() {
            return None;
        }
        let mut rest = Vec::new();
        let content = reader.content();
        if content.read_to_end(&mut rest).is_ok() {
            assert_eq!(rest.len() as u64, size, "{change:?}");
        }
    }
    Some(count)
}

/// What a store makes of a tar it gives back, and takes that as the same.
fn import(store: &Store, bytes: &[u8]) {
    let layers = store.layers();
    let imported = layers.import(&sha256(bytes), &mut &*bytes);
    let adopted = layers.adopt(&mut &*bytes);
    assert_eq!(imported.is_ok(), adopted.is_ok(), "{imported:?} {adopted:?}");
    let Ok(layer) = adopted else { return };
    let mut canonical = Vec::new();
    layers.write_tar(&layer.id, TarOptions::default(), &mut canonical).expect("a layer that was built here");
    let again = layers.adopt(&mut canonical.as_slice()).expect("a tar that was written here");
    // Not the same layer: the root directory's own mode and owner are in no tar.
    let mut twice = Vec::new();
    layers.write_tar(&again.id, TarOptions::default(), &mut twice).expect("a layer that was built here");
    assert!(canonical == twice, "the tar of a layer makes another layer");
}
