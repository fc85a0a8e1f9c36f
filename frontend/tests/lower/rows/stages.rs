//! `FROM` and what a stage takes from the one below.

use super::*;

const BUSYBOX: &str = "image busybox linux/amd64";
const SH: &str = "Cmd [\"sh\"]";

#[test]
fn from() {
    table(&[
        ("A080 an image", "FROM busybox", &[BUSYBOX, SH]),
        ("A080 a name for the stage", "FROM busybox AS a\nFROM a", &[BUSYBOX, SH]),
        ("A080 AS in any case", "FROM busybox as a\nFROM a aS b\nFROM b", &[BUSYBOX, SH]),
        ("A080 but cased as its FROM", "FROM busybox as a", &[BUSYBOX, SH, "?FromAsCasing 1:14-16"]),
        ("A080 a tag", "FROM busybox:latest", &["image busybox:latest linux/amd64", SH]),
        (
            "A080 a digest",
            "FROM busybox@sha256:0123456789012345678901234567890123456789012345678901234567890123",
            &[
                "!no image busybox@sha256:0123456789012345678901234567890123456789012345678901234567890123 for linux/amd64",
            ],
        ),
        (
            "A080 two words",
            "FROM debian as",
            &["!1:13-15 `FROM` requires either one or three arguments [one name follows `as`: `FROM debian as name`]"],
        ),
        (
            "A080 no word",
            "FROM",
            &["!1:1-5 `FROM` requires an image [write `FROM image`; `FROM scratch` starts from nothing]"],
        ),
        (
            "A080 a flag there is not",
            "FROM --plattform=linux/amd64 busybox",
            &["!1:6-29 unknown flag of `FROM`: `--plattform` [did you mean `--platform`?]"],
        ),
        ("A081 letters, digits and a few signs", "FROM busybox AS a.B-c_9\nFROM a.b-c_9", &[BUSYBOX, SH]),
        (
            "A081 a letter first",
            "FROM busybox AS 1a\nFROM busybox AS a/b",
            &[
                "!1:17-19 invalid name for build stage: `1a` [a name begins with a letter and goes on with letters, digits, `-`, `_` and `.`]",
                "!2:17-20 invalid name for build stage: `a/b` [a name begins with a letter and goes on with letters, digits, `-`, `_` and `.`]",
            ],
        ),
        ("A081 reserved", "FROM busybox AS scratch", &[BUSYBOX, SH, "?ReservedStageName 1:17-24"]),
        (
            "A081 twice, the last counts",
            "FROM nosuchimage AS a\nFROM busybox AS a\nFROM a\nCOPY --from=a x /x",
            &[BUSYBOX, "copy x -> /x", SH, "?DuplicateStageName 2:17-18"],
        ),
        (
            "A082 FROM compares with the name in lower case",
            "FROM busybox AS Base\nFROM Base",
            &[
                "!2:6-10 invalid image name: image name `Base` must be lower case [to build on the stage `Base` write its name in lower case: `base`]",
            ],
        ),
        ("A082 FROM finds it so", "FROM busybox AS Base\nFROM base", &[BUSYBOX, SH]),
        (
            "A082 others compare without case",
            "FROM busybox AS Base\nFROM scratch\nCOPY --from=BASE a /a\nRUN --mount=from=bAsE,target=/m x",
            &[BUSYBOX, "copy a -> /a", "sh: x; /m Bind { input: 1, source: \"/\", writable: false }"],
        ),
        (
            "A083 an image and then a stage",
            "FROM busybox AS busybox\nLABEL a=b\nFROM busybox",
            &[BUSYBOX, SH, "Label a=b"],
        ),
        (
            "A084 FROM sees earlier stages only",
            "FROM later\nFROM scratch AS later\nFROM scratch\nCOPY --from=0 a /a",
            &["!no image later for linux/amd64 [the stage `later` is defined below: move it above this line]"],
        ),
        (
            "A084 so does COPY",
            "FROM scratch\nCOPY --from=later a /a\nFROM scratch AS later\nCOPY --from=0 a /a\nFROM scratch\nCOPY --from=0 /a /a",
            &[
                "!2:13-18 circular dependency: stage `later` needs this stage itself [take one of the two dependencies away, or put what both need into a stage of its own]",
            ],
        ),
        (
            "A084 without a circle",
            "FROM scratch\nCOPY --from=later a /a\nFROM scratch AS later\nFROM scratch\nCOPY --from=0 /a /a",
            &[
                "!2:13-18 stage `later` is defined later, only earlier stages can be used [move the stage above the one that uses it]",
            ],
        ),
        (
            "A084 so do mounts",
            "FROM scratch\nRUN --mount=from=1,target=/m x\nFROM scratch\nFROM scratch\nCOPY --from=0 / /",
            &[
                "!2:18-19 stage `1` is defined later, only earlier stages can be used [move the stage above the one that uses it]",
            ],
        ),
        (
            "A084 nor itself",
            "FROM scratch AS a\nCOPY --from=a / /",
            &[
                "!2:13-14 circular dependency: the stage copies from itself as `a` [files of this stage are there already: `RUN cp` copies them]",
            ],
        ),
        ("A085 nothing", "FROM scratch\nRUN x", &["sh: x"]),
        (
            "A085 has no tags",
            "FROM scratch:latest",
            &["!no image scratch:latest for linux/amd64 [write `FROM scratch`: it is no image and has no tags]"],
        ),
        (
            "A086 another platform",
            "FROM --platform=linux/arm64 busybox",
            &["image busybox linux/arm64", SH, "?FromPlatformFlagConstDisallowed 1:17-28"],
        ),
        ("A086 one part of two", "FROM --platform=arm64 busybox", &["image busybox linux/arm64", SH]),
        ("A086 the builder's own", "FROM --platform=local busybox", &[BUSYBOX, SH]),
        ("A086 a variable", "FROM --platform=$BUILDPLATFORM busybox", &[BUSYBOX, SH, NO_WARNINGS]),
        (
            "A086 says what is so anyway",
            "FROM --platform=$TARGETPLATFORM busybox",
            &[BUSYBOX, SH, "?RedundantTargetPlatform 1:17-32"],
        ),
        (
            "A086 nothing",
            "ARG P\nFROM --platform=$P busybox",
            &[
                "!2:17-19 `--platform=$P` expands to nothing [give the argument a default; predefined are `$BUILDPLATFORM` and `$TARGETPLATFORM`]",
            ],
        ),
        (
            "A086 misspelt",
            "FROM --platform=$BULIDPLATFORM busybox",
            &["!1:17-31 `--platform=$BULIDPLATFORM` expands to nothing [did you mean `$BUILDPLATFORM`?]"],
        ),
        (
            "A086 none",
            "FROM --platform=arm64x busybox",
            &["!1:17-23 `arm64x` is not a platform: expected OS/ARCH or OS/ARCH/VARIANT [write it like `linux/amd64`]"],
        ),
        (
            "A087 all forms",
            "ARG A=box B\nFROM ${A/box/busy}${A}${B:+x}${B:-:latest}",
            &["image busybox:latest linux/amd64", SH],
        ),
        (
            "A087 nothing",
            "ARG A\nFROM $A",
            &[
                "!2:6-8 `$A` names no image: it expands to nothing [give the argument a default, or a value with `--build-arg`]",
            ],
        ),
        (
            "A087 declared too late",
            "FROM scratch\nARG A=1\nFROM busybox:$A",
            &[
                "!3:6-16 invalid image name: image name `busybox:` has an invalid tag: expected at most 128 letters, digits, `_`, `.` and `-` [`FROM` sees only `ARG`s above the first `FROM`: move `ARG A` there]",
            ],
        ),
        (
            "A087 misspelt",
            "ARG VERSION=1\nFROM $VERSOIN",
            &["!2:6-14 `$VERSOIN` names no image: it expands to nothing [did you mean `$VERSION`?]"],
        ),
        (
            "A088 nobody asks for what is not needed",
            "FROM nosuchimage\nRUN x\nFROM nosuchimage AS b\nSTOPSIGNAL no\nFROM scratch",
            &[],
        ),
        (
            "A090 counted from 0",
            "FROM busybox\nFROM scratch AS b\nCOPY --from=0 a /a\nRUN --mount=from=0,target=/m x",
            &[BUSYBOX, "copy a -> /a", "sh: x; /m Bind { input: 1, source: \"/\", writable: false }"],
        ),
        (
            "A090 not that many",
            "FROM scratch\nCOPY --from=1 a /a",
            &["!2:13-14 stage 1 does not exist: there are 1, counted from 0 [the last one is 0]"],
        ),
    ]);
    let dated = with_default("ARG A\nFROM busybox:$A", "A", "latest");
    assert_eq!(
        dated,
        ["image busybox:latest linux/amd64", SH, "?InvalidDefaultArgInFrom 2:6-16"],
        "A087 only the default is empty"
    );
}

