//! What is left of a build that does not end by itself?

use std::fs;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rbuild_testkit::{Bench, processes};
use rustix::process::{Pid, Signal, kill_process};

/// Steps of every kind, with something to find in the list of processes while the third one goes on.
fn project(bench: &Bench<'_>, nap: &str) {
    for number in 0..200 {
        bench.file(&format!("app/files/{number}"), vec![b'x'; 20_000]);
    }
    bench.file(
        "app/Dockerfile",
        format!(
            "FROM busybox\nRUN for i in 1 2 3 4; do dd if=/dev/zero of=/big$i bs=1M count=2 2>/dev/null; done\nCOPY files /files\n\
             RUN sleep {nap} & sleep {nap}; cat /files/* | wc -c > /size\nRUN rm /big1\nCMD cat /size\n"
        ),
    );
}

fn start(bench: &Bench<'_>) -> Child {
    let mut command = bench.command(&["build", "--progress", "plain", "--no-cache", "-t", "killed", "app"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Waits until the nap of the third step is there.
fn wait_for_nap(nap: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !processes::saying(&format!("sleep\0{nap}")).iter().any(|line| !line.contains("build")) {
        assert!(Instant::now() < deadline, "the step never started");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_interrupted_build_leaves_nothing() {
    let bench = busybox_bench!();
    let nap = "98765.4321";
    project(&bench, nap);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut child = start(&bench);
        wait_for_nap(nap);
        let sent = Instant::now();
        send(&child, signal);
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(130), "{signal:?}: {status}");
        assert!(sent.elapsed() < Duration::from_secs(5), "{:?}", sent.elapsed());
        bench.assert_nothing_is_left();
        assert_eq!(bench.images(), ["busybox:latest"]);
    }
    project(&bench, "0.01");
    bench.build(&["-t", "after", "app"]).ok();
    assert_eq!(bench.run(&["run", "--rm", "after"]).ok().stdout, "4000000\n");
}

#[test]
fn a_build_killed_at_any_moment_leaves_nothing() {
    let bench = busybox_bench!();
    let nap = "0.31337";
    project(&bench, nap);
    let started = Instant::now();
    start(&bench).wait().unwrap();
    let whole = started.elapsed();
    bench.run(&["rmi", "killed"]).ok();
    // Spread over the whole of a build, each at a place within its share that the clock chooses.
    for share in 0..10_u32 {
        let noise = u32::from(fs::read("/proc/sys/kernel/random/uuid").unwrap()[0]);
        let moment = whole * share / 10 + whole * noise / 2560;
        let mut child = start(&bench);
        thread::sleep(moment);
        // It may be through already; then there is one whole image more, not a half one.
        send(&child, Signal::KILL);
        child.wait().unwrap();
        bench.assert_nothing_is_left();
        for image in bench.images() {
            let name = if image == "<none>:<none>" { continue } else { &image };
            bench.run(&["save", "-o", "whole.tar", name]).ok();
        }
    }
    bench.build(&["-t", "after", "app"]).ok();
    assert_eq!(bench.run(&["run", "--rm", "after"]).ok().stdout, "4000000\n");
    bench.run(&["rmi", "-f", "after"]).ok();
    drop(bench.run(&["rmi", "-f", "killed"]));
    bench.run(&["prune", "-af"]).ok();
    for place in ["ingest", "trash"] {
        let left = fs::read_dir(bench.state().join(place)).map_or(0, Iterator::count);
        assert_eq!(left, 0, "`{place}` is not empty after pruning");
    }
}

#[test]
fn an_interrupted_container_ends() {
    let bench = busybox_bench!();
    let nap = "87654.321";
    let mut command =
        bench.command(&["run", "--rm", "busybox", "sh", "-c", &format!("trap 'exit 5' INT; sleep {nap} & wait")]);
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    wait_for_nap(nap);
    send(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(5), "the signal is the container's");
    bench.assert_nothing_is_left();
    let mut command = bench.command(&["run", "--rm", "--name", "killed", "busybox", "sleep", nap]);
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    wait_for_nap(nap);
    send(&child, Signal::KILL);
    child.wait().unwrap();
    bench.assert_nothing_is_left();
    bench.run(&["run", "--rm", "--name", "killed-too", "busybox", "true"]).ok();
}
