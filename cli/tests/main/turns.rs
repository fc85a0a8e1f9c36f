//! Do builds that run at once wait for each other only where they must?

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::thread;

use rbuild_testkit::Bench;

const STAGES: usize = 30;

/// Stages of a step each, which do not differ but by a number. The first step that is executed waits until there is `/c/go`.
fn dockerfile() -> String {
    let stage = |number| {
        format!(
            "FROM busybox AS s{number}\n\
             RUN --mount=type=cache,target=/c echo {number} | tee -a /c/log > /f && \
             if mkdir /c/first; then echo first-is-$(cat /f)-; until test -e /c/go; do sleep 0.1; done; fi\n"
        )
    };
    let copy = |number| format!("COPY --from=s{number} /f /f{number}\n");
    let stages: String = (0..STAGES).map(stage).collect();
    let copies: String = (0..STAGES).map(copy).collect();
    format!("{stages}FROM busybox\n{copies}")
}

/// What a process says that sees what the steps see.
fn ask(bench: &Bench<'_>, command: &str) -> String {
    bench.file("ask/Dockerfile", format!("FROM busybox\nRUN --mount=type=cache,target=/c {command} > /answer\n"));
    bench.build(&["--no-cache", "-t", "answer", "ask"]).ok();
    bench.run(&["run", "--rm", "answer", "cat", "/answer"]).ok().stdout
}

#[test]
fn a_step_that_only_waits_for_its_turn_is_executed_by_who_can() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", dockerfile());
    let mut all = bench.command(&["build", "--progress", "plain", "--jobs", "1", "-t", "all", "app"]);
    let mut all = all.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut says = BufReader::new(all.stderr.take().unwrap());
    let mut said = String::new();
    let first: usize = loop {
        let from = said.len();
        assert_ne!(says.read_line(&mut said).unwrap(), 0, "{said}");
        let number = said[from..].split_once("first-is-").and_then(|(_, rest)| rest.split_once('-')?.0.parse().ok());
        if let Some(number) = number {
            break number;
        }
    };
    let rest = thread::spawn(move || {
        let mut rest = String::new();
        says.read_to_string(&mut rest).unwrap();
        rest
    });

    // The only slot of the first build is taken until both of these have ended.
    for wanted in [(first + 1) % STAGES, (first + STAGES / 2) % STAGES] {
        let target = format!("s{wanted}");
        let one = bench.build(&["--target", &target, "app"]).ok();
        assert!(one.done().iter().any(|title| title.contains(&format!("echo {wanted} "))), "{}", one.stderr);
    }
    assert!(all.try_wait().unwrap().is_none());
    ask(&bench, "touch /c/go");

    assert!(all.wait().unwrap().success());
    said += &rest.join().unwrap();
    let cached = said.lines().filter(|line| line.split(' ').nth(1) == Some("CACHED")).count();
    assert_eq!(cached, 2, "what others made is found:\n{said}");
    let log = ask(&bench, "cat /c/log");
    let mut executed: Vec<usize> = log.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(executed[..3], [first, (first + 1) % STAGES, (first + STAGES / 2) % STAGES]);
    executed.sort_unstable();
    assert_eq!(executed, (0..STAGES).collect::<Vec<_>>(), "each once");
}

/// Steps that end before the layer below them has a name, too.
#[test]
fn equal_builds_at_once_execute_each_step_once() {
    let (stages, steps) = (12, 8);
    let bench = busybox_bench!();
    let step =
        |stage, step| format!("RUN --mount=type=cache,target=/c echo {stage}.{step} | tee -a /c/log > /f{step}\n");
    let stage = |number: usize| -> String {
        let steps: String = (0..steps).map(|place| step(number, place)).collect();
        format!("FROM busybox AS s{number}\n{steps}")
    };
    let copies: String = (0..stages).map(|number| format!("COPY --from=s{number} /f0 /f{number}\n")).collect();
    let text: String = (0..stages).map(stage).collect();
    bench.file("app/Dockerfile", format!("{text}FROM busybox\n{copies}"));
    thread::scope(|scope| {
        for name in ["one", "two", "three"] {
            let bench = &bench;
            scope.spawn(move || bench.build(&["-t", name, "app"]).ok());
        }
    });
    let log = ask(&bench, "cat /c/log");
    let mut executed: Vec<&str> = log.lines().collect();
    let count = executed.len();
    executed.sort_unstable();
    executed.dedup();
    assert_eq!((executed.len(), count), (stages * steps, stages * steps), "{log}");
}
