//! In which compressed form does a layer travel?
//!
//! In the one it already has, wherever it came from: a layer is compressed at most once for each form, and only when
//! it leaves the store.

use std::io::BufWriter;

use rbuild_cache::{Form, Layer, LayerId, LayerKind, TarOptions};
use rbuild_core::{Digest, Reporter, StepId};
use rbuild_image::{Compression, Descriptor, Manifest, media};
use tokio::sync::watch;

use super::growing::{Follow, Growing, Growth, Telling};
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
        if let Some(blob) = self.known_blob(id, wanted, reporter).await? {
            return Ok(blob);
        }
        let Growing { made, follow } = self.grow_blob(id, wanted)?;
        let blob = made.await;
        // Until here, or its maker would think that nobody wants it.
        drop(follow);
        blob
    }

    /// A blob that will do, if it is in the store or need only be pulled.
    pub(super) async fn known_blob(
        &self,
        id: &LayerId,
        wanted: Wanted,
        reporter: &Reporter,
    ) -> Result<Option<LayerBlob>, Error> {
        let layer = self.store().layers().find(id)?.ok_or_else(|| self.vanished(id))?;
        if let (Wanted::Any(compression), Some(diff_id)) = (wanted, layer.diff_id) {
            let mut fitting = fitting(&layer, compression);
            if let Some(descriptor) = fitting.find(|blob| self.store().content().contains(&blob.digest)) {
                return Ok(Some(LayerBlob { descriptor: descriptor.clone(), diff_id }));
            }
        }
        if layer.form == Form::Remote {
            self.materialize(std::slice::from_ref(id), reporter, StepId(0)).await?;
            let layer = self.store().layers().find(id)?.ok_or_else(|| self.vanished(id))?;
            let descriptor = layer.blobs.first().cloned();
            let diff_id = layer.diff_id.unwrap_or(layer.identity);
            if let (Wanted::Any(_), Some(descriptor)) = (wanted, descriptor) {
                return Ok(Some(LayerBlob { descriptor, diff_id }));
            }
        }
        Ok(None)
    }

    /// Begins a blob of the layer.
    pub(super) fn grow_blob(
        &self,
        id: &LayerId,
        wanted: Wanted,
    ) -> Result<Growing<impl Future<Output = Result<LayerBlob, Error>> + Send + use<>>, Error> {
        let blob = self.store().content().growing()?;
        let (file, (growth, follower)) = (blob.reader()?, watch::channel(Growth::default()));
        let (store, id, out) = (self.store().clone(), id.clone(), Telling { blob, growth });
        let made = blocking(move || {
            let (compression, clamp) = match wanted {
                Wanted::Any(compression) => (compression, None),
                Wanted::Clamped(compression, time) => (compression, Some(time)),
            };
            let failed = |source| Error::Stream { action: "compress a layer", source };
            let mut out = BufWriter::with_capacity(1 << 18, out);
            let written = store.layers().write_tar(&id, TarOptions { compression, clamp }, &mut out)?;
            let Telling { blob, growth } = out.into_inner().map_err(|error| failed(error.into_error()))?;
            blob.commit(&written.descriptor)?;
            if clamp.is_none() {
                store.layers().add_blob(&id, &written.descriptor)?;
            }
            growth.send_replace(Growth::complete(written.descriptor.clone()));
            Ok(LayerBlob { descriptor: written.descriptor, diff_id: written.diff_id })
        });
        Ok(Growing { made, follow: Follow::new(file, follower) })
    }

    /// The manifest that names `config` (a blob in the store) and `layers`.
    pub(crate) fn put_manifest(&self, config: &[u8], layers: Vec<Descriptor>) -> Result<(Manifest, Descriptor), Error> {
        let config = self.store().content().put(media::OCI_CONFIG, config)?;
        let manifest = Manifest::new(rbuild_image::Family::Oci, config, layers);
        let (bytes, _) = manifest.to_bytes();
        let descriptor = self.store().content().put(media::OCI_MANIFEST, &bytes)?;
        Ok((manifest, descriptor))
    }
}

/// The layer's known forms that may be used where this one is wanted, in the store or not.
pub(super) fn fitting(layer: &Layer, compression: Compression) -> impl Iterator<Item = &Descriptor> {
    // What came with an image stays as it came. What was built here has the form that is asked for, or an archive's
    // bytes would depend on where the layer was sent before.
    let fits = move |blob: &&Descriptor| layer.kind == LayerKind::Image || blob.media_type == compression.media_type();
    layer.blobs.iter().filter(fits)
}
