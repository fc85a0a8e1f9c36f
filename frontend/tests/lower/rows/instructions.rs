//! Instructions that describe the image, and a few that there are not.

use super::*;

/// The history entries that have the text; that of `RUN` and its like ends in a comment.
fn histories(text: &str) -> Vec<String> {
    created_by(&lowered(&format!("FROM scratch\n{text}"), &options())).into_iter().map(str::to_owned).collect()
}

#[test]
fn commands() {
    table(&[
        ("A129 is stored", "CMD [\"a\", \"b\"]", &["Cmd [\"a\", \"b\"]"]),
        (
            "A129 the last one counts",
            "CMD [\"a\"]\nCMD b",
            &[
                "Cmd [\"/bin/sh\", \"-c\", \"b\"]",
                "?MultipleInstructionsDisallowed 2:1-10",
                "?JSONArgsRecommended 3:5-6",
            ],
        ),
        (
            "A129 in the shell that is set",
            "SHELL [\"ash\", \"-c\"]\nCMD a",
            &["Cmd [\"ash\", \"-c\", \"a\"]", "Shell [\"ash\", \"-c\"]"],
        ),
        (
            "A130 the last one counts",
            "ENTRYPOINT [\"a\"]\nENTRYPOINT b",
            &[
                "Entrypoint [\"/bin/sh\", \"-c\", \"b\"]",
                "?MultipleInstructionsDisallowed 2:1-17",
                "?JSONArgsRecommended 3:12-13",
            ],
        ),
        ("A130 beside a command", "ENTRYPOINT [\"a\"]\nCMD [\"b\"]", &["Entrypoint [\"a\"]", "Cmd [\"b\"]"]),
        (
            "A131 clears the command of the base",
            "FROM busybox\nENTRYPOINT [\"a\"]",
            &["image busybox linux/amd64", "Entrypoint [\"a\"]"],
        ),
        (
            "A131 but not the stage's own",
            "FROM busybox\nCMD [\"c\"]\nENTRYPOINT [\"a\"]",
            &["image busybox linux/amd64", "Entrypoint [\"a\"]", "Cmd [\"c\"]"],
        ),
        (
            "A131 wherever that stands",
            "FROM busybox\nENTRYPOINT [\"a\"]\nCMD [\"c\"]",
            &["image busybox linux/amd64", "Entrypoint [\"a\"]", "Cmd [\"c\"]"],
        ),
        (
            "A131 that of a stage below is the base's",
            "FROM busybox AS a\nCMD [\"c\"]\nFROM a\nENTRYPOINT [\"a\"]",
            &["image busybox linux/amd64", "Entrypoint [\"a\"]"],
        ),
        (
            "A132 an empty array clears",
            "FROM busybox\nCMD []\nENTRYPOINT [\"a\"]\nENTRYPOINT []",
            &["image busybox linux/amd64"],
        ),
        // As Docker 26.1.5 has it.
        (
            "A132 nothing is an empty line for the shell",
            "CMD\nENTRYPOINT",
            &["Entrypoint [\"/bin/sh\", \"-c\", \"\"]", "Cmd [\"/bin/sh\", \"-c\", \"\"]"],
        ),
    ]);
    let escaped = |text: &str| lowered(text, &options()).config.config.args_escaped;
    assert!(
        escaped("FROM scratch\nCMD a") && escaped("FROM scratch\nCMD [\"a\"]"),
        "A132 for those who read old configurations"
    );
    assert!(!escaped("FROM scratch\nENTRYPOINT a"));
}

