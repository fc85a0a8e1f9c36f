//! What does `ADD` fetch, how, and when again?

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use rbuild_testkit::git::{Repository, TIME};
use rbuild_testkit::image::Tree;
use rbuild_testkit::web::{Answer, Request, Server};
use rbuild_testkit::{Bench, Need, needs};

const DATE: &str = "Fri, 13 Feb 2009 23:31:30 GMT";

fn dockerfile(bench: &Bench<'_>, lines: &str) {
    bench.file("app/Dockerfile", format!("FROM scratch\n{lines}\n"));
}

fn lines(tree: &Tree) -> Vec<String> {
    tree.iter().map(|(path, node)| format!("{path} {node}")).collect()
}

/// Whether the last step of the second build came out of the cache.
fn is_cached(bench: &Bench<'_>) -> bool {
    let output = bench.build(&["app"]).ok();
    let last = output.cached().iter().any(|title| title.contains("ADD "));
    assert_ne!(last, output.done().iter().any(|title| title.contains("ADD ")), "{}", output.stderr);
    last
}

#[test]
fn a163_a171_a183_a184_downloads_are_files_of_root_that_nobody_else_reads() {
    let bench = busybox_bench!();
    let server = Server::start(|request: &Request| match request.path.as_str() {
        "/moved" => Answer::status(302).header("Location", "/elsewhere"),
        _ => Answer::ok("hello").header("Last-Modified", DATE).header("Content-Disposition", "attachment; filename=x"),
    });
    let url = |path| server.url(path);
    dockerfile(
        &bench,
        &format!(
            "ADD {} {} /dir/\nADD {} /file\nADD --chown=5:6 --chmod=u=rwX,go=rX {} /own\nADD {}/ /index.html",
            url("/a/one?x=1"),
            url("/two%20words"),
            url("/moved"),
            url("/four"),
            url("")
        ),
    );
    let tree = bench.image(&["app"]).tree();
    let found = lines(&tree);
    for (path, expected) in [
        ("dir/one", "0600 0:0 file 5 "),
        ("dir/two words", "0600 0:0 file 5 "),
        ("file", "0600 0:0 file 5 "),
        ("index.html", "0600 0:0 file 5 "),
        ("own", "0644 5:6 file 5 "),
    ] {
        assert!(found.iter().any(|line| line.starts_with(&format!("{path} {expected}"))), "{path}: {found:#?}");
    }
}

#[test]
fn a185_a_file_is_fetched_again_when_it_changed() {
    let bench = busybox_bench!();
    let content = Arc::new(Mutex::new("one"));
    let shared = Arc::clone(&content);
    let server = Server::start(move |request| {
        let body = *shared.lock().unwrap();
        Answer::file(request, body.as_bytes(), body)
    });
    dockerfile(&bench, &format!("ADD {} /a", server.url("/a")));
    assert!(!is_cached(&bench));
    assert!(is_cached(&bench));
    *content.lock().unwrap() = "two";
    assert!(!is_cached(&bench));
    assert!(is_cached(&bench));
    let asked = server.asked();
    let conditions: Vec<_> = asked.iter().map(|request| request.header("if-none-match")).collect();
    assert_eq!(conditions, [None, Some("\"one\""), Some("\"one\""), Some("\"two\"")]);
    bench.assert_nothing_is_left();
}

#[test]
fn a178_a_checksum_names_the_content() {
    let bench = busybox_bench!();
    let server = Server::start(|_| Answer::ok("hello"));
    let right = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let wrong = format!("sha256:{}", "0".repeat(64));
    dockerfile(&bench, &format!("ADD --checksum={wrong} {} /a", server.url("/a")));
    bench.build(&["app"]).fails(1).says(&["Dockerfile:2", "instead of", &format!("--checksum={right}")]);
    dockerfile(&bench, &format!("ADD --checksum={right} {} /a", server.url("/a")));
    assert!(!is_cached(&bench));
    drop(server);
    assert!(is_cached(&bench), "nobody has to be asked");
    dockerfile(&bench, "ADD --checksum=sha256:1 https://example.com/a /a");
    bench.build(&["app"]).fails(1).says(&["Dockerfile:2:16", "invalid checksum `sha256:1`"]);
}

#[test]
fn a179_remote_archives_stay_packed_unless_unpacked() {
    let bench = busybox_bench!();
    bench.file("packed/inner", "content");
    let mut tar = std::process::Command::new("tar");
    tar.args(["-cf", "a.tar", "-C", "packed", "inner"]).current_dir(bench.path(""));
    assert!(tar.status().unwrap().success());
    let server = Server::files(&bench.path(""));
    let url = server.url("/a.tar");
    dockerfile(&bench, &format!("ADD {url} /kept/\nADD --unpack=true {url} /open/\nADD --unpack=false {url} /shut/"));
    let tree = bench.image(&["app"]).tree();
    for path in ["kept/a.tar", "open/inner", "shut/a.tar"] {
        assert!(tree.contains_key(path), "{path}: {tree:#?}");
    }
}

