//! What is known about a layer, and what is it called?

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rbuild_core::Digest;
use rbuild_image::Descriptor;
use serde::{Deserialize, Serialize};

use super::file::FileStamp;
use super::tree::Tree;
use crate::store;

/// Names one layer in this store; its text is a safe file name. Cloning copies nothing: a step on top of forty layers
/// holds their forty ids, and so do all steps before it.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerId(Arc<str>);

impl LayerId {
    pub(super) fn of_diff_id(diff_id: &Digest) -> Self {
        Self(format!("{}-{}", diff_id.algorithm().name(), diff_id.hex()).into())
    }

    /// A fresh id. The tree digest's beginning is only for people who look around in the store.
    pub(super) fn of_built(identity: &Digest) -> Self {
        Self(format!("{}-{}", &identity.hex()[..16], crate::aside::unique()).into())
    }

    /// A fresh id for what has no digest yet.
    pub(super) fn of_unsealed() -> Self {
        Self(format!("run-{}", crate::aside::unique()).into())
    }

    /// What to do when the layer is lost.
    pub fn how_to_get_back(&self) -> &'static str {
        // Its id begins like its diff ID: it came with an image.
        match self.0.starts_with("sha256-") {
            true => "load the image again, or pull it: `rbuild load` or `rbuild pull` puts the layer back",
            false => "build the image again",
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for LayerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A text that is not a [`LayerId`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a layer id: expected 1 to 128 lower-case letters, digits and `-`")]
pub struct LayerIdError(String);

impl FromStr for LayerId {
    type Err = LayerIdError;

    fn from_str(text: &str) -> Result<Self, LayerIdError> {
        let fits = (1..=128).contains(&text.len());
        if fits && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
            Ok(Self(text.into()))
        } else {
            Err(LayerIdError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for LayerId {
    type Error = LayerIdError;

    fn try_from(text: String) -> Result<Self, LayerIdError> {
        text.parse()
    }
}

impl From<LayerId> for String {
    fn from(id: LayerId) -> Self {
        (*id.0).to_owned()
    }
}

/// Where a layer's content is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Form {
    /// Here, as a directory that an overlay takes as it is.
    Directory,
    /// Here, as a file to be mounted, which has the plain tar.
    Erofs,
    /// Not here: at a registry ([`Layer::sources`]), or compressed in the content store.
    Remote,
}

impl Form {
    /// Whether it is here and can be mounted.
    pub fn is_local(self) -> bool {
        self != Self::Remote
    }
}

/// What made a layer.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub enum LayerKind {
    /// It came with an image.
    Image,
    /// A process in a sandbox.
    Run,
    /// Our own file operations.
    Files,
}

/// What is known about a layer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Layer {
    /// Its name in this store.
    pub id: LayerId,
    /// What cache keys see of it: the diff ID of a layer that came with an image, the tree digest of one built here.
    pub identity: Digest,
    /// The digest of its plain tar, if it was computed or came with an image.
    pub diff_id: Option<Digest>,
    /// The length of its plain tar, if known.
    pub size: Option<u64>,
    /// Where its content is.
    pub form: Form,
    /// Of a file: what it looked like when it was last known to be right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<FileStamp>,
    /// What made it.
    pub kind: LayerKind,
    /// Its compressed forms that are known. They may be in the content store or not.
    pub blobs: Vec<Descriptor>,
    /// Repositories (`host/name`) that have its blobs.
    pub sources: Vec<String>,
    /// How many files and directories it has, if it is here.
    pub entries: u64,
    /// How many bytes it takes on disk, if it is here.
    pub disk_bytes: u64,
    /// Seconds since 1970.
    pub created: u64,
    /// Seconds since 1970, to the hour.
    #[serde(skip)]
    pub last_used: u64,
}

impl Layer {
    /// A layer that was built here, just now, and is a directory.
    pub(super) fn built(id: LayerId, tree: &Tree, kind: LayerKind) -> Self {
        let now = store::now();
        Self {
            id,
            identity: tree.identity,
            diff_id: None,
            size: None,
            form: Form::Directory,
            file: None,
            kind,
            blobs: Vec::new(),
            sources: Vec::new(),
            entries: tree.entries,
            disk_bytes: tree.disk_bytes,
            created: now,
            last_used: now,
        }
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.form.is_local() && self.entries == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_ids_are_file_names() {
        for text in ["", "..", ".", "a/b", "A", "a b", "a\0"] {
            assert!(text.parse::<LayerId>().is_err(), "{text}");
        }
        let id = LayerId::of_diff_id(&Digest::sha256([1; 32]));
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        assert!(serde_json::from_str::<LayerId>("\"../x\"").is_err());
    }
}
