//! How does one process wait for another that is making the same thing?

use std::time::Duration;

use rbuild_cache::{KeyLock, Store, StoreError};
use rbuild_core::Digest;

use crate::blocking::event_loop;

/// Waits for the lock of `key`. Polls, so that dropping the future gives up at once: a thread that blocks in `flock`
/// could not be told to.
pub(crate) async fn key_lock(store: &Store, key: &Digest) -> Result<KeyLock, StoreError> {
    event_loop().await;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(lock) = store.records().try_lock(key)? {
            return Ok(lock);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
