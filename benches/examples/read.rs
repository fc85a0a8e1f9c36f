//! What does reading one Dockerfile cost: how long, how much memory?
//!
//! `read CASE [TIMES [quietly]]` in a process of its own, so that the peak of memory is that of the case. Time is the processor's,
//! of which other programs take none away. `scripts/bench.sh` runs it for every case, and under valgrind, which counts
//! instructions and does not know the clock: hence `quietly`. Without a case it lists their names.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::hint::black_box;

use rbuild_benches::{dockerfiles, reading};
use rbuild_frontend::Source;
use rustix::time::{ClockId, clock_gettime};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        dockerfiles::CASES.iter().for_each(|case| println!("{}", case.name));
        return;
    };
    let case = dockerfiles::case(&name).expect("the name is one of those that are listed");
    let times = arguments.next().map_or(1, |times| times.parse().expect("how often is a number"));
    let source = Source::new("Dockerfile", (case.text)());
    if arguments.next().is_some() {
        for _ in 0..times {
            black_box(reading::read(&source));
        }
        return;
    }
    let mut outcome = None;
    let mut fastest = f64::INFINITY;
    for _ in 0..times {
        let start = seconds();
        outcome = Some(reading::read(&source));
        fastest = fastest.min(seconds() - start);
    }
    let bytes = source.text().len();
    let outcome = outcome.map_or_else(String::new, |outcome| format!("{outcome:?}"));
    println!("{:10.2} ms {:6} MiB  {name}, {bytes} bytes: {outcome}", fastest * 1e3, peak() >> 20);
}

/// Processor time of this thread.
fn seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The most memory this process ever had, in bytes: `VmHWM`, which is what `getrusage` calls `ru_maxrss`.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) << 10
}
