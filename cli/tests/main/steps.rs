//! Does a RUN see what `docs/language.md` says it sees, row by row?

use rbuild_testkit::Bench;
use rbuild_testkit::bench::{Output, finish};

/// Builds `app` of one Dockerfile: every RUN is a claim, and the build succeeds if all of them hold.
fn holds(bench: &Bench<'_>, arguments: &[&str], text: impl AsRef<[u8]>) -> Output {
    bench.file("app/Dockerfile", text);
    bench.build(&[arguments, &["app"]].concat()).ok()
}

#[test]
fn a098_a099_a102_processes_run_alone_and_leave_a_layer_each() {
    let bench = busybox_bench!();
    let said = holds(
        &bench,
        &[],
        "FROM busybox\n\
         RUN test ! -t 0 && test ! -t 1 && test ! -t 2 && test -z \"$(cat)\" && echo to-stdout && echo to-stderr >&2\n\
         RUN [\"echo\", \"$not\", \"expanded\"]\n",
    );
    said.says(&["to-stdout", "to-stderr", "$not expanded"]);
    bench.file("app/Dockerfile", "FROM busybox\nRUN true\nRUN echo x >/x\nLABEL a=b\n");
    let image = bench.image(&["app"]);
    let layers: Vec<Vec<&str>> =
        image.layers.iter().skip(1).map(|layer| layer.iter().map(|(path, _)| path.as_str()).collect()).collect();
    assert_eq!(layers, [vec![], vec!["x"]], "an empty difference is a layer, too");
    bench.file("app/Dockerfile", "FROM busybox\nRUN exit 7\n");
    bench.build(&["app"]).fails(1).says(&["`/bin/sh -c exit 7` did not complete successfully: exit code: 7"]);
}

#[test]
fn b082_progress_says_what_the_processes_of_a_step_took() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox\nRUN head -c 20000000 /dev/zero | sha256sum\nRUN exit 3\n");
    let said = finish(bench.command(&["build", "--progress", "json", "app"]), b"").fails(1).stderr;
    let ends: Vec<serde_json::Value> = said
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &serde_json::Value| line["event"] == "step_finished")
        .collect();
    let of = |outcome: &str| ends.iter().find(|end| end["outcome"] == outcome).unwrap_or_else(|| panic!("{said}"));
    let (worked, failed) =
        (ends.iter().find(|end| end["outcome"] == "done" && end["peak_memory"].is_u64()), of("failed"));
    let worked = worked.unwrap_or_else(|| panic!("{said}"));
    assert!(
        worked["user_seconds"].as_f64().unwrap() > 0.0 && worked["peak_memory"].as_u64().unwrap() > 100_000,
        "{worked}"
    );
    assert!(failed["system_seconds"].is_f64() && failed["written_bytes"].is_u64(), "a step that failed, too: {failed}");
}

#[test]
fn a101_a_working_directory_that_is_gone_is_made_again() {
    let bench = busybox_bench!();
    bench.file(
        "app/Dockerfile",
        "FROM busybox\nWORKDIR /made\nRUN test \"$PWD\" = /made\nRUN cd / && rmdir /made\nRUN test \"$PWD\" = /made\n",
    );
    let image = bench.image(&["app"]);
    let last: Vec<_> = image.layers.last().unwrap().iter().map(|(path, node)| (path.as_str(), node.mode)).collect();
    // As BuildKit of Docker 26.1 has it: who made it does not matter, it is there afterwards.
    assert_eq!(last, [("made", 0o755)]);
}

#[test]
fn a070_a100_the_environment_is_the_images_and_the_arguments() {
    let bench = busybox_bench!();
    let said = holds(
        &bench,
        &["--build-arg", "GIVEN=2"],
        "FROM busybox\nENV OWN=1\nARG GIVEN UNSET\nARG DEFAULT=3\nRUN env | sort | tr '\\n' ' '\n",
    );
    said.says(&["DEFAULT=3 GIVEN=2 HOME=/root OWN=1 PATH=", " PWD=/ SHLVL=1"]);
    let image = bench.image(&["--build-arg", "GIVEN=2", "app"]);
    let env = image.setting("Env").to_string();
    assert!(env.contains("OWN=1") && !env.contains("GIVEN") && !env.contains("DEFAULT"), "{env}");
}

