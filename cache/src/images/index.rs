//! Which of the store's images can other tools read, straight from its directory?
//!
//! The store is an OCI image layout: `skopeo copy oci:STORE:NAME …`. `index.json` lists, by their names, the images
//! whose manifest and blobs are all there; a layer that was only ever mounted has no blob. The file is written inside
//! the transaction that changed something, so its writers take turns.

use rbuild_core::Digest;
use rbuild_image::layout::{IMAGE_NAME, INDEX, REF_NAME};
use rbuild_image::{Descriptor, Document, Family, Index};

use super::{IMAGES, NAMES};
use crate::error::StoreError;
use crate::meta::Reader;
use crate::store::Store;

/// Brings `index.json` up to date with what `reader` sees.
pub(super) fn write(store: &Store, reader: &Reader<'_>) -> Result<(), StoreError> {
    let mut manifests = Vec::new();
    for (name, id) in reader.list(&NAMES, b"")? {
        let image = reader.find(&IMAGES, id.as_bytes())?;
        if let Some(mut manifest) = image.and_then(|image| image.manifest)
            && is_whole(store, &manifest)?
        {
            let name = String::from_utf8_lossy(&name).into_owned();
            manifest.annotations.insert(REF_NAME.into(), name.clone());
            manifest.annotations.insert(IMAGE_NAME.into(), name);
            manifests.push(manifest);
        }
    }
    let (bytes, _) = Index::new(Family::Oci, manifests).to_bytes();
    store.0.aside.write_file(&store.root().join(INDEX), &bytes)
}

/// Whether the manifest and everything it names are in the store.
fn is_whole(store: &Store, manifest: &Descriptor) -> Result<bool, StoreError> {
    let content = store.content();
    let Some(bytes) = content.peek(&manifest.digest)? else { return Ok(false) };
    let Ok(Document::Manifest(parsed)) = Document::parse(Some(&manifest.media_type), &bytes) else { return Ok(false) };
    let mut blobs = parsed.layers.iter().chain([&parsed.config]).map(|blob: &Descriptor| -> &Digest { &blob.digest });
    Ok(blobs.all(|digest| content.is_there(digest)))
}
