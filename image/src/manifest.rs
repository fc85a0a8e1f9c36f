//! What is an image made of, and which of several images is meant?
//!
//! Manifests and indexes of both families (OCI, Docker schema 2). Fields we do not know are kept, but a digest is
//! always that of the bytes that were read: callers keep those, and parse a copy.
//!
//! Schema 1 is refused. So is a document that could be read both as a manifest and as an index, whatever its media
//! type says: two programs could disagree about what its digest means (CVE-2021-41190).

use std::collections::BTreeMap;

use rbuild_core::Platform;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::descriptor::{Descriptor, null_is_default};
use crate::media::{self, Family};

/// The most bytes that a manifest or an index may have, as in other clients.
pub const LARGEST_MANIFEST: u64 = 4 << 20;

/// One image for one platform: a configuration and layers.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Optional in OCI manifests that others wrote; always written by us.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The image configuration; its digest is the image ID.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    /// Metadata.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Everything else, as it was read: `subject`, `artifactType`.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Manifest {
    /// A manifest of one family with nothing optional.
    pub fn new(family: Family, config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: family.manifest().to_owned(),
            config,
            layers,
            annotations: BTreeMap::new(),
            other: Map::new(),
        }
    }

    /// The JSON bytes, and the descriptor that names them.
    pub fn to_bytes(&self) -> (Vec<u8>, Descriptor) {
        let bytes = serde_json::to_vec(self).expect("a manifest has only string keys");
        let descriptor = Descriptor::of(non_empty(&self.media_type, media::OCI_MANIFEST), &bytes);
        (bytes, descriptor)
    }
}

/// Several manifests under one name, usually one for each platform.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Optional in OCI indexes that others wrote; always written by us.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The manifests, or further indexes.
    #[serde(default, deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    /// Metadata.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Everything else, as it was read.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Index {
    /// An index of one family with nothing optional.
    pub fn new(family: Family, manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: family.index().to_owned(),
            manifests,
            annotations: BTreeMap::new(),
            other: Map::new(),
        }
    }

    /// The JSON bytes, and the descriptor that names them.
    pub fn to_bytes(&self) -> (Vec<u8>, Descriptor) {
        let bytes = serde_json::to_vec(self).expect("an index has only string keys");
        let descriptor = Descriptor::of(non_empty(&self.media_type, media::OCI_INDEX), &bytes);
        (bytes, descriptor)
    }

    /// The entry that runs best on `platform`: the same platform, else the nearest that it can run (an older variant,
    /// 32-bit code of the same family). Entries without a platform are taken only if there is nothing else.
    /// Attestations (`unknown/unknown`) never match.
    pub fn select(&self, platform: &Platform) -> Option<&Descriptor> {
        let wanted = runnable_on(platform);
        let rank = |entry: &Descriptor| match &entry.platform {
            Some(offered) => {
                let offered = normalise(offered);
                wanted.iter().position(|wanted| *wanted == offered)
            }
            None => (self.manifests.len() == 1).then_some(wanted.len()),
        };
        let ranked = self.manifests.iter().filter_map(|entry| Some((rank(entry)?, entry)));
        // `min_by_key` keeps the first of equals, as other clients do.
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry)
    }

    /// The platforms on offer, for messages.
    pub fn platforms(&self) -> impl Iterator<Item = &Platform> {
        self.manifests.iter().filter_map(|entry| entry.platform.as_ref()).filter(|platform| platform.os != "unknown")
    }
}

/// Whether an image for `offered` runs on `platform`, natively or as an older variant or 32-bit code of its family.
pub fn runs_on(offered: &Platform, platform: &Platform) -> bool {
    runnable_on(platform).contains(&normalise(offered))
}

