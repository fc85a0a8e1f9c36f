use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rbuild_core::{Digest, Reporter, StepId};
use rbuild_solver::graph::{GitOp, GitTime, HttpOp};
use rbuild_testkit::git::{Repository, TIME};
use rbuild_testkit::web::{Answer, Request, Server};
use rbuild_testkit::{Need, needs};

use super::*;
use crate::engine::{Config, Engine};
use crate::error::Error;
use crate::request::{SecretFrom, SecretSource};

struct Bench {
    directory: tempfile::TempDir,
    engine: Engine,
    runtime: tokio::runtime::Runtime,
    secrets: Secrets,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = Config {
            root: directory.path().join("store"),
            rootless: false,
            insecure_registries: Vec::new(),
            collect: Default::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { engine: Engine::open(config).unwrap(), runtime, directory, secrets: Secrets::default() }
    }

    fn secret(&mut self, id: &str, value: &str) {
        let path = self.directory.path().join("secret");
        std::fs::write(&path, value).unwrap();
        self.secrets = Secrets::new(vec![SecretSource { id: id.to_owned(), from: SecretFrom::File(path) }]);
    }

    fn download(&self, op: &HttpOp) -> Result<Download, Error> {
        let silent = Reporter::silent();
        self.runtime.block_on(self.engine.download(op, &self.secrets, (&silent, StepId(0))))
    }

    fn content(&self, download: &Download) -> Vec<u8> {
        std::fs::read(download.path(&self.engine).unwrap()).unwrap()
    }

    fn check_out(&self, op: &GitOp) -> Result<(Commit, Checkout), RemoteError> {
        self.runtime.block_on(async {
            let commit = self.engine.resolve_commit(op, &self.secrets).await?;
            let checkout = self.engine.check_out(op, &commit, &self.secrets).await?;
            Ok((commit, checkout))
        })
    }

    /// The files of a commit, with their modes and contents, without those of `.git`.
    fn files(&self, op: &GitOp) -> Vec<String> {
        let (_, checkout) = self.check_out(op).unwrap();
        let root = checkout.path(&self.engine).unwrap();
        let mut lines = Vec::new();
        let mut waiting = vec![root.clone()];
        while let Some(directory) = waiting.pop() {
            for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
                let (path, metadata) = (entry.path(), entry.metadata().unwrap());
                let name = path.strip_prefix(&root).unwrap().display().to_string();
                if metadata.is_dir() && entry.file_name() != ".git" {
                    waiting.push(path);
                    continue;
                }
                let content = std::fs::read_to_string(&path).unwrap_or_default();
                lines.push(format!("{name} {:o} {content}", metadata.mode() & 0o7777).trim().to_owned());
            }
        }
        lines.sort();
        lines
    }

    /// What unfinished work left behind.
    fn left(&self) -> usize {
        self.engine.store().reap().unwrap();
        let count = |name: &str| std::fs::read_dir(self.directory.path().join("store").join(name)).unwrap().count();
        count("ingest") + count("layers-v1")
    }
}

fn http(url: String) -> HttpOp {
    HttpOp { url, name: "file".to_owned(), checksum: None, mtime: None }
}

fn git(remote: String) -> GitOp {
    GitOp {
        remote,
        reference: None,
        checksum: None,
        subdir: String::new(),
        keep_git_dir: false,
        submodules: true,
        mtime: GitTime::Checkout,
        fetch_by_commit: false,
    }
}

fn sha256(bytes: &[u8]) -> Digest {
    rbuild_image::sha256(bytes)
}