fn with_default(text: &str, name: &str, value: &str) -> Vec<String> {
    let mut options = options();
    options.build_args.insert(name.to_owned(), Some(value.to_owned()));
    facts(text, &options)
}

#[test]
fn a089_the_target_is_a_name_in_any_case() {
    let text = "FROM scratch AS Base\nLABEL a=base\nFROM scratch AS other\nLABEL a=other\nFROM scratch\nLABEL a=last\n";
    let with = |target: &str| {
        let mut options = options();
        options.target = Some(target.to_owned());
        let mut found = facts(text, &options);
        found.retain(|fact| !fact.starts_with('?'));
        found
    };
    for (target, expected) in [
        ("", "Label a=last"),
        ("base", "Label a=base"),
        ("OTHER", "Label a=other"),
        ("0", "!5:1-13 target stage `0` does not exist [the stages are `base`, `other`]"),
        ("otter", "!5:1-13 target stage `otter` does not exist [did you mean `other`?]"),
    ] {
        assert_eq!(with(target), [expected], "{target}");
    }
}

/// An image with something in every part of its configuration that can be inherited.
struct Full;

impl ResolveImage for Full {
    type Error = Unknown;

    async fn resolve(&self, _: &str, platform: &Platform) -> Result<(Digest, ImageConfig), Unknown> {
        let config = json!({
            "os": platform.os, "architecture": platform.arch, "os.version": "1.2", "os.features": ["f"],
            "author": "someone", "created": "2020-01-01T00:00:00Z",
            "config": {
                "Env": ["B=2", "A=1"], "WorkingDir": "/w", "User": "u:g", "Shell": ["ash", "-c"],
                "Entrypoint": ["e"], "Cmd": ["c"], "Labels": {"l": "m"}, "Volumes": {"/v": {}},
                "ExposedPorts": {"1/tcp": {}}, "StopSignal": "SIGINT",
                "Healthcheck": {"Test": ["NONE"]}, "OnBuild": ["LABEL triggered=$A"]
            },
            "rootfs": {"type": "layers", "diff_ids": [Digest::sha256([7; 32]).to_string()]},
            "history": [{"created_by": "base"}]
        });
        Ok((Digest::sha256([1; 32]), serde_json::from_value(config).unwrap()))
    }
}

