//! What does a vertex of a build produce?

use rbuild_cache::LayerId;
use rbuild_core::Digest;
use rbuild_solver::graph::LocalOp;
use serde::{Deserialize, Serialize};

/// A result: a handle that is cheap to clone and to write down.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Value {
    /// A root file system: its layers, lowest first.
    Root(Vec<LayerId>),
    /// What was fetched from a URL, as one layer.
    Source {
        /// Where it is.
        layer: LayerId,
        /// What it is: unlike a layer's, this knows of times.
        identity: Digest,
    },
    /// Files of a local directory, still where they are.
    Local {
        /// Which.
        selection: LocalOp,
        /// Their tree digest when the build began.
        digest: Digest,
    },
}
