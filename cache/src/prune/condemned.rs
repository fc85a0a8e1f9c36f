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

use super::plan::Needed;
use super::state;
use crate::error::{Result, StoreError};
use crate::layers::{self, LAYERS, LayerId};
use crate::meta::{Reader, Table, Writer};
use crate::store::Store;

/// What is to go → the generation in which nothing needed it. A key is a letter, `l` or `b`, and a layer's id or a blob's
/// digest.
const CONDEMNED: Table<u64> = Table::new(b'x', "condemned");

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

/// Condemns what is not yet. Whether there was anything new.
pub(super) fn condemn(writer: &mut Writer<'_>, layers: &[LayerId], blobs: &[Digest], generation: u64) -> Result<bool> {
    let keys = layers.iter().map(layer_key).chain(blobs.iter().map(blob_key));
    let mut any = false;
    for key in keys {
        if !writer.reader().contains(&CONDEMNED, &key)? {
            writer.put(&CONDEMNED, &key, &generation)?;
            any = true;
        }
    }
    Ok(any)
}

impl Store {
    /// Whether a prune has condemned something that is still there: [`Store::reap`] sweeps it once no lease needs it.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub fn has_condemned(&self) -> Result<bool> {
        self.0.meta.read(|reader| reader.has_any(&CONDEMNED))
    }

    /// Moves condemned layers and blobs to the trash, as far as no lease can have seen them. Also returns what has to
    /// wait for a lease.
    pub(crate) fn sweep(&self) -> Result<(Swept, Swept)> {
        let (mut swept, mut waiting) = (Swept::default(), Swept::default());
        let mut layers = Vec::new();
        self.0.meta.write(|writer| {
            // Inside: every condemnation that is read here was committed before, so a lease that begins from here on cannot
            // find what it names. A look from outside could be older than a condemnation.
            let oldest = self.oldest_lease()?;
            let rows = writer.reader().list(&CONDEMNED, b"")?;
            if rows.is_empty() {
                return Ok::<_, StoreError>(());
            }
            let needed = state::needed(&writer.reader())?;
            for (key, generation) in rows {
                let Some(what) = Condemned::of(&key) else { continue };
                if is_needed(&what, &needed) {
                    writer.delete(&CONDEMNED, &key)?;
                } else if oldest.is_some_and(|oldest| oldest <= generation) {
                    waiting.add(&what, self.bytes_of(&what, &writer.reader())?);
                } else {
                    swept.add(&what, self.bytes_of(&what, &writer.reader())?);
                    self.remove_condemned(writer, &what)?;
                    if let Condemned::Layer(id) = what {
                        layers.push(id);
                    }
                }
            }
            Ok(())
        })?;
        self.discard_directories(&layers)?;
        Ok((swept, waiting))
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

/// All condemned layers and blobs.
pub(super) fn list(reader: &Reader<'_>) -> Result<(HashSet<LayerId>, HashSet<Digest>)> {
    let (mut layers, mut blobs) = (HashSet::new(), HashSet::new());
    for (key, _) in reader.list(&CONDEMNED, b"")? {
        match Condemned::of(&key) {
            Some(Condemned::Layer(id)) => drop(layers.insert(id)),
            Some(Condemned::Blob(digest)) => drop(blobs.insert(digest)),
            None => {}
        }
    }
    Ok((layers, blobs))
}
