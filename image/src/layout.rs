//! How do images lie in an archive or a directory?
//!
//! The JSON files of an OCI image layout and of `docker save`. One archive may be both: OCI's `blobs/sha256/…` with
//! Docker's `manifest.json` pointing into it, which is what `docker load` of every version understands.
//!
//! ```text
//! oci-layout               {"imageLayoutVersion":"1.0.0"}
//! index.json               an Index; each entry named by annotations
//! blobs/sha256/<hex>       manifests, configurations, layers
//! manifest.json            Docker: configuration, names and layers of each image, as paths in the archive
//! repositories             Docker, before 2016: name → tag → last layer; only written for tools that still look
//! ```

use std::collections::BTreeMap;

use rbuild_core::Digest;
use serde::{Deserialize, Serialize};

use crate::{Descriptor, Reference};

/// Name of the file that makes a directory an OCI image layout.
pub const OCI_LAYOUT: &str = "oci-layout";
/// Name of the file that lists a layout's images.
pub const INDEX: &str = "index.json";
/// Name of Docker's list of images.
pub const DOCKER_MANIFEST: &str = "manifest.json";
/// Name of Docker's old list of names.
pub const DOCKER_REPOSITORIES: &str = "repositories";
/// Annotation with the tag, or whatever the layout's writer calls the image.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation with the full name, which containerd and Docker go by.
pub const IMAGE_NAME: &str = "io.containerd.image.name";

/// The content of `oci-layout`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OciLayout {
    /// Always `1.0.0`.
    pub image_layout_version: String,
}

impl Default for OciLayout {
    fn default() -> Self {
        Self { image_layout_version: "1.0.0".to_owned() }
    }
}

/// Where a blob lies in an OCI image layout.
pub fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// `descriptor` with the annotations that name it in an `index.json`.
pub fn named(mut descriptor: Descriptor, name: &Reference) -> Descriptor {
    descriptor.annotations.insert(IMAGE_NAME.to_owned(), name.to_string());
    if let Some(tag) = name.tag() {
        descriptor.annotations.insert(REF_NAME.to_owned(), tag.to_owned());
    }
    descriptor
}

/// The name that an entry of an `index.json` has: the full one if there is one, else a `ref.name` that is more than a
/// tag.
pub fn name_of(descriptor: &Descriptor) -> Option<Reference> {
    if let Some(name) = descriptor.annotations.get(IMAGE_NAME) {
        return name.parse().ok();
    }
    descriptor.annotations.get(REF_NAME).filter(|name| name.contains(['/', ':'])).and_then(|name| name.parse().ok())
}

/// One image in Docker's `manifest.json`, which is a list of these.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DockerImage {
    /// Path of the configuration.
    pub config: String,
    /// Names as people write them, with a tag: `alpine:3`.
    #[serde(default, deserialize_with = "crate::descriptor::null_is_default")]
    pub repo_tags: Vec<String>,
    /// Paths of the layers, lowest first; plain or compressed tars.
    #[serde(default, deserialize_with = "crate::descriptor::null_is_default")]
    pub layers: Vec<String>,
    /// Descriptors of foreign layers, by diff ID.
    #[serde(
        default,
        deserialize_with = "crate::descriptor::null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub layer_sources: BTreeMap<Digest, Descriptor>,
}

impl DockerImage {
    /// An image whose blobs lie as in an OCI image layout.
    pub fn new(config: &Digest, names: &[Reference], layers: &[Descriptor]) -> Self {
        let tagged = names.iter().filter(|name| name.tag().is_some());
        let tags = tagged.map(|name| {
            let tag = name.tag().unwrap_or_default();
            format!("{}:{tag}", name.familiar_name())
        });
        Self {
            config: blob_path(config),
            repo_tags: tags.collect(),
            layers: layers.iter().map(|layer| blob_path(&layer.digest)).collect(),
            layer_sources: BTreeMap::new(),
        }
    }
}

/// Docker's `repositories`: name → tag → id of the topmost layer.
pub type DockerRepositories = BTreeMap<String, BTreeMap<String, String>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_in_annotations() {
        let name: Reference = "ghcr.io/a/b:1".parse().unwrap();
        let descriptor = named(Descriptor::of("a/b", b""), &name);
        assert_eq!(descriptor.annotations[REF_NAME], "1");
        assert_eq!(name_of(&descriptor), Some(name));
        let mut tag_only = Descriptor::of("a/b", b"");
        tag_only.annotations.insert(REF_NAME.into(), "1".into());
        assert_eq!(name_of(&tag_only), None);
    }

    #[test]
    fn docker_writes_null_lists_and_reads_ours() {
        let image: DockerImage = serde_json::from_str(r#"{"Config":"a.json","RepoTags":null,"Layers":null}"#).unwrap();
        assert_eq!(image, DockerImage { config: "a.json".into(), ..DockerImage::default() });
        let layer = Descriptor::of("a/b", b"");
        let names = ["alpine:3".parse().unwrap(), "ghcr.io/a/b:1".parse().unwrap()];
        let json = serde_json::to_value(DockerImage::new(&layer.digest, &names, std::slice::from_ref(&layer))).unwrap();
        assert_eq!(json["RepoTags"], serde_json::json!(["alpine:3", "ghcr.io/a/b:1"]));
        assert_eq!(json["Layers"][0], blob_path(&layer.digest));
    }
}
