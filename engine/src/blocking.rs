//! Where does work run that keeps a thread busy, and when does waiting begin?
//!
//! The runtime has one thread, which only waits. Hashing, tar, system calls on files and the store's writes go through
//! [`blocking`]: tokio's pool has a thread for each, and what wants to be parallel inside uses rayon.
//!
//! A build that finds everything never waits, and neither a runtime nor a thread should be started for it. So its
//! future may be polled before there is a runtime. What looks things up then runs where it is called ([`at_once`]); the
//! first that wants to wait, for the network, a process or another thread, is pending until the future is polled within
//! a runtime ([`event_loop`]). Until then nothing is half made, no thread is left behind and no signal is caught: whoever
//! polls may end the program, or enter a namespace.

use std::future::poll_fn;
use std::task::Poll;

use tokio::runtime::Handle;
use tracing::Instrument;

/// Whether the future that runs may wait.
pub(crate) fn has_event_loop() -> bool {
    Handle::try_current().is_ok()
}

/// Is pending until there is a runtime.
pub(crate) async fn event_loop() {
    poll_fn(|context| {
        if has_event_loop() {
            return Poll::Ready(());
        }
        // Combinators poll again only who asked for it.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Runs `work` on a thread of its own and waits for it without keeping the runtime from other things. Dropping the
/// future does not stop the work, only the waiting: whatever it makes must undo itself when nobody takes it.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    event_loop().await;
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

/// As [`blocking`], on this thread if there is no runtime. For what only looks.
pub(crate) async fn at_once<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    if has_event_loop() { blocking(work).await } else { work() }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use futures_util::stream::{FuturesUnordered, StreamExt};

    use super::*;

    #[test]
    fn what_looks_needs_no_runtime_and_what_waits_asks_for_one() {
        let mut context = Context::from_waker(Waker::noop());
        let this = std::thread::current().id();
        let looks = pin!(at_once(move || std::thread::current().id() == this));
        assert_eq!(looks.poll(&mut context), Poll::Ready(true));
        // As the solver asks: a combinator must notice that its parts can go on.
        let mut waits = pin!(async {
            let both: FuturesUnordered<_> = [1, 2].map(|number| blocking(move || number)).into_iter().collect();
            let found: Vec<i32> = both.collect().await;
            (found.iter().sum::<i32>(), at_once(move || std::thread::current().id() == this).await)
        });
        assert!(waits.as_mut().poll(&mut context).is_pending());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(waits), (3, false));
    }
}