#[test]
fn a183_a_download_is_private_and_has_the_servers_time() {
    let bench = Bench::new();
    let server = Server::start(|_| Answer::ok("hello").header("Last-Modified", "Fri, 13 Feb 2009 23:31:30 GMT"));
    let found = bench.download(&http(server.url("/a"))).unwrap();
    assert_eq!((found.digest, found.size, found.modified), (sha256(b"hello"), 5, Some(1_234_567_890)));
    let metadata = std::fs::metadata(found.path(&bench.engine).unwrap()).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o600, 1_234_567_890));
    let other = Server::start(|_| Answer::ok("hello"));
    let found = bench.download(&HttpOp { mtime: Some(5), ..http(other.url("/a")) }).unwrap();
    let metadata = std::fs::metadata(found.path(&bench.engine).unwrap()).unwrap();
    assert_eq!((metadata.mtime(), found.modified), (5, None), "a given time is not the server's");
}

#[test]
fn a185_the_server_is_asked_whether_it_has_something_newer() {
    let bench = Bench::new();
    let content = Arc::new(Mutex::new(("one", "1")));
    let shared = Arc::clone(&content);
    let server = Server::start(move |request| {
        let (body, tag) = *shared.lock().unwrap();
        Answer::file(request, body.as_bytes(), tag)
    });
    let op = http(server.url("/a"));
    let first = bench.download(&op).unwrap();
    assert_eq!(bench.download(&op).unwrap(), first);
    let asked = server.take_asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].header("if-none-match"), Some("\"1\""));
    *content.lock().unwrap() = ("two", "2");
    assert_eq!(bench.content(&bench.download(&op).unwrap()), b"two");
    assert_eq!(bench.content(&bench.download(&op).unwrap()), b"two");
}

#[test]
fn a185_a_time_or_an_equal_tag_will_do() {
    let bench = Bench::new();
    let dated = Server::start(|request: &Request| match request.header("if-modified-since") {
        Some("Fri, 13 Feb 2009 23:31:30 GMT") => Answer::status(304),
        _ => Answer::ok("x").header("Last-Modified", "Fri, 13 Feb 2009 23:31:30 GMT"),
    });
    let stubborn = Server::start(|_| Answer::ok("y").header("ETag", "\"t\""));
    for server in [&dated, &stubborn] {
        let op = http(server.url("/a"));
        assert_eq!(bench.download(&op).unwrap(), bench.download(&op).unwrap());
    }
}

#[test]
fn a178_a_known_checksum_needs_no_network_and_a_wrong_one_leaves_nothing() {
    let bench = Bench::new();
    let server = Server::start(|_| Answer::ok("hello"));
    let wrong = HttpOp { checksum: Some(sha256(b"other")), ..http(server.url("/a")) };
    let error = bench.download(&wrong).unwrap_err();
    assert!(error.to_string().contains("instead of"), "{error}");
    let hint = error.hint().unwrap();
    assert!(hint.contains(&format!("--checksum={}", sha256(b"hello"))), "{hint}");
    assert_eq!(bench.left(), 0);
    let right = HttpOp { checksum: Some(sha256(b"hello")), ..http(server.url("/a")) };
    let found = bench.download(&right).unwrap();
    drop(server);
    assert_eq!(bench.download(&right).unwrap(), found);
    let elsewhere = HttpOp { url: "http://127.0.0.1:1/b".to_owned(), ..right };
    assert_eq!(bench.download(&elsewhere).unwrap(), found, "content is content wherever it lies");
}

#[test]
fn a183_a_broken_transfer_is_continued_or_begun_again() {
    let body: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    for can_continue in [true, false] {
        let bench = Bench::new();
        let (count, served) = (Arc::new(AtomicUsize::new(0)), body.clone());
        let server = Server::start(move |request| {
            let answer = if can_continue { Answer::file(request, &served, "t") } else { Answer::ok(served.clone()) };
            if count.fetch_add(1, Ordering::Relaxed) == 0 { answer.cut(150_000) } else { answer }
        });
        let found = bench.download(&http(server.url("/a"))).unwrap();
        assert_eq!(found.digest, sha256(&body));
        let asked = server.asked();
        assert_eq!((asked.len(), asked[1].header("range").is_some()), (2, can_continue));
    }
}

