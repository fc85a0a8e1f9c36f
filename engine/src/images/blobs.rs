//! In which compressed form does a layer travel?
//!
//! In the one it already has, wherever it came from: a layer is compressed at most once for each form, and only when
//! it leaves the store.

use std::io::{BufWriter, Write};

use rbuild_cache::{Form, LayerId, LayerKind, TarOptions};
use rbuild_core::{Digest, Reporter, StepId};
use rbuild_image::{Compression, Descriptor, Manifest, media};

use crate::blocking::blocking;
use crate::engine::Engine;
use crate::error::Error;

/// A layer as a blob in the store.
#[derive(Clone, Debug)]
pub(crate) struct LayerBlob {
    /// Names the bytes that travel.
    pub(crate) descriptor: Descriptor,
    /// Names the plain tar.
    pub(crate) diff_id: Digest,
}

/// Which blobs of a layer will do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    /// Whatever there is, else this.
    Any(Compression),
    /// Files that are newer than this time, in seconds since 1970, get it; never taken from or kept for others.
    Clamped(Compression, i64),
}

impl Engine {
    /// Makes sure that a blob of the layer is in the store, and names it.
    pub(crate) async fn layer_blob(
        &self,
        id: &LayerId,
        wanted: Wanted,
        reporter: &Reporter,
    ) -> Result<LayerBlob, Error> {
        let layer = self.store().layers().find(id)?.ok_or_else(|| Error::LayerVanished(id.clone()))?;
        if let (Wanted::Any(compression), Some(diff_id)) = (wanted, layer.diff_id) {
            // What came with an image stays as it came. What was built here has the form that is asked for, or an
            // archive's bytes would depend on where the layer was sent before.
            let fits =
                |blob: &&Descriptor| layer.kind == LayerKind::Image || blob.media_type == compression.media_type();
            let known = layer.blobs.iter().filter(fits).find(|blob| self.store().content().contains(&blob.digest));
            if let Some(descriptor) = known {
                return Ok(LayerBlob { descriptor: descriptor.clone(), diff_id });
            }
        }
        if layer.form == Form::Remote {
            self.materialize(std::slice::from_ref(id), reporter, StepId(0)).await?;
            let layer = self.store().layers().find(id)?.ok_or_else(|| Error::LayerVanished(id.clone()))?;
            let descriptor = layer.blobs.first().cloned();
            let diff_id = layer.diff_id.unwrap_or(layer.identity);
            if let (Wanted::Any(_), Some(descriptor)) = (wanted, descriptor) {
                return Ok(LayerBlob { descriptor, diff_id });
            }
        }
        let (store, id) = (self.store().clone(), id.clone());
        blocking(move || {
            let (compression, clamp) = match wanted {
                Wanted::Any(compression) => (compression, None),
                Wanted::Clamped(compression, time) => (compression, Some(time)),
            };
            let failed = |source| Error::Stream { action: "compress a layer", source };
            let mut out = BufWriter::with_capacity(1 << 18, store.content().writer()?);
            let written = store.layers().write_tar(&id, TarOptions { compression, clamp }, &mut out)?;
            out.flush().map_err(failed)?;
            let blob = out.into_inner().map_err(|error| failed(error.into_error()))?;
            blob.commit(Some(&written.descriptor))?;
            if clamp.is_none() {
                store.layers().add_blob(&id, &written.descriptor)?;
            }
            Ok(LayerBlob { descriptor: written.descriptor, diff_id: written.diff_id })
        })
        .await
    }

    /// The manifest that names `config` (a blob in the store) and `layers`.
    pub(crate) fn put_manifest(&self, config: &[u8], layers: &[LayerBlob]) -> Result<(Manifest, Descriptor), Error> {
        let config = self.store().content().put(media::OCI_CONFIG, config)?;
        let layers = layers.iter().map(|layer| layer.descriptor.clone()).collect();
        let manifest = Manifest::new(rbuild_image::Family::Oci, config, layers);
        let (bytes, _) = manifest.to_bytes();
        let descriptor = self.store().content().put(media::OCI_MANIFEST, &bytes)?;
        Ok((manifest, descriptor))
    }
}
