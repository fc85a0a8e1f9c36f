//! How many may execute at once, and who is next?
//!
//! A semaphore whose waiters are served by priority: the one with the longest path of work still behind it goes first,
//! the earlier of two equal ones. A dropped [`Permit`] goes straight to the next waiter.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
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
    free: usize,
    waiting: BinaryHeap<Waiter>,
    arrivals: u64,
}

#[derive(Debug)]
struct Waiter {
    order: (Duration, Reverse<u64>),
    hand: oneshot::Sender<Permit>,
}

impl Slots {
    /// At least one, whatever `count` says: with none nothing would ever end.
    pub(crate) fn new(count: usize) -> Self {
        Self(Arc::new(Mutex::new(State { free: count.max(1), waiting: BinaryHeap::new(), arrivals: 0 })))
    }

    /// Waits for a slot; dropping the future leaves the queue.
    pub(crate) async fn acquire(&self, priority: Duration) -> Permit {
        let receiver = {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                return Permit(Some(self.clone()));
            }
            let (hand, receiver) = oneshot::channel();
            state.arrivals += 1;
            let order = (priority, Reverse(state.arrivals));
            state.waiting.push(Waiter { order, hand });
            receiver
        };
        receiver.await.expect("a waiter leaves the heap only by being handed a permit")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next waiter; if there is none the slot becomes free.
    fn next(&self) -> Option<Waiter> {
        let mut state = self.state();
        let next = state.waiting.pop();
        if next.is_none() {
            state.free += 1;
        }
        next
    }
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

impl Ord for Waiter {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order.cmp(&other.order)
    }
}

impl PartialOrd for Waiter {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiter {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Waiter {}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures_util::future::{BoxFuture, FutureExt, poll_immediate};

    use super::*;

    async fn queue(slots: &Slots, priorities: &[u64]) -> Vec<BoxFuture<'static, Permit>> {
        let mut waiters = Vec::new();
        for priority in priorities {
            let (slots, priority) = (slots.clone(), Duration::from_secs(*priority));
            let mut waiter = async move { slots.acquire(priority).await }.boxed();
            assert!(poll_immediate(&mut waiter).await.is_none());
            waiters.push(waiter);
        }
        waiters
    }

    #[tokio::test]
    async fn the_highest_priority_is_served_first_and_the_earlier_of_two_equal() {
        let slots = Slots::new(1);
        let mut held = Some(slots.acquire(Duration::ZERO).await);
        let mut waiters = queue(&slots, &[1, 3, 2, 3]).await;
        let mut served = Vec::new();
        for _ in 0..4 {
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
        assert_eq!(served, [1, 3, 2, 0]);
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
