//! What is remembered of a vertex that was executed?
//!
//! One record holds outputs and provenance and can be found under several keys: the content key, and every definition
//! key that was seen to lead to it. Failures are never recorded.

use std::time::Duration;

use rbuild_core::{Digest, Resources};
use serde::{Deserialize, Serialize};

use crate::graph::Component;

/// Outputs that were found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stored<T> {
    /// All outputs of the vertex, in order.
    pub outputs: Vec<T>,
    /// How long the execution that made them took.
    pub duration: Duration,
}

/// How a record came to be; what a miss is explained with.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Provenance {
    /// The step's title at the time.
    pub title: String,
    /// Names under which a later build looks for the former self of one of its steps, best first (see `step`).
    pub steps: Vec<Digest>,
    /// The op's named values.
    pub components: Vec<Component>,
    /// The definition keys of its inputs, in order.
    pub inputs: Vec<Digest>,
    /// How long the execution took.
    pub duration: Duration,
    /// What its processes took, if it ran any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// The memory of earlier builds, shared by all processes that use one store. Failing to read is to find nothing and
/// failing to write is to forget: neither fails a build, so neither returns an error.
pub trait Records<T>: Send + Sync + 'static {
    /// Holds a key's lock until it is dropped, or until the process ends.
    type Guard: Send + 'static;

    /// The record under a definition key or content key, if its outputs are still usable. What is returned must stay
    /// usable for as long as it is held.
    fn find(&self, key: &Digest) -> impl Future<Output = Option<Stored<T>>> + Send;

    /// Stores one record under all of `keys`, replacing what was there, and makes `provenance` the latest of each of
    /// its `steps`.
    fn insert(&self, keys: &[Digest], outputs: &[T], provenance: &Provenance) -> impl Future<Output = ()> + Send;

    /// The lock of `key`, unless somebody else holds it, in this or another process. Waits for nobody.
    fn try_lock(&self, key: &Digest) -> impl Future<Output = Option<Self::Guard>> + Send;

    /// As [`Records::try_lock`], but waits until nobody else holds it. Dropping the future gives up.
    fn lock(&self, key: &Digest) -> impl Future<Output = Self::Guard> + Send;

    /// The latest provenance that was inserted with `step` among its `steps`.
    fn previous(&self, step: &Digest) -> impl Future<Output = Option<Provenance>> + Send;
}

/// The latest provenance under the best of the names that has one.
pub(crate) async fn previous<T, R: Records<T>>(records: &R, names: &[Digest]) -> Option<Provenance> {
    for name in names {
        if let Some(previous) = records.previous(name).await {
            return Some(previous);
        }
    }
    None
}
