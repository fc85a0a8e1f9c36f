//! How is one result made at most once, however many ask for it?
//!
//! Everyone who needs a content key asks the same table and gets the same shared future. The table holds it weakly: when
//! the last who asked is gone, the future is dropped and with it the execution. Those who asked hold on until their
//! solve ends, so that a result is still shared after it was made. A failure is not handed to who asks later.
//!
//! Definition keys need no table of their own. Equal definition keys are one vertex within a solve; of two concurrent
//! solves, the second meets the first at the content keys, from the sources upwards, since the inputs are shared too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt, Shared, WeakShared};
use rbuild_core::{Digest, Resources, StepId};

use crate::graph::Vertex;
use crate::progress::{Audience, Listener};
use crate::records::{Provenance, Records};
use crate::solve::Inner;
use crate::worker::{Executed, Task, Worker};

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

/// The content key, and the number of the build if the build ignores records: such a flight is not shared with builds
/// that may be content with a record.
pub(crate) type Name = (Digest, Option<u64>);

pub(crate) struct Flights<T, E>(Mutex<Table<T, E>>);

type Entry<T, E> = (WeakShared<BoxFuture<'static, Landed<T, E>>>, Arc<Audience>);

struct Table<T, E> {
    entries: HashMap<Name, Entry<T, E>>,
    sweep_at: usize,
}

impl<T: Clone, E> Flights<T, E> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Table { entries: HashMap::new(), sweep_at: 64 }))
    }

    /// Joins the flight of that name, or starts it.
    pub(crate) fn join(
        &self,
        name: Name,
        listener: Listener,
        start: impl FnOnce(Arc<Audience>) -> BoxFuture<'static, Landed<T, E>>,
    ) -> Flight<T, E> {
        // Dropping the last handle drops a worker's future: never under the lock.
        let mut upgraded = Vec::new();
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((flight, audience)) = table.entries.get(&name)
            && let Some(flight) = flight.upgrade()
        {
            if !matches!(flight.peek(), Some(Err(_))) {
                audience.join(listener);
                return flight;
            }
            upgraded.push(flight);
        }
        let audience = Arc::new(Audience::default());
        audience.join(listener);
        let flight = start(Arc::clone(&audience)).shared();
        if table.entries.len() >= table.sweep_at {
            table.entries.retain(|_, (flight, _)| {
                let alive = flight.upgrade();
                let keep = alive.is_some();
                upgraded.extend(alive);
                keep
            });
            table.sweep_at = 64 + 2 * table.entries.len();
        }
        let weak = flight.downgrade().expect("it was not polled yet");
        table.entries.insert(name, (weak, audience));
        flight
    }
}

/// Everything one execution needs to know.
#[derive(Debug)]
pub(crate) struct Order<T> {
    pub(crate) vertex: Vertex,
    pub(crate) step: StepId,
    pub(crate) inputs: Vec<T>,
    pub(crate) content: Digest,
    pub(crate) definition: Digest,
    pub(crate) forced: bool,
    pub(crate) priority: Duration,
    pub(crate) provenance: Provenance,
}

/// Finds the result by its content key, or executes and records it.
pub(crate) async fn fly<W: Worker, R: Records<W::Output>>(
    solver: Arc<Inner<W, R>>,
    order: Order<W::Output>,
    audience: Arc<Audience>,
) -> Landed<W::Output, W::Error> {
    if let Some(made) = find(&solver.records, &order).await {
        return Ok(made);
    }
    // The lock before the slot: whoever waits for another process must not keep others of this one waiting.
    let _lock = solver.records.lock(&order.content).await;
    if let Some(made) = find(&solver.records, &order).await {
        return Ok(made);
    }
    let slots = if order.vertex.op.runs_process() { solver.processes() } else { &solver.others };
    let permit = slots.acquire(order.priority).await;
    audience.start();
    let reporter = audience.reporter(order.step);
    let task = Task {
        op: &order.vertex.op,
        origin: &order.vertex.origin,
        key: &order.content,
        definition: &order.definition,
        step: order.step,
        reporter: &reporter,
    };
    let began = Instant::now();
    let Executed { outputs, resources } = solver.worker.execute(task, &order.inputs).await.map_err(Arc::new)?;
    let duration = began.elapsed();
    drop(permit);
    let provenance = Provenance { duration, resources, ..order.provenance };
    solver.records.insert(&[order.content, order.definition], &outputs, &provenance).await;
    Ok(Made { outputs, duration, resources, executed: true, content: order.content, definition: order.definition })
}

/// Early cut-off: an equal result is known, from other inputs of the same content.
async fn find<T: Clone + Send + Sync, R: Records<T>>(records: &R, order: &Order<T>) -> Option<Made<T>> {
    if order.forced {
        return None;
    }
    let stored = records.find(&order.content).await?;
    let provenance = Provenance { duration: stored.duration, ..order.provenance.clone() };
    records.insert(&[order.definition], &stored.outputs, &provenance).await;
    Some(Made {
        outputs: stored.outputs,
        duration: stored.duration,
        resources: None,
        executed: false,
        content: order.content,
        definition: order.definition,
    })
}