/// What `platform` can run, best first.
fn runnable_on(platform: &Platform) -> Vec<Platform> {
    let platform = normalise(platform);
    let on = |arch: &str, variant: Option<String>| {
        normalise(&Platform { os: platform.os.clone(), arch: arch.to_owned(), variant })
    };
    let number = |default: u32| match &platform.variant {
        Some(variant) => variant.strip_prefix('v').and_then(|digits| digits.parse::<u32>().ok()).filter(|n| *n < 100),
        None => Some(default),
    };
    let mut list = vec![platform.clone()];
    let older = |arch: &'static str, newest: u32, oldest: u32| {
        (oldest..=newest).rev().map(move |number| (arch, Some(format!("v{number}"))))
    };
    match (platform.arch.as_str(), number(if platform.arch == "arm64" { 8 } else { 1 })) {
        ("amd64", Some(newest)) => {
            list.extend(older("amd64", newest, 1).map(|(arch, variant)| on(arch, variant)));
            list.push(on("386", None));
        }
        ("arm64", Some(newest)) => {
            list.extend(older("arm64", newest, 8).map(|(arch, variant)| on(arch, variant)));
            list.extend(older("arm", 8, 5).map(|(arch, variant)| on(arch, variant)));
        }
        ("arm", Some(newest)) => list.extend(older("arm", newest, 5).map(|(arch, variant)| on(arch, variant))),
        _ => {}
    }
    list
}

/// The same platform in the one spelling that `Platform::from_str` gives.
fn normalise(platform: &Platform) -> Platform {
    let variant = platform.variant.clone().filter(|variant| !variant.is_empty());
    let platform = Platform { variant, ..platform.clone() };
    platform.to_string().parse().unwrap_or(platform)
}

/// What a registry or a layout answered.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is taken apart at once")]
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Several.
    Index(Index),
}

impl Document {
    /// Reads `bytes`; `media_type` is what the descriptor or the `Content-Type` header said, if anything.
    ///
    /// # Errors
    /// If the bytes are no manifest and no index, are both, or are schema 1.
    pub fn parse(media_type: Option<&str>, bytes: &[u8]) -> Result<Self, ManifestError> {
        let probe: Probe = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        let stated = probe.media_type.as_deref().or(media_type).filter(|text| !text.is_empty());
        if probe.schema_version == Some(1) || stated.is_some_and(media::is_schema1) {
            return Err(ManifestError::Schema1);
        }
        if probe.schema_version != Some(2) {
            return Err(ManifestError::SchemaVersion);
        }
        let has_manifests = probe.manifests.is_some();
        let has_layers = probe.layers.is_some() || probe.config.is_some();
        let is_index = match (has_manifests, has_layers, stated) {
            (true, true, _) => return Err(ManifestError::Ambiguous),
            (_, _, Some(stated)) if media::is_index(stated) => true,
            (_, _, Some(stated)) if media::is_manifest(stated) => false,
            (_, _, Some(stated)) if stated.starts_with("application/vnd.") => {
                return Err(ManifestError::MediaType(stated.to_owned()));
            }
            // Neither the document nor the server says anything useful: its shape decides.
            (index, manifest, _) if index != manifest => index,
            _ => return Err(ManifestError::Ambiguous),
        };
        if (is_index && has_layers) || (!is_index && has_manifests) {
            return Err(ManifestError::Ambiguous);
        }
        if is_index {
            serde_json::from_slice(bytes).map(Self::Index).map_err(ManifestError::Json)
        } else {
            serde_json::from_slice(bytes).map(Self::Manifest).map_err(ManifestError::Json)
        }
    }
}

/// The fields that tell what a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    schema_version: Option<u32>,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
}

/// Why some bytes are not a [`Document`].
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or a field is missing or of the wrong type.
    #[error("the manifest cannot be read")]
    Json(#[source] serde_json::Error),
    /// The format of before 2016.
    #[error("the manifest has schema version 1, which is not supported")]
    Schema1,
    /// No `schemaVersion`, or one from the future.
    #[error("the manifest does not have schema version 2")]
    SchemaVersion,
    /// Readable both as a manifest and as an index, or as neither.
    #[error("the manifest is not clearly an image manifest or an image index")]
    Ambiguous,
    /// A media type that is neither.
    #[error("`{0}` is not the media type of an image manifest or an image index")]
    MediaType(String),
}