#[test]
fn a091_a092_a096_a_stage_starts_from_the_configuration_of_its_base() {
    let lower_full = |text: &str| {
        let file = parse(&Source::new("Dockerfile", text)).unwrap();
        let mut options = options();
        options.labels.insert("cli".to_owned(), "yes".to_owned());
        run(lower(&file, &options, &Full)).unwrap()
    };
    let inherited = [
        "Env B=2",
        "Env A=1",
        "Entrypoint [\"e\"]",
        "Cmd [\"c\"]",
        "Shell [\"ash\", \"-c\"]",
        "Label cli=yes",
        "Label l=m",
        "Label triggered=1",
        "Port 1/tcp",
        "Volume /v",
        "User u:g",
        "Dir /w",
        "Signal SIGINT",
        "Check {\"Test\":[\"NONE\"]}",
        "Author someone",
    ];
    let one = lower_full("FROM full\nRUN x\n");
    assert_eq!(config_facts(&one.config), inherited);
    let raw = serde_json::to_value(&one.config).unwrap();
    assert_eq!((&raw["os.version"], &raw["os.features"]), (&json!("1.2"), &json!(["f"])));
    // No PATH in the base: the default one is in the configuration and what RUN sees, behind the base's own.
    assert_eq!(one.config.config.env, ["B=2", "A=1", DEFAULT_PATH]);
    let (_, last) = one.graph.vertices().last().unwrap();
    let Op::Exec(exec) = &last.op else { panic!("the last vertex is the RUN") };
    assert_eq!(exec_fact(exec), "exec [\"ash\", \"-c\", \"x\"] {B=2} {A=1} in /w as u:g");
    assert!(exec.env.iter().any(|(name, _)| name == "PATH"));

    // The triggers have run: they run neither again nor stay.
    let two = lower_full("FROM full AS a\nENV C=3\nFROM a\nRUN x\n");
    assert_eq!(config_facts(&two.config), [&["Env B=2", "Env A=1", "Env C=3"], &inherited[2..]].concat());
    // Another stage's settings are its own, and so are the command line's labels of the last one.
    let separate = lower_full("FROM full AS a\nENV C=3\nCMD [\"other\"]\nUSER other\nFROM full\nCOPY --from=a x /x\n");
    assert_eq!(config_facts(&separate.config), inherited);
    let scratch = lower_full("FROM scratch\nLABEL of=this\nFROM scratch\n");
    assert_eq!(config_facts(&scratch.config), ["Label cli=yes"]);
    assert_eq!(
        (scratch.config.config.env, scratch.config.config.working_dir),
        (vec![DEFAULT_PATH.to_owned()], "/".to_owned()),
        "A085"
    );
    assert!(scratch.config.history.is_empty(), "A085: a layer or an entry of no image");
}

