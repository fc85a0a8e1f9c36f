//! What does one part of a build cost, counted in instructions?
//!
//! `work CASE TIMES [DIRECTORY]` does it so many times, and prints nothing: `scripts/bench.sh instructions` runs it under
//! valgrind, for more and for fewer times, and subtracts. `work walk 0 DIRECTORY` makes what `walk` looks at.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use rbuild_benches::{dockerfiles, packing, reading, solving, walking};
use rbuild_core::Reporter;
use rbuild_frontend::Source;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [case, times, rest @ ..] = arguments.as_slice() else { panic!("work CASE TIMES [DIRECTORY]") };
    let times: usize = times.parse().expect("how often is a number");
    match case.as_str() {
        "parse" => parse(times),
        "keys" => keys(times),
        "tar" => (0..times).for_each(|_| drop(black_box(packing::write(1000)))),
        "walk" => walk(times, Path::new(rest.first().expect("the directory is named"))),
        other => panic!("there is no case `{other}`"),
    }
}

fn parse(times: usize) {
    let case = dockerfiles::case("typical_500_lines").expect("it is the first in the list");
    let source = Source::new("Dockerfile", (case.text)());
    for _ in 0..times {
        black_box(reading::read(&source));
    }
}

fn keys(times: usize) {
    let (graph, target) = solving::chain(500, "all");
    let solver = solving::solver(&graph, false);
    for _ in 0..times {
        black_box(solving::solve(&solver, &graph, &target, &Reporter::silent()));
    }
}

fn walk(times: usize, directory: &Path) {
    let (context, cache) = (directory.join("context"), directory.join("known"));
    if times == 0 {
        walking::make(&context, 5000).expect("the context can be written");
        // Files younger than the look that reads them are read again.
        sleep(Duration::from_millis(50));
        let (_, known) = walking::look(&context, Vec::new()).expect("the context can be read");
        fs::write(cache, known.expect("everything was read")).expect("what is known can be written");
        return;
    }
    let known = fs::read(cache).expect("`work walk 0` was run before");
    for _ in 0..times {
        let (digest, learnt) = walking::look(&context, known.clone()).expect("the context can be read");
        assert!(learnt.is_none(), "nothing is read again");
        black_box(digest);
    }
}
