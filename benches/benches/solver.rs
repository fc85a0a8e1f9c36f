//! What does a solve cost beside what the worker and the records do?
//!
//! The budget of `fully_cached_500_steps` is 1 ms.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use rbuild_benches::solving::{chain, solve, solver};
use rbuild_core::Reporter;

fn solves(criterion: &mut Criterion) {
    let (graph, target) = chain(500, "all");
    let silent = Reporter::silent();
    let listened = Reporter::new(|event| {
        black_box(event);
    });
    for (name, prepared, reporter) in [
        ("fully_cached_500_steps", true, &silent),
        ("fully_cached_500_steps_with_fingerprints", false, &silent),
        ("fully_cached_500_steps_with_fingerprints_and_events", false, &listened),
    ] {
        let solver = solver(&graph, prepared);
        solve(&solver, &graph, &target, reporter);
        criterion.bench_function(name, |bencher| bencher.iter(|| solve(&solver, &graph, &target, reporter)));
    }
    criterion.bench_function("500_steps_of_nothing", |bencher| {
        bencher.iter_with_large_drop(|| {
            let solver = solver(&graph, false);
            solve(&solver, &graph, &target, &silent);
            solver
        });
    });
}

criterion_group!(benches, solves);
criterion_main!(benches);
