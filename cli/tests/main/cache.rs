//! What is not done again?

use rbuild_testkit::Bench;

/// A project in the shape of koa-demo, with a step whose every execution can be told from the others.
const DOCKERFILE: &str = "\
FROM busybox
RUN mkdir /before && cat /proc/sys/kernel/random/uuid > /before/stamp
COPY . /app
WORKDIR /app
RUN cat /proc/sys/kernel/random/uuid > /stamp && cat src/*.js > bundle
EXPOSE 3000
CMD cat /app/bundle
";

fn project(bench: &Bench<'_>) {
    bench.file("app/Dockerfile", DOCKERFILE).file("app/src/a.js", "first\n").file("app/src/b.js", "second\n");
    bench.file("app/.dockerignore", "Dockerfile\n*.log\n");
}

/// The stamps of the two RUNs.
fn stamps(bench: &Bench<'_>, image: &str) -> (String, String) {
    let read = |path| bench.run(&["run", "--rm", image, "cat", path]).ok().stdout;
    (read("/before/stamp"), read("/stamp"))
}

#[test]
fn second_build_runs_nothing() {
    let bench = busybox_bench!();
    project(&bench);
    let first = bench.build(&["-t", "koa", "app"]).ok();
    assert!(first.done().iter().any(|title| title.contains("RUN cat")), "{}", first.stderr);
    let before = stamps(&bench, "koa");
    let id = bench.run(&["images", "-q", "--no-trunc", "koa"]).ok().stdout;
    let second = bench.build(&["-t", "koa", "app"]).ok();
    assert_eq!(second.done().iter().filter(|title| title.contains("RUN")).count(), 0, "{}", second.stderr);
    assert!(second.cached().iter().any(|title| title.contains("RUN cat")), "{}", second.stderr);
    assert_eq!(stamps(&bench, "koa"), before);
    assert_eq!(bench.run(&["images", "-q", "--no-trunc", "koa"]).ok().stdout, id, "the image is another one");
}

#[test]
fn b024_what_only_changes_the_configuration_runs_nothing() {
    let bench = busybox_bench!();
    project(&bench);
    bench.build(&["-t", "koa", "app"]).ok();
    let before = stamps(&bench, "koa");
    let more =
        "LABEL a=b\nENV LATE=1\nSTOPSIGNAL SIGINT\nVOLUME /data\nONBUILD RUN true\nHEALTHCHECK NONE\nCMD [\"true\"]\n";
    bench.file("app/Dockerfile", DOCKERFILE.replace("FROM busybox\n", "FROM busybox\nLABEL first=1\n") + more);
    let second = bench.build(&["--jobs", "1", "--label", "c=d", "-t", "koa", "app"]).ok();
    assert!(!second.done().iter().any(|title| title.contains("RUN")), "{}", second.stderr);
    assert_eq!(stamps(&bench, "koa"), before);
    assert!(bench.run(&["inspect", "koa"]).ok().stdout.contains("\"LATE=1\""));
}

#[test]
fn an_edited_file_runs_what_follows_its_copy() {
    let bench = busybox_bench!();
    project(&bench);
    bench.build(&["-t", "koa", "app"]).ok();
    let (before, after) = stamps(&bench, "koa");
    bench.file("app/src/b.js", "changed\n");
    let second = bench.build(&["-t", "koa", "app"]).ok();
    assert!(second.cached().iter().any(|title| title.contains("RUN mkdir")), "{}", second.stderr);
    let (before_again, after_again) = stamps(&bench, "koa");
    assert_eq!(before_again, before);
    assert_ne!(after_again, after);
    assert_eq!(bench.run(&["run", "--rm", "koa"]).ok().stdout, "first\nchanged\n");
}

#[test]
fn ignored_files_and_times_change_nothing() {
    let bench = busybox_bench!();
    project(&bench);
    bench.build(&["-t", "koa", "app"]).ok();
    let before = stamps(&bench, "koa");
    bench.file("app/debug.log", "noise\n").file("app/src/a.js", "first\n");
    bench.build(&["-t", "koa", "app"]).ok();
    assert_eq!(stamps(&bench, "koa"), before);
}

#[test]
fn no_cache_runs_everything() {
    let bench = busybox_bench!();
    project(&bench);
    bench.build(&["-t", "koa", "app"]).ok();
    let before = stamps(&bench, "koa");
    bench.build(&["--no-cache", "-t", "koa", "app"]).ok();
    let after = stamps(&bench, "koa");
    assert!(before.0 != after.0 && before.1 != after.1);
}

#[test]
fn a_run_with_the_same_result_ends_what_follows_it() {
    let bench = busybox_bench!();
    bench.file(
        "app/Dockerfile",
        "FROM busybox AS count\nCOPY source /\nRUN wc -c < /source > /size\n\
         FROM busybox\nCOPY --from=count /size /\nRUN cat /proc/sys/kernel/random/uuid > /stamp\n",
    );
    let stamp = || bench.run(&["run", "--rm", "cut", "cat", "/stamp"]).ok().stdout;
    bench.file("app/source", "abc").build(&["-t", "cut", "app"]).ok();
    let before = stamp();
    let second = bench.file("app/source", "xyz").build(&["-t", "cut", "app"]).ok();
    assert!(second.done().iter().any(|title| title.contains("RUN wc")), "{}", second.stderr);
    assert_eq!(stamp(), before);
}

#[test]
fn changing_an_environment_runs_what_follows_it() {
    let bench = busybox_bench!();
    let text = |date: &str| {
        format!(
            "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /before-stamp\nENV REFRESHED_AT {date}\n\
             RUN cat /proc/sys/kernel/random/uuid > /stamp\n"
        )
    };
    let read = |path| bench.run(&["run", "--rm", "env", "cat", path]).ok().stdout;
    bench.file("app/Dockerfile", text("2026-01-01")).build(&["-t", "env", "app"]).ok();
    let (before, after) = (read("/before-stamp"), read("/stamp"));
    bench.file("app/Dockerfile", text("2026-01-02")).build(&["-t", "env", "app"]).ok();
    assert_eq!(read("/before-stamp"), before);
    assert_ne!(read("/stamp"), after);
}

#[test]
fn stages_are_built_at_most_once_and_only_if_needed() {
    let bench = busybox_bench!();
    bench.file(
        "app/Dockerfile",
        "FROM busybox AS base\nRUN echo base-ran\nFROM base AS one\nRUN echo one > /one\nFROM base AS two\nRUN echo two > /two\n\
         FROM base AS unused\nRUN echo unused-ran && exit 1\nFROM scratch\nCOPY --from=one /one /\nCOPY --from=two /two /\n",
    );
    let output = bench.build(&["app"]).ok().never_says(&["unused-ran"]);
    let runs = output.done().iter().filter(|title| title.contains("echo base-ran")).count();
    assert_eq!(runs, 1, "{}", output.stderr);
}

#[test]
fn two_builds_at_once_share_their_steps() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox\nRUN sleep 1; cat /proc/sys/kernel/random/uuid > /stamp\n");
    std::thread::scope(|scope| {
        for name in ["one", "two", "three"] {
            let bench = &bench;
            scope.spawn(move || bench.build(&["-t", name, "app"]).ok());
        }
    });
    let stamp = |name| bench.run(&["run", "--rm", name, "cat", "/stamp"]).ok().stdout;
    assert_eq!(stamp("one"), stamp("two"));
    assert_eq!(stamp("two"), stamp("three"));
}
