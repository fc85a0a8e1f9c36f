//! Which image does a Dockerfile become?

use serde_json::json;

#[test]
fn configuration_is_what_the_instructions_say() {
    let bench = busybox_bench!();
    bench.file(
        "app/Dockerfile",
        r#"FROM busybox
ENV A=1 B="two words"
ENV LEGACY one two
LABEL "com.example"=x
WORKDIR /srv
WORKDIR sub
USER daemon:nogroup
EXPOSE 80 53/udp
VOLUME /data
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s CMD true
ENTRYPOINT ["echo"]
CMD ["hello"]
"#,
    );
    let image = bench.image(&["--label", "more=y", "app"]);
    for (name, expected) in [
        ("Entrypoint", json!(["echo"])),
        ("Cmd", json!(["hello"])),
        ("WorkingDir", json!("/srv/sub")),
        ("User", json!("daemon:nogroup")),
        ("ExposedPorts", json!({"53/udp": {}, "80/tcp": {}})),
        ("Volumes", json!({"/data": {}})),
        ("StopSignal", json!("SIGINT")),
        ("Labels", json!({"com.example": "x", "more": "y"})),
    ] {
        assert_eq!(*image.setting(name), expected, "{name}");
    }
    let variables = image.setting("Env").as_array().unwrap();
    for variable in ["A=1", "B=two words", "LEGACY=one two"] {
        assert!(variables.contains(&json!(variable)), "{variables:?}");
    }
    assert_eq!(image.setting("Healthcheck")["Test"], json!(["CMD-SHELL", "true"]));
    assert_eq!(image.config["os"], "linux");
    assert_eq!(image.config["history"].as_array().unwrap().len(), 1 + 12);
}

#[test]
fn stages_hand_files_on() {
    let bench = busybox_bench!();
    bench.file(
        "app/Dockerfile",
        "FROM busybox AS build\nWORKDIR /out\nRUN echo made > result && ln -s result link && mkdir -p deep/er && chown 1000:1001 deep\n\
         FROM scratch AS empty\nFROM empty\nCOPY --from=build /out /\nCOPY --from=0 --chown=5:6 --chmod=600 /out/result /owned\n",
    );
    let tree = bench.image(&["app"]).tree();
    let lines: Vec<String> = tree.iter().map(|(path, node)| format!("{path} {node}")).collect();
    assert_eq!(lines.len(), 5, "{lines:#?}");
    assert_eq!(lines[0], "deep 0755 1000:1001 directory");
    assert_eq!(lines[1], "deep/er 0755 0:0 directory");
    assert_eq!(lines[2], "link 0777 0:0 -> result");
    assert!(lines[3].starts_with("owned 0600 5:6 file 5 "), "{lines:#?}");
    assert!(lines[4].starts_with("result 0644 0:0 file 5 "), "{lines:#?}");
}

#[test]
fn target_ends_the_build_early() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox AS first\nENV STAGE=first\nFROM busybox\nENV STAGE=last\nRUN exit 1\n");
    let image = bench.image(&["--target", "first", "app"]);
    assert!(image.setting("Env").as_array().unwrap().contains(&json!("STAGE=first")));
    bench.build(&["--target", "fist", "app"]).fails(1).says(&["fist", "first"]);
}

#[test]
fn a067_build_arguments_reach_run_and_from() {
    let bench = busybox_bench!();
    bench.file(
        "app/Dockerfile",
        "ARG BASE=nothing\nFROM ${BASE}\nARG GREETING=hello\nARG NAME\nRUN echo \"$GREETING, ${NAME:-nobody}\" > /said\nENV KEPT=$NAME\nCMD cat /said\n",
    );
    bench.build(&["--build-arg", "BASE=busybox", "-t", "said", "app"]).ok();
    assert_eq!(bench.run(&["run", "--rm", "said"]).ok().stdout, "hello, nobody\n");
    let arguments = ["--build-arg", "BASE=busybox", "--build-arg", "NAME", "-t", "said", "app"];
    let mut command = bench.command(&[&["build"], &arguments[..]].concat());
    command.env("NAME", "from outside");
    rbuild_testkit::bench::finish(command, b"").ok();
    assert_eq!(bench.run(&["run", "--rm", "said"]).ok().stdout, "hello, from outside\n");
    // What the environment does not have is as good as not asked for: the default counts.
    let mut command =
        bench.command(&["build", "--build-arg", "BASE=busybox", "--build-arg", "GREETING", "-t", "said", "app"]);
    command.env_remove("GREETING");
    rbuild_testkit::bench::finish(command, b"").ok();
    assert_eq!(bench.run(&["run", "--rm", "said"]).ok().stdout, "hello, nobody\n");
}

