use super::*;
use crate::ast::{Command, CopySource, Healthcheck};

fn read(text: &str) -> Result<Dockerfile, Vec<Diagnostic>> {
    parse(&Source::new("Dockerfile", text))
}

/// The instructions after `FROM x`.
fn body(text: &str) -> Vec<Instruction> {
    let text = format!("FROM x\n{text}");
    read(&text).unwrap_or_else(|errors| panic!("{text}: {errors:#?}")).stages.remove(0).instructions
}

fn one(text: &str) -> Kind {
    let mut all = body(text);
    assert_eq!(all.len(), 1, "{text}");
    all.remove(0).kind
}

/// Every mistake as `line:column-column message`.
fn mistakes(text: &str) -> Vec<String> {
    let source = Source::new("Dockerfile", text);
    let errors = parse(&source).unwrap_err();
    let errors = errors.iter().filter(|error| error.severity == Severity::Error);
    errors
        .map(|error| {
            let (start, end) = (source.position(error.span().start), source.position(error.span().end));
            let end = if start.line == end.line {
                format!("-{}", end.column)
            } else {
                format!("-{}:{}", end.line, end.column)
            };
            format!("{}:{}{end} {}", start.line, start.column, error.message)
        })
        .collect()
}

fn texts(words: &[crate::ast::Word]) -> Vec<&str> {
    words.iter().map(|word| word.text.as_str()).collect()
}

#[test]
fn stages_and_global_arguments() {
    let text = "ARG A=1 B\n# base the first one\nFROM --platform=$P a:$A AS Base\nRUN x\nfrom base\n";
    let file = read(text).unwrap();
    let Kind::Arg(arg) = &file.global_args[0].kind else { panic!() };
    assert_eq!(arg.declarations[0].default.as_ref().unwrap().text, "1");
    assert_eq!(arg.declarations[1].name.text, "B");
    let from = &file.stages[0].from;
    assert_eq!((from.platform.as_ref().unwrap().text.as_str(), from.image.text.as_str()), ("$P", "a:$A"));
    let name = from.name.as_ref().unwrap();
    assert_eq!((name.name.as_str(), name.word.text.as_str()), ("base", "Base"));
    assert_eq!(name.description.as_deref(), Some("the first one"));
    assert_eq!(&text[name.word.span.range()], "Base");
    assert_eq!(&text[from.platform.as_ref().unwrap().span.range()], "$P");
    assert_eq!(file.stages[0].instructions[0].header.text, "RUN x");
    assert_eq!(file.stages[1].from.image.text, "base");
    assert_eq!(&text[file.stages[1].header.span.range()], "from base");
}

#[test]
fn shell_and_exec_forms() {
    let cases: [(&str, Result<&[&str], &str>); 16] = [
        ("RUN echo 'a # b'", Err("echo 'a # b'")),
        ("RUN  [  \"sh\" ,   \"-c\",\"echo   x\" ]  ", Ok(&["sh", "-c", "echo   x"])),
        (
            "RUN [\"\\u0041\\n\\t\\\"q\\\"\", \"back\\\\slash\", \"\\ud83e\\udd80 \\ud83e\"]",
            Ok(&["A\n\t\"q\"", "back\\slash", "🦀 \u{FFFD}"]),
        ),
        ("RUN [\"sh\", \\\n  # comment\n \"x\"]", Ok(&["sh", "x"])),
        ("RUN ['single']", Err("['single']")),
        ("RUN [\"a\"", Err("[\"a\"")),
        ("RUN [\"a\"] b", Err("[\"a\"] b")),
        ("RUN [\"a\",]", Err("[\"a\",]")),
        ("RUN [1e]", Err("[1e]")),
        ("RUN [ -f x ] && true", Err("[ -f x ] && true")),
        ("RUN -- --flag", Err("--flag")),
        ("RUN -- [\"a\"]", Ok(&["a"])),
        ("RUN $X \"  y  \"", Err("$X \"  y  \"")),
        ("RUN ec\\\nho hi", Err("echo hi")),
        ("RUN ec\\\n# c\n\nho hi", Err("echo hi")),
        ("RUN a\\\\", Err("a\\\\")),
    ];
    for (text, expected) in cases {
        let Kind::Run(run) = one(text) else { panic!("{text}") };
        match (run.command, expected) {
            (Command::Exec(words), Ok(expected)) => assert_eq!(texts(&words), expected, "{text}"),
            (Command::Shell(line), Err(expected)) => assert_eq!(line.text, expected, "{text}"),
            (other, _) => panic!("{text}: {other:?}"),
        }
    }
    assert!(matches!(one("CMD"), Kind::Cmd(Command::Shell(line)) if line.text.is_empty()));
    assert!(matches!(one("ENTRYPOINT []"), Kind::Entrypoint(Command::Exec(words)) if words.is_empty()));
}

