//! How does one blob point to another?

use std::collections::BTreeMap;

use rbuild_core::{Digest, Platform};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::Digest as _;

/// A blob's type, name and size, as the OCI image specification writes them.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(from = "Wire", into = "Wire")]
pub struct Descriptor {
    /// What the bytes are, see [`crate::media`].
    pub media_type: String,
    /// The bytes' sha256.
    pub digest: Digest,
    /// How many bytes there are.
    pub size: u64,
    /// Metadata that does not change what is meant.
    pub annotations: BTreeMap<String, String>,
    /// In an index: which machine the manifest is for.
    pub platform: Option<Platform>,
    /// Everything else, as it was read: `urls`, `data`, `artifactType`.
    pub other: Map<String, Value>,
    /// Fields of `platform` beyond [`Platform`], as they were read: `os.version`, `os.features`.
    pub platform_other: Map<String, Value>,
}

impl Descriptor {
    /// A descriptor with nothing optional.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            annotations: BTreeMap::new(),
            platform: None,
            other: Map::new(),
            platform_other: Map::new(),
        }
    }

    /// The descriptor of `bytes`, by hashing them.
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self::new(media_type, sha256(bytes), bytes.len() as u64)
    }

    /// The same, for one platform.
    #[must_use]
    pub fn with_platform(self, platform: Platform) -> Self {
        Self { platform: Some(platform), ..self }
    }
}

/// The sha256 digest of `bytes`.
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::sha256(sha2::Sha256::digest(bytes).into())
}

/// The JSON form, in the order in which the reference implementation writes the fields.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    platform: Option<WirePlatform>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

#[derive(Deserialize, Serialize)]
struct WirePlatform {
    #[serde(flatten)]
    platform: Platform,
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl From<Wire> for Descriptor {
    fn from(wire: Wire) -> Self {
        let (platform, platform_other) = match wire.platform {
            Some(WirePlatform { platform, mut other }) => {
                // The inner flatten sees every field, also those that `Platform` took.
                for known in ["os", "architecture", "variant"] {
                    other.shift_remove(known);
                }
                (Some(platform), other)
            }
            None => (None, Map::new()),
        };
        Self {
            media_type: wire.media_type,
            digest: wire.digest,
            size: wire.size,
            annotations: wire.annotations,
            platform,
            other: wire.other,
            platform_other,
        }
    }
}

impl From<Descriptor> for Wire {
    fn from(descriptor: Descriptor) -> Self {
        let other = descriptor.platform_other;
        Self {
            media_type: descriptor.media_type,
            digest: descriptor.digest,
            size: descriptor.size,
            annotations: descriptor.annotations,
            platform: descriptor.platform.map(|platform| WirePlatform { platform, other }),
            other: descriptor.other,
        }
    }
}

/// Go writes `null` where it means an empty list or map.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_survive_at_both_levels() {
        let text = concat!(
            r#"{"mediaType":"a/b","digest":"sha256:"#,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            r#"","size":0,"annotations":{"k":"v"},"platform":{"architecture":"amd64","os":"windows","#,
            r#""os.version":"10.0","os.features":["win32k"]},"urls":["https://example.com"]}"#
        );
        let descriptor: Descriptor = serde_json::from_str(text).unwrap();
        assert_eq!(descriptor.platform_other["os.version"], "10.0");
        assert_eq!(descriptor.other["urls"][0], "https://example.com");
        let before: Value = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_value(&descriptor).unwrap(), before);
        assert_eq!(Descriptor::of("a/b", b"").digest, descriptor.digest);
    }
}
