//! Is a miss explained by what was changed?

use rbuild_solver::graph::{Graph, Output};
use rbuild_solver::{ComponentChange, Entry, InputChange, Journal, Reason, Verdict};

use crate::fake::{Bench, add, add_titled};

/// `base`, `a` and `b` one upon the other, with `a`'s extra word, and a stage of its own that `b` also needs.
fn graph(a: &[&str], forced: bool) -> (Graph, Output) {
    let mut graph = Graph::new();
    graph.set_scope("/src/Dockerfile");
    let base = add_titled(&mut graph, &["base"], &[], "[1/3] FROM base", false);
    let args: Vec<_> = ["a"].iter().chain(a).copied().collect();
    let title = format!("[2/3] RUN {}", args.join(" "));
    let a = add_titled(&mut graph, &args, &[base], &title, forced);
    let side = add_titled(&mut graph, &["side"], &[], "[side 1/1] RUN side", false);
    let b = add_titled(&mut graph, &["b"], &[a, side], "[3/3] RUN b", false);
    (graph, b)
}

/// Vertices that are the same as another are left out.
async fn verdicts(bench: &Bench, graph: &Graph, target: Output) -> Vec<(usize, Result<(), Reason>)> {
    let verdicts = bench.solver.explain(graph, target).await.unwrap();
    let short = verdicts.into_iter().filter_map(|(id, verdict)| match verdict {
        Verdict::Hit(_) | Verdict::CutOff { .. } => Some((id.index(), Ok(()))),
        // What was there before has a key that no test knows.
        Verdict::Missed(Reason::InputsChanged(changes)) => {
            let changes = changes.into_iter().map(|change| InputChange { former: None, ..change });
            Some((id.index(), Err(Reason::InputsChanged(changes.collect()))))
        }
        Verdict::Missed(reason) => Some((id.index(), Err(reason))),
        Verdict::Same(_) => None,
    });
    short.collect()
}

fn because(input: Output) -> Reason {
    Reason::InputsChanged(vec![InputChange { input, former: None }])
}

fn input(graph: &Graph, target: Output, place: usize) -> Output {
    graph.vertex(target.vertex).inputs()[place]
}

#[tokio::test]
async fn nothing_is_known_of_a_first_build() {
    let bench = Bench::new(4);
    let (graph, top) = graph(&[], false);
    let expected: Vec<_> = (0..4).map(|number| (number, Err(Reason::NeverBuilt))).collect();
    assert_eq!(verdicts(&bench, &graph, top).await, expected);
    assert!(bench.ledger.began().is_empty());
}

#[tokio::test]
async fn a_found_target_hides_everything_below() {
    let bench = Bench::new(4);
    let (graph, top) = graph(&[], false);
    bench.solve(&graph, top).await;
    assert_eq!(verdicts(&bench, &graph, top).await, [(3, Ok(()))]);
}

#[tokio::test]
async fn an_edited_step_names_what_was_edited_and_what_follows_names_its_input() {
    let bench = Bench::new(4);
    let (before, top) = graph(&["=1"], false);
    bench.solve(&before, top).await;
    let (after, top) = graph(&["=2"], false);
    let change = ComponentChange { name: "argument 1".into(), before: Some("=1".into()), after: Some("=2".into()) };
    let expected =
        [(0, Ok(())), (1, Err(Reason::OpChanged(vec![change]))), (2, Ok(())), (3, Err(because(input(&after, top, 0))))];
    assert_eq!(verdicts(&bench, &after, top).await, expected);
}

#[tokio::test]
async fn a_changed_salt_is_named_though_the_text_is_the_same() {
    let bench = Bench::new(4);
    let (graph, top) = graph(&[], false);
    let salt = |text: &str| bench.ledger.salts.lock().unwrap().insert("a".into(), text.into());
    salt("1");
    bench.solve(&graph, top).await;
    salt("2");
    let change = ComponentChange { name: "salt".into(), before: Some("1".into()), after: Some("2".into()) };
    assert_eq!(verdicts(&bench, &graph, top).await[1], (1, Err(Reason::OpChanged(vec![change]))));
}

#[tokio::test]
async fn a_forced_step_is_forced_and_what_follows_has_a_changed_input() {
    let bench = Bench::new(4);
    let (normal, top) = graph(&[], false);
    bench.solve(&normal, top).await;
    let (forced, top) = graph(&[], true);
    let expected = [(0, Ok(())), (1, Err(Reason::Forced)), (2, Ok(())), (3, Err(because(input(&forced, top, 0))))];
    assert_eq!(verdicts(&bench, &forced, top).await, expected);
}

#[tokio::test]
async fn a_pruned_record_is_forgotten() {
    let bench = Bench::new(4);
    let (graph, top) = graph(&[], false);
    bench.solve(&graph, top).await;
    let verdict = bench.solver.explain(&graph, top).await.unwrap();
    let Verdict::Hit(definition) = verdict[0].1 else { panic!("{verdict:?}") };
    bench.memory.prune(&definition);
    let expected = [(1, Ok(())), (2, Ok(())), (3, Err(Reason::Forgotten))];
    assert_eq!(verdicts(&bench, &graph, top).await, expected);
}

