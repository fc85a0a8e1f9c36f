//! How is content named?
//!
//! A digest is an algorithm and 32 bytes. `sha256` names what OCI names (blobs, diff IDs, image IDs); `blake3` names
//! what is ours (cache keys, file and tree digests). The two never compare equal.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The hash function behind a [`Digest`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Algorithm {
    /// SHA-256, required by the OCI image specification for descriptors and diff IDs.
    Sha256,
    /// BLAKE3 with 32 bytes of output, for everything that never leaves rbuild.
    Blake3,
}

impl Algorithm {
    /// The algorithm's name as it stands before the colon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Blake3 => "blake3",
        }
    }
}

/// The name of some bytes: `sha256:<64 hex digits>` or `blake3:<64 hex digits>`.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Digest {
    algorithm: Algorithm,
    bytes: [u8; 32],
}

impl Digest {
    /// A digest from the raw output of a hash function.
    pub const fn new(algorithm: Algorithm, bytes: [u8; 32]) -> Self {
        Self { algorithm, bytes }
    }

    /// A SHA-256 digest from its 32 raw bytes.
    pub const fn sha256(bytes: [u8; 32]) -> Self {
        Self::new(Algorithm::Sha256, bytes)
    }

    /// A BLAKE3 digest from its 32 raw bytes.
    pub const fn blake3(bytes: [u8; 32]) -> Self {
        Self::new(Algorithm::Blake3, bytes)
    }

    /// Which hash function made it.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The 32 raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The 64 lower-case hexadecimal digits, without the algorithm.
    pub fn hex(&self) -> String {
        let mut text = String::with_capacity(64);
        for byte in self.bytes {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(nibble), 16).expect("a nibble is below 16"));
            }
        }
        text
    }

    /// The first 12 hexadecimal digits: how image and container ids are shown to people.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.algorithm.name(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Why a text is not a [`Digest`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DigestError {
    /// There is no colon, or nothing before it.
    #[error("`{0}` is not a digest: expected `ALGORITHM:HEX`")]
    Form(String),
    /// An algorithm that rbuild does not know.
    #[error("`{0}` names a digest algorithm that is not supported (sha256 and blake3 are)")]
    Algorithm(String),
    /// Not exactly 64 lower-case hexadecimal digits.
    #[error("`{0}` is not a digest: expected 64 lower-case hexadecimal digits after the colon")]
    Hex(String),
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (name, hex) = text.split_once(':').ok_or_else(|| DigestError::Form(text.to_owned()))?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "blake3" => Algorithm::Blake3,
            "" => return Err(DigestError::Form(text.to_owned())),
            _ => return Err(DigestError::Algorithm(text.to_owned())),
        };
        let error = || DigestError::Hex(text.to_owned());
        let digits = hex.as_bytes();
        if digits.len() != 64 {
            return Err(error());
        }
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(error()),
        };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Ok(Self { algorithm, bytes })
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn text_round_trips() {
        for name in ["sha256", "blake3"] {
            let text = format!("{name}:{HEX}");
            let digest: Digest = text.parse().unwrap();
            assert_eq!(digest.to_string(), text);
            assert_eq!(digest.short(), &HEX[..12]);
        }
    }

    #[test]
    fn malformed_texts_are_refused_with_the_reason() {
        let upper = format!("sha256:{}", HEX.to_uppercase());
        for (text, reason) in [
            ("", DigestError::Form(String::new())),
            (":abc", DigestError::Form(":abc".into())),
            ("md5:abc", DigestError::Algorithm("md5:abc".into())),
            ("sha256:abc", DigestError::Hex("sha256:abc".into())),
            (upper.as_str(), DigestError::Hex(upper.clone())),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(reason));
        }
    }
}