#[test]
fn a074_proxies_of_the_docker_configuration_reach_steps_only() {
    let bench = busybox_bench!();
    bench.file(
        "home/.docker/config.json",
        r#"{"proxies": {"default": {"httpProxy": "http://default:1", "noProxy": "near"},
                        "tcp://there:2376": {"httpsProxy": "http://there:1"}}}"#,
    );
    bench.file(
        "app/Dockerfile",
        "FROM busybox\nRUN env | grep -i _proxy | sort | tr '\\n' ' ' | tee /seen\nCMD cat /seen\n",
    );
    let build = |host: &str, arguments: &[&str]| {
        let mut command =
            bench.command(&[&["build", "--progress", "plain", "--no-cache"], arguments, &["app"]].concat());
        command.env("DOCKER_HOST", host);
        finish(command, b"").ok()
    };
    build("", &[]).says(&["HTTP_PROXY=http://default:1 NO_PROXY=near http_proxy=http://default:1 no_proxy=near"]);
    build("tcp://there:2376", &[]).says(&["HTTPS_PROXY=http://there:1 https_proxy=http://there:1"]);
    build("", &["--build-arg", "HTTP_PROXY=http://given", "--build-arg", "http_proxy=http://given", "-t", "p"])
        .says(&["HTTP_PROXY=http://given NO_PROXY=near http_proxy=http://given no_proxy=near"]);
    bench.run(&["history", "--no-trunc", "p"]).ok().never_says(&["default", "given"]);
    // Not in the key either.
    let again = bench.build(&["app"]).ok();
    assert!(again.cached().iter().any(|title| title.contains("RUN env")), "{}", again.stderr);
}

#[test]
fn a077_build_arguments_speak_to_the_builder() {
    let bench = busybox_bench!();
    holds(
        &bench,
        &["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=ci"],
        "FROM busybox\nRUN test $(hostname) = ci && test -z \"$BUILDKIT_SANDBOX_HOSTNAME\"\n",
    );
    bench.file("app/Dockerfile", "# syntax=foreign/image\n# check=error=true\nfrom busybox\nCMD true\n");
    bench.build(&["app"]).fails(1).says(&["the frontend `foreign/image` is not supported"]);
    let syntax = ["--build-arg", "BUILDKIT_SYNTAX=docker/dockerfile:1"];
    bench.build(&[&syntax[..], &["app"]].concat()).fails(1).says(&["JSONArgsRecommended"]);
    let check = ["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all"];
    bench.build(&[&syntax[..], &check, &["app"]].concat()).ok().never_says(&["JSONArgsRecommended"]);
    let foreign = ["--build-arg", "BUILDKIT_SYNTAX=other/image"];
    bench.build(&[&foreign[..], &["app"]].concat()).fails(1).says(&["the frontend `other/image` is not supported"]);
    bench.file("app/Dockerfile", "FROM busybox\n");
    let cache = ["--build-arg", "BUILDKIT_INLINE_CACHE=1"];
    bench.build(&[&cache[..], &["app"]].concat()).ok().says(&["`BUILDKIT_INLINE_CACHE` is not supported"]);
}

