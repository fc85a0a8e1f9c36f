use super::*;

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
