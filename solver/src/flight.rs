//! How is one result made at most once, however many ask for it?
//!
//! Everyone who needs a content key asks the same table and gets the same shared future. The table holds it weakly: when
//! the last who asked is gone, the future is dropped and with it the execution. Those who asked hold on until their
//! solve ends, so that a result is still shared after it was made. A failure is not handed to who asks later.
//!
//! An execution can leave its outputs before they have a name ([`Naming::Pending`]): a flight heralds them then, and others
//! begin on them (module `run`). Such a one has no content key yet; it is recorded when its inputs and its outputs have
//! names, never before.
//!
//! Definition keys need no table of their own. Equal definition keys are one vertex within a solve; of two concurrent
//! solves, the second meets the first at the content keys, from the sources upwards, since the inputs are shared too.

use std::collections::HashMap;
use std::future::{poll_fn, ready};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt, Shared, WeakShared};
use rbuild_core::{Digest, Resources, StepId};
use tokio::sync::oneshot;

use crate::graph::Vertex;
use crate::progress::{Audience, Listener};
use crate::records::{Provenance, Records, Stored};
use crate::slots::Permit;
use crate::solve::Inner;
use crate::turn::{Claim, Turn, claim};
use crate::worker::{Executed, Naming, Task, Worker};

/// What everyone who waits for an execution gets.
#[derive(Clone, Debug)]
pub(crate) struct Made<T> {
    pub(crate) outputs: Vec<T>,
    pub(crate) duration: Duration,
    /// What its processes took, if it was executed and ran any.
    pub(crate) resources: Option<Resources>,
    /// Whether it was executed rather than found by its content key.
    pub(crate) executed: bool,
    pub(crate) content: Digest,
    /// The definition key under which it is already recorded.
    pub(crate) definition: Digest,
}

pub(crate) type Landed<T, E> = Result<Made<T>, Arc<E>>;
pub(crate) type Flight<T, E> = Shared<BoxFuture<'static, Landed<T, E>>>;

/// The content key, or [`key::ahead`](crate::key::ahead); and the number of the build if the build ignores records: such
/// a flight is not shared with builds that may be content with a record.
pub(crate) type Name = (Digest, Option<u64>);

/// Ready when something has happened, or cannot happen any more.
type Signal<T> = Shared<oneshot::Receiver<T>>;

/// What can be known of a flight before it lands, if its outputs are there before they have a name.
#[derive(Clone, Debug)]
pub(crate) struct Ahead<T> {
    /// Of this flight among all of its solver: one that failed may have a successor of the same name.
    pub(crate) number: u64,
    /// The outputs.
    pub(crate) outputs: Signal<Vec<T>>,
    /// That they can be named.
    pub(crate) named: Signal<()>,
}

/// The other end of [`Ahead`].
#[derive(Debug)]
pub(crate) struct Herald<T> {
    outputs: oneshot::Sender<Vec<T>>,
    named: oneshot::Sender<()>,
}

fn herald<T: Clone>(number: u64) -> (Herald<T>, Ahead<T>) {
    let (outputs, outputs_known) = oneshot::channel();
    let (named, named_known) = oneshot::channel();
    let ahead = Ahead { number, outputs: outputs_known.shared(), named: named_known.shared() };
    (Herald { outputs, named }, ahead)
}

/// A flight and what is known before it lands.
#[derive(Clone, Debug)]
pub(crate) struct Boarding<T, E> {
    pub(crate) flight: Flight<T, E>,
    pub(crate) ahead: Ahead<T>,
}

pub(crate) struct Flights<T, E>(Mutex<Table<T, E>>);

struct Entry<T, E> {
    flight: WeakShared<BoxFuture<'static, Landed<T, E>>>,
    audience: Arc<Audience>,
    ahead: Ahead<T>,
}

struct Table<T, E> {
    entries: HashMap<Name, Entry<T, E>>,
    sweep_at: usize,
    /// How many flights there have been.
    begun: u64,
}

impl<T: Clone, E> Flights<T, E> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Table { entries: HashMap::new(), sweep_at: 64, begun: 0 }))
    }

    /// Joins the flight of that name, or starts it.
    pub(crate) fn join(
        &self,
        name: Name,
        listener: Listener,
        start: impl FnOnce(Arc<Audience>, Herald<T>) -> BoxFuture<'static, Landed<T, E>>,
    ) -> Boarding<T, E> {
        // Dropping the last handle drops a worker's future: never under the lock.
        let mut upgraded = Vec::new();
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = table.entries.get(&name)
            && let Some(flight) = entry.flight.upgrade()
        {
            if !matches!(flight.peek(), Some(Err(_))) {
                entry.audience.join(listener);
                return Boarding { flight, ahead: entry.ahead.clone() };
            }
            upgraded.push(flight);
        }
        let audience = Arc::new(Audience::default());
        audience.join(listener);
        table.begun += 1;
        let (herald, ahead) = herald(table.begun);
        let flight = start(Arc::clone(&audience), herald).shared();
        if table.entries.len() >= table.sweep_at {
            table.entries.retain(|_, entry| {
                let alive = entry.flight.upgrade();
                let keep = alive.is_some();
                upgraded.extend(alive);
                keep
            });
            table.sweep_at = 64 + 2 * table.entries.len();
        }
        let weak = flight.downgrade().expect("it was not polled yet");
        table.entries.insert(name, Entry { flight: weak, audience, ahead: ahead.clone() });
        Boarding { flight, ahead }
    }
}

/// The content key of an execution.
pub(crate) enum Content<E> {
    /// It is known.
    Known(Digest),
    /// It will be known once the inputs can be named; until then the execution has this name.
    Later(Digest, LaterKey<E>),
}

