//! When may this process execute a step, and when has another one made it?
//!
//! Three things are needed, always taken in this order:
//!
//! ```text
//! permit    few are executed and not yet recorded     handed from step to step    (Inner::unrecorded)
//! slot      few are executed                          handed from step to step    (Inner::slots)
//! lock      one process at most makes a record        tried, never waited for     (Records::try_lock)
//! ```
//!
//! So whoever has a lock executes, or only looks: what merely waits for its turn is free for other processes, and is
//! found when its turn comes. If the lock is another's, the slot is for the next, and what that other one makes is
//! waited for without permit and slot: processes cannot wait for each other in a circle.

use std::pin::pin;

use futures_util::future::{Either, select};
use rbuild_core::Digest;

use crate::flight::{Order, OrderOf};
use crate::graph::Work;
use crate::records::{Records, Stored};
use crate::slots::Permit;
use crate::solve::Inner;
use crate::worker::Worker;

/// The right to execute, as far as this process is concerned.
#[derive(Debug)]
#[must_use = "dropping a turn lets others of this process go on"]
pub(crate) struct Turn {
    slot: Permit,
    unrecorded: Option<Permit>,
}

impl Turn {
    async fn wait<W: Worker, R>(solver: &Inner<W, R>, order: &OrderOf<W>) -> Self {
        let work = order.vertex.op.work();
        // It is held while inputs are named, which can wait for nobody: their steps have executed, so they have theirs.
        let unrecorded = match work {
            Work::Process | Work::Files => Some(solver.unrecorded(work).acquire(order.path).await),
            Work::Fetch => None,
        };
        Self { slot: solver.slots(work).acquire(order.path).await, unrecorded }
    }

    /// As [`Turn::wait`], unless `other` is ready before or in the same moment.
    pub(crate) async fn wait_unless<W: Worker, R, F: Future>(
        solver: &Inner<W, R>,
        order: &OrderOf<W>,
        other: F,
    ) -> Result<Self, F::Output> {
        match select(pin!(other), pin!(Self::wait(solver, order))).await {
            Either::Left((other, _)) => Err(other),
            Either::Right((turn, _)) => Ok(turn),
        }
    }

    /// Others may execute. What is returned is given back when this is recorded.
    pub(crate) fn executed(self) -> Option<Permit> {
        let Self { slot, unrecorded } = self;
        drop(slot);
        unrecorded
    }
}

/// What is to be done about a content key.
pub(crate) enum Claim<T, G> {
    /// Nothing.
    Found(Stored<T>),
    /// Nobody makes it, in no process, until the guard is dropped.
    Ours(Turn, G),
}

/// Waits until the result is there, or may be made.
pub(crate) async fn claim<W: Worker, R: Records<W::Output>>(
    solver: &Inner<W, R>,
    order: &OrderOf<W>,
    content: &Digest,
) -> Claim<W::Output, R::Guard> {
    let records = &solver.records;
    loop {
        if let Some(stored) = find(records, order, content).await {
            return Claim::Found(stored);
        }
        let turn = Turn::wait(solver, order).await;
        let Some(lock) = records.try_lock(content).await else {
            drop(turn);
            drop(records.lock(content).await);
            continue;
        };
        return match find(records, order, content).await {
            Some(stored) => Claim::Found(stored),
            None => Claim::Ours(turn, lock),
        };
    }
}

async fn find<T, E, R: Records<T>>(records: &R, order: &Order<T, E>, content: &Digest) -> Option<Stored<T>> {
    if order.forced { None } else { records.find(content).await }
}
