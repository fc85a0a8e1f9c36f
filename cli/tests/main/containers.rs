//! How does a container in the background live and end?

use std::time::{Duration, Instant};

use rbuild_testkit::Bench;

fn detached(bench: &Bench<'_>, name: &str, script: &str) -> String {
    bench.run(&["run", "-d", "--name", name, "busybox", "sh", "-c", script]).ok().stdout.trim().to_owned()
}

fn status(bench: &Bench<'_>, name: &str) -> String {
    bench.run(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name]).ok().stdout.trim().to_owned()
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(30));
    }
}

#[test]
fn detached_containers_are_listed_logged_stopped_and_removed() {
    let bench = busybox_bench!();
    let id = detached(&bench, "worker", "trap 'echo asked; exit 3' TERM; echo started; while :; do sleep 0.1; done");
    assert_eq!(id.len(), 64, "{id}");
    bench.run(&["ps"]).ok().says(&["worker", &id[..12], "busybox", "Up "]);
    wait_for("the first line", || bench.run(&["logs", "worker"]).ok().stdout == "started\n");
    bench.run(&["run", "--name", "worker", "busybox"]).fails(125).says(&["worker"]);
    assert_eq!(bench.run(&["stop", "worker"]).ok().stdout, "worker\n");
    assert_eq!(status(&bench, "worker"), "exited 3");
    bench.run(&["ps"]).ok().never_says(&["worker"]);
    bench.run(&["ps", "-a"]).ok().says(&["worker", "Exited (3)"]);
    bench.run(&["logs", "worker"]).ok().says(&["started", "asked"]);
    assert_eq!(bench.run(&["rm", "worker"]).ok().stdout, "worker\n");
    assert_eq!(bench.run(&["ps", "-aq"]).ok().stdout, "");
    bench.run(&["logs", "worker"]).fails(1).says(&["worker"]);
    bench.assert_nothing_is_left();
}

#[test]
fn stop_kills_who_does_not_listen() {
    let bench = busybox_bench!();
    detached(&bench, "deaf", "trap '' TERM; while :; do sleep 0.1; done");
    let output = bench.run(&["stop", "-t", "1", "deaf"]).ok();
    assert!(output.elapsed >= Duration::from_secs(1), "{:?}", output.elapsed);
    assert_eq!(status(&bench, "deaf"), "exited 137");
}

#[test]
fn running_containers_are_removed_by_force_only() {
    let bench = busybox_bench!();
    detached(&bench, "busy", "sleep 1000");
    bench.run(&["rm", "busy"]).fails(1).says(&["busy", "running"]);
    bench.run(&["rmi", "busybox"]).fails(1);
    bench.run(&["rm", "-f", "busy"]).ok();
    bench.assert_nothing_is_left();
}

#[test]
fn logs_keep_streams_times_and_order() {
    let bench = busybox_bench!();
    detached(&bench, "talker", "for i in 1 2 3; do echo out $i; echo err $i >&2; sleep 0.05; done; printf unfinished");
    wait_for("the end", || status(&bench, "talker") == "exited 0");
    let output = bench.run(&["logs", "talker"]).ok();
    assert_eq!(output.stdout, "out 1\nout 2\nout 3\nunfinished");
    assert_eq!(output.stderr, "err 1\nerr 2\nerr 3\n");
    assert_eq!(bench.run(&["logs", "-n", "1", "talker"]).ok().stdout, "unfinished");
    let stamped = bench.run(&["logs", "-t", "talker"]).ok().stdout;
    assert!(stamped.lines().all(|line| line.starts_with("20") && line.contains("Z ")), "{stamped}");
}

#[test]
fn logs_can_be_followed_to_the_end() {
    let bench = busybox_bench!();
    detached(&bench, "slow", "echo first; sleep 1; echo last");
    let output = bench.run(&["logs", "-f", "slow"]).ok();
    assert_eq!(output.stdout, "first\nlast\n");
}

#[test]
fn a_detached_container_that_cannot_start_says_so() {
    let bench = busybox_bench!();
    bench.run(&["run", "-d", "busybox", "no-such-program"]).fails(127).says(&["no-such-program"]);
    bench.assert_nothing_is_left();
}

#[test]
fn signals_and_detached_removal() {
    let bench = busybox_bench!();
    detached(&bench, "signalled", "trap 'echo usr1' USR1; while :; do sleep 0.05; done");
    wait_for("the trap", || {
        bench.run(&["kill", "-s", "USR1", "signalled"]).ok();
        bench.run(&["logs", "signalled"]).ok().stdout.contains("usr1")
    });
    bench.run(&["kill", "signalled"]).ok();
    wait_for("the end", || status(&bench, "signalled") == "exited 137");
    bench.run(&["run", "-d", "--rm", "--name", "brief", "busybox", "sleep", "0.2"]).ok();
    wait_for("the removal", || !bench.run(&["ps", "-a"]).ok().stdout.contains("brief"));
    bench.assert_nothing_is_left();
}

#[test]
fn a_container_outlives_a_dead_monitor_only_as_dead() {
    let bench = busybox_bench!();
    detached(&bench, "orphan", "sleep 1000");
    rbuild_testkit::processes::kill_all(bench.path("").as_path());
    bench.assert_nothing_is_left();
    wait_for("the end", || !bench.run(&["ps"]).ok().stdout.contains("orphan"));
    bench.run(&["rm", "-f", "orphan"]).ok();
    bench.run(&["run", "--rm", "--name", "orphan", "busybox", "true"]).ok();
}