#[test]
fn a183_two_versions_of_a_file_are_not_put_together() {
    let (old, new) = (vec![b'o'; 150], vec![b'n'; 150]);
    let (date, later) = ("Fri, 13 Feb 2009 23:31:30 GMT", "Sat, 14 Feb 2009 23:31:30 GMT");
    let part = || Answer { status: 206, ..Answer::ok(vec![b'n'; 50]) };
    let rows = [
        ("another tag", part().header("Content-Range", "bytes 100-149/150").header("ETag", "\"new\"")),
        ("another time", part().header("Content-Range", "bytes 100-149/150").header("Last-Modified", later)),
        ("another size", part().header("Content-Range", "bytes 100-149/151").header("ETag", "\"old\"")),
        ("another part", part().header("Content-Range", "bytes 50-99/150").header("ETag", "\"old\"")),
        ("some part", part().header("ETag", "\"old\"")),
        ("nothing left", Answer::status(416).header("Content-Range", "bytes */50")),
    ];
    for (what, continued) in rows {
        let (bench, count) = (Bench::new(), AtomicUsize::new(0));
        let (first, last) = (old.clone(), new.clone());
        let server = Server::start(move |request: &Request| match count.fetch_add(1, Ordering::Relaxed) {
            0 => Answer::ok(first.clone()).header("ETag", "\"old\"").header("Last-Modified", date).cut(100),
            _ if request.header("range").is_some() => continued.clone(),
            _ => Answer::ok(last.clone()).header("ETag", "\"new\"").header("Last-Modified", later),
        });
        let found = bench.download(&http(server.url("/a"))).unwrap();
        assert_eq!(bench.content(&found), new, "{what}");
        assert_eq!((found.digest, found.modified), (sha256(&new), Some(1_234_654_290)), "{what}");
        assert_eq!(server.asked().len(), 3, "{what}");
    }
}

#[test]
fn a183_a_part_may_end_before_the_file_does() {
    let bench = Bench::new();
    let server = Server::start(|request: &Request| match request.header("range") {
        None => Answer::ok("0123456789").header("ETag", "\"t\"").cut(4),
        Some("bytes=4-") => Answer { status: 206, ..Answer::ok("456") }.header("Content-Range", "bytes 4-6/10"),
        Some(_) => Answer { status: 206, ..Answer::ok("789") }.header("Content-Range", "bytes 7-9/*"),
    });
    let found = bench.download(&http(server.url("/a"))).unwrap();
    assert_eq!(bench.content(&found), b"0123456789");
}

#[test]
fn a183_what_a_server_refuses_is_an_error_and_leaves_nothing() {
    let bench = Bench::new();
    let server = Server::start(|request: &Request| match request.path.as_str() {
        "/circle" => Answer::status(302).header("Location", "/circle"),
        "/private" => Answer::status(401),
        _ => Answer::status(404),
    });
    for (path, message, hint) in [
        ("/none", "the server answered 404", None),
        ("/private", "the server answered 401", Some("--secret id=HTTP_AUTH_TOKEN_127.0.0.1,env=NAME")),
        ("/circle", "cannot download", None),
    ] {
        let error = bench.download(&http(server.url(path))).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(error.hint().is_some(), hint.is_some(), "{path}");
        assert!(hint.is_none_or(|hint| error.hint().unwrap().contains(hint)), "{path}");
    }
    assert_eq!(bench.left(), 0);
}

