//! Which images are there, and what do they say about themselves?

mod adopt;
pub(crate) mod blobs;
mod growing;
mod import;
mod inspect;
mod load;
pub(crate) mod pull;
mod push;
mod send;

pub use self::pull::Pulled;
pub use self::push::{Pushed, PushedLayer};
use rbuild_cache::{Image, LayerId};
use rbuild_core::Digest;
use rbuild_image::{ImageConfig, Reference};

use crate::engine::{Engine, reference};
use crate::error::Error;

/// One line of `rbuild images`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ImageSummary {
    /// The image ID.
    pub id: Digest,
    /// All names, in their short form, tag included; empty for an image that lost its names.
    pub names: Vec<String>,
    /// RFC 3339 time of creation, as the configuration says.
    pub created: Option<String>,
    /// Bytes of all layers, uncompressed as far as known.
    pub size: u64,
    /// Digest of the manifest it was pulled or pushed as.
    pub manifest: Option<Digest>,
}

/// One line of `rbuild history`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct HistoryRow {
    /// RFC 3339 time.
    pub created: Option<String>,
    /// The instruction.
    pub created_by: String,
    /// Bytes of its layer.
    pub size: u64,
    /// Free text.
    pub comment: String,
    /// Whether it made no layer.
    pub empty: bool,
}

/// One line of `rbuild rmi`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Removal {
    /// A name is gone.
    Untagged(String),
    /// An image is gone; its layers go with the next prune.
    Deleted(Digest),
}

impl Engine {
    /// Deletes what a transfer left that failed: on a full disk it may be all that stands between the user and the next try.
    pub(crate) async fn clean_up_after_failure(&self) {
        let store = self.store().clone();
        if let Err(error) = crate::blocking::blocking(move || store.reap()).await {
            tracing::debug!(%error, "cleaning up failed");
        }
    }

