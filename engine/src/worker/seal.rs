//! What goes on with a layer while the next process already runs on it?
//!
//! Its tree digest, which names it; and the digest of its tar, which the image's configuration needs in the end. Neither
//! is waited for by a process ([decision 10](../../../docs/decisions/0010-hashing-beside-the-next-step.md)).
//!
//! A small layer is hashed faster than others can be told that it is not yet: it gets [`HEAD_START`].
//!
//! Tars are hashed by threads of their own, at most half as many as there are processors and nicer than everybody else:
//! processes of the build go first. What is left over when the last step is done is hashed by all processors at once.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rbuild_cache::{ActiveSnapshot, Layer, LayerError, LayerId, LayerKind, Store};
use rbuild_core::StepId;
use rbuild_solver::Naming;
use rbuild_solver::graph::{Graph, Op, Output};
use tokio::sync::Semaphore;

use super::{BuildWorker, WorkerError};
use crate::blocking::blocking;

/// So long a process waits for the digest of what it is to run on: some ten megabytes, or a few thousand files.
const HEAD_START: Duration = Duration::from_millis(5);
/// How many are digested at once. Each has some forty directories open, and a process may open a thousand by default.
const AT_ONCE: usize = 8;
/// The tars of smaller layers are hashed at the end: not worth a thread.
const LARGE: u64 = 1 << 20;
/// How much nicer than processes of the build.
const NICE: i32 = 10;

type Digesting = Pin<Box<dyn Future<Output = Result<(), LayerError>> + Send>>;

/// The layers of one build that are being hashed.
pub(crate) struct Seals {
    digesting: Mutex<HashMap<LayerId, Digesting>>,
    places: Arc<Semaphore>,
    tars: Arc<Tars>,
    /// The steps whose layers the image will have.
    exported: HashSet<StepId>,
}

impl std::fmt::Debug for Seals {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Seals").finish_non_exhaustive()
    }
}

impl Seals {
    /// For a build of `target`.
    pub(crate) fn new(graph: &Graph, target: Output) -> Self {
        let mut exported = HashSet::new();
        let mut waiting = vec![target.vertex];
        while let Some(id) = waiting.pop() {
            let Ok(index) = u32::try_from(id.index()) else { continue };
            if !exported.insert(StepId(index)) {
                continue;
            }
            let vertex = graph.vertex(id);
            let count = if matches!(vertex.op, Op::Merge) { vertex.inputs().len() } else { 1 };
            waiting.extend(vertex.inputs().iter().take(count).map(|input| input.vertex));
        }
        let places = Arc::new(Semaphore::new(AT_ONCE));
        Self { digesting: Mutex::default(), places, tars: Arc::default(), exported }
    }

    /// Waits until the tars of all large layers are hashed, now by all processors.
    pub(crate) async fn finish(&self) {
        let tars = Arc::clone(&self.tars);
        if tars.lock().threads > 0 {
            blocking(move || tars.finish()).await;
        }
    }

    /// Begins nothing any more: there will be no image.
    pub(crate) fn abandon(&self) {
        self.tars.lock().waiting.clear();
    }

    fn digesting(&self) -> MutexGuard<'_, HashMap<LayerId, Digesting>> {
        self.digesting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BuildWorker {
    /// Makes the changes of a step a layer, now or, if that takes long, later.
    pub(super) async fn close(&self, step: StepId, snapshot: ActiveSnapshot) -> Result<(LayerId, Naming), WorkerError> {
        if snapshot.is_empty()? {
            // Perhaps that of another step which changed nothing.
            return Ok((blocking(move || snapshot.commit(LayerKind::Run)).await?.id, Naming::Done));
        }
        let unsealed = snapshot.leave(LayerKind::Run);
        let id = unsealed.id().clone();
        let places = Arc::clone(&self.seals.places);
        let mut digesting = Box::pin(async move {
            let _place = places.acquire().await.expect("nobody closes it");
            blocking(move || unsealed.seal()).await
        });
        let tars = self.seals.exported.contains(&step).then(|| Arc::clone(&self.seals.tars));
        let store = self.store().clone();
        let sealed = move |layer: Layer| {
            if let Some(tars) = tars {
                tars.begin(&store, &layer);
            }
        };
        match tokio::time::timeout(HEAD_START, &mut digesting).await {
            Ok(layer) => {
                sealed(layer?);
                Ok((id, Naming::Done))
            }
            Err(_) => {
                let digesting = async move { digesting.await.map(sealed) };
                self.seals.digesting().insert(id.clone(), Box::pin(digesting));
                Ok((id, Naming::Pending))
            }
        }
    }

    /// Waits until a layer is one.
    pub(super) async fn sealing(&self, id: &LayerId) -> Result<(), WorkerError> {
        let digesting = self.seals.digesting().remove(id);
        match digesting {
            Some(digesting) => Ok(digesting.await?),
            None => Ok(()),
        }
    }
}

/// Layers whose tars are hashed beside the build.
#[derive(Debug, Default)]
struct Tars {
    state: Mutex<Queue>,
    idle: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(Store, LayerId)>,
    threads: usize,
}

impl Tars {
    fn begin(self: &Arc<Self>, store: &Store, layer: &Layer) {
        if layer.disk_bytes < LARGE || layer.diff_id.is_some() {
            return;
        }
        let most = processors().div_ceil(2);
        self.lock().waiting.push_back((store.clone(), layer.id.clone()));
        self.employ(most, NICE);
    }

    /// One more thread if there are fewer. Without any, the tars are hashed when the image is put together.
    fn employ(self: &Arc<Self>, most: usize, nice: i32) {
        let mut queue = self.lock();
        if queue.threads >= most || queue.waiting.is_empty() {
            return;
        }
        let tars = Arc::clone(self);
        let work = move || {
            // In Linux this is a thread's own; nobody is started from here who would inherit it.
            rustix::process::setpriority_process(None, nice).ok();
            tars.work();
        };
        if std::thread::Builder::new().name("tar digest".to_owned()).spawn(work).is_ok() {
            queue.threads += 1;
        }
    }

    fn work(&self) {
        loop {
            let next = {
                let mut queue = self.lock();
                let next = queue.waiting.pop_front();
                if next.is_none() {
                    queue.threads -= 1;
                    self.idle.notify_all();
                }
                next
            };
            let Some((store, id)) = next else { return };
            // Whatever goes wrong, who needs it is told when it is tried again.
            let described = catch_unwind(AssertUnwindSafe(|| store.layers().describe(&id)));
            if !matches!(described, Ok(Ok(_))) {
                tracing::debug!(layer = %id, "tar not hashed beside the build");
            }
        }
    }

    /// Waits for all that was begun.
    fn finish(self: &Arc<Self>) {
        for _ in 0..processors() {
            self.employ(processors(), 0);
        }
        let mut queue = self.lock();
        while queue.threads > 0 {
            queue = self.idle.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
