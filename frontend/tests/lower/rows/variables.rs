//! Arguments: who sees them, who sets them, which there are without anyone saying so.

use super::*;

fn with_args(args: &[(&str, Option<&str>)]) -> LowerOptions {
    let mut options = options();
    options.build_args = args.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect();
    options
}

#[test]
fn declarations_and_scopes() {
    table_with(
        &with_args(&[("GIVEN", Some("cli $A \"q\"")), ("UNSET", None), ("EMPTY", Some(""))]),
        &[
            ("A064 the default, expanded", "ARG A=1\nARG B=\"$A 2\"\nRUN x", &["sh: x {A=1} {B=1 2}"]),
            ("A064 the command line wins", "ARG GIVEN=file\nRUN x", &["sh: x {GIVEN=cli $A \"q\"}"]),
            ("A064 also with nothing", "ARG EMPTY=file\nRUN x", &["sh: x {EMPTY=}"]),
            ("A064 a global one of the name", "ARG G=global\nFROM scratch\nARG G\nRUN x", &["sh: x {G=global}"]),
            ("A064 or else nothing", "ARG N\nRUN x\nLABEL a=${N-unset}", &["sh: x", "Label a=unset"]),
            ("A064 several in a line", "ARG A=1 B C=3\nRUN x", &["sh: x {A=1} {C=3}"]),
            ("A064 not before its line", "LABEL a=$A\nRUN x\nARG A=1\nRUN y", &["sh: x", "sh: y {A=1}", "Label a="]),
            ("A065 a stage sees no global one", "ARG G=1\nFROM scratch\nRUN x\nLABEL g=$G", &["sh: x", "Label g="]),
            ("A065 FROM does", "ARG G=busybox\nFROM ${G}", &["image busybox linux/amd64", "Cmd [\"sh\"]"]),
            ("A065 a default of its own wins", "ARG G=1\nFROM scratch\nARG G=2\nRUN x", &["sh: x {G=2}"]),
            ("A066 until the end of the stage", "FROM scratch AS a\nARG A=1\nFROM scratch\nRUN x", &["sh: x"]),
            (
                "A066 and of those built on it",
                "FROM scratch AS a\nARG A=1\nFROM a AS b\nRUN x\nFROM b\nRUN y\nLABEL a=$A",
                &["sh: x {A=1}", "sh: y {A=1}", "Label a=1"],
            ),
            ("A067 without a value counts as not given", "ARG UNSET=file\nRUN x", &["sh: x {UNSET=file}"]),
            ("A068 never expands", "ARG A=1 GIVEN\nLABEL g=$GIVEN", &["Label g=cli $A \"q\""]),
            ("A068 nobody asks for it", "ARG GIVEN EMPTY", &["?UnusedBuildArg 1:1-1"]),
        ],
    );
}

#[test]
fn arguments_and_environment() {
    table(&[
        (
            "A069 whichever comes last is what RUN sees, the image keeps ENV",
            "ENV A=env\nARG A=arg\nRUN x $A\nLABEL a=$A",
            &["sh: x $A {A=arg}", "Env A=env", "Label a=arg"],
        ),
        (
            "A069 the other way round",
            "ARG A=arg\nENV A=env\nRUN x\nLABEL a=$A",
            &["sh: x {A=env}", "Env A=env", "Label a=env"],
        ),
        ("A069 one that has no value changes nothing", "ENV A=env\nARG A\nRUN x", &["sh: x {A=env}", "Env A=env"]),
        (
            "A070 in the environment of RUN, not of the image",
            "ARG A=1\nRUN x\nCMD x",
            &["sh: x {A=1}", "Cmd [\"/bin/sh\", \"-c\", \"x\"]"],
        ),
        (
            "A072 secrets are named",
            "ARG GITHUB_TOKEN\nENV PASSWORD=x",
            &["Env PASSWORD=x", "?SecretsUsedInArgOrEnv 2:5-17", "?SecretsUsedInArgOrEnv 3:5-13"],
        ),
        (
            "A075 FROM sees platforms",
            "FROM --platform=$BUILDPLATFORM busybox AS ${TARGETARCH}",
            &[
                "!1:43-56 invalid name for build stage: `${TARGETARCH}` [a name begins with a letter and goes on with letters, digits, `-`, `_` and `.`; variables are not replaced here]",
            ],
        ),
        (
            "A075 stages once they declare them",
            "ARG TARGETOS BUILDVARIANT TARGETOSVERSION\nLABEL a=$TARGETOS,$TARGETARCH,$BUILDVARIANT,$TARGETOSVERSION.",
            &["Label a=linux,,,.", "?UndefinedVar 3:19-30"],
        ),
    ]);
    let history = |text: &str, options: &LowerOptions| created_by(&lowered(text, options)).join("\n");
    let secret = with_args(&[("TOKEN", Some("s3cret"))]);
    // "A070 in history", "A072 which is why secrets do not belong there".
    assert_eq!(
        history("FROM scratch\nARG TOKEN\nRUN x", &secret),
        "ARG TOKEN=s3cret\nRUN |1 TOKEN=s3cret /bin/sh -c x # buildkit"
    );
}

