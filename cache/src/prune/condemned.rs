//! How do layers and blobs go without anybody noticing?
//!
//! Rows that only name things (images, records) can be deleted at any time. What they named cannot: somebody may just be
//! using it. So a layer or blob that nothing needs is condemned first, with the generation in which that was seen, and
//! swept when no lease of that generation is left and still nothing needs it. Whoever comes across a condemned thing by
//! another way than the rows that were deleted, or makes something that needs it, [spares](spare_layer) it.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use rbuild_core::Digest;

use super::plan::{Item, Needed};
use super::state;
use crate::error::{Result, StoreError};
use crate::layers::{self, LAYERS, LayerId};
use crate::lease;
use crate::meta::{Reader, Table, Writer};
use crate::store::Store;

/// What is to go → the generation in which nothing needed it, or [`SUSPECTED`] and a number that is used once. A key is
/// a letter, `l` or `b`, and a layer's id or a blob's digest.
const CONDEMNED: Table<u64> = Table::new(b'x', "condemned");

/// What may be needed by something that was stored while it was decided that nothing needs it. The next sweep condemns it
/// if nothing does: whoever stores something that needs it from now on deletes the row.
pub(super) const SUSPECTED: u64 = 1 << 63;

/// A condemned thing.
pub(super) enum Condemned {
    Layer(LayerId),
    Blob(Digest),
}

impl Condemned {
    fn key(&self) -> Vec<u8> {
        match self {
            Self::Layer(id) => layer_key(id),
            Self::Blob(digest) => blob_key(digest),
        }
    }

    fn of(key: &[u8]) -> Option<Self> {
        match key.split_first()? {
            (b'l', id) => std::str::from_utf8(id).ok()?.parse().ok().map(Self::Layer),
            (b'b', digest) => <[u8; 32]>::try_from(digest).ok().map(|bytes| Self::Blob(Digest::sha256(bytes))),
            _ => None,
        }
    }
}

fn layer_key(id: &LayerId) -> Vec<u8> {
    [b"l", id.as_bytes()].concat()
}

fn blob_key(digest: &Digest) -> Vec<u8> {
    [b"b", digest.as_bytes().as_slice()].concat()
}

/// A row, and what is known about it.
struct Row {
    what: Condemned,
    mark: u64,
    needed: bool,
    bytes: u64,
}

/// What a sweep did.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    /// What left the disk.
    pub(crate) swept: Swept,
    /// What has to wait for a lease.
    pub(crate) waiting: Swept,
    /// The keys of what turned out to be needed.
    needed: HashSet<Vec<u8>>,
}

impl Sweep {
    /// Whether something that was condemned turned out to be needed.
    pub(super) fn is_needed(&self, item: &Item) -> bool {
        match item {
            Item::Layer(id) => self.needed.contains(&layer_key(id)),
            Item::Blob(digest) => self.needed.contains(&blob_key(digest)),
            Item::Image(_) | Item::Record(_) | Item::CacheMount(_) => false,
        }
    }
}

/// What a sweep removed, or what waits for one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Swept {
    /// How many layers.
    pub layers: usize,
    /// How many blobs.
    pub blobs: usize,
    /// How many bytes they take on disk.
    pub bytes: u64,
}

impl Swept {
    fn add(&mut self, what: &Condemned, bytes: u64) {
        match what {
            Condemned::Layer(_) => self.layers += 1,
            Condemned::Blob(_) => self.blobs += 1,
        }
        self.bytes += bytes;
    }
}

/// Whether the blob is to go.
pub(crate) fn is_blob_condemned(reader: &Reader<'_>, digest: &Digest) -> Result<bool> {
    reader.contains(&CONDEMNED, &blob_key(digest))
}

/// Whether the layer is to go.
pub(crate) fn is_layer_condemned(reader: &Reader<'_>, id: &LayerId) -> Result<bool> {
    reader.contains(&CONDEMNED, &layer_key(id))
}

/// Somebody wants the blob after all.
pub(crate) fn spare_blob(writer: &mut Writer<'_>, digest: &Digest) -> Result<()> {
    writer.delete(&CONDEMNED, &blob_key(digest)).map(drop)
}

/// Somebody wants the layer after all, and so its blobs.
pub(crate) fn spare_layer(writer: &mut Writer<'_>, id: &LayerId) -> Result<()> {
    if writer.delete(&CONDEMNED, &layer_key(id))?
        && let Some(layer) = writer.find(&LAYERS, id.as_bytes())?
    {
        layer.blobs.iter().try_for_each(|blob| spare_blob(writer, &blob.digest))?;
    }
    Ok(())
}

/// Condemns what is not yet.
pub(super) fn condemn(writer: &mut Writer<'_>, layers: &[LayerId], blobs: &[Digest], mark: u64) -> Result<()> {
    for key in layers.iter().map(layer_key).chain(blobs.iter().map(blob_key)) {
        if !writer.reader().contains(&CONDEMNED, &key)? {
            writer.put(&CONDEMNED, &key, &mark)?;
        }
    }
    Ok(())
}

