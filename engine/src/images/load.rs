//! How do whole images travel in one file?
//!
//! `save` writes what `docker save` writes today: an OCI image layout with Docker's `manifest.json` beside it. `load`
//! reads both kinds, compressed or not; in an archive without blobs by digest (older `docker save`) layers are plain
//! tars under any path.

mod archive;
mod layout;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use rbuild_core::{Digest, Platform, Reporter};
use rbuild_image::{Descriptor, Document, ImageConfig, Index, Manifest, Reference};
use serde::Deserialize;

use self::archive::Archive;
use crate::engine::{Engine, reference};
use crate::error::Error;
use crate::export::ArchiveKind;
use crate::export::archive::ArchiveWriter;
use crate::images::familiar;
use crate::request::ExportOptions;

/// How many indexes may lie in each other; others write at most two.
const DEEPEST_INDEX: usize = 3;

/// One entry of Docker's `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Engine {
    /// Writes images into one archive that `rbuild load`, `docker load` and `skopeo` read.
    ///
    /// # Errors
    /// If there is no such image, or `out` fails.
    pub async fn save(&self, names: &[String], out: &mut (dyn Write + Send)) -> Result<(), Error> {
        let _lease = self.store().lease("save")?;
        let mut images: BTreeMap<Digest, (rbuild_cache::Image, Vec<Reference>)> = BTreeMap::new();
        for name in names {
            let image = self.image(name)?;
            // An id is no reference.
            let given = match reference(name) {
                Ok(given) => self.store().images().resolve(&given.to_string())?.map(|named| (named.id, given)),
                Err(_) => None,
            };
            let named = given.filter(|(id, _)| *id == image.id).map(|(_, given)| given);
            images.entry(image.id).or_insert_with(|| (image, Vec::new())).1.extend(named);
        }
        let mut exportables = Vec::with_capacity(images.len());
        for (image, names) in images.into_values() {
            let options = ExportOptions::default();
            exportables.push(self.exportable(&image, names, &options, None, &Reporter::silent()).await?);
        }
        let mut archive = ArchiveWriter::new(out);
        self.write_images(&mut archive, &exportables, ArchiveKind::Docker)?;
        archive.finish().map(drop).map_err(|source| Error::Stream { action: "write the archive", source })
    }

    /// Reads images from an archive and returns their names, or ids where they have none.
    ///
    /// # Errors
    /// If it is no such archive, or something in it is not what its digest says.
    pub async fn load(&self, archive: &mut (dyn Read + Send)) -> Result<Vec<String>, Error> {
        let _lease = self.store().lease("load")?;
        let loaded = self.load_all(archive);
        if loaded.is_err() {
            self.clean_up_after_failure().await;
        }
        loaded
    }

    fn load_all(&self, archive: &mut (dyn Read + Send)) -> Result<Vec<String>, Error> {
        let archive = Archive::open(archive)?;
        if archive.contains("manifest.json") {
            let entries: Vec<DockerEntry> = archive.json("manifest.json")?;
            let mut loaded = Vec::new();
            for entry in &entries {
                loaded.extend(self.load_docker(&archive, entry)?);
            }
            return Ok(loaded);
        }
        if archive.contains("index.json") {
            let bytes = archive.read("index.json")?;
            return self.load_index(&archive, &bytes);
        }
        let missing = io::Error::new(io::ErrorKind::InvalidData, "it has neither `manifest.json` nor `index.json`");
        Err(Error::malformed("archive", "images", missing))
    }

    fn load_docker(&self, archive: &Archive, entry: &DockerEntry) -> Result<Vec<String>, Error> {
        let config_bytes = archive.read(&entry.config)?;
        let config = parse_config(&config_bytes)?;
        self.check_layers(&config, entry.layers.len(), &entry.config)?;
        let mut layers = Vec::new();
        for (diff_id, path) in config.rootfs.diff_ids.iter().zip(&entry.layers) {
            layers.push(self.adopt_layer(diff_id, || archive.open_entry(path))?.id);
        }
        let names = entry.repo_tags.iter().flatten().map(|tag| Ok(reference(tag)?.to_string()));
        self.store_loaded(&config_bytes, &config, layers, None, &names.collect::<Result<Vec<_>, Error>>()?)
    }

    /// Every image that an `index.json` lists.
    fn load_index(&self, archive: &Archive, bytes: &[u8]) -> Result<Vec<String>, Error> {
        let index = index_of(None, bytes)?;
        let mut loaded = Vec::new();
        for named in index.manifests.iter().filter(|entry| !is_attestation(entry)) {
            let names: Vec<_> = rbuild_image::layout::name_of(named).into_iter().collect();
            let (descriptor, bytes) = image_of(archive, named)?;
            let manifest = match Document::parse(Some(&descriptor.media_type), &bytes) {
                Ok(Document::Manifest(manifest)) => manifest,
                Ok(Document::Index(_)) => {
                    return Err(Error::Unsupported(format!("the index {} within others", descriptor.digest)));
                }
                Err(source) => return Err(Error::malformed("manifest", descriptor.digest, source)),
            };
            loaded.extend(self.load_manifest(archive, &descriptor, &bytes, &manifest, &names)?);
        }
        Ok(loaded)
    }

    fn load_manifest(
        &self,
        archive: &Archive,
        descriptor: &Descriptor,
        bytes: &[u8],
        manifest: &Manifest,
        names: &[Reference],
    ) -> Result<Vec<String>, Error> {
        let config_bytes = archive.blob(&manifest.config)?;
        let config = parse_config(&config_bytes)?;
        self.check_layers(&config, manifest.layers.len(), &descriptor.digest.to_string())?;
        let mut layers = Vec::new();
        for (diff_id, blob) in config.rootfs.diff_ids.iter().zip(&manifest.layers) {
            let path = rbuild_image::layout::blob_path(&blob.digest);
            let mut writer = self.store().content().writer()?;
            io::copy(&mut archive.open_entry(&path)?, &mut writer)
                .map_err(|source| Error::Stream { action: "store a blob", source })?;
            writer.commit(Some(blob))?;
            layers.push(self.adopt_blob(diff_id, blob)?.id);
        }
        self.store().content().put(&descriptor.media_type, bytes)?;
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let plain = Descriptor::new(descriptor.media_type.clone(), descriptor.digest, descriptor.size);
        self.store_loaded(&config_bytes, &config, layers, Some(plain), &names)
    }

    #[expect(clippy::unused_self, reason = "reads as the others do")]
    fn check_layers(&self, config: &ImageConfig, layers: usize, name: &str) -> Result<(), Error> {
        let diff_ids = config.rootfs.diff_ids.len();
        if diff_ids == layers {
            return Ok(());
        }
        Err(Error::LayerCount { name: name.to_owned(), layers, diff_ids })
    }

    fn store_loaded(
        &self,
        config_bytes: &[u8],
        config: &ImageConfig,
        layers: Vec<rbuild_cache::LayerId>,
        manifest: Option<Descriptor>,
        names: &[String],
    ) -> Result<Vec<String>, Error> {
        let descriptor = self.store().content().put(rbuild_image::media::OCI_CONFIG, config_bytes)?;
        let created = crate::time::parse(config.created.as_deref());
        let image = rbuild_cache::Image { id: descriptor.digest, layers, manifest, created, size: 0 };
        let short: Vec<&str> = names.iter().map(String::as_str).collect();
        self.store().images().put(&image, &short)?;
        if names.is_empty() {
            return Ok(vec![image.id.to_string()]);
        }
        Ok(names.iter().map(|name| familiar(name)).collect())
    }
}

