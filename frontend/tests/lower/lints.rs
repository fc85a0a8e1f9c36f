//! Which lints need values, images or the ignore file?

use rbuild_frontend::{Bases, IgnoreFile, Overrides, StageUse, Surroundings, check, examine};

use super::*;

fn ignoring(patterns: &str) -> LowerOptions {
    LowerOptions { ignored: IgnoreFile::parse(patterns).unwrap(), ..options() }
}

#[test]
fn a222_copies_of_what_is_ignored() {
    let file = "FROM scratch\nCOPY Dockerfile .\nADD /Dockerfile /windy\nCOPY --from=busybox Dockerfile /x\n";
    let cases: [(&str, &str, &[u8]); 9] = [
        ("Dockerfile\n", file, &[2, 3]),
        ("*\n!Dockerfile\n", file, &[]),
        ("foobar\n", file, &[]),
        ("src\n", "FROM scratch\nCOPY ./src/../src/a b /c/\n", &[2]),
        (".*\n", "FROM scratch\nCOPY . .\n", &[]),
        ("**\n", "FROM scratch\nCOPY . .\nCOPY / .\n", &[2, 3]),
        ("Dockerfile\n", "FROM scratch\nARG D=Dockerfile\nCOPY $D .\n", &[3]),
        ("Dockerfile\n", "FROM scratch\n# check=skip=CopyIgnoredFile\nCOPY Dockerfile .\n", &[]),
        ("Dockerfile\n", "FROM scratch\nCOPY <<Dockerfile /x\nDockerfile\n", &[]),
    ];
    for (patterns, text, lines) in cases {
        let found = warnings(text, &ignoring(patterns));
        let expected: Vec<_> = lines.iter().map(|line| format!("{line}: CopyIgnoredFile")).collect();
        let found: Vec<_> =
            found.iter().map(|found| found.splitn(3, ':').take(2).collect::<Vec<_>>().join(":")).collect();
        assert_eq!(found, expected, "{patterns:?} {text}");
    }
}