    /// All images, newest first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn images(&self) -> Result<Vec<ImageSummary>, Error> {
        let listed = self.store().images().list()?;
        listed
            .into_iter()
            .map(|listed| {
                // One damaged image must not hide the others.
                let config = self.image_config(&listed.image).inspect_err(|error| tracing::warn!(%error, "image"));
                Ok(ImageSummary {
                    id: listed.image.id,
                    names: listed.names.iter().map(|name| familiar(name)).collect(),
                    created: config.ok().and_then(|config| config.created),
                    size: self.image_size(&listed.image)?,
                    manifest: listed.image.manifest.map(|manifest| manifest.digest),
                })
            })
            .collect()
    }

    /// Gives an image another name; one that it was another image's name moves.
    ///
    /// # Errors
    /// If there is no such image, or the name is malformed.
    pub fn tag(&self, source: &str, target: &str) -> Result<(), Error> {
        let image = self.image(source)?;
        let target = reference(target)?;
        Ok(self.store().images().tag(&target.to_string(), &image.id)?)
    }

    /// Removes a name, and the image with its last name.
    ///
    /// # Errors
    /// If there is no such image; without `force`, if a container was made from it, or if it is given by id and has
    /// several names.
    pub fn remove_image(&self, name: &str, force: bool) -> Result<Vec<Removal>, Error> {
        loop {
            // Again if the image's names changed between looking and removing.
            if let Some(removals) = self.try_remove_image(name, force)? {
                return Ok(removals);
            }
        }
    }

    fn try_remove_image(&self, name: &str, force: bool) -> Result<Option<Vec<Removal>>, Error> {
        let image = self.image(name)?;
        let images = self.store().images();
        let names = images
            .list()?
            .into_iter()
            .find(|listed| listed.image.id == image.id)
            .map(|listed| listed.names)
            .unwrap_or_default();
        let given = reference(name).map(|given| given.to_string()).ok().filter(|given| names.contains(given));
        let in_use = |reason: String| Error::ImageInUse { image: name.to_owned(), reason };
        let last = given.is_none() || names.len() == 1;
        if last && !force {
            let (containers, _) = self.store().containers().list()?;
            if let Some(container) = containers.iter().find(|container| container.image == Some(image.id)) {
                return Err(in_use(format!("container `{}` was made from it", container.name)));
            }
        }
        match given {
            Some(given) if !last => {
                let done = images.untag(&given, &image.id)?;
                Ok(done.then(|| vec![Removal::Untagged(familiar(&given))]))
            }
            None if names.len() > 1 && !force => Err(in_use(format!("it has {} names", names.len()))),
            _ => {
                let done = images.remove(&image.id, &names)?;
                let untagged = names.iter().map(|name| Removal::Untagged(familiar(name)));
                Ok(done.then(|| untagged.chain([Removal::Deleted(image.id)]).collect()))
            }
        }
    }

    /// What to say of a layer that is not there any more.
    pub(crate) fn vanished(&self, id: &LayerId) -> Error {
        let listed = self.store().images().list().unwrap_or_default();
        let mut names =
            listed.iter().filter(|listed| listed.image.layers.contains(id)).flat_map(|listed| &listed.names);
        Error::LayerVanished { id: id.clone(), image: names.next().map(|name| familiar(name)) }
    }

    /// How an image came about, newest first.
    ///
    /// # Errors
    /// If there is no such image.
    pub fn history(&self, name: &str) -> Result<Vec<HistoryRow>, Error> {
        let image = self.image(name)?;
        let config = self.image_config(&image)?;
        let mut layers = image.layers.iter();
        let mut rows = Vec::with_capacity(config.history.len());
        for entry in &config.history {
            let layer = if entry.empty_layer { None } else { layers.next() };
            let size = match layer {
                Some(layer) => self.store().layers().find(layer)?.and_then(|layer| layer.size).unwrap_or(0),
                None => 0,
            };
            rows.push(HistoryRow {
                created: entry.created.clone(),
                created_by: entry.created_by.clone().unwrap_or_default(),
                size,
                comment: entry.comment.clone().unwrap_or_default(),
                empty: entry.empty_layer,
            });
        }
        rows.reverse();
        Ok(rows)
    }

    /// The local image of this name or id.
    pub(crate) fn image(&self, name: &str) -> Result<Image, Error> {
        self.find_image(name)?.ok_or_else(|| Error::NoSuchImage(name.to_owned()))
    }

    /// As [`Engine::image`]; names are looked for before ids.
    pub(crate) fn find_image(&self, name: &str) -> Result<Option<Image>, Error> {
        let images = self.store().images();
        if let Ok(reference) = reference(name)
            && let Some(image) = images.resolve(&reference.to_string())?
        {
            return Ok(Some(image));
        }
        Ok(images.resolve(name)?)
    }

    /// The configuration of a local image.
    pub(crate) fn image_config(&self, image: &Image) -> Result<ImageConfig, Error> {
        let bytes = self.store().content().read_verified(&image.id)?;
        serde_json::from_slice(&bytes).map_err(|source| Error::malformed("configuration", image.id, source))
    }

    pub(crate) fn image_size(&self, image: &Image) -> Result<u64, Error> {
        let mut size = 0;
        for layer in &image.layers {
            if let Some(layer) = self.store().layers().find(layer)? {
                size += layer.size.or_else(|| layer.blobs.first().map(|blob| blob.size)).unwrap_or(0);
            }
        }
        Ok(size)
    }
}

/// Whether a text is an id with fewer digits than lists show, which could as well be a name.
fn is_beginning_of_id(text: &str) -> bool {
    text.len() < 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The short form of a name that the store keeps in full.
pub(crate) fn familiar(name: &str) -> String {
    name.parse::<Reference>().map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_hexadecimal_digits_are_told_from_ids_by_their_length() {
        for (text, expected) in [
            ("cafe", true),
            ("A", true),
            ("3ba42869b920", false),
            ("sha256:3b", false),
            ("cafe:1", false),
            ("busybox", false),
        ] {
            assert_eq!(is_beginning_of_id(text), expected, "{text}");
        }
    }
}
