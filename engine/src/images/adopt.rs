//! How does a layer come into the store from an archive?
//!
//! Its tar was written by somebody else, so its bytes cannot be made again from files: they are kept, compressed, as
//! the blob in which the layer will travel. A layer that arrives compressed is kept as it is.

use std::io::{self, BufReader, BufWriter, Read, Write};

use rbuild_cache::Layer;
use rbuild_core::Digest;
use rbuild_image::archive::{self, Format};
use rbuild_image::{Compression, Descriptor, media};

use crate::engine::Engine;
use crate::error::Error;

impl Engine {
    /// Keeps a layer from a tar in whatever compression.
    pub(super) fn adopt_tar(&self, tar: impl Read + Send) -> Result<(Digest, Layer), Error> {
        let mut plain = archive::decompress(tar).map_err(reading)?;
        let mut out = BufWriter::with_capacity(1 << 18, self.store().content().writer()?);
        let written = rbuild_image::compress_layer(&mut plain, &mut out, Compression::GZIP).map_err(reading)?;
        out.flush().map_err(storing)?;
        let blob = out.into_inner().map_err(|error| storing(error.into_error()))?;
        blob.commit(Some(&written.descriptor))?;
        Ok((written.diff_id, self.adopt_blob(&written.diff_id, &written.descriptor)?))
    }

    /// Keeps a layer whose plain tar must have `diff_id`.
    pub(super) fn adopt_layer(&self, diff_id: &Digest, entry: impl Read + Send) -> Result<Layer, Error> {
        let mut entry = BufReader::new(entry);
        let start = io::BufRead::fill_buf(&mut entry).map_err(reading)?;
        let media_type = match Format::detect(start) {
            Format::Gzip => media::OCI_LAYER_GZIP,
            Format::Zstd => media::OCI_LAYER_ZSTD,
            _ => {
                let (found, layer) = self.adopt_tar(entry)?;
                if found != *diff_id {
                    let unlike = io::Error::new(io::ErrorKind::InvalidData, format!("its tar is {found}"));
                    return Err(Error::malformed("layer", diff_id, unlike));
                }
                return Ok(layer);
            }
        };
        let mut blob = self.store().content().writer()?;
        io::copy(&mut entry, &mut blob).map_err(storing)?;
        let (digest, size) = blob.commit(None)?;
        self.adopt_blob(diff_id, &Descriptor::new(media_type, digest, size))
    }

    /// Unpacks a blob that is in the store.
    pub(super) fn adopt_blob(&self, diff_id: &Digest, blob: &Descriptor) -> Result<Layer, Error> {
        let stored = self.store().content().open(&blob.digest)?.ok_or(Error::LayerGone(blob.digest))?;
        let mut plain = archive::decompress(BufReader::with_capacity(1 << 18, stored.into_file())).map_err(reading)?;
        let layer = self.store().layers().import(diff_id, &mut plain)?;
        self.store().layers().add_blob(&layer.id, blob)?;
        Ok(layer)
    }
}

fn reading(source: io::Error) -> Error {
    Error::Stream { action: "read the archive", source }
}

fn storing(source: io::Error) -> Error {
    Error::Stream { action: "store a layer", source }
}
