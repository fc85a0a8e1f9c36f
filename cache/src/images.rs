//! Which images are there, and under which names?
//!
//! An image is its configuration's digest and its layers. Names are any texts; the caller gives them in normal form.
//! An image and its names change together, in one transaction, and only if its layers exist.
//!
//! Remote names are remembered apart: which image a registry's tag meant when it was last asked.

mod index;

use rbuild_core::Digest;
use rbuild_image::Descriptor;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::layers::{LAYERS, LayerId};
use crate::meta::{Reader, Table, Writer};
use crate::prune::condemned;
use crate::store::{self, Store};

pub(crate) const IMAGES: Table<Image> = Table::new(b'i', "image");
pub(crate) const NAMES: Table<Digest> = Table::new(b'n', "image name");
pub(crate) const REMOTES: Table<RemoteName> = Table::new(b'm', "remote name");

/// A runnable image.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Image {
    /// The image ID: sha256 of the configuration, which is a blob in [`Store::content`].
    pub id: Digest,
    /// Its root file system, lowest layer first.
    pub layers: Vec<LayerId>,
    /// The manifest it came with or was pushed as, if there is one yet.
    pub manifest: Option<Descriptor>,
    /// Seconds since 1970, as its configuration says.
    pub created: u64,
    /// Bytes of its layers, as far as they are known.
    pub size: u64,
}

/// What a name at a registry meant.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RemoteName {
    /// The image for the platform that was asked for.
    pub image: Digest,
    /// The manifest of that image.
    pub manifest: Digest,
    /// When the registry said so, in seconds since 1970.
    pub resolved: u64,
}

/// Why there is no answer about an image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The metadata cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No image has this id.
    #[error("there is no image `{0}`")]
    NotFound(String),
    /// Several images have ids that begin like this.
    #[error("`{prefix}` is the beginning of {count} image ids")]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// How many match.
        count: usize,
    },
    /// An image was to be stored whose layers are not known.
    #[error("layer `{layer}` of image `{image}` is not in the store")]
    LayerMissing {
        /// The image.
        image: Digest,
        /// The first such layer.
        layer: LayerId,
    },
}

impl ImageError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::NotFound(_) => Some("`rbuild images` lists what is there".into()),
            Self::Ambiguous { .. } => Some("give more digits".into()),
            Self::LayerMissing { .. } => Some("something was pruned meanwhile: build or pull again".into()),
        }
    }
}

type Result<T, E = ImageError> = std::result::Result<T, E>;

/// The images of a [`Store`].
#[derive(Clone, Copy, Debug)]
pub struct Images<'a>(pub(crate) &'a Store);

