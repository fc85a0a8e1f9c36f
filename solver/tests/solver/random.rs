//! Is the result that of the naive evaluation, whatever the graph?

use std::collections::HashSet;

use proptest::prelude::*;
use rbuild_core::Reporter;
use rbuild_solver::graph::{Graph, Output};

use crate::fake::{Bench, Memory, add, force};

/// One vertex: which content it has, if not its own; its inputs, as positions among the vertices before it.
#[derive(Clone, Debug)]
struct Step {
    label: u8,
    content: Option<u8>,
    inputs: Vec<prop::sample::Index>,
    forced: bool,
    slow: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (
        0..6u8,
        prop::option::of(0..3u8),
        prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        prop::bool::weighted(0.1),
        any::<bool>(),
    );
    let step = step.prop_map(|(label, content, inputs, forced, slow)| Step { label, content, inputs, forced, slow });
    prop::collection::vec(step, 1..25)
}

fn build(steps: &[Step], honour_force: bool) -> (Graph, Vec<Output>, Vec<String>) {
    let mut graph = Graph::new();
    let mut outputs: Vec<Output> = Vec::new();
    let mut contents: Vec<String> = Vec::new();
    for step in steps {
        let places: Vec<_> = if outputs.is_empty() {
            Vec::new()
        } else {
            step.inputs.iter().map(|at| at.index(outputs.len())).collect()
        };
        let inputs: Vec<_> = places.iter().map(|place| outputs[*place]).collect();
        let name = format!("v{}", step.label);
        let fixed = step.content.map(|content| format!("={content}"));
        let mut args = vec![name.as_str()];
        args.extend(fixed.as_deref());
        args.extend(step.slow.then_some("sleep 1"));
        let make = if step.forced && honour_force { force } else { add };
        outputs.push(make(&mut graph, &args, &inputs));
        let naive = places.iter().map(|place| contents[*place].as_str()).collect::<Vec<_>>().join(",");
        contents.push(step.content.map_or_else(|| format!("{name}({naive})"), |content| content.to_string()));
    }
    (graph, outputs, contents)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn results_are_those_of_naive_evaluation_and_each_content_key_is_executed_once(
        steps in steps(),
        targets in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
        jobs in 1..4usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let memory = Memory::default();
            let bench = Bench::on(memory.clone(), jobs);
            let wanted: Vec<_> = targets.iter().map(|target| target.index(steps.len())).collect();
            let (graph, outputs, contents) = build(&steps, false);
            let selected: Vec<_> = wanted.iter().map(|place| outputs[*place]).collect();
            let expected: Vec<_> = wanted.iter().map(|place| contents[*place].clone()).collect();
            for round in 0..2 {
                let things = bench.solver.solve(&graph, &selected, &Reporter::silent()).await.unwrap();
                let found: Vec<_> = things.iter().map(|thing| thing.0.to_string()).collect();
                prop_assert_eq!(&found, &expected, "round {}", round);
            }
            let keys = bench.ledger.keys.lock().unwrap().clone();
            let distinct: HashSet<_> = keys.iter().collect();
            prop_assert_eq!(distinct.len(), keys.len());

            let other = Bench::on(memory, jobs);
            let (forced, _, _) = build(&steps, true);
            let things = other.solver.solve(&forced, &selected, &Reporter::silent()).await.unwrap();
            let found: Vec<_> = things.iter().map(|thing| thing.0.to_string()).collect();
            prop_assert_eq!(&found, &expected);
            let reachable: HashSet<_> = forced.reachable(&selected).into_iter().collect();
            let asked = forced.vertices().any(|(id, vertex)| vertex.origin.ignore_cache && reachable.contains(&id));
            prop_assert_eq!(asked, !other.ledger.began().is_empty(), "only what is forced is executed again");
            Ok(())
        })?;
    }
}
