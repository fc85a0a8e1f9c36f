//! Do sandboxes do what they promise, for root and for ordinary users?
//!
//! Real ones, on a root file system that is a static busybox. Run by root, the whole list is run a second time as an
//! ordinary user with subordinate ids, who exists only in a mount namespace of this test.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "this is a test, with a harness of its own")]
#![expect(clippy::disallowed_methods, reason = "the harness has to report failure")]

mod bench;
mod cases;
mod rootless;

use std::panic::{AssertUnwindSafe, catch_unwind};

use bench::Bench;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("__init") => rbuild_executor::init(),
        Some("__victim") => cases::be_the_victim(),
        Some("__chain") => return cases::be_a_chain(&arguments[1]),
        Some("__rootless") => {
            let mapping = rbuild_executor::userns::enter().unwrap();
            assert_eq!(mapping.single, None);
            std::process::exit(run("rootless::", &arguments[1..]));
        }
        Some("__single") => {
            let mapping = rbuild_executor::userns::enter().unwrap();
            assert!(mapping.single.is_some());
            std::process::exit(run("single::", &arguments[1..]));
        }
        _ => {}
    }
    if arguments.iter().any(|argument| argument == "--list") {
        // nextest also asks which tests are to be ignored, and would believe it.
        if !arguments.iter().any(|argument| argument == "--ignored") {
            println!("sandboxes: test");
        }
        return;
    }
    let mut filter: Vec<String> = arguments.into_iter().filter(|argument| !argument.starts_with('-')).collect();
    filter.retain(|name| name != "sandboxes");
    let code = all(&filter);
    // As the usual harness has it, for whoever reads which tests passed.
    println!("test sandboxes ... {}", if code == 0 { "ok" } else { "FAILED" });
    std::process::exit(code);
}

fn all(filter: &[String]) -> i32 {
    if let Some(why) = bench::unusable() {
        println!("skipped: {why}");
        return 0;
    }
    run("root::", filter) | rootless::run(filter)
}

fn run(prefix: &str, filter: &[String]) -> i32 {
    let mut failed = 0;
    for (name, case) in cases::ALL {
        let name = format!("{prefix}{name}");
        if !filter.is_empty() && !filter.iter().any(|wanted| name.contains(wanted.as_str())) {
            continue;
        }
        let begun = std::time::Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| case(&mut Bench::new())));
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("test {name} ... {word} ({} ms)", begun.elapsed().as_millis());
        failed |= i32::from(outcome.is_err());
    }
    failed
}