impl Store {
    /// Whether a prune has condemned something that is still there: [`Store::reap`] sweeps it once no lease needs it.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub fn has_condemned(&self) -> Result<bool> {
        self.0.meta.read(|reader| reader.has_any(&CONDEMNED))
    }

    /// Moves condemned layers and blobs to the trash, as far as no lease can have seen them.
    pub(crate) fn sweep(&self) -> Result<Sweep> {
        let mut sweep = Sweep::default();
        // What was suspected is condemned by the first pass.
        while self.sweep_once(&mut sweep)? {}
        Ok(sweep)
    }

    /// Whether something was condemned, and another pass may sweep it.
    fn sweep_once(&self, sweep: &mut Sweep) -> Result<bool> {
        let rows = self.0.meta.read(|reader| self.condemned(reader))?;
        // After the rows were read, which are committed: a lease that begins from here on cannot find what they name.
        let oldest = if rows.is_empty() { None } else { self.oldest_lease()? };
        sweep.waiting = Swept::default();
        let mut now = Vec::new();
        for row in rows {
            if !row.needed && row.mark & SUSPECTED == 0 && oldest.is_some_and(|oldest| oldest <= row.mark) {
                sweep.waiting.add(&row.what, row.bytes);
            } else {
                now.push(row);
            }
        }
        if now.is_empty() {
            return Ok(false);
        }
        let mut layers = Vec::new();
        let any_condemned = self.0.meta.write(|writer| {
            let mut suspects = Vec::new();
            for Row { what, mark, needed, bytes } in now {
                let key = what.key();
                // Whoever stored something that needs it since it was read has deleted the row; and a mark is never used
                // again.
                if writer.find(&CONDEMNED, &key)? != Some(mark) {
                    continue;
                }
                if needed {
                    writer.delete(&CONDEMNED, &key)?;
                    sweep.needed.insert(key);
                } else if mark & SUSPECTED != 0 {
                    suspects.push(key);
                } else {
                    sweep.swept.add(&what, bytes);
                    self.remove_condemned(writer, &what)?;
                    if let Condemned::Layer(id) = what {
                        layers.push(id);
                    }
                }
            }
            if !suspects.is_empty() {
                let generation = lease::end_generation(writer)?;
                suspects.iter().try_for_each(|key| writer.put(&CONDEMNED, key, &generation))?;
            }
            Ok::<_, StoreError>(!suspects.is_empty())
        })?;
        self.discard_directories(&layers)?;
        Ok(any_condemned)
    }

    /// All that is condemned or suspected.
    fn condemned(&self, reader: &Reader<'_>) -> Result<Vec<Row>> {
        let rows = reader.list(&CONDEMNED, b"")?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let needed = state::needed(reader)?;
        let rows = rows.into_iter().filter_map(|(key, mark)| Some((Condemned::of(&key)?, mark)));
        rows.map(|(what, mark)| {
            let needed = is_needed(&what, &needed);
            Ok(Row { mark, needed, bytes: self.bytes_of(&what, reader)?, what })
        })
        .collect()
    }

    fn remove_condemned(&self, writer: &mut Writer<'_>, what: &Condemned) -> Result<()> {
        match what {
            Condemned::Layer(id) => {
                if let Some(layer) = writer.find(&LAYERS, id.as_bytes())? {
                    layers::remove(writer, &layer)?;
                }
            }
            // A blob is its file.
            Condemned::Blob(digest) => {
                self.0.aside.discard(&self.root().join("blobs/sha256").join(digest.hex()))?;
            }
        }
        writer.delete(&CONDEMNED, &what.key()).map(drop)
    }

    /// Discards the content of layers whose rows are gone for good: a row without it would be a layer that only seems to
    /// be there. Dying before this leaves directories and files without a row, which a prune finds.
    pub(crate) fn discard_directories(&self, layers: &[LayerId]) -> Result<()> {
        if layers.is_empty() {
            return Ok(());
        }
        // Within a transaction, because a layer that is made again gets its directory and its row in one.
        self.0.meta.write(|writer| {
            for id in layers {
                let layer = writer.find(&LAYERS, id.as_bytes())?;
                if layer.is_none_or(|layer| !layer.form.is_local()) {
                    self.0.aside.discard(&self.layers().path(id))?;
                }
            }
            Ok(())
        })
    }

    fn bytes_of(&self, what: &Condemned, reader: &Reader<'_>) -> Result<u64> {
        match what {
            Condemned::Layer(id) => Ok(reader.find(&LAYERS, id.as_bytes())?.map_or(0, |layer| layer.disk_bytes)),
            Condemned::Blob(digest) => {
                let path = self.root().join("blobs/sha256").join(digest.hex());
                Ok(fs::metadata(path).map_or(0, |file| file.blocks() * 512))
            }
        }
    }
}

fn is_needed(what: &Condemned, needed: &Needed) -> bool {
    match what {
        Condemned::Layer(id) => needed.layers.contains(id),
        Condemned::Blob(digest) => needed.blobs.contains(digest),
    }
}
