//! What did a build step produce, the last time its inputs were like this?
//!
//! A record is stored once and found under any number of cache keys: the definition key of every graph it appeared in
//! and its content key. Records name layers; a record whose layers are gone, or which a power cut made untrustworthy,
//! is never returned.
//!
//! A process that makes a record holds the [`KeyLock`] of its content key meanwhile, so that others wait for it
//! instead of doing the same. The lock is a `flock` on `locks/<hex>` and dies with its process.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rbuild_core::{Algorithm, Digest};
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};
use crate::layers::LayerId;
use crate::meta::Table;
use crate::prune::condemned;
use crate::store::{self, Store, used_key};

pub(crate) const RECORDS: Table<Record> = Table::new(b'r', "build record");
/// The same rows, without what only a build or an explanation wants to know: a store may have a hundred thousand, and
/// the outputs of one take kilobytes as JSON values.
pub(crate) const HOLDERS: Table<Holder> = Table::new(b'r', "build record");
/// Cache key → key in [`RECORDS`].
pub(crate) const KEYS: Table<Digest> = Table::new(b'k', "cache key");
/// Step key → key in [`RECORDS`] of its latest record.
pub(crate) const STEPS: Table<Digest> = Table::new(b'h', "build step");

/// What a build step produced.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Record {
    /// Every layer without which the record means nothing.
    pub layers: Vec<LayerId>,
    /// The step's outputs, in the caller's own terms.
    pub outputs: serde_json::Value,
    /// How it came to be, in the caller's own terms: to explain a later miss.
    pub provenance: serde_json::Value,
    /// The listings that explain a later miss, see [`Listings`](crate::Listings).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listings: Vec<Digest>,
    /// The step, as the user knows it.
    pub title: String,
    /// Seconds since 1970.
    pub created: u64,
    /// How long it took.
    pub duration_ms: u64,
}

/// What a [`Record`] needs, and when it was made. The rest has to be there, or the record cannot be read, but is not
/// kept.
#[derive(Debug, Deserialize)]
pub(crate) struct Holder {
    pub(crate) layers: Vec<LayerId>,
    #[serde(default)]
    pub(crate) listings: Vec<Digest>,
    pub(crate) title: String,
    pub(crate) created: u64,
    #[serde(rename = "outputs")]
    _outputs: IgnoredAny,
    #[serde(rename = "provenance")]
    _provenance: IgnoredAny,
    #[serde(rename = "duration_ms")]
    _duration_ms: IgnoredAny,
}

/// The build records of a [`Store`].
#[derive(Clone, Copy, Debug)]
pub struct Records<'a>(pub(crate) &'a Store);