#[test]
fn a069_arguments_that_hide_variables() {
    let cases: [(&str, &[&str]); 6] = [
        ("FROM busybox\nENV A=1\nARG A=2\nRUN true\n", &["3"]),
        ("FROM busybox\nENV A=1\nARG A=2\nENV A=$A\n", &[]),
        ("FROM busybox\nARG A=2\nENV A=$A\n", &[]),
        ("FROM busybox\nENV A=1\nARG A\n", &[]),
        ("FROM busybox AS a\nENV A=1\nFROM a\nARG A=2 PATH=/bin\n", &["4", "4"]),
        ("FROM busybox\nENV A=1\n# check=skip=ArgOverridesEnv\nARG A=2\n", &[]),
    ];
    for (text, lines) in cases {
        let found = warnings(text, &options());
        let expected: Vec<_> = lines.iter().map(|line| format!("{line}: ArgOverridesEnv")).collect();
        let found: Vec<_> =
            found.iter().map(|found| found.splitn(3, ':').take(2).collect::<Vec<_>>().join(":")).collect();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn a217_images_for_another_platform() {
    let found = warnings("FROM windows\nENV a=b\n", &options());
    assert_eq!(found, ["1: InvalidBaseImagePlatform: `windows` is for windows/amd64, not for linux/amd64"]);
}

#[test]
fn a214_variables_of_every_form() {
    let text = "FROM busybox AS base\nARG foo=x\nFROM base\nCOPY $foo .\nCOPY <<E /a\n$bar\nE\nRUN echo $baz\nARG bar\nLABEL a=$bar\n";
    assert_eq!(
        warnings(text, &options()),
        ["6: UndefinedVar: `$bar` is not defined here: no `ARG` or `ENV` above gives it a value"]
    );
}

#[test]
fn a226_stages_that_are_not_built_are_not_judged_by_what_they_do() {
    let text = "FROM busybox AS Unused\nENV a b\nCOPY $x .\nFROM busybox\nCMD a\n";
    let file = parse(&Source::new("Dockerfile", text)).unwrap();
    let rules = |options: &LowerOptions| {
        let lowered = run(lower(&file, options, &Registry::default())).unwrap();
        let mut found = check(&file);
        lowered.correct(&mut found);
        let found = found.iter().chain(&lowered.warnings).map(|found| found.rule.unwrap().name());
        found.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(rules(&options()), "StageNameCasing JSONArgsRecommended");
    let all = LowerOptions { stages: StageUse::All, ..options() };
    assert_eq!(rules(&all), "StageNameCasing LegacyKeyValueFormat JSONArgsRecommended UndefinedVar");
}

#[test]
fn a001_files_keep_bytes_that_are_no_text() {
    let source = Source::from_bytes(
        "Dockerfile",
        b"FROM scratch\nENV A=\xc3\xa9\nCOPY <<a <<'b' /d/\n\xff$A\xfe\na\n$\xff\nb\nRUN <<c\n#!/bin/x\n\xfd\nc\n"
            .to_vec(),
    );
    let file = parse(&source).unwrap();
    let lowered = run(lower(&file, &options(), &Registry::default())).unwrap();
    let mut found = Vec::new();
    for (_, vertex) in lowered.graph.vertices() {
        match &vertex.op {
            Op::File(op) => {
                for action in &op.actions {
                    if let FileAction::Copy(copy) = action {
                        found.extend(copy.sources.iter().filter_map(|source| match source {
                            CopySource::Inline { data, .. } => Some(data.clone()),
                            CopySource::Path { .. } => None,
                        }));
                    }
                }
            }
            Op::Exec(op) => found.extend(op.mounts.iter().filter_map(|mount| match &mount.kind {
                ExecMountKind::Inline { data, .. } => Some(data.clone()),
                _ => None,
            })),
            _ => {}
        }
    }
    assert_eq!(found, [&b"\xff\xc3\xa9\xfe\n"[..], b"$\xff\n", b"#!/bin/x\n\xfd\n"]);
}

/// What is found without images: the line and the rule, or `error`.
fn examined(text: &str, surroundings: &Surroundings) -> Vec<String> {
    let source = Source::new("Dockerfile", text);
    let found = examine(&source, surroundings);
    let line = |found: &Diagnostic| source.position(found.span().start).line;
    found.iter().map(|found| format!("{} {}", line(found), found.rule.map_or("error", |rule| rule.name()))).collect()
}

#[test]
fn without_images_only_what_is_certain_is_said() {
    let cases: [(&str, &[&str]); 12] = [
        ("FROM node\nCOPY $SOMETHING .\nWORKDIR $HOME\nWORKDIR b\n", &[]),
        ("FROM scratch\nCOPY $SOMETHING .\n", &["2 UndefinedVar"]),
        ("FROM node\nARG ASSETS=a\nCOPY $ASSET .\n", &["3 UndefinedVar"]),
        ("ARG V=1\nFROM node\nLABEL v=$V\n", &["3 UndefinedVar"]),
        ("ARG BASE\nFROM $BASE\n", &["2 InvalidDefaultArgInFrom"]),
        ("ARG P\nFROM --platform=$P node\n", &[]),
        ("FROM node\nARG V\nENV A=${V:?required}\nEXPOSE $V\nSTOPSIGNAL $V\nVOLUME $V\n", &[]),
        ("FROM node AS builder\nFROM node\nCOPY --from=1 a /b\n", &["3 error"]),
        ("FROM node\nSTOPSIGNAL nosuch\nUSER a\n", &["2 error"]),
        ("FROM node AS a\nENV b c\nFROM node\nENV d e\n", &["2 LegacyKeyValueFormat", "4 LegacyKeyValueFormat"]),
        ("FROM node\nENV A=1\nARG A=2\n", &["3 ArgOverridesEnv"]),
        ("FROM node\nFRMO x\nCOPY a\n", &["2 error", "3 error"]),
    ];
    for (text, expected) in cases {
        assert_eq!(examined(text, &Surroundings::default()), expected, "{text}");
    }
}

#[test]
fn a024_other_wishes_replace_those_of_the_file() {
    let overrides = Overrides { check: Some("skip=FromAsCasing // why".to_owned()), syntax: None };
    let surroundings = Surroundings { overrides, ..Surroundings::default() };
    let text = "# check=skip=all\nFROM node as a\nENV b c\n";
    assert_eq!(examined(text, &surroundings), ["3 LegacyKeyValueFormat"]);
    assert_eq!(examined(text, &Surroundings::default()), <[String; 0]>::default());
    let target = Surroundings { target: Some("a".to_owned()), ..Surroundings::default() };
    assert_eq!(examined("FROM node AS a\nFROM node\nCOPY --from=9 a b\n", &target), <[String; 0]>::default());
}

#[test]
fn a026_outlines_are_those_of_buildkit() {
    let text = "ARG inherited=box\nARG inherited2=box2\nARG unused=abc${inherited2}\n# sfx is a suffix\n\
        ARG sfx=\"usy${inherited}\"\nFROM b${sfx} AS first\n# this is not assigned to anything\nARG FOO=123\n\
        # BAR is a number\nARG BAR=456\nRUN --mount=type=secret,id=s$BAR,required true\n\
        FROM alpine${unused} AS second\nARG BAZ\nRUN --mount=type=ssh true\nFROM scratch AS third\nARG ABC=a\n\
        # check=skip=all\nARG password\n# other will show up\n# check=skip=all\nARG other\n\
        # target defines build target\nFROM third AS target\nCOPY --from=first /etc/passwd /\n\
        RUN --mount=type=cache,target=/c/ --mount=type=ssh,id=x,required --mount=type=secret,target=/y/z true\nFROM second\n";
    let file = parse(&Source::new("Dockerfile", text)).unwrap();
    let mut surroundings = Surroundings { target: Some("target".to_owned()), ..Surroundings::default() };
    surroundings.build_args.insert("BAR".to_owned(), Some("678".to_owned()));
    let outline = rbuild_frontend::outline(&file, &surroundings).unwrap();
    assert_eq!(
        (outline.name.as_deref(), outline.description.as_deref()),
        (Some("target"), Some("defines build target"))
    );
    let args: Vec<_> = outline.args.iter().map(|arg| (&*arg.name, &*arg.value, arg.description.as_deref())).collect();
    assert_eq!(
        args,
        [
            ("inherited", "box", None),
            ("sfx", "usybox", Some("is a suffix")),
            ("FOO", "123", None),
            ("BAR", "678", Some("is a number")),
            ("ABC", "a", None),
            ("password", "", None),
            ("other", "", Some("will show up")),
        ]
    );
    let mounts = |mounts: &[rbuild_frontend::OutlineMount]| {
        mounts.iter().map(|mount| format!("{}{}", mount.id, if mount.required { "!" } else { "" })).collect::<Vec<_>>()
    };
    assert_eq!(mounts(&outline.secrets), ["s678!", "z"]);
    assert_eq!(mounts(&outline.ssh), ["x!"]);
    assert_eq!(mounts(&outline.caches), ["/c"]);
}

#[test]
fn a026_outlines_follow_defaults() {
    let text = "ARG FOO=123\nARG ABC=abc\nARG DEF=def\nARG FOO=${FOO}${ABC}\nARG BAR=${FOO}456\n\
        ARG FOO=${FOO}456${BAR}\nFROM scratch\nARG FOO\nARG INFOO=123\nARG INBAR=${INFOO}456\nARG INFOO=${INFOO}456${INBAR}\n";
    let file = parse(&Source::new("Dockerfile", text)).unwrap();
    let outline = rbuild_frontend::outline(&file, &Surroundings::default()).unwrap();
    let args: Vec<_> = outline.args.iter().map(|arg| (&*arg.name, &*arg.value)).collect();
    assert_eq!(
        args,
        [
            ("ABC", "abc"),
            ("BAR", "123abc456"),
            ("FOO", "123abc456123abc456"),
            ("INBAR", "123456"),
            ("INFOO", "123456123456"),
        ]
    );
    assert_eq!(LowerOptions::new(options().platform).bases, Bases::Known);
}
