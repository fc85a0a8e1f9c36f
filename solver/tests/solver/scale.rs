//! Does size cost more than size?

use std::time::Instant;

use rbuild_core::Reporter;
use rbuild_solver::graph::{Graph, Op, Origin, Output, Variables};

use crate::fake::{Bench, add, add_titled, exec};

#[tokio::test]
async fn a_chain_of_ten_thousand_needs_no_stack() {
    let bench = Bench::new(4);
    let mut graph = Graph::new();
    let mut last = add(&mut graph, &["base", "=x"], &[]);
    for number in 1..10_000 {
        last = add(&mut graph, &[&format!("step {number}"), "=x"], &[last]);
    }
    // A small stack on purpose; the graph is dropped on it, too.
    let small = std::thread::Builder::new().stack_size(256 * 1024);
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            assert_eq!(bench.solve(&graph, last).await, "x");
            assert_eq!(bench.ledger.began().len(), 10_000);
            assert_eq!(bench.solve(&graph, last).await, "x");
            assert_eq!(bench.ledger.began().len(), 10_000);
        });
    };
    small.spawn(run).unwrap().join().unwrap();
}

#[tokio::test]
async fn ten_thousand_vertices_side_by_side() {
    let bench = Bench::new(8);
    let mut graph = Graph::new();
    let base = add(&mut graph, &["base"], &[]);
    let steps: Vec<_> =
        (0..10_000).map(|number| add(&mut graph, &[&format!("step {number}"), "=x"], &[base])).collect();
    bench.solver.solve(&graph, &steps, &Reporter::silent()).await.unwrap();
    assert_eq!(bench.ledger.began().len(), 10_001);
    assert!(bench.ledger.peak() <= 8);
}

#[tokio::test]
async fn a_ladder_of_diamonds_is_not_exponential() {
    let bench = Bench::new(8);
    let mut graph = Graph::new();
    let mut last = add(&mut graph, &["base", "=x"], &[]);
    for number in 0..200 {
        let left = add(&mut graph, &[&format!("left {number}"), "=x"], &[last, last]);
        let right = add(&mut graph, &[&format!("right {number}"), "=x"], &[last, last]);
        last = add(&mut graph, &[&format!("join {number}"), "=x"], &[left, right]);
    }
    let began = Instant::now();
    bench.solve(&graph, last).await;
    bench.solver.explain(&graph, last).await.unwrap();
    assert_eq!(bench.ledger.began().len(), 601);
    assert!(began.elapsed().as_secs() < 20);
}

/// `stages` stages of 50 steps each, every other of which has one more variable and copies from the stage before.
fn stages(stages: usize) -> (Graph, Output) {
    let mut graph = Graph::new();
    graph.set_scope("/src/Dockerfile");
    let base = add_titled(&mut graph, &["base", "=x"], &[], "[base 1/1] FROM base", false);
    let mut finished = base;
    for stage in 0..stages {
        let mut last = base;
        let mut env = Variables::default();
        for step in 0..50 {
            let name = format!("step {stage} {step}");
            let Op::Exec(mut op) = exec(&[&name, "=x"]) else { unreachable!() };
            if step % 2 == 0 {
                env.push(format!("VARIABLE_{step}"), "value");
            }
            op.env = env.clone();
            let inputs = if step % 10 == 9 { vec![last, finished] } else { vec![last] };
            let title = format!("[stage-{stage} {step}/50] RUN {name}");
            let origin = Origin { title, ..Origin::default() };
            last = graph.add(Op::Exec(op), &inputs, origin).unwrap();
        }
        finished = last;
    }
    (graph, finished)
}

/// Processor time of this thread, which does all the work, for what takes the least of three times.
fn cost(mut work: impl FnMut()) -> std::time::Duration {
    let now = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        std::time::Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
    };
    let once = |_| {
        let began = now();
        work();
        now() - began
    };
    (0..3).map(once).min().unwrap()
}

#[test]
fn two_hundred_stages_of_fifty_steps_cost_as_much_per_step_as_twenty() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let measure = |count: usize| {
        let (graph, top) = stages(count);
        let first = cost(|| {
            let bench = Bench::new(8);
            runtime.block_on(bench.solve(&graph, top));
            assert_eq!(bench.ledger.began().len(), 50 * count + 1);
        });
        let bench = Bench::new(8);
        runtime.block_on(bench.solve(&graph, top));
        let again = cost(|| drop(runtime.block_on(bench.solve(&graph, top))));
        let (mut edited, top) = (graph.clone(), top);
        let top = add_titled(&mut edited, &["new"], &[top], "[last 1/1] RUN new", false);
        let explained = cost(|| drop(runtime.block_on(bench.solver.explain(&edited, top)).unwrap()));
        (first, again, explained)
    };
    let (few, many) = (measure(20), measure(200));
    for (what, few, many) in [("built", few.0, many.0), ("found", few.1, many.1), ("explained", few.2, many.2)] {
        println!("{what}: {few:?} for 1,000 steps, {many:?} for 10,000");
        // Ten times the steps; what is quadratic would take a hundred times as long.
        assert!(many < 25 * few, "{what}: {few:?} for 1,000 steps, {many:?} for 10,000");
    }
}
