//! Which vertices does an instruction become?

use super::*;

#[test]
fn every_copy_selects_its_own_files() {
    let text = "FROM busybox AS build\n\
        ENV D=/opt/app F=*.txt\n\
        WORKDIR /w\n\
        COPY a /src/../b.txt dir/ $D/\n\
        COPY --chown=1:2 --chmod=0640 --exclude=*.md --exclude=!README.md x*y ${F} .\n\
        FROM scratch\n\
        COPY --from=BUILD --chown=app /w /y\n\
        COPY --from=busybox:latest --parents a/./b/*.c **/d /z/\n\
        ADD a.tar / b/\n";
    insta::assert_snapshot!(plan(&lowered(text, &options())), @r##"
    0 <> [build 1/4] FROM docker.io/library/busybox:latest
        image busybox linux/amd64
    1 <0> [build 2/4] WORKDIR /w
        mkdir /w None None
    2 <> [internal] load build context
        local context ["a", "b.txt", "dir"] without []
    3 <1 2> [build 3/4] COPY a /src/../b.txt dir/ /opt/app/
        copy ["1:a (a)", "1:b.txt (/src/../b.txt)", "1:dir (dir/)"] -> /opt/app/
    4 <> [internal] load build context
        local context ["x*y", "*.txt"] without ["*.md", "!README.md"]
    5 <3 4> [build 4/4] COPY --chown=1:2 --chmod=0640 --exclude=*.md --exclude=!README.md x*y *.txt .
        copy ["1:x*y (x*y)", "1:*.txt (*.txt)"] -> /w/ Owner { user: Id(1), group: Some(Id(2)) } Octal(416)
    6 <> [internal] scratch
        scratch
    7 <6 5> [stage-1 1/3] COPY --from=BUILD --chown=app /w /y
        copy ["1:w (/w)"] -> /y keep-owner Owner { user: Name("app"), group: None }
    8 <> FROM docker.io/library/busybox:latest
        image busybox:latest linux/amd64
    9 <7 8> [stage-1 2/3] COPY --from=busybox:latest --parents a/./b/*.c **/d /z/
        copy ["1:a/./b/*.c (a/./b/*.c)", "1:**/d (**/d)"] -> /z/ keep-owner parents
    10 <> [internal] load build context
        local context [] without []
    11 <9 10> [stage-1 3/3] ADD a.tar / b/
        copy ["1:a.tar (a.tar)", "1: (/)"] -> /b/ unpack
    -> 11
    "##);
}

#[test]
fn here_documents_become_files() {
    let text =
        "FROM scratch\nENV A=1\nCOPY <<one <<-\"two\" f /d/\n$A \"q\"\none\n\t$A\n\ttwo\nADD --chmod=755 <<x /x\n\nx\n";
    insta::assert_snapshot!(plan(&lowered(text, &options())), @r##"
    0 <> [internal] scratch
        scratch
    1 <> [internal] load build context
        local context ["f"] without []
    2 <0 1> [1/2] COPY <<one <<-two f /d/
        copy ["one=\"1 \\\"q\\\"\\n\"", "two=\"$A\\n\"", "1:f (f)"] -> /d/
    3 <2> [2/2] ADD --chmod=755 <<x /x
        copy ["x=\"\\n\""] -> /x unpack Octal(493)
    -> 3
    "##);
}

#[test]
fn linked_copies_do_not_depend_on_what_is_below() {
    let text = "FROM busybox\nCOPY --link --chown=1:2 --chmod=755 a /a\nCOPY --link --chown=app b /b\nCOPY --link=false c /c\n";
    insta::assert_snapshot!(plan(&lowered(text, &options())), @r##"
    0 <> [1/4] FROM docker.io/library/busybox:latest
        image busybox linux/amd64
    1 <> [internal] load build context
        local context ["a"] without []
    2 <> [internal] scratch
        scratch
    3 <2 1> [2/4] COPY --link --chown=1:2 --chmod=755 a /a
        copy ["1:a (a)"] -> /a Owner { user: Id(1), group: Some(Id(2)) } Octal(493)
    4 <0 3> [2/4] LINK COPY --link --chown=1:2 --chmod=755 a /a
        merge
    5 <> [internal] load build context
        local context ["b"] without []
    6 <4 5> [3/4] COPY --link --chown=app b /b
        copy ["1:b (b)"] -> /b Owner { user: Name("app"), group: None }
    7 <> [internal] load build context
        local context ["c"] without []
    8 <6 7> [4/4] COPY --link=false c /c
        copy ["1:c (c)"] -> /c
    -> 8
    "##);
}

#[test]
fn run_knows_shell_environment_user_and_directory() {
    let mut options = options();
    options.build_args.insert("http_proxy".to_owned(), Some("http://p".to_owned()));
    options.build_args.insert("V".to_owned(), Some("2".to_owned()));
    let text = "FROM busybox\nENV A=1\nARG V=1\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nUSER app:1\nWORKDIR b//c\n\
        RUN make $A\nSHELL [\"ash\", \"-e\", \"-c\"]\nrun a \\\n  b\nRUN [\"x\", \"$A\"]\n";
    let lowered = lowered(text, &options);
    insta::assert_snapshot!(plan(&lowered), @r##"
    0 <> [1/5] FROM docker.io/library/busybox:latest
        image busybox linux/amd64
    1 <0> [2/5] WORKDIR /b/c
        mkdir /b/c Some(Owner { user: Name("app"), group: Some(Id(1)) }) None
    2 <1> [3/5] RUN make $A
        exec ["/bin/sh", "-c", "make $A"] env [("A", "1"), ("V", "2")] in /b/c as "app:1"
    3 <2> [4/5] RUN a   b
        exec ["ash", "-e", "-c", "a   b"] env [("A", "1"), ("V", "2")] in /b/c as "app:1"
    4 <3> [5/5] RUN ["x", "$A"]
        exec ["x", "$A"] env [("A", "1"), ("V", "2")] in /b/c as "app:1"
    -> 4
    "##);
    insta::assert_snapshot!(created_by(&lowered).join("\n"), @r##"
    base
    ENV A=1
    ARG V=2
    ARG BUILDKIT_SBOM_SCAN_STAGE=true
    USER app:1
    WORKDIR /b/c
    RUN |2 V=2 BUILDKIT_SBOM_SCAN_STAGE=true /bin/sh -c make $A # buildkit
    SHELL [ash -e -c]
    RUN |2 V=2 BUILDKIT_SBOM_SCAN_STAGE=true ash -e -c a   b # buildkit
    RUN |2 V=2 BUILDKIT_SBOM_SCAN_STAGE=true x $A # buildkit
    "##);
    let (_, last) = lowered.graph.vertices().last().unwrap();
    let Op::Exec(exec) = &last.op else { panic!("the last vertex is a RUN") };
    let proxies: Vec<_> = exec.proxy_env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(proxies, ["HTTP_PROXY=http://p", "http_proxy=http://p"]);
    assert_eq!(exec.hostname, "buildkitsandbox");
}

#[test]
fn here_documents_of_run_are_scripts_for_the_shell_or_themselves() {
    let text = "FROM busybox\n\
        RUN <<EOF\necho $a\necho b\nEOF\n\
        RUN <<-'EOF'\n\t#!/bin/awk -f\n\tBEGIN {}\n\tEOF\n\
        RUN cat <<A >x && <<-B cat >y\n$a\nA\n\tb\n\tB\n\
        RUN <<../../x\n#!/bin/sh\n../../x\n\
        RUN \\\n --network=none \\\n <<\"E\"F\n#!/bin/sh\nEF\n";
    insta::assert_snapshot!(plan(&lowered(text, &options())), @r##"
    0 <> [1/6] FROM docker.io/library/busybox:latest
        image busybox linux/amd64
    1 <0> [2/6] RUN <<EOF (echo $a...)
        exec ["/bin/sh", "-c", "echo $a\necho b\n"] env [] in / as ""
    2 <1> [3/6] RUN <<-'EOF' (#!/bin/awk -f...)
        exec ["/bin/sh", "-c", "/dev/pipes/EOF"] env [] in / as ""
        /dev/pipes/EOF "#!/bin/awk -f\nBEGIN {}\n" 755
    3 <2> [4/6] RUN cat <<A >x && <<-B cat >y
        exec ["/bin/sh", "-c", "cat <<A >x && <<-B cat >y\n$a\nA\n\tb\nB"] env [] in / as ""
    4 <3> [5/6] RUN <<../../x (#!/bin/sh)
        exec ["/bin/sh", "-c", "/dev/pipes/x"] env [] in / as ""
        /dev/pipes/x "#!/bin/sh\n" 755
    5 <4> [6/6] RUN  --network=none  <<"E"F (#!/bin/sh)
        exec ["/bin/sh", "-c", "/dev/pipes/EF"] env [] in / as ""
        /dev/pipes/EF "#!/bin/sh\n" 755
    -> 5
    "##);
}

#[test]
fn mounts_become_inputs_and_sandbox_mounts() {
    let text = "FROM busybox AS tools\nFROM busybox\nARG T=sub\nWORKDIR /w\n\
        RUN --mount=target=/a --mount=target=$T/b,source=/x/../y,rw \
            --mount=type=bind,from=tools,src=/t,target=/t --mount=from=0,target=/u true\n\
        RUN --mount=type=cache,target=c/ --mount=type=cache,id=i,target=/d,sharing=locked,from=tools,source=s,mode=700,uid=1,ro \
            --mount=type=tmpfs,target=/e,size=1k true\n\
        RUN --mount=type=secret,id=s --mount=type=secret,id=t,env=T,required --mount=type=secret,target=u,mode=0444,uid=3,gid=4 true\n";
    insta::assert_snapshot!(plan(&lowered(text, &options())), @r##"
    0 <> [tools 1/1] FROM docker.io/library/busybox:latest
        image busybox linux/amd64
    1 <0> [stage-1 2/5] WORKDIR /w
        mkdir /w None None
    2 <> [internal] load build context
        local context [] without []
    3 <> [internal] load build context
        local context ["y"] without []
    4 <1 2 3 0> [stage-1 3/5] RUN --mount=target=/a --mount=target=$T/b,source=/x/../y,rw --mount=type=bind,from=tools,src=/t,target=/t --mount=from=0,target=/u true
        exec ["/bin/sh", "-c", "true"] env [("T", "sub")] in /w as ""
        /a Bind { input: 1, source: "/", writable: false }
        /w/sub/b Bind { input: 2, source: "/y", writable: true }
        /t Bind { input: 3, source: "/t", writable: false }
        /u Bind { input: 3, source: "/", writable: false }
    5 <4 0> [stage-1 4/5] RUN --mount=type=cache,target=c/ --mount=type=cache,id=i,target=/d,sharing=locked,from=tools,source=s,mode=700,uid=1,ro --mount=type=tmpfs,target=/e,size=1k true
        exec ["/bin/sh", "-c", "true"] env [("T", "sub")] in /w as ""
        /w/c Cache { id: "c", sharing: Shared, from: None, source: "/", mode: 493, uid: 0, gid: 0, read_only: false }
        /d Cache { id: "i", sharing: Locked, from: Some(1), source: "/s", mode: 448, uid: 1, gid: 0, read_only: true }
        /e Tmpfs { size: Some(1024) }
    6 <5> [stage-1 5/5] RUN --mount=type=secret,id=s --mount=type=secret,id=t,env=T,required --mount=type=secret,target=u,mode=0444,uid=3,gid=4 true
        exec ["/bin/sh", "-c", "true"] env [("T", "sub")] in /w as ""
        /run/secrets/s Secret { id: "s", required: false, file: true, env: None, mode: 256, uid: 0, gid: 0 }
         Secret { id: "t", required: true, file: false, env: Some("T"), mode: 256, uid: 0, gid: 0 }
        /w/u Secret { id: "u", required: false, file: true, env: None, mode: 292, uid: 3, gid: 4 }
    -> 6
    "##);
}

#[test]
fn triggers_run_first_and_only_once() {
    let text = "FROM busybox AS tools\nRUN make /tool\nFROM triggers AS child\nRUN x\nONBUILD ADD y /y\nFROM child AS grandchild\n\
        RUN z\nFROM grandchild\n";
    let lowered = lowered(text, &options());
    assert!(lowered.config.config.on_build.is_empty());
    let triggers = text.find("FROM triggers").unwrap();
    let spans = |vertex: usize| lowered.graph.vertices().nth(vertex).unwrap().1.origin.spans[0].start as usize;
    assert_eq!([3, 4, 5, 6].map(spans), [triggers; 4], "an image's triggers are where the image is");
    assert_eq!(spans(9), text.find("ADD y").unwrap(), "a stage's triggers are in the file");
    insta::assert_snapshot!(plan(&lowered), @r##"
    0 <> [tools 1/2] FROM docker.io/library/busybox:latest
        image busybox linux/amd64
    1 <0> [tools 2/2] RUN make /tool
        exec ["/bin/sh", "-c", "make /tool"] env [] in / as ""
    2 <> [child 1/5] FROM docker.io/library/triggers:latest
        image triggers linux/amd64
    3 <> [internal] load build context
        local context [] without []
    4 <2 3> [child 2/5] ONBUILD COPY . /app
        copy ["1: (.)"] -> /app
    5 <4 1> [child 3/5] ONBUILD COPY --from=tools /tool /tool
        copy ["1:tool (/tool)"] -> /tool keep-owner
    6 <5> [child 4/5] ONBUILD RUN make $UNSET
        exec ["/bin/sh", "-c", "make $UNSET"] env [] in / as ""
    7 <6> [child 5/5] RUN x
        exec ["/bin/sh", "-c", "x"] env [] in / as ""
    8 <> [internal] load build context
        local context ["y"] without []
    9 <7 8> [grandchild 1/2] ONBUILD ADD y /y
        copy ["1:y (y)"] -> /y unpack
    10 <9> [grandchild 2/2] RUN z
        exec ["/bin/sh", "-c", "z"] env [] in / as ""
    -> 10
    "##);
}

#[test]
fn a094_named_contexts_replace_stages_and_images() {
    let mut options = options();
    for (name, context) in [
        ("docker.io/library/debian:stable", NamedContext::Image("debian:trixie".to_owned())),
        ("assets", NamedContext::Local),
        ("base", NamedContext::Image("busybox".to_owned())),
        ("rootfs", NamedContext::Local),
    ] {
        options.named_contexts.insert(name.to_owned(), context);
    }
    let text = "FROM nosuchimage AS base\nRUN never\nFROM debian:stable AS one\nCOPY --from=base /a /a\n\
        COPY --from=assets *.png /b/\nRUN --mount=from=assets,source=c,target=/c true\nFROM rootfs\nCOPY --from=one /b /b\n";
    insta::assert_snapshot!(plan(&lowered(text, &options)), @r##"
    0 <> [base 1/1] FROM docker.io/library/busybox:latest
        image busybox linux/amd64
    1 <> [one 1/4] FROM docker.io/library/debian:trixie
        image debian:trixie linux/amd64
    2 <1 0> [one 2/4] COPY --from=base /a /a
        copy ["1:a (/a)"] -> /a keep-owner
    3 <> [internal] load build context assets
        local assets ["*.png"] without []
    4 <2 3> [one 3/4] COPY --from=assets *.png /b/
        copy ["1:*.png (*.png)"] -> /b/
    5 <> [internal] load build context assets
        local assets ["c"] without []
    6 <4 5> [one 4/4] RUN --mount=from=assets,source=c,target=/c true
        exec ["/bin/sh", "-c", "true"] env [] in / as ""
        /c Bind { input: 1, source: "/c", writable: false }
    7 <> [internal] scratch
        scratch
    8 <> [internal] load build context rootfs
        local rootfs [] without []
    9 <7 8> [stage-2 1/2] FROM rootfs
        copy ["1: (/)"] -> //
    10 <9 6> [stage-2 2/2] COPY --from=one /b /b
        copy ["1:b (/b)"] -> /b keep-owner
    -> 10
    "##);
}

#[test]
fn images_are_asked_for_once_and_only_if_they_are_needed() {
    let text = "FROM nosuchimage AS dead\nFROM --platform=$BUILDPLATFORM busybox AS a\nFROM busybox AS b\n\
        COPY --from=a x x\nCOPY --from=busybox y y\nCOPY --from=empty z z\nFROM b\n";
    let file = parse(&Source::new("Dockerfile", text)).unwrap();
    let mut options = options();
    options.platform = "linux/arm64".parse().unwrap();
    let registry = Registry::default();
    let lowered = run(lower(&file, &options, &registry)).unwrap();
    let mut asked = registry.asked.into_inner().unwrap();
    asked.sort();
    assert_eq!(asked, ["busybox linux/amd64", "busybox linux/arm64", "empty linux/arm64"]);
    assert_eq!(lowered.config.architecture, "arm64");
    insta::assert_snapshot!(plan(&lowered), @r##"
    0 <> [a 1/1] FROM docker.io/library/busybox:latest
        image busybox linux/amd64
    1 <> [b 1/4] FROM docker.io/library/busybox:latest
        image busybox linux/arm64
    2 <1 0> [b 2/4] COPY --from=a x x
        copy ["1:x (x)"] -> /x keep-owner
    3 <2 1> [b 3/4] COPY --from=busybox y y
        copy ["1:y (y)"] -> /y keep-owner
    4 <> [internal] scratch
        scratch
    5 <3 4> [b 4/4] COPY --from=empty z z
        copy ["1:z (z)"] -> /z keep-owner
    -> 5
    "##);
}

#[test]
fn cached_results_can_be_refused_per_stage() {
    let text = "FROM busybox AS One\nRUN a\nFROM one\nRUN b\n";
    let mut options = options();
    let fresh = |options: &LowerOptions| -> Vec<_> {
        let lowered = lowered(text, options);
        let fresh = lowered.graph.vertices().filter(|(_, vertex)| vertex.origin.ignore_cache);
        fresh.map(|(_, vertex)| vertex.origin.title.clone()).collect()
    };
    assert_eq!(fresh(&options), <[String; 0]>::default());
    options.cache = CacheUse::AllBut(vec!["ONE".to_owned()]);
    assert_eq!(fresh(&options), ["[One 2/2] RUN a"]);
    options.cache = CacheUse::None;
    assert_eq!(fresh(&options), ["[One 2/2] RUN a", "[stage-1 1/1] RUN b"]);
}

#[test]
fn the_epoch_comes_from_the_environment_an_argument_or_the_file() {
    let epoch = |text: &str, options: &LowerOptions| lowered(text, options).source_date_epoch;
    let mut options = options();
    let text = "ARG SOURCE_DATE_EPOCH=3\nFROM scratch\nWORKDIR /a\nARG SOURCE_DATE_EPOCH\nLABEL e=$SOURCE_DATE_EPOCH\n";
    assert_eq!(epoch("FROM scratch\n", &options), None);
    assert_eq!(epoch(text, &options), Some(3));
    options.source_date_epoch = Some(2);
    assert_eq!(epoch(text, &options), Some(2));
    assert_eq!(lowered(text, &options).config.config.labels["e"], "2");
    options.build_args.insert("SOURCE_DATE_EPOCH".to_owned(), Some("1".to_owned()));
    assert_eq!(epoch(text, &options), Some(1));
    assert!(plan(&lowered(text, &options)).contains("mkdir /a None Some(1)"));
}

#[test]
fn predefined_arguments_can_be_imported_and_overridden() {
    let text = "ARG TARGETOS=file\nFROM scratch AS Some\nARG TARGETPLATFORM TARGETOS TARGETVARIANT BUILDARCH TARGETSTAGE\n\
        LABEL a=$TARGETPLATFORM,$TARGETOS,$TARGETVARIANT,$BUILDARCH,$TARGETSTAGE,$TARGETARCH\nFROM Some\n";
    let mut options = options();
    options.platform = "linux/arm/v7".parse().unwrap();
    let label = |options: &LowerOptions| {
        lowered(&text.replace("FROM Some", "FROM some"), options).config.config.labels["a"].clone()
    };
    assert_eq!(label(&options), "linux/arm/v7,file,v7,amd64,default,");
    options.target = Some("SOME".to_owned());
    options.build_args.insert("BUILDARCH".to_owned(), Some("riscv64".to_owned()));
    options.build_args.insert("TARGETOS".to_owned(), None);
    assert_eq!(label(&options), "linux/arm/v7,file,v7,riscv64,SOME,");
}

#[test]
fn history_reads_like_that_of_buildkit() {
    let text = "FROM busybox\nARG A=1 B\nENV C=2 D=\"x y\"\nLABEL l=m\nEXPOSE 80-81 53/udp\nVOLUME /v [x]\nSTOPSIGNAL 9\nUSER u\n\
        WORKDIR /w\nCOPY --chown=1:2 --link a b/\nADD --chmod=0644 c /d\nRUN $A\nCMD [\"a\", \"b \\\"c\\\"\"]\nENTRYPOINT exec x\n\
        HEALTHCHECK --interval=90s CMD true\nSHELL [\"/bin/ash\", \"-c\"]\nMAINTAINER me\nONBUILD RUN x\n";
    let lowered = lowered(text, &options());
    insta::assert_snapshot!(created_by(&lowered).join("\n"), @r##"
    base
    ARG A=1 B
    ENV C=2 D=x y
    LABEL l=m
    EXPOSE [80/tcp 81/tcp 53/udp]
    VOLUME [/v [x]]
    STOPSIGNAL 9
    USER u
    WORKDIR /w
    COPY --chown=1:2 a b/ # buildkit
    ADD --chmod=0644 c /d # buildkit
    RUN |2 A=1 B= /bin/sh -c $A # buildkit
    CMD ["a" "b \"c\""]
    ENTRYPOINT ["/bin/sh" "-c" "exec x"]
    HEALTHCHECK {Test:[CMD-SHELL true] Interval:1m30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}
    SHELL [/bin/ash -c]
    MAINTAINER me
    "##);
    assert!(
        lowered.config.history.iter().skip(1).all(|entry| entry.comment.as_deref() == Some("buildkit.dockerfile.v0"))
    );
}

#[test]
fn labels_of_the_command_line_come_last() {
    let mut options = options();
    options.labels.insert("a".to_owned(), "cli".to_owned());
    let labels = lowered("FROM scratch\nLABEL a=file b=file\n", &options).config.config.labels;
    assert_eq!(
        labels.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
        ["a=cli", "b=file"]
    );
}

#[test]
fn the_image_is_for_the_target_unless_its_base_turns_out_not_to_be() {
    let mut options = options();
    options.platform = "linux/arm/v7".parse().unwrap();
    let found = |text: &str| lowered(text, &options).config.platform().to_string();
    assert_eq!(found("FROM busybox\n"), "linux/arm/v7");
    assert_eq!(found("FROM scratch\n"), "linux/arm/v7");
    // A tool that makes an image for the target.
    assert_eq!(found("FROM --platform=linux/amd64 busybox\n"), "linux/arm/v7");
    assert_eq!(found("FROM windows\n"), "windows/amd64");
    assert_eq!(
        warnings("FROM windows\n", &options),
        ["1: InvalidBaseImagePlatform: `windows` is for windows/amd64, not for linux/arm/v7"]
    );
}

#[test]
fn large_files_take_linear_time() {
    let mut text = "FROM busybox AS s0\n".to_owned();
    for number in 1..=2500 {
        writeln!(
            text,
            "ENV A{}=$A{}\nRUN echo {number}\nCOPY f{number} /f{number}\nFROM s{} AS s{number}",
            number % 50,
            (number + 7) % 50,
            number - 1
        )
        .unwrap();
    }
    let start = std::time::Instant::now();
    let lowered = lowered(&text, &options());
    let elapsed = start.elapsed();
    assert_eq!(lowered.graph.len(), 1 + 3 * 2500);
    assert_eq!(lowered.config.history.len(), 1 + 3 * 2500);
    assert!(elapsed < std::time::Duration::from_secs(20), "{elapsed:?}");

    // Nothing here may be compared with everything else, mistakes and suggestions included.
    let mut text = "FROM busybox AS s0\n".to_owned();
    for number in 1..=3000 {
        writeln!(text, "ENV VARIABLE_{number}={number}\nLABEL l=$VARAIBLE_{number}\nFROM scratch AS s{number}")
            .unwrap();
    }
    let last = text.replace("FROM scratch AS", "USER");
    assert_eq!(warnings(&last, &options()).len(), 3000);
    let wrong = text.replace("LABEL l=$VARAIBLE_", "COPY --from=s3000 a /a");
    let mut wrong = wrong.replace("FROM scratch", "FROM s0");
    for number in 1..3000 {
        writeln!(wrong, "COPY --from=s{number} a /a").unwrap();
    }
    assert_eq!(mistakes(&wrong, &options()).len(), 3000);
    assert!(start.elapsed() < std::time::Duration::from_secs(60), "{:?}", start.elapsed());
}
