//! Which command lines does Docker's user expect to work?

#[test]
fn help_and_version_need_no_store() {
    let bench = rbuild_testkit::Bench::new(crate::PROGRAM).with_variable("RBUILD_ROOT", "/proc/nowhere");
    bench.run(&[]).ok().says(&["Usage: rbuild"]);
    bench.run(&["--help"]).ok().says(&["Usage: rbuild", "Exit codes"]);
    bench.run(&["run", "--help"]).ok().says(&["--publish"]);
    bench.run(&["--version"]).ok().says(&[env!("CARGO_PKG_VERSION")]);
    bench.run(&["version"]).ok();
}

#[test]
fn words_without_meaning_are_explained() {
    let bench = rbuild_testkit::Bench::new(crate::PROGRAM);
    bench.run(&["images", "--no-such-flag"]).fails(2).says(&["--no-such-flag"]);
    bench.run(&["image", "dance"]).fails(2).says(&["dance"]);
    bench.run(&["tag", "only-one"]).fails(2);
    bench.run(&["build"]).fails(2);
}

#[test]
fn a095_a_build_is_for_one_platform() {
    let bench = rbuild_testkit::Bench::new(crate::PROGRAM);
    bench.file("Dockerfile", "FROM scratch\n");
    for several in
        [&["--platform", "linux/amd64,linux/arm64"][..], &["--platform=linux/amd64", "--platform=linux/arm64"]]
    {
        let said =
            ["error: not supported: --platform linux/amd64,linux/arm64 (one platform per build)", "hint: build once"];
        bench.build(&[several, &["."]].concat()).fails(2).says(&said);
    }
}

#[test]
fn a234_what_buildah_sets_from_outside_is_refused_by_name() {
    let bench = rbuild_testkit::Bench::new(crate::PROGRAM);
    bench.file("Dockerfile", "FROM scratch\nLABEL a=b\n");
    for (flag, value, hint) in [
        ("--from", "other", "`--build-context NAME=docker-image://OTHER`"),
        ("--build-arg-file", "args", "`--build-arg NAME=VALUE`"),
        ("--env", "A=b", "`ENV`"),
        ("--unsetenv", "A", "`ENV NAME=`"),
        ("--unsetlabel", "a", "`LABEL NAME=`"),
        ("--volume", "/a:/b", "`--build-context NAME=DIRECTORY`"),
        ("--device", "/dev/kvm", "`--allow device`"),
        ("--cap-add", "NET_ADMIN", "`RUN --security=insecure`"),
    ] {
        bench.run(&["build", flag, value, "."]).fails(2).says(&[&format!("not supported: {flag} {value}"), hint]);
    }
}

#[test]
fn a097_a_build_has_one_dockerfile() {
    let bench = rbuild_testkit::Bench::new(crate::PROGRAM);
    bench.file("one", "FROM scratch\n").file("two", "FROM scratch\n");
    bench.build(&["-f", "one", "-f", "two", "."]).fails(2).says(&["--file", "cannot be used multiple times"]);
}

#[test]
fn a_closed_pipe_is_no_error() {
    let bench = busybox_bench!();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "./rbuild inspect busybox | true; ./rbuild history busybox | head -n 0"]);
    command.current_dir(bench.path("")).env("RBUILD_ROOT", bench.state());
    let output = rbuild_testkit::bench::finish(command, b"").ok();
    assert_eq!(output.stderr, "");
}
