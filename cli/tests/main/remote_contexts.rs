//! Can a context be fetched, from a web server or a repository?

use std::fs;

use rbuild_testkit::git::Repository;
use rbuild_testkit::web::{Answer, Server};
use rbuild_testkit::{Bench, Need, Output, needs};

use crate::contexts::tar_of;

/// Builds and unpacks the result to `out`.
fn build(bench: &Bench<'_>, arguments: &[&str]) -> Output {
    drop(fs::remove_dir_all(bench.path("out")));
    bench.build(&[&["-o", "out"], arguments].concat())
}

fn names(bench: &Bench<'_>) -> String {
    let mut names: Vec<_> = fs::read_dir(bench.path("out"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names.join(" ")
}

/// A server with a tar, a Dockerfile, and trouble.
fn server() -> Server {
    let copy = "FROM scratch\nCOPY . /\n";
    let tar = tar_of(&[
        ("Dockerfile", copy),
        (".dockerignore", "*\n!in\n"),
        ("in", "in"),
        ("sub/Dockerfile", copy),
        ("sub/other", "FROM scratch\nCOPY below /\n"),
        ("sub/below", "below"),
    ]);
    Server::start(move |request| match request.path.as_str() {
        "/x.tar" | "/no-name?as=tar" => Answer::file(request, &tar, "1"),
        "/Dockerfile" => Answer::ok("FROM scratch\nCOPY context /itself\n"),
        "/plain" => Answer::ok("FROM scratch\nCOPY <<E /x\nfrom the web\nE\n"),
        "/half.tar" => Answer::ok(&tar[..1500]),
        "/moved.tar" => Answer::status(302).header("Location", "/x.tar"),
        _ => Answer::status(404),
    })
}

#[test]
fn a192_what_is_at_a_url_is_a_tar_or_a_dockerfile() {
    let bench = bare_bench!();
    let server = server();
    let url = |path: &str| server.url(path);
    for path in ["/x.tar", "/no-name?as=tar", "/moved.tar", "/x.tar#fragment"] {
        build(&bench, &[&url(path)]).ok();
        assert_eq!(names(&bench), "in", "{path}");
    }
    build(&bench, &["-f", "sub/other", "--context-subdir", "", &url("/x.tar")]).fails(1).says(&["below"]);
    // A194, A202.
    build(&bench, &["--context-subdir", "sub", &url("/x.tar")]).ok();
    assert_eq!(names(&bench), "Dockerfile below other");
    build(&bench, &["--context-subdir", "sub", "-f", "other", &url("/x.tar")]).ok();
    assert_eq!(names(&bench), "below");
    build(&bench, &["--no-remote-dockerignore", &url("/x.tar")]).ok();
    assert_eq!(names(&bench), ".dockerignore Dockerfile in sub");
    // As in BuildKit, the only file is called `context`.
    build(&bench, &[&url("/Dockerfile")]).ok();
    assert_eq!(bench.read("out/itself"), "FROM scratch\nCOPY context /itself\n");
    build(&bench, &["-f", "x", &url("/Dockerfile")]).fails(1).says(&["/Dockerfile", "--file x"]);
    build(&bench, &[&url("/half.tar")]).fails(1).says(&["/half.tar", "ends in the middle"]);
    build(&bench, &[&url("/missing")]).fails(1).says(&["/missing", "404"]);
    for place in ["ingest", "trash"] {
        assert_eq!(fs::read_dir(bench.state().join(place)).unwrap().count(), 0, "{place}");
    }
}

#[test]
fn a097_a_dockerfile_may_come_from_a_url() {
    let bench = bare_bench!();
    let server = server();
    bench.file("app/context", "of the directory");
    build(&bench, &["-f", &server.url("/Dockerfile"), "app"]).ok();
    assert_eq!(bench.read("out/itself"), "of the directory");
    build(&bench, &["-f", &server.url("/plain"), &server.url("/x.tar")]).ok();
    assert_eq!(bench.read("out/x"), "from the web\n");
    build(&bench, &["-f", &server.url("/missing"), "app"]).fails(1).says(&["/missing", "404"]);
    // One file only, as in BuildKit.
    build(&bench, &["-f", "a", "-f", "b", "app"]).fails(2).says(&["--file"]);
}

#[test]
fn a094_a_named_context_is_fetched_when_a_step_wants_it() {
    let bench = bare_bench!();
    let server = server();
    let named = |path: &str| format!("web={}", server.url(path));
    bench.file("app/Dockerfile", "FROM scratch\nCOPY --from=web . /\n");
    build(&bench, &["--build-context", &named("/x.tar"), "app"]).ok();
    assert_eq!(names(&bench), "in");
    build(&bench, &["--no-remote-dockerignore", "--build-context", &named("/x.tar"), "app"]).ok();
    assert_eq!(names(&bench), ".dockerignore Dockerfile in sub");
    build(&bench, &["--build-context", &named("/plain"), "app"]).ok();
    assert_eq!(names(&bench), "context");
    build(&bench, &["--build-context", &named("/missing"), "app"]).fails(1).says(&["Dockerfile:2", "/missing", "404"]);
    let asked = server.asked().len();
    bench.file("app/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    build(&bench, &["--build-context", &named("/missing"), "app"]).ok();
    assert_eq!(server.asked().len(), asked);
}

/// A repository of two commits, the first of which is `v1`.
fn repository() -> (Repository, String) {
    let repository = Repository::new("app");
    let copy = "FROM scratch\nCOPY . /\n";
    repository.file("Dockerfile", copy).file("version", "1").file(".dockerignore", "hidden\n").file("hidden", "");
    let first = repository.commit("first");
    repository.git(&["tag", "v1"]);
    repository.file("version", "2").file("sub/Dockerfile", copy).file("sub/below", "below");
    repository.file("sub/other", "FROM scratch\nCOPY below /\n");
    repository.commit("second");
    (repository, first)
}

#[test]
fn a192_a194_a_repository_is_a_context() {
    needs!(Need::Command("git"));
    let bench = bare_bench!();
    let (repository, first) = repository();
    let daemon = repository.serve();
    let url = |more: &str| format!("{}{more}", daemon.url("app"));
    for (more, version) in [("", "2"), ("#main", "2"), ("#v1", "1"), (&format!("#{first}"), "1"), ("?ref=v1", "1")] {
        build(&bench, &[&url(more)]).ok();
        assert_eq!(bench.read("out/version"), version, "{more}");
        // A202.
        assert!(!bench.path("out/hidden").exists() && !bench.path("out/.git").exists());
    }
    build(&bench, &["--no-remote-dockerignore", &url("#v1")]).ok();
    assert_eq!(names(&bench), ".dockerignore Dockerfile hidden version");
    for more in ["#:sub", "#main:sub", "?subdir=sub"] {
        build(&bench, &[&url(more)]).ok();
        assert_eq!(names(&bench), "Dockerfile below other", "{more}");
    }
    build(&bench, &["-f", "other", &url("#:sub")]).ok();
    assert_eq!(names(&bench), "below");
    build(&bench, &["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", &url("")]).ok();
    assert!(bench.path("out/.git/HEAD").exists());
    build(&bench, &[&url("#nowhere")]).fails(1).says(&["nowhere"]);
    build(&bench, &[&url("#:nowhere")]).fails(1).says(&["nowhere"]);
    // The protocol of a plain web server.
    let server = Server::files(repository.parent());
    build(&bench, &[&server.url("/app.git/.git#v1")]).ok();
    assert_eq!(bench.read("out/version"), "1");
}

#[test]
fn a094_a_repository_is_a_named_context() {
    needs!(Need::Command("git"));
    let bench = bare_bench!();
    let (repository, _) = repository();
    let daemon = repository.serve();
    bench.file("app/Dockerfile", "FROM scratch\nCOPY --from=src . /\n");
    build(&bench, &["--build-context", &format!("src={}#v1", daemon.url("app")), "app"]).ok();
    assert_eq!(names(&bench), ".dockerignore Dockerfile version");
    let url = format!("src={}#nowhere", daemon.url("app"));
    build(&bench, &["--build-context", &url, "app"]).fails(1).says(&["Dockerfile:2", "nowhere"]);
}
