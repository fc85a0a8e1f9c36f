//! Where does work run that keeps a thread busy?
//!
//! The runtime has one thread, which only waits. Hashing, tar, system calls on files and the store's writes go through
//! [`blocking`]: tokio's pool has a thread for each, and what wants to be parallel inside uses rayon.

use tracing::Instrument;

/// Runs `work` on a thread of its own and waits for it without keeping the runtime from other things. Dropping the
/// future does not stop the work, only the waiting: whatever it makes must undo itself when nobody takes it.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let handle = tokio::task::spawn_blocking(work).in_current_span();
    match handle.await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down: nobody waits any more, so never answering is right.
            Err(_) => std::future::pending().await,
        },
    }
}
