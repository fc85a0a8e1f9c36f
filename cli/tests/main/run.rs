//! How does a container in the foreground run?

use rbuild_testkit::{Bench, http};

#[test]
fn exit_codes_are_dockers() {
    let bench = busybox_bench!();
    bench.script("broken", "not a program");
    let volume = format!("{}:/broken", bench.argument("app"));
    bench.file("app/data", "");
    for (arguments, code) in [
        (&["run", "--rm", "busybox", "true"][..], 0),
        (&["run", "--rm", "busybox", "false"], 1),
        (&["run", "--rm", "busybox", "sh", "-c", "exit 42"], 42),
        (&["run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137),
        (&["run", "--rm", "busybox", "no-such-program"], 127),
        (&["run", "--rm", "busybox", "/no/such/program"], 127),
        (&["run", "--rm", "busybox", "/etc"], 126),
        (&["run", "--rm", "-v", &volume, "busybox", "/broken/data"], 126),
        (&["run", "--rm", "--no-such-flag", "busybox"], 2),
        (&["run", "--rm", "127.0.0.1:1/no/such:image"], 125),
        (&["run", "--rm", "-u", "nobody-at-all", "busybox"], 125),
    ] {
        let output = bench.run(arguments);
        assert_eq!(output.code(), code, "{arguments:?}\n{}", output.both());
    }
    assert_eq!(bench.run(&["ps", "-aq"]).ok().stdout, "", "a container of `--rm` is left");
    bench.assert_nothing_is_left();
}

#[test]
fn input_and_outputs_are_passed_on() {
    let bench = busybox_bench!();
    let output = bench.run(&["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2"]).ok();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    let output = bench.run_with_input(&["run", "--rm", "-i", "busybox", "tr", "a-z", "A-Z"], "shout\n").ok();
    assert_eq!(output.stdout, "SHOUT\n");
    let output = bench.run_with_input(&["run", "--rm", "busybox", "cat"], "nobody asked\n").ok();
    assert_eq!(output.stdout, "");
    let big = vec![b'x'; 3_000_000];
    let output = bench.run_with_input(&["run", "--rm", "-i", "busybox", "wc", "-c"], big).ok();
    assert_eq!(output.stdout.trim(), "3000000");
}

#[test]
fn command_and_entrypoint_replace_the_images() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox\nENTRYPOINT [\"echo\", \"entry\"]\nCMD [\"default\"]\n");
    bench.build(&["-t", "e", "app"]).ok();
    for (arguments, expected) in [
        (&["run", "--rm", "e"][..], "entry default\n"),
        (&["run", "--rm", "e", "given", "--flag"], "entry given --flag\n"),
        (&["run", "--rm", "--entrypoint", "basename", "e", "/a/b"], "b\n"),
        (&["run", "--rm", "--entrypoint", "pwd", "e"], "/\n"),
    ] {
        assert_eq!(bench.run(arguments).ok().stdout, expected, "{arguments:?}");
    }
}

#[test]
fn environment_user_directory_and_names_are_set() {
    let bench = busybox_bench!();
    bench.file("variables", "FROM_FILE=yes\n# comment\nTWO=2\n");
    let script = "id -u; id -g; pwd; echo $A $FROM_FILE $HOSTNAME; hostname; echo $HOME";
    let output = bench
        .run(&[
            "run",
            "--rm",
            "-e",
            "A=1",
            "--env-file",
            "variables",
            "-w",
            "/tmp/new",
            "-u",
            "daemon",
            "-h",
            "machine",
            "busybox",
            "sh",
            "-c",
            script,
        ])
        .ok();
    let lines: Vec<_> = output.stdout.lines().collect();
    assert_eq!(lines, ["1", "1", "/tmp/new", "1 yes machine", "machine", "/usr/sbin"]);
    assert_eq!(
        bench.run(&["run", "--rm", "-u", "12:34", "busybox", "sh", "-c", "id -u; id -g"]).ok().stdout,
        "12\n34\n"
    );
}

#[test]
fn volumes_show_directories_and_files_of_the_machine() {
    let bench = busybox_bench!();
    bench.file("data/in", "from outside\n");
    let directory = bench.argument("data");
    bench.run(&["run", "--rm", "-v", &format!("{directory}:/d"), "busybox", "sh", "-c", "cat /d/in > /d/out"]).ok();
    assert_eq!(bench.read("data/out"), "from outside\n");
    bench.run(&["run", "--rm", "-v", &format!("{directory}:/d:ro"), "busybox", "touch", "/d/new"]).fails(1);
    let file = format!("{directory}/in:/etc/one-file:ro");
    assert_eq!(
        bench.run(&["run", "--rm", "-v", &file, "busybox", "cat", "/etc/one-file"]).ok().stdout,
        "from outside\n"
    );
    assert!(!bench.path("data/new").exists());
}

#[test]
fn containers_do_not_change_their_image() {
    let bench = busybox_bench!();
    bench.run(&["run", "--rm", "busybox", "sh", "-c", "echo changed > /bin/new; rm /bin/vi"]).ok();
    bench.run(&["run", "--rm", "busybox", "sh", "-c", "test ! -e /bin/new && test -e /bin/vi"]).ok();
}

#[test]
fn the_sandbox_is_closed() {
    let bench = busybox_bench!();
    let script = r#"
        test "$$" = 1 || echo "pid $$"
        test "$(ps | wc -l)" -lt 6 || ps
        mount -t tmpfs none /mnt 2>/dev/null && echo mounted
        echo x > /proc/sys/kernel/hostname && echo wrote sysctl
        cat /proc/kcore >/dev/null 2>&1 && test -s /proc/kcore && echo read kcore
        mknod /tmp/disk b 8 0 2>/dev/null && cat /tmp/disk >/dev/null 2>&1 && echo read disk
        chroot / true; date -s 2001-01-01 2>&1 | grep -q 'not permitted' || echo set clock
        grep -q '^Seccomp:.*2' /proc/self/status || echo no seccomp
        grep -q '^CapEff:.*a80425fb' /proc/self/status || grep CapEff /proc/self/status
        for device in null zero full random urandom tty; do test -c /dev/$device || echo no $device; done
        ls /dev/sda /dev/vda /dev/mem 2>/dev/null
        true
    "#;
    let output = bench.run(&["run", "--rm", "busybox", "sh", "-c", script]).ok();
    assert_eq!(output.stdout, "", "{}", output.stderr);
}

#[test]
fn published_ports_answer() {
    let bench = busybox_bench!();
    bench.file("site/index.html", "a page\n");
    let (port, site) = (http::free_port(), format!("{}:/www:ro", bench.argument("site")));
    let publish = format!("{port}:80");
    bench
        .run(&[
            "run", "-d", "--name", "web", "-p", &publish, "-v", &site, "busybox", "httpd", "-f", "-p", "80", "-h",
            "/www",
        ])
        .ok();
    assert_eq!(bench.fetch(port, "/"), "a page\n");
    bench.run(&["ps"]).ok().says(&[&format!("{port}->80/tcp")]);
    let taken = bench.run(&["run", "--rm", "-p", &publish, "busybox", "true"]);
    taken.fails(125).says(&[&port.to_string()]);
    bench.run(&["rm", "-f", "web"]).ok();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "the port is still published");
    bench.assert_nothing_is_left();
}

