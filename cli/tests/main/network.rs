//! Do the projects build that fetch something?
//!
//! They share one state directory, which `scripts/test.sh` fills with base images and names in `$RBUILD_TEST_STORE`.

use std::path::{Path, PathBuf};

use rbuild_testkit::{Bench, Need, http, needs};

/// Where the prepared state directory is.
const STORE: &str = "RBUILD_TEST_STORE";

/// A bench on the prepared store, or the end of the test.
macro_rules! prepared_bench {
    ($host:expr) => {{
        needs!(Need::Root, Need::Overlay, Need::Prepared(STORE), Need::Host($host));
        Bench::new(crate::PROGRAM).with_state(&PathBuf::from(std::env::var_os(STORE).unwrap()))
    }};
}

fn project(bench: &Bench<'_>, name: &str) {
    bench.copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/projects").join(name), name);
}

#[test]
fn koa_demo_answers() {
    let bench = prepared_bench!("registry.npmjs.org:443");
    project(&bench, "koa-demo");
    let cold = bench.build(&["--host-ca", "-t", "koa-demo", "koa-demo"]).ok();
    assert!(cold.peak < 150 * 1024, "{} KiB", cold.peak);
    let cached = bench.build(&["--host-ca", "-t", "koa-demo", "koa-demo"]).ok();
    assert!(cached.cached().iter().any(|title| title.contains("npm install")), "{}", cached.stderr);
    let port = http::free_port();
    drop(bench.run(&["rm", "-f", "test-koa"]));
    bench.run(&["run", "-d", "--name", "test-koa", "-p", &format!("{port}:3000"), "koa-demo"]).ok();
    assert_eq!(bench.fetch(port, "/"), "Hello from koa-demo\n");
    assert!(bench.fetch(port, "/version").contains("v8.4.0"));
    assert!(bench.fetch(port, "/about.html").contains("A static file"));
    bench.run(&["logs", "test-koa"]).ok().says(&["listening on port 3000", "GET / 200"]);
    // A shell is its first process, which does not pass the signal on: as with Docker, it is waited for and killed.
    bench.run(&["stop", "-t", "1", "test-koa"]).ok();
    bench.run(&["rm", "test-koa"]).ok();
}

#[test]
fn cowsay_says_moo_in_three_forms() {
    let bench = prepared_bench!("deb.debian.org:80");
    for form in ["1-plain", "2-entrypoint", "3-script"] {
        project(&bench, &format!("cowsay/{form}"));
        bench.build(&["--host-ca", "-t", &format!("cowsay:{form}"), &format!("cowsay/{form}")]).ok();
    }
    bench.run(&["run", "--rm", "cowsay:1-plain", "/usr/games/cowsay", "Moo"]).ok().says(&["< Moo >", "(oo)"]);
    bench.run(&["run", "--rm", "cowsay:2-entrypoint", "Moo"]).ok().says(&["< Moo >", "(oo)"]);
    bench.run(&["run", "--rm", "cowsay:3-script", "Moo"]).ok().says(&["< Moo >", "(oo)"]);
    bench.run(&["run", "--rm", "cowsay:3-script"]).ok().says(&["(oo)"]);
}

#[test]
fn flask_and_identidock_answer() {
    needs!(Need::Host("pypi.org:443"));
    let bench = prepared_bench!("deb.debian.org:80");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/bases.sh");
    let mut command = std::process::Command::new(script);
    command.arg("python:3").env("RBUILD", bench.path("rbuild")).env("RBUILD_ROOT", bench.state());
    rbuild_testkit::bench::finish(command, b"").ok();
    for (name, container_port, answer) in
        [("flask", 80, "Hello World from "), ("identidock", 9090, "Hello from uwsgi\n")]
    {
        project(&bench, name);
        bench.build(&["--host-ca", "-t", name, name]).ok();
        let (port, container) = (http::free_port(), format!("test-{name}"));
        drop(bench.run(&["rm", "-f", &container]));
        let publish = format!("{port}:{container_port}");
        bench.run(&["run", "-d", "--name", &container, "-p", &publish, name]).ok();
        assert!(bench.fetch(port, "/").starts_with(answer), "{name}");
        bench.run(&["rm", "-f", &container]).ok();
    }
}
