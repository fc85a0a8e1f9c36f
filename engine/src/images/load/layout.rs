//! How does an image in an OCI image layout become a base image?
//!
//! It is loaded into the store as from an archive, but without a name: the directory's tags say nothing about names
//! here. An image that is there already is not read again.

use rbuild_cache::{Form, Image};
use rbuild_core::{Digest, Platform};
use rbuild_image::layout::{IMAGE_NAME, INDEX, REF_NAME, name_of};
use rbuild_image::{Descriptor, Document, ImageConfig, Index, Manifest};

use super::archive::Archive;
use super::{DEEPEST_INDEX, index_of, is_attestation, parse_config};
use crate::blocking::blocking;
use crate::context::{ContextError, Layout};
use crate::engine::Engine;
use crate::error::Error;

/// The tag that is meant if none is given.
const LATEST: &str = "latest";

impl Engine {
    /// Finds the image that `layout` names for a platform, and brings it into the store.
    pub(crate) async fn obtain_from_layout(
        &self,
        layout: &Layout,
        platform: &Platform,
    ) -> Result<(Image, ImageConfig), Error> {
        let (engine, layout, platform) = (self.clone(), layout.clone(), platform.clone());
        blocking(move || engine.load_layout(&layout, &platform)).await
    }

    fn load_layout(&self, layout: &Layout, platform: &Platform) -> Result<(Image, ImageConfig), Error> {
        let name = format!("oci-layout://{}", layout.path.display());
        let archive = Archive::directory(&layout.path)?;
        let index = index_of(None, &archive.read(INDEX)?)?;
        let entry = entry(layout, &index, platform)?;
        let (descriptor, bytes, manifest) = manifest(&archive, entry, platform, &name)?;
        let config = parse_config(&archive.blob(&manifest.config)?)?;
        let found = config.platform();
        if !rbuild_image::manifest::runs_on(&found, platform) {
            return Err(Error::Platform { name, found: found.to_string(), wanted: platform.to_string() });
        }
        let id = manifest.config.digest;
        if let Some(image) = self.complete(&id)? {
            return Ok((image, config));
        }
        self.load_manifest(&archive, &descriptor, &bytes, &manifest, &[])?;
        let image = self.store().images().find(&id)?.ok_or_else(|| Error::NoSuchImage(id.to_string()))?;
        Ok((image, config))
    }

    /// An image of the store whose layers are all here.
    fn complete(&self, id: &Digest) -> Result<Option<Image>, Error> {
        let Some(image) = self.store().images().find(id)? else { return Ok(None) };
        for layer in &image.layers {
            let layer = self.store().layers().find(layer)?;
            if layer.is_none_or(|layer| layer.form == Form::Remote) {
                return Ok(None);
            }
        }
        Ok(Some(image))
    }
}

/// The entry of the index that a layout's user means: by digest, by tag, or the only one if it has no name.
fn entry(layout: &Layout, index: &Index, platform: &Platform) -> Result<Descriptor, Error> {
    let images = || index.manifests.iter().filter(|entry| !is_attestation(entry));
    if let Some(digest) = &layout.digest {
        let wanted: Digest = digest.parse().map_err(|source| Error::malformed("digest", digest, source))?;
        let listed = images().find(|entry| entry.digest == wanted).cloned();
        // It may be one that only an index in the index lists: its size and kind are then known when it is read.
        return Ok(listed.unwrap_or_else(|| Descriptor::new("", wanted, 0)));
    }
    let tag = layout.tag.as_deref().unwrap_or(LATEST);
    let mut tagged: Vec<_> = images().filter(|entry| is_called(entry, tag)).cloned().collect();
    if tagged.is_empty() {
        let all: Vec<_> = images().collect();
        match all.as_slice() {
            [only] if layout.tag.is_none() || names(only).is_empty() => tagged.push((*only).clone()),
            _ => {
                let known = all.iter().flat_map(|entry| names(entry)).map(str::to_owned).collect();
                let wanted = format!("the image `{tag}`");
                return Err(ContextError::Layout { path: layout.path.clone(), wanted, known }.into());
            }
        }
    }
    // Some tools list an image for several platforms under one name.
    let first = tagged.first().cloned();
    let chosen = Index { manifests: tagged, ..index.clone() }.select(platform).cloned();
    let nothing =
        || ContextError::Layout { path: layout.path.clone(), wanted: "an image".to_owned(), known: Vec::new() };
    chosen.or(first).ok_or_else(|| nothing().into())
}

fn names(entry: &Descriptor) -> Vec<&str> {
    [REF_NAME, IMAGE_NAME].iter().filter_map(|key| entry.annotations.get(*key)).map(String::as_str).collect()
}

fn is_called(entry: &Descriptor, tag: &str) -> bool {
    names(entry).contains(&tag) || name_of(entry).is_some_and(|name| name.tag() == Some(tag))
}

/// The manifest behind an entry: of an index, that of the platform.
fn manifest(
    archive: &Archive,
    mut descriptor: Descriptor,
    platform: &Platform,
    name: &str,
) -> Result<(Descriptor, Vec<u8>, Manifest), Error> {
    for _ in 0..=DEEPEST_INDEX {
        let bytes = archive.blob(&descriptor)?;
        let media_type = Some(descriptor.media_type.as_str()).filter(|kind| !kind.is_empty());
        let document = Document::parse(media_type, &bytes)
            .map_err(|source| Error::malformed("manifest", descriptor.digest, source))?;
        match document {
            Document::Manifest(manifest) => {
                let stated = [&manifest.media_type, &descriptor.media_type].into_iter().find(|kind| !kind.is_empty());
                let media_type = stated.map_or(rbuild_image::media::OCI_MANIFEST, String::as_str);
                let descriptor = Descriptor::new(media_type, descriptor.digest, bytes.len() as u64);
                return Ok((descriptor, bytes, manifest));
            }
            Document::Index(index) => {
                let found = || index.platforms().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                descriptor = index.select(platform).cloned().ok_or_else(|| Error::Platform {
                    name: name.to_owned(),
                    found: found(),
                    wanted: platform.to_string(),
                })?;
            }
        }
    }
    Err(Error::Unsupported(format!("the index {} within others", descriptor.digest)))
}
