//! How many may execute at once, and who is next?
//!
//! A semaphore that chooses among its waiters:
//!
//! - The one with the longest path of work still behind it, the earlier of two equal ones: a path that begins late ends
//!   late.
//! - While more wait than there are slots, paths are only told apart roughly, by powers of two, and of alike ones that
//!   is next which came last. It goes on where another has just ended, with layers that are mounted and files that are in
//!   memory. Two hundred stages that take turns, a step each, mount most layers anew for each step.
//!
//! A dropped [`Permit`] goes straight to the next waiter.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

#[derive(Clone, Debug)]
pub(crate) struct Slots(Arc<Mutex<State>>);

/// The right to execute, until it is dropped.
#[derive(Debug)]
#[must_use = "dropping a permit gives the slot away"]
pub(crate) struct Permit(Option<Slots>);

#[derive(Debug)]
struct State {
    count: usize,
    free: usize,
    arrivals: u64,
    /// The latest of the roughly longest paths is the last.
    waiting: BTreeMap<(u32, u64), Waiter>,
    /// The same waiters; the earliest of the longest paths is the last.
    paths: BTreeSet<(Duration, Reverse<u64>)>,
}

#[derive(Debug)]
struct Waiter {
    path: Duration,
    hand: oneshot::Sender<Permit>,
}

impl Slots {
    /// At least one, whatever `count` says: with none nothing would ever end.
    pub(crate) fn new(count: usize) -> Self {
        let count = count.max(1);
        let (waiting, paths) = (BTreeMap::new(), BTreeSet::new());
        Self(Arc::new(Mutex::new(State { count, free: count, arrivals: 0, waiting, paths })))
    }

    /// Waits for a slot; dropping the future leaves the queue. `path` is the longest path of work that begins here.
    pub(crate) async fn acquire(&self, path: Duration) -> Permit {
        let receiver = {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                return Permit(Some(self.clone()));
            }
            let (hand, receiver) = oneshot::channel();
            state.push(Waiter { path, hand });
            receiver
        };
        receiver.await.expect("a waiter leaves the queue only by being handed a permit")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next waiter; if there is none the slot becomes free.
    fn next(&self) -> Option<Waiter> {
        let mut state = self.state();
        let next = state.pop();
        if next.is_none() {
            state.free += 1;
        }
        next
    }
}

impl State {
    fn push(&mut self, waiter: Waiter) {
        self.arrivals += 1;
        self.paths.insert((waiter.path, Reverse(self.arrivals)));
        self.waiting.insert((rough(waiter.path), self.arrivals), waiter);
    }

    fn pop(&mut self) -> Option<Waiter> {
        let (path, arrival) = if self.waiting.len() > self.count {
            let ((_, arrival), waiter) = self.waiting.last_key_value()?;
            (waiter.path, *arrival)
        } else {
            let (path, Reverse(arrival)) = *self.paths.last()?;
            (path, arrival)
        };
        self.paths.remove(&(path, Reverse(arrival)));
        self.waiting.remove(&(rough(path), arrival))
    }
}

/// The power of two that a path reaches, in milliseconds.
fn rough(path: Duration) -> u32 {
    u128::BITS - path.as_millis().leading_zeros()
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(slots) = self.0.take() else { return };
        // The lock is not held while handing over: a waiter that gave up hands the permit straight back.
        while let Some(waiter) = slots.next() {
            match waiter.hand.send(Self(Some(slots.clone()))) {
                Ok(()) => return,
                Err(mut refused) => refused.0 = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures_util::future::{BoxFuture, FutureExt, poll_immediate};

    use super::*;

    async fn queue(slots: &Slots, paths: &[u64]) -> Vec<BoxFuture<'static, Permit>> {
        let mut waiters = Vec::new();
        for path in paths {
            let (slots, path) = (slots.clone(), Duration::from_secs(*path));
            let mut waiter = async move { slots.acquire(path).await }.boxed();
            assert!(poll_immediate(&mut waiter).await.is_none());
            waiters.push(waiter);
        }
        waiters
    }

    /// Who is served in which order by `count` slots, of which all but one are never given back.
    async fn order(count: usize, paths: &[u64]) -> Vec<usize> {
        let slots = Slots::new(count);
        let mut kept = Vec::new();
        for _ in 1..count {
            kept.push(slots.acquire(Duration::ZERO).await);
        }
        let mut held = Some(slots.acquire(Duration::ZERO).await);
        let mut waiters = queue(&slots, paths).await;
        let mut served = Vec::new();
        for _ in paths {
            drop(held.take());
            for (number, waiter) in waiters.iter_mut().enumerate() {
                if served.contains(&number) {
                    continue;
                }
                if let Poll::Ready(permit) = futures_util::poll!(waiter) {
                    served.push(number);
                    assert!(held.replace(permit).is_none(), "one at a time");
                }
            }
        }
        served
    }

    #[tokio::test]
    async fn the_longest_path_is_served_first_and_the_earlier_of_two_equal() {
        assert_eq!(order(4, &[1, 3, 2, 3]).await, [1, 3, 2, 0]);
        assert_eq!(order(3, &[0, 0, 0]).await, [0, 1, 2], "no paths are known");
    }

    #[tokio::test]
    async fn of_many_alike_the_last_goes_on() {
        // In milliseconds, 9 seconds are like 15, and 2 are less than 3. When two are left, the first of them is next.
        assert_eq!(order(2, &[3, 15, 2, 9, 3, 2]).await, [3, 1, 4, 0, 2, 5]);
    }

    #[tokio::test]
    async fn a_waiter_that_gave_up_does_not_swallow_the_slot() {
        let slots = Slots::new(1);
        let held = slots.acquire(Duration::ZERO).await;
        let mut waiters = queue(&slots, &[9, 8, 1]).await;
        drop(waiters.remove(0));
        drop(held);
        drop(waiters.remove(0));
        let permit = poll_immediate(waiters.remove(0)).await.expect("the slot came back from the one handed to `8`");
        drop(permit);
        assert_eq!(slots.state().free, 1);
    }

    #[tokio::test]
    async fn no_slots_at_all_means_one() {
        assert!(poll_immediate(Slots::new(0).acquire(Duration::ZERO).boxed()).await.is_some());
    }
}