/// The keys of the vertices do not tell what is in the environment of which RUN: the op does.
#[test]
fn a071_an_argument_changes_what_comes_after_it_and_uses_it() {
    let text = "ARG GLOBAL\nFROM scratch\nRUN before\nARG A\nCOPY a /a\nCOPY $A /b\nLABEL a=$A\nRUN after\n";
    let ops = |args: &[(&str, Option<&str>)]| {
        let lowered = lowered(text, &with_args(args));
        lowered.graph.vertices().map(|(_, vertex)| format!("{:?}", vertex.op)).collect::<Vec<_>>()
    };
    let one = ops(&[("A", Some("1")), ("GLOBAL", Some("1"))]);
    let other = ops(&[("A", Some("2")), ("GLOBAL", Some("2"))]);
    let differ: Vec<_> = one.iter().zip(&other).filter(|(one, other)| one != other).map(|(one, _)| one).collect();
    let [context, copy, run] = &differ[..] else { panic!("{differ:#?}") };
    assert!(context.starts_with("Local(") && copy.starts_with("File(") && run.contains("after"), "{differ:#?}");
}

#[test]
fn a073_proxies_are_there_without_a_declaration_and_leave_no_trace() {
    let text = "FROM scratch\nRUN x\n";
    let all = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];
    for name in all.into_iter().flat_map(|name| [name.to_owned(), name.to_lowercase()]) {
        let options = with_args(&[(&name, Some("http://proxy"))]);
        let found = lowered(text, &options);
        let (_, last) = found.graph.vertices().last().unwrap();
        let Op::Exec(exec) = &last.op else { panic!("the last vertex is the RUN") };
        assert!(exec.proxy_env.contains(&(name.clone(), "http://proxy".to_owned())), "{name}");
        assert!(exec.env.iter().all(|(variable, _)| variable == "PATH"), "{name} is in the key");
        assert_eq!(created_by(&found), ["RUN /bin/sh -c x # buildkit"], "{name} is in the history");
        assert_eq!(warnings(text, &options), <[String; 0]>::default());

        let declared = lowered(&format!("FROM scratch\nARG {name}\nRUN x\n"), &options);
        let (_, last) = declared.graph.vertices().last().unwrap();
        let Op::Exec(exec) = &last.op else { panic!("the last vertex is the RUN") };
        assert!(exec.env.iter().any(|pair| pair == (name.as_str(), "http://proxy")), "{name} is declared");
        assert!(created_by(&declared)[1].contains(&format!("{name}=http://proxy")), "{name} is declared");
    }
}

#[test]
fn a075_a076_predefined_arguments_say_what_is_built_and_where() {
    let text = "FROM scratch AS First\nARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT BUILDPLATFORM BUILDOS BUILDARCH BUILDVARIANT TARGETSTAGE\n\
        LABEL t=$TARGETPLATFORM,$TARGETOS,$TARGETARCH,$TARGETVARIANT b=$BUILDPLATFORM,$BUILDOS,$BUILDARCH,$BUILDVARIANT s=$TARGETSTAGE\nFROM first\n";
    let labels = |options: &LowerOptions| {
        let labels = lowered(text, options).config.config.labels;
        ["t", "b", "s"].map(|name| labels[name].clone())
    };
    let mut options = options();
    options.platform = "linux/arm/v7".parse().unwrap();
    assert_eq!(labels(&options), ["linux/arm/v7,linux,arm,v7", "linux/amd64,linux,amd64,", "default"]);
    options.target = Some("first".to_owned());
    options.build_args.insert("TARGETARCH".to_owned(), Some("mine".to_owned()));
    assert_eq!(labels(&options), ["linux/arm/v7,linux,mine,v7", "linux/amd64,linux,amd64,", "first"]);
}

#[test]
fn a077_a078_arguments_of_the_builder_are_its_own() {
    let options = with_args(&[
        ("BUILDKIT_SANDBOX_HOSTNAME", Some("box")),
        ("BUILDKIT_CACHE_MOUNT_NS", Some("mine")),
        ("BUILDKIT_DOCKERFILE_CHECK", Some("skip=all")),
        ("BUILDKIT_SBOM_SCAN_STAGE", Some("true")),
    ]);
    let text = "ARG BUILDKIT_SBOM_SCAN_CONTEXT=true\nFROM scratch\nARG BUILDKIT_SBOM_SCAN_STAGE BUILDKIT_SBOM_SCAN_CONTEXT\n\
        RUN --mount=type=cache,target=/c x\n";
    assert_eq!(warnings(text, &options), <[String; 0]>::default());
    let found = lowered(text, &options);
    let (_, last) = found.graph.vertices().last().unwrap();
    let Op::Exec(exec) = &last.op else { panic!("the last vertex is the RUN") };
    assert_eq!(exec.hostname, "box");
    assert!(exec.env.iter().all(|(name, _)| name == "PATH"), "{:?}", exec.env);
    let ExecMountKind::Cache { id, .. } = &exec.mounts[0].kind else { panic!("{:?}", exec.mounts) };
    assert!(id.starts_with("mine"), "{id}");
}