#[test]
fn a104_a105_what_reaches_out_needs_permission() {
    let bench = busybox_bench!();
    bench.file(
        "app/Dockerfile",
        "FROM busybox\nRUN --network=host true\nRUN --security=insecure mount -t tmpfs none /mnt\n",
    );
    bench.build(&["app"]).fails(1).says(&[
        "`RUN --network=host` is not allowed",
        "--> Dockerfile:2:15",
        "`--allow network.host`",
        "`RUN --security=insecure` is not allowed",
        "--> Dockerfile:3:16",
        "`--allow security.insecure`",
    ]);
    bench.run(&["build", "--check", "app"]).ok().says(&["no warnings found"]);
    bench.file(
        "app/Dockerfile",
        "FROM busybox\nRUN mkdir /m && ! mount -t tmpfs none /m\nRUN --security=insecure mount -t tmpfs none /m\n",
    );
    bench.build(&["--allow", "security.insecure", "app"]).ok();
    bench.file("app/Dockerfile", "FROM busybox\nRUN --network=host true\n");
    bench.build(&["--allow", "network.host", "app"]).ok();
    bench.build(&["--network", "host", "app"]).ok();
    bench.build(&["--allow", "everything", "app"]).fails(2).says(&["network.host, security.insecure, device"]);
    holds(
        &bench,
        &["--network", "none"],
        "FROM busybox\nRUN --network=default ! ip addr | grep -v LOOPBACK | grep -q UP\n",
    );
}

#[test]
fn a106_devices_come_from_specifications() {
    let bench = busybox_bench!();
    bench.file("lib/f", "library\n");
    let (library, specifications) = (bench.argument("lib"), bench.argument("cdi"));
    bench.file(
        "cdi/vendor.json",
        format!(
            r#"{{"cdiVersion": "0.6.0", "kind": "vendor.example/sink",
                "containerEdits": {{"env": ["SINK=all"]}},
                "devices": [
                    {{"name": "0", "containerEdits": {{
                        "deviceNodes": [{{"path": "/dev/sink/0", "hostPath": "/dev/null", "permissions": "rw"}},
                                        {{"path": "/sinks/1", "hostPath": "/dev/full"}}],
                        "mounts": [{{"hostPath": "{library}", "containerPath": "/opt/sink", "options": ["ro", "nosuid", "nodev", "rbind"]}}],
                        "additionalGids": [4711]}}}},
                    {{"name": "hooked", "containerEdits": {{"hooks": [{{"hookName": "createContainer", "path": "/bin/true"}}]}}}}
                ]}}"#
        ),
    );
    let build = |name: &str, arguments: &[&str]| {
        bench.build(
            &[&["--cdi-spec-dir", &specifications], arguments, &["--build-arg", &format!("D={name}"), "app"]].concat(),
        )
    };
    bench.file(
        "app/Dockerfile",
        "FROM busybox\nARG D\nRUN --device=$D echo x >/dev/sink/0 && test -c /dev/sink/0 && ! echo x >/sinks/1 && test $SINK = all && \
         grep library /opt/sink/f && ! touch /opt/sink/g && id -G | grep -w 4711\nRUN test ! -e /dev/sink && test ! -e /sinks && test -z \"$SINK\"\n",
    );
    for name in ["vendor.example/sink=0", "vendor.example/sink"] {
        build(name, &["--allow", "device"]).ok();
    }
    build("vendor.example/sink=0", &["--no-cache", "--allow", "device=vendor.example/sink=0"]).ok();
    build("vendor.example/sink=0", &[]).fails(1).says(&[
        "device `vendor.example/sink=0` is not allowed for this build",
        "Dockerfile:3",
        "`--allow device=vendor.example/sink=0`",
    ]);
    bench.file("app/Dockerfile", "FROM busybox\nARG D\nRUN --device=$D,required test ! -e /dev/sink\n");
    let absent = "vendor.example/sink=9";
    build(absent, &["--allow", "device"])
        .fails(1)
        .says(&["there is no device `vendor.example/sink=9`", "Dockerfile:3"]);
    build("vendor.example/sink=hooked", &["--allow", "device"])
        .fails(1)
        .says(&["not supported: hooks", "Dockerfile:3"]);
    bench.file("app/Dockerfile", "FROM busybox\nARG D\nRUN --device=$D test ! -e /dev/sink\n");
    build(absent, &[]).ok();
}

