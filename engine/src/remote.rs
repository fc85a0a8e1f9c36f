//! How do files at URLs and in git repositories come into the store?
//!
//! Each becomes a layer: a downloaded file alone in a root, or the tree of a commit. Whoever wants the files as they are
//! (a build context) reads them where the layer lies; steps copy from it as from any other layer.
//!
//! ```text
//! HttpOp ─► http  ETag, Last-Modified, retries, checksum ─► layer, record by URL and by content
//! GitOp  ─► git   the commit of a ref, a mirror          ─► layer, record by commit
//! ```
//!
//! Nothing that a server says decides about a path outside the layer, and nothing is visible before it is complete.

mod error;
mod git;
mod http;
mod sink;

pub use self::error::RemoteError;
#[cfg(test)]
use self::git::Checkout;
pub(crate) use self::git::{Commit, MIRROR};
pub(crate) use self::http::Download;

pub(crate) use rbuild_frontend::remote::redacted;

use crate::secret::{SecretError, Secrets};

/// The first of these secrets that the user gave, as text.
fn secret(secrets: &Secrets, ids: &[String]) -> Result<Option<(usize, String)>, SecretError> {
    for (place, id) in ids.iter().enumerate() {
        if let Some(value) = secrets.read(id)? {
            return Ok(Some((place, String::from_utf8_lossy(&value).trim().to_owned())));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
