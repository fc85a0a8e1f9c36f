//! Is exactly that executed which is not known?

use std::sync::atomic::Ordering;

use rbuild_core::Reporter;
use rbuild_solver::graph::Graph;

use crate::fake::{Bench, Recorder, add, add_file, force};

#[tokio::test]
async fn a_second_solve_executes_nothing_and_looks_up_only_the_target() {
    let bench = Bench::new(4);
    let mut graph = Graph::new();
    let base = add(&mut graph, &["base"], &[]);
    let middle = add(&mut graph, &["middle"], &[base]);
    let top = add(&mut graph, &["top"], &[middle]);
    assert_eq!(bench.solve(&graph, top).await, "top(middle(base()))");
    bench.ledger.forget();
    let finds = bench.memory.0.finds.swap(0, Ordering::SeqCst);
    let identities = bench.ledger.identities.load(Ordering::SeqCst);
    let fingerprints = bench.ledger.fingerprints.load(Ordering::SeqCst);
    assert!(finds > 0);
    assert_eq!(bench.solve(&graph, top).await, "top(middle(base()))");
    assert!(bench.ledger.began().is_empty());
    assert_eq!(bench.memory.0.finds.load(Ordering::SeqCst), 1);
    assert_eq!(bench.ledger.identities.load(Ordering::SeqCst), identities);
    assert_eq!(bench.ledger.fingerprints.load(Ordering::SeqCst), fingerprints + 3);
}

#[tokio::test]
async fn a_changed_vertex_invalidates_what_stands_on_it() {
    let bench = Bench::new(4);
    let graph = |word: &str| {
        let mut graph = Graph::new();
        let base = add(&mut graph, &["base"], &[]);
        let changed = add(&mut graph, &["changed", word], &[base]);
        let other = add(&mut graph, &["other"], &[base]);
        let top = add(&mut graph, &["top"], &[changed, other]);
        (graph, top)
    };
    let (before, top) = graph("=1");
    bench.solve(&before, top).await;
    bench.ledger.forget();
    let (after, top) = graph("=2");
    assert_eq!(bench.solve(&after, top).await, "top(2,other(base()))");
    assert_eq!(bench.ledger.began(), ["changed", "top"]);
}

#[tokio::test]
async fn an_input_rebuilt_to_the_same_content_cuts_off_what_follows() {
    let bench = Bench::new(4);
    let graph = |word: &str| {
        let mut graph = Graph::new();
        let changed = add(&mut graph, &["changed", word, "=same"], &[]);
        let middle = add(&mut graph, &["middle"], &[changed]);
        let top = add(&mut graph, &["top"], &[middle]);
        (graph, top)
    };
    let (before, top) = graph("one");
    bench.solve(&before, top).await;
    bench.ledger.forget();
    let (after, top) = graph("two");
    let recorder = Recorder::default();
    bench.solver.solve(&after, &[top], &recorder.reporter()).await.unwrap();
    assert_eq!(bench.ledger.began(), ["changed"]);
    assert_eq!(recorder.outcomes(), ["changed:done", "middle:cached", "top:cached"]);
    bench.memory.0.finds.store(0, Ordering::SeqCst);
    bench.solve(&after, top).await;
    assert_eq!(bench.memory.0.finds.load(Ordering::SeqCst), 1, "the cut-off was stored under the definition key too");
}

#[tokio::test]
async fn all_needed_steps_are_planned_and_reported_and_no_others() {
    let bench = Bench::new(4);
    let mut graph = Graph::new();
    let base = add(&mut graph, &["base"], &[]);
    let unneeded = add(&mut graph, &["unneeded"], &[base]);
    let middle = add(&mut graph, &["middle"], &[base]);
    let top = add(&mut graph, &["top"], &[middle]);
    bench.solve(&graph, middle).await;
    let recorder = Recorder::default();
    bench.solver.solve(&graph, &[top], &recorder.reporter()).await.unwrap();
    assert_eq!(recorder.outcomes(), ["base:cached", "middle:cached", "top:done"]);
    assert_eq!(recorder.planned(), Some(3));
    assert!(!bench.ledger.began().contains(&"unneeded".to_owned()));
    assert_eq!(bench.solve(&graph, unneeded).await, "unneeded(base())");
}

#[tokio::test]
async fn equal_vertices_are_one() {
    let bench = Bench::new(4);
    let mut graph = Graph::new();
    let one = add(&mut graph, &["same"], &[]);
    let two = add(&mut graph, &["same"], &[]);
    let three = add(&mut graph, &["over"], &[one]);
    let four = add(&mut graph, &["over"], &[two]);
    let top = add(&mut graph, &["top"], &[three, four]);
    let recorder = Recorder::default();
    let things = bench.solver.solve(&graph, &[top], &recorder.reporter()).await.unwrap();
    assert_eq!(&*things[0].0, "top(over(same()),over(same()))");
    assert_eq!(bench.ledger.began(), ["same", "over", "top"]);
    assert_eq!(recorder.outcomes(), ["same:done", "same:cached", "over:done", "over:cached", "top:done"]);
}

