//! How are rows read and written within a transaction?

use heed::{RoTxn, RwTxn};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{FORMAT, Meta, Table};
use crate::error::{Result, StoreError};

/// One consistent state of all tables.
pub(crate) struct Reader<'a> {
    pub(super) meta: &'a Meta,
    pub(super) transaction: &'a RoTxn<'a>,
}

impl Reader<'_> {
    /// The transaction whose state this is: that of the last commit, or a write transaction itself.
    pub(crate) fn transaction(&self) -> usize {
        self.transaction.id()
    }

    pub(crate) fn find<V: DeserializeOwned>(&self, table: &Table<V>, key: &[u8]) -> Result<Option<V>> {
        let full = table.key(key)?;
        let value = self.meta.rows.get(self.transaction, &full).map_err(self.meta.failed("read"))?;
        value.map(|value| table.decode(key, value)).transpose()
    }

    pub(crate) fn contains<V>(&self, table: &Table<V>, key: &[u8]) -> Result<bool> {
        let full = table.key(key)?;
        Ok(self.meta.rows.get(self.transaction, &full).map_err(self.meta.failed("read"))?.is_some())
    }

    /// Whether a table has rows.
    pub(crate) fn has_any<V>(&self, table: &Table<V>) -> Result<bool> {
        let mut rows = self.meta.rows.prefix_iter(self.transaction, &[table.tag]).map_err(self.meta.failed("read"))?;
        Ok(rows.next().transpose().map_err(self.meta.failed("read"))?.is_some())
    }

    /// The keys of all rows, in their order.
    pub(crate) fn keys<V>(&self, table: &Table<V>) -> Result<Vec<Vec<u8>>> {
        let full = table.key(b"")?;
        let rows = self.meta.rows.prefix_iter(self.transaction, &full).map_err(self.meta.failed("read"))?;
        rows.map(|row| Ok(row.map_err(self.meta.failed("read"))?.0[1..].to_vec())).collect()
    }

    /// All rows whose key begins with `prefix`, in key order.
    pub(crate) fn list<V: DeserializeOwned>(&self, table: &Table<V>, prefix: &[u8]) -> Result<Vec<(Vec<u8>, V)>> {
        let full = table.key(prefix)?;
        let rows = self.meta.rows.prefix_iter(self.transaction, &full).map_err(self.meta.failed("read"))?;
        rows.map(|row| {
            let (key, value) = row.map_err(self.meta.failed("read"))?;
            Ok((key[1..].to_vec(), table.decode(&key[1..], value)?))
        })
        .collect()
    }
}

impl Reader<'_> {
    /// All rows that can be read, and the keys of those that cannot.
    pub(crate) fn list_sound<V: DeserializeOwned>(&self, table: &Table<V>) -> Result<Sound<V>> {
        let full = table.key(b"")?;
        let rows = self.meta.rows.prefix_iter(self.transaction, &full).map_err(self.meta.failed("read"))?;
        let mut sound = Sound { rows: Vec::new(), damaged: Vec::new() };
        for row in rows {
            let (key, value) = row.map_err(self.meta.failed("read"))?;
            match table.decode(&key[1..], value) {
                Ok(value) => sound.rows.push((key[1..].to_vec(), value)),
                Err(_) => sound.damaged.push(key[1..].to_vec()),
            }
        }
        Ok(sound)
    }
}

/// The rows of a table that is a cache: what cannot be read is as good as not there.
pub(crate) struct Sound<V> {
    pub(crate) rows: Vec<(Vec<u8>, V)>,
    pub(crate) damaged: Vec<Vec<u8>>,
}

/// The one write transaction of the moment.
pub(crate) struct Writer<'a> {
    pub(super) meta: &'a Meta,
    pub(super) transaction: RwTxn<'a>,
}

impl Writer<'_> {
    /// Reads, seeing this transaction's own writes.
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader { meta: self.meta, transaction: &self.transaction }
    }

    /// Whether nothing was committed since somebody read the state of `transaction`, which may be this one.
    pub(crate) fn is_next_after(&self, transaction: usize) -> bool {
        self.transaction.id() <= transaction + 1
    }

    pub(crate) fn find<V: DeserializeOwned>(&self, table: &Table<V>, key: &[u8]) -> Result<Option<V>> {
        self.reader().find(table, key)
    }

    pub(crate) fn put<V: Serialize>(&mut self, table: &Table<V>, key: &[u8], value: &V) -> Result<()> {
        let full = table.key(key)?;
        let mut bytes = vec![FORMAT];
        serde_json::to_writer(&mut bytes, value).map_err(|source| {
            let key = String::from_utf8_lossy(key).into_owned();
            StoreError::Row { table: table.name, key, source }
        })?;
        self.meta.rows.put(&mut self.transaction, &full, &bytes).map_err(self.meta.failed("write"))
    }

    /// Whether there is a row of any table with this key, the table's letter included.
    pub(crate) fn has(&self, full: &[u8]) -> Result<bool> {
        Ok(self.meta.rows.get(&self.transaction, full).map_err(self.meta.failed("read"))?.is_some())
    }

    /// Whether there was such a row.
    pub(crate) fn delete<V>(&mut self, table: &Table<V>, key: &[u8]) -> Result<bool> {
        let full = table.key(key)?;
        self.meta.rows.delete(&mut self.transaction, &full).map_err(self.meta.failed("write"))
    }
}
