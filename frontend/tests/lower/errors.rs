//! Which mistakes are found, where, and which uses are worth a warning?

use super::*;

#[test]
fn mistakes_are_reported_with_their_lines() {
    let cases: &[(&str, &[&str])] = &[
        (
            "FROM busybox\nARG M=99999\nCOPY --chmod=$M a /a\n",
            &["3: invalid mode `99999` in `--chmod` [an octal mode is between 0 and 07777]"],
        ),
        ("FROM busybox\nENV P=notaport\nEXPOSE $P\n", &["3: "]),
        ("ARG NOTHING\nFROM ${NOTHING}\nRUN true\n", &["2: `${NOTHING}` names no image: it expands to nothing"]),
        ("FROM busybox\nENV A=1\nLABEL x=${A:?}\"${B:?no b}\"\n", &["3: `B`: no b"]),
        (
            "FROM busybox AS a\nCOPY --from=b /p /p\nFROM busybox AS b\nCOPY --from=a /p /p\n",
            &["2: circular dependency: stage `b` needs this stage itself"],
        ),
        (
            "FROM busybox AS a\nCOPY --from=b /p /p\nFROM a AS b\nRUN --mount=from=a,target=/m true\n",
            &["2: circular dependency: stage `b` needs this stage itself"],
        ),
        ("FROM busybox AS a\nCOPY --from=a /p /p\n", &["2: circular dependency: the stage copies from itself as `a`"]),
        (
            "FROM busybox AS a\nCOPY --from=1 /p /p\nFROM busybox AS b\nFROM a\n",
            &["2: stage `1` is defined later, only earlier stages can be used"],
        ),
        ("FROM busybox\nCOPY --from=3 /p /p\n", &["2: stage 3 does not exist: there are 1, counted from 0"]),
        (
            "FROM busybox AS builder\nFROM scratch\nCOPY --from=biulder /p /p\n",
            &["3: biulder Some(\"did you mean `builder`?\")"],
        ),
        ("FROM scratch\nCOPY --from=NoImage /p /p\n", &["2: `NoImage` is no stage and no image: "]),
        ("FROM scratch\nFROM nosuchimage\n", &["2: nosuchimage None"]),
        ("FROM busybox AS Base\nFROM Base\n", &["2: invalid image name: "]),
        (
            "FROM busybox\nCOPY a b /c\n",
            &["2: with several sources the destination is a directory: `/c` must end in `/`"],
        ),
        ("FROM busybox\nCOPY a[ /c\n", &["2: malformed pattern `a[`: a `[` is not closed"]),
        ("FROM busybox\nCOPY --exclude=a[ . /c\n", &["2: malformed pattern `a[`: a `[` is not closed"]),
        ("FROM busybox\nCOPY --chown=a:b:c a /c\n", &["2: invalid owner `a:b:c`"]),
        (
            "FROM busybox\nARG T=wormhole\nRUN --mount=type=$T,target=/x true\n",
            &["3: unsupported mount type `wormhole` in `type=$T`"],
        ),
        ("FROM scratch\nRUN --mount=type=tmpfs,target=. true\n", &["2: invalid mount target `/`"]),
        ("FROM busybox\nSTOPSIGNAL SIGTREM\n", &["2: `SIGTREM` is not a signal [did you mean `SIGTERM`?]"]),
        ("FROM busybox\nVOLUME $NOPE\n", &["2: `VOLUME` needs a path, `$NOPE` expands to nothing"]),
        ("FROM busybox\nENV $NOPE=1\n", &["2: `ENV` needs a name, `$NOPE` expands to nothing"]),
        ("ARG P\nFROM --platform=$P busybox\n", &["2: `--platform=$P` expands to nothing"]),
        ("ARG P=x\nFROM --platform=$P busybox\n", &["2: `x` is not a platform: expected OS/ARCH or OS/ARCH/VARIANT"]),
        (
            "FROM busybox\nCOPY a b c\nSTOPSIGNAL no\nRUN true\nVOLUME $NOPE\n",
            &[
                "2: with several sources the destination is a directory: `c` must end in `/`",
                "3: `no` is not a signal",
                "5: `VOLUME` needs a path, `$NOPE` expands to nothing",
            ],
        ),
        (
            "FROM broken\n",
            &[
                "1: trigger `CPOY a b` of the base image: unknown instruction",
                "1: trigger `WORKDIR` of the base image: ",
            ],
        ),
    ];
    for (text, expected) in cases {
        let found = mistakes(text, &options());
        assert_eq!(found.len(), expected.len(), "{text}\n{found:#?}");
        for (found, expected) in found.iter().zip(*expected) {
            assert!(found.starts_with(expected), "{text}\n{found}\n{expected}");
        }
    }
}

#[test]
fn an_unknown_target_is_a_mistake_with_a_suggestion() {
    let mut options = options();
    for (target, expected) in [
        ("biuld", "1: target stage `biuld` does not exist [did you mean `build`?]"),
        ("nowhere", "1: target stage `nowhere` does not exist [the stages are `build`]"),
        ("0", "1: target stage `0` does not exist [the stages are `build`]"),
    ] {
        options.target = Some(target.to_owned());
        assert_eq!(mistakes("FROM busybox AS build\n", &options), [expected]);
    }
}

