//! What is left when a solve ends before its time?

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, poll_immediate};
use rbuild_core::Reporter;
use rbuild_solver::SolveError;
use rbuild_solver::graph::{Graph, Output};

use crate::fake::{Bench, Broken, Recorder, add, add_titled, settle};

#[tokio::test]
async fn dropping_a_solve_aborts_what_runs_at_once() {
    let bench = Bench::new(4);
    let mut graph = Graph::new();
    let stuck = [add(&mut graph, &["stuck", "forever"], &[])];
    let recorder = Recorder::default();
    let reporter = recorder.reporter();
    let mut solve = Box::pin(bench.solver.solve(&graph, &stuck, &reporter));
    while bench.ledger.running() == 0 {
        assert!(poll_immediate(&mut solve).await.is_none());
    }
    drop(solve);
    assert_eq!(bench.ledger.running(), 0);
    assert_eq!(recorder.outcomes(), ["stuck:cancelled"]);
}

#[tokio::test]
async fn the_first_failure_cancels_the_rest_and_keeps_what_is_finished() {
    let bench = Bench::new(4);
    let graph = |fate: &str| {
        let mut graph = Graph::new();
        let base = add(&mut graph, &["base"], &[]);
        let stuck = add(&mut graph, &["stuck", if fate == "fail" { "forever" } else { "ok" }], &[base]);
        let broken = add_titled(&mut graph, &["broken", "sleep 5", fate], &[base], "[3/4] RUN broken", false);
        let top = add(&mut graph, &["top"], &[stuck, broken]);
        (graph, top, broken)
    };
    let (failing, top, broken) = graph("fail");
    let recorder = Recorder::default();
    let error = bench.solver.solve(&failing, &[top], &recorder.reporter()).await.unwrap_err();
    assert_eq!(error.to_string(), "`[3/4] RUN broken` failed");
    assert_eq!(error.source().unwrap().to_string(), "broken is broken");
    assert_eq!(error.vertex(), broken.vertex);
    assert!(matches!(error, SolveError::Vertex { source, .. } if *source == Broken("broken".to_owned())));
    assert_eq!(bench.ledger.running(), 0);
    let expected = ["base:done", "stuck:cancelled", "[3/4] RUN broken:failed: broken is broken"];
    assert_eq!(recorder.outcomes(), expected);
    bench.ledger.forget();
    let (mended, top, _) = graph("ok");
    assert_eq!(bench.solve(&mended, top).await, "top(stuck(base()),broken(base()))");
    assert_eq!(bench.ledger.sorted(), ["broken", "stuck", "top"], "`base` was recorded");
}

#[tokio::test]
async fn a_failure_reaches_all_who_wait_and_nobody_who_asks_later() {
    let bench = Bench::new(4);
    let mut graph = Graph::new();
    let broken = add(&mut graph, &["broken", "sleep 5", "fail"], &[]);
    let names: Vec<_> = (0..50).map(|number| format!("over {number}")).collect();
    let over: Vec<_> = names.iter().map(|name| add(&mut graph, &[name], &[broken])).collect();
    let reporter = Reporter::silent();
    let (one, two) =
        join(bench.solver.solve(&graph, &over, &reporter), bench.solver.solve(&graph, &over, &reporter)).await;
    for error in [one.unwrap_err(), two.unwrap_err()] {
        assert_eq!(error.vertex(), broken.vertex);
    }
    assert_eq!(bench.ledger.began(), ["broken"]);
    bench.solver.solve(&graph, &[broken], &reporter).await.unwrap_err();
    assert_eq!(bench.ledger.began(), ["broken", "broken"], "failures are not recorded");
}

