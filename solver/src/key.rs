//! How are the two keys of a vertex made?
//!
//! ```text
//! definition key(v) = H("definition/1", fingerprint(op v), (definition key, output number) of each input)
//! content key(v)    = H("content/1",    content fingerprint(op v), identity of each finished input)
//! ```
//!
//! The first is known before anything runs; the second is known once the inputs are there, and is the same again when
//! an input was rebuilt to the same content.

use rbuild_core::{Digest, KeyHasher};

use crate::worker::Fingerprint;

/// The key of what was asked for. `inputs` are the definition key and output number of each input, in order.
pub(crate) fn definition(fingerprint: &Fingerprint, inputs: impl ExactSizeIterator<Item = (Digest, u32)>) -> Digest {
    let mut hasher = KeyHasher::new("definition/1");
    hasher.digest(&fingerprint.digest).number(inputs.len() as u64);
    for (key, output) in inputs {
        hasher.digest(&key).number(u64::from(output));
    }
    hasher.finish()
}

/// The key of what is worked on.
pub(crate) fn content(fingerprint: &Digest, identities: &[Digest]) -> Digest {
    let mut hasher = KeyHasher::new("content/1");
    hasher.digest(fingerprint).list(identities);
    hasher.finish()
}

/// The name of an execution whose inputs have none yet: what is being done, on what is being made under which names.
/// Never written down.
pub(crate) fn ahead(fingerprint: &Digest, inputs: &[Digest]) -> Digest {
    let mut hasher = KeyHasher::new("ahead/1");
    hasher.digest(fingerprint).list(inputs);
    hasher.finish()
}