impl Records<'_> {
    /// The record stored under `key`, if all its layers are still there.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub fn find(&self, key: &Digest) -> Result<Option<Record>> {
        let found = self.0.0.meta.read(|reader| {
            let Some(id) = reader.find(&KEYS, &key_bytes(key))? else { return Ok(None) };
            let Some(record) = reader.find(&RECORDS, id.as_bytes())? else { return Ok(None) };
            let last = reader.find(&store::USED, &used_key(b'r', id.as_bytes()))?;
            Ok::<_, crate::StoreError>(Some((id, record, last)))
        })?;
        let Some((id, record, last)) = found else { return Ok(None) };
        for layer in &record.layers {
            if !self.0.layers().is_usable(layer)? {
                self.0.0.meta.write(|writer| {
                    writer.delete(&store::USED, &used_key(b'r', id.as_bytes()))?;
                    writer.delete(&RECORDS, id.as_bytes())
                })?;
                return Ok(None);
            }
        }
        self.0.note_use(b'r', id.as_bytes(), Some(last.unwrap_or(record.created)));
        Ok(Some(record))
    }

    /// Stores `record` under all `keys`, replacing what was there, and makes it the latest of each of `steps`.
    ///
    /// # Errors
    /// The metadata cannot be written.
    pub fn insert(&self, keys: &[Digest], steps: &[Digest], record: &Record) -> Result<()> {
        let json = serde_json::to_vec(record).expect("strings and numbers always serialize");
        let id = Digest::blake3(*blake3::hash(&json).as_bytes());
        self.0.0.meta.write(|writer| {
            record.layers.iter().try_for_each(|layer| condemned::spare_layer(writer, layer))?;
            writer.put(&RECORDS, id.as_bytes(), record)?;
            keys.iter().try_for_each(|key| writer.put(&KEYS, &key_bytes(key), &id))?;
            steps.iter().try_for_each(|step| writer.put(&STEPS, &key_bytes(step), &id))
        })
    }

    /// The latest record of a step, whether or not its layers are still there.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub fn latest(&self, step: &Digest) -> Result<Option<Record>> {
        self.0.0.meta.read(|reader| match reader.find(&STEPS, &key_bytes(step))? {
            Some(id) => reader.find(&RECORDS, id.as_bytes()),
            None => Ok(None),
        })
    }

    /// All records, each once, with the time of their last use.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub fn list(&self) -> Result<Vec<(Record, u64)>> {
        self.0.0.meta.read(|reader| {
            let rows = reader.list(&RECORDS, b"")?;
            rows.into_iter()
                .map(|(id, record)| {
                    let used = reader.find(&store::USED, &used_key(b'r', &id))?.unwrap_or(record.created);
                    Ok((record, used))
                })
                .collect()
        })
    }

    /// Takes the right to make the record of `key`; `None` while another process, or another caller in this one, has
    /// it.
    ///
    /// # Errors
    /// The lock file cannot be made.
    pub fn try_lock(&self, key: &Digest) -> Result<Option<KeyLock>> {
        self.lock_with(key, FlockOperation::NonBlockingLockExclusive)
    }

    /// As [`Records::try_lock`], but waits, blocking this thread.
    ///
    /// # Errors
    /// The lock file cannot be made.
    pub fn lock(&self, key: &Digest) -> Result<KeyLock> {
        loop {
            if let Some(lock) = self.lock_with(key, FlockOperation::LockExclusive)? {
                return Ok(lock);
            }
        }
    }

    fn lock_with(&self, key: &Digest, operation: FlockOperation) -> Result<Option<KeyLock>> {
        let path = self.0.root().join("locks").join(format!("{}-{}", key.algorithm().name(), key.hex()));
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).context("open", &path)?);
            match store::lock(&file, operation) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error).context("lock", &path),
            }
            // The holder removes the file when it is done; a lock on a removed file excludes nobody.
            let ours = file.metadata().context("read", &path)?.ino();
            if fs::metadata(&path).is_ok_and(|there| there.ino() == ours) {
                return Ok(Some(KeyLock { path, _file: file }));
            }
        }
    }
}

/// The right to make one record. Ends when dropped, or with its process.
#[derive(Debug)]
#[must_use = "dropping it lets others in"]
pub struct KeyLock {
    path: PathBuf,
    _file: File,
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        // Removed while still locked: those who wait on it find their file gone and make a new one.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "lock file stays");
        }
    }
}

fn key_bytes(key: &Digest) -> [u8; 33] {
    let mut bytes = [0; 33];
    bytes[0] = match key.algorithm() {
        Algorithm::Sha256 => b's',
        Algorithm::Blake3 => b'b',
    };
    bytes[1..].copy_from_slice(key.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Digest {
        Digest::blake3([byte; 32])
    }

    fn record(layers: &[LayerId]) -> Record {
        Record {
            layers: layers.to_vec(),
            outputs: serde_json::json!(["a root"]),
            provenance: serde_json::json!({ "command": "true" }),
            listings: Vec::new(),
            title: "RUN true".into(),
            created: 1,
            duration_ms: 2,
        }
    }

    #[test]
    fn a_record_is_found_under_all_its_keys_until_its_layers_are_gone() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let records = store.records();
        assert_eq!(records.find(&key(1)).unwrap(), None);
        let whole = record(&[]);
        records.insert(&[key(1), key(2)], &[key(9)], &whole).unwrap();
        assert_eq!(records.find(&key(2)).unwrap().as_ref(), Some(&whole));
        assert_eq!(records.find(&key(3)).unwrap(), None);
        assert_eq!(records.latest(&key(9)).unwrap().as_ref(), Some(&whole));
        assert_eq!(records.latest(&key(1)).unwrap(), None);
        let broken = record(&["gone".parse().unwrap()]);
        records.insert(&[key(1)], &[], &broken).unwrap();
        assert_eq!(records.find(&key(1)).unwrap(), None);
        assert_eq!(records.find(&key(2)).unwrap().as_ref(), Some(&whole));
        assert_eq!(records.list().unwrap().len(), 1);
    }

    #[test]
    fn a_key_has_one_maker_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let first = store.records().try_lock(&key(1)).unwrap().unwrap();
        assert!(store.records().try_lock(&key(1)).unwrap().is_none());
        assert!(store.records().try_lock(&key(2)).unwrap().is_some());
        drop(first);
        assert!(store.records().try_lock(&key(1)).unwrap().is_some());
        let inside = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _lock = store.records().lock(&key(3)).unwrap();
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    }
                });
            }
        });
        let left = fs::read_dir(root.path().join("locks")).unwrap().count();
        assert_eq!(left, 0, "lock files are removed");
    }
}
