//! What does a `RUN` ask of its sandbox, row by row of `docs/language.md`?

use super::*;
use rbuild_solver::graph::{ExecOp, NetworkMode, SecurityMode};

/// The last vertex, which must be a `RUN`.
fn last(text: &str, options: &LowerOptions) -> ExecOp {
    let lowered = lowered(text, options);
    let vertex = lowered.graph.vertex(lowered.result.vertex);
    let Op::Exec(exec) = &vertex.op else { panic!("`{text}` does not end with a RUN") };
    ExecOp::clone(exec)
}

fn with_args(args: &[(&str, &str)]) -> LowerOptions {
    let mut options = options();
    options.build_args = args.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect();
    options
}

/// The environment but for `PATH`.
fn env(exec: &ExecOp) -> String {
    let shown = exec.env.iter().filter(|(name, _)| *name != "PATH").map(|(name, value)| format!("{name}={value}"));
    shown.collect::<Vec<_>>().join(" ")
}

fn mounts(exec: &ExecOp) -> String {
    let shown = exec.mounts.iter().map(|mount| match &mount.kind {
        ExecMountKind::Cache { id, .. } => format!("{} cache {id}", mount.target),
        ExecMountKind::Bind { input, source, writable } => {
            format!("{} bind {input}:{source}{}", mount.target, if *writable { " rw" } else { "" })
        }
        ExecMountKind::Tmpfs { size } => format!("{} tmpfs {size:?}", mount.target),
        ExecMountKind::Secret { id, env, .. } => format!("{} secret {id} {env:?}", mount.target),
        other => format!("{} {other:?}", mount.target),
    });
    shown.collect::<Vec<_>>().join("; ")
}

/// The part of a step that a row is about.
type Shown = fn(&ExecOp) -> String;

