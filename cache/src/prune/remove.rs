//! How is what was decided carried out, while others go on writing?
//!
//! Others may have committed between the read and the write transaction. A record that was stored or used meanwhile is
//! no reason to read again: of the rows that are to go, each is looked at once more. An image, a name or a container
//! that came or went is one. And whoever stored something meanwhile had nothing to [spare](condemned::spare_layer) yet:
//! so layers and blobs are then only [suspected](condemned::SUSPECTED), which the sweep looks into.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use rbuild_core::Digest;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::PruneReport;
use super::condemned::{self, SUSPECTED};
use super::plan::{Item, Removal, plan};
use super::policy::PrunePolicy;
use super::state::{State, mount_sizes, slots};
use super::strangers::Entries;
use crate::cache_mounts::{CACHE_MOUNTS, is_same};
use crate::containers::CONTAINERS;
use crate::error::{Context, Result, StoreError};
use crate::images::{IMAGES, NAMES, REMOTES};
use crate::lease;
use crate::meta::{Reader, Writer};
use crate::records::{KEYS, RECORDS, STEPS};
use crate::store::{Store, USED, used_key};

/// How often everything is read without keeping others from writing, before it is read while they wait.
const READS: usize = 3;

/// What a decision was made of.
pub(super) struct Seen {
    pub(super) state: State,
    pub(super) entries: Entries,
}

/// What goes, by kind.
#[derive(Default)]
struct Going {
    images: HashSet<Digest>,
    records: HashSet<Digest>,
}

impl Store {
    /// Decides and carries out. Returns the time that it thought it was.
    pub(super) fn remove(&self, policy: &PrunePolicy) -> Result<(u64, PruneReport)> {
        self.flush_used()?;
        let mounts = mount_sizes(self)?;
        for _ in 0..READS {
            let seen = self.look(&mounts)?;
            let removals = plan(&seen.state, policy);
            if let Some(report) = self.0.meta.write(|writer| self.carry_out(writer, &seen, removals))? {
                return Ok((seen.state.now, report));
            }
        }
        self.0.meta.write(|writer| {
            let entries = Entries::read(self)?;
            let seen = Seen { state: State::read(self, &writer.reader(), &mounts)?, entries };
            let report = self.carry_out(writer, &seen, plan(&seen.state, policy))?;
            Ok((seen.state.now, report.expect("nobody else writes in this transaction")))
        })
    }

    /// Reads everything there is. The directories first: what has no row then will not get one, but for what is just
    /// being made.
    pub(super) fn look(&self, mounts: &[(String, u64)]) -> Result<Seen> {
        let entries = Entries::read(self)?;
        let state = self.0.meta.read(|reader| State::read(self, reader, mounts))?;
        Ok(Seen { state, entries })
    }

    /// Deletes rows and cache mounts, condemns layers and blobs; `None` if that has to be decided anew. What turns out
    /// to be in use is not in the report.
    pub(super) fn carry_out(
        &self,
        writer: &mut Writer<'_>,
        seen: &Seen,
        mut removals: Vec<Removal>,
    ) -> Result<Option<PruneReport>> {
        let state = &seen.state;
        let is_current = writer.is_next_after(state.transaction);
        if !is_current {
            if !has_same_roots(&writer.reader(), state)? {
                return Ok(None);
            }
            let mut kept = Vec::new();
            for (place, removal) in removals.iter().enumerate() {
                if was_used(&writer.reader(), removal)? {
                    kept.push(place);
                }
            }
            kept.into_iter().rev().for_each(|place| drop(removals.remove(place)));
        }
        let mut report = PruneReport { removals, ..PruneReport::default() };
        let (mut going, mut mounts) = (Going::default(), HashSet::new());
        let (mut layers, mut blobs) = (Vec::new(), Vec::new());
        for removal in &report.removals {
            match &removal.item {
                Item::Image(id) => drop(going.images.insert(*id)),
                Item::Record(id) => drop(going.records.insert(*id)),
                Item::Layer(id) => layers.push(id.clone()),
                Item::Blob(digest) => blobs.push(*digest),
                Item::CacheMount(hash) => {
                    if self.remove_mount(writer, hash)? {
                        report.mount_bytes += removal.bytes;
                        mounts.insert(hash.clone());
                    }
                }
            }
        }
        report.removals.retain(|removal| match &removal.item {
            Item::CacheMount(hash) => mounts.contains(hash),
            _ => true,
        });
        for id in &going.images {
            let names = crate::images::names_of(&writer.reader(), id)?;
            crate::images::remove(writer, id, &names)?;
        }
        forget(writer, state, &going, is_current)?;
        self.images().list_for_others(writer)?;
        let generation = lease::end_generation(writer)?;
        let mark = if is_current { generation } else { generation | SUSPECTED };
        condemned::condemn(writer, &layers, &blobs, mark)?;
        self.discard_strangers(writer, seen, &going.records, is_current)?;
        Ok(Some(report))
    }

