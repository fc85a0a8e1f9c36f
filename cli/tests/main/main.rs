//! Does the program do what its users are told?
//!
//! Every test here runs the real binary on a bench of its own. Most want root, for mounts and owners; those that want
//! something else say so in their first line.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail where a test would")]

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_rbuild");

/// A bench whose store has `busybox:latest`; ends the test where that cannot be.
macro_rules! busybox_bench {
    () => {{
        rbuild_testkit::needs!(
            rbuild_testkit::Need::Root,
            rbuild_testkit::Need::Overlay,
            rbuild_testkit::Need::Command("busybox")
        );
        let bench = rbuild_testkit::Bench::new($crate::PROGRAM);
        bench.busybox();
        bench
    }};
}

/// A bench with an empty store, for images that need no base; ends the test where that cannot be.
macro_rules! bare_bench {
    () => {{
        rbuild_testkit::needs!(rbuild_testkit::Need::Root, rbuild_testkit::Need::Overlay);
        rbuild_testkit::Bench::new($crate::PROGRAM)
    }};
}

mod archives;
mod arguments;
mod build;
mod cache;
mod checks;
mod conformance;
mod containers;
mod context;
mod contexts;
mod dockerfiles;
mod errors;
mod faults;
mod found;
mod images;
mod interrupt;
mod kills;
mod layers;
mod limits;
mod mounts;
mod named_contexts;
mod network;
mod output;
mod plan;
mod projects;
mod prune;
mod pushing;
mod registry;
mod remote;
mod remote_contexts;
mod rootless;
mod run;
mod ssh;
mod steps;
mod turns;
mod why;
