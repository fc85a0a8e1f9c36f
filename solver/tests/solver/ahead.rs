//! Does a process begin before its input has a name, where nothing is lost by it?

use std::sync::atomic::Ordering;

use futures_util::future::{join, poll_immediate};
use rbuild_core::Reporter;
use rbuild_solver::graph::{Graph, Output};

use crate::fake::{Bench, Memory, Recorder, add, add_file, force, settle};

/// `large`, whose name is known 100 ms after its end, and `next` on it.
fn graph(version: &str) -> (Graph, Output) {
    let mut graph = Graph::new();
    let large = add(&mut graph, &["large", "late 100", version], &[]);
    let next = add(&mut graph, &["next", "sleep 30"], &[large]);
    (graph, next)
}

fn settled(bench: &Bench) -> Vec<String> {
    bench.ledger.settled.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn the_next_process_begins_while_the_input_is_named() {
    let bench = Bench::new(4);
    let (graph, next) = graph("=1");
    let recorder = Recorder::default();
    let (targets, reporter) = ([next], recorder.reporter());
    let began = tokio::time::Instant::now();
    let mut solve = Box::pin(bench.solver.solve(&graph, &targets, &reporter));
    while bench.ledger.ended.lock().unwrap().len() < 2 {
        assert!(poll_immediate(&mut solve).await.is_none());
        tokio::time::advance(std::time::Duration::from_millis(1)).await;
    }
    assert!(settled(&bench).is_empty() && began.elapsed().as_millis() < 60);
    assert!(bench.memory.0.records.lock().unwrap().is_empty(), "nothing is recorded without a name");
    let things = solve.await.unwrap();
    assert_eq!(&*things[0].0, "next(1)");
    assert!(began.elapsed().as_millis() < 120, "not one after the other: {:?}", began.elapsed());
    assert_eq!(recorder.outcomes(), ["large:done", "next:done"]);

    // Both are found by all keys that they would have had otherwise.
    let again = Bench::on(bench.memory.clone(), 4);
    assert_eq!(again.solve(&graph, next).await, "next(1)");
    let mut other = Graph::new();
    let large = add(&mut other, &["another", "=1"], &[]);
    let next = add(&mut other, &["next", "sleep 30"], &[large]);
    assert_eq!(again.solve(&other, next).await, "next(1)");
    assert_eq!(again.ledger.began(), ["another"], "an equal input cuts off what follows");
}

#[tokio::test(start_paused = true)]
async fn a_chain_goes_on_without_names() {
    let bench = Bench::new(30);
    let mut graph = Graph::new();
    let mut last = add(&mut graph, &["0", "late 1000"], &[]);
    for number in 1..20 {
        last = add(&mut graph, &[&number.to_string(), "late 1000"], &[last]);
    }
    // Nothing waits for the name of what is two below either.
    for number in 20..30 {
        last = add(&mut graph, &[&number.to_string()], &[last]);
    }
    let began = tokio::time::Instant::now();
    bench.solve(&graph, last).await;
    assert!(began.elapsed().as_millis() < 1100, "{:?}", began.elapsed());
    assert_eq!((bench.ledger.began().len(), settled(&bench).len()), (30, 20));
    let late = bench.ledger.unsettled_identities.load(Ordering::SeqCst);
    assert_eq!(late, 0, "nobody asks what something is that has no name");
    let again = Bench::on(bench.memory.clone(), 4);
    again.solve(&graph, last).await;
    assert!(again.ledger.began().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_chain_waits_for_names_before_too_many_are_missing() {
    let (jobs, cores) = (2, std::thread::available_parallelism().unwrap().get());
    let bench = Bench::new(jobs);
    let mut graph = Graph::new();
    let mut last = add(&mut graph, &["0", "late 1000"], &[]);
    for number in 1..3 * (jobs + cores) {
        last = add(&mut graph, &[&number.to_string(), "late 1000"], &[last]);
    }
    let (targets, reporter) = ([last], Reporter::silent());
    let mut solve = Box::pin(bench.solver.solve(&graph, &targets, &reporter));
    while settled(&bench).is_empty() {
        assert!(poll_immediate(&mut solve).await.is_none());
        tokio::time::advance(std::time::Duration::from_millis(1)).await;
    }
    for _ in 0..20 {
        tokio::task::yield_now().await;
        assert!(poll_immediate(&mut solve).await.is_none());
    }
    assert_eq!(bench.ledger.began().len() - settled(&bench).len(), jobs + cores);
    solve.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_may_be_found_waits_for_the_name() {
    let bench = Bench::new(4);
    let (before, next) = graph("=1");
    bench.solve(&before, next).await;
    bench.ledger.forget();
    // `large` is made anew with the same content: `next` is found by that.
    let mut after = Graph::new();
    let large = add(&mut after, &["large", "late 100", "other", "=1"], &[]);
    let next = add(&mut after, &["next", "sleep 30"], &[large]);
    assert_eq!(bench.solve(&after, next).await, "next(1)");
    assert_eq!(bench.ledger.began(), ["large"]);
    // Where records are ignored there is nothing to wait for.
    bench.ledger.forget();
    let mut forced = Graph::new();
    let large = force(&mut forced, &["large", "late 100", "=1"], &[]);
    let next = force(&mut forced, &["next", "sleep 30"], &[large]);
    let began = tokio::time::Instant::now();
    bench.solve(&forced, next).await;
    assert_eq!(bench.ledger.began(), ["large", "next"]);
    assert!(began.elapsed().as_millis() < 120, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_looks_into_an_input_waits_for_its_name() {
    let bench = Bench::new(4);
    let mut graph = Graph::new();
    let large = add(&mut graph, &["large", "late 100"], &[]);
    let copy = add_file(&mut graph, &[large]);
    let plain = add(&mut graph, &["plain", "sleep 10"], &[]);
    let mounted = add(&mut graph, &["mounted"], &[plain, large]);
    let both = add(&mut graph, &["both"], &[large, plain]);
    let reporter = Reporter::silent();
    let targets = [copy, mounted, both];
    let mut solve = Box::pin(bench.solver.solve(&graph, &targets, &reporter));
    while settled(&bench).is_empty() {
        assert!(poll_immediate(&mut solve).await.is_none());
        tokio::time::advance(std::time::Duration::from_millis(1)).await;
    }
    let began = bench.ledger.began();
    assert_eq!(began[..3], ["large", "plain", "both"], "`both` needs the other input first, which came later");
    solve.await.unwrap();
    assert_eq!(bench.ledger.sorted(), ["both", "large", "mounted", "other", "plain"]);
}

#[tokio::test(start_paused = true)]
async fn an_input_that_cannot_be_named_fails_the_build_and_records_nothing() {
    let bench = Bench::new(4);
    let mut graph = Graph::new();
    let large = add(&mut graph, &["large", "late never"], &[]);
    let next = add(&mut graph, &["next", "sleep 30"], &[large]);
    let recorder = Recorder::default();
    let (targets, reporter) = ([next], recorder.reporter());
    let error = bench.solver.solve(&graph, &targets, &reporter).await.unwrap_err();
    assert_eq!(error.vertex(), large.vertex);
    assert_eq!(recorder.outcomes()[0], "large:failed: large is broken");
    assert!(bench.memory.0.records.lock().unwrap().is_empty());
    settle().await;
    assert_eq!(bench.ledger.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_solve_leaves_no_record_of_what_had_no_name() {
    let bench = Bench::new(4);
    let (graph, next) = graph("=1");
    let (targets, reporter) = ([next], Reporter::silent());
    let mut solve = Box::pin(bench.solver.solve(&graph, &targets, &reporter));
    while bench.ledger.began().len() < 2 {
        assert!(poll_immediate(&mut solve).await.is_none());
        tokio::time::advance(std::time::Duration::from_millis(1)).await;
    }
    drop(solve);
    settle().await;
    assert_eq!(bench.ledger.running(), 0);
    assert!(bench.memory.0.records.lock().unwrap().is_empty());
    assert_eq!(bench.solve(&graph, next).await, "next(1)");
}

#[tokio::test(start_paused = true)]
async fn concurrent_solves_and_processes_still_make_each_once() {
    let bench = Bench::new(4);
    let (graph, next) = graph("=1");
    let (one, two) = join(bench.solve(&graph, next), bench.solve(&graph, next)).await;
    assert_eq!(one, two);
    assert_eq!(bench.ledger.sorted(), ["large", "next"]);

    let memory = Memory::default();
    let (one, two) = (Bench::on(memory.clone(), 4), Bench::on(memory, 4));
    join(one.solve(&graph, next), two.solve(&graph, next)).await;
    let mut names = [one.ledger.began(), two.ledger.began()].concat();
    names.sort();
    assert_eq!(names, ["large", "next"], "the other process waits for the lock of the content key");
    assert_eq!(one.ledger.running.load(Ordering::SeqCst) + two.ledger.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_has_begun_early_is_made_once_over_all_processes_whatever_it_waits_for() {
    // It runs until after the name of its input is known, or has ended before and waits for that or for its own name.
    for script in
        [&["sleep 200"][..], &["late 0"], &["late 200"], &["sleep 50", "late 200"], &["sleep 200", "late 200"]]
    {
        let mut graph = Graph::new();
        let large = add(&mut graph, &["large", "late 100"], &[]);
        let next = add(&mut graph, &[&["next"], script].concat(), &[large]);
        let last = add(&mut graph, &[&["last"], script].concat(), &[next]);
        let memory = Memory::default();
        let (one, two) = (Bench::on(memory.clone(), 4), Bench::on(memory.clone(), 4));
        join(one.solve(&graph, last), two.solve(&graph, last)).await;
        let mut names = [one.ledger.began(), two.ledger.began()].concat();
        names.sort();
        assert_eq!(names, ["large", "last", "next"], "{script:?}");
        // In the moment in which another process can find an input it must not find the key of what stands on it free.
        let recorded = memory.0.recorded.lock().unwrap();
        let locked = |title: &str| recorded.iter().find(|(recorded, _)| recorded == title).map(|(_, locks)| *locks);
        assert!(locked("large") >= Some(2), "{script:?}: {recorded:?}");
        // Unless it had its name when it ended: then nobody has begun on it before.
        assert!(script == ["sleep 200"] || locked("next") >= Some(2), "{script:?}: {recorded:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_made_is_recorded_though_what_follows_fails() {
    let large = ["large", "late 100", "=1"];
    let cases: [(&str, &[&str]); 3] = [
        ("a follower", &["follower", "sleep 30", "fail"]),
        ("a sibling", &["sibling", "sleep 50", "fail"]),
        ("at once", &["follower", "fail"]),
    ];
    for (case, failing) in cases {
        let bench = Bench::new(4);
        let mut graph = Graph::new();
        let made = add(&mut graph, &large, &[]);
        let inputs: &[Output] = if case == "a sibling" { &[] } else { &[made] };
        let failed = add(&mut graph, failing, inputs);
        let slow = add(&mut graph, &["slow", "forever"], &[]);
        let recorder = Recorder::default();
        let (targets, reporter) = ([made, failed, slow], recorder.reporter());
        let error = bench.solver.solve(&graph, &targets, &reporter).await.unwrap_err();
        assert_eq!(error.vertex(), failed.vertex, "{case}");
        assert!(recorder.outcomes().contains(&"large:done".to_owned()), "{case}: {:?}", recorder.outcomes());
        settle().await;
        assert_eq!(bench.ledger.running(), 0, "{case}");

        let again = Bench::on(bench.memory.clone(), 4);
        let mut repaired = Graph::new();
        let made = add(&mut repaired, &large, &[]);
        let next = add(&mut repaired, &["next"], &[made]);
        again.solve(&repaired, next).await;
        assert_eq!(again.ledger.began(), ["next"], "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_does_not_wait_for_what_can_have_no_name() {
    let bench = Bench::new(4);
    let mut graph = Graph::new();
    let broken = add(&mut graph, &["broken", "sleep 10", "late never"], &[]);
    let next = add(&mut graph, &["next", "late 10"], &[broken]);
    let last = add(&mut graph, &["last", "late 10"], &[next]);
    let other = add(&mut graph, &["other", "late 200"], &[]);
    let reporter = Reporter::silent();
    let targets = [last, other];
    let solve = bench.solver.solve(&graph, &targets, &reporter);
    let error = tokio::time::timeout(std::time::Duration::from_secs(5), solve).await.unwrap().unwrap_err();
    assert_eq!(error.vertex(), broken.vertex);
    let again = Bench::on(bench.memory.clone(), 4);
    again.solve(&graph, other).await;
    assert!(again.ledger.began().is_empty(), "it had only to be named");
}

#[tokio::test(start_paused = true)]
async fn a_later_solve_does_not_wait_for_a_name_that_failed_in_an_earlier_one() {
    let bench = Bench::new(4);
    let begin = |graph: &mut Graph| {
        let large = add(graph, &["large", "late once"], &[]);
        add(graph, &["next"], &[large])
    };
    let mut graph = Graph::new();
    let next = begin(&mut graph);
    let other = add(&mut graph, &["other", "late 200"], &[]);
    let (targets, reporter) = ([next, other], Reporter::silent());
    let mut first = Box::pin(bench.solver.solve(&graph, &targets, &reporter));
    // It has failed, holds on to `next` still, and waits for the name of `other`.
    while bench.ledger.failed_once.lock().unwrap().is_empty() {
        assert!(poll_immediate(&mut first).await.is_none());
        tokio::time::advance(std::time::Duration::from_millis(1)).await;
    }
    assert!(poll_immediate(&mut first).await.is_none());
    assert_eq!(bench.ledger.sorted(), ["large", "next", "other"]);
    let mut graph = Graph::new();
    let next = begin(&mut graph);
    let second = tokio::time::timeout(std::time::Duration::from_secs(5), bench.solve(&graph, next));
    let (first, second) = join(first, second).await;
    assert!(first.is_err());
    assert_eq!(second.expect("the second ends"), "next(large())");
    assert_eq!(bench.ledger.sorted(), ["large", "large", "next", "next", "other"]);
}
