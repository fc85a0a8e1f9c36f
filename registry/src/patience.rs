//! How long is a registry waited for that is sent a body?
//!
//! Not by the clock of the whole request: a large body takes hours on a slow line, and one that is still being made
//! takes as long as that. Time counts only while it is the registry's turn: from handing out a piece of the body, or
//! the end of it, to being asked for the next, or to the answer. Then it has the time that every answer has, and more
//! for what it has taken so far, which some registries hash or move once they have all of it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, stream};

/// So many bytes in a second, a registry is expected to put away at least.
const PUT_AWAY: u64 = 16 << 20;

/// What a registry may take longer for because it has this many bytes to put away.
pub(crate) fn allowance(bytes: u64) -> Duration {
    Duration::from_secs(bytes / PUT_AWAY)
}

/// Whose turn it is while a body is sent. Clones watch the same body.
#[derive(Clone, Debug)]
pub(crate) struct Patience(Arc<Mutex<Turn>>);

#[derive(Debug)]
struct Turn {
    /// How much the registry has taken.
    taken: u64,
    /// When its turn began; `None` while there is nothing to hand out.
    since: Option<Instant>,
}

impl Patience {
    /// With a body that nobody has asked for anything yet.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Turn { taken: 0, since: None })))
    }

    /// The same body; who asks it for a piece, or for the end, has ended the registry's turn.
    pub(crate) fn watch<S>(&self, body: S) -> impl Stream<Item = S::Item> + Send + use<S>
    where
        S: Stream<Item = io::Result<Bytes>> + Send,
    {
        let (this, mut body) = (self.clone(), Box::pin(body));
        stream::poll_fn(move |context| {
            let piece = body.as_mut().poll_next(context);
            let mut turn = this.turn();
            turn.since = piece.is_ready().then(Instant::now);
            if let Poll::Ready(Some(Ok(bytes))) = &piece {
                turn.taken += bytes.len() as u64;
            }
            piece
        })
    }

    /// Ends when the registry has kept us waiting for too long, with how long that was; `idle` without the allowance.
    /// It is its turn when this begins: it has to take the first piece.
    pub(crate) async fn exhausted(self, idle: Duration) -> Duration {
        self.turn().since = Some(Instant::now());
        loop {
            let (most, waited) = {
                let turn = self.turn();
                (idle + allowance(turn.taken), turn.since.map_or(Duration::ZERO, |since| since.elapsed()))
            };
            if waited >= most {
                return most;
            }
            tokio::time::sleep(most - waited).await;
        }
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }
}
