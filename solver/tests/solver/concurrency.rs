//! Do things run at once that can, and once that may?

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{join, poll_immediate};
use rbuild_core::Reporter;
use rbuild_solver::graph::{Graph, Output};

use crate::fake::{Bench, Memory, Recorder, add, add_file, force, settle};

fn diamond(script: &str) -> (Graph, Output) {
    let mut graph = Graph::new();
    let base = add(&mut graph, &["base"], &[]);
    let left = add(&mut graph, &["left", script], &[base]);
    let right = add(&mut graph, &["right", script], &[base]);
    let top = add(&mut graph, &["top"], &[left, right]);
    (graph, top)
}

#[tokio::test]
async fn a_diamond_runs_each_vertex_once_and_its_sides_at_once() {
    let bench = Bench::new(4);
    let (graph, top) = diamond("sleep 20");
    assert_eq!(bench.solve(&graph, top).await, "top(left(base()),right(base()))");
    assert_eq!(bench.ledger.sorted(), ["base", "left", "right", "top"]);
    assert_eq!(bench.ledger.peak(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_more_processes_run_than_there_are_slots() {
    for jobs in [1, 3] {
        let bench = Bench::new(jobs);
        let mut graph = Graph::new();
        let names: Vec<_> = (0..10).map(|number| format!("step {number}")).collect();
        let steps: Vec<_> = names.iter().map(|name| add(&mut graph, &[name, "sleep 10"], &[])).collect();
        let top = add(&mut graph, &["top"], &steps);
        bench.solve(&graph, top).await;
        assert_eq!(bench.ledger.peak(), jobs);
    }
}

#[tokio::test(start_paused = true)]
async fn file_ops_do_not_wait_for_a_process_slot() {
    let bench = Bench::new(1);
    let mut graph = Graph::new();
    let slow = add(&mut graph, &["slow", "sleep 1000"], &[]);
    let file = add_file(&mut graph, &[]);
    let targets = [slow, file];
    let reporter = Reporter::silent();
    let mut solve = Box::pin(bench.solver.solve(&graph, &targets, &reporter));
    assert!(poll_immediate(&mut solve).await.is_none());
    for _ in 0..20 {
        tokio::task::yield_now().await;
        assert!(poll_immediate(&mut solve).await.is_none());
    }
    assert_eq!(*bench.ledger.ended.lock().unwrap(), ["other"]);
}

#[tokio::test(start_paused = true)]
async fn the_longest_path_goes_first_by_recorded_durations() {
    let bench = Bench::new(1);
    // `b` itself is the shortest, but `slow` waits behind it.
    let graph = |version: &str| {
        let mut graph = Graph::new();
        let source = add(&mut graph, &["source", version], &[]);
        let short = add(&mut graph, &["a", "sleep 50"], &[source]);
        let key = add(&mut graph, &["b", "sleep 1"], &[source]);
        let middle = add(&mut graph, &["c", "sleep 100"], &[source]);
        let slow = add(&mut graph, &["slow", "sleep 500"], &[key]);
        let top = add(&mut graph, &["top"], &[short, middle, slow]);
        (graph, top)
    };
    let (first, top) = graph("=1");
    bench.solve(&first, top).await;
    for provenance in bench.memory.0.steps.lock().unwrap().values_mut() {
        let millis = match provenance.title.as_str() {
            "a" => 50,
            "c" => 100,
            "slow" => 500,
            _ => 1,
        };
        provenance.duration = Duration::from_millis(millis);
    }
    bench.ledger.forget();
    let (second, top) = graph("=2");
    bench.solve(&second, top).await;
    // `a` found a slot free; then `b` went before the longer `c`. `slow` was not ready yet when `b` gave its slot away.
    assert_eq!(bench.ledger.began(), ["source", "a", "b", "c", "slow", "top"]);
}

#[tokio::test]
async fn two_solves_share_what_they_have_in_common() {
    let bench = Bench::new(4);
    let (graph, top) = diamond("sleep 20");
    let mut other = graph.clone();
    let more = add(&mut other, &["more"], &[top]);
    let (one, two) = join(bench.solve(&graph, top), bench.solve(&other, more)).await;
    assert_eq!(two, format!("more({one})"));
    assert_eq!(bench.ledger.sorted(), ["base", "left", "more", "right", "top"]);
}

#[tokio::test]
async fn sharing_needs_no_memory() {
    let bench = Bench::new(4);
    bench.memory.0.forgetful.store(true, Ordering::SeqCst);
    let (graph, top) = diamond("sleep 20");
    let reporter = Reporter::silent();
    let targets = [top];
    let mut first = Box::pin(bench.solver.solve(&graph, &targets, &reporter));
    while bench.ledger.began().len() < 3 {
        assert!(poll_immediate(&mut first).await.is_none());
        tokio::task::yield_now().await;
    }
    let (first, second) = join(first, bench.solver.solve(&graph, &targets, &reporter)).await;
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(bench.ledger.sorted(), ["base", "left", "right", "top"]);
}

#[tokio::test]
async fn a_dropped_solve_leaves_what_another_waits_for() {
    let bench = Bench::new(4);
    let (graph, top) = diamond("sleep 20");
    let (first, second) = (Recorder::default(), Recorder::default());
    let (one, two) = (first.reporter(), second.reporter());
    let targets = [top];
    let mut dropped = Box::pin(bench.solver.solve(&graph, &targets, &one));
    let mut kept = Box::pin(bench.solver.solve(&graph, &targets, &two));
    while bench.ledger.running() < 2 {
        assert!(poll_immediate(&mut dropped).await.is_none());
        assert!(poll_immediate(&mut kept).await.is_none());
        tokio::task::yield_now().await;
    }
    assert!(poll_immediate(&mut dropped).await.is_none());
    drop(dropped);
    assert_eq!(bench.ledger.running(), 2);
    kept.await.unwrap();
    assert_eq!(bench.ledger.sorted(), ["base", "left", "right", "top"]);
    assert_eq!(first.outcomes(), ["base:done", "left:cancelled", "right:cancelled"]);
    assert_eq!(second.outcomes(), ["base:done", "left:done", "right:done", "top:done"]);
}

#[tokio::test]
async fn everyone_who_waits_hears_the_output_under_its_own_step() {
    let bench = Bench::new(4);
    let mut graph = Graph::new();
    let shared = add(&mut graph, &["shared", "sleep 20", "log"], &[]);
    let mut other = Graph::new();
    add(&mut other, &["unused"], &[]);
    let moved = add(&mut other, &["shared", "sleep 20", "log"], &[]);
    let (first, second) = (Recorder::default(), Recorder::default());
    let (one, two) = (first.reporter(), second.reporter());
    let (shared, moved) = ([shared], [moved]);
    let (one, two) = join(bench.solver.solve(&graph, &shared, &one), bench.solver.solve(&other, &moved, &two)).await;
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(first.logs(), [(0, "shared".to_owned())]);
    assert_eq!(second.logs(), [(1, "shared".to_owned())]);
    assert_eq!(bench.ledger.began(), ["shared"]);
}

#[tokio::test]
async fn another_process_waits_and_then_finds_the_record() {
    let memory = Memory::default();
    let (one, two) = (Bench::on(memory.clone(), 4), Bench::on(memory, 4));
    let (graph, top) = diamond("sleep 20");
    let (left, right) = join(one.solve(&graph, top), two.solve(&graph, top)).await;
    assert_eq!(left, right);
    let mut names = one.ledger.began();
    names.extend(two.ledger.began());
    names.sort();
    assert_eq!(names, ["base", "left", "right", "top"]);
}

#[tokio::test]
async fn a_process_that_dies_leaves_its_work_to_the_one_that_waits() {
    let memory = Memory::default();
    let (one, two) = (Bench::on(memory.clone(), 4), Bench::on(memory, 4));
    let mut graph = Graph::new();
    let step = [add(&mut graph, &["step", "sleep 5"], &[])];
    let reporter = Reporter::silent();
    let mut first = Box::pin(one.solver.solve(&graph, &step, &reporter));
    while one.ledger.running() == 0 {
        assert!(poll_immediate(&mut first).await.is_none());
    }
    let mut second = Box::pin(two.solver.solve(&graph, &step, &reporter));
    for _ in 0..20 {
        assert!(poll_immediate(&mut second).await.is_none());
    }
    assert!(two.ledger.began().is_empty());
    drop(first);
    second.await.unwrap();
    assert_eq!(two.ledger.began(), ["step"]);
}

#[tokio::test]
async fn a_process_that_waits_for_another_holds_no_slot() {
    let memory = Memory::default();
    let (one, two) = (Bench::on(memory.clone(), 1), Bench::on(memory, 1));
    let mut graph = Graph::new();
    let stuck = [add(&mut graph, &["stuck", "forever"], &[])];
    let reporter = Reporter::silent();
    let mut first = Box::pin(one.solver.solve(&graph, &stuck, &reporter));
    while one.ledger.running() == 0 {
        assert!(poll_immediate(&mut first).await.is_none());
    }
    let mut waiting = Box::pin(two.solver.solve(&graph, &stuck, &reporter));
    assert!(poll_immediate(&mut waiting).await.is_none());
    let free = add(&mut graph.clone(), &["free"], &[]);
    let mut other = graph.clone();
    assert_eq!(add(&mut other, &["free"], &[]), free);
    assert_eq!(two.solve(&other, free).await, "free()");
}

#[tokio::test]
async fn concurrent_forced_solves_each_execute() {
    let bench = Bench::new(4);
    let mut graph = Graph::new();
    let fresh = force(&mut graph, &["fresh", "sleep 5"], &[]);
    join(bench.solve(&graph, fresh), bench.solve(&graph, fresh)).await;
    assert_eq!(bench.ledger.began(), ["fresh", "fresh"]);
}

#[tokio::test]
async fn solving_works_from_several_tasks() {
    let bench = Arc::new(Bench::new(2));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let bench = Arc::clone(&bench);
        tasks.spawn(async move {
            let (graph, top) = diamond("sleep 1");
            bench.solve(&graph, top).await
        });
    }
    while let Some(result) = tasks.join_next().await {
        assert_eq!(result.unwrap(), "top(left(base()),right(base()))");
    }
    settle().await;
    assert_eq!(bench.ledger.sorted(), ["base", "left", "right", "top"]);
}

#[test]
fn solving_works_from_several_threads() {
    for round in 0..50 {
        let bench = Bench::new(2);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    let (graph, top) = diamond("ok");
                    assert_eq!(runtime.block_on(bench.solve(&graph, top)), "top(left(base()),right(base()))");
                });
            }
        });
        assert_eq!(bench.ledger.sorted(), ["base", "left", "right", "top"], "round {round}");
        assert_eq!(bench.ledger.running(), 0);
    }
}