#[tokio::test]
async fn outputs_are_told_apart_by_number() {
    let bench = Bench::new(4);
    let mut graph = Graph::new();
    let mut two = add(&mut graph, &["pair", "two"], &[]);
    let left = add(&mut graph, &["use"], &[two]);
    two.index = 1;
    let right = add(&mut graph, &["use"], &[two]);
    assert_eq!(bench.solve(&graph, left).await, "use(pair())");
    assert_eq!(bench.solve(&graph, right).await, "use(pair()')");
    let things = bench.solver.solve(&graph, &[two, left, right, two], &Reporter::silent()).await.unwrap();
    let texts: Vec<_> = things.iter().map(|thing| &*thing.0).collect();
    assert_eq!(texts, ["pair()'", "use(pair())", "use(pair()')", "pair()'"]);
}

#[tokio::test]
async fn an_output_nobody_made_is_an_error_and_not_a_panic() {
    let bench = Bench::new(4);
    let mut graph = Graph::new();
    let mut one = add(&mut graph, &["single"], &[]);
    bench.solve(&graph, one).await;
    one.index = 3;
    let top = add(&mut graph, &["top"], &[one]);
    for target in [one, top] {
        let error = bench.solver.solve(&graph, &[target], &Reporter::silent()).await.unwrap_err();
        assert_eq!(error.to_string(), "`single` made 1 outputs where 4 are used");
    }
}

#[tokio::test]
async fn no_targets_need_nothing() {
    let bench = Bench::new(4);
    assert!(bench.solver.solve(&Graph::new(), &[], &Reporter::silent()).await.unwrap().is_empty());
}

#[tokio::test]
async fn file_ops_are_solved_like_processes() {
    let bench = Bench::new(4);
    let mut graph = Graph::new();
    let base = add(&mut graph, &["base"], &[]);
    let file = add_file(&mut graph, &[base]);
    assert_eq!(bench.solve(&graph, file).await, "other(base())");
}

#[tokio::test]
async fn a_forced_vertex_is_executed_once_per_solve_and_its_result_written_back() {
    let bench = Bench::new(4);
    bench.ledger.volatile.store(true, Ordering::SeqCst);
    let graph = |forced: bool| {
        let mut graph = Graph::new();
        let base = add(&mut graph, &["base"], &[]);
        let make = if forced { force } else { add };
        let one = make(&mut graph, &["fresh"], &[base]);
        let two = add(&mut graph, &["fresh"], &[base]);
        let top = add(&mut graph, &["top"], &[one, two]);
        (graph, top)
    };
    let (normal, top) = graph(false);
    assert_eq!(bench.solve(&normal, top).await, "top(fresh(base()#0)#1,fresh(base()#0)#1)#2");
    bench.ledger.forget();
    let (forced, top) = graph(true);
    assert_eq!(bench.solve(&forced, top).await, "top(fresh(base()#0)#3,fresh(base()#0)#3)#4");
    assert_eq!(
        bench.ledger.began(),
        ["fresh", "top"],
        "`base` is found, `fresh` made once, `top` cannot be the old one"
    );
    bench.ledger.forget();
    assert_eq!(bench.solve(&normal, top).await, "top(fresh(base()#0)#3,fresh(base()#0)#3)#4");
    assert!(bench.ledger.began().is_empty());
}

#[tokio::test]
async fn a_forced_vertex_with_its_old_content_cuts_off() {
    let bench = Bench::new(4);
    let graph = |forced: bool| {
        let mut graph = Graph::new();
        let make = if forced { force } else { add };
        let fresh = make(&mut graph, &["fresh"], &[]);
        let top = add(&mut graph, &["top"], &[fresh]);
        (graph, top)
    };
    let (normal, top) = graph(false);
    bench.solve(&normal, top).await;
    bench.ledger.forget();
    let (forced, top) = graph(true);
    let recorder = Recorder::default();
    bench.solver.solve(&forced, &[top], &recorder.reporter()).await.unwrap();
    assert_eq!(bench.ledger.began(), ["fresh"]);
    assert_eq!(recorder.outcomes(), ["fresh:done", "top:cached"]);
}

#[tokio::test]
async fn a_forced_twin_that_comes_later_forces_the_first_and_what_stands_on_it() {
    let bench = Bench::new(4);
    bench.ledger.volatile.store(true, Ordering::SeqCst);
    let mut graph = Graph::new();
    let one = add(&mut graph, &["same"], &[]);
    let over = add(&mut graph, &["over"], &[one]);
    bench.solve(&graph, over).await;
    bench.ledger.forget();
    let twin = force(&mut graph, &["same"], &[]);
    let things = bench.solver.solve(&graph, &[over, twin], &Reporter::silent()).await.unwrap();
    assert_eq!(bench.ledger.began(), ["same", "over"]);
    assert_eq!(&*things[0].0, "over(same()#2)#3");
}
