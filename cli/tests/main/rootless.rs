//! Is an ordinary user's image the same?

use rbuild_testkit::image::differences;
use rbuild_testkit::{Account, Bench, Need, needs};

const DOCKERFILE: &str = "\
FROM busybox
RUN echo worker:x:4321:4321::/:/bin/sh >> /etc/passwd && mkdir /srv && echo owned > /srv/file && chown -R worker:daemon /srv && chmod 2750 /srv
COPY --chown=1000:1000 data /data
COPY tool /bin/tool
RUN id -u > /who && su worker -c 'id -u' >> /who && touch /tmp/mine && chmod 4755 /bin/tool
RUN rm /bin/vi && ln -s /srv/file /link && mkfifo /pipe
WORKDIR /work
USER worker
CMD [\"cat\", \"/who\"]
";

fn project(bench: &Bench<'_>) {
    bench.file("app/data/x", "x\n").script("app/tool", "#!/bin/sh\necho tool\n").file("app/Dockerfile", DOCKERFILE);
}

/// A user's bench with busybox, or the end of the test.
macro_rules! account_bench {
    ($account:ident, $bench:ident) => {
        needs!(
            Need::Root,
            Need::Overlay,
            Need::UserNamespaces,
            Need::Command("busybox"),
            Need::Command("useradd"),
            Need::Command("newuidmap")
        );
        let $account = Account::create().unwrap();
        let $bench = Bench::of(&$account, crate::PROGRAM);
        $bench.busybox();
    };
}

#[test]
fn the_same_build_has_the_same_contents_and_owners() {
    account_bench!(account, theirs);
    let ours = busybox_bench!();
    project(&ours);
    project(&theirs);
    let expected = ours.image(&["app"]);
    let image = theirs.image(&["app"]);
    assert_eq!(differences(&expected.tree(), &image.tree()), [""; 0]);
    for (number, (first, second)) in expected.layers.iter().zip(&image.layers).enumerate() {
        let tree = |layer: &[_]| layer.iter().cloned().collect();
        assert_eq!(differences(&tree(first), &tree(second)), [""; 0], "layer {number}");
    }
    assert_eq!(expected.config["config"], image.config["config"]);
    assert_eq!(image.tree()["srv/file"].uid, 4321);
}

#[test]
fn ordinary_users_run_containers() {
    account_bench!(account, bench);
    project(&bench);
    bench.build(&["-t", "mine", "app"]).ok();
    assert_eq!(bench.run(&["run", "--rm", "mine"]).ok().stdout, "0\n4321\n");
    assert_eq!(bench.run(&["run", "--rm", "mine", "sh", "-c", "exit 9"]).code(), 9);
    let second = bench.build(&["-t", "mine", "app"]).ok();
    assert!(second.done().iter().all(|title| !title.contains("RUN")), "{}", second.stderr);
    bench.run(&["run", "-d", "--name", "background", "busybox", "sh", "-c", "echo up; sleep 1000"]).ok();
    bench.run(&["ps"]).ok().says(&["background"]);
    bench.run(&["stop", "-t", "1", "background"]).ok();
    bench.run(&["logs", "background"]).ok().says(&["up"]);
    bench.run(&["rm", "background"]).ok();
    bench.run(&["rmi", "mine"]).ok();
    bench.run(&["prune", "-f"]).ok();
    bench.assert_nothing_is_left();
}

#[test]
fn ordinary_users_publish_ports() {
    account_bench!(account, bench);
    bench.file("site/index.html", "a page\n");
    let (port, site) = (rbuild_testkit::http::free_port(), format!("{}:/www:ro", bench.argument("site")));
    let publish = format!("{port}:8080");
    let server = ["httpd", "-f", "-p", "8080", "-h", "/www"];
    bench.run(&[&["run", "-d", "--name", "web", "-p", &publish, "-v", &site, "busybox"], &server[..]].concat()).ok();
    assert_eq!(bench.fetch(port, "/"), "a page\n");
    bench.run(&["rm", "-f", "web"]).ok();
    bench.assert_nothing_is_left();
}

#[test]
fn files_of_the_context_keep_their_modes_and_lose_their_owner() {
    account_bench!(account, bench);
    bench.script("app/run", "#!/bin/sh\n").file("app/plain", "");
    bench.file("app/Dockerfile", "FROM scratch\nCOPY run plain /\n");
    let tree = bench.image(&["app"]).tree();
    assert_eq!((tree["run"].mode, tree["run"].uid), (0o755, 0));
    assert_eq!((tree["plain"].mode, tree["plain"].uid), (0o644, 0));
}

#[test]
fn a106_a125_ordinary_users_have_agents_and_devices() {
    needs!(Need::Command("ssh-add"), Need::Command("ssh-keygen"), Need::Command("ldd"));
    account_bench!(account, bench);
    crate::ssh::client(&bench);
    crate::ssh::key(&bench, "one", &["-t", "ed25519"]);
    bench.file("one", bench.read("one"));
    bench.file(
        "cdi/null.json",
        r#"{"kind": "vendor.example/sink", "devices": [
            {"name": "0", "containerEdits": {"deviceNodes": [{"path": "/dev/sink", "hostPath": "/dev/null"}]}}]}"#,
    );
    bench.file(
        "app/Dockerfile",
        "FROM busybox\nCOPY client/ /\nCOPY one.pub /\n\
         RUN --mount=type=ssh ssh-add -T /one.pub && test \"$(stat -c '%a %u' $SSH_AUTH_SOCK)\" = '600 0'\n\
         RUN --device=vendor.example/sink=0,required echo x >/dev/sink\n\
         USER 1000:1000\n\
         RUN --mount=type=ssh ! ssh-add -l\n\
         RUN --mount=type=ssh,uid=1000,gid=1000 ssh-add -T /one.pub\n",
    );
    let (agent, specifications) = (format!("default={}", bench.argument("one")), bench.argument("cdi"));
    bench.build(&["--ssh", &agent, "--allow", "device", "--cdi-spec-dir", &specifications, "app"]).ok();
}

#[test]
fn a183_a187_ordinary_users_fetch_files_and_repositories() {
    needs!(Need::Command("git"));
    account_bench!(account, bench);
    let repository = rbuild_testkit::git::Repository::new("app");
    repository.file("a", "1").commit("one");
    let daemon = repository.serve();
    let server = rbuild_testkit::web::Server::start(|_| rbuild_testkit::web::Answer::ok("hello"));
    let (url, git) = (server.url("/file"), daemon.url("app"));
    bench.file("app/Dockerfile", format!("FROM scratch\nADD {url} /\nADD --keep-git-dir=true {git} /src\n"));
    let tree = bench.image(&["app"]).tree();
    for (path, mode) in [("file", 0o600), ("src/a", 0o644)] {
        let node = &tree[path];
        assert_eq!((node.mode, node.uid, node.gid), (mode, 0, 0), "{path}");
    }
    assert!(tree.contains_key("src/.git/config"));
}
