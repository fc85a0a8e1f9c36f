//! What does a solve cost beside what the worker and the records do?
//!
//! The worker's answers are prepared, the records are a hash map: what remains is the solver's own time.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use rbuild_core::{Digest, KeyHasher, Platform, Reporter};
use rbuild_solver::graph::{ExecOp, Graph, NetworkMode, Op, Origin, Output, SecurityMode};
use rbuild_solver::{Executed, Fingerprint, Limits, Provenance, Records, Solver, Stored, Task, Worker};

/// A worker that answers at once; `prepared` decides whether fingerprints are looked up or computed.
#[derive(Debug)]
pub struct Instant {
    prepared: Option<HashMap<String, Fingerprint>>,
}

fn command(op: &Op) -> &str {
    let Op::Exec(exec) = op else { return "" };
    exec.args.last().map_or("", String::as_str)
}

impl Worker for Instant {
    type Output = Digest;
    type Error = Infallible;

    async fn fingerprint(&self, op: &Op) -> Result<Fingerprint, Infallible> {
        let prepared = self.prepared.as_ref().map(|prepared| prepared[command(op)].clone());
        Ok(prepared.unwrap_or_else(|| Fingerprint::of(op.components())))
    }

    async fn identity(&self, _: &Op, _: usize, output: &Digest) -> Result<Digest, Infallible> {
        Ok(*output)
    }

    async fn execute(&self, task: Task<'_>, inputs: &[Digest]) -> Result<Executed<Digest>, Infallible> {
        let mut hasher = KeyHasher::new("result/1");
        hasher.text(command(task.op)).list(inputs);
        Ok(vec![hasher.finish()].into())
    }
}

/// Records in a hash map.
#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<Digest, Vec<Digest>>>);

impl Memory {
    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Vec<Digest>>> {
        self.0.lock().expect("nothing panics while it is held")
    }
}

impl Records<Digest> for Memory {
    type Guard = ();

    async fn find(&self, key: &Digest) -> Option<Stored<Digest>> {
        let outputs = self.table().get(key)?.clone();
        Some(Stored { outputs, duration: std::time::Duration::ZERO })
    }

    async fn insert(&self, keys: &[Digest], outputs: &[Digest], _: &Provenance) {
        self.table().extend(keys.iter().map(|key| (*key, outputs.to_vec())));
    }

    async fn try_lock(&self, _: &Digest) -> Option<()> {
        Some(())
    }

    async fn lock(&self, _: &Digest) {}

    async fn previous(&self, _: &Digest) -> Option<Provenance> {
        None
    }
}

fn run(text: String) -> Op {
    Op::Exec(Box::new(ExecOp {
        args: vec!["/bin/sh".into(), "-c".into(), text],
        env: ["PATH", "HOME", "LANG", "VERSION"].map(|name| (name, "some value of it")).into_iter().collect(),
        cwd: "/src".into(),
        user: String::new(),
        hostname: String::new(),
        network: NetworkMode::Default,
        security: SecurityMode::Sandbox,
        mounts: Vec::new(),
        extra_hosts: Vec::new(),
        proxy_env: Vec::new(),
        devices: Vec::new(),
        shm_size: None,
        platform: Platform { os: "linux".into(), arch: "amd64".into(), variant: None },
    }))
}

/// A chain of `count` steps; the last of them says `end`.
pub fn chain(count: usize, end: &str) -> (Graph, [Output; 1]) {
    let mut graph = Graph::new();
    let mut inputs = Vec::new();
    for number in 1..=count {
        let text = if number == count { format!("make {end}") } else { format!("make part-{number}") };
        let origin = Origin { title: format!("[build {number}/{count}] RUN {text}"), ..Origin::default() };
        let output = graph.add(run(text), &inputs, origin).expect("the input is of this graph");
        inputs = vec![output];
    }
    (graph, [inputs[0]])
}

/// A solver without records.
pub fn solver(graph: &Graph, prepared: bool) -> Solver<Instant, Memory> {
    let fingerprint = |op: &Op| (command(op).to_owned(), Fingerprint::of(op.components()));
    let prepared = prepared.then(|| graph.vertices().map(|(_, vertex)| fingerprint(&vertex.op)).collect());
    Solver::new(Instant { prepared }, Memory::default(), Limits::default())
}

/// None of the fakes waits for anything, so polling is enough; there is no runtime to measure.
pub fn solve(solver: &Solver<Instant, Memory>, graph: &Graph, targets: &[Output], reporter: &Reporter) -> Vec<Digest> {
    let mut solving = pin!(solver.solve(graph, targets, reporter));
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(solved) = solving.as_mut().poll(&mut context) {
            return solved.expect("the worker never fails");
        }
    }
}