impl Images<'_> {
    /// Stores `image` and points `names` to it, all or nothing. Names that pointed elsewhere move.
    ///
    /// # Errors
    /// `LayerMissing`, or the metadata cannot be written.
    pub fn put(&self, image: &Image, names: &[&str]) -> Result<()> {
        // A build that changed nothing should not wait for the disk.
        let is_there = self.0.0.meta.read(|reader| {
            let same = find(reader, &image.id)?.filter(|(known, _)| known == image);
            let named = |name: &&str| Ok::<_, StoreError>(reader.find(&NAMES, name.as_bytes())? == Some(image.id));
            let Some((_, last)) = same else { return Ok(false) };
            self.0.note_use(b'i', image.id.as_bytes(), last);
            Ok::<_, ImageError>(names.iter().map(named).collect::<Result<Vec<_>, _>>()?.iter().all(|named| *named))
        })?;
        if is_there {
            return Ok(());
        }
        self.0.0.meta.write(|writer| {
            for layer in &image.layers {
                if !writer.reader().contains(&LAYERS, layer.as_bytes())? {
                    return Err(ImageError::LayerMissing { image: image.id, layer: layer.clone() });
                }
                condemned::spare_layer(writer, layer)?;
            }
            let blobs = image.manifest.iter().map(|manifest| &manifest.digest).chain([&image.id]);
            blobs.into_iter().try_for_each(|blob| condemned::spare_blob(writer, blob))?;
            let known = writer.find(&IMAGES, image.id.as_bytes())?.and_then(|known| known.manifest);
            // Somebody may just have pushed it.
            let manifest = image.manifest.clone().or(known);
            writer.put(&IMAGES, image.id.as_bytes(), &Image { manifest, ..image.clone() })?;
            writer.put(&store::USED, &store::used_key(b'i', image.id.as_bytes()), &store::now())?;
            for name in names {
                writer.put(&NAMES, name.as_bytes(), &image.id)?;
            }
            Ok(self.list_for_others(writer)?)
        })
    }

    /// Points `name` to a stored image.
    ///
    /// # Errors
    /// `NotFound`, or the metadata cannot be written.
    pub fn tag(&self, name: &str, id: &Digest) -> Result<()> {
        self.0.0.meta.write(|writer| {
            if !writer.reader().contains(&IMAGES, id.as_bytes())? {
                return Err(ImageError::NotFound(id.to_string()));
            }
            writer.put(&NAMES, name.as_bytes(), id)?;
            Ok(self.list_for_others(writer)?)
        })
    }

    /// The image with exactly this id.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub fn find(&self, id: &Digest) -> Result<Option<Image>> {
        let found = self.0.0.meta.read(|reader| find(reader, id))?;
        Ok(found.map(|(image, last)| self.used(image, last)))
    }

    /// The image called `text`, or whose id is or begins with `text` (`sha256:` may be left out).
    ///
    /// # Errors
    /// `Ambiguous`, or the metadata cannot be read.
    pub fn resolve(&self, text: &str) -> Result<Option<Image>> {
        let found = self.0.0.meta.read(|reader| {
            if let Some(id) = reader.find(&NAMES, text.as_bytes())? {
                return Ok(find(reader, &id)?);
            }
            let Some((prefix, half)) = id_prefix(text) else { return Ok(None) };
            let mut matching: Vec<_> = reader.list(&IMAGES, &prefix)?;
            matching
                .retain(|(id, _)| half.is_none_or(|half| id.get(prefix.len()).is_some_and(|byte| byte >> 4 == half)));
            match matching.len() {
                0 => Ok(None),
                1 => Ok(find(reader, &matching[0].1.id)?),
                count => Err(ImageError::Ambiguous { prefix: text.to_owned(), count }),
            }
        })?;
        Ok(found.map(|(image, last)| self.used(image, last)))
    }

    /// Removes the name of an image, not the image. Whether it was its name.
    ///
    /// # Errors
    /// The metadata cannot be written.
    pub fn untag(&self, name: &str, id: &Digest) -> Result<bool> {
        self.0.0.meta.write(|writer| {
            if writer.find(&NAMES, name.as_bytes())?.as_ref() != Some(id) {
                return Ok(false);
            }
            writer.delete(&NAMES, name.as_bytes())?;
            self.list_for_others(writer)?;
            Ok(true)
        })
    }

    /// Removes an image and its names, if these are all it has; whether they are. Its layers and blobs stay until
    /// pruned.
    ///
    /// # Errors
    /// `NotFound`, or the metadata cannot be written.
    pub fn remove(&self, id: &Digest, names: &[String]) -> Result<bool> {
        self.0.0.meta.write(|writer| {
            if names_of(&writer.reader(), id)? != names {
                return Ok(false);
            }
            if !remove(writer, id, names)? {
                return Err(ImageError::NotFound(id.to_string()));
            }
            self.list_for_others(writer)?;
            Ok(true)
        })
    }

    /// All images with their names, newest first.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub fn list(&self) -> Result<Vec<ListedImage>> {
        let mut images = self.0.0.meta.read(|reader| {
            let names = reader.list(&NAMES, b"")?;
            let images = reader.list(&IMAGES, b"")?;
            images
                .into_iter()
                .map(|(key, image)| {
                    let last_used = reader.find(&store::USED, &store::used_key(b'i', &key))?.unwrap_or(image.created);
                    let names = names.iter().filter(|(_, id)| *id == image.id).map(|(name, _)| text(name)).collect();
                    Ok::<_, ImageError>(ListedImage { image, names, last_used })
                })
                .collect::<Result<Vec<_>>>()
        })?;
        images.sort_by_key(|listed| std::cmp::Reverse(listed.image.created));
        Ok(images)
    }

    /// Remembers what a registry answered.
    ///
    /// # Errors
    /// The metadata cannot be written.
    pub fn remember_remote(&self, name: &str, remote: &RemoteName) -> Result<()> {
        self.0.0.meta.write(|writer| Ok(writer.put(&REMOTES, name.as_bytes(), remote)?))
    }

    /// What a registry answered last, if that image is still here. The name should include the platform if several
    /// are used.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub fn remote(&self, name: &str) -> Result<Option<RemoteName>> {
        self.0.0.meta.read(|reader| {
            let Some(remote) = reader.find(&REMOTES, name.as_bytes())? else { return Ok(None) };
            Ok(reader.contains(&IMAGES, remote.image.as_bytes())?.then_some(remote))
        })
    }

    /// Keeps `index.json` true, if there is anything it could list.
    pub(crate) fn list_for_others(&self, writer: &Writer<'_>) -> Result<(), StoreError> {
        let reader = writer.reader();
        let any = reader.list(&IMAGES, b"")?.iter().any(|(_, image)| image.manifest.is_some());
        if any || self.0.root().join(rbuild_image::layout::INDEX).exists() {
            index::write(self.0, &reader)?;
        }
        Ok(())
    }

    fn used(&self, image: Image, last: Option<u64>) -> Image {
        self.0.note_use(b'i', image.id.as_bytes(), last);
        image
    }
}