#[test]
fn pairs_keep_their_quotes() {
    let cases: [(&str, &[(&str, &str)]); 12] = [
        ("ENV a=b", &[("a", "b")]),
        (
            "ENV a=\"two words\" B='single $A' C=esc\\ aped",
            &[("a", "\"two words\""), ("B", "'single $A'"), ("C", "esc\\ aped")],
        ),
        ("ENV a=", &[("a", "")]),
        ("ENV a==b", &[("a", "=b")]),
        ("ENV a=`x\\ y` b=\"`z \\\"\"", &[("a", "`x\\ y`"), ("b", "\"`z \\\"\"")]),
        ("ENV one some value with   spaces", &[("one", "some value with   spaces")]),
        ("ENV THREE a=b c=d", &[("THREE", "a=b c=d")]),
        ("ENV \"a b\"=c", &[("\"a b\"", "c")]),
        ("ENV H=\"multi \\\nline\" I=x", &[("H", "\"multi line\""), ("I", "x")]),
        ("ENV a='it''s\\'", &[("a", "'it''s\\'")]),
        ("ENV a=\"x\\\"y z\" b=1", &[("a", "\"x\\\"y z\""), ("b", "1")]),
        ("ENV a=1\u{3000}b=2", &[("a", "1"), ("b", "2")]),
    ];
    for (text, expected) in cases {
        let Kind::Env(pairs) = one(text) else { panic!("{text}") };
        let found: Vec<_> =
            pairs.pairs.iter().map(|pair| (pair.name.text.as_str(), pair.value.text.as_str())).collect();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn word_lists() {
    let words = |text: &str| match one(text) {
        Kind::Expose(words) | Kind::Volume(words) | Kind::Shell(words) => words,
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(texts(&words("EXPOSE 80\t$P  \"1\" 2")), ["80", "$P", "\"1\"", "2"]);
    assert_eq!(texts(&words("VOLUME [\"/a b\", \" /c \"]")), ["/a b", "/c"]);
    assert_eq!(texts(&words("VOLUME /a /b")), ["/a", "/b"]);
    assert_eq!(texts(&words("SHELL [\"/bin/bash\"]")), ["/bin/bash"]);
    for (text, expected) in
        [("USER a:b", "a:b"), ("WORKDIR  /a b ", "/a b"), ("STOPSIGNAL 9", "9"), ("MAINTAINER a <b>", "a <b>")]
    {
        match one(text) {
            Kind::User(word) | Kind::Workdir(word) | Kind::Stopsignal(word) | Kind::Maintainer(word) => {
                assert_eq!(word.text, expected, "{text}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn flags_are_typed() {
    let Kind::Copy(copy) =
        one("COPY --from=Base --chown=\"a\":b --link --parents=FALSE --exclude=*.a --exclude='*.b' a b /c/")
    else {
        panic!()
    };
    assert_eq!(copy.from.unwrap().text, "Base");
    assert_eq!(copy.flags.chown.unwrap().text, "a:b");
    assert_eq!(copy.flags.link.map(|link| link.value), Some(true));
    assert_eq!(copy.parents.map(|parents| parents.value), Some(false));
    assert_eq!(texts(&copy.flags.exclude), ["*.a", "*.b"]);
    assert_eq!((copy.sources.len(), copy.destination.text.as_str()), (2, "/c/"));
    let Kind::Add(add) =
        one("ADD --checksum=sha256:0 --keep-git-dir=true --unpack=false --chmod=u+x [\"a b\", \"/c\"]")
    else {
        panic!()
    };
    assert!(matches!(&add.sources[..], [CopySource::Path(word)] if word.text == "a b"));
    assert_eq!(add.unpack.map(|unpack| unpack.value), Some(false));
    let Kind::Run(run) = one(
        "RUN --mount=type=cache,target=/x --mount=\"target=/a b\" --network=none --security=insecure --device=v/x=1 a --b",
    ) else {
        panic!()
    };
    assert_eq!(texts(&run.mounts), ["type=cache,target=/x", "target=/a b"]);
    assert_eq!(run.network.map(|network| network.value), Some(crate::ast::Network::None));
    assert!(matches!(run.command, Command::Shell(line) if line.text == "a --b"));
    let Kind::Healthcheck(Healthcheck::Command(probe)) = one("HEALTHCHECK --interval=1m --retries=3 CMD [\"a\"]")
    else {
        panic!()
    };
    assert_eq!(probe.interval.map(|interval| interval.value.as_secs()), Some(60));
    assert_eq!(probe.retries.map(|retries| retries.value), Some(3));
    assert!(matches!(one("HEALTHCHECK none"), Kind::Healthcheck(Healthcheck::None)));
    assert!(
        matches!(one("HEALTHCHECK CMD [x, \"y\"]"), Kind::Healthcheck(Healthcheck::Command(probe)) if matches!(probe.command, Command::Shell(_)))
    );
}

#[test]
fn heredocs() {
    let Kind::Run(run) = one("RUN <<A cat > /a && 3<<-'B' cat\none\nA\n\ttwo\n\tB\n") else { panic!() };
    assert_eq!(run.heredocs.len(), 2);
    let [first, second] = &run.heredocs[..] else { panic!() };
    assert_eq!((first.name.as_str(), first.body.as_str(), first.expand, first.descriptor), ("A", "one\n", true, None));
    assert_eq!(
        (second.name.as_str(), second.body.as_str(), second.expand, second.descriptor),
        ("B", "\ttwo\n", false, Some(3))
    );
    assert_eq!(second.content(), "two\n");
    let text = "COPY --chmod=750 <<a.txt file <<\"EO\" /dir/\n1 $A\r\na.txt\nEO\n";
    let Kind::Copy(copy) = one(text) else { panic!() };
    let [CopySource::Heredoc(first), CopySource::Path(path), CopySource::Heredoc(second)] = &copy.sources[..] else {
        panic!("{copy:?}")
    };
    assert_eq!((first.name.as_str(), first.body.as_str(), first.expand), ("a.txt", "1 $A\r\n", true));
    assert_eq!((second.name.as_str(), second.body.as_str(), second.expand), ("EO", "", false));
    assert_eq!((path.text.as_str(), copy.destination.text.as_str()), ("file", "/dir/"));
}

#[test]
fn heredoc_openers() {
    let names = |text: &str| match one(text) {
        Kind::Run(run) => run.heredocs.into_iter().map(|heredoc| (heredoc.name, heredoc.expand)).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let cases: [(&str, &[(&str, bool)]); 18] = [
        ("RUN a<<EOF", &[]),
        ("RUN a <<<EOF", &[]),
        ("RUN a <<< EOF", &[]),
        ("RUN a <<- EOF", &[]),
        ("RUN a << EOF\nEOF", &[("EOF", true)]),
        ("RUN a <<E\"O\"F\nEOF", &[("EOF", false)]),
        ("RUN a <<\\EOF\nEOF", &[("EOF", true)]),
        ("RUN (a <<EOF)\nEOF)", &[("EOF)", true)]),
        ("RUN <<eo\\'f\neo'f", &[("eo'f", true)]),
        ("RUN <<'e'o\\'f\neo'f", &[("eo'f", false)]),
        ("RUN <<'one two'\none two", &[("one two", false)]),
        ("RUN <<$EOF\n$EOF", &[("$EOF", true)]),
        ("RUN <<''\n", &[]),
        ("RUN --mount=target=/x <<  E > foo\nE", &[("E", true)]),
        ("RUN it's <<EOF", &[]),
        ("RUN 'a <<EOF'", &[]),
        ("RUN [\"a\", \"<<EOF\"]", &[]),
        ("RUN a \\\n <<EOF\nx\nEOF", &[("EOF", true)]),
    ];
    for (text, expected) in cases {
        let found = names(text);
        let found: Vec<_> = found.iter().map(|(name, expand)| (name.as_str(), *expand)).collect();
        assert_eq!(found, expected, "{text}");
    }
    assert_eq!(body("CMD a <<EOF\nRUN b").len(), 2);
}

#[test]
fn triggers() {
    let Kind::Onbuild(onbuild) = one("OnBuild  COPY --chmod=1 <<E /x\nbody\nE\n") else { panic!() };
    assert_eq!(onbuild.trigger.text, "COPY --chmod=1 <<E /x\nbody\nE");
    let source = Source::new("trigger", "run \\\n echo $X <<E\nbody\nE");
    let instruction = parse_trigger(&source).unwrap();
    assert_eq!(instruction.header.text, "run  echo $X <<E");
    for (text, message) in [
        ("FROM x", "`FROM` is not allowed as an `ONBUILD` trigger"),
        ("ONBUILD RUN x", "`ONBUILD` is not allowed as an `ONBUILD` trigger"),
        ("MAINTAINER x", "`MAINTAINER` is not allowed as an `ONBUILD` trigger"),
        ("RUN a\nRUN b", "an `ONBUILD` trigger must be a single instruction"),
        ("", "an `ONBUILD` trigger must be a single instruction"),
        ("COPY a", "`COPY` requires at least two arguments, but only one was provided: the destination is missing"),
    ] {
        assert_eq!(parse_trigger(&Source::new("t", text)).unwrap_err()[0].message, message, "{text}");
    }
}

#[test]
fn every_mistake_has_its_place() {
    let cases: [(&str, &[&str]); 4] = [
        (
            "FROM a # b\nCOPY --colour=red --link=x a /a\nENV LONELY\nFRMO x\nEXPOSE 80　30\n",
            &[
                "1:8-11 `FROM` requires either one or three arguments",
                "2:6-18 unknown flag of `COPY`: `--colour`",
                "2:19-27 expecting a boolean value for flag `--link`, not `x`",
                "3:5-11 `ENV` must have two arguments: a name and a value",
                "4:1-5 unknown instruction: `FRMO`",
                "5:8-13 invalid port `80　30` in `EXPOSE`: expected port[-port][/protocol]",
            ],
        ),
        ("RUN a\nRUN b\nFROM x\n", &["1:1-4 no build stage in current context: `RUN` before any `FROM`"]),
        (
            "FROM x\nENV \"a=b\" c=d\nLABEL x=${A y=1\nCOPY a ${B^^}\n",
            &[
                "2:5-7 unterminated double quote",
                "2:9-10 unterminated double quote",
                "3:9-12 syntax error: missing `}`",
                "4:8-14 unsupported modifier `^` in `${B^^}`",
            ],
        ),
        (
            "FROM x\nCMD [\"a\", \\\n  1, {\"b\": [2]}]\n",
            &["3:3-4 a JSON array here must hold strings only", "3:6-16 a JSON array here must hold strings only"],
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(mistakes(text), expected, "{text}");
    }
}

#[test]
fn a_file_of_mistakes_is_not_read_to_its_end() {
    let errors = read(&"EMTRYPOINT\n".repeat(10_000)).unwrap_err();
    assert_eq!(errors.len(), 201);
    assert_eq!(errors[200].message, "there are more than 200 mistakes, the rest is not shown");
    let errors = read(&format!("FROM x\nRUN {}a", "--a ".repeat(10_000))).unwrap_err();
    assert_eq!(errors.len(), 201);
}

#[test]
fn nesting_is_bounded_wherever_it_is_read() {
    // The binary may be built for systems where pest does not watch the stack.
    let small = std::thread::Builder::new().stack_size(1 << 20).spawn(|| {
        let nested = |open: &str, middle: &str, close: &str, depth: usize| {
            format!("{}{middle}{}", open.repeat(depth), close.repeat(depth))
        };
        for (depth, is_json) in [(50, true), (101, true), (102, false), (1_000, false)] {
            let array = nested("[", "", "]", depth);
            assert_eq!(read(&format!("FROM x\nRUN {array}")).is_err(), is_json, "{depth}");
            let objects = nested("{\"a\":[", "", "]}", depth / 2);
            assert_eq!(read(&format!("FROM x\nRUN [{objects}]")).is_err(), depth <= 101, "{depth}");
        }
        assert!(read(&format!("FROM x\nENV a={}", nested("${a:-\"", "b", "\"}", 100))).is_ok());
        let errors = read(&format!("FROM x\nENV a={}", nested("${a:-\"", "b", "\"}", 101))).unwrap_err();
        assert_eq!(errors[0].message, "substitutions are nested too deeply: at most 100 levels");
    });
    small.unwrap().join().unwrap();
}
