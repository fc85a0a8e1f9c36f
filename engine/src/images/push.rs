//! How does an image get to a registry?
//!
//! Layers first, several at once, each only if the registry does not have it ([`send`](super::send)); then the
//! configuration, then the manifest under the tag: whoever sees the tag can pull everything.

use std::collections::{HashMap, HashSet};
use std::mem::replace;

use futures_util::{StreamExt, TryFutureExt, TryStreamExt, stream};
use rbuild_core::{Digest, Reporter, StepId};
use rbuild_image::{Compression, Descriptor, Document, Manifest, media};
use tokio::sync::Semaphore;

use super::send::Sender;
use crate::blocking::event_loop;
use crate::engine::{Engine, reference};
use crate::error::Error;

/// How many blobs are sent at once.
const AT_ONCE: usize = 4;

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
        Descriptor::new(media::OCI_MANIFEST, self.manifest, self.size)
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
        self.push_as(name, None, reporter).await
    }

    /// The same, with new layers compressed as `travels` says. Otherwise they are what they were the last time.
    pub(crate) async fn push_as(
        &self,
        name: &str,
        travels: Option<Compression>,
        reporter: &Reporter,
    ) -> Result<Pushed, Error> {
        event_loop().await;
        let _lease = self.store().lease("push")?;
        let target = reference(name)?;
        let image = self.image(name)?;
        let known = image.manifest.as_ref().filter(|_| travels.is_none());
        let known = known.filter(|manifest| self.store().content().contains(&manifest.digest));
        let known = known.map(|descriptor| Ok::<_, Error>((self.manifest(descriptor)?, descriptor))).transpose()?;
        let sender = Sender { engine: self, target: &target, compressor: &Semaphore::new(1), reporter };
        let mut firsts = HashSet::new();
        let layers = image.layers.iter().enumerate().filter(|(_, id)| firsts.insert(*id)).collect::<Vec<_>>();
        let jobs = layers.into_iter().map(|(index, id)| {
            let step = StepId(u32::try_from(index).unwrap_or(u32::MAX));
            let blob = known.as_ref().and_then(|(manifest, _)| manifest.layers.get(index));
            let compression = travels.or_else(|| blob.map(compression_of)).unwrap_or(Compression::GZIP);
            sender.send(id, blob, compression, step).map_ok(move |sent| (id, sent))
        });
        let mut done: HashMap<_, _> = stream::iter(jobs).buffered(AT_ONCE).try_collect().await?;
        // Of a layer that comes again nothing is sent again.
        let again = |(blob, how): &mut (Descriptor, PushedLayer)| (blob.clone(), replace(how, PushedLayer::Exists));
        let sent: Vec<_> = image.layers.iter().filter_map(|id| done.get_mut(id).map(again)).collect();
        let (manifest, descriptor) = match known {
            // What could not be had again may have become another blob.
            Some((manifest, descriptor)) if manifest.layers.iter().eq(sent.iter().map(|(blob, _)| blob)) => {
                (manifest, descriptor.clone())
            }
            _ => {
                let config = self.store().content().read_verified(&image.id)?;
                self.put_manifest(&config, sent.iter().map(|(blob, _)| blob.clone()).collect())?
            }
        };
        let quiet = Sender { reporter: &Reporter::silent(), ..sender };
        quiet.send_bytes(&manifest.config, StepId(u32::MAX)).await?;
        let bytes = self.store().content().read_verified(&descriptor.digest)?;
        self.registry().push_manifest(&target, &descriptor, bytes.into()).await?;
        if image.manifest.as_ref() != Some(&descriptor) {
            let image = rbuild_cache::Image { manifest: Some(descriptor.clone()), ..image };
            self.store().images().put(&image, &[])?;
        }
        let layers = sent.into_iter().map(|(blob, how)| (blob.digest, how)).collect();
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
}

/// How to make such a blob again.
fn compression_of(blob: &Descriptor) -> Compression {
    match blob.media_type.as_str() {
        media::OCI_LAYER_ZSTD => Compression::Zstd(3),
        media::OCI_LAYER | media::DOCKER_LAYER => Compression::None,
        _ => Compression::GZIP,
    }
}