#[tokio::test]
async fn a_record_of_equal_content_counts_as_found() {
    let bench = Bench::new(4);
    let (before, top) = graph(&["=same", "one"], false);
    bench.solve(&before, top).await;
    let (after, top) = graph(&["=same", "two"], false);
    let a = input(&after, top, 0);
    bench.solve(&after, a).await;
    assert_eq!(verdicts(&bench, &after, top).await, [(1, Ok(())), (2, Ok(())), (3, Ok(()))]);
}

#[tokio::test]
async fn another_dockerfile_is_not_a_former_self() {
    let bench = Bench::new(4);
    let (before, top) = graph(&["=1"], false);
    bench.solve(&before, top).await;
    let (mut after, top) = graph(&["=2"], false);
    after.set_scope("/other/Dockerfile");
    assert_eq!(verdicts(&bench, &after, top).await[1], (1, Err(Reason::NeverBuilt)));
}

#[test]
fn solving_and_explaining_can_move_between_threads() {
    fn assert_send(_: impl Send) {}
    let bench = Bench::new(1);
    let (graph, top) = graph(&[], false);
    let (targets, reporter) = ([top], rbuild_core::Reporter::silent());
    assert_send(bench.solver.solve(&graph, &targets, &reporter));
    assert_send(bench.solver.explain(&graph, top));
}

#[tokio::test]
async fn a_step_that_says_what_another_says_is_the_same() {
    let bench = Bench::new(4);
    let mut graph = Graph::new();
    let first = add_titled(&mut graph, &["twin"], &[], "[a 1/1] RUN twin", false);
    let second = add_titled(&mut graph, &["twin"], &[], "[b 1/1] RUN twin", false);
    let top = add_titled(&mut graph, &["top"], &[first, second], "[1/1] RUN top", false);
    let verdicts = bench.solver.explain(&graph, top).await.unwrap();
    assert_eq!(verdicts[1], (second.vertex, Verdict::Same(first.vertex)));
}

#[tokio::test]
async fn a_solve_notes_why_it_did_what_it_did() {
    let bench = Bench::new(4);
    let noted = async |graph: &Graph, top: Output| {
        let journal = Journal::default();
        let reporter = rbuild_core::Reporter::silent();
        let failed = bench.solver.solve_noting(graph, &[top], &reporter, &journal).await.is_err();
        (journal.entries(), failed)
    };
    let (before, top) = graph(&["=same", "one"], false);
    let (first, _) = noted(&before, top).await;
    assert!(
        first.iter().all(|(_, entry)| entry.verdict == Verdict::Missed(Reason::NeverBuilt) && entry.made.is_some())
    );
    let (found, _) = noted(&before, top).await;
    assert!(matches!(found.as_slice(), [(id, Entry { verdict: Verdict::Hit(_), made: None })] if *id == top.vertex));

    // `a` reads differently and makes the same: what stands on it is found, and says why it had to be looked for.
    let (after, top) = graph(&["=same", "two"], false);
    let (cut, _) = noted(&after, top).await;
    let verdicts: Vec<_> = cut.iter().map(|(id, entry)| (id.index(), &entry.verdict, entry.made.is_some())).collect();
    let a = input(&after, top, 0);
    assert!(
        matches!(
            verdicts.as_slice(),
            [
                (0, Verdict::Hit(_), false),
                (1, Verdict::Missed(Reason::OpChanged(_)), true),
                (2, Verdict::Hit(_), false),
                (3, Verdict::CutOff { reason: Reason::InputsChanged(changes), .. }, false),
            ] if changes.iter().map(|change| change.input).eq([a]) && changes[0].former.is_some()
        ),
        "{verdicts:?}"
    );

    let (broken, top) = graph(&["fail"], false);
    let (entries, failed) = noted(&broken, top).await;
    assert!(failed && entries.len() == 4);
    assert!(entries.iter().all(|(_, entry)| entry.made.is_none()), "nothing was made: {entries:?}");
}

#[tokio::test]
async fn a_solve_that_begins_again_keeps_what_it_noted() {
    let bench = Bench::new(4);
    let reporter = rbuild_core::Reporter::silent();
    let mut graph = Graph::new();
    let found = add(&mut graph, &["found"], &[]);
    let lost = add(&mut graph, &["lost"], &[found]);
    bench.solve(&graph, lost).await;
    let new = add(&mut graph, &["new"], &[found]);
    let broken = add(&mut graph, &["broken", "sleep 30", "fail"], &[lost]);
    let journal = Journal::default();
    bench.solver.solve_noting(&graph, &[broken, new], &reporter, &journal).await.unwrap_err();
    // What `lost` had made is gone, and so is its former self.
    for (id, entry) in journal.entries() {
        if let (true, Verdict::Hit(key)) = (id == lost.vertex, entry.verdict) {
            bench.memory.prune(&key);
        }
    }
    bench.memory.0.steps.lock().unwrap().clear();
    journal.begin_again();
    bench.solver.solve_noting(&graph, &[broken, new], &reporter, &journal).await.unwrap_err();
    let verdicts: Vec<_> =
        journal.entries().into_iter().map(|(id, entry)| (id, entry.verdict, entry.made.is_some())).collect();
    let is = |output: Output, wanted: &Verdict, made: bool| {
        assert!(verdicts.contains(&(output.vertex, wanted.clone(), made)), "{verdicts:?}");
    };
    is(lost, &Verdict::Missed(Reason::Forgotten), true);
    is(new, &Verdict::Missed(Reason::NeverBuilt), true);
    is(broken, &Verdict::Missed(Reason::NeverBuilt), false);
}
