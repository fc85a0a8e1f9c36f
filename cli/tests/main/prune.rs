//! Does the store get smaller, and does nobody notice?

use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rbuild_testkit::Bench;

/// A build that takes its time between two steps.
const SLOW: &str = "\
FROM busybox
RUN echo kept > /kept
RUN sleep 2
COPY --from=busybox /bin/busybox /copied
RUN cat /kept && test -s /copied
";

fn start(bench: &Bench<'_>, arguments: &[&str]) -> Child {
    bench.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn layers(bench: &Bench<'_>) -> usize {
    std::fs::read_dir(bench.state().join("layers-v1")).unwrap().count()
}

#[test]
fn a_build_goes_on_while_everything_is_pruned() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", SLOW);
    let mut child = start(&bench, &["build", "-t", "slow", "app"]);
    let begun = Instant::now();
    while layers(&bench) < 2 && begun.elapsed() < Duration::from_secs(60) {
        thread::sleep(Duration::from_millis(10));
    }
    let pruned = bench.run(&["prune", "-af"]).ok().says(&["go when these have ended: ", "build -t slow app"]);
    assert!(pruned.stdout.contains("Deleted images:"), "{}", pruned.both());
    assert!(!bench.images().contains(&"busybox:latest".to_owned()), "its name is gone");
    assert!(child.wait().unwrap().success(), "the build was disturbed");
    assert_eq!(bench.run(&["run", "--rm", "slow", "cat", "/kept"]).ok().stdout, "kept\n");
    bench.run(&["rmi", "slow"]).ok();
    bench.run(&["prune", "-af"]).ok();
    assert_eq!(layers(&bench), 0);
}

#[test]
fn a_dry_run_says_what_would_go_and_why() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox\nRUN echo one > /one\n");
    bench.build(&["-t", "one", "app"]).ok();
    let planned = bench.run(&["prune", "--dry-run"]).ok().stdout;
    assert!(planned.contains("RUN echo one > /one") && planned.contains("Would reclaim: 0B"), "{planned}");
    bench.run(&["rmi", "one"]).ok();
    let planned = bench.run(&["prune", "--all", "--dry-run"]).ok().stdout;
    assert!(planned.contains("nothing needs it") && planned.contains("no container uses it"), "{planned}");
    let kept = bench.run(&["prune", "--dry-run", "--filter", "type=cachemount"]).ok().stdout;
    assert!(!kept.contains("RUN echo one"), "{kept}");
    let before = layers(&bench);
    let listed = bench.run(&["du"]).ok().stdout;
    assert!(listed.contains("busybox") && listed.contains("RUN echo one > /one"), "{listed}");
    let json = bench.run(&["du", "--format=json", "--filter", "description~=^.*echo one"]).ok().stdout;
    let row: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!((row["type"].as_str(), row["reclaimable"].as_bool()), (Some("step"), Some(true)), "{json}");
    assert_eq!(layers(&bench), before);
}

#[test]
fn prune_takes_only_the_containers_that_are_meant() {
    let bench = busybox_bench!();
    bench.run(&["run", "--name", "precious", "busybox", "sh", "-c", "echo data > /data"]).ok();
    for kept in [
        &["--filter", "type=cachemount"][..],
        &["--filter", "type=container", "--filter", "description=other"],
        &["--filter", "until=24h"],
        &["--max-used-space", "1gb"],
        &["--all", "--filter", "type!=container"],
    ] {
        let planned = bench.run(&[&["prune", "--dry-run"], kept].concat()).ok().stdout;
        let pruned = bench.run(&[&["prune", "-f"], kept].concat()).ok().stdout;
        assert!(!planned.contains("precious") && !pruned.contains("precious"), "{kept:?}: {planned}\n{pruned}");
    }
    bench.run(&["prune", "-f", "--filter", "type=container", "--filter", "until=0s"]).ok().says(&[]);
    assert_eq!(bench.run(&["ps", "-aq"]).ok().stdout, "");
}

#[test]
fn the_store_keeps_its_limits_by_itself() {
    let bench = busybox_bench!().with_variable("RBUILD_GC", "max-used=0,reserved=0");
    let text = "FROM busybox AS made\nRUN date > /made\nFROM busybox\nCOPY --from=made /made /made\n";
    bench.file("app/Dockerfile", text);
    bench.build(&["-t", "first", "app"]).ok();
    let steps =
        |pattern: &str| bench.run(&["du", "--filter", &format!("description~={pattern}"), "--format=json"]).ok().stdout;
    assert_eq!(steps("RUN date"), "", "a cache of no bytes keeps nothing that the image does not");
    assert!(steps("COPY --from").contains("\"reclaimable\":false"));
    bench.run(&["run", "--rm", "first", "test", "-s", "/made"]).ok();
    // Not again within the hour.
    bench.build(&["--no-cache", "-t", "second", "app"]).ok();
    assert!(steps("RUN date").contains("\"reclaimable\":true"));
    bench.run(&["--gc", "nonsense", "images"]).fails(2).says(&["`nonsense` is not `off` or a list"]);
}

/// Runs for `$RBUILD_STRESS_SECONDS`; some seconds by default.
#[test]
fn concurrent_builds_and_prunes_give_the_right_images() {
    let bench = busybox_bench!();
    let seconds = std::env::var("RBUILD_STRESS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let end = Instant::now() + Duration::from_secs(seconds);
    for kind in 0..4 {
        let text = format!(
            "FROM base\nRUN echo {kind} > /kind\nCOPY file /copied\nRUN --mount=type=cache,target=/cache date > /cache/{kind} \
             && cat /kind /copied > /both\n"
        );
        bench.file(&format!("context/Dockerfile.{kind}"), text);
    }
    bench.file("context/file", "content\n").file("context/.dockerignore", "*.tar\n");
    // What `prune -a` takes must be there again.
    bench.run(&["save", "-o", "context/busybox.tar", "busybox"]).ok();
    let done = AtomicBool::new(false);
    let builds = thread::scope(|scope| {
        let builders: Vec<_> = (0..10)
            .map(|number| {
                let bench = &bench;
                scope.spawn(move || {
                    let (mut count, tag, kind) = (0, format!("image-{number}"), number % 4);
                    while Instant::now() < end {
                        bench.run(&["load", "-i", "context/busybox.tar"]).ok();
                        let file = format!("context/Dockerfile.{kind}");
                        let output = bench.build(&[
                            "-t",
                            &tag,
                            "-f",
                            &file,
                            "--build-context",
                            "base=docker-image://busybox",
                            "context",
                        ]);
                        // The base may have gone between the two commands; there is no registry to get it from.
                        if output.stderr.contains("cannot find base image") {
                            continue;
                        }
                        output.ok();
                        // So may the image, but not a piece of it.
                        let found = bench.run(&["run", "--rm", &tag, "cat", "/both"]);
                        if found.code() == 0 {
                            assert_eq!(found.stdout, format!("{kind}\ncontent\n"));
                        } else {
                            found.says(&["image"]);
                        }
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        let pruner = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                bench.run(&["prune", "-af"]).ok();
                thread::sleep(Duration::from_millis(100));
                bench.run(&["prune", "-f"]).ok();
                thread::sleep(Duration::from_millis(300));
            }
        });
        let builds: Vec<_> = builders.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        pruner.join().unwrap();
        builds.into_iter().map(Result::unwrap).sum::<usize>()
    });
    println!("{builds} builds in {seconds} seconds");
    assert!(builds > 0);
    bench.run(&["prune", "-af"]).ok();
    assert_eq!(layers(&bench), 0, "nothing is left that a prune does not take");
    bench.assert_nothing_is_left();
}
