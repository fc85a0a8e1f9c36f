//! How long is a registry waited for that is sent a body?
//!
//! Not by the clock of the whole request: a large body takes hours on a slow line, and one that is still being made
//! takes as long as that. Time counts only while it is the registry's turn: from handing out a piece of the body, or
//! the end of it, to being asked for the next, or to the answer. Then it has the time that every answer has; and once
//! it has the whole body, more for its size: some registries hash or move it only then, and a proxy before one may have
//! taken the body faster than it passes it on.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, stream};

/// So many bytes in a second, a registry is expected to put away at least: what a proxy that collected the whole body
/// gets through to it on a slow line.
const PUT_AWAY: u64 = 1 << 20;

/// What a registry may take longer for because it has this many bytes to put away.
pub(crate) fn allowance(bytes: u64) -> Duration {
    Duration::from_secs(bytes / PUT_AWAY)
}

/// Whose turn it is while a body is sent. Clones watch the same body.
#[derive(Clone, Debug)]
pub(crate) struct Patience(Arc<Mutex<Turn>>);

#[derive(Debug, Default)]
struct Turn {
    /// How much the registry has taken.
    taken: u64,
    /// How much there is, if that is known: then nobody asks for the end.
    length: Option<u64>,
    /// Whether somebody asked for the end, and it was one.
    ended: bool,
    /// When its turn began; `None` while there is nothing to hand out.
    since: Option<Instant>,
}

impl Turn {
    /// How long it may last.
    fn most(&self, idle: Duration) -> Duration {
        let has_all = self.ended || self.length == Some(self.taken);
        if has_all { idle + allowance(self.taken) } else { idle }
    }
}

impl Patience {
    /// With a body, of this length if that is known, that nobody has asked for anything yet.
    pub(crate) fn new(length: Option<u64>) -> Self {
        Self(Arc::new(Mutex::new(Turn { length, ..Turn::default() })))
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
            match &piece {
                Poll::Ready(Some(Ok(bytes))) => turn.taken += bytes.len() as u64,
                Poll::Ready(None) => turn.ended = true,
                Poll::Ready(Some(Err(_))) | Poll::Pending => {}
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
                (turn.most(idle), turn.since.map_or(Duration::ZERO, |since| since.elapsed()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_the_whole_body_may_take_longer() {
        const SIZE: u64 = 5 << 30;
        for (taken, length, ended, seconds) in [
            (0, None, false, 60),
            (SIZE, None, false, 60),
            (SIZE, None, true, 60 + 5 * 1024),
            (SIZE - 1, Some(SIZE), false, 60),
            (SIZE, Some(SIZE), false, 60 + 5 * 1024),
            (1 << 19, Some(1 << 19), true, 60),
        ] {
            let turn = Turn { taken, length, ended, since: None };
            let most = turn.most(Duration::from_secs(60)).as_secs();
            assert_eq!(most, seconds, "{turn:?}");
        }
    }
}
