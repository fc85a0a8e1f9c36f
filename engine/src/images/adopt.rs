//! How does a layer come into the store from an archive?
//!
//! Its tar was written by somebody else, so its bytes cannot be made again from files. A layer that is a file has them,
//! and is compressed when it leaves. For one that is a directory they are kept, compressed, as the blob in which it will
//! travel; and a layer that arrives compressed is kept as it is, too.

use std::io::{self, BufRead, BufReader, BufWriter, Read};

use rbuild_cache::{Form, Layer, LayerError};
use rbuild_core::Digest;
use rbuild_image::archive::{self, Format};
use rbuild_image::{Compression, Descriptor, media};

use crate::engine::Engine;
use crate::error::Error;

impl Engine {
    /// Keeps a layer whose plain tar must have `diff_id`. `open` gives its entry of the archive from the beginning.
    pub(super) fn adopt_layer<R: Read + Send>(
        &self,
        diff_id: &Digest,
        open: impl Fn() -> Result<R, Error>,
    ) -> Result<Layer, Error> {
        let mut entry = BufReader::new(open()?);
        let media_type = match Format::detect(entry.fill_buf().map_err(reading)?) {
            Format::Gzip => media::OCI_LAYER_GZIP,
            Format::Zstd => media::OCI_LAYER_ZSTD,
            _ => return self.adopt_tar(diff_id, entry, open),
        };
        let mut blob = self.store().content().writer()?;
        io::copy(&mut entry, &mut blob).map_err(storing)?;
        let (digest, size) = blob.commit(None)?;
        self.adopt_blob(diff_id, &Descriptor::new(media_type, digest, size))
    }

    /// Keeps a layer that does not travel like this.
    fn adopt_tar<R: Read + Send>(
        &self,
        diff_id: &Digest,
        entry: impl Read + Send,
        open: impl Fn() -> Result<R, Error>,
    ) -> Result<Layer, Error> {
        let unlike = |found: &Digest| {
            let unlike = io::Error::new(io::ErrorKind::InvalidData, format!("its tar is {found}"));
            Error::malformed("layer", diff_id, unlike)
        };
        let mut plain = archive::decompress(entry).map_err(reading)?;
        let layer = match self.store().layers().import(diff_id, &mut plain) {
            Err(LayerError::DiffId { found, .. }) => return Err(unlike(&found)),
            other => other?,
        };
        let content = self.store().content();
        if layer.form == Form::Erofs || layer.blobs.iter().any(|blob| content.contains(&blob.digest)) {
            return Ok(layer);
        }
        let mut plain = archive::decompress(open()?).map_err(reading)?;
        let mut out = BufWriter::with_capacity(1 << 18, content.growing()?);
        let written = rbuild_image::compress_layer(&mut plain, &mut out, Compression::GZIP)
            .map_err(|source| Error::Stream { action: "compress a layer", source })?;
        if written.diff_id != *diff_id {
            return Err(unlike(&written.diff_id));
        }
        out.into_inner().map_err(|error| storing(error.into_error()))?.commit(&written.descriptor)?;
        self.store().layers().add_blob(&layer.id, &written.descriptor)?;
        Ok(layer)
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