#[test]
fn a186_tokens_go_to_their_host_and_not_to_where_it_redirects() {
    let elsewhere = Server::start(|_| Answer::ok("public"));
    let target = elsewhere.url("/b").replace("127.0.0.1", "localhost");
    let server = Server::start(move |request: &Request| match request.header("authorization") {
        Some("Bearer t0ken" | "Own words") if request.path == "/a" => Answer::ok("private"),
        Some(_) => Answer::status(302).header("Location", &target),
        None => Answer::status(401),
    });
    for (id, value) in [("HTTP_AUTH_TOKEN_127.0.0.1", "t0ken\n"), ("HTTP_AUTH_HEADER_127.0.0.1", "Own words")] {
        let mut bench = Bench::new();
        bench.secret(id, value);
        assert_eq!(bench.content(&bench.download(&http(server.url("/a"))).unwrap()), b"private");
        assert_eq!(bench.content(&bench.download(&http(server.url("/redirected?token=t0ken"))).unwrap()), b"public");
    }
    assert_eq!(elsewhere.asked().len(), 2);
    for name in ["authorization", "referer"] {
        assert!(elsewhere.asked().iter().all(|request| request.header(name).is_none()), "{name}");
    }
}

#[test]
fn a187_what_a_killed_git_left_in_a_mirror_stops_nobody() {
    needs!(Need::Command("git"));
    let (bench, repository) = (Bench::new(), Repository::new("app"));
    repository.file("a", "1").commit("one");
    let daemon = repository.serve();
    let op = git(daemon.url("app"));
    bench.check_out(&op).unwrap();
    let second = repository.file("a", "2").commit("two");
    let found = files_with(&bench.directory.path().join("store"), "bare = true");
    let [config] = &found[..] else { panic!("{found:?}") };
    let mirror = config.parent().unwrap();
    let names = [format!("refs/rbuild/{second}.lock"), "shallow.lock".into(), "objects/pack/tmp_pack_1".into()];
    let left = names.map(|name| mirror.join(name));
    for path in &left {
        std::fs::write(path, "").unwrap();
    }
    assert_eq!(bench.files(&op), ["a 644 2"]);
    assert!(left.iter().all(|path| !path.exists()));
}

#[test]
fn a187_a_commit_is_a_tree_without_git() {
    needs!(Need::Command("git"));
    let (bench, repository) = (Bench::new(), Repository::new("app"));
    repository.file("a", "1").file("d/e/script", "#!").git(&["add", "--all"]);
    repository.git(&["update-index", "--chmod=+x", "d/e/script"]);
    let first = {
        repository.git(&["commit", "--quiet", "-m", "first"]);
        repository.git(&["rev-parse", "HEAD"])
    };
    repository.git(&["tag", "-a", "v1", "-m", "release"]);
    repository.git(&["checkout", "--quiet", "-f", "-b", "other"]);
    repository.file("a", "2").commit("second");
    repository.git(&["checkout", "--quiet", "-f", "main"]);
    let daemon = repository.serve();
    let op = git(daemon.url("app"));
    let at = |reference: &str| GitOp { reference: Some(reference.to_owned()), ..op.clone() };
    assert_eq!(bench.files(&op), ["a 644 1", "d/e/script 755 #!"]);
    assert_eq!(bench.files(&at("other"))[0], "a 644 2");
    assert_eq!(bench.check_out(&at("v1")).unwrap().0.id, first);
    assert_eq!(bench.files(&GitOp { subdir: "d/e".to_owned(), ..at(&first) }), ["script 755 #!"]);
    assert_eq!(bench.files(&GitOp { keep_git_dir: true, ..at("v1") })[0], ".git 755");
    let error = bench.check_out(&GitOp { subdir: "a".to_owned(), ..op.clone() }).unwrap_err();
    assert!(error.to_string().contains("there is no directory `a` in the commit"), "{error}");
    let error = bench.check_out(&at("nothing")).unwrap_err();
    assert!(error.to_string().contains("has no branch or tag `nothing`"), "{error}");
}

#[test]
fn a187_times_are_of_the_commit_where_that_is_wanted() {
    needs!(Need::Command("git"));
    let (bench, repository) = (Bench::new(), Repository::new("app"));
    repository.file("d/a", "1").commit("one");
    let daemon = repository.serve();
    for (mtime, is_old) in [(GitTime::Commit, true), (GitTime::Checkout, false)] {
        let (_, checkout) = bench.check_out(&GitOp { mtime, ..git(daemon.url("app")) }).unwrap();
        assert_eq!(checkout.time, TIME);
        for name in ["", "d", "d/a"] {
            let time = std::fs::metadata(checkout.path(&bench.engine).unwrap().join(name)).unwrap().mtime();
            assert_eq!(time == TIME, is_old, "{name}");
        }
    }
}

