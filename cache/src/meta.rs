//! How are small facts kept so that several processes can read and write them at once?
//!
//! One LMDB database (copy-on-write pages, a robust lock for the one writer, readers never wait). It has a single key
//! space: the first byte of a key names the [`Table`], the rest is the row's key. A value is one format byte and JSON.
//! One key space instead of named databases keeps opening at a single system-call-free look-up.
//!
//! A transaction is one closure: whatever it returns an error from has not happened. A commit is flushed to disk
//! before it returns, but for LMDB's last page: a power cut can lose the newest transaction, never mix two.

mod rows;
mod whole;

use std::cell::Cell;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions, WithoutTls};
use rustix::io::Errno;
use serde::de::DeserializeOwned;

pub(crate) use self::rows::{Reader, Writer};
use crate::error::{Result, StoreError};

/// Address space, not disk: the file is as large as its pages.
const MAP_SIZE: usize = 16 << 30;
/// Concurrent read transactions, over all processes. 64 bytes each, in the lock file.
const MAX_READERS: u32 = 1024;
/// LMDB's own limit on a key.
const MAX_KEY: usize = 511;
/// The first byte of every value.
const FORMAT: u8 = 1;

/// One kind of rows.
pub(crate) struct Table<V> {
    tag: u8,
    name: &'static str,
    values: PhantomData<fn() -> V>,
}

impl<V> Table<V> {
    /// A table. `tag` is its place in the key space and must never be used for something else.
    pub(crate) const fn new(tag: u8, name: &'static str) -> Self {
        Self { tag, name, values: PhantomData }
    }

    fn key(&self, key: &[u8]) -> Result<Vec<u8>> {
        if key.len() >= MAX_KEY {
            let name = String::from_utf8_lossy(&key[..64]).into_owned();
            return Err(StoreError::NameTooLong { table: self.name, name, length: key.len(), limit: MAX_KEY - 1 });
        }
        let mut full = Vec::with_capacity(key.len() + 1);
        full.push(self.tag);
        full.extend_from_slice(key);
        Ok(full)
    }
}

impl<V: DeserializeOwned> Table<V> {
    fn decode(&self, key: &[u8], value: &[u8]) -> Result<V> {
        let text = || printable(key);
        match value.split_first() {
            Some((&FORMAT, json)) => {
                serde_json::from_slice(json).map_err(|source| StoreError::Row { table: self.name, key: text(), source })
            }
            other => {
                let format = other.map_or(0, |(format, _)| *format);
                Err(StoreError::Format { table: self.name, key: text(), format })
            }
        }
    }
}

/// The database of one store, shared by everything in this process that opened the same directory.
pub(crate) struct Meta {
    env: Env<WithoutTls>,
    rows: Database<Bytes, Bytes>,
    path: PathBuf,
}

impl Meta {
    /// Opens the database in `path`, an existing directory, by its one path without links.
    pub(crate) fn open(path: &Path) -> Result<Arc<Self>> {
        // LMDB's locks are per process: a second mapping of one file in a process would break the first's.
        static OPEN: Mutex<Option<HashMap<PathBuf, Weak<Meta>>>> = Mutex::new(None);
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let open = open.get_or_insert_default();
        if let Some(meta) = open.get(path).and_then(Weak::upgrade) {
            return Ok(meta);
        }
        open.retain(|_, meta| meta.strong_count() > 0);
        let meta = Arc::new(Self::map(path)?);
        open.insert(path.to_owned(), Arc::downgrade(&meta));
        Ok(meta)
    }

    fn map(path: &Path) -> Result<Self> {
        let failed = |source| StoreError::Metadata { action: "open", path: path.to_owned(), source };
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(MAP_SIZE).max_readers(MAX_READERS);
        let env = loop {
            #[expect(unsafe_code, reason = "heed marks mapping a file and choosing its durability as unsafe")]
            // SAFETY: Only LMDB, through its own locks, writes the file: it is private to the store's owner (mode 0600
            // in a directory of ours), and `open` above keeps this process from mapping it twice. NO_META_SYNC gives
            // up the newest transaction at a power cut, never the file's consistency.
            let result = unsafe {
                options.flags(EnvFlags::NO_META_SYNC);
                options.open(path)
            };
            match result {
                // The last user of an earlier mapping is just closing it on another thread.
                Err(heed::Error::EnvAlreadyOpened) => std::thread::yield_now(),
                other => break other.map_err(failed)?,
            }
        };
        if let Some(needed) = whole::lost(&env).map_err(failed)? {
            return Err(StoreError::CutOff { path: path.join("data.mdb"), needed });
        }
        let transaction = env.read_txn().map_err(failed)?;
        let rows = env.open_database(&transaction, None).map_err(failed)?.expect("the unnamed database always exists");
        // Without the commit the handle dies with the transaction.
        transaction.commit().map_err(failed)?;
        Ok(Self { env, rows, path: path.to_owned() })
    }

