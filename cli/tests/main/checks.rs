//! Does `rbuild check` find, write down and repair what it is told to?

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use rbuild_testkit::Bench;
use serde_json::Value;

const DOUBTFUL: &str = "# check=skip=MaintainerDeprecated\nFROM debian as base\nMAINTAINER me\nENV A b # c\n";

/// A bench without a store: no check may open one.
fn bench() -> Bench<'static> {
    Bench::new(crate::PROGRAM).with_variable("RBUILD_ROOT", "/proc/nowhere")
}

#[test]
fn a226_findings_are_data_and_end_with_one() {
    let bench = bench();
    bench.file("app/Dockerfile", DOUBTFUL).file("good/Dockerfile", "FROM scratch\n").file("Bad", "FRMO x\nCOPY a\n");
    let output = bench.run(&["check", "app"]).fails(1);
    assert!(output.stdout.contains("warning[FromAsCasing]"), "{}", output.both());
    assert!(output.stdout.contains("app/Dockerfile:2:13"), "{}", output.both());
    assert!(output.stdout.contains("3 of 3 can be repaired"), "{}", output.both());
    assert_eq!(bench.run(&["check", "good"]).ok().stdout, "no warnings found\n");
    let output = bench.run(&["check", "Bad"]).fails(1);
    assert!(output.stdout.contains("Bad:1:1") && output.stdout.contains("Bad:2:1"), "{}", output.both());
    bench.run(&["check", "nowhere"]).fails(1).says(&["nowhere"]);
    bench.run(&["check", "--format=xml"]).fails(2);
    let output = bench.run_with_input(&["check", "-"], "FROM x AS Y\n").fails(1);
    assert!(output.stdout.contains("Dockerfile:1:11"), "{}", output.both());
}

#[test]
fn a226_reports_for_programs() {
    let bench = bench();
    bench.file("Dockerfile", DOUBTFUL).file("Bad", "FROM x AS Y\nFRMO x\n");
    let json: Value = serde_json::from_str(&bench.run(&["check", "--format=json"]).fails(1).stdout).unwrap();
    assert_eq!(json["warnings"][0]["ruleName"], "FromAsCasing");
    assert_eq!(json["warnings"][0]["url"], "https://docs.docker.com/go/dockerfile/rule/from-as-casing/");
    assert_eq!(json["warnings"][0]["location"]["ranges"][0]["start"]["line"], 2);
    assert_eq!(json["sources"][0]["filename"], "Dockerfile");
    let json: Value = serde_json::from_str(&bench.run(&["check", "--format=json", "Bad"]).fails(1).stdout).unwrap();
    assert_eq!(json["warnings"][0]["ruleName"], "StageNameCasing");
    assert!(json["buildError"]["message"].as_str().unwrap().contains("FRMO"));
    let sarif: Value = serde_json::from_str(&bench.run(&["check", "--format=sarif"]).fails(1).stdout).unwrap();
    assert_eq!(sarif["runs"][0]["results"][0]["ruleId"], "FromAsCasing");
}

#[test]
fn a226_fixes_change_the_file_once() {
    let bench = bench();
    bench.file("Dockerfile", DOUBTFUL);
    let diff = bench.run(&["check", "--diff"]).fails(1).stdout;
    assert!(diff.starts_with("--- a/Dockerfile\n+++ b/Dockerfile\n@@ -1,4 +1,5 @@\n"), "{diff}");
    assert!(diff.contains("\n-FROM debian as base\n+FROM debian AS base\n MAINTAINER me\n"), "{diff}");
    assert_eq!(bench.run(&["check", "--fix", "--dry-run"]).fails(1).stdout, diff);
    assert_eq!(bench.read("Dockerfile"), DOUBTFUL);
    bench.run(&["check", "--fix"]).ok().says(&["repaired 3 findings in `./Dockerfile`", "no warnings found"]);
    let fixed = "# check=skip=MaintainerDeprecated\nFROM debian AS base\nMAINTAINER me\n# c\nENV A=b\n";
    assert_eq!(bench.read("Dockerfile"), fixed);
    bench.run(&["check", "--fix"]).ok().never_says(&["repaired"]);
    assert_eq!(bench.run_with_input(&["check", "--fix", "-"], DOUBTFUL).ok().stdout, fixed);
    assert_eq!(bench.run(&["check", "--diff"]).ok().stdout, "");
}