#[test]
fn a189_a_known_commit_needs_no_network() {
    needs!(Need::Command("git"));
    let (bench, repository) = (Bench::new(), Repository::new("app"));
    let first = repository.file("a", "1").file("s/b", "2").commit("one");
    let daemon = repository.serve();
    let op = git(daemon.url("app"));
    let (commit, checkout) = bench.check_out(&op).unwrap();
    assert_eq!(commit.id, first);
    let second = repository.file("a", "2").commit("two");
    assert_eq!(bench.check_out(&op).unwrap().0.id, second, "a branch that moved is followed");
    drop(daemon);
    assert!(bench.check_out(&op).is_err(), "nobody knows where the branch is");
    let at = GitOp { reference: Some(first.clone()), ..op.clone() };
    assert_eq!(bench.check_out(&at).unwrap().1, checkout);
    let subdir = GitOp { subdir: "s".to_owned(), ..at };
    assert_eq!(bench.files(&subdir), ["b 644 2"], "the mirror has the commit");
}

#[test]
fn a178_a_commit_that_is_another_one_is_an_error() {
    needs!(Need::Command("git"));
    let (bench, repository) = (Bench::new(), Repository::new("app"));
    let first = repository.file("a", "1").commit("one");
    let second = repository.file("a", "2").commit("two");
    let daemon = repository.serve();
    let op = GitOp { reference: Some("main".to_owned()), ..git(daemon.url("app")) };
    let with = |checksum: &str| GitOp { checksum: Some(checksum.to_owned()), ..op.clone() };
    assert_eq!(bench.check_out(&with(&second)).unwrap().0.id, second);
    assert_eq!(bench.check_out(&with(&second[..7])).unwrap().0.id, second);
    for wrong in [first.as_str(), &first[..7]] {
        let error = bench.check_out(&with(wrong)).unwrap_err();
        assert!(error.to_string().contains("is the commit"), "{error}");
        assert!(error.hint().unwrap().contains(&second), "{:?}", error.hint());
    }
    repository.git(&["tag", "-a", "v2", "-m", "release", &second]);
    for name in ["refs/heads/main", "refs/tags/v2", "v2", "refs/heads/none"] {
        let at = |checksum: &str| GitOp { reference: Some(name.to_owned()), ..with(checksum) };
        let error = bench.check_out(&at(&first)).unwrap_err();
        let expected = if name.ends_with("none") { "has no branch or tag" } else { "is the commit" };
        assert!(error.to_string().contains(expected), "{name}: {error}");
        if expected == "is the commit" {
            assert_eq!(bench.check_out(&at(&second)).unwrap().0.id, second, "{name}");
        }
    }
    let by_commit = GitOp { fetch_by_commit: true, ..with(&first) };
    assert_eq!(bench.files(&by_commit), ["a 644 1"], "the ref does not matter then");
}

#[test]
fn a187_submodules_come_along_unless_they_are_not_wanted() {
    needs!(Need::Command("git"));
    let (bench, inner, outer) = (Bench::new(), Repository::new("inner"), Repository::new("outer"));
    inner.file("i", "inner").commit("one");
    let inner_daemon = inner.serve();
    outer.git(&["submodule", "--quiet", "add", &inner_daemon.url("inner"), "lib/inner"]);
    outer.file("o", "outer").commit("one");
    let daemon = outer.serve();
    let op = git(daemon.url("outer"));
    let names = |op: &GitOp| -> Vec<String> {
        bench.files(op).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&op), [".gitmodules", "lib/inner/i", "o"]);
    assert_eq!(names(&GitOp { submodules: false, ..op }), [".gitmodules", "o"]);
}

