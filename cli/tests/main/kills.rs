//! What does `kill -9` leave, whatever rbuild is doing?

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rbuild_testkit::{Access, Bench, Need, Registry, needs};
use rustix::process::{Pid, Signal, kill_process};

const DOCKERFILE: &str = "\
FROM busybox
RUN --mount=type=cache,target=/cache seq 20000 | tee /cache/seq > /seq
COPY files /files
COPY large /large
RUN rm /files/7 && cat /files/* | wc -c > /size
";

fn project(bench: &Bench<'_>) {
    for number in 0..100 {
        bench.file(&format!("app/files/{number}"), vec![b'x'; 10_000]);
    }
    bench.file("app/large", vec![b'x'; 20_000_000]);
    bench.file("app/Dockerfile", DOCKERFILE);
}

/// A number that no run of this test has in common with another.
fn chance(below: u32) -> u32 {
    let text = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    u32::from_str_radix(&text[..6], 16).unwrap() % below
}

/// What is tried, and what has to be there for it.
struct Victim {
    before: fn(&Bench<'_>, &str),
    command: fn(&str) -> Vec<&str>,
}

const VICTIMS: [Victim; 4] = [
    Victim { before: |_, _| {}, command: |_| vec!["build", "--no-cache", "-t", "killed", "app"] },
    Victim {
        before: |bench, name| {
            drop(bench.run(&["rmi", "-f", name]));
            drop(bench.run(&["prune", "-f"]));
        },
        command: |name| vec!["pull", name],
    },
    Victim { before: |bench, _| drop(bench.build(&["-t", "killed", "app"]).ok()), command: |_| vec!["prune", "-af"] },
    Victim { before: |_, _| {}, command: |_| vec!["load", "-i", "whole.tar"] },
];

/// Kills `$RBUILD_STRESS_KILLS` times; a few by default.
#[test]
fn a_command_killed_at_any_moment_leaves_a_whole_store() {
    needs!(Need::Command("docker-registry"));
    let bench = busybox_bench!();
    let registry = Registry::start(Access::Anonymous).unwrap();
    let name = registry.name("victim");
    let kills = std::env::var("RBUILD_STRESS_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    project(&bench);
    bench.build(&["-t", &name, "app"]).ok();
    bench.run(&["push", &name]).ok();
    bench.run(&["save", "-o", "whole.tar", &name]).ok();
    bench.run(&["save", "-o", "busybox.tar", "busybox"]).ok();
    let mut took = [Duration::from_millis(300); 4];
    let mut ended = 0;
    for round in 0..kills {
        let kind = round % VICTIMS.len();
        bench.run(&["load", "-i", "busybox.tar"]).ok();
        (VICTIMS[kind].before)(&bench, &name);
        let started = Instant::now();
        let mut command = bench.command(&(VICTIMS[kind].command)(&name));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(took[kind] * chance(1000) / 1000);
        if child.try_wait().unwrap().is_some() {
            // Too late: a better guess for the next time.
            took[kind] = took[kind] * 3 / 4;
            ended += 1;
        } else {
            kill_process(Pid::from_child(&child), Signal::KILL).ok();
            took[kind] = (took[kind] * 5 / 4).min(started.elapsed() * 8).max(Duration::from_millis(2));
        }
        child.wait().unwrap();
        bench.assert_nothing_is_left();
        for image in bench.images().iter().filter(|image| *image != "<none>:<none>") {
            if image.starts_with("busybox") {
                continue;
            }
            let size = bench.run(&["run", "--rm", image, "cat", "/size"]).ok().stdout;
            assert_eq!(size, "990000\n", "`{image}` is not what was built, after kill {round}");
        }
    }
    println!("{kills} kills, {ended} of them too late");
    bench.run(&["load", "-i", "busybox.tar"]).ok();
    bench.build(&["-t", "after", "app"]).ok();
    assert_eq!(bench.run(&["run", "--rm", "after", "cat", "/size"]).ok().stdout, "990000\n");
    for image in bench.images() {
        drop(bench.run(&["rmi", "-f", &image]));
    }
    bench.run(&["prune", "-af"]).ok();
    for place in ["ingest", "trash", "layers-v1", "blobs/sha256", "containers", "cache-mounts"] {
        let left: Vec<_> =
            fs::read_dir(bench.state().join(place)).unwrap().map(|entry| entry.unwrap().path()).collect();
        // The beginning of a pulled blob may be continued for a day.
        let left: Vec<_> = left.iter().filter(|path| path.extension().is_none_or(|end| end != "partial")).collect();
        assert!(left.is_empty(), "a prune leaves {left:?}");
    }
}
