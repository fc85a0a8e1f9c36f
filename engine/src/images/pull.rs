//! How does an image come from a registry into the store?
//!
//! In two steps. Its manifest and configuration come first, and are all that a build needs to know it: every layer is
//! registered by its diff ID and where it can be had. A layer's bytes come when something must run on it
//! ([`Engine::materialize`]), several at once, each by one process only.

use std::io::Write;

use futures_util::{StreamExt, TryStreamExt, stream};
use rbuild_cache::{BlobWriter, Form, Image, Layer, LayerId, RemoteName};
use rbuild_core::{Digest, Event, KeyHasher, Platform, Reporter, StepId};
use rbuild_image::{Descriptor, Document, ImageConfig, Manifest, Reference};

use crate::blocking::{blocking, event_loop};
use crate::engine::{Engine, reference};
use crate::error::Error;
use crate::lock::key_lock;

/// How many layers are fetched at once, as other clients do.
const AT_ONCE: usize = 4;

/// Configurations are read into memory; real ones have some kilobytes.
const LARGEST_CONFIG: u64 = 8 << 20;

/// What a pull brought.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The complete name.
    pub name: String,
    /// The image ID.
    pub id: Digest,
    /// The manifest's digest.
    pub manifest: Digest,
    /// Whether the name means another image than before.
    pub fresh: bool,
}

/// Whether a local image of the right name will do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Freshness {
    /// Yes, also one whose id begins so.
    Local,
    /// Yes, but of ids only what nobody calls an image: `FROM cafe` means a name, whatever ids there are.
    LocalName,
    /// No: the registry is asked.
    Registry,
}

impl Engine {
    /// Fetches an image with all its layers.
    ///
    /// # Errors
    /// If the registry does not have it for the platform, cannot be reached, or sends something else.
    pub async fn pull(&self, name: &str, platform: Option<&Platform>, reporter: &Reporter) -> Result<Pulled, Error> {
        let _lease = self.store().lease("pull")?;
        let pulled = self.pull_all(name, platform, reporter).await;
        if pulled.is_err() {
            self.clean_up_after_failure().await;
        }
        pulled
    }

    async fn pull_all(&self, name: &str, platform: Option<&Platform>, reporter: &Reporter) -> Result<Pulled, Error> {
        let reference = reference(name)?;
        let platform = platform.cloned().unwrap_or_else(Platform::host);
        let before = self.store().images().resolve(&reference.to_string())?.map(|image| image.id);
        let (image, _) = self.pull_config(&reference, &platform).await?;
        self.materialize(&image.layers, reporter, StepId(0)).await?;
        let manifest = image.manifest.as_ref().map_or(image.id, |manifest| manifest.digest);
        Ok(Pulled { name: reference.to_string(), id: image.id, manifest, fresh: before != Some(image.id) })
    }

    /// Finds an image for a build or a run: in the store if `freshness` allows, else at its registry.
    pub(crate) async fn obtain(
        &self,
        name: &str,
        platform: &Platform,
        freshness: Freshness,
    ) -> Result<(Image, ImageConfig), Error> {
        let local = match freshness {
            Freshness::Local => true,
            Freshness::LocalName if super::is_beginning_of_id(name) => {
                self.store().images().resolve(&reference(name)?.to_string())?.is_some()
            }
            Freshness::LocalName => true,
            Freshness::Registry => false,
        };
        if local && let Some(image) = self.find_image(name)? {
            let config = self.image_config(&image)?;
            if rbuild_image::manifest::runs_on(&config.platform(), platform) {
                return Ok((image, config));
            }
        }
        self.pull_config(&reference(name)?, platform).await
    }

    /// Fetches manifest and configuration, registers the layers and gives the image its name.
    async fn pull_config(&self, reference: &Reference, platform: &Platform) -> Result<(Image, ImageConfig), Error> {
        event_loop().await;
        let client = self.registry();
        let descriptor = client.resolve(reference, platform).await?;
        let bytes = client.manifest(reference, &descriptor).await?;
        let parsed = Document::parse(Some(&descriptor.media_type), &bytes)
            .map_err(|source| Error::malformed("manifest", reference, source))?;
        let Document::Manifest(manifest) = parsed else {
            return Err(Error::Unsupported(format!("an index within the index of `{reference}`")));
        };
        if manifest.config.size > LARGEST_CONFIG {
            let what = format!("the configuration of `{reference}`, which has {} bytes", manifest.config.size);
            return Err(Error::Unsupported(what));
        }
        let content = self.store().content();
        if !content.contains(&manifest.config.digest) {
            self.fetch_blob(reference, &manifest.config, StepId(0), &Reporter::silent()).await?;
        }
        content.put(&descriptor.media_type, &bytes)?;
        let config = content.read_verified(&manifest.config.digest)?;
        let config: ImageConfig =
            serde_json::from_slice(&config).map_err(|source| Error::malformed("configuration", reference, source))?;
        let found = config.platform();
        if !rbuild_image::manifest::runs_on(&found, platform) {
            let (found, wanted) = (found.to_string(), platform.to_string());
            return Err(Error::Platform { name: reference.to_string(), found, wanted });
        }
        let image = self.register(reference, &descriptor, &manifest, &config)?;
        let remote = RemoteName { image: image.id, manifest: descriptor.digest, resolved: crate::time::now() };
        self.store().images().remember_remote(&reference.to_string(), &remote)?;
        Ok((image, config))
    }