#[test]
fn heredocs_are_scripts_and_files() {
    let bench = busybox_bench!();
    bench.file(
        "app/Dockerfile",
        "FROM busybox\nARG NAME=world\nRUN <<EOF\nset -e\nmkdir /made\necho \"one $NAME\" > /made/one\nEOF\n\
         COPY <<config.ini <<\"raw\" /etc/app/\n[section]\nname=$NAME\nconfig.ini\n$NAME\nraw\n\
         COPY --chmod=755 <<-script /bin/greet\n\t#!/bin/sh\n\techo greetings\nscript\nCMD cat /made/one /etc/app/config.ini /etc/app/raw && greet\n",
    );
    bench.build(&["-t", "here", "app"]).ok();
    let output = bench.run(&["run", "--rm", "here"]).ok();
    assert_eq!(output.stdout, "one world\n[section]\nname=world\n$NAME\ngreetings\n");
}

#[test]
fn file_names_the_dockerfile() {
    let bench = busybox_bench!();
    bench.file("app/one", "1").file("elsewhere/my-dockerfile", "FROM busybox\nCOPY one /one\nCMD cat /one\n");
    bench.build(&["-f", "elsewhere/my-dockerfile", "-t", "f", "app"]).ok();
    assert_eq!(bench.run(&["run", "--rm", "f"]).ok().stdout, "1");
    let text = "FROM busybox\nCOPY one /two\nCMD cat /two\n";
    bench.run_with_input(&["build", "-f", "-", "-t", "f", "app"], text).ok();
    assert_eq!(bench.run(&["run", "--rm", "f"]).ok().stdout, "1");
    bench.run_with_input(&["build", "-t", "f", "-"], "FROM busybox\nCMD echo alone\n").ok();
    assert_eq!(bench.run(&["run", "--rm", "f"]).ok().stdout, "alone\n");
}

#[test]
fn build_is_what_happens_without_a_command() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox\n");
    bench.run(&["-t", "short", "-t", "short:2", "app"]).ok();
    let images = bench.images();
    assert!(images.contains(&"short:latest".to_owned()) && images.contains(&"short:2".to_owned()), "{images:?}");
}

#[test]
fn quiet_prints_the_id_and_nothing_else() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox\nRUN echo noise\n");
    let output = bench.run(&["build", "-q", "--iidfile", "id", "-t", "q", "app"]).ok();
    assert_eq!(output.stderr, "");
    assert_eq!(output.stdout.trim(), bench.read("id").trim());
    assert_eq!(output.stdout, bench.run(&["images", "-q", "--no-trunc", "q"]).ok().stdout);
}

#[test]
fn progress_in_json_is_one_object_a_line() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox\nRUN echo from-the-step\n");
    let output = bench.run(&["build", "--progress", "json", "app"]).ok();
    let lines: Vec<serde_json::Value> = output.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() > 3, "{}", output.stderr);
    assert!(output.stderr.contains("from-the-step"), "{}", output.stderr);
}

#[test]
fn named_contexts_replace_and_add() {
    let bench = busybox_bench!();
    bench
        .file("other/data", "theirs\n")
        .file("app/Dockerfile", "FROM base\nCOPY --from=other data /data\nCMD cat /data\n");
    let contexts = ["--build-context", "other=other", "--build-context", "base=docker-image://busybox"];
    bench.build(&[&contexts[..], &["-t", "named", "app"]].concat()).ok();
    assert_eq!(bench.run(&["run", "--rm", "named"]).ok().stdout, "theirs\n");
}

#[test]
fn hosts_can_be_added() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox\nRUN grep -q '10.1.2.3.*build.example' /etc/hosts\n");
    bench.build(&["--add-host", "build.example:10.1.2.3", "app"]).ok();
    let tree = bench.image(&["--add-host", "build.example:10.1.2.3", "app"]).tree();
    assert!(!tree.contains_key("etc/hosts"), "a file of the sandbox is in the image");
}

#[test]
fn network_none_has_loopback_only() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox\nRUN --network=none test \"$(ls /sys/class/net)\" = lo\n");
    bench.build(&["app"]).ok();
}

#[test]
fn user_and_workdir_hold_for_run() {
    let bench = busybox_bench!();
    bench.file(
        "app/Dockerfile",
        "FROM busybox\nRUN echo worker:x:1234:1234::/:/bin/sh >> /etc/passwd\nWORKDIR /made/by/workdir\nRUN chown worker .\nUSER worker\nRUN id -u > id && pwd >> id\nCMD cat id\n",
    );
    bench.build(&["-t", "user", "app"]).ok();
    assert_eq!(bench.run(&["run", "--rm", "user"]).ok().stdout, "1234\n/made/by/workdir\n");
}

#[test]
fn shell_and_onbuild_are_kept_and_used() {
    let bench = busybox_bench!();
    bench.file("base/Dockerfile", "FROM busybox\nONBUILD COPY trigger /trigger\nONBUILD RUN echo ran >> /trigger\n");
    bench.build(&["-t", "base", "base"]).ok();
    bench.file(
        "app/Dockerfile",
        "FROM base\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN false || echo shell >> /trigger; true\nCMD cat /trigger\n",
    );
    bench.file("app/trigger", "copied\n");
    bench.build(&["-t", "child", "app"]).ok();
    assert_eq!(bench.run(&["run", "--rm", "child"]).ok().stdout, "copied\nran\nshell\n");
}