    /// Removes a cache mount unless somebody is using it. Whether it went.
    fn remove_mount(&self, writer: &mut Writer<'_>, hash: &str) -> Result<bool> {
        let mut locks = Vec::new();
        let slots = slots(self.root(), hash);
        for slot in &slots {
            match lock_directory(slot)? {
                Claim::Ours(lock) => locks.push(lock),
                Claim::Absent => {}
                Claim::Busy => return Ok(false),
            }
        }
        for slot in &slots {
            self.0.aside.discard(slot)?;
        }
        writer.delete(&CACHE_MOUNTS, hash.as_bytes())?;
        writer.delete(&USED, &used_key(b'q', hash.as_bytes()))?;
        Ok(true)
    }
}

/// Whether images, their names and containers are what they were.
fn has_same_roots(reader: &Reader<'_>, state: &State) -> Result<bool> {
    let images = reader.list(&IMAGES, b"")?;
    let containers = reader.list(&CONTAINERS, b"")?;
    Ok(reader.list(&NAMES, b"")? == state.names
        && images.iter().map(|(_, image)| image).eq(state.images.iter().map(|listed| &listed.image))
        && containers.iter().map(|(_, container)| container).eq(&state.containers))
}

/// Whether something was used since the decision. Of layers and blobs that is seen when they are swept.
fn was_used(reader: &Reader<'_>, removal: &Removal) -> Result<bool> {
    let key = match &removal.item {
        Item::Image(id) => used_key(b'i', id.as_bytes()),
        Item::Record(id) => used_key(b'r', id.as_bytes()),
        Item::CacheMount(hash) => used_key(b'q', hash.as_bytes()),
        Item::Layer(_) | Item::Blob(_) => return Ok(false),
    };
    Ok(reader.find(&USED, &key)? > removal.last_used)
}

/// Deletes the rows of records, and rows that name a record or an image that is gone. What was read may be older than
/// this transaction, unless it `is_current`.
fn forget(writer: &mut Writer<'_>, state: &State, going: &Going, is_current: bool) -> Result<()> {
    for key in &state.damaged {
        match writer.find(&RECORDS, key) {
            Ok(_) if !is_current => {}
            Ok(_) | Err(StoreError::Row { .. } | StoreError::Format { .. }) => drop(writer.delete(&RECORDS, key)?),
            Err(error) => return Err(error),
        }
    }
    for id in &going.records {
        writer.delete(&RECORDS, id.as_bytes())?;
        writer.delete(&USED, &used_key(b'r', id.as_bytes()))?;
    }
    let known: HashSet<_> = state.records.iter().map(|record| record.id.as_bytes()).collect();
    let is_gone = |record: &Digest| going.records.contains(record) || !known.contains(record.as_bytes());
    for (table, rows) in [(&KEYS, &state.keys), (&STEPS, &state.steps)] {
        for (key, record) in rows.iter().filter(|(_, record)| is_gone(record)) {
            let is_same = is_current
                || writer.find(table, key)?.as_ref() == Some(record)
                    && !writer.reader().contains(&RECORDS, record.as_bytes())?;
            if is_same {
                writer.delete(table, key)?;
            }
        }
    }
    for (name, image) in &state.remotes {
        let is_gone = || Ok::<_, StoreError>(!writer.reader().contains(&IMAGES, image.as_bytes())?);
        let is_same = || Ok::<_, StoreError>(writer.find(&REMOTES, name)?.is_some_and(|now| now.image == *image));
        if is_gone()? && (is_current || is_same()?) {
            writer.delete(&REMOTES, name)?;
        }
    }
    Ok(())
}

pub(super) enum Claim {
    /// The lock lasts as long as the file is open.
    Ours(File),
    Absent,
    Busy,
}