    fn register(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        manifest: &Manifest,
        config: &ImageConfig,
    ) -> Result<Image, Error> {
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers.len() {
            let (layers, diff_ids) = (manifest.layers.len(), diff_ids.len());
            return Err(Error::LayerCount { name: reference.to_string(), layers, diff_ids });
        }
        let source = reference.name();
        let mut layers = Vec::with_capacity(diff_ids.len());
        for (diff_id, blob) in diff_ids.iter().zip(&manifest.layers) {
            layers.push(self.store().layers().register_remote(diff_id, blob, &source)?);
        }
        let image = Image {
            id: manifest.config.digest,
            layers,
            manifest: Some(descriptor.clone()),
            created: crate::time::parse(config.created.as_deref()),
            size: manifest.layers.iter().map(|layer| layer.size).sum(),
        };
        let name = reference.to_string();
        self.store().images().put(&image, &[name.as_str()])?;
        Ok(image)
    }

    /// Makes sure that the layers can be mounted.
    pub(crate) async fn materialize(&self, layers: &[LayerId], reporter: &Reporter, step: StepId) -> Result<(), Error> {
        let mut missing = Vec::new();
        for id in layers {
            if self.store().layers().is_left(id) {
                continue;
            }
            let layer = self.store().layers().find_intact(id)?.ok_or_else(|| self.vanished(id))?;
            if layer.form == Form::Remote {
                missing.push(layer);
            }
        }
        stream::iter(missing.into_iter().map(|layer| self.fetch_layer(layer, reporter, step)))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await
    }

    async fn fetch_layer(&self, layer: Layer, reporter: &Reporter, step: StepId) -> Result<(), Error> {
        let mut hasher = KeyHasher::new("fetch-layer/1");
        hasher.text(layer.id.as_str());
        let _lock = key_lock(self.store(), &hasher.finish()).await?;
        let current = self.store().layers().find(&layer.id)?;
        if current.is_some_and(|layer| layer.form != Form::Remote) {
            return Ok(());
        }
        let diff_id = layer.diff_id.unwrap_or(layer.identity);
        let blob = layer.blobs.first().ok_or(Error::LayerGone(diff_id))?.clone();
        let item = blob.digest.short();
        if !self.store().content().contains(&blob.digest) {
            let source = layer.sources.first().ok_or(Error::LayerGone(diff_id))?;
            self.fetch_blob(&reference(source)?, &blob, step, reporter).await?;
        }
        let transfer =
            |action| Event::Transfer { step, item: item.clone(), current: blob.size, total: Some(blob.size), action };
        reporter.emit(transfer("extracting"));
        let (store, id) = (self.store().clone(), layer.id.clone());
        blocking(move || store.layers().unpack(&id)).await?.ok_or(Error::LayerGone(diff_id))?;
        reporter.emit(transfer("done"));
        Ok(())
    }

    /// Streams a blob into the store; goes on where an earlier attempt broke off.
    async fn fetch_blob(
        &self,
        source: &Reference,
        blob: &Descriptor,
        step: StepId,
        reporter: &Reporter,
    ) -> Result<(), Error> {
        let (store, digest) = (self.store().clone(), blob.digest);
        // Hashes what is there.
        let mut writer = blocking(move || store.content().resume(&digest)).await?;
        if writer.offset() > blob.size {
            writer.restart()?;
        }
        let client = self.registry();
        let mut current = writer.offset();
        let item = blob.digest.short();
        if current < blob.size {
            let mut body = std::pin::pin!(client.blob(source, blob, current).await?);
            while let Some(chunk) = body.next().await {
                let chunk = chunk?;
                writer = write_all(writer, chunk.clone()).await?;
                current += chunk.len() as u64;
                let (item, total) = (item.clone(), Some(blob.size));
                reporter.emit(Event::Transfer { step, item, current, total, action: "downloading" });
            }
        }
        let expected = blob.clone();
        blocking(move || writer.commit(Some(&expected))).await?;
        Ok(())
    }
}

async fn write_all(mut writer: BlobWriter, chunk: bytes::Bytes) -> Result<BlobWriter, Error> {
    blocking(move || match writer.write_all(&chunk) {
        Ok(()) => Ok(writer),
        Err(source) => Err(Error::Stream { action: "store a blob", source }),
    })
    .await
}
