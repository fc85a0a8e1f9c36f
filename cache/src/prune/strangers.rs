//! What lies in the store's directories and has no row?
//!
//! What crashes leave. A directory gets its row in the transaction that makes it, so the directories are read before the
//! rows.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;

use rbuild_core::Digest;

use super::remove::{Claim, Seen, lock_directory};
use crate::cache_mounts::CACHE_MOUNTS;
use crate::containers::CONTAINERS;
use crate::error::{Context, Result};
use crate::layers::LAYERS;
use crate::listings;
use crate::meta::Writer;
use crate::store::Store;

/// What there was in some directories before the rows were read.
pub(super) struct Entries {
    layers: Vec<OsString>,
    containers: Vec<OsString>,
    listings: Vec<OsString>,
    mounts: Vec<OsString>,
}

impl Entries {
    pub(super) fn read(store: &Store) -> Result<Self> {
        let names = |directory: &str| -> Result<Vec<OsString>> {
            let directory = store.root().join(directory);
            match fs::read_dir(&directory) {
                // Some are only made when something is put there.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
                entries => {
                    let entries = entries.context("read", &directory)?;
                    entries.map(|entry| Ok(entry.context("read", &directory)?.file_name())).collect()
                }
            }
        };
        Ok(Self {
            layers: names("layers-v1")?,
            containers: names("containers")?,
            listings: names(listings::DIRECTORY)?,
            mounts: names("cache-mounts")?,
        })
    }
}
impl Store {
    /// Discards it.
    pub(super) fn discard_strangers(
        &self,
        writer: &Writer<'_>,
        seen: &Seen,
        going: &HashSet<Digest>,
        is_current: bool,
    ) -> Result<()> {
        let Seen { state, entries } = seen;
        let reader = writer.reader();
        let root = self.root();
        let known: HashSet<_> = state.layers.iter().map(|layer| OsStr::new(layer.id.as_str())).collect();
        for name in entries.layers.iter().filter(|name| !known.contains(name.as_os_str())) {
            if !reader.contains(&LAYERS, name.as_bytes())? {
                self.0.aside.discard(&root.join("layers-v1").join(name))?;
            }
        }
        let known: HashSet<_> = state.containers.iter().map(|container| OsStr::new(&container.id)).collect();
        for name in entries.containers.iter().filter(|name| !known.contains(name.as_os_str())) {
            if !reader.contains(&CONTAINERS, name.as_bytes())? {
                self.0.aside.discard(&root.join("containers").join(name))?;
            }
        }
        // A record that was stored meanwhile may name any of them: the next prune sees it.
        if is_current {
            let stay = state.records.iter().filter(|record| !going.contains(&record.id));
            let known: HashSet<OsString> =
                stay.flat_map(|record| record.listings.iter().map(|key| key.hex().into())).collect();
            for name in entries.listings.iter().filter(|name| !known.contains(*name)) {
                self.0.aside.discard(&root.join(listings::DIRECTORY).join(name))?;
            }
        }
        let known: HashSet<_> = state.mounts.iter().map(|mount| mount.hash.as_bytes()).collect();
        for name in &entries.mounts {
            let hash = name.as_bytes().split(|byte| *byte == b'.').next().unwrap_or_default();
            let path = root.join("cache-mounts").join(name);
            // One that is just being made has a user.
            if !known.contains(hash)
                && !reader.contains(&CACHE_MOUNTS, hash)?
                && let Claim::Ours(_lock) = lock_directory(&path)?
            {
                self.0.aside.discard(&path)?;
            }
        }
        Ok(())
    }
}
