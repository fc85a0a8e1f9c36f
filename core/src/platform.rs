//! Which machine is an image for?

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::key::{KeyHasher, StableHash};

/// Operating system, processor architecture and its variant, in Go's names as OCI uses them.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Platform {
    /// `linux`, `windows`, …
    pub os: String,
    /// `amd64`, `arm64`, `386`, …
    #[serde(rename = "architecture")]
    pub arch: String,
    /// `v7` of `linux/arm/v7`, for instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The platform this program was compiled for.
    pub fn host() -> Self {
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            other => other,
        };
        Self { os: std::env::consts::OS.to_owned(), arch: arch.to_owned(), variant: None }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.arch)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(formatter, "/{variant}"))
    }
}

impl StableHash for Platform {
    fn stable_hash(&self, hasher: &mut KeyHasher) {
        hasher.text(&self.os).text(&self.arch).text(self.variant.as_deref().unwrap_or(""));
    }
}

/// Why a text is not a [`Platform`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a platform: expected OS/ARCH or OS/ARCH/VARIANT")]
pub struct PlatformError(String);

impl FromStr for Platform {
    type Err = PlatformError;

    /// Parses `os/arch[/variant]`, with the usual other names (`x86_64`, `aarch64`, `armhf`) normalised the way
    /// containerd does it: `arm64/v8` is `arm64`, `arm` is `arm/v7`.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let lower = text.to_ascii_lowercase();
        let mut parts = lower.split('/');
        let (Some(os), Some(arch), variant, None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(PlatformError(text.to_owned()));
        };
        if os.is_empty() || arch.is_empty() || variant == Some("") {
            return Err(PlatformError(text.to_owned()));
        }
        let (arch, variant) = match (arch, variant) {
            ("x86_64" | "x86-64" | "amd64", Some("v1") | None) => ("amd64", None),
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("i386", _) => ("386", None),
            ("aarch64" | "arm64", Some("v8" | "8") | None) => ("arm64", None),
            ("armhf", _) | ("arm", None) => ("arm", Some("v7")),
            ("armel", _) => ("arm", Some("v6")),
            other => other,
        };
        Ok(Self { os: os.to_owned(), arch: arch.to_owned(), variant: variant.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_are_normalised() {
        for (text, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expected);
        }
    }

    #[test]
    fn malformed_platforms_are_refused() {
        for text in ["", "linux", "linux/", "/amd64", "linux/arm/", "a/b/c/d"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}