fn non_empty<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[&str]) -> Index {
        let entry = |(number, text): (usize, &&str)| {
            let descriptor = Descriptor::of(media::OCI_MANIFEST, &[u8::try_from(number).unwrap()]);
            let mut parts = text.splitn(3, '/');
            match (parts.next(), parts.next(), parts.next()) {
                (Some(os), Some(arch), variant) => descriptor.with_platform(Platform {
                    os: os.into(),
                    arch: arch.into(),
                    variant: variant.map(str::to_owned),
                }),
                _ => descriptor,
            }
        };
        Index::new(Family::Oci, platforms.iter().enumerate().map(entry).collect())
    }

    #[test]
    fn the_nearest_platform_is_selected() {
        for (offered, wanted, expected) in [
            (&["linux/amd64", "linux/arm64/v8"][..], "linux/amd64", Some(0)),
            (&["linux/amd64", "linux/arm64/v8"], "linux/arm64", Some(1)),
            (&["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"], "linux/arm/v7", Some(1)),
            (&["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7", Some(1)),
            (&["linux/arm/v7"], "linux/arm/v6", None),
            (&["linux/arm/v7"], "linux/arm64", Some(0)),
            (&["linux/arm"], "linux/arm/v7", Some(0)),
            (&["linux/386"], "linux/amd64", Some(0)),
            (&["linux/amd64"], "linux/386", None),
            (&["linux/amd64", "linux/amd64/v2", "linux/amd64/v3"], "linux/amd64/v2", Some(1)),
            (&["linux/amd64/v3"], "linux/amd64", None),
            (&["unknown/unknown", "linux/amd64"], "linux/amd64", Some(1)),
            (&["unknown/unknown"], "linux/amd64", None),
            (&["windows/amd64"], "linux/amd64", None),
            (&["none"], "linux/amd64", Some(0)),
            (&["none", "linux/amd64"], "linux/amd64", Some(1)),
            (&["linux/amd64", "linux/amd64"], "linux/amd64", Some(0)),
            (&["linux/riscv64"], "linux/riscv64", Some(0)),
            (&[], "linux/amd64", None),
        ] {
            let index = index(offered);
            let expected = expected.map(|number: usize| &index.manifests[number]);
            assert_eq!(index.select(&wanted.parse().unwrap()), expected, "{offered:?} on {wanted}");
        }
    }

    #[test]
    fn documents_are_told_apart_and_doubtful_ones_refused() {
        let config = r#""config":{"mediaType":"c","size":2,"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}"#;
        let case = |body: &str, stated: Option<&str>| match Document::parse(stated, body.as_bytes()) {
            Ok(Document::Manifest(_)) => "manifest".to_owned(),
            Ok(Document::Index(_)) => "index".to_owned(),
            Err(error) => error.to_string(),
        };
        let v2 = |rest: &str| format!(r#"{{"schemaVersion":2,{rest}}}"#);
        let both = "the manifest is not clearly an image manifest or an image index";
        let manifest = v2(&format!(r#"{config},"layers":[]"#));
        for (body, stated, expected) in [
            (manifest.clone(), None, "manifest"),
            (manifest.clone(), Some(media::DOCKER_MANIFEST), "manifest"),
            (manifest.clone(), Some("text/plain"), "manifest"),
            (manifest.clone(), Some(media::OCI_INDEX), both),
            (v2(r#""manifests":[]"#), None, "index"),
            (v2(r#""manifests":null"#), Some(media::OCI_INDEX), "index"),
            (v2(r#""manifests":[],"layers":[]"#), Some(media::OCI_INDEX), both),
            (
                v2(r#""mediaType":"application/vnd.x+json","layers":[]"#),
                None,
                "`application/vnd.x+json` is not the media type of an image manifest or an image index",
            ),
            (v2(r#""a":1"#), None, both),
            (r#"{"schemaVersion":1}"#.into(), None, "the manifest has schema version 1, which is not supported"),
            (
                v2(r#""a":1"#),
                Some(media::DOCKER_SCHEMA1_SIGNED),
                "the manifest has schema version 1, which is not supported",
            ),
            (r#"{"layers":[]}"#.into(), None, "the manifest does not have schema version 2"),
            ("[]".into(), None, "the manifest cannot be read"),
            ("".into(), None, "the manifest cannot be read"),
        ] {
            assert_eq!(case(&body, stated), expected, "{body}");
        }
    }

    #[test]
    fn what_is_written_is_read_back_with_unknown_fields() {
        let config = Descriptor::of(media::OCI_CONFIG, b"{}");
        let mut manifest = Manifest::new(Family::Docker, config.clone(), vec![config]);
        manifest.other.insert("subject".into(), serde_json::json!({"size": 1}));
        let (bytes, descriptor) = manifest.to_bytes();
        assert_eq!(descriptor.media_type, media::DOCKER_MANIFEST);
        assert_eq!(Document::parse(None, &bytes).unwrap(), Document::Manifest(manifest));
    }
}
