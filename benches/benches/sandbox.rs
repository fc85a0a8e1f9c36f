//! What does a sandbox cost, from the wish to the end of its process?
//!
//! A busybox that does nothing, on one layer. It has the supervisor of the sandbox before, as every `RUN` of a chain but
//! the first. Making the directories that it writes to is not counted.
//!
//! Dispatches `__init` before anything else: this program is its own supervisor.

#![expect(clippy::print_stderr, reason = "why nothing was measured")]

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group};
use rbuild_benches::sandboxes::Chain;

fn sandboxes(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut chain = match Chain::new(directory.path(), None) {
        Ok(chain) => chain,
        Err(why) => {
            eprintln!("skipped: {why}");
            return;
        }
    };
    criterion.bench_function("next_sandbox", |bencher| {
        bencher.iter_custom(|times| {
            let mut took = Duration::ZERO;
            for _ in 0..times {
                let spec = chain.spec().expect("there is room for directories");
                let begun = Instant::now();
                let exit = chain.run(&spec).expect("sandboxes can be made here");
                took += begun.elapsed();
                assert!(exit.success(), "{exit:?}");
            }
            took
        });
    });
}

criterion_group!(benches, sandboxes);

fn main() {
    if std::env::args().nth(1).as_deref() == Some("__init") {
        rbuild_executor::init();
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
