//! What does `rbuild inspect` say of an image?
//!
//! Docker's shape, so that scripts and templates written for `docker inspect` find what they look for.

use serde_json::{Value, json};

use super::familiar;
use crate::engine::Engine;
use crate::error::Error;

impl Engine {
    /// Describes a local image.
    ///
    /// # Errors
    /// If there is no such image.
    pub fn inspect_image(&self, name: &str) -> Result<Value, Error> {
        let image = self.image(name)?;
        let config = self.image_config(&image)?;
        let listed = self.store().images().list()?;
        let names = listed
            .iter()
            .find(|listed| listed.image.id == image.id)
            .map(|listed| listed.names.iter().map(|name| familiar(name)).collect::<Vec<_>>())
            .unwrap_or_default();
        let digests: Vec<_> = image
            .manifest
            .iter()
            .flat_map(|manifest| {
                names.iter().map(move |name| {
                    let repository = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
                    format!("{}@{}", repository.map_or(name.as_str(), |(repository, _)| repository), manifest.digest)
                })
            })
            .collect();
        let runtime = serde_json::to_value(&config.config).map_err(|e| Error::malformed("configuration", name, e))?;
        Ok(json!({
            "Id": image.id,
            "RepoTags": names,
            "RepoDigests": digests,
            "Comment": config.history.last().and_then(|entry| entry.comment.clone()).unwrap_or_default(),
            "Created": config.created,
            "Author": config.author.clone().unwrap_or_default(),
            "Config": runtime,
            "Architecture": config.architecture,
            "Variant": config.variant,
            "Os": config.os,
            "Size": self.image_size(&image)?,
            "RootFS": { "Type": config.rootfs.kind, "Layers": config.rootfs.diff_ids },
        }))
    }
}
