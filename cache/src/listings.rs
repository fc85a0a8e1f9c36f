//! Which files had the selection that a step was built from?
//!
//! Only asked to explain a miss: a cached build neither reads nor writes one. One file per selection, opaque here:
//! `listings-v1/<hex>`. Records name those they are explained with ([`Record::listings`](crate::Record)); a prune removes
//! the others. It may remove one that a step which is just running will name: then its next miss is explained without
//! the names of files.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;

use rbuild_core::Digest;

use crate::error::{Context, Result};
use crate::store::Store;

/// Where they are.
pub(crate) const DIRECTORY: &str = "listings-v1";

/// The listings of a [`Store`].
#[derive(Clone, Copy, Debug)]
pub struct Listings<'a>(pub(crate) &'a Store);

impl Listings<'_> {
    /// What was saved under `key`. Not checked: who reads it must expect anything.
    ///
    /// # Errors
    /// Only if the disk fails.
    pub fn open(&self, key: &Digest) -> Result<Option<File>> {
        let path = self.path(key);
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some).context("open", &path),
        }
    }

    /// Whether there is one.
    pub fn has(&self, key: &Digest) -> bool {
        self.path(key).exists()
    }

    /// Saves a listing. One `key` always has the same.
    ///
    /// # Errors
    /// The disk fails, or reading `bytes`.
    pub fn save(&self, key: &Digest, bytes: &mut dyn Read) -> Result<()> {
        let directory = self.0.root().join(DIRECTORY);
        // Stores made before there were any have no directory for them.
        fs::create_dir_all(&directory).context("create", &directory)?;
        let working = self.0.0.aside.make_file("listing")?;
        io::copy(bytes, &mut working.handle()).context("write", working.path())?;
        working.publish(&self.path(key))
    }

    fn path(&self, key: &Digest) -> PathBuf {
        self.0.root().join(DIRECTORY).join(key.hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PrunePolicy, Record};

    #[test]
    fn a_listing_goes_with_the_last_record_that_names_it() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let key = |byte| Digest::blake3([byte; 32]);
        assert!(store.listings().open(&key(1)).unwrap().is_none());
        let keep = PrunePolicy { records: false, ..PrunePolicy::default() };
        store.prune(&keep).unwrap();
        store.listings().save(&key(1), &mut &b"one"[..]).unwrap();
        store.listings().save(&key(2), &mut &b"two"[..]).unwrap();
        let record = Record {
            title: "COPY . /".into(),
            listings: vec![key(1)],
            created: crate::store::now(),
            ..Record::default()
        };
        store.records().insert(&[key(9)], &[], &record).unwrap();
        store.prune(&keep).unwrap();
        let saved = store.listings().open(&key(1)).unwrap().unwrap();
        assert_eq!(io::read_to_string(saved).unwrap(), "one");
        assert!(!store.listings().has(&key(2)));
        store.prune(&PrunePolicy::default()).unwrap();
        assert!(!store.listings().has(&key(1)));
    }
}