#[test]
fn networks_can_be_chosen() {
    let bench = busybox_bench!();
    let run = |network, command: &[&str]| {
        bench.run(&[&["run", "--rm", "--network", network, "busybox"], command].concat()).ok().stdout
    };
    assert_eq!(run("none", &["ls", "/sys/class/net"]), "lo\n");
    let namespace = |network| run(network, &["readlink", "/proc/self/ns/net"]);
    let own = std::fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    assert_eq!(namespace("host").trim(), own);
    assert_ne!(namespace("bridge").trim(), own);
    bench.run(&["run", "--rm", "--network", "no-such", "busybox"]).fails(125).says(&["no-such"]);
}

#[test]
fn a_terminal_is_given_on_request() {
    rbuild_testkit::needs!(rbuild_testkit::Need::Command("script"));
    let bench = busybox_bench!();
    let output = bench.run(&["run", "--rm", "busybox", "tty"]);
    output.fails(1).says(&["not a tty"]);
    let output = terminal(&bench, "run --rm -it busybox sh -c 'tty; stty size; exit 7'");
    assert!(output.stdout.contains("/dev/pts/") || output.stdout.contains("/dev/console"), "{}", output.both());
    assert_eq!(output.code(), 7, "{}", output.both());
}

/// Runs the program within a terminal of util-linux's `script`.
fn terminal(bench: &Bench<'_>, line: &str) -> rbuild_testkit::Output {
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &format!("./rbuild {line}"), "/dev/null"]);
    command.current_dir(bench.path("")).env("RBUILD_ROOT", bench.state()).stdin(std::process::Stdio::null());
    rbuild_testkit::bench::finish(command, b"")
}