#[test]
fn a187_no_submodule_reaches_into_this_machine() {
    needs!(Need::Command("git"));
    let (bench, secret, outer) = (Bench::new(), Repository::new("secret"), Repository::new("outer"));
    secret.file("s", "secret").commit("one");
    outer.git(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        secret.path().to_str().unwrap(),
        "lib",
    ]);
    outer.commit("one");
    let daemon = outer.serve();
    let error = bench.check_out(&git(daemon.url("outer"))).unwrap_err();
    assert!(error.to_string().contains("transport 'file' not allowed"), "{error}");
}

#[test]
fn a188_a_server_without_git_is_enough_and_gets_the_token() {
    needs!(Need::Command("git"));
    let (mut bench, repository) = (Bench::new(), Repository::new("app"));
    let first = repository.file("a", "1").commit("one");
    let root = repository.path().join(".git");
    let server = Server::start(move |request: &Request| match request.header("authorization") {
        Some("basic eC1hY2Nlc3MtdG9rZW46dDBrZW4=") => {
            let path = request.path.replacen("/app.git", "", 1);
            rbuild_testkit::web::file_of(&root, &Request { path, ..request.clone() })
        }
        _ => Answer::status(401).header("WWW-Authenticate", "Basic"),
    });
    let op = git(server.url("/app.git"));
    let error = bench.check_out(&op).unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("GIT_AUTH_TOKEN.127.0.0.1")), "{error}");
    bench.secret("GIT_AUTH_TOKEN", "t0ken");
    assert_eq!(bench.check_out(&op).unwrap().0.id, first);
    assert_eq!(bench.files(&op), ["a 644 1"]);
}

#[test]
fn a188_a_token_does_not_go_to_where_git_is_redirected() {
    needs!(Need::Command("git"));
    let listing = "001e# service=git-upload-pack\n0000000eversion 2\n000cls-refs\n0017object-format=sha1\n0000";
    let elsewhere = Server::start(move |request: &Request| match request.method.as_str() {
        "GET" => Answer::ok(listing).header("Content-Type", "application/x-git-upload-pack-advertisement"),
        _ => Answer::ok("0000").header("Content-Type", "application/x-git-upload-pack-result"),
    });
    let target = elsewhere.url("").replace("127.0.0.1", "localhost");
    let server = Server::start(move |request: &Request| {
        Answer::status(302).header("Location", &format!("{target}{}", request.path))
    });
    let mut bench = Bench::new();
    let op = git(server.url("/app.git"));
    assert!(matches!(bench.check_out(&op), Err(RemoteError::Reference { .. })), "an empty repository");
    assert!(elsewhere.take_asked().iter().any(|request| request.method == "POST"), "redirects without a token");
    bench.secret("GIT_AUTH_TOKEN", "t0ken");
    let with_password = git(server.url("/app.git").replace("://", "://user:sekret@"));
    for (op, secrets) in [(op, bench.secrets.clone()), (with_password, Secrets::default())] {
        bench.secrets = secrets;
        server.take_asked();
        let error = bench.check_out(&op).unwrap_err();
        assert!(error.hint().is_some_and(|hint| hint.contains("the server redirects")), "{error}");
        assert!(server.asked().iter().all(|request| request.header("authorization").is_some()));
    }
    assert!(elsewhere.asked().iter().all(|request| request.header("authorization").is_none()));
}

/// Whether a text stands in a command line of any process.
fn is_in_a_command_line(text: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().map_while(Result::ok);
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.into_iter().any(|line| String::from_utf8_lossy(&line).contains(text))
}