#[test]
fn mistakes_in_stages_nobody_needs_are_not_reported() {
    let text = "FROM nosuchimage AS dead\nCOPY --from=later a /a\nSTOPSIGNAL no\nFROM scratch AS later\n";
    assert_eq!(mistakes(text, &options()), <[String; 0]>::default());
}

#[test]
fn a_mistake_in_a_trigger_is_shown_at_the_from_that_brings_it_in() {
    let found = mistakes("FROM busybox AS tools\n\nFROM triggers\n", &options());
    assert_eq!(found, <[String; 0]>::default());
    let found = warnings("FROM busybox AS tools\n\nFROM triggers\nLABEL a=$UNSET\n", &options());
    assert_eq!(found, ["4: UndefinedVar: `$UNSET` is not defined here: no `ARG` or `ENV` above gives it a value"]);
    let found = mistakes("FROM triggers\n", &options());
    assert_eq!(found, ["1: tools None"]);
}

#[test]
fn values_are_worth_warnings() {
    let mut options = options();
    options.build_args.insert("VERSIN".to_owned(), Some("1".to_owned()));
    options.build_args.insert("HTTP_PROXY".to_owned(), Some("x".to_owned()));
    options.build_args.insert("BUILDKIT_INLINE_CACHE".to_owned(), Some("1".to_owned()));
    let text = "ARG VERSION\nFROM busybox\nENV X=a P=80/TCP Q=1:2\nLABEL a=$VERSION b=${NOPE:-x} c=$PAHT\nWORKDIR $X\n\
        EXPOSE $P $Q\nARG DECLARED\nLABEL d=$DECLARED\nWORKDIR b\n# check=skip=UndefinedVar\nLABEL e=$NO\n";
    assert_eq!(
        warnings(text, &options),
        [
            "1: UnusedBuildArg: build argument `VERSIN` is not used: no `ARG` declares it [did you mean `VERSION`?]",
            "1: UnsupportedBuildArg: build argument `BUILDKIT_INLINE_CACHE` is not supported: no cache is written into the image",
            "4: UndefinedVar: `$VERSION` is not defined here: no `ARG` or `ENV` above gives it a value [write `ARG VERSION` in this stage to use the global argument]",
            "4: UndefinedVar: `$NOPE` is not defined here: no `ARG` or `ENV` above gives it a value",
            "4: UndefinedVar: `$PAHT` is not defined here: no `ARG` or `ENV` above gives it a value [did you mean `PATH`?]",
            "5: WorkdirRelativePath: relative `WORKDIR a` depends on where the base image starts",
            "6: ExposeProtoCasing: the protocol in `EXPOSE 80/TCP` should be lower case",
            "6: ExposeInvalidFormat: `EXPOSE 1:2` publishes nothing: an image only says which ports it listens on",
        ]
    );
    let quiet = format!("# check=skip=all\n{text}");
    assert_eq!(warnings(&quiet, &options), <[String; 0]>::default());
}

#[test]
fn whatever_is_written_is_lowered_or_has_mistakes() {
    let stages = [
        "FROM busybox",
        "FROM scratch AS a",
        "FROM a AS b",
        "FROM b AS a",
        "FROM triggers",
        "FROM ${X}",
        "FROM empty AS 0",
    ];
    let lines = [
        "ARG X",
        "ARG X=busybox Y=$X",
        "ENV A=$X B=\"$A\"",
        "ENV $X=1",
        "WORKDIR $A",
        "WORKDIR ..",
        "USER $B:",
        "VOLUME [\"$A\"]",
        "EXPOSE $A 1-3",
        "COPY --from=a / .",
        "COPY --from=0 .. ../..",
        "COPY --parents --from=b ./././x/./y $X/",
        "ADD x /",
        "COPY --chown=$A --chmod=$B --link . .",
        "COPY <<a <<b /\n$A\na\n${B:-x\nb",
        "RUN <<EOF\n#!x\nEOF",
        "RUN x <<EOF\ny\nEOF",
        "RUN --mount=from=a,target=. --mount=type=$X,target=$A true",
        "RUN --mount=from=2,source=../..,target=/a true",
        "RUN --mount=type=secret,id=$A,env=$B true",
        "RUN []",
        "CMD []",
        "ENTRYPOINT",
        "HEALTHCHECK NONE",
        "SHELL [\"\"]",
        "ONBUILD COPY --from=a . .",
        "ONBUILD ENV X=$X",
        "STOPSIGNAL $X",
        "LABEL a=$A $B=x",
        "MAINTAINER x",
    ];
    // A fixed walk through the combinations: the same on every run.
    let mut state = 1_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut sound = 0;
    for _ in 0..1500 {
        let mut text = String::new();
        for _ in 0..next(6) {
            text.extend([stages[next(stages.len())], "\n"]);
            for _ in 0..next(5) {
                text.extend([lines[next(lines.len())], "\n"]);
            }
        }
        sound += usize::from(mistakes(&text, &options()).is_empty());
    }
    assert!(sound > 50, "only {sound} of the files were lowered to the end");
}