#[test]
fn descriptions() {
    table(&[
        (
            "A134 for what follows, and the image",
            "RUN a\nENV A=1 B=\"2 3\"\nRUN b\nLABEL l=$B",
            &["sh: a", "sh: b {A=1} {B=2 3}", "Env A=1", "Env B=2 3", "Label l=2 3"],
        ),
        (
            "A134 set again in its place",
            "ENV A=1 B=2 C=3\nENV B=4 A=\nRUN x",
            &["sh: x {A=} {B=4} {C=3}", "Env A=", "Env B=4", "Env C=3"],
        ),
        ("A134 nothing is a value", "ENV A= B=\"\"", &["Env A=", "Env B="]),
        ("A134 needs a name", "ENV =x", &["!2:5-7 names in `ENV` cannot be blank [write `ENV NAME=x`]"]),
        (
            "A134 also an expanded one",
            "ENV $N=x",
            &[
                "!2:5-7 `ENV` needs a name, `$N` expands to nothing [give the variable a value with `ARG` or `ENV` above this line]",
            ],
        ),
        (
            "A135 added to those of the base",
            "FROM scratch AS a\nLABEL x=1 y=2\nFROM a\nLABEL y=3 z=\"4 \\\n5\"",
            &["Label x=1", "Label y=3", "Label z=4 5"],
        ),
        ("A135 single quotes keep a dollar", "ENV A=1\nLABEL a='$A' b=\"$A\"", &["Env A=1", "Label a=$A", "Label b=1"]),
        (
            "A136 ports, ranges, protocols",
            "EXPOSE 443 80/tcp 53/udp 9/sctp 20-22 7-8/UDP 0 65535",
            &[
                "Port 0/tcp",
                "Port 20/tcp",
                "Port 21/tcp",
                "Port 22/tcp",
                "Port 443/tcp",
                "Port 53/udp",
                "Port 65535/tcp",
                "Port 7/udp",
                "Port 8/udp",
                "Port 80/tcp",
                "Port 9/sctp",
                "?ExposeProtoCasing 2:39-46",
            ],
        ),
        (
            "A136 addresses and ports of the host mean nothing",
            "EXPOSE 80:81 127.0.0.1:1:2",
            &["Port 2/tcp", "Port 81/tcp", "?ExposeInvalidFormat 2:8-13", "?ExposeInvalidFormat 2:14-27"],
        ),
        (
            "A136 none of these",
            "EXPOSE 65536 x 2-1 80/icmp",
            &[
                "!2:8-13 invalid port `65536` in `EXPOSE`: ports are at most 65535",
                "!2:14-15 invalid port `x` in `EXPOSE`: expected port[-port][/protocol] [write a number or a range: `80`, `53/udp`, `8000-8010`]",
                "!2:16-19 invalid port range `2-1` in `EXPOSE`: it ends before it begins [write `1-2`]",
                "!2:20-27 invalid protocol `icmp` in `EXPOSE`: expected `tcp`, `udp` or `sctp`",
            ],
        ),
        (
            "A137 as it is written",
            "ARG U=a\nUSER $U:b\nRUN x\nCMD [\"c\"]",
            &["sh: x {U=a} as a:b", "Cmd [\"c\"]", "User a:b"],
        ),
        ("A137 a number", "USER 1000:1000\nRUN x", &["sh: x as 1000:1000", "User 1000:1000"]),
        ("A137 whether it exists does not matter here", "USER nobody-knows", &["User nobody-knows"]),
        ("A137 files are not its own", "USER a\nCOPY x /x\nADD y /y", &["copy x -> /x", "add y -> /y", "User a"]),
        (
            "A137 directories are",
            "USER a\nWORKDIR /w",
            &["mkdir /w Some(Owner { user: Name(\"a\"), group: None }) None", "User a", "Dir /w"],
        ),
        (
            "A139 absolute and relative",
            "WORKDIR /a\nWORKDIR b\nWORKDIR ../c/\nRUN x",
            &["mkdir /a None None", "mkdir /a/b None None", "mkdir /a/c None None", "sh: x in /a/c", "Dir /a/c"],
        ),
        (
            "A139 relative to the base's",
            "FROM scratch AS a\nWORKDIR /w\nFROM a\nWORKDIR x",
            &["mkdir /w None None", "mkdir /w/x None None", "Dir /w/x"],
        ),
        ("A139 variables", "ENV D=d\nWORKDIR /$D/${D}", &["mkdir /d/d None None", "Env D=d", "Dir /d/d"]),
        ("A139 blanks are part of it", "WORKDIR /a b", &["mkdir /a b None None", "Dir /a b"]),
        ("A139 the root makes no layer", "WORKDIR /", &[]),
        (
            "A139 the inherited one is not made",
            "FROM scratch AS a\nWORKDIR /w\nFROM a\nRUN x",
            &["mkdir /w None None", "sh: x in /w", "Dir /w"],
        ),
        ("A140 a list", "VOLUME /a /b", &["Volume /a", "Volume /b"]),
        ("A140 an array", "VOLUME [\"/a b\", \" /c \"]", &["Volume /a b", "Volume /c"]),
        ("A140 changes nothing else", "VOLUME /a\nRUN x\nCOPY a /a/", &["sh: x", "copy a -> /a/", "Volume /a"]),
        (
            "A140 an empty text",
            "VOLUME [\"\", \"/b\"]",
            &["!2:10-10 a `VOLUME` cannot be an empty text [write a path: `VOLUME [\"/data\"]`]"],
        ),
        (
            "A140 one that becomes empty",
            "VOLUME $N",
            &[
                "!2:8-10 `VOLUME` needs a path, `$N` expands to nothing [give the variable a value with `ARG` or `ENV` above this line]",
            ],
        ),
        ("A141 a name", "STOPSIGNAL SIGTERM", &["Signal SIGTERM"]),
        ("A141 without SIG, in any case", "STOPSIGNAL quit", &["Signal quit"]),
        ("A141 a number", "STOPSIGNAL 9", &["Signal 9"]),
        ("A141 a variable", "ARG S=SIGINT\nSTOPSIGNAL $S", &["Signal SIGINT"]),
        (
            "A141 neither",
            "STOPSIGNAL SIGFOO",
            &["!2:12-18 `SIGFOO` is not a signal [write a name such as `SIGTERM`, or a number]"],
        ),
        (
            "A141 none has it",
            "STOPSIGNAL 0",
            &["!2:12-13 `0` is not a signal [write a name such as `SIGTERM`, or a number]"],
        ),
        ("A141 misspelt", "STOPSIGNAL SIGTREM", &["!2:12-19 `SIGTREM` is not a signal [did you mean `SIGTERM`?]"]),
        (
            "A148 is the author",
            "MAINTAINER me <me@example.org>",
            &["Author me <me@example.org>", "?MaintainerDeprecated 2:1-31"],
        ),
        (
            "A149 INCLUDE",
            "INCLUDE common.Dockerfile",
            &[
                "!2:1-8 unknown instruction: `INCLUDE` [files are not put together here: make what is shared a stage or an \
               image, for `FROM` and `COPY --from`]",
            ],
        ),
        ("A149 UNSET", "UNSET A", &["!2:1-6 unknown instruction: `UNSET` [did you mean `USER`?]"]),
        (
            "A149 CROSS_BUILD",
            "CROSS_BUILD x",
            &[
                "!2:1-12 unknown instruction: `CROSS_BUILD` [the instructions are ADD, ARG, CMD, COPY, ENTRYPOINT, ENV, EXPOSE, FROM, HEALTHCHECK, LABEL, MAINTAINER, ONBUILD, RUN, SHELL, STOPSIGNAL, USER, VOLUME, WORKDIR]",
            ],
        ),
    ]);
    let options = {
        let mut options = options();
        options.labels.insert("a".to_owned(), "cli".to_owned());
        options
    };
    table_with(
        &options,
        &[("A135 the command line comes last", "LABEL a=file b=file", &["Label a=cli", "Label b=file"])],
    );
    assert_eq!(histories("WORKDIR /a\nWORKDIR /\nVOLUME /v\n"), ["WORKDIR /a", "WORKDIR /", "VOLUME [/v]"]);
    let layers: Vec<_> = lowered("FROM scratch\nWORKDIR /a\nWORKDIR /\nVOLUME /v\n", &options)
        .config
        .history
        .iter()
        .map(|entry| !entry.empty_layer)
        .collect();
    assert_eq!(layers, [true, false, false], "A139 and A140: what makes a layer");
}

