//! Does size cost more than size?

use std::time::Instant;

use rbuild_core::Reporter;
use rbuild_solver::graph::Graph;

use crate::fake::{Bench, add};

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