#[test]
fn a186_a_secret_opens_a_server() {
    let bench = busybox_bench!();
    let server = Server::start(|request: &Request| match request.header("authorization") {
        Some("Bearer t0ken") => Answer::ok("private"),
        _ => Answer::status(401),
    });
    dockerfile(&bench, &format!("ADD {} /a", server.url("/a")));
    bench.build(&["app"]).fails(1).says(&["Dockerfile:2", "401", "HTTP_AUTH_TOKEN_127.0.0.1"]);
    bench.file("token", "t0ken");
    let output = bench.build(&["--secret", "id=HTTP_AUTH_TOKEN_127.0.0.1,src=token", "app"]).ok();
    output.never_says(&["t0ken"]);
}

#[test]
fn a183_a_server_that_breaks_off_fails_the_step_and_leaves_nothing() {
    let bench = busybox_bench!();
    let server = Server::start(|_| Answer::status(404));
    dockerfile(&bench, &format!("ADD {} /a", server.url("/nothing")));
    bench.build(&["app"]).fails(1).says(&["Dockerfile:2", "the server answered 404"]);
    bench.assert_nothing_is_left();
}

#[test]
fn a174_a177_a187_a_repository_is_its_files() {
    needs!(Need::Command("git"));
    let bench = busybox_bench!();
    let repository = Repository::new("app");
    repository.file("a", "1").file("docs/b.md", "2").file("docs/c", "3").commit("one");
    repository.git(&["tag", "v1"]);
    let daemon = repository.serve();
    let url = daemon.url("app");
    dockerfile(
        &bench,
        &format!(
            "ADD {url} /plain\nADD --keep-git-dir=true {url}#v1 /kept\nADD --link --chown=1:2 {url}?subdir=docs /docs/\n\
             ADD --exclude=**/*.md --chmod=700 {url} /few\nADD {url}?mtime=commit /old"
        ),
    );
    let tree = bench.image(&["app"]).tree();
    let found = lines(&tree);
    let names: Vec<_> = tree.keys().filter(|path| !path.starts_with("kept/.git/")).map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "docs",
            "docs/b.md",
            "docs/c",
            "few",
            "few/a",
            "few/docs",
            "few/docs/c",
            "kept",
            "kept/.git",
            "kept/a",
            "kept/docs",
            "kept/docs/b.md",
            "kept/docs/c",
            "old",
            "old/a",
            "old/docs",
            "old/docs/b.md",
            "old/docs/c",
            "plain",
            "plain/a",
            "plain/docs",
            "plain/docs/b.md",
            "plain/docs/c",
        ]
    );
    for expected in ["docs/c 0644 1:2 file 1 ", "few/a 0700 0:0 file 1 ", "plain/docs 0755 0:0 directory"] {
        assert!(found.iter().any(|line| line.starts_with(expected)), "{expected}: {found:#?}");
    }
    assert!(tree.contains_key("kept/.git/config"), "{found:#?}");
}

#[test]
fn a189_a_branch_that_moved_is_built_again() {
    needs!(Need::Command("git"));
    let bench = busybox_bench!();
    let repository = Repository::new("app");
    let first = repository.file("a", "1").commit("one");
    let daemon = repository.serve();
    dockerfile(&bench, &format!("ADD {}#main /src", daemon.url("app")));
    assert!(!is_cached(&bench));
    assert!(is_cached(&bench));
    repository.file("a", "2").commit("two");
    assert!(!is_cached(&bench));
    dockerfile(&bench, &format!("ADD {}#{first} /src", daemon.url("app")));
    drop(daemon);
    bench.build(&["-t", "known", "app"]).ok();
    dockerfile(&bench, "ADD git://127.0.0.1:1/app.git /src");
    bench.build(&["app"]).fails(1).says(&["Dockerfile:2", "cannot ask `git://127.0.0.1:1/app.git`"]);
}