#[test]
fn health_checks() {
    table(&[
        ("A142 an array", "HEALTHCHECK CMD [\"a\", \"b\"]", &["Check {\"Test\":[\"CMD\",\"a\",\"b\"]}"]),
        ("A142 a line for the shell", "HEALTHCHECK CMD a  b", &["Check {\"Test\":[\"CMD-SHELL\",\"a  b\"]}"]),
        ("A142 in any case", "healthcheck cmd a", &["Check {\"Test\":[\"CMD-SHELL\",\"a\"]}"]),
        (
            "A142 nothing",
            "HEALTHCHECK CMD",
            &["!2:13-16 missing command after `HEALTHCHECK CMD` [write `HEALTHCHECK CMD command`]"],
        ),
        (
            "A142 an empty array",
            "HEALTHCHECK CMD []",
            &["!2:13-16 missing command after `HEALTHCHECK CMD` [write `HEALTHCHECK CMD command`]"],
        ),
        (
            "A142 the last one counts",
            "HEALTHCHECK CMD a\nHEALTHCHECK CMD b",
            &["Check {\"Test\":[\"CMD-SHELL\",\"b\"]}", "?MultipleInstructionsDisallowed 2:1-18"],
        ),
        (
            "A142 a type there is not",
            "HEALTHCHECK curl localhost",
            &["!2:13-17 unknown type `curl` in `HEALTHCHECK` [write `HEALTHCHECK CMD command` or `HEALTHCHECK NONE`]"],
        ),
        ("A143 turns it off", "HEALTHCHECK NONE", &["Check {\"Test\":[\"NONE\"]}"]),
        (
            "A143 and has no arguments",
            "HEALTHCHECK NONE a",
            &["!2:1-19 `HEALTHCHECK NONE` takes no arguments [write `HEALTHCHECK NONE` and nothing else]"],
        ),
        (
            "A144 flags",
            "HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=1.5h --start-interval=1ms --retries=3 CMD a",
            &[
                "Check {\"Test\":[\"CMD-SHELL\",\"a\"],\"Interval\":90000000000,\"Timeout\":500000000,\"StartPeriod\":5400000000000,\"StartInterval\":1000000,\"Retries\":3}",
            ],
        ),
        (
            "A144 nothing is the default of whoever runs it",
            "HEALTHCHECK --interval=0 --retries=0 CMD a",
            &["Check {\"Test\":[\"CMD-SHELL\",\"a\"]}"],
        ),
        (
            "A144 no unit",
            "HEALTHCHECK --interval=5 CMD a",
            &[
                "!2:24-25 invalid duration `5` for `HEALTHCHECK --interval` [write a number and a unit: `5s`, `1m30s`, `500ms`]",
            ],
        ),
        (
            "A144 too short",
            "HEALTHCHECK --timeout=1us CMD a",
            &["!2:23-26 `--timeout` cannot be less than 1ms [write `0s` for the default]"],
        ),
        (
            "A144 less than no time",
            "HEALTHCHECK --timeout=-1s CMD a",
            &[
                "!2:23-26 invalid duration `-1s` for `HEALTHCHECK --timeout` [write a number and a unit: `30s`, `1m30s`, `500ms`]",
            ],
        ),
        (
            "A144 less than none",
            "HEALTHCHECK --retries=-1 CMD a",
            &["!2:23-25 invalid number `-1` for `HEALTHCHECK --retries` [write a number from 0 on]"],
        ),
    ]);
}