    /// Frees the pages that readers which died are still holding. Returns how many there were.
    pub(crate) fn clear_dead_readers(&self) -> Result<usize> {
        self.env.clear_stale_readers().map_err(self.failed("clean"))
    }

    /// Runs `body` on one consistent state of all tables.
    pub(crate) fn read<T, E: From<StoreError>>(
        &self,
        body: impl FnOnce(&Reader<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let transaction = self.env.read_txn().map_err(self.failed("read"))?;
        body(&Reader { meta: self, transaction: &transaction })
    }

    /// Runs `body` alone among all writers of all processes, and commits unless it fails.
    pub(crate) fn write<T, E: From<StoreError>>(
        &self,
        body: impl FnOnce(&mut Writer<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let _alone = Alone::begin();
        let transaction = self.env.write_txn().map_err(self.failed("write"))?;
        let mut writer = Writer { meta: self, transaction };
        let value = body(&mut writer)?;
        writer.transaction.commit().map_err(self.failed("write"))?;
        Ok(value)
    }

    /// Every row: the letter of its table, its key and its JSON, for people.
    pub(crate) fn dump(&self) -> Result<Vec<(char, String, String)>> {
        let transaction = self.env.read_txn().map_err(self.failed("read"))?;
        let rows = self.rows.iter(&transaction).map_err(self.failed("read"))?;
        rows.map(|row| {
            let (key, value) = row.map_err(self.failed("read"))?;
            let (letter, key) = key.split_first().map_or(('?', &b""[..]), |(letter, key)| (char::from(*letter), key));
            let value = value.get(1..).map(String::from_utf8_lossy).unwrap_or_default().into_owned();
            Ok((letter, printable(key), value))
        })
        .collect()
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(heed::Error) -> StoreError + use<> {
        let path = self.path.clone();
        move |source| StoreError::Metadata { action, source: explain(source, &path), path }
    }
}

/// A write transaction of this thread. A second one would wait for the first for ever.
struct Alone;

thread_local! {
    static WRITING: Cell<bool> = const { Cell::new(false) };
}

impl Alone {
    fn begin() -> Self {
        let nested = WRITING.replace(true);
        debug_assert!(!nested, "a write transaction within a write transaction");
        Self
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        WRITING.set(false);
    }
}

/// A text as it is, anything else in hexadecimal.
fn printable(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => key.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// LMDB calls a write that ran out of room halfway an input/output error, whether the disk had none left or the file may
/// not become larger.
fn explain(error: heed::Error, path: &Path) -> heed::Error {
    if !matches!(&error, heed::Error::Io(error) if Errno::from_io_error(error) == Some(Errno::IO)) {
        return error;
    }
    if rustix::fs::statvfs(path).is_ok_and(|disk| disk.f_bavail * disk.f_frsize < 1 << 20) {
        return heed::Error::Io(Errno::NOSPC.into());
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
    let length = std::fs::metadata(path.join("data.mdb")).map_or(0, |file| file.len());
    // It was written up to the limit.
    let is_limit = limit.is_some_and(|limit| length >= limit);
    if is_limit { heed::Error::Io(Errno::FBIG.into()) } else { error }
}

impl std::fmt::Debug for Meta {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Meta").field(&self.path).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: Table<u32> = Table::new(b'l', "left");
    const RIGHT: Table<String> = Table::new(b'r', "right");

    #[test]
    fn tables_do_not_mix_and_failed_transactions_leave_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let meta = Meta::open(directory.path()).unwrap();
        meta.write(|writer| {
            writer.put(&LEFT, b"a", &1)?;
            writer.put(&LEFT, b"ab", &2)?;
            writer.put(&RIGHT, b"a", &"x".into())
        })
        .unwrap();
        let failed: Result<()> = meta.write(|writer| {
            writer.put(&LEFT, b"c", &3)?;
            Err(StoreError::io("test", "/", std::io::Error::other("no")))
        });
        assert!(failed.is_err());
        let (left, right) =
            meta.read(|reader| Ok::<_, StoreError>((reader.list(&LEFT, b"")?, reader.find(&RIGHT, b"a")?))).unwrap();
        assert_eq!(left, [(b"a".to_vec(), 1), (b"ab".to_vec(), 2)]);
        assert_eq!(right.as_deref(), Some("x"));
    }

    #[test]
    fn rows_of_a_cache_are_read_as_far_as_they_can_be() {
        const TEXTS: Table<String> = Table::new(b'l', "text");
        let directory = tempfile::tempdir().unwrap();
        let meta = Meta::open(directory.path()).unwrap();
        meta.write(|writer| {
            writer.put(&LEFT, b"a", &1)?;
            writer.put(&TEXTS, b"b", &"no number".to_owned())
        })
        .unwrap();
        let sound = meta.read(|reader| reader.list_sound(&LEFT)).unwrap();
        assert_eq!((sound.rows, sound.damaged), (vec![(b"a".to_vec(), 1)], vec![b"b".to_vec()]));
    }

    /// A copy of a database, with so many bytes of its file.
    fn cut(from: &Path, length: u64) -> (tempfile::TempDir, Result<Arc<Meta>>) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("data.mdb");
        std::fs::copy(from.join("data.mdb"), &file).unwrap();
        std::fs::File::options().write(true).open(&file).unwrap().set_len(length).unwrap();
        let meta = Meta::open(directory.path());
        (directory, meta)
    }

    #[test]
    fn a_file_that_was_cut_off_is_an_error_and_no_signal() {
        let directory = tempfile::tempdir().unwrap();
        let meta = Meta::open(directory.path()).unwrap();
        let page = u64::from(meta.env.stat().page_size);
        // A text of so many 4096ths of a page, which is not as large on all machines.
        let text = |length: u64| "x".repeat((length * page / 4096) as usize);
        // Rows of all sizes, with holes between them, so that there is a free list of some length.
        for round in 0..6 {
            meta.write(|writer| {
                for number in 0..90 {
                    let key = format!("{number}");
                    if number % 7 == round {
                        writer.delete(&RIGHT, key.as_bytes())?;
                    } else {
                        writer.put(&RIGHT, key.as_bytes(), &text(number * 97 % 9000))?;
                    }
                }
                Ok::<_, StoreError>(())
            })
            .unwrap();
        }
        // More free pages than fit into a row, and the last pages of the file among them.
        meta.write(|writer| writer.put(&RIGHT, b"large", &text(1 << 20))).unwrap();
        meta.write(|writer| writer.delete(&RIGHT, b"large")).unwrap();
        let rows = meta.dump().unwrap();
        let length = std::fs::metadata(directory.path().join("data.mdb")).unwrap().len();
        let mut sound = 0;
        for pages in 2..length / page {
            let (_copy, meta) = cut(directory.path(), pages * page + 100);
            match meta {
                Ok(meta) => {
                    assert_eq!(meta.dump().unwrap(), rows, "{pages}");
                    sound += 1;
                }
                Err(error) => assert!(matches!(error, StoreError::CutOff { .. }), "{pages}: {error:?}"),
            }
        }
        assert!((100..300).contains(&sound), "{sound} of {}", length / page);
        for length in [1, 100, page, page + 904] {
            assert!(cut(directory.path(), length).1.unwrap_err().hint().is_some(), "{length}");
        }
    }

    #[test]
    fn a_file_may_be_shorter_than_it_says() {
        let directory = tempfile::tempdir().unwrap();
        let meta = Meta::open(directory.path()).unwrap();
        let page = u64::from(meta.env.stat().page_size);
        let text = |pages: u64| "x".repeat((pages * page) as usize);
        // With a few free pages, so that nothing is written behind those that matter here.
        for _ in 0..6 {
            meta.write(|writer| writer.put(&LEFT, b"a", &1)).unwrap();
        }
        // Pages that are taken and given back at once are counted, and never written.
        meta.write(|writer| {
            writer.put(&RIGHT, b"large", &text(256))?;
            writer.delete(&RIGHT, b"large")
        })
        .unwrap();
        let length = std::fs::metadata(directory.path().join("data.mdb")).unwrap().len();
        assert!(length < meta.env.info().last_page_number as u64 * page, "{length}");
        let (_copy, again) = cut(directory.path(), length);
        let again = again.unwrap();
        assert_eq!(again.read(|reader| reader.find(&LEFT, b"a")).unwrap(), Some(1));
        again.write(|writer| writer.put(&RIGHT, b"b", &text(512))).unwrap();
        assert_eq!(again.read(|reader| reader.find(&RIGHT, b"b")).unwrap(), Some(text(512)));
    }

    #[test]
    fn one_directory_can_be_opened_often_and_again() {
        let directory = tempfile::tempdir().unwrap();
        for round in 0..20 {
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let meta = Meta::open(directory.path()).unwrap();
                        meta.write(|writer| writer.put(&LEFT, b"round", &round)).unwrap();
                    });
                }
            });
        }
        let meta = Meta::open(directory.path()).unwrap();
        assert_eq!(meta.read(|reader| reader.find(&LEFT, b"round")).unwrap(), Some(19));
    }

    #[test]
    fn long_names_and_unknown_formats_are_errors() {
        let directory = tempfile::tempdir().unwrap();
        let meta = Meta::open(directory.path()).unwrap();
        let error = meta.write(|writer| writer.put(&LEFT, &[b'x'; 600], &1)).unwrap_err();
        assert!(matches!(error, StoreError::NameTooLong { length: 600, .. }), "{error}");
        meta.write(|writer| {
            let bytes: &[u8] = &[9, b'1'];
            writer.meta.rows.put(&mut writer.transaction, b"lz", bytes).unwrap();
            Ok::<_, StoreError>(())
        })
        .unwrap();
        let error = meta.read(|reader| reader.find(&LEFT, b"z")).unwrap_err();
        assert!(matches!(error, StoreError::Format { format: 9, .. }), "{error}");
    }
}
