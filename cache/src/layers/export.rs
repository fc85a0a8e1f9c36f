//! How does a layer become a tar again?
//!
//! A layer that is a file has its tar, whose bytes are copied. The tar of a directory is canonical: the same directory
//! gives the same bytes on every machine. If it came with an image, its tar was written by somebody else: its bytes come
//! from a compressed form in the content store if there is one, and otherwise the canonical tar is only accepted if it
//! happens to have the right diff ID.

use std::io::{self, Read, Write};

use rbuild_core::Digest;
use rbuild_image::{Change, Compression, Entry, EntryKind, LayerWriter, Timestamp};

use super::{Form, Layer, LayerError, LayerId, Layers, Result};
use crate::error::Context;

/// How [`Layers::write_tar`] writes.
#[derive(Clone, Copy, Debug)]
pub struct TarOptions {
    /// What the tar goes through.
    pub compression: Compression,
    /// Later times become this one, in seconds since 1970 (`rewrite-timestamp`). The result is another layer.
    pub clamp: Option<i64>,
}

impl Default for TarOptions {
    fn default() -> Self {
        Self { compression: Compression::None, clamp: None }
    }
}

impl Layers<'_> {
    /// Writes the layer as a tar and describes what was written. Without a clamp, the diff ID is remembered.
    ///
    /// # Errors
    /// `Missing`, `NotLocal`, `Foreign` if the bytes of a layer that came with an image cannot be had again, or
    /// reading or writing fails. What was written is then incomplete.
    pub fn write_tar(&self, id: &LayerId, options: TarOptions, out: impl Write) -> Result<rbuild_image::Layer> {
        let layer = self.read(id)?;
        if options.clamp.is_none() && layer.form == Form::Erofs {
            return self.copy_tar(&self.local(id)?, options.compression, out);
        }
        if options.clamp.is_none()
            && let Some(expected) = layer.diff_id
            && let Some(mut plain) = self.open_blob(&layer)?
        {
            let written =
                rbuild_image::compress_layer(&mut plain, out, options.compression).map_err(LayerError::Write)?;
            return if written.diff_id == expected { Ok(written) } else { Err(LayerError::Foreign(id.clone())) };
        }
        let mut changes = self.changes(id)?;
        let mut writer = LayerWriter::new(out, options.compression).map_err(LayerError::Write)?;
        while let Some(change) = changes.next() {
            let mut change = change?;
            if let (Change::Upsert(entry), Some(latest)) = (&mut change, options.clamp.map(Timestamp::from_seconds)) {
                entry.mtime = entry.mtime.min(latest);
            }
            let written = match change {
                Change::Upsert(Entry { kind: EntryKind::File { size: 1.. }, .. }) => {
                    writer.append(&change, &mut changes.content()?)
                }
                _ => writer.append(&change, &mut io::empty()),
            };
            written.map_err(LayerError::Write)?;
        }
        let written = writer.finish().map_err(LayerError::Write)?;
        if options.clamp.is_none() {
            match layer.diff_id {
                Some(expected) if expected != written.diff_id => return Err(LayerError::Foreign(id.clone())),
                Some(_) if layer.size == Some(written.size) => {}
                _ => self.update(id, |layer| {
                    layer.diff_id = Some(written.diff_id);
                    layer.size = Some(written.size);
                })?,
            }
        }
        Ok(written)
    }

    /// The tar that is in the layer's file.
    fn copy_tar(&self, layer: &Layer, compression: Compression, out: impl Write) -> Result<rbuild_image::Layer> {
        let file = self.open_file(layer)?;
        let written = rbuild_image::compress_layer(&mut file.tar(), out, compression).map_err(LayerError::Write)?;
        if written.diff_id == file.header.diff_id {
            return Ok(written);
        }
        let error = io::Error::new(io::ErrorKind::InvalidData, "its tar has another digest");
        Err(self.damaged(layer, error))
    }

    /// The digest and length of the layer's plain tar, computed at most once.
    ///
    /// # Errors
    /// As [`Layers::write_tar`].
    pub fn describe(&self, id: &LayerId) -> Result<(Digest, u64)> {
        if let Layer { diff_id: Some(diff_id), size: Some(size), .. } = self.read(id)? {
            return Ok((diff_id, size));
        }
        let written = self.write_tar(id, TarOptions::default(), io::sink())?;
        Ok((written.diff_id, written.size))
    }

    /// The layer's plain tar, from a compressed form in the content store. Unverified: the reader compares the diff ID.
    ///
    /// # Errors
    /// The blob cannot be opened or is no compressed tar.
    pub fn open_blob(&self, layer: &Layer) -> Result<Option<impl Read + Send + use<>>> {
        for descriptor in &layer.blobs {
            if let Some(blob) = self.0.content().open(&descriptor.digest)? {
                let path = blob.path().to_owned();
                let plain = rbuild_image::archive::decompress(io::BufReader::new(blob)).context("decompress", path)?;
                return Ok(Some(plain));
            }
        }
        Ok(None)
    }

    /// Makes the layer's content local from a compressed form in the content store. `None` if there is none: then it
    /// has to be pulled first.
    ///
    /// # Errors
    /// As [`Layers::import`]. A blob that is not what it should be is removed.
    pub fn unpack(&self, id: &LayerId) -> Result<Option<Layer>> {
        let layer = self.read(id)?;
        let Some(diff_id) = layer.diff_id.filter(|_| layer.form == Form::Remote) else {
            return Ok(Some(layer).filter(|layer| layer.form.is_local()));
        };
        let Some(mut plain) = self.open_blob(&layer)? else { return Ok(None) };
        match self.import(&diff_id, &mut plain) {
            Err(error @ (LayerError::DiffId { .. } | LayerError::Tar(_))) => {
                for descriptor in &layer.blobs {
                    self.0.content().remove_damaged(&descriptor.digest)?;
                }
                Err(error)
            }
            other => other.map(Some),
        }
    }
}