#[test]
fn shells_and_triggers() {
    table(&[
        (
            "A145 for later lines of the stage",
            "RUN a\nSHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]\nRUN b\nENTRYPOINT c\nCMD d\nHEALTHCHECK CMD e",
            &[
                "sh: a",
                "exec [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\", \"b\"]",
                "Entrypoint [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\", \"c\"]",
                "Cmd [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\", \"d\"]",
                "Shell [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]",
                "Check {\"Test\":[\"CMD-SHELL\",\"e\"]}",
            ],
        ),
        (
            "A145 and for those built on it",
            "FROM scratch AS a\nSHELL [\"s\"]\nFROM a\nRUN x\nFROM scratch\nCOPY --from=1 / /\nRUN y",
            &["exec [\"s\", \"x\"]", "copy  -> /", "sh: y"],
        ),
        (
            "A146 is stored as it is written",
            "ONBUILD run  \\\n  a $B\nonbuild COPY . /x",
            &["OnBuild run    a $B", "OnBuild COPY . /x"],
        ),
        (
            "A146 these are no triggers",
            "ONBUILD ONBUILD RUN a\nONBUILD FROM a\nONBUILD MAINTAINER a",
            &[
                "!2:9-16 chaining `ONBUILD ONBUILD` is not allowed [write `ONBUILD` once: a trigger runs in images built on this one]",
                "!3:9-13 `FROM` is not allowed as an `ONBUILD` trigger [remove the line: triggers run behind the `FROM` of whoever builds on this image]",
                "!4:9-19 `MAINTAINER` is not allowed as an `ONBUILD` trigger [write `ONBUILD LABEL org.opencontainers.image.authors=\"…\"`]",
            ],
        ),
        (
            "A146 run first, in order, once",
            "FROM scratch AS a\nONBUILD RUN one\nONBUILD ENV A=1\nRUN own\nFROM a AS b\nRUN two\nFROM b\nRUN three",
            &["sh: own", "sh: one", "sh: two {A=1}", "sh: three {A=1}", "Env A=1"],
        ),
        (
            "A146 of an image too",
            "FROM busybox AS tools\nFROM triggers\nRUN own",
            &[
                "image busybox linux/amd64",
                "image triggers linux/amd64",
                "copy  -> /app",
                "copy tool -> /tool",
                "sh: make $UNSET",
                "sh: own",
            ],
        ),
        (
            "A147 with here-documents and stages of who builds on it",
            "FROM scratch AS a\nONBUILD COPY <<E /x\n$A\nE\nONBUILD COPY --from=tools t /t\nONBUILD RUN --mount=from=tools,target=/m <<E\nx\nE\n\
            FROM busybox AS tools\nFROM a",
            &[
                "image busybox linux/amd64",
                "copy <<E=\"\\n\" -> /x",
                "copy t -> /t",
                "sh: x\n; /m Bind { input: 1, source: \"/\", writable: false }",
            ],
        ),
        ("A147 stored with the text", "ONBUILD COPY <<E /x\na\nE", &["OnBuild COPY <<E /x\na\nE"]),
        (
            "A147 mistakes are found where they are written",
            "ONBUILD RNU a\nONBUILD COPY a",
            &[
                "!2:9-12 unknown instruction: `RNU` [did you mean `RUN`?]",
                "!3:9-15 `COPY` requires at least two arguments, but only one was provided: the destination is missing [write `COPY source… destination`]",
            ],
        ),
    ]);
}
