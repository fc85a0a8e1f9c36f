//! How do whole images travel in one file?
//!
//! `save` writes what `docker save` writes today: an OCI image layout with Docker's `manifest.json` beside it. `load`
//! reads both kinds, compressed or not; in an archive without blobs by digest (older `docker save`) layers are plain
//! tars under any path.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path};

use rbuild_core::{Digest, Reporter};
use rbuild_image::{Descriptor, Document, ImageConfig, Manifest, Reference};
use serde::Deserialize;

use crate::engine::{Engine, reference};
use crate::error::Error;
use crate::export::ArchiveKind;
use crate::export::archive::ArchiveWriter;
use crate::images::familiar;
use crate::request::ExportOptions;

/// The most that an index or a manifest in an archive may have.
const LARGEST_JSON: u64 = 8 << 20;

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
            let reference = reference(name)?;
            let named = self.store().images().resolve(&reference.to_string())?.is_some_and(|of| of.id == image.id);
            let entry = images.entry(image.id).or_insert_with(|| (image, Vec::new()));
            entry.1.extend(named.then_some(reference));
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
        let archive = Archive::open(archive)?;
        if archive.entries.contains_key("manifest.json") {
            let entries: Vec<DockerEntry> = archive.json("manifest.json")?;
            let mut loaded = Vec::new();
            for entry in &entries {
                loaded.extend(self.load_docker(&archive, entry)?);
            }
            return Ok(loaded);
        }
        if archive.entries.contains_key("index.json") {
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
            layers.push(self.adopt_layer(diff_id, archive.open_entry(path)?)?.id);
        }
        let names = entry.repo_tags.iter().flatten().map(|tag| Ok(reference(tag)?.to_string()));
        self.store_loaded(&config_bytes, &config, layers, None, &names.collect::<Result<Vec<_>, Error>>()?)
    }

    fn load_index(&self, archive: &Archive, bytes: &[u8]) -> Result<Vec<String>, Error> {
        let parsed = Document::parse(None, bytes).map_err(|source| Error::malformed("index", "the archive", source))?;
        let Document::Index(index) = parsed else {
            return Err(Error::Unsupported("an archive whose index is a manifest".to_owned()));
        };
        let mut loaded = Vec::new();
        for descriptor in &index.manifests {
            let bytes = archive.read(&rbuild_image::layout::blob_path(&descriptor.digest))?;
            match Document::parse(Some(&descriptor.media_type), &bytes) {
                Ok(Document::Manifest(manifest)) => {
                    let names: Vec<_> = rbuild_image::layout::name_of(descriptor).into_iter().collect();
                    loaded.extend(self.load_manifest(archive, descriptor, &bytes, &manifest, &names)?);
                }
                Ok(Document::Index(_)) => loaded.extend(self.load_index(archive, &bytes)?),
                Err(source) => return Err(Error::malformed("manifest", descriptor.digest, source)),
            }
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
        let config_bytes = archive.read(&rbuild_image::layout::blob_path(&manifest.config.digest))?;
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

fn decompressed(file: impl Read + Send) -> Result<impl Read + Send, Error> {
    rbuild_image::archive::decompress(file).map_err(|source| Error::Stream { action: "read the archive", source })
}

/// A plain tar in a file without a name, and where each entry's content lies in it.
#[derive(Debug)]
struct Archive {
    file: File,
    entries: BTreeMap<String, (u64, u64)>,
}

impl Archive {
    fn open(archive: &mut (dyn Read + Send)) -> Result<Self, Error> {
        let failed = |source| Error::Stream { action: "read the archive", source };
        let mut plain = decompressed(archive)?;
        let mut file = tempfile::tempfile().map_err(failed)?;
        io::copy(&mut plain, &mut file).map_err(failed)?;
        file.rewind().map_err(failed)?;
        let mut entries = BTreeMap::new();
        let mut links = Vec::new();
        let mut tar = tar::Archive::new(&file);
        for entry in tar.entries_with_seek().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Some(name) = clean(&entry.path().map_err(failed)?) else { continue };
            match entry.header().entry_type() {
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    entries.insert(name, (entry.raw_file_position(), entry.size()));
                }
                // Older archives of Docker name a layer they have already by a link.
                tar::EntryType::Symlink | tar::EntryType::Link => {
                    let target = entry.link_name().map_err(failed)?.unwrap_or_default();
                    let base = if entry.header().entry_type() == tar::EntryType::Symlink {
                        Path::new(&name).parent().unwrap_or(Path::new("")).join(target)
                    } else {
                        target.into_owned()
                    };
                    links.push((name, base));
                }
                _ => {}
            }
        }
        for (name, target) in links {
            if let Some(place) = clean(&target).and_then(|target| entries.get(&target).copied()) {
                entries.insert(name, place);
            }
        }
        Ok(Self { file, entries })
    }

    fn open_entry(&self, name: &str) -> Result<impl Read + Send + use<>, Error> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("there is no `{name}` in it"));
        let key = clean(Path::new(name)).unwrap_or_default();
        let (start, size) = *self.entries.get(&key).ok_or_else(|| Error::malformed("archive", "images", missing()))?;
        let failed = |source| Error::Stream { action: "read the archive", source };
        let mut file = self.file.try_clone().map_err(failed)?;
        file.seek(SeekFrom::Start(start)).map_err(failed)?;
        Ok(io::BufReader::with_capacity(1 << 18, file).take(size))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let entry = self.open_entry(name)?;
        let failed = |source| Error::Stream { action: "read the archive", source };
        entry.take(LARGEST_JSON).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, Error> {
        serde_json::from_slice(&self.read(name)?).map_err(|source| Error::malformed("archive", name, source))
    }
}

/// A path inside an archive without `.`; `None` if it leads anywhere else.
fn clean(path: &Path) -> Option<String> {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str()?.to_owned()),
            Component::CurDir => {}
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}