#[test]
fn a189_what_the_user_says_of_ssh_counts() {
    needs!(Need::Command("git"));
    let bench = busybox_bench!();
    let repository = Repository::new("app");
    repository.file("a", "1").commit("one");
    // Connects to no host, but to this machine.
    bench.file(
        "bin/ssh",
        "#!/bin/sh\nhere=${0%/*}\nif [ \"$1\" = -G ]; then cat \"$here/config\"; exit; fi\n\
         printf '%s ' \"$@\" >\"$here/asked\"\nfor command; do :; done\nexec sh -c \"$command\"\n",
    );
    fs::set_permissions(bench.path("bin/ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bench.path("bin").display(), std::env::var("PATH").unwrap());
    dockerfile(&bench, &format!("ADD ssh://git@host:7{} /src", repository.path().display()));
    let own = format!("{} -o ConnectTimeout=9", bench.path("bin/ssh").display());
    let (ours, batch) = ("-o ConnectTimeout=130 ", "-o BatchMode=yes ");
    for (timeout, own, expected, missing) in [
        ("none", None, &[batch, ours, "-p 7 git@host "][..], "=5"),
        ("5", None, &[batch], ours),
        ("none", Some(&own), &["-o ConnectTimeout=9 ", "-p 7 git@host "], ours),
    ] {
        bench.file("bin/config", format!("host host\nconnecttimeout {timeout}\nversion 1\n"));
        let mut command = bench.command(&["build", "app"]);
        command.env("PATH", &path);
        if let Some(own) = own {
            command.env("GIT_SSH_COMMAND", own);
        }
        rbuild_testkit::bench::finish(command, b"").ok();
        let asked = bench.read("bin/asked");
        let is_there = expected.iter().all(|text| asked.contains(text));
        assert!(is_there && !asked.contains(missing), "{timeout} {own:?}: {asked}");
    }
}

#[test]
fn a_server_of_git_that_says_nothing_is_given_up_when_the_user_says_so() {
    needs!(Need::Command("git"));
    let bench = busybox_bench!();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    dockerfile(&bench, &format!("ADD http://{}/app.git /src", listener.local_addr().unwrap()));
    let mut command = bench.command(&["build", "app"]);
    command.env("GIT_HTTP_LOW_SPEED_TIME", "1").env("GIT_HTTP_LOW_SPEED_LIMIT", "1");
    rbuild_testkit::bench::finish(command, b"").fails(1).says(&[
        "Dockerfile:2",
        "cannot ask `http://127.0.0.1",
        "slow",
    ]);
}

#[test]
fn a178_a_commit_that_is_another_one_fails_at_its_instruction() {
    needs!(Need::Command("git"));
    let bench = busybox_bench!();
    let repository = Repository::new("app");
    let first = repository.file("a", "1").commit("one");
    let daemon = repository.serve();
    dockerfile(&bench, &format!("ADD --checksum={} {} /src", &first[..8], daemon.url("app")));
    bench.build(&["app"]).ok();
    let second = repository.file("a", "2").commit("two");
    bench.build(&["app"]).fails(1).says(&["Dockerfile:2", "is the commit", &second]);
}

#[test]
fn a079_the_time_of_a_source_is_the_time_of_the_image() {
    needs!(Need::Command("git"));
    let bench = busybox_bench!();
    let repository = Repository::new("app");
    repository.file("a", "1").commit("one");
    let daemon = repository.serve();
    let server = Server::start(|_| Answer::ok("x").header("Last-Modified", DATE));
    for source in [daemon.url("app"), server.url("/x")] {
        bench.file(
            "app/Dockerfile",
            format!(
                "ARG SOURCE_DATE_EPOCH=when\nFROM scratch AS when\nADD {source} /\nFROM scratch\nCOPY Dockerfile /\n"
            ),
        );
        let image = bench.image(&["app"]);
        assert_eq!(image.config["created"], "2009-02-13T23:31:30Z", "{source}");
    }
    assert_eq!(TIME, 1_234_567_890);
}

#[test]
fn a079_a_context_has_the_time_of_where_it_came_from() {
    let bench = busybox_bench!();
    bench.file("files/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let mut tar = std::process::Command::new("tar");
    tar.args(["-cf", "a.tar", "--mtime=@1234567890", "-C", "files", "Dockerfile"]).current_dir(bench.path(""));
    assert!(tar.status().unwrap().success());
    let root = bench.path("");
    let server =
        Server::start(move |request| rbuild_testkit::web::file_of(&root, request).header("Last-Modified", DATE));
    for context in ["a.tar", &server.url("/a.tar")] {
        let image = bench.image(&["--build-arg", "SOURCE_DATE_EPOCH=context", context]);
        assert_eq!(image.config["created"], "2009-02-13T23:31:30Z", "{context}");
    }
    if Need::Command("git").is_met() {
        let repository = Repository::new("app");
        repository.file("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n").commit("one");
        let daemon = repository.serve();
        let named = format!("src={}", daemon.url("app"));
        for arguments in [
            ["--build-arg", "SOURCE_DATE_EPOCH=context", &daemon.url("app")].as_slice(),
            &["--build-arg", "SOURCE_DATE_EPOCH=src", "--build-context", &named, "files"],
        ] {
            assert_eq!(bench.image(arguments).config["created"], "2009-02-13T23:31:30Z", "{arguments:?}");
        }
    }
    bench.build(&["--build-arg", "SOURCE_DATE_EPOCH=context", "files"]).ok();
    let refused = bench.build(&["--build-arg", "SOURCE_DATE_EPOCH=contxt", "files"]);
    refused.fails(1).says(&["`SOURCE_DATE_EPOCH=contxt` is neither a number of seconds nor"]);
}

#[test]
fn a190_signatures_are_asked_for_by_nothing() {
    let bench = busybox_bench!();
    dockerfile(&bench, "ADD --signature=key.asc https://example.com/a /a");
    bench.build(&["app"]).fails(1).says(&["Dockerfile:2:5", "signature"]);
}

#[test]
fn no_process_writes_into_a_repository_that_git_trusts() {
    let bench = busybox_bench!();
    let id = "git mirror of git://127.0.0.1:1/app.git";
    bench.file("app/Dockerfile", format!("FROM busybox\nRUN --mount=type=cache,target=/c,\"id={id}\" true\n"));
    bench.build(&["app"]).fails(1).says(&["Dockerfile:2", "rbuild keeps its own there"]);
}
