use super::*;

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