#[tokio::test]
async fn a_failed_flight_is_not_joined_while_its_solve_still_lives() {
    let bench = Bench::new(4);
    let mut graph = Graph::new();
    let broken = [add(&mut graph, &["broken", "sleep 5", "fail"], &[])];
    let reporter = Reporter::silent();
    let mut one = Box::pin(bench.solver.solve(&graph, &broken, &reporter));
    let mut two = Box::pin(bench.solver.solve(&graph, &broken, &reporter));
    while bench.ledger.running() == 0 {
        assert!(poll_immediate(&mut one).await.is_none());
        assert!(poll_immediate(&mut two).await.is_none());
    }
    one.await.unwrap_err();
    // `two` holds the failed flight but has not looked yet.
    bench.solver.solve(&graph, &broken, &reporter).await.unwrap_err();
    assert_eq!(bench.ledger.began(), ["broken", "broken"]);
    two.await.unwrap_err();
}

#[tokio::test]
async fn an_op_that_cannot_be_named_fails_the_solve_before_anything_runs() {
    let bench = Bench::new(4);
    let mut graph = Graph::new();
    let fine = add(&mut graph, &["fine"], &[]);
    let bad = add(&mut graph, &["bad", "no fingerprint"], &[fine]);
    let recorder = Recorder::default();
    let error = bench.solver.solve(&graph, &[bad], &recorder.reporter()).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot compute the cache key of `bad`");
    assert!(bench.ledger.began().is_empty());
    assert_eq!(recorder.outcomes(), ["bad:failed: bad is broken"]);
}

#[tokio::test]
async fn an_input_that_cannot_be_named_fails_its_vertex() {
    let bench = Bench::new(4);
    let mut graph = Graph::new();
    let fine = add(&mut graph, &["fine"], &[]);
    let bad = add(&mut graph, &["bad", "no identity"], &[fine]);
    let recorder = Recorder::default();
    bench.solver.solve(&graph, &[bad], &recorder.reporter()).await.unwrap_err();
    assert_eq!(recorder.outcomes(), ["fine:done", "bad:failed: bad is broken"]);
}

/// A ladder: each rung needs both ends of the one below.
fn ladder() -> (Graph, Output) {
    let mut graph = Graph::new();
    let mut left = add(&mut graph, &["left 0"], &[]);
    let mut right = add(&mut graph, &["right 0"], &[]);
    for rung in 1..12 {
        let inputs = [left, right];
        left = add(&mut graph, &[&format!("left {rung}"), "sleep 1"], &inputs);
        right = add(&mut graph, &[&format!("right {rung}"), "sleep 2"], &inputs);
    }
    let top = add(&mut graph, &["top"], &[left, right]);
    (graph, top)
}

// The shape of moby/buildkit#3628: builds that come and go around one graph must not leave it stuck.
#[tokio::test(start_paused = true)]
async fn two_hundred_rounds_of_start_cancel_restart_leave_a_working_solver() {
    let bench = Arc::new(Bench::new(3));
    bench.memory.0.forgetful.store(true, std::sync::atomic::Ordering::SeqCst);
    let (graph, top) = ladder();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    };
    let mut alive = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (bench, graph, patience) = (Arc::clone(&bench), graph.clone(), random(30));
        alive.spawn(async move {
            let recorder = Recorder::default();
            let reporter = recorder.reporter();
            let targets = [top];
            let solve = bench.solver.solve(&graph, &targets, &reporter);
            let finished = tokio::time::timeout(Duration::from_millis(patience), solve).await.is_ok();
            let cancelled = recorder.outcomes().iter().any(|outcome| outcome.ends_with(":cancelled"));
            assert!(!(finished && cancelled));
        });
        tokio::time::sleep(Duration::from_millis(random(4))).await;
        if random(3) == 0 {
            alive.abort_all();
        }
    }
    while let Some(end) = alive.join_next().await {
        assert!(end.is_ok() || end.unwrap_err().is_cancelled());
    }
    settle().await;
    assert_eq!(bench.ledger.running(), 0);
    bench.memory.0.forgetful.store(false, std::sync::atomic::Ordering::SeqCst);
    bench.ledger.forget();
    bench.solve(&graph, top).await;
    assert_eq!(bench.ledger.began().len(), 25);
    bench.solve(&graph, top).await;
    assert_eq!(bench.ledger.began().len(), 25);
}