#[test]
fn a093_a_base_for_another_platform_is_worth_a_word() {
    let of = |name: &str| {
        let text = format!("FROM {name}\n");
        let mut found = facts(&text, &options());
        found.retain(|fact| fact.starts_with('?'));
        found
    };
    assert_eq!(of("windows"), ["?InvalidBaseImagePlatform 1:6-13"]);
    assert_eq!(of("busybox"), <[String; 0]>::default());
}

#[test]
fn a094_named_contexts_come_before_stages_and_images() {
    let with = |contexts: &[(&str, NamedContext)], text: &str| {
        let mut options = options();
        options.named_contexts = contexts.iter().map(|(name, context)| ((*name).to_owned(), context.clone())).collect();
        facts(text, &options)
    };
    let image = |name: &str| NamedContext::Image(name.to_owned());
    let local = || NamedContext::Local;
    for (contexts, text, expected) in [
        (
            &[("a", image("busybox"))][..],
            "FROM nosuchimage AS a\nRUN never\nFROM a",
            &["image busybox linux/amd64", "Cmd [\"sh\"]"][..],
        ),
        (&[("debian", image("busybox"))], "FROM debian", &["image busybox linux/amd64", "Cmd [\"sh\"]"]),
        (
            &[("docker.io/library/debian:latest", image("busybox"))],
            "FROM debian",
            &["image busybox linux/amd64", "Cmd [\"sh\"]"],
        ),
        (
            &[("debian", image("busybox"))],
            "FROM docker.io/library/debian:latest",
            &["image busybox linux/amd64", "Cmd [\"sh\"]"],
        ),
        (&[("debian", image("busybox"))], "FROM debian:trixie", &["image debian:trixie linux/amd64", "Cmd [\"bash\"]"]),
        (
            &[("debian::linux/amd64", image("busybox")), ("debian", image("no"))],
            "FROM debian",
            &["image busybox linux/amd64", "Cmd [\"sh\"]"],
        ),
        (&[("debian::linux/arm64", image("no"))], "FROM debian", &["!no image debian for linux/amd64"]),
        (&[("files", local())], "FROM scratch\nCOPY --from=files a /a", &["context files", "copy a -> /a"]),
        (&[("files", local())], "FROM files", &["context files", "copy  -> /"]),
        (
            &[("debian", local())],
            "FROM scratch\nRUN --mount=from=debian,target=/m x",
            &["context debian", "sh: x; /m Bind { input: 1, source: \"/\", writable: false }"],
        ),
        (&[("scratch", image("busybox"))], "FROM scratch", &[]),
    ] {
        assert_eq!(with(contexts, text), expected, "{text}");
    }
}