fn parse_config(bytes: &[u8]) -> Result<ImageConfig, Error> {
    serde_json::from_slice(bytes).map_err(|source| Error::malformed("configuration", "the archive", source))
}

fn index_of(media_type: Option<&str>, bytes: &[u8]) -> Result<Index, Error> {
    match Document::parse(media_type, bytes) {
        Ok(Document::Index(index)) => Ok(index),
        Ok(Document::Manifest(_)) => Err(Error::Unsupported("an archive whose index is a manifest".to_owned())),
        Err(source) => Err(Error::malformed("index", "the archive", source)),
    }
}

/// The image that an entry means on this machine: of an index for several platforms, the one that runs here or, if
/// none does, the first.
fn image_of(archive: &Archive, entry: &Descriptor) -> Result<(Descriptor, Vec<u8>), Error> {
    let mut descriptor = entry.clone();
    for _ in 0..DEEPEST_INDEX {
        let bytes = archive.blob(&descriptor)?;
        if !rbuild_image::media::is_index(&descriptor.media_type) {
            return Ok((descriptor, bytes));
        }
        let index = index_of(Some(&descriptor.media_type), &bytes)?;
        let first = || index.manifests.iter().find(|entry| !is_attestation(entry));
        let chosen = index.select(&Platform::host()).or_else(first).cloned();
        let empty = || io::Error::new(io::ErrorKind::InvalidData, "it names no image");
        descriptor = chosen.ok_or_else(|| Error::malformed("index", descriptor.digest, empty()))?;
    }
    let bytes = archive.blob(&descriptor)?;
    Ok((descriptor, bytes))
}

/// Whether an entry says something about an image instead of being one.
fn is_attestation(entry: &Descriptor) -> bool {
    entry.annotations.contains_key("vnd.docker.reference.type")
        || entry.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
}
