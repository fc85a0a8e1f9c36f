//! What does a sandbox cost: how long from the wish to the end, how much processor time?
//!
//! `sandbox DIRECTORY [TIMES [PROGRAM]]`, as root. The directory is best one on a fresh file system: where much was
//! deleted, ext4 makes files slowly for minutes. Processor time is that of everything, supervisors included, divided by
//! the number of sandboxes; so `TIMES` had better be a few hundred. The program should be static.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]
#![expect(clippy::print_stderr, reason = "or why there are none")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use rbuild_benches::sandboxes::Chain;
use rustix::process::{WaitOptions, set_child_subreaper, wait};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("__init") => rbuild_executor::init(),
        Some("measured") => measured(&arguments[1..]),
        Some(_) => with_processor_time(&arguments),
        None => {
            eprintln!("usage: sandbox DIRECTORY [TIMES [PROGRAM]]");
            ExitCode::from(2)
        }
    }
}

/// Runs [`measured`] in a process of its own, and counts what all of its descendants used.
fn with_processor_time(arguments: &[String]) -> ExitCode {
    set_child_subreaper(rustix::process::Pid::from_raw(1)).expect("the kernel knows subreapers");
    let own = std::env::current_exe().expect("this program has a path");
    let status = Command::new(own).arg("measured").args(arguments).status().expect("this program can be executed");
    while wait(WaitOptions::empty()).is_ok() {}
    if !status.success() {
        return ExitCode::FAILURE;
    }
    let used = processor_time_of_children();
    println!("{:8.0} µs  user and system", used * 1e6 / times(arguments) as f64);
    ExitCode::SUCCESS
}

fn measured(arguments: &[String]) -> ExitCode {
    let program = arguments.get(2).map(PathBuf::from);
    let mut chain = match Chain::new(Path::new(&arguments[0]), program.as_deref()) {
        Ok(chain) => chain,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let mut walls: Vec<u128> = (0..times(arguments))
        .map(|_| {
            let spec = chain.spec().expect("the directory can be written to");
            let begun = Instant::now();
            let exit = chain.run(&spec).expect("sandboxes can be made here");
            assert!(exit.success(), "{exit:?}");
            begun.elapsed().as_micros()
        })
        .collect();
    walls.sort_unstable();
    println!("{:8} µs  fastest", walls[0]);
    println!("{:8} µs  median", walls[walls.len() / 2]);
    ExitCode::SUCCESS
}

fn times(arguments: &[String]) -> usize {
    arguments.get(1).map_or(200, |times| times.parse().expect("how often is a number"))
}

/// Seconds.
fn processor_time_of_children() -> f64 {
    // Fields 16 and 17, in ticks: coarse, but of hundreds of sandboxes.
    let text = std::fs::read_to_string("/proc/self/stat").expect("/proc is mounted");
    let fields: Vec<&str> = text.rsplit_once(')').expect("there is a name").1.split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<u64>().expect("a number of ticks");
    let per_second = rustix::param::clock_ticks_per_second();
    (ticks(13) + ticks(14)) as f64 / per_second as f64
}