#[test]
fn a109_secrets_are_in_no_title() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox\nRUN --mount=type=secret,id=t,env=TOKEN (exit ${#TOKEN})\n");
    let mut command = bench.command(&["build", "--progress", "plain", "--secret", "id=t,env=VALUE", "app"]);
    command.env("VALUE", "s3cr3t-value");
    finish(command, b"").fails(1).says(&["env=TOKEN (exit ${#TOKEN})", "exit code: 12"]).never_says(&["s3cr3t"]);
}

#[test]
fn a111_mountpoints_leave_nothing_behind() {
    let bench = busybox_bench!();
    bench.file("app/f", "");
    holds(
        &bench,
        &[],
        "FROM busybox\nRUN mkdir /p && touch -d '2001-02-03 00:00:00' /p && stat -c %Y /p >/times && stat -c %Y /opt / >>/times; true\n\
         WORKDIR /w\n\
         RUN --mount=type=tmpfs,target=/p/x/y --mount=source=f,target=file --mount=type=cache,target=../q true\n\
         RUN test ! -e /p/x && test ! -e /w/file && test ! -e /q && test \"$(stat -c %Y /p)\" = \"$(head -n 1 /times)\"\n",
    );
}

#[test]
fn a112_sources_must_be_there_and_inside() {
    let bench = busybox_bench!();
    bench.file("app/data/x", "x\n").file("outside", "no\n");
    std::os::unix::fs::symlink("../../outside", bench.path("app/data/out")).unwrap();
    holds(&bench, &[], "FROM busybox\nRUN --mount=source=../../data,target=/m test -f /m/x\n");
    for source in ["missing", "data/missing", "data/out"] {
        bench.file("app/Dockerfile", format!("FROM busybox\nRUN --mount=source={source},target=/m true\n"));
        bench.build(&["app"]).fails(1).says(&["Dockerfile:2"]);
    }
}

#[test]
fn a114_only_the_mounted_part_is_in_the_key() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox\nRUN --mount=source=part,target=/m cp /m/f /copy\n");
    bench.file("app/part/f", "one").file("app/other", "one");
    let ran = || bench.build(&["app"]).ok().done().iter().any(|title| title.contains("RUN"));
    assert!(ran());
    bench.file("app/other", "two").file("app/part/f", "one");
    assert!(!ran(), "neither another file nor a time counts");
    bench.file("app/part/f", "two");
    assert!(ran());
    std::fs::set_permissions(bench.path("app/part/f"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert!(ran(), "a mode counts");
}

#[test]
fn a116_sharing_says_who_waits() {
    let bench = busybox_bench!();
    let parallel = |sharing: &str, command: &str| {
        let stage = |name: &str, other: &str| {
            let command = command.replace("ME", name).replace("OTHER", other);
            format!(
                "FROM busybox AS {name}\nRUN --mount=type=cache,id={sharing},target=/c,sharing={sharing} {command}\n"
            )
        };
        let text = format!(
            "{}{}FROM scratch\nCOPY --from=one /done /1\nCOPY --from=two /done /2\n",
            stage("one", "two"),
            stage("two", "one")
        );
        holds(&bench, &["--jobs", "2"], text);
    };
    // Each waits for a sign of the other.
    parallel(
        "shared",
        "touch /c/ME /done; for i in $(seq 300); do test -e /c/OTHER && exit 0; sleep 0.1; done; exit 1",
    );
    // Nobody meets anybody.
    parallel("locked", "test ! -e /c/busy && touch /c/busy /done && sleep 0.5 && rm /c/busy");
    parallel("private", "touch /c/ME /done && sleep 1 && ! test -e /c/OTHER");
}

#[test]
fn a117_a118_a119_a_cache_begins_with_what_it_is_told() {
    let bench = busybox_bench!();
    bench.file("app/seed/f", "seed\n");
    holds(
        &bench,
        &[],
        "FROM busybox AS seed\nRUN mkdir -p /s/sub && echo stage >/s/sub/f && chmod 750 /s/sub && chown 5:6 /s/sub\n\
         FROM busybox\n\
         RUN --mount=type=cache,id=a,target=/c,from=seed,source=/s/sub grep stage /c/f && echo changed >/c/f && test \"$(stat -c '%a %u %g' /c)\" = '750 5 6'\n\
         RUN --mount=type=cache,id=a,target=/c,from=seed,source=/s grep changed /c/f && test ! -e /c/sub\n\
         RUN --mount=type=cache,id=b,target=/c test \"$(stat -c '%a %u %g' /c)\" = '755 0 0'\n\
         RUN --mount=type=cache,id=c,target=/c,mode=0700,uid=7,gid=8 test \"$(stat -c '%a %u %g' /c)\" = '700 7 8'\n\
         RUN --mount=type=cache,id=c,target=/c,mode=0777 test \"$(stat -c '%a %u %g' /c)\" = '700 7 8'\n\
         RUN --mount=type=cache,id=a,target=/c,ro ! touch /c/new && grep changed /c/f\n",
    );
}

#[test]
fn a121_a_tmpfs_is_no_larger_than_it_may_be() {
    let bench = busybox_bench!();
    holds(
        &bench,
        &[],
        "FROM busybox\nRUN --mount=type=tmpfs,target=/t,size=1m dd if=/dev/zero of=/t/a bs=1k count=512 && ! dd if=/dev/zero of=/t/b bs=1k count=1024\n",
    );
}

#[test]
fn a123_a124_secrets_have_modes_and_may_change() {
    let bench = busybox_bench!();
    bench.file("s", "one");
    bench.file(
        "app/Dockerfile",
        "FROM busybox\n\
         RUN --mount=type=secret,id=s test \"$(stat -c '%a %u %g' /run/secrets/s)\" = '400 0 0' && grep -q ' /run/secrets/s tmpfs ' /proc/mounts\n\
         RUN --mount=type=secret,id=s,target=/s,mode=0440,uid=5,gid=6 test \"$(stat -c '%a %u %g' /s)\" = '440 5 6' && ! echo x >/s\n",
    );
    bench.build(&["--secret", "id=s,src=s", "app"]).ok();
    bench.file("s", "two");
    let again = bench.build(&["--secret", "id=s,src=s", "app"]).ok();
    assert_eq!(again.done().iter().filter(|title| title.contains("RUN")).count(), 0, "{}", again.stderr);
    bench.file("s", vec![b'x'; 500 * 1024 + 1]);
    let large = bench.build(&["--no-cache", "--secret", "id=s,src=s", "app"]);
    large.fails(1).says(&["secret `s` is larger than 500 KiB", "Dockerfile:2"]);
}

#[test]
fn a128_of_two_mounts_the_inner_and_the_later_is_seen() {
    let bench = busybox_bench!();
    bench.file("app/data/f", "context\n").file("s", "secret\n");
    // As BuildKit of Docker 26.1 has it: parents first, secrets last, else the order of the line.
    holds(
        &bench,
        &["--secret", "id=s,src=s"],
        "FROM busybox\n\
         RUN --mount=target=/a/b,source=data --mount=type=tmpfs,target=/a test -f /a/b/f && touch /a/x\n\
         RUN --mount=target=/m,source=data --mount=type=tmpfs,target=/m test ! -e /m/f\n\
         RUN --mount=type=tmpfs,target=/m --mount=target=/m,source=data test -f /m/f\n\
         RUN --mount=type=secret,id=s,target=/t/s --mount=type=tmpfs,target=/t grep secret /t/s\n\
         RUN --mount=type=secret,id=s,target=/u --mount=target=/u,source=data/f grep secret /u\n\
         RUN --mount=target=/u,source=data/f --mount=type=secret,id=s,target=/u grep secret /u\n",
    );
}

#[test]
fn a137_a138_users_are_those_of_the_image() {
    let bench = busybox_bench!();
    bench.file("app/f", "");
    holds(
        &bench,
        &[],
        "FROM busybox\n\
         RUN echo 'app:x:1000:100::/home/app:/bin/sh' >>/etc/passwd && printf 'users:x:100:\\nwheel:x:10:app\\n' >>/etc/group\n\
         ARG U=app\n\
         USER $U\n\
         RUN test \"$(id -u) $(id -g) $(id -G)\" = '1000 100 100 10' || test \"$(id -G)\" = '10 100'; test $HOME = /home/app\n\
         WORKDIR /mine\n\
         COPY f /copied\n\
         RUN test \"$(stat -c '%u %g' /mine)\" = '1000 100' && test \"$(stat -c '%u %g' /copied)\" = '0 0'\n\
         USER 1000\n\
         RUN test \"$(id -u) $(id -g)\" = '1000 100'\n\
         USER app:wheel\n\
         RUN test \"$(id -u) $(id -G)\" = '1000 10'\n\
         USER 4711\n\
         RUN test \"$(id -u) $(id -g)\" = '4711 0'\n\
         USER 4711:4712\n\
         RUN test \"$(id -u) $(id -g)\" = '4711 4712' && test $HOME = /\n\
         USER nobody-there\n\
         LABEL not=looked-up\n",
    );
    bench.file("app/Dockerfile", "FROM busybox\nUSER nobody-there\nRUN true\n");
    bench.build(&["app"]).fails(1).says(&["nobody-there", "/etc/passwd", "Dockerfile:3"]);
    // Links out of the image lead nowhere: numbers still work, names do not.
    bench.file(
        "app/Dockerfile",
        "FROM busybox\nRUN rm /etc/passwd && ln -s ../../../../etc/passwd /etc/passwd\nUSER root\nRUN true\n",
    );
    bench.build(&["app"]).fails(1).says(&["`root`"]);
    bench.file(
        "app/Dockerfile",
        "FROM busybox\nRUN rm /etc/passwd && mkfifo /etc/passwd\nUSER 5\nRUN grep '^Uid:.5' /proc/self/status\n",
    );
    bench.build(&["app"]).ok();
}

#[test]
fn a_process_begins_while_the_layer_below_is_hashed() {
    let bench = busybox_bench!();
    // Nothing on disk, and long to read.
    let text = "FROM busybox\nRUN truncate -s 300M /large && echo below >/small\n\
                RUN stat -c %s /large && cat /small && echo above >/small && rm /large\nRUN cat /small && ! test -e /large\n";
    bench.file("app/Dockerfile", text);
    let said = finish(bench.command(&["build", "--progress", "json", "-t", "app", "app"]), b"").ok().stderr;
    let events: Vec<serde_json::Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let at = |event: &str, title: &str| {
        let step = events.iter().find(|one| one["title"].as_str().is_some_and(|text| text.contains(title)));
        let number = &step.unwrap_or_else(|| panic!("{title} in {said}"))["step"];
        let found = events.iter().find(|one| one["event"] == event && one["step"] == *number);
        found.unwrap_or_else(|| panic!("{event} of {title} in {said}"))["at"].as_f64().unwrap()
    };
    assert!(at("step_started", "RUN stat") < at("step_finished", "RUN truncate"), "{said}");
    for line in ["314572800", "below", "above"] {
        assert!(events.iter().any(|event| event["line"] == line), "{line} in {said}");
    }
    bench.run(&["run", "--rm", "app", "sh", "-c", "cat /small && ! test -e /large"]).ok().says(&["above"]);
    let again = bench.run(&["build", "--explain", "app"]).ok();
    assert!(again.stdout.contains("4 steps: 4 cached\n"), "{}", again.stdout);
    // What was above is found by content when what is below is made anew.
    bench.file("app/Dockerfile", text.replace("&& echo below", "&& true && echo below"));
    let anew = bench.run(&["build", "--explain", "app"]).ok();
    assert!(anew.stdout.contains("4 steps: 1 cached, 2 kept, 1 ran\n"), "{}", anew.stdout);
}
