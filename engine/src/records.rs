//! How does the solver remember, in the store?

use std::time::Duration;

use rbuild_cache::{KeyLock, Record, Store};
use rbuild_core::Digest;
use rbuild_solver::{Provenance, Records, Stored};

use crate::blocking::{blocking, event_loop};
use crate::lock::key_lock;
use crate::value::Value;
use crate::worker::Listings;

/// The store as the solver's memory. Whatever fails is as good as not remembered, and only traced.
#[derive(Clone, Debug)]
pub(crate) struct StoreRecords(Store, Listings);

impl StoreRecords {
    pub(crate) fn new(store: Store, listings: Listings) -> Self {
        Self(store, listings)
    }
}

impl Records<Value> for StoreRecords {
    type Guard = Option<KeyLock>;

    async fn find(&self, key: &Digest) -> Option<Stored<Value>> {
        let record = traced("find", self.0.records().find(key))??;
        let outputs = traced("read", serde_json::from_value(record.outputs))?;
        Some(Stored { outputs, duration: Duration::from_millis(record.duration_ms) })
    }

    async fn insert(&self, keys: &[Digest], outputs: &[Value], provenance: &Provenance) {
        // Finding local files again costs as much as reading what was found.
        if outputs.iter().any(|output| matches!(output, Value::Local { .. })) {
            return;
        }
        let layers = outputs.iter().flat_map(|output| match output {
            Value::Root(layers) => layers.clone(),
            Value::Source { layer, .. } => vec![layer.clone()],
            Value::Local { .. } => Vec::new(),
        });
        let record = Record {
            layers: layers.collect(),
            outputs: serde_json::to_value(outputs).expect("layer ids are texts"),
            provenance: serde_json::to_value(provenance).expect("a provenance has only texts and numbers"),
            listings: self.1.among(&provenance.inputs),
            title: provenance.title.clone(),
            created: crate::time::now(),
            duration_ms: u64::try_from(provenance.duration.as_millis()).unwrap_or(u64::MAX),
        };
        let (store, keys, steps) = (self.0.clone(), keys.to_vec(), provenance.steps.clone());
        // Waits for other processes that write, and for the disk.
        let inserted = blocking(move || store.records().insert(&keys, &steps, &record)).await;
        let _: Option<()> = traced("insert", inserted);
    }

    async fn try_lock(&self, key: &Digest) -> Option<Self::Guard> {
        event_loop().await;
        match self.0.records().try_lock(key) {
            Ok(None) => None,
            other => Some(traced("lock", other).flatten()),
        }
    }

    async fn lock(&self, key: &Digest) -> Self::Guard {
        traced("lock", key_lock(&self.0, key).await)
    }

    async fn previous(&self, step: &Digest) -> Option<Provenance> {
        let record = traced("look up", self.0.records().latest(step))??;
        traced("read", serde_json::from_value(record.provenance))
    }
}

fn traced<T, E: std::fmt::Display>(action: &str, result: Result<T, E>) -> Option<T> {
    result.inspect_err(|error| tracing::warn!(action, %error, "build records")).ok()
}
