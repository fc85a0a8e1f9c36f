//! Do the Dockerfiles that people learn with build and run?
//!
//! Those that need nothing from outside; the others are in [`crate::network`]. `debian:trixie` is busybox here: the
//! Dockerfiles ask no more of it than a shell.

use std::path::{Path, PathBuf};
use std::process::Command;

use rbuild_testkit::{Bench, http};
use serde_json::json;

fn projects() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/projects")
}

fn project(bench: &Bench<'_>, name: &str) {
    bench.copy(&projects().join(name), name);
    bench.run(&["tag", "busybox", "debian:trixie"]).ok();
}

#[test]
fn static_web_serves_its_page() {
    let bench = busybox_bench!();
    project(&bench, "static_web");
    bench.build(&["-t", "static_web", "static_web"]).ok();
    let port = http::free_port();
    bench.run(&["run", "-d", "--name", "web", "-p", &format!("{port}:80"), "static_web"]).ok();
    assert_eq!(bench.fetch(port, "/"), "Hi, I am in your container\n");
    bench.run(&["rm", "-f", "web"]).ok();
    let image = bench.image(&["static_web"]);
    assert_eq!(*image.setting("ExposedPorts"), json!({"30/tcp": {}, "80/tcp": {}}));
    assert_eq!(image.config["author"], "The rbuild developers");
    assert_eq!(image.tree()["srv/www/index.html"].uid, 500);
}

#[test]
fn static_web_as_printed_has_five_mistakes() {
    let bench = busybox_bench!();
    project(&bench, "static_web");
    let output = bench.build(&["-f", "static_web/Dockerfile.as-printed", "static_web"]).fails(1);
    let output = output.says(&["Dockerfile.as-printed:1", "Dockerfile.as-printed:5", "Dockerfile.as-printed:6"]);
    output.says(&["EMTRYPOINT", "ENTRYPOINT"]);
}

#[test]
fn refreshed_at_runs_what_follows() {
    let bench = busybox_bench!();
    project(&bench, "static_web");
    bench.build(&["-t", "web", "static_web"]).ok();
    let text = bench.read("static_web/Dockerfile").replace("REFRESHED_AT 2026-11-22", "REFRESHED_AT 2026-11-23");
    bench.file("static_web/Dockerfile", text);
    let output = bench.build(&["-t", "web", "static_web"]).ok();
    assert_eq!(output.done().iter().filter(|title| title.contains("RUN")).count(), 3, "{}", output.stderr);
}

#[test]
fn my_centos_has_the_last_command_and_a_directory_by_variable() {
    let bench = busybox_bench!();
    project(&bench, "my-centos");
    let image = bench.image(&["-f", "my-centos/my-centos-dockerfile", "my-centos"]);
    assert_eq!(*image.setting("WorkingDir"), json!("/usr/local"));
    assert_eq!(*image.setting("Cmd"), json!(["/bin/sh", "-c", "/bin/bash"]));
    assert_eq!(image.tree()["usr/local/vim"].mode, 0o755);
    assert!(image.tree().contains_key("usr/local/net-tools"));
}

#[test]
fn java_tomcat_unpacks_its_archives() {
    let bench = busybox_bench!();
    project(&bench, "java-tomcat");
    let status =
        Command::new("sh").args(["java-tomcat/make-archives.sh", "java-tomcat"]).current_dir(bench.path("")).status();
    assert!(status.unwrap().success());
    bench.build(&["-t", "tomcat", "java-tomcat"]).ok();
    let shown = bench
        .run(&["run", "--rm", "tomcat", "sh", "-c", "echo $CLASSPATH; startup.sh; java; cat cincontainer.txt"])
        .ok();
    let lines: Vec<_> = shown.stdout.lines().collect();
    let path = "/usr/local/jdk-8/lib/dt.jar:/usr/local/jdk-8/lib/tools.jar";
    assert_eq!(lines, [path, "Tomcat started.", "java stand-in", "copied as a file"]);
}

#[test]
fn volume_keeps_what_was_written_after_it() {
    let bench = busybox_bench!();
    project(&bench, "volume");
    bench.build(&["-t", "volume", "volume"]).ok();
    assert_eq!(bench.run(&["run", "--rm", "volume"]).ok().stdout, "version 1.3\nlater\n");
    let image = bench.image(&["volume"]);
    assert_eq!(*image.setting("Volumes"), json!({"/data": {}}));
}

#[test]
fn koa_demo_context_leaves_modules_out() {
    let bench = busybox_bench!();
    project(&bench, "koa-demo");
    bench
        .file("koa-demo/node_modules/koa/index.js", "")
        .file("koa-demo/npm-debug.log", "")
        .file("koa-demo/.git/HEAD", "");
    bench.run(&["tag", "busybox", "node:8.4"]).ok();
    let text = bench.read("koa-demo/Dockerfile").replace("RUN npm install", "RUN find . -type f | sort > /found");
    bench.file("koa-demo/Dockerfile", text);
    bench.build(&["-t", "koa", "koa-demo"]).ok();
    let found = bench.run(&["run", "--rm", "koa", "cat", "/found"]).ok().stdout;
    assert_eq!(found, "./.dockerignore\n./Dockerfile\n./app.js\n./package.json\n./public/about.html\n");
}