/// The files below a directory in which a text stands.
fn files_with(directory: &std::path::Path, text: &str) -> Vec<std::path::PathBuf> {
    let (mut found, mut waiting) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            } else if std::fs::read(entry.path()).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text)) {
                found.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn a187_a_password_in_an_address_stays_out_of_files_messages_and_command_lines() {
    needs!(Need::Command("git"));
    let (bench, inner, outer) = (Bench::new(), Repository::new("inner"), Repository::new("outer"));
    let commit = inner.file("i", "inner").commit("one");
    outer.file(".gitmodules", "[submodule \"lib\"]\n\tpath = lib\n\turl = ../inner.git\n");
    outer.git(&["add", "--all"]);
    outer.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},lib")]);
    outer.git(&["commit", "--quiet", "-m", "one"]);
    outer.git(&["update-server-info"]);
    let roots = [("/inner.git", inner.path().join(".git")), ("/outer.git", outer.path().join(".git"))];
    let seen = Arc::new(AtomicUsize::new(0));
    let leaks = Arc::clone(&seen);
    let server = Server::start(move |request: &Request| {
        leaks.fetch_add(usize::from(is_in_a_command_line("sekret%40pass")), Ordering::Relaxed);
        if request.header("authorization") != Some("basic dXNlcjpzZWtyZXRAcGFzcw==") {
            return Answer::status(401).header("WWW-Authenticate", "Basic");
        }
        let of = |(prefix, root): &(&str, std::path::PathBuf)| {
            let path = request.path.strip_prefix(prefix)?.to_owned();
            Some(rbuild_testkit::web::file_of(root, &Request { path, ..request.clone() }))
        };
        roots.iter().find_map(of).unwrap_or_else(|| Answer::status(404))
    });
    let address = |path: &str| git(server.url(path).replace("://", "://user:sekret%40pass@"));
    let op = GitOp { keep_git_dir: true, ..address("/outer.git") };
    let (_, checkout) = bench.check_out(&op).unwrap();
    let root = checkout.path(&bench.engine).unwrap();
    assert_eq!(std::fs::read_to_string(root.join("lib/i")).unwrap(), "inner");
    assert!(!files_with(&root, "inner.git").is_empty(), "the address of the submodule is in a configuration");
    assert_eq!(files_with(bench.directory.path(), "sekret"), Vec::<std::path::PathBuf>::new());
    let errors = [
        bench.check_out(&address("/nothing.git")).unwrap_err(),
        bench.check_out(&git(server.url("/outer.git").replace("://", "://user:wrong-sekret@"))).unwrap_err(),
    ];
    for error in errors {
        assert!(!format!("{error} {error:?} {:?}", error.hint()).contains("sekret"), "{error}");
    }
    assert_eq!(seen.load(Ordering::Relaxed), 0, "seen by every user of this machine");
}

#[test]
fn a_dropped_download_leaves_nothing() {
    let bench = Bench::new();
    let server = Server::start(|_| {
        std::thread::sleep(Duration::from_secs(1));
        Answer::ok("late")
    });
    let (op, silent) = (http(server.url("/a")), Reporter::silent());
    let result = bench.runtime.block_on(async {
        let download = bench.engine.download(&op, &bench.secrets, (&silent, StepId(0)));
        tokio::time::timeout(Duration::from_millis(200), download).await
    });
    assert!(result.is_err(), "it was not dropped");
    assert_eq!(bench.left(), 0);
}

#[test]
fn a_dropped_git_is_killed_with_its_helpers() {
    needs!(Need::Command("git"));
    let bench = Bench::new();
    // Takes connections and says nothing. Over HTTP it is a helper of git that is connected.
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let op = git(format!("http://127.0.0.1:{}/a.git", listener.local_addr().unwrap().port()));
    let mut connection = bench.runtime.block_on(async {
        let connected = crate::blocking::blocking(move || listener.accept().unwrap().0);
        let asked = bench.engine.resolve_commit(&op, &bench.secrets);
        tokio::select! {
            connection = connected => connection,
            answer = asked => panic!("{answer:?}"),
        }
    });
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let asked = std::io::copy(&mut connection, &mut std::io::sink());
    asked.expect("the helper ends, and its connection with it");
}
