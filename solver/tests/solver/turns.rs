//! Is what only waits for its turn free for other processes?

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{join, join_all, poll_immediate};
use rbuild_core::Reporter;
use rbuild_solver::graph::{Graph, Output};
use tokio::time::timeout;

use crate::fake::{Bench, Memory, Recorder, add, add_file, settle};

/// Steps that do not differ but by their names; the first takes a second, the others none.
fn alike(count: usize) -> (Graph, Vec<Output>) {
    let mut graph = Graph::new();
    let script = |number: usize| if number == 0 { "sleep 1000" } else { "ok" };
    let steps = (0..count).map(|number| add(&mut graph, &[&format!("step {number:02}"), script(number)], &[]));
    let steps = steps.collect();
    (graph, steps)
}

#[tokio::test(start_paused = true)]
async fn another_process_makes_what_would_be_the_last_of_many_alike() {
    let (graph, steps) = alike(100);
    let alone = Bench::new(1);
    alone.solver.solve(&graph, &steps, &Reporter::silent()).await.unwrap();
    let order = alone.ledger.began();
    let last: usize = order[99].trim_start_matches("step ").parse().unwrap();

    let memory = Memory::default();
    let (many, one) = (Bench::on(memory.clone(), 1), Bench::on(memory, 1));
    let recorder = Recorder::default();
    let reporter = recorder.reporter();
    let mut solve = Box::pin(many.solver.solve(&graph, &steps, &reporter));
    while many.ledger.running() == 0 {
        assert!(poll_immediate(&mut solve).await.is_none());
    }
    let found = timeout(Duration::from_millis(500), one.solve(&graph, steps[last])).await;
    assert_eq!(found.expect("nobody executes it"), format!("step {last:02}()"));
    assert_eq!(many.ledger.began(), order[..1]);
    solve.await.unwrap();
    assert_eq!(many.ledger.began(), order[..99], "the order of the others is as it was");
    let cached: Vec<_> = recorder.outcomes().into_iter().filter(|outcome| outcome.ends_with("cached")).collect();
    assert_eq!(cached, [format!("step {last:02}:cached")]);
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_not_idle_while_another_process_makes_the_next_step() {
    let memory = Memory::default();
    let (one, two) = (Bench::on(memory.clone(), 1), Bench::on(memory, 1));
    let mut graph = Graph::new();
    let shared = add(&mut graph, &["shared", "sleep 1000"], &[]);
    let rest = add(&mut graph, &["rest", "sleep 10"], &[]);
    let reporter = Reporter::silent();
    let (first, both) = ([shared], [rest, shared]);
    let mut making = Box::pin(one.solver.solve(&graph, &first, &reporter));
    while one.ledger.running() == 0 {
        assert!(poll_immediate(&mut making).await.is_none());
    }
    let began = tokio::time::Instant::now();
    let (made, found) = join(making, two.solver.solve(&graph, &both, &reporter)).await;
    assert_eq!(found.unwrap()[1], made.unwrap()[0]);
    assert_eq!((one.ledger.began(), two.ledger.began()), (vec!["shared".to_owned()], vec!["rest".to_owned()]));
    assert!(began.elapsed() < Duration::from_millis(1100), "one did not wait for the other: {:?}", began.elapsed());
}

/// Two processes with as many steps each, in opposite orders, and every number of slots: whoever waits for whom, all end.
#[tokio::test(start_paused = true)]
async fn processes_that_wait_for_each_other_end_and_make_each_step_once() {
    for jobs in 1..4 {
        let memory = Memory::default();
        let benches: Vec<_> = (0..3).map(|_| Bench::on(memory.clone(), jobs)).collect();
        let builds = benches.iter().enumerate().map(|(number, bench)| async move {
            let mut graph = Graph::new();
            let base = add(&mut graph, &["base"], &[]);
            let mut places: Vec<usize> = (0..40).collect();
            if number % 2 == 1 {
                places.reverse();
            }
            let mut ends = Vec::new();
            for place in places {
                let first = add(&mut graph, &[&format!("first {place}"), "sleep 10", "late 5"], &[base]);
                let file = add_file(&mut graph, &[first]);
                ends.push(add(&mut graph, &[&format!("second {place}"), "sleep 10"], &[first, file]));
                ends.push(add(&mut graph, &[&format!("third {place}"), "sleep 10"], &[first]));
            }
            bench.solver.solve(&graph, &ends, &Reporter::silent()).await.unwrap();
        });
        timeout(Duration::from_secs(3600), join_all(builds)).await.expect("nobody waits for ever");
        let mut made: Vec<_> = benches.iter().flat_map(|bench| bench.ledger.began()).collect();
        made.retain(|name| name != "other");
        let count = made.len();
        made.sort();
        made.dedup();
        assert_eq!((made.len(), count), (121, 121), "{jobs} jobs");
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_process_failed_to_make_is_made() {
    let memory = Memory::default();
    let (one, two) = (Bench::on(memory.clone(), 1), Bench::on(memory, 1));
    let mut graph = Graph::new();
    let shared = [add(&mut graph, &["shared", "sleep 100"], &[])];
    let reporter = Reporter::silent();
    let mut making = Box::pin(one.solver.solve(&graph, &shared, &reporter));
    while one.ledger.running() == 0 {
        assert!(poll_immediate(&mut making).await.is_none());
    }
    let mut waiting = Box::pin(two.solver.solve(&graph, &shared, &reporter));
    for _ in 0..20 {
        assert!(poll_immediate(&mut waiting).await.is_none());
    }
    drop(making);
    timeout(Duration::from_millis(500), waiting).await.expect("the lock is free").unwrap();
    assert_eq!(two.ledger.began(), ["shared"]);
}

#[tokio::test(start_paused = true)]
async fn only_what_executes_has_a_lock() {
    let bench = Bench::new(2);
    let (graph, steps) = alike(1000);
    bench.solver.solve(&graph, &steps, &Reporter::silent()).await.unwrap();
    assert_eq!(bench.ledger.began().len(), 1000);
    let cores = std::thread::available_parallelism().unwrap().get();
    let peak = bench.memory.0.locked_at_most.load(Ordering::SeqCst);
    assert!((1..=2 + cores).contains(&peak), "{peak} locks");
}

/// A process that could begin before its input has a name still waits for its turn when the name is there.
#[tokio::test(start_paused = true)]
async fn who_gets_a_key_while_it_waits_looks_what_is_known_under_it() {
    let memory = Memory::default();
    let (one, two) = (Bench::on(memory.clone(), 1), Bench::on(memory, 2));
    let mut graph = Graph::new();
    let large = add(&mut graph, &["large", "late 10", "=1"], &[]);
    let next = add(&mut graph, &["next"], &[large]);
    let slow = add(&mut graph, &["slow", "sleep 1000"], &[]);
    let reporter = Reporter::silent();
    let targets = [slow, next];
    let mut solve = Box::pin(one.solver.solve(&graph, &targets, &reporter));
    while one.ledger.settled.lock().unwrap().is_empty() {
        assert!(poll_immediate(&mut solve).await.is_none());
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    settle().await;
    assert!(poll_immediate(&mut solve).await.is_none());
    assert_eq!(one.ledger.began(), ["large", "slow"]);
    let found = timeout(Duration::from_millis(500), two.solve(&graph, next)).await;
    assert_eq!(found.expect("nobody executes it"), "next(1)");
    assert_eq!(two.ledger.began(), ["next"]);
    solve.await.unwrap();
    assert_eq!(one.ledger.began(), ["large", "slow"]);
}