/// Locks a cache mount's directory if nobody has it.
pub(super) fn lock_directory(path: &Path) -> Result<Claim> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(Claim::Absent),
        Err(error) => return Err(error).context("open", path),
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) if is_same(&file, path) => Ok(Claim::Ours(file)),
        Ok(()) => Ok(Claim::Absent),
        Err(Errno::WOULDBLOCK) => Ok(Claim::Busy),
        Err(error) => Err(error).context("lock", path),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::layers::LayerId;
    use crate::{Image, LayerKind, Lease, PruneImages, Record};

    fn layer(store: &Store, content: &str) -> LayerId {
        let snapshot = store.layers().prepare(&[]).unwrap();
        fs::write(snapshot.upper().join("file"), content).unwrap();
        snapshot.commit(LayerKind::Files).unwrap().id
    }

    fn key(number: u8) -> Digest {
        Digest::blake3([number; 32])
    }

    fn record(store: &Store, number: u8, title: &str, layers: &[&LayerId]) {
        let layers = layers.iter().map(|id| (*id).clone()).collect();
        let record = Record { layers, title: title.to_owned(), created: 1, ..Record::default() };
        store.records().insert(&[key(number)], &[key(100 + number)], &record).unwrap();
    }

    fn image(store: &Store, layers: &[&LayerId], names: &[&str]) -> Digest {
        let config = store.content().put("application/json", b"{}").unwrap();
        let layers = layers.iter().map(|id| (*id).clone()).collect();
        let image = Image { id: config.digest, layers, manifest: None, created: 1, size: 0 };
        store.images().put(&image, names).unwrap();
        image.id
    }

    /// A prune of everything, and what others do between its read and its write transaction.
    fn prune_around(store: &Store, between: impl FnOnce()) -> Option<PruneReport> {
        let policy = PrunePolicy { images: PruneImages::Unused, cache_mounts: true, ..PrunePolicy::default() };
        store.flush_used().unwrap();
        let mounts = mount_sizes(store).unwrap();
        let seen = store.look(&mounts).unwrap();
        let removals = plan(&seen.state, &policy);
        between();
        let mut report = store.0.meta.write(|writer| store.carry_out(writer, &seen, removals)).unwrap()?;
        let sweep = store.sweep().unwrap();
        report.removals.retain(|removal| !sweep.is_needed(&removal.item));
        report.swept = sweep.swept;
        Some(report)
    }

    fn has(store: &Store, id: &LayerId) -> bool {
        store.layers().find(id).unwrap().is_some() && store.layers().path(id).exists()
    }

    #[test]
    fn what_is_stored_meanwhile_stays() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let (old, orphan) = (layer(&store, "old"), layer(&store, "orphan"));
        record(&store, 1, "old", &[&old]);
        record(&store, 2, "old too", &[&old]);
        let mut made = None;
        let report = prune_around(&store, || {
            // Under a key that the prune deletes, with a layer that nothing needed, and one that is new.
            let new = layer(&store, "new");
            record(&store, 1, "new", &[&orphan, &new]);
            made = Some(new);
        });
        let (report, new) = (report.unwrap(), made.unwrap());
        assert_eq!(store.records().find(&key(1)).unwrap().unwrap().title, "new");
        assert_eq!(store.records().latest(&key(101)).unwrap().unwrap().title, "new");
        assert_eq!(store.records().find(&key(2)).unwrap(), None);
        assert!(has(&store, &orphan) && has(&store, &new) && !has(&store, &old));
        assert_eq!((report.count("step"), report.count("layer"), report.swept.layers), (2, 1, 1), "{report:?}");
        assert!(!store.has_condemned().unwrap());
    }

    #[test]
    fn a_listing_that_a_record_names_meanwhile_stays() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        for number in [1, 2] {
            store.listings().save(&key(number), &mut &b"listing"[..]).unwrap();
        }
        let name = || {
            let record = Record { listings: vec![key(1)], created: 1, ..Record::default() };
            store.records().insert(&[key(9)], &[], &record).unwrap();
        };
        prune_around(&store, name).unwrap();
        assert!(store.listings().has(&key(1)));
        store.prune(&PrunePolicy { records: false, ..PrunePolicy::default() }).unwrap();
        assert!(store.listings().has(&key(1)) && !store.listings().has(&key(2)));
    }

    #[test]
    fn a_row_that_keeps_the_sweep_from_its_work_keeps_nothing_else() {
        const CONTAINER: crate::meta::Table<u32> = crate::meta::Table::new(b'c', "number");
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let kept = layer(&store, "kept");
        let condemned = |writer: &mut Writer<'_>| {
            writer.put(&CONTAINER, b"abc1", &7)?;
            condemned::condemn(writer, std::slice::from_ref(&kept), &[], 0)
        };
        store.0.meta.write(condemned).unwrap();
        let trash = root.path().join("trash");
        fs::write(trash.join("left"), "").unwrap();
        let reaped = store.reap();
        assert!(matches!(reaped, Err(StoreError::Row { table: "container", .. })), "{reaped:?}");
        assert_eq!(fs::read_dir(&trash).unwrap().count(), 0);
        store.0.meta.write(|writer| writer.delete(&CONTAINER, b"abc1")).unwrap();
        store.reap().unwrap();
        assert!(!has(&store, &kept));
    }

    #[test]
    fn a_record_that_lacks_what_only_builds_read_goes() {
        const ROWS: crate::meta::Table<serde_json::Value> = crate::meta::Table::new(b'r', "build record");
        let fields = ["layers", "outputs", "provenance", "title", "created", "duration_ms"];
        for lacking in fields.map(Some).into_iter().chain([None]) {
            let root = tempfile::tempdir().unwrap();
            let store = Store::open(root.path()).unwrap();
            let mut row = serde_json::to_value(Record { title: "a".to_owned(), ..Record::default() }).unwrap();
            lacking.map(|field| row.as_object_mut().unwrap().remove(field).unwrap());
            store.0.meta.write(|writer| writer.put(&ROWS, key(1).as_bytes(), &row)).unwrap();
            assert_eq!(store.look(&[]).unwrap().state.damaged.len(), usize::from(lacking.is_some()), "{lacking:?}");
            store.prune(&PrunePolicy { records: false, ..PrunePolicy::default() }).unwrap();
            let is_there = store.0.meta.read(|reader| reader.contains(&ROWS, key(1).as_bytes())).unwrap();
            assert_eq!(is_there, lacking.is_none(), "{lacking:?}");
        }
    }

    #[test]
    fn what_is_used_meanwhile_stays() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let (one, two) = (layer(&store, "one"), layer(&store, "two"));
        record(&store, 1, "used", &[&one]);
        record(&store, 2, "not used", &[&two]);
        let report = prune_around(&store, || {
            let lease: Lease = store.lease("build").unwrap();
            assert!(store.records().find(&key(1)).unwrap().is_some());
            drop(lease);
        });
        assert_eq!(report.unwrap().count("step"), 1);
        assert!(store.records().find(&key(1)).unwrap().is_some() && has(&store, &one));
        assert!(store.records().find(&key(2)).unwrap().is_none() && !has(&store, &two));
    }

    #[test]
    fn images_that_come_or_go_are_a_reason_to_decide_anew() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let kept = layer(&store, "kept");
        let id = image(&store, &[&kept], &[]);
        assert!(prune_around(&store, || store.images().tag("name", &id).unwrap()).is_none());
        assert!(prune_around(&store, || assert!(store.images().untag("name", &id).unwrap())).is_none());
        assert!(prune_around(&store, || assert!(store.images().remove(&id, &[]).unwrap())).is_none());
        assert!(prune_around(&store, || assert_eq!(image(&store, &[], &["again"]), id)).is_none());
        assert!(has(&store, &kept));
        assert!(prune_around(&store, || {}).is_some() && !has(&store, &kept));
    }

    #[test]
    fn who_began_after_a_suspicion_is_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let seen = layer(&store, "seen");
        let mut lease = None;
        prune_around(&store, || {
            record(&store, 1, "needs it", &[&seen]);
            // It began before the suspicion, and finds the layer by a record that the prune has not seen.
            lease = Some(store.lease("build").unwrap());
        });
        assert!(has(&store, &seen));
        let later = store.lease("later").unwrap();
        assert!(store.records().find(&key(1)).unwrap().is_some());
        drop(lease);
        assert_eq!(prune_around(&store, || {}).unwrap().swept.layers, 0);
        assert!(has(&store, &seen) && store.has_condemned().unwrap());
        drop(later);
        assert_eq!(store.sweep().unwrap().swept.layers, 1);
    }

    #[test]
    fn strangers_go_and_what_got_its_row_meanwhile_does_not() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let left = root.path().join("layers-v1/left-by-a-crash");
        fs::create_dir(&left).unwrap();
        let mounts = mount_sizes(&store).unwrap();
        let entries = {
            let new = layer(&store, "new");
            record(&store, 1, "new", &[&new]);
            Entries::read(&store).unwrap()
        };
        // As if the rows had been read before.
        let seen = Seen { entries, ..store.look(&mounts).unwrap() };
        let seen = Seen { state: State { layers: Vec::new(), ..seen.state }, ..seen };
        store.0.meta.write(|writer| store.carry_out(writer, &seen, Vec::new())).unwrap();
        assert!(!left.exists());
        assert!(store.records().find(&key(1)).unwrap().is_some_and(|record| has(&store, &record.layers[0])));
    }
}
