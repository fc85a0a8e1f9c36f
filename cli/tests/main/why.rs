//! Does `why` name what a step ran for?

use rbuild_testkit::Bench;
use serde_json::{Value, json};

fn why(bench: &Bench<'_>, directory: &str, arguments: &[&str]) -> Value {
    let file = format!("{directory}/Dockerfile");
    let all = [&["why", "--format", "json", "-f", &file], arguments].concat();
    serde_json::from_str(&bench.run(&all).ok().stdout).unwrap()
}

/// `title result`, and the causes, of all steps that were not simply found.
fn told(build: &Value) -> Vec<(String, Value)> {
    let steps = build["steps"].as_array().unwrap().iter();
    let steps = steps.filter(|step| !step["causes"].as_array().unwrap().is_empty());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let told = steps.map(|step| {
        let instruction = text(&step["title"]).split_once("] ").unwrap().1.to_owned();
        (format!("{instruction}: {}", text(&step["result"])), step["causes"].clone())
    });
    told.collect()
}

fn number(build: &Value, instruction: &str) -> Value {
    let steps = build["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["title"].as_str().unwrap().ends_with(instruction));
    step.unwrap_or_else(|| panic!("{instruction} in {build:#}"))["number"].clone()
}

const DOCKERFILE: &str = "FROM busybox\nARG VERSION=1\nCOPY src /src\nRUN cat /src/* >/all; wc -c </all | cut -c1 >/size; rm /all\n\
     RUN echo $VERSION >/version\n";

#[test]
fn f2_each_miss_has_its_exact_cause() {
    let bench = busybox_bench!();
    bench.file("app/src/a", "1").file("app/src/b", "1").file("app/src/c", "1").file("app/Dockerfile", DOCKERFILE);
    bench.run(&["why", "-f", "app/Dockerfile"]).fails(1).says(&["no build of `app/Dockerfile` is remembered"]);

    let first = bench.run(&["build", "--explain=json", "app"]).ok();
    let first: Value = serde_json::from_str(&first.stdout).unwrap();
    let never = json!([{ "code": "never-built" }]);
    let expected: Vec<_> = first["steps"].as_array().unwrap().iter().map(|_| never.clone()).collect();
    assert_eq!(told(&first).into_iter().map(|(_, causes)| causes).collect::<Vec<_>>(), expected);
    assert_eq!(first["image"].as_str().unwrap().len(), 71);
    assert_eq!(why(&bench, "app", &[])["steps"], first["steps"], "what was told is what is remembered");

    // All is found: nothing new to tell, and `why` still tells of the build before.
    let found = bench.run(&["build", "--explain", "app"]).ok();
    assert!(found.stdout.contains("4 steps: 4 cached\n"), "{}", found.stdout);
    assert_eq!(why(&bench, "app", &[]), first);

    // Files, and what stands on them; the contents have the same length, so the last step is not run again.
    std::fs::remove_file(bench.path("app/src/c")).unwrap();
    bench.file("app/src/a", "2").file("app/src/d", "1");
    let text = bench.run(&["build", "--explain", "app"]).ok().stdout;
    let build = why(&bench, "app", &[]);
    let files = json!([
        { "path": "src/a", "change": "content" },
        { "path": "src/c", "change": "removed" },
        { "path": "src/d", "change": "added" },
    ]);
    let on = |instruction: &str| json!([{ "code": "input", "step": number(&build, instruction) }]);
    assert_eq!(
        told(&build),
        [
            (
                "COPY src /src: ran".to_owned(),
                json!([{ "code": "files", "context": "context", "files": files, "others": 0 }])
            ),
            ("RUN cat /src/* >/all; wc -c </all | cut -c1 >/size; rm /all: ran".to_owned(), on("COPY src /src")),
            ("RUN echo $VERSION >/version: ran".to_owned(), on("rm /all")),
        ]
    );
    for expected in ["content  src/a\n", "removed  src/c\n", "added    src/d\n", " of processor time"] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }

    // A build argument, by value and by name.
    bench.build(&["--build-arg", "VERSION=2", "app"]).ok();
    let build = why(&bench, "app", &[]);
    let version = json!([{ "code": "changed", "changes": [{ "name": "env VERSION", "before": "1", "after": "2" }] }]);
    let last = told(&build).pop().unwrap();
    assert_eq!(last, ("RUN echo $VERSION >/version: ran".to_owned(), version));
    bench.run(&["why", "-f", "app/Dockerfile", "echo"]).ok().says(&[
        "ran",
        "RUN echo $VERSION >/version",
        "variable VERSION: `1` became `2`",
    ]);
    bench.run(&["why", "-f", "app/Dockerfile", "no such"]).fails(2).says(&["the last build has no step `no such`"]);

    // Forced, and what stands on it.
    bench.build(&["--no-cache", "--build-arg", "VERSION=2", "app"]).ok();
    let forced = told(&why(&bench, "app", &[]));
    assert!(forced.iter().all(|(_, causes)| *causes == json!([{ "code": "forced" }])), "{forced:?}");
    bench.run(&["why", "--format", "json"]).fails(1).says(&["in this directory", "/app/Dockerfile"]);
}

#[test]
fn f2_early_cut_off_and_failures_are_told_as_such() {
    let bench = busybox_bench!();
    let dockerfile = |note: &str, last: &str| {
        let text = format!(
            "FROM busybox AS made\nRUN echo same >/made # {note}\nFROM busybox\nCOPY --from=made /made /\nRUN {last}\n"
        );
        bench.file("app/Dockerfile", text);
    };
    dockerfile("one", "true");
    bench.build(&["app"]).ok();
    dockerfile("two", "true");
    bench.build(&["app"]).ok();
    let build = why(&bench, "app", &[]);
    let results: Vec<_> = told(&build).into_iter().map(|(title, _)| title).collect();
    assert_eq!(results, ["RUN echo same >/made # two: ran", "COPY --from=made /made /: kept", "RUN true: kept"]);
    let text = bench.run(&["why", "-f", "app/Dockerfile", "COPY"]).ok().stdout;
    assert!(text.contains("inputs made anew, same content: found under the content key"), "{text}");
    assert!(text.contains("RUN echo same >/made # two"), "with what it is because of: {text}");

    dockerfile("two", "exit 3");
    let failed = bench.run(&["build", "--explain", "app"]).fails(1);
    assert!(
        failed.stdout.contains("failed") && failed.stdout.contains("argument 2: `true` became `exit 3`"),
        "{failed:?}"
    );
    let build = why(&bench, "app", &[]);
    assert_eq!(build["image"], Value::Null);
    assert_eq!(told(&build).pop().unwrap().0, "RUN exit 3: failed");
}

#[test]
fn a_moved_base_image_is_told_with_both_ids() {
    let bench = busybox_bench!();
    bench
        .file("base/Dockerfile", "FROM busybox\nRUN echo 1 >/base\n")
        .file("app/Dockerfile", "FROM mine\nRUN cat /base\n");
    bench.build(&["-t", "mine", "base"]).ok();
    bench.build(&["app"]).ok();
    bench.file("base/Dockerfile", "FROM busybox\nRUN echo 2 >/base\n");
    bench.build(&["-t", "mine", "base"]).ok();
    bench.build(&["app"]).ok();
    let build = why(&bench, "app", &[]);
    let (title, causes) = told(&build).remove(0);
    assert!(title.starts_with("FROM "), "{title}");
    let change = &causes[0]["changes"][0];
    assert_eq!(change["name"], "image");
    assert!(
        change["before"].as_str().unwrap().starts_with("sha256:") && change["before"] != change["after"],
        "{causes}"
    );
}