#[test]
fn a001_bytes_of_any_kind_are_printed_as_they_are() {
    let bench = bench();
    bench.file("Dockerfile", b"FROM x as y\nLABEL a=\xff\xe9\n");
    let stdout = |arguments: &[&str]| {
        let input = File::open(bench.path("Dockerfile")).unwrap();
        bench.command(arguments).stdin(input).output().unwrap().stdout
    };
    assert_eq!(stdout(&["check", "--fix", "-"]), b"FROM x AS y\nLABEL a=\xff\xe9\n");
    let diff = b"--- a/Dockerfile\n+++ b/Dockerfile\n@@ -1,2 +1,2 @@\n-FROM x as y\n+FROM x AS y\n LABEL a=\xff\xe9\n";
    assert_eq!(stdout(&["check", "--diff", "-"]), diff);
    assert_eq!(stdout(&["check", "--diff"]), diff);
}

#[test]
fn a226_fixed_files_are_whole_or_as_they_were() {
    let bench = bench();
    bench.file("real/Dockerfile", DOUBTFUL).file("app/.keep", "");
    let real = bench.path("real/Dockerfile");
    symlink("../real/Dockerfile", bench.path("app/Dockerfile")).unwrap();
    fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
    bench.run(&["check", "--fix", "app"]).ok();
    assert!(bench.path("app/Dockerfile").is_symlink());
    assert!(bench.read("real/Dockerfile").contains("FROM debian AS base\n"));
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o7777, 0o640);
    let names = |directory: &str| fs::read_dir(bench.path(directory)).unwrap().count();
    assert_eq!((names("app"), names("real")), (2, 1));
    // A file system that is full, or here a limit that is reached.
    let long = format!("FROM x as y\n{}", "LABEL a=b\n".repeat(1_000));
    bench.file("long/Dockerfile", &long);
    let mut limited = Command::new("sh");
    let script = "trap '' XFSZ; ulimit -f 1; exec \"$0\" check --fix long";
    limited.args(["-c", script]).arg(bench.path("rbuild")).current_dir(bench.path(""));
    let output = limited.output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write `long/Dockerfile`"), "{output:?}");
    assert_eq!(bench.read("long/Dockerfile"), long);
    assert_eq!(names("long"), 1);
}