#[test]
fn what_a_step_is_told() {
    let given = [("V", "given"), ("TARGETARCH", "pdp11"), ("BUILDKIT_SBOM_SCAN_STAGE", "true")];
    let rows: &[(&str, &str, Shown, &str)] = &[
        ("A070", "ARG V=1 W=2 X\nENV E=${V}\nRUN x", env, "V=given W=2 E=given"),
        ("A071 declared after it", "RUN x\nARG V=1", env, ""),
        ("A071 a global one that no stage declares", "RUN x", env, ""),
        (
            "A075",
            "ARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT TARGETOSVERSION\nRUN x",
            env,
            "TARGETPLATFORM=linux/amd64 TARGETOS=linux TARGETARCH=pdp11 TARGETVARIANT= TARGETOSVERSION=",
        ),
        (
            "A075 the builder's",
            "ARG BUILDPLATFORM BUILDOS BUILDARCH BUILDVARIANT BUILDOSVERSION\nRUN x",
            env,
            "BUILDPLATFORM=linux/amd64 BUILDOS=linux BUILDARCH=amd64 BUILDVARIANT= BUILDOSVERSION=",
        ),
        ("A076", "ARG TARGETSTAGE\nRUN x", env, "TARGETSTAGE=default"),
        ("A078", "ARG BUILDKIT_SBOM_SCAN_CONTEXT=true BUILDKIT_SBOM_SCAN_STAGE\nRUN x", env, ""),
        ("A100", "ENV A=1\nARG B=2\nENV A=3\nRUN x", env, "A=3 B=2"),
        ("A098 shell", "RUN a && b", |exec| format!("{:?}", exec.args), r#"["/bin/sh", "-c", "a && b"]"#),
        ("A098 exec", "RUN [\"a\", \"$b\"]", |exec| format!("{:?}", exec.args), r#"["a", "$b"]"#),
        ("A101", "WORKDIR /a\nWORKDIR b\nRUN x", |exec| exec.cwd.clone(), "/a/b"),
        ("A137", "ARG U=app\nUSER $U:staff\nRUN x", |exec| exec.user.clone(), "app:staff"),
        ("A103", "RUN --mount=target=/a --mount=type=tmpfs,target=/b x", mounts, "/a bind 1:/; /b tmpfs None"),
        ("A111", "WORKDIR /w\nRUN --mount=dst=a --mount=destination=/b/../c x", mounts, "/w/a bind 1:/; /c bind 2:/"),
        ("A112", "RUN --mount=src=../../a/./b,target=/m x", mounts, "/m bind 1:/a/b"),
        ("A112 from", "RUN --mount=from=tools,source=t,target=/m x", mounts, "/m bind 1:/t"),
        (
            "A113",
            "RUN --mount=target=/a,rw --mount=target=/b,ro=false --mount=target=/c,readwrite=0 x",
            mounts,
            "/a bind 1:/ rw; /b bind 2:/ rw; /c bind 3:/",
        ),
        ("A115", "ARG N=npm\nWORKDIR /w\nRUN --mount=type=cache,target=./$N//x/ x", mounts, "/w/npm/x cache npm/x"),
        ("A115 id", "RUN --mount=type=cache,target=/c,id=/my/id x", mounts, "/c cache /my/id"),
        (
            "A122",
            "RUN --mount=type=secret,target=/e/key.pem --mount=type=secret,source=a/b --mount=type=secret,id=t,env=T x",
            mounts,
            "/e/key.pem secret key.pem None; /run/secrets/b secret a/b None;  secret t Some(\"T\")",
        ),
        (
            "A127",
            "ARG K=cache D=/d I=i\nRUN --mount=type=$K,target=${D}/x,id=$I,sharing=${S:-locked} x",
            mounts,
            "/d/x cache i",
        ),
        (
            "A128",
            "RUN --mount=type=tmpfs,target=/m --mount=target=/m --mount=type=cache,target=/m x",
            mounts,
            "/m tmpfs None; /m bind 1:/; /m cache /m",
        ),
    ];
    for (row, text, shown, expected) in rows {
        let exec = last(&format!("ARG V=global\nFROM busybox AS tools\nFROM busybox\n{text}\n"), &with_args(&given));
        assert_eq!(shown(&exec), *expected, "{row}\n{text}");
    }
}

#[test]
fn a076_the_target_stage_is_named() {
    let text = "FROM busybox AS one\nARG TARGETSTAGE\nRUN x\nFROM one AS two\nRUN y\n";
    assert_eq!(env(&last(text, &options())), "TARGETSTAGE=two");
    let target = |name: &str| LowerOptions { target: Some(name.to_owned()), ..options() };
    assert_eq!(env(&last(text, &target("one"))), "TARGETSTAGE=one");
    let given = LowerOptions { target: Some("one".to_owned()), ..with_args(&[("TARGETSTAGE", "mine")]) };
    assert_eq!(env(&last(text, &given)), "TARGETSTAGE=mine");
}

#[test]
fn a071_an_argument_counts_from_its_declaration() {
    let text = "FROM busybox\nRUN before\nARG V\nCOPY $V /c\nRUN after\n";
    let op = |value: &str, vertex: usize| {
        let lowered = lowered(text, &with_args(&[("V", value)]));
        let (_, vertex) = lowered.graph.vertices().nth(vertex).unwrap();
        vertex.op.clone()
    };
    let changed: Vec<_> = (0..5).map(|vertex| op("a", vertex) != op("b", vertex)).collect();
    // FROM, RUN before, the context's selection, COPY of an expanded name, RUN after.
    assert_eq!(changed, [false, false, true, true, true]);
}

#[test]
fn a073_a108_proxies_are_in_no_history_unless_declared() {
    let given = [("HTTP_PROXY", "http://p"), ("no_proxy", "local"), ("ALL_PROXY", ""), ("V", "1")];
    let told = |text: &str| {
        let lowered = lowered(text, &with_args(&given));
        let exec = last(text, &with_args(&given));
        let proxies: Vec<_> = exec.proxy_env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (env(&exec), proxies.join(" "), created_by(&lowered).last().unwrap().to_string())
    };
    assert_eq!(
        told("FROM busybox\nARG V\nRUN x\n"),
        (
            "V=1".to_owned(),
            "HTTP_PROXY=http://p http_proxy=http://p NO_PROXY=local no_proxy=local".to_owned(),
            "RUN |1 V=1 /bin/sh -c x # buildkit".to_owned()
        )
    );
    assert_eq!(
        told("FROM busybox\nARG HTTP_PROXY\nRUN x\n"),
        (
            "HTTP_PROXY=http://p".to_owned(),
            "http_proxy=http://p NO_PROXY=local no_proxy=local".to_owned(),
            "RUN |1 HTTP_PROXY=http://p /bin/sh -c x # buildkit".to_owned()
        )
    );
}

#[test]
fn a077_builders_are_told_by_build_arguments() {
    let text = "FROM busybox\nRUN --mount=type=cache,target=/c --mount=type=cache,target=/d,id=i x\n";
    let options = with_args(&[("BUILDKIT_CACHE_MOUNT_NS", "team"), ("BUILDKIT_SANDBOX_HOSTNAME", "ci")]);
    let exec = last(text, &options);
    assert_eq!((mounts(&exec).as_str(), exec.hostname.as_str()), ("/c cache team//c; /d cache team/i", "ci"));
    assert_eq!(env(&exec), "", "nothing of it is seen by the step");
    assert_eq!(warnings(text, &options), <[String; 0]>::default());
    let options = with_args(&[
        ("BUILDKIT_BUILD_NAME", "x"),
        ("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "1"),
        ("BUILDKIT_DOCKERFILE_CHECK", "skip=all"),
        ("BUILDKIT_INLINE_CACHE", "1"),
        ("BUILDKIT_MULTI_PLATFORM", "true"),
        ("BUILDKIT_SANDBOX_HOSTNAM", "x"),
        ("BUILDKIT_SYNTAX", "docker/dockerfile:1"),
    ]);
    assert_eq!(
        warnings(text, &options),
        [
            "1: UnusedBuildArg: build argument `BUILDKIT_SANDBOX_HOSTNAM` is not used: no `ARG` declares it [did you mean `BUILDKIT_SANDBOX_HOSTNAME`?]",
            "1: UnsupportedBuildArg: build argument `BUILDKIT_INLINE_CACHE` is not supported: no cache is written into the image",
            "1: UnsupportedBuildArg: build argument `BUILDKIT_MULTI_PLATFORM` is not supported: the image is for one platform, without an index above it",
        ]
    );
    let off = with_args(&[("BUILDKIT_INLINE_CACHE", "0"), ("BUILDKIT_MULTI_PLATFORM", "false")]);
    assert_eq!(warnings(text, &off), <[String; 0]>::default());
}

#[test]
fn what_reaches_out_of_the_sandbox_must_be_allowed() {
    let allowed = |network_host, security_insecure| {
        let entitlements = Entitlements { network_host, security_insecure };
        LowerOptions { entitlements, ..options() }
    };
    let host =
        "2: `RUN --network=host` is not allowed for this build [`--allow network.host` on the command line allows it]";
    let insecure = "2: `RUN --security=insecure` is not allowed for this build [`--allow security.insecure` on the command line allows it]";
    let cases: &[(&str, &str, LowerOptions, &[&str])] = &[
        ("A104", "--network=host", allowed(false, true), &[host]),
        ("A104", "--network=host", allowed(true, false), &[]),
        ("A104", "--network=none", allowed(false, false), &[]),
        ("A104", "--network=default", allowed(false, false), &[]),
        ("A105", "--security=insecure", allowed(true, false), &[insecure]),
        ("A105", "--security=insecure", allowed(false, true), &[]),
        ("A105", "--security=sandbox", allowed(false, false), &[]),
        ("A105", "--network=host --security=insecure", allowed(false, false), &[host, insecure]),
    ];
    for (row, flags, options, expected) in cases {
        assert_eq!(mistakes(&format!("FROM busybox\nRUN {flags} x\n"), options), *expected, "{row} {flags}");
    }
    let text = "FROM busybox AS unneeded\nRUN --network=host x\nFROM busybox\nRUN y\n";
    assert_eq!(mistakes(text, &options()), <[String; 0]>::default(), "nobody needs the stage");
}

#[test]
fn a104_a_step_without_a_network_of_its_own_has_the_builds() {
    let options = LowerOptions { network: NetworkMode::None, ..options() };
    for (flag, expected) in
        [("", NetworkMode::None), ("--network=default", NetworkMode::None), ("--network=none", NetworkMode::None)]
    {
        let exec = last(&format!("FROM busybox\nRUN {flag} x\n"), &options);
        assert_eq!((exec.network, exec.security), (expected, SecurityMode::Sandbox), "{flag}");
    }
}

#[test]
fn a106_devices_are_asked_for_by_name() {
    let text = "FROM busybox\nARG C=gpu\nRUN --device=vendor.com/$C=0 --device=name=vendor.com/net,required x\n";
    let devices = last(text, &options()).devices;
    let devices: Vec<_> = devices.iter().map(|device| (device.name.as_str(), device.required)).collect();
    assert_eq!(devices, [("vendor.com/gpu=0", false), ("vendor.com/net", true)]);
}

#[test]
fn a107_flags_stand_first_and_mostly_once() {
    for (line, expected) in [
        ("RUN --network=none --network=none x", "2: duplicate flag specified: `--network` [remove one of the two]"),
        (
            "RUN --security=sandbox --security=sandbox x",
            "2: duplicate flag specified: `--security` [remove one of the two]",
        ),
        ("RUN --netwrok=none x", "2: unknown flag of `RUN`: `--netwrok` [did you mean `--network`?]"),
        (
            "RUN --mount target=/x x",
            "2: missing a value on flag `--mount` [write `--mount=…`, without a blank around the `=`]",
        ),
    ] {
        assert_eq!(mistakes(&format!("FROM busybox\n{line}\n"), &options()), [expected]);
    }
    let exec = last("FROM busybox\nRUN x --network=none\n", &options());
    assert_eq!((exec.network, exec.args[2].as_str()), (NetworkMode::Default, "x --network=none"));
}

#[test]
fn a108_history_lists_the_declared_arguments() {
    let rows = [
        ("RUN x", "RUN /bin/sh -c x # buildkit"),
        ("ARG A=1 B\nRUN x", "RUN |2 A=1 B= /bin/sh -c x # buildkit"),
        ("ARG A=1\nENV A=2\nRUN [\"x\", \"y z\"]", "RUN |1 A=2 x y z # buildkit"),
        ("SHELL [\"ash\", \"-c\"]\nRUN --mount=type=tmpfs,target=/t x", "RUN ash -c x # buildkit"),
    ];
    for (text, expected) in rows {
        let lowered = lowered(&format!("FROM busybox\n{text}\n"), &options());
        assert_eq!(created_by(&lowered).last(), Some(&expected), "{text}");
    }
}

#[test]
fn a109_titles_show_no_values() {
    let text = "FROM busybox\nARG TOKEN\nRUN --mount=type=secret,id=s,env=TOKEN login $TOKEN\n";
    let lowered = lowered(text, &with_args(&[("TOKEN", "s3cr3t")]));
    let title = &lowered.graph.vertex(lowered.result.vertex).origin.title;
    assert_eq!(title, "[2/2] RUN --mount=type=secret,id=s,env=TOKEN login $TOKEN");
}

#[test]
fn what_is_mounted_must_make_sense() {
    for (row, line, expected) in [
        (
            "A110",
            "--mount=type=tmpsf,target=/x",
            "2: unsupported mount type `tmpsf` in `type=tmpsf` [did you mean `tmpfs`?]",
        ),
        (
            "A111",
            "--mount=target=/a/..",
            "2: invalid mount target `/` [mount below the root, or set a `WORKDIR` for relative targets]",
        ),
        (
            "A122",
            "--mount=type=secret,id=a,from=x",
            "2: option `from` has no meaning for a mount of type `secret` [leave `from` out]",
        ),
        (
            "A122",
            "--mount=type=secret,id=a,sharing=locked",
            "2: option `sharing` has no meaning for a mount of type `secret` [leave `sharing` out]",
        ),
        ("A123", "--mount=type=secret,id=a,mode=rw", "2: invalid value `rw` for `mode` [expected an octal mode]"),
        (
            "A125",
            "--mount=type=ssh,env=X",
            "2: option `env` has no meaning for a mount of type `ssh` [leave `env` out]",
        ),
        (
            "A127",
            "--mount=target=/x,from=$STAGE",
            "2: `from` of `--mount` does not support variables: `$STAGE` [give the image a stage: `FROM $STAGE AS name`, and use `name` here]",
        ),
        ("A127", "--mount=$KEY=/x", "2: unknown option `$KEY` of `--mount`"),
    ] {
        assert_eq!(mistakes(&format!("FROM busybox\nRUN {line} x\n"), &options()), [expected], "{row}");
    }
}

#[test]
fn a125_agents_are_numbered_and_the_first_is_announced() {
    let agents = |text: &str| {
        let exec = last(&format!("FROM busybox\n{text}\n"), &options());
        (mounts(&exec), env(&exec))
    };
    let (mounts, env) =
        agents("RUN --mount=type=ssh --mount=target=/c --mount=type=ssh,id=work,mode=0666,uid=1,gid=2,required x");
    assert_eq!(
        mounts,
        "/run/buildkit/ssh_agent.0 Ssh { id: \"default\", required: false, mode: 384, uid: 0, gid: 0 }; /c bind 1:/; \
         /run/buildkit/ssh_agent.1 Ssh { id: \"work\", required: true, mode: 438, uid: 1, gid: 2 }"
    );
    assert_eq!(env, "SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0");
    let (mounts, env) = agents("WORKDIR /w\nENV SSH_AUTH_SOCK=/mine\nRUN --mount=type=ssh,target=agent x");
    assert_eq!(mounts, "/w/agent Ssh { id: \"default\", required: false, mode: 384, uid: 0, gid: 0 }");
    assert_eq!(env, "SSH_AUTH_SOCK=/mine");
}

#[test]
fn a147_triggers_hold_heredocs_and_name_stages() {
    let text = "FROM busybox AS tools\nRUN make /tool\nFROM busybox AS parent\n\
        ONBUILD RUN --mount=from=tools,source=/tool,target=/t <<EOF\n/t one\n/t two\nEOF\n\
        ONBUILD COPY <<x /y/\nhello\nx\nONBUILD COPY --from=tools /tool /y/\n\
        FROM parent\nRUN last\n";
    insta::assert_snapshot!(plan(&lowered(text, &options())), @r##"
    0 <> [tools 1/2] FROM docker.io/library/busybox:latest
        image busybox linux/amd64
    1 <0> [tools 2/2] RUN make /tool
        exec ["/bin/sh", "-c", "make /tool"] env [] in / as ""
    2 <0 1> [stage-2 1/4] ONBUILD RUN --mount=from=tools,source=/tool,target=/t <<EOF (/t one...)
        exec ["/bin/sh", "-c", "/t one\n/t two\n"] env [] in / as ""
        /t Bind { input: 1, source: "/tool", writable: false }
    3 <2> [stage-2 2/4] ONBUILD COPY <<x /y/
        copy ["x=\"hello\\n\""] -> /y/
    4 <3 1> [stage-2 3/4] ONBUILD COPY --from=tools /tool /y/
        copy ["1:tool (/tool)"] -> /y/ keep-owner
    5 <4> [stage-2 4/4] RUN last
        exec ["/bin/sh", "-c", "last"] env [] in / as ""
    -> 5
    "##);
}

#[test]
fn a072_a_secret_in_an_argument_is_in_the_history_and_worth_a_warning() {
    let text = "FROM busybox\nARG API_TOKEN=s3cr3t\nRUN x\n";
    let found = lowered(text, &options());
    assert_eq!(created_by(&found)[1..], ["ARG API_TOKEN=s3cr3t", "RUN |1 API_TOKEN=s3cr3t /bin/sh -c x # buildkit"]);
    let file = parse(&Source::new("Dockerfile", text)).unwrap();
    let rules: Vec<_> = rbuild_frontend::check(&file).iter().filter_map(|found| found.rule).collect();
    assert_eq!(rules, [rbuild_frontend::rule::Rule::SecretsUsedInArgOrEnv]);
}

#[test]
fn a079_the_epoch_is_a_build_argument_a_default_or_the_environments() {
    let epoch = |text: &str, options: &LowerOptions| lowered(text, options).source_date_epoch;
    let plain = "FROM busybox\n";
    let default = "ARG SOURCE_DATE_EPOCH=3\nFROM busybox\n";
    let environment = LowerOptions { source_date_epoch: Some(2), ..options() };
    let both = LowerOptions { source_date_epoch: Some(2), ..with_args(&[("SOURCE_DATE_EPOCH", "1")]) };
    assert_eq!(epoch(plain, &options()), None);
    assert_eq!(epoch(plain, &both), Some(1));
    assert_eq!(epoch(plain, &environment), Some(2));
    assert_eq!(epoch(default, &options()), Some(3));
    assert_eq!(epoch(default, &environment), Some(2));
    assert_eq!(epoch("ARG SOURCE_DATE_EPOCH=\nFROM busybox\n", &options()), None);
    let told = "FROM busybox\nARG SOURCE_DATE_EPOCH\nRUN x\n";
    assert_eq!(env(&last(told, &environment)), "SOURCE_DATE_EPOCH=2");
    assert_eq!(env(&last("FROM busybox\nRUN x\n", &environment)), "");
}
