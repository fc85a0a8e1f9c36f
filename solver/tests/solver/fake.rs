//! A worker and a memory that do nothing but tell what was asked of them.
//!
//! A fake op is an `Exec` whose first argument is its name and whose others are a script: `=TEXT` makes the content
//! `TEXT`, `fail`, `sleep N` (milliseconds), `forever`, `two` (outputs), `log`,
//! `late N` (its outputs have a name that much later; never, if that is no number, but for `late once`, which fails the
//! first time only). Without `=` the content is
//! `name(input contents)`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rbuild_core::{Digest, Event, KeyHasher, Outcome, Platform, Reporter, Stream};
use rbuild_solver::graph::{ExecOp, FileOp, Graph, NetworkMode, Op, Origin, Output, SecurityMode, Variables};
use rbuild_solver::{Executed, Fingerprint, Limits, Naming, Provenance, Records, Solver, Stored, Task, Worker};
use tokio::sync::OwnedMutexGuard;

/// What a fake vertex makes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Thing(pub Arc<str>);

#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0} is broken")]
pub(crate) struct Broken(pub String);

/// Everything a worker was asked, shared with the test.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Names in the order their execution began.
    pub(crate) began: Mutex<Vec<String>>,
    /// Names in the order their execution succeeded.
    pub(crate) ended: Mutex<Vec<String>>,
    /// Content keys that were executed successfully, with repetitions.
    pub(crate) keys: Mutex<Vec<Digest>>,
    /// Executions that run now, and the most that ever did.
    pub(crate) running: AtomicUsize,
    pub(crate) peak: AtomicUsize,
    /// Names whose fingerprint was asked for.
    pub(crate) fingerprints: AtomicUsize,
    pub(crate) identities: AtomicUsize,
    /// How often the identity of something was asked for that stands on what has no name.
    pub(crate) unsettled_identities: AtomicUsize,
    /// Names whose outputs were given a name in the end.
    pub(crate) settled: Mutex<Vec<String>>,
    /// What outputs without a name are waiting for: who made them, and how many milliseconds.
    late: Mutex<HashMap<String, (String, String)>>,
    /// Who has failed, of those that fail the first time.
    pub(crate) failed_once: Mutex<HashSet<String>>,
    /// Makes each execution of an op produce another content, as a real clock would.
    pub(crate) volatile: AtomicBool,
    /// Added to each fingerprint of the op of that name.
    pub(crate) salts: Mutex<HashMap<String, String>>,
}

impl Ledger {
    pub(crate) fn began(&self) -> Vec<String> {
        self.began.lock().unwrap().clone()
    }

    pub(crate) fn sorted(&self) -> Vec<String> {
        let mut names = self.began();
        names.sort();
        names
    }