#[test]
fn a024_fixes_heed_build_arguments() {
    let bench = bench();
    bench.file("Dockerfile", "# check=skip=all\nFROM x as y\n");
    let fix =
        |check: &str| bench.run(&["check", "--fix", "--build-arg", &format!("BUILDKIT_DOCKERFILE_CHECK={check}")]);
    fix("skip=FromAsCasing").ok().never_says(&["repaired"]);
    let diff = ["check", "--diff", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=StageNameCasing"];
    bench.run(&diff).fails(1).says(&["+FROM x AS y"]);
    fix("skip=StageNameCasing").ok().says(&["repaired 1 finding"]);
    bench.file("Dockerfile", "FROM --platform=$TARGETPLATFORM x\n");
    let platform = ["check", "--fix", "--build-arg", "TARGETPLATFORM=linux/arm64"];
    bench.run(&platform).fails(1).says(&["RedundantTargetPlatform"]).never_says(&["repaired", "can be repaired"]);
}

#[test]
fn a222_the_ignore_file_is_looked_at() {
    let bench = bench();
    bench.file("app/Dockerfile", "FROM scratch\nCOPY .env /\n").file("app/.dockerignore", ".env\n");
    bench.run(&["check", "app"]).fails(1).says(&["CopyIgnoredFile", ".env"]);
    bench.run(&["check", "-f", "app/Dockerfile", "app"]).fails(1).says(&["CopyIgnoredFile"]);
    bench.file("app/Dockerfile.dockerignore", "other\n").run(&["check", "app"]).ok();
}

#[test]
fn a024_build_arguments_replace_wishes() {
    let bench = bench();
    bench.file("Dockerfile", "# check=skip=all\nFROM x as y\n");
    bench.run(&["check"]).ok();
    bench
        .run(&["check", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=StageNameCasing"])
        .fails(1)
        .says(&["FromAsCasing"]);
    bench.run(&["check", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skp=all"]).fails(1).says(&["skp", "skip"]);
    let bench = busybox_bench!();
    bench.file("Dockerfile", "# check=error=true\nFROM busybox as y\n");
    bench.build(&["."]).fails(1).says(&["error[FromAsCasing]"]);
    bench.build(&["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all", "."]).ok();
    bench.build(&["--build-arg", "BUILDKIT_SYNTAX=docker/dockerfile:1", "."]).fails(1);
    bench
        .build(&["--build-arg", "BUILDKIT_SYNTAX=foreign/thing", "."])
        .fails(1)
        .says(&["foreign/thing", "not supported"]);
}

#[test]
fn a026_calls_describe_the_file() {
    let bench = busybox_bench!();
    let text = "ARG BASE=busybox\n# app what is built\nFROM $BASE AS app\nRUN --mount=type=secret,id=key,required true\nFROM app\n";
    bench.file("app/Dockerfile", text);
    let targets = bench.run(&["build", "--call=targets", "app"]).ok().stdout;
    assert_eq!(targets, "TARGET    DESCRIPTION\napp       what is built\n(default) \n");
    let outline = bench.run(&["build", "--call=outline", "--target", "app", "app"]).ok().stdout;
    assert_eq!(
        outline,
        "TARGET:      app\nDESCRIPTION: what is built\n\nBUILD ARG   VALUE     DESCRIPTION\nBASE        busybox   \n\n\
         SECRET   REQUIRED\nkey      true\n\n"
    );
    let json = bench.run(&["build", "--call=outline,format=json", "--build-arg", "BASE=x", "app"]).ok().stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["args"][0]["name"], &json["args"][0]["value"]), (&"BASE".into(), &"x".into()));
    assert_eq!(json["secrets"][0]["required"], true);
    bench.run(&["build", "--call=subrequests.describe", "app"]).fails(2).says(&["not supported: subrequests.describe"]);
}

#[test]
fn a226_checks_of_builds_know_the_images() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox AS a\nENV b c\nLABEL p=$PATH q=$NOPE\nFROM busybox\nCMD a\n");
    let json = bench.build(&["--call=check,format=json", "app"]).fails(1).stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    let rules: Vec<_> =
        json["warnings"].as_array().unwrap().iter().map(|one| one["ruleName"].as_str().unwrap()).collect();
    assert_eq!(rules, ["LegacyKeyValueFormat", "UndefinedVar", "JSONArgsRecommended"]);
    bench.build(&["--call=check,ignorestatus=true", "app"]).ok();
    let bench = bench.with_variable("BUILDX_METADATA_WARNINGS", "1");
    bench.build(&["--metadata-file", "m.json", "app"]).ok();
    let metadata: Value = serde_json::from_str(&bench.read("m.json")).unwrap();
    assert_eq!(metadata["buildx.build.warnings"][0]["range"][0]["start"]["line"], 5);
    // A build is told of what it does only.
    bench.build(&["app"]).ok().says(&["JSONArgsRecommended"]).never_says(&["LegacyKeyValueFormat", "UndefinedVar"]);
    bench.file("app/Dockerfile", "FROM busybox as a\nCOPY nothing-here /\n");
    bench.build(&["app"]).fails(1).says(&["FromAsCasing", "nothing-here"]);
}