pub(crate) type LaterKey<E> = Shared<BoxFuture<'static, Result<Digest, Arc<E>>>>;

/// Everything one execution needs to know.
pub(crate) struct Order<T, E> {
    pub(crate) vertex: Vertex,
    pub(crate) step: StepId,
    pub(crate) inputs: Vec<T>,
    pub(crate) content: Content<E>,
    pub(crate) definition: Digest,
    pub(crate) forced: bool,
    pub(crate) path: Duration,
    pub(crate) provenance: Provenance,
}

pub(crate) type OrderOf<W> = Order<<W as Worker>::Output, <W as Worker>::Error>;

/// Finds the result by its content key, or executes and records it.
pub(crate) async fn fly<W: Worker, R: Records<W::Output>>(
    solver: Arc<Inner<W, R>>,
    order: OrderOf<W>,
    audience: Arc<Audience>,
    herald: Herald<W::Output>,
) -> Landed<W::Output, W::Error> {
    let content = match &order.content {
        Content::Known(content) => *content,
        Content::Later(name, key) => match Turn::wait_unless(&solver, &order, key.clone()).await {
            Ok(turn) => {
                let made = async {
                    let executed = execute(&solver, &order, name, &audience, turn).await?;
                    record(&solver, &order, executed, herald, key.clone()).await
                };
                // Another process can come to this only after it has found the input, which is recorded after its name is
                // known here: so the lock is taken in time, whether this executes or waits for its own name by then.
                let locked = async { Ok(solver.records.lock(&key.clone().await?).await) };
                return beside(made, locked).await;
            }
            // Known before its turn came: it may be known to others, too.
            Err(content) => content?,
        },
    };
    let (turn, _lock) = match claim(&solver, &order, &content).await {
        Claim::Found(stored) => return Ok(adopt(&solver.records, &order, content, stored).await),
        Claim::Ours(turn, lock) => (turn, lock),
    };
    let executed = execute(&solver, &order, &content, &audience, turn).await?;
    record(&solver, &order, executed, herald, ready(Ok(content))).await
}

/// What `work` gives, or the failure of `held`; keeps what that gives until then. Does not poll twice in a row, as
/// [`others_first`] needs it.
async fn beside<T, E, H>(
    work: impl Future<Output = Result<T, E>>,
    held: impl Future<Output = Result<H, E>>,
) -> Result<T, E> {
    let (mut work, mut held, mut holding) = (pin!(work), pin!(held), None);
    poll_fn(|context| {
        let done = work.as_mut().poll(context);
        if done.is_pending() && holding.is_none() {
            match held.as_mut().poll(context) {
                Poll::Ready(Ok(hold)) => holding = Some(hold),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        done
    })
    .await
}

/// What was executed, how long it took, and what is given back when that is recorded.
type Execution<T> = (Executed<T>, Duration, Option<Permit>);

async fn execute<W: Worker, R: Records<W::Output>>(
    solver: &Inner<W, R>,
    order: &OrderOf<W>,
    key: &Digest,
    audience: &Arc<Audience>,
    turn: Turn,
) -> Result<Execution<W::Output>, Arc<W::Error>> {
    audience.start();
    let reporter = audience.reporter(order.step);
    let task = Task {
        op: &order.vertex.op,
        origin: &order.vertex.origin,
        key,
        definition: &order.definition,
        names: &order.provenance.steps,
        step: order.step,
        reporter: &reporter,
    };
    let began = Instant::now();
    let executed = solver.worker.execute(task, &order.inputs).await.map_err(Arc::new)?;
    let unrecorded = turn.executed();
    Ok((executed, began.elapsed(), unrecorded))
}

/// Waits until inputs and outputs have names, and records what was made.
async fn record<W: Worker, R: Records<W::Output>>(
    solver: &Inner<W, R>,
    order: &OrderOf<W>,
    (executed, duration, _unrecorded): Execution<W::Output>,
    herald: Herald<W::Output>,
    content: impl Future<Output = Result<Digest, Arc<W::Error>>>,
) -> Landed<W::Output, W::Error> {
    let Executed { outputs, resources, naming } = executed;
    // What stands on something without a name has none either. Nobody may be there to hear of it.
    let unnamed = naming == Naming::Pending || matches!(order.content, Content::Later(..));
    if unnamed {
        herald.outputs.send(outputs.clone()).ok();
    }
    if naming == Naming::Pending {
        solver.worker.settle(&outputs).await.map_err(Arc::new)?;
    }
    let content = content.await?;
    herald.named.send(()).ok();
    if unnamed {
        // Who has begun on this knows its key now: it takes the lock before other processes can know that key, too.
        others_first().await;
    }
    let provenance = Provenance { duration, resources, ..order.provenance.clone() };
    solver.records.insert(&[content, order.definition], &outputs, &provenance).await;
    Ok(Made { outputs, duration, resources, executed: true, content, definition: order.definition })
}

/// Lets those be polled first who were woken before. Pending twice: what is polled now may be in the line again already.
async fn others_first() {
    let mut turns = 0..2;
    poll_fn(|context| {
        if turns.next().is_none() {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Early cut-off: an equal result is known, from other inputs of the same content.
async fn adopt<T: Clone + Send + Sync, E, R: Records<T>>(
    records: &R,
    order: &Order<T, E>,
    content: Digest,
    stored: Stored<T>,
) -> Made<T> {
    let provenance = Provenance { duration: stored.duration, ..order.provenance.clone() };
    records.insert(&[order.definition], &stored.outputs, &provenance).await;
    Made {
        outputs: stored.outputs,
        duration: stored.duration,
        resources: None,
        executed: false,
        content,
        definition: order.definition,
    }
}
