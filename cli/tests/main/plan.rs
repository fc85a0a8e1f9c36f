//! Does `plan` say what a build then does, and do nothing itself?

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

/// Every file of the state directory but locks and the lists of users that every command keeps, with its size.
fn files(directory: &Path, under: &str, found: &mut BTreeMap<String, u64>) {
    for entry in std::fs::read_dir(directory.join(under.trim_start_matches('/'))).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{under}/{}", entry.file_name().display());
        if entry.file_type().unwrap().is_dir() {
            files(directory, &path, found);
        } else if !path.starts_with("/locks") && !path.ends_with("lock.mdb") {
            found.insert(path, entry.metadata().unwrap().len());
        }
    }
}

fn state(bench: &rbuild_testkit::Bench<'_>) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    files(bench.state(), "", &mut found);
    found
}

/// The forecasts, in the order of the steps.
fn forecasts(plan: &Value) -> Vec<&str> {
    plan["steps"].as_array().unwrap().iter().map(|step| step["forecast"].as_str().unwrap()).collect()
}

#[test]
fn a_plan_says_what_the_build_then_does_and_leaves_the_store_alone() {
    let bench = busybox_bench!();
    bench.file("app/a", "1").file("app/b", "1").file(
        "app/Dockerfile",
        "FROM busybox AS build\nCOPY a /a\nRUN cat /a >/out\n\nFROM busybox AS unused\nRUN false\n\n\
         FROM scratch AS final\nCOPY --from=build /out /\nCOPY b /\nENV A=b\n",
    );
    let plan = |arguments: &[&str]| -> Value {
        let arguments: Vec<&str> = ["plan", "--format=json"].into_iter().chain(arguments.iter().copied()).collect();
        serde_json::from_str(&bench.run(&arguments).ok().stdout).unwrap()
    };
    let before = state(&bench);
    let first = plan(&["app"]);
    assert_eq!(state(&bench), before, "`plan` writes nothing");
    assert_eq!(forecasts(&first), ["cached", "run", "run", "run", "run"]);
    assert_eq!(first["target"], 2);
    let stages: Vec<_> = first["stages"].as_array().unwrap().iter().map(|stage| stage["needed"].clone()).collect();
    assert_eq!(stages, [true, false, true]);
    assert_eq!(first["steps"][2]["lines"], json!([3, 3]));
    assert_eq!(first["steps"][3]["inputs"], json!([{ "scratch": true }, { "step": 3 }]));

    bench.build(&["-t", "app", "app"]).ok();
    assert_eq!(forecasts(&plan(&["app"])), ["skipped", "skipped", "skipped", "skipped", "cached"]);

    bench.file("app/a", "2");
    let edited = plan(&["app"]);
    assert_eq!(forecasts(&edited), ["cached", "run", "depends", "depends", "depends"]);
    assert_eq!(
        edited["steps"][1]["reason"],
        json!({ "code": "files", "context": "context", "files": [{ "path": "a", "change": "content" }], "others": 0 })
    );
    assert_eq!(edited["steps"][2]["reason"], json!({ "code": "input", "step": 2 }));

    let other = plan(&["--no-cache", "--target", "build", "app"]);
    assert_eq!(forecasts(&other), ["cached", "run", "run"]);
    assert_eq!(other["steps"][1]["reason"], json!({ "code": "forced" }));
}

#[test]
fn a_plan_is_drawn() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox AS debug\nRUN a\nFROM busybox\nRUN echo \"[x]\" '#' <<EOF\n<b>\nEOF\n");
    let text = bench.run(&["plan", "app"]).ok().stdout;
    assert!(text.contains("debug: FROM busybox on line 1, not needed"), "{text}");
    assert!(bench.run(&["plan", "--format", "dot", "app"]).ok().stdout.starts_with("digraph plan {\n"));
    assert!(bench.run(&["plan", "--format", "mermaid", "app"]).ok().stdout.starts_with("flowchart TB\n"));
    bench.run(&["plan", "--format", "xml", "app"]).fails(2).says(&["mermaid"]);
}

#[test]
fn what_cannot_be_planned_says_so_as_a_build_does() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM localhost:1/nobody/nothing\nRUN a\n");
    bench
        .run(&["plan", "app"])
        .fails(1)
        .says(&["cannot find base image `localhost:1/nobody/nothing`", "Dockerfile:1:6"]);
    bench.file("app/Dockerfile", "FROM busybox\nRNU a\n");
    bench.run(&["plan", "app"]).fails(1).says(&["RNU", "Dockerfile:2:1"]);
    bench.run(&["plan", "nowhere"]).fails(1).says(&["nowhere"]);
    bench.run(&["plan"]).fails(2).says(&["context"]);
}