/// An image as [`Images::list`] shows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListedImage {
    /// The image.
    pub image: Image,
    /// What it is called, in alphabetical order; empty for a dangling image.
    pub names: Vec<String>,
    /// Seconds since 1970, to the hour.
    pub last_used: u64,
}

fn find(reader: &Reader<'_>, id: &Digest) -> Result<Option<(Image, Option<u64>)>, StoreError> {
    let Some(image) = reader.find(&IMAGES, id.as_bytes())? else { return Ok(None) };
    Ok(Some((image, reader.find(&store::USED, &store::used_key(b'i', id.as_bytes()))?)))
}

pub(crate) fn names_of(reader: &Reader<'_>, id: &Digest) -> Result<Vec<String>, StoreError> {
    let names = reader.list(&NAMES, b"")?;
    Ok(names.into_iter().filter(|(_, of)| of == id).map(|(name, _)| text(&name)).collect())
}

pub(crate) fn remove(writer: &mut Writer<'_>, id: &Digest, names: &[String]) -> Result<bool, StoreError> {
    for name in names {
        writer.delete(&NAMES, name.as_bytes())?;
    }
    writer.delete(&store::USED, &store::used_key(b'i', id.as_bytes()))?;
    writer.delete(&IMAGES, id.as_bytes())
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// The whole bytes of a hexadecimal prefix, and its last digit if their number is odd.
fn id_prefix(text: &str) -> Option<(Vec<u8>, Option<u8>)> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    if digits.is_empty() || digits.len() > 64 {
        return None;
    }
    let nibbles = digits.chars().map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok()));
    let nibbles = nibbles.collect::<Option<Vec<u8>>>()?;
    let pairs = nibbles.chunks_exact(2);
    let half = pairs.remainder().first().copied();
    Some((pairs.map(|pair| pair[0] << 4 | pair[1]).collect(), half))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(first: u8, created: u64) -> Image {
        let mut id = [7; 32];
        id[0] = first;
        Image { id: Digest::sha256(id), layers: Vec::new(), manifest: None, created, size: 0 }
    }

    #[test]
    fn images_resolve_by_name_and_by_unique_id_prefix() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let images = store.images();
        images.put(&image(0xa1, 1), &["one", "uno"]).unwrap();
        images.put(&image(0xa2, 2), &["abc"]).unwrap();
        images.put(&image(0xb1, 3), &[]).unwrap();
        for (text, expected) in [
            ("one", Some(0xa1)),
            ("a1", Some(0xa1)),
            ("sha256:a2", Some(0xa2)),
            ("abc", Some(0xa2)),
            ("b", Some(0xb1)),
            ("c", None),
            ("two", None),
            ("", None),
        ] {
            let found = images.resolve(text).unwrap().map(|image| image.id.as_bytes()[0]);
            assert_eq!(found, expected, "{text}");
        }
        assert!(matches!(images.resolve("a"), Err(ImageError::Ambiguous { count: 2, .. })));
        let whole = image(0xb1, 3).id.to_string();
        assert_eq!(images.resolve(&whole).unwrap().unwrap().created, 3);
    }

    #[test]
    fn names_move_and_go_with_their_image() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let images = store.images();
        let (old, new) = (image(1, 1), image(2, 2));
        images.put(&old, &["app:latest"]).unwrap();
        images.put(&new, &["app:latest"]).unwrap();
        images.tag("app:2", &new.id).unwrap();
        let listed = images.list().unwrap();
        assert_eq!(listed[0].names, ["app:2", "app:latest"]);
        assert_eq!(listed[1].names, [""; 0]);
        assert!(images.untag("app:2", &new.id).unwrap());
        assert!(!images.untag("app:2", &new.id).unwrap());
        assert!(!images.untag("app:latest", &old.id).unwrap(), "it is another one's name");
        assert!(!images.remove(&new.id, &[]).unwrap(), "it got a name meanwhile");
        assert!(images.remove(&new.id, &["app:latest".to_owned()]).unwrap());
        assert_eq!(images.resolve("app:latest").unwrap(), None);
        assert!(matches!(images.remove(&new.id, &[]), Err(ImageError::NotFound(_))));
        assert!(matches!(images.tag("x", &new.id), Err(ImageError::NotFound(_))));
    }

    #[test]
    fn an_image_without_its_layers_is_refused_whole() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let mut broken = image(1, 1);
        broken.layers.push("gone".parse().unwrap());
        let error = store.images().put(&broken, &["name"]).unwrap_err();
        assert!(matches!(error, ImageError::LayerMissing { .. }));
        assert_eq!(store.images().resolve("name").unwrap(), None);
    }

    #[test]
    fn a_remote_name_is_remembered_as_long_as_its_image() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let images = store.images();
        let image = image(1, 1);
        images.put(&image, &[]).unwrap();
        let remote = RemoteName { image: image.id, manifest: Digest::sha256([9; 32]), resolved: 5 };
        images.remember_remote("docker.io/library/debian:12", &remote).unwrap();
        assert_eq!(images.remote("docker.io/library/debian:12").unwrap(), Some(remote));
        assert!(images.remove(&image.id, &[]).unwrap());
        assert_eq!(images.remote("docker.io/library/debian:12").unwrap(), None);
    }

    #[test]
    fn other_tools_see_the_images_whose_blobs_are_there() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let (images, content) = (store.images(), store.content());
        let listed = || -> Vec<String> {
            let bytes = std::fs::read(root.path().join("index.json")).unwrap();
            let index: rbuild_image::Index = serde_json::from_slice(&bytes).unwrap();
            index.manifests.iter().map(|one| one.annotations["org.opencontainers.image.ref.name"].clone()).collect()
        };
        let config = content.put(rbuild_image::media::OCI_CONFIG, b"{}").unwrap();
        let layer = Descriptor::of(rbuild_image::media::OCI_LAYER, b"layer");
        let manifest = rbuild_image::Manifest::new(rbuild_image::Family::Oci, config.clone(), vec![layer.clone()]);
        let (bytes, manifest) = manifest.to_bytes();
        content.put(&manifest.media_type, &bytes).unwrap();
        let built = Image { id: config.digest, layers: Vec::new(), manifest: None, created: 1, size: 0 };
        images.put(&built, &["docker.io/library/app:1"]).unwrap();
        assert!(!root.path().join("index.json").exists());
        let pushed = Image { manifest: Some(manifest), ..built };
        images.put(&pushed, &[]).unwrap();
        assert_eq!(listed(), [""; 0], "a layer's blob is missing");
        content.put(&layer.media_type, b"layer").unwrap();
        images.tag("docker.io/library/app:2", &pushed.id).unwrap();
        assert_eq!(listed(), ["docker.io/library/app:1", "docker.io/library/app:2"]);
        images.untag("docker.io/library/app:1", &pushed.id).unwrap();
        assert!(images.remove(&pushed.id, &["docker.io/library/app:2".to_owned()]).unwrap());
        assert_eq!(listed(), [""; 0]);
    }
}
