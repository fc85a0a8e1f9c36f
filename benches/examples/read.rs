//! What does reading one Dockerfile cost: how long, how much memory?
//!
//! `read CASE [TIMES]` in a process of its own, so that the peak of memory is that of the case. `scripts/bench.sh` runs
//! it for every case, and under valgrind, which counts instructions. Without a case it lists their names.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::time::Instant;

use rbuild_benches::{dockerfiles, reading};
use rbuild_frontend::Source;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        dockerfiles::CASES.iter().for_each(|case| println!("{}", case.name));
        return;
    };
    let case = dockerfiles::case(&name).expect("the name is one of those that are listed");
    let times = arguments.next().map_or(1, |times| times.parse().expect("how often is a number"));
    let source = Source::new("Dockerfile", (case.text)());
    let mut outcome = None;
    let mut fastest = f64::INFINITY;
    for _ in 0..times {
        let start = Instant::now();
        outcome = Some(reading::read(&source));
        fastest = fastest.min(start.elapsed().as_secs_f64());
    }
    let bytes = source.text().len();
    println!("{name}: {bytes} bytes, {:.2} ms, {} MiB at most, {outcome:?}", fastest * 1e3, peak() >> 20);
}

/// The most memory this process ever had, in bytes: `VmHWM`, which is what `getrusage` calls `ru_maxrss`.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) << 10
}
