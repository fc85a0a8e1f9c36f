//! How does an image get to a registry?
//!
//! Layers first, several at once, each only if the registry does not have it; then the configuration, then the
//! manifest under the tag: whoever sees the tag can pull everything.

use std::io;

use futures_util::{StreamExt, TryFutureExt, TryStreamExt, stream};
use rbuild_cache::LayerId;
use rbuild_core::{Digest, Event, Reporter, StepId};
use rbuild_image::{Compression, Descriptor, Document, Manifest, Reference};
use tokio_util::io::ReaderStream;

use super::blobs::Wanted;
use crate::blocking::event_loop;
use crate::engine::{Engine, reference};
use crate::error::Error;

/// How many blobs are sent at once.
const AT_ONCE: usize = 4;
/// Bytes read at once.
const CHUNK: usize = 1 << 18;

/// What a push did.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The complete name.
    pub name: String,
    /// The manifest's digest, by which it can be pulled.
    pub manifest: Digest,
    /// The manifest's length in bytes, which `docker push` prints as size.
    pub size: u64,
    /// Each layer, lowest first.
    pub layers: Vec<(Digest, PushedLayer)>,
}

impl Pushed {
    /// The manifest, as others refer to it.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(rbuild_image::media::OCI_MANIFEST, self.manifest, self.size)
    }
}

/// What was done with one layer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PushedLayer {
    /// Its bytes were sent.
    Pushed,
    /// The registry had it.
    Exists,
    /// The registry took it over from another of its repositories.
    Mounted,
}

impl Engine {
    /// Sends a local image to the registry that its name says.
    ///
    /// # Errors
    /// If there is no such image, or the registry refuses.
    pub async fn push(&self, name: &str, reporter: &Reporter) -> Result<Pushed, Error> {
        event_loop().await;
        let _lease = self.store().lease("push")?;
        let target = reference(name)?;
        let image = self.image(name)?;
        let client = self.registry();
        let known = image.manifest.as_ref().filter(|manifest| self.store().content().contains(&manifest.digest));
        let (manifest, descriptor) = match known {
            Some(descriptor) => (self.manifest(descriptor)?, descriptor.clone()),
            None => {
                let mut blobs = Vec::with_capacity(image.layers.len());
                for layer in &image.layers {
                    blobs.push(self.layer_blob(layer, Wanted::Any(Compression::GZIP), reporter).await?);
                }
                let config = self.store().content().read_verified(&image.id)?;
                self.put_manifest(&config, &blobs)?
            }
        };
        let jobs = image.layers.iter().zip(&manifest.layers).enumerate().map(|(step, (id, blob))| {
            let step = StepId(u32::try_from(step).unwrap_or(u32::MAX));
            self.push_layer(&target, id, blob, step, reporter)
        });
        let layers: Vec<_> = stream::iter(jobs).buffered(AT_ONCE).try_collect().await?;
        self.push_bytes(&target, &manifest.config, StepId(u32::MAX), &Reporter::silent()).await?;
        let bytes = self.store().content().read_verified(&descriptor.digest)?;
        client.push_manifest(&target, &descriptor, bytes.into()).await?;
        if image.manifest.as_ref() != Some(&descriptor) {
            let image = rbuild_cache::Image { manifest: Some(descriptor.clone()), ..image };
            self.store().images().put(&image, &[])?;
        }
        Ok(Pushed { name: target.to_string(), manifest: descriptor.digest, size: descriptor.size, layers })
    }

    /// A manifest that is a blob in the store.
    pub(crate) fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest, Error> {
        let bytes = self.store().content().read_verified(&descriptor.digest)?;
        match Document::parse(Some(&descriptor.media_type), &bytes) {
            Ok(Document::Manifest(manifest)) => Ok(manifest),
            Ok(Document::Index(_)) => Err(Error::Unsupported(format!("the index {}", descriptor.digest))),
            Err(source) => Err(Error::malformed("manifest", descriptor.digest, source)),
        }
    }

    async fn push_layer(
        &self,
        target: &Reference,
        id: &LayerId,
        blob: &Descriptor,
        step: StepId,
        reporter: &Reporter,
    ) -> Result<(Digest, PushedLayer), Error> {
        let client = self.registry();
        let done = |how| Ok((blob.digest, how));
        // From here on other repositories of this registry can be given the layer without sending it.
        let remember = || self.store().layers().add_source(id, &target.name());
        if client.has_blob(target, blob).await? {
            remember()?;
            self.tell(reporter, step, blob, "exists");
            return done(PushedLayer::Exists);
        }
        let layer = self.store().layers().find(id)?.ok_or_else(|| Error::LayerVanished(id.clone()))?;
        for source in &layer.sources {
            let source = reference(source)?;
            if source.registry() == target.registry() && client.mount_blob(target, &source, blob).await? {
                remember()?;
                self.tell(reporter, step, blob, "mounted");
                return done(PushedLayer::Mounted);
            }
        }
        if !self.store().content().contains(&blob.digest) {
            self.layer_blob(id, Wanted::Any(Compression::GZIP), reporter).await?;
        }
        self.push_bytes(target, blob, step, reporter).await?;
        remember()?;
        done(PushedLayer::Pushed)
    }

    async fn push_bytes(
        &self,
        target: &Reference,
        blob: &Descriptor,
        step: StepId,
        reporter: &Reporter,
    ) -> Result<(), Error> {
        let store = self.store().clone();
        let (digest, item, total, told) = (blob.digest, blob.digest.short(), Some(blob.size), reporter.clone());
        let open = move || {
            let found = store.content().open(&digest).map_err(io::Error::other).and_then(|found| {
                found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the blob is no longer in the store"))
            });
            let (item, told, mut current) = (item.clone(), told.clone(), 0);
            let chunks = futures_util::future::ready(found)
                .map_ok(|blob| ReaderStream::with_capacity(tokio::fs::File::from_std(blob.into_file()), CHUNK))
                .try_flatten_stream();
            chunks.inspect_ok(move |chunk| {
                current += chunk.len() as u64;
                told.emit(Event::Transfer { step, item: item.clone(), current, total, action: "pushing" });
            })
        };
        self.registry().push_blob(target, blob, open).await?;
        self.tell(reporter, step, blob, "done");
        Ok(())
    }

    #[expect(clippy::unused_self, reason = "reads as the others do")]
    fn tell(&self, reporter: &Reporter, step: StepId, blob: &Descriptor, action: &'static str) {
        let item = blob.digest.short();
        reporter.emit(Event::Transfer { step, item, current: blob.size, total: Some(blob.size), action });
    }
}