    pub(crate) fn forget(&self) {
        self.began.lock().unwrap().clear();
        self.ended.lock().unwrap().clear();
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    pub(crate) fn peak(&self) -> usize {
        self.peak.load(Ordering::SeqCst)
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Fake(pub Arc<Ledger>);

struct Running<'a>(&'a Ledger);

impl<'a> Running<'a> {
    fn new(ledger: &'a Ledger) -> Self {
        let now = ledger.running.fetch_add(1, Ordering::SeqCst) + 1;
        ledger.peak.fetch_max(now, Ordering::SeqCst);
        Self(ledger)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn script(op: &Op) -> (&str, &[String]) {
    match op {
        Op::Exec(exec) => (&exec.args[0], &exec.args[1..]),
        _ => ("other", &[]),
    }
}

impl Worker for Fake {
    type Output = Thing;
    type Error = Broken;

    async fn fingerprint(&self, op: &Op) -> Result<Fingerprint, Broken> {
        self.0.fingerprints.fetch_add(1, Ordering::SeqCst);
        let (name, script) = script(op);
        if script.iter().any(|word| word == "no fingerprint") {
            return Err(Broken(name.to_owned()));
        }
        let mut components = op.components();
        if let Some(salt) = self.0.salts.lock().unwrap().get(name) {
            components.push(rbuild_solver::graph::Component::new("salt", salt));
        }
        Ok(Fingerprint::of(components))
    }

    async fn identity(&self, op: &Op, _: usize, output: &Thing) -> Result<Digest, Broken> {
        self.0.identities.fetch_add(1, Ordering::SeqCst);
        let (name, script) = script(op);
        if script.iter().any(|word| word == "no identity") {
            return Err(Broken(name.to_owned()));
        }
        if self.0.late.lock().unwrap().keys().any(|late| output.0.contains(late.as_str())) {
            self.0.unsettled_identities.fetch_add(1, Ordering::SeqCst);
        }
        let mut hasher = KeyHasher::new("thing/1");
        hasher.text(&output.0);
        Ok(hasher.finish())
    }

    async fn execute(&self, task: Task<'_>, inputs: &[Thing]) -> Result<Executed<Thing>, Broken> {
        let _running = Running::new(&self.0);
        let (name, script) = script(task.op);
        self.0.began.lock().unwrap().push(name.to_owned());
        let inputs: Vec<_> = inputs.iter().map(|input| &*input.0).collect();
        let mut content = format!("{name}({})", inputs.join(","));
        let (mut copies, mut late) = (1, None);
        tokio::task::yield_now().await;
        for word in script {
            match word.split_once(' ').unwrap_or((word, "")) {
                ("fail", _) => return Err(Broken(name.to_owned())),
                ("sleep", time) => tokio::time::sleep(Duration::from_millis(time.parse().unwrap())).await,
                ("forever", _) => std::future::pending().await,
                ("two", _) => copies = 2,
                ("late", time) => late = Some(time.to_owned()),
                ("log", _) => {
                    let data = name.as_bytes().to_vec();
                    task.reporter.emit(Event::Log { step: task.step, stream: Stream::Stdout, data });
                }
                _ => content = word.strip_prefix('=').unwrap_or(&content).to_owned(),
            }
        }
        if self.0.volatile.load(Ordering::SeqCst) {
            content = format!("{content}#{}", self.0.keys.lock().unwrap().len());
        }
        self.0.keys.lock().unwrap().push(*task.key);
        self.0.ended.lock().unwrap().push(name.to_owned());
        let outputs = (0..copies).map(|copy| Thing(format!("{content}{}", "'".repeat(copy)).into()));
        let mut executed = Executed::from(outputs.collect::<Vec<_>>());
        if let Some(time) = late {
            executed.naming = Naming::Pending;
            self.0.late.lock().unwrap().insert(content, (name.to_owned(), time));
        }
        Ok(executed)
    }

    async fn settle(&self, outputs: &[Thing]) -> Result<(), Broken> {
        let (name, time) = self.0.late.lock().unwrap()[&*outputs[0].0].clone();
        if time == "once" {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if self.0.failed_once.lock().unwrap().insert(name.clone()) {
                return Err(Broken(name));
            }
            self.0.late.lock().unwrap().remove(&*outputs[0].0);
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(time.parse().map_err(|_| Broken(name.clone()))?)).await;
        self.0.late.lock().unwrap().remove(&*outputs[0].0);
        self.0.settled.lock().unwrap().push(name);
        Ok(())
    }
}

/// A memory that several solvers can share, as processes share a store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(pub Arc<Shelf>);

impl Memory {
    /// Forgets what is found under `key`, under all its keys.
    pub(crate) fn prune(&self, key: &Digest) {
        let mut records = self.0.records.lock().unwrap();
        let pruned = records[key].clone();
        records.retain(|_, stored| stored.outputs != pruned.outputs);
    }
}

#[derive(Debug, Default)]
pub(crate) struct Shelf {
    pub(crate) records: Mutex<HashMap<Digest, Stored<Thing>>>,
    pub(crate) steps: Mutex<HashMap<Digest, Provenance>>,
    locks: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    /// Locks that are held now, and the most that ever were.
    locked: AtomicUsize,
    pub(crate) locked_at_most: AtomicUsize,
    /// The titles that were recorded, each with the number of locks that were held then.
    pub(crate) recorded: Mutex<Vec<(String, usize)>>,
    pub(crate) finds: AtomicUsize,
    /// Nothing is remembered, as on a full disk.
    pub(crate) forgetful: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct Locked {
    shelf: Arc<Shelf>,
    _guard: OwnedMutexGuard<()>,
}

impl Locked {
    fn new(shelf: &Arc<Shelf>, guard: OwnedMutexGuard<()>) -> Self {
        let now = shelf.locked.fetch_add(1, Ordering::SeqCst) + 1;
        shelf.locked_at_most.fetch_max(now, Ordering::SeqCst);
        Self { shelf: Arc::clone(shelf), _guard: guard }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.shelf.locked.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shelf {
    fn lock_of(&self, key: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.locks.lock().unwrap().entry(*key).or_default())
    }
}

impl Records<Thing> for Memory {
    type Guard = Locked;

    async fn find(&self, key: &Digest) -> Option<Stored<Thing>> {
        self.0.finds.fetch_add(1, Ordering::SeqCst);
        self.0.records.lock().unwrap().get(key).cloned()
    }

    async fn insert(&self, keys: &[Digest], outputs: &[Thing], provenance: &Provenance) {
        if self.0.forgetful.load(Ordering::SeqCst) {
            return;
        }
        self.0.recorded.lock().unwrap().push((provenance.title.clone(), self.0.locked.load(Ordering::SeqCst)));
        for key in keys {
            let stored = Stored { outputs: outputs.to_vec(), duration: provenance.duration };
            self.0.records.lock().unwrap().insert(*key, stored);
        }
        for step in &provenance.steps {
            self.0.steps.lock().unwrap().insert(*step, provenance.clone());
        }
    }

    async fn try_lock(&self, key: &Digest) -> Option<Self::Guard> {
        Some(Locked::new(&self.0, self.0.lock_of(key).try_lock_owned().ok()?))
    }

    async fn lock(&self, key: &Digest) -> Self::Guard {
        Locked::new(&self.0, self.0.lock_of(key).lock_owned().await)
    }

    async fn previous(&self, step: &Digest) -> Option<Provenance> {
        self.0.steps.lock().unwrap().get(step).cloned()
    }
}

/// A solver, what its worker did, and what it remembers.
pub(crate) struct Bench {
    pub(crate) solver: Solver<Fake, Memory>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) memory: Memory,
}

impl Bench {
    pub(crate) fn new(jobs: usize) -> Self {
        Self::on(Memory::default(), jobs)
    }

    /// As another process with the same store.
    pub(crate) fn on(memory: Memory, jobs: usize) -> Self {
        let worker = Fake::default();
        let ledger = Arc::clone(&worker.0);
        let solver = Solver::new(worker, memory.clone(), Limits { jobs: Some(jobs), fetches: 4 });
        Self { solver, ledger, memory }
    }

    pub(crate) async fn solve(&self, graph: &Graph, target: Output) -> String {
        let things = self.solver.solve(graph, &[target], &Reporter::silent()).await.unwrap();
        things[0].0.to_string()
    }
}

/// The op of a fake script.
pub(crate) fn exec(args: &[&str]) -> Op {
    Op::Exec(Box::new(ExecOp {
        args: args.iter().map(|word| (*word).to_owned()).collect(),
        env: Variables::default(),
        cwd: "/".to_owned(),
        user: String::new(),
        hostname: String::new(),
        network: NetworkMode::Default,
        security: SecurityMode::Sandbox,
        mounts: Vec::new(),
        extra_hosts: Vec::new(),
        proxy_env: Vec::new(),
        devices: Vec::new(),
        shm_size: None,
        platform: Platform { os: "linux".to_owned(), arch: "amd64".to_owned(), variant: None },
    }))
}

/// Adds the vertex of a fake script.
pub(crate) fn add(graph: &mut Graph, args: &[&str], inputs: &[Output]) -> Output {
    add_titled(graph, args, inputs, args[0], false)
}

/// Adds a vertex whose records are ignored.
pub(crate) fn force(graph: &mut Graph, args: &[&str], inputs: &[Output]) -> Output {
    add_titled(graph, args, inputs, args[0], true)
}

pub(crate) fn add_titled(
    graph: &mut Graph,
    args: &[&str],
    inputs: &[Output],
    title: &str,
    ignore_cache: bool,
) -> Output {
    let origin = Origin { title: title.to_owned(), ignore_cache, ..Origin::default() };
    graph.add(exec(args), inputs, origin).unwrap()
}

/// Adds a vertex that needs no process.
pub(crate) fn add_file(graph: &mut Graph, inputs: &[Output]) -> Output {
    graph.add(Op::File(FileOp { actions: Vec::new() }), inputs, Origin::default()).unwrap()
}

/// Collects what is reported, and insists that every step starts once and ends once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorder(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    titles: BTreeMap<u32, String>,
    outcomes: BTreeMap<u32, Outcome>,
    logs: Vec<(u32, String)>,
    planned: Option<u32>,
    order: Vec<u32>,
}

impl Recorder {
    pub(crate) fn reporter(&self) -> Reporter {
        let seen = Arc::clone(&self.0);
        Reporter::new(move |event| {
            let mut seen = seen.lock().unwrap();
            match event {
                Event::Planned { steps } => assert!(seen.planned.replace(steps).is_none()),
                Event::StepStarted { step, title } => {
                    assert!(seen.titles.insert(step.0, title).is_none(), "step {} started twice", step.0);
                }
                Event::StepFinished { step, outcome, .. } => {
                    assert!(seen.titles.contains_key(&step.0), "step {} ended before it started", step.0);
                    assert!(seen.outcomes.insert(step.0, outcome).is_none(), "step {} ended twice", step.0);
                    seen.order.push(step.0);
                }
                Event::Log { step, data, .. } => {
                    assert!(!seen.outcomes.contains_key(&step.0), "step {} printed after its end", step.0);
                    seen.logs.push((step.0, String::from_utf8(data).unwrap()));
                }
                other => panic!("unexpected {other:?}"),
            }
        })
    }

    /// `title:outcome` of all steps in the order of their numbers; every started step must have ended.
    pub(crate) fn outcomes(&self) -> Vec<String> {
        let seen = self.0.lock().unwrap();
        let started: HashSet<_> = seen.titles.keys().collect();
        assert_eq!(started, seen.outcomes.keys().collect(), "each started step ends");
        let outcomes = seen.outcomes.iter().map(|(step, outcome)| {
            let outcome = match outcome {
                Outcome::Done => "done".to_owned(),
                Outcome::Cached => "cached".to_owned(),
                Outcome::Failed(reason) => format!("failed: {reason}"),
                Outcome::Cancelled => "cancelled".to_owned(),
            };
            format!("{}:{outcome}", seen.titles[step])
        });
        outcomes.collect()
    }

    pub(crate) fn logs(&self) -> Vec<(u32, String)> {
        self.0.lock().unwrap().logs.clone()
    }

    pub(crate) fn planned(&self) -> Option<u32> {
        self.0.lock().unwrap().planned
    }
}

/// Lets everything that can go on go on until nothing more happens by itself.
pub(crate) async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}
