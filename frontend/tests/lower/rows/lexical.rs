//! Lines, keywords, flags, directives.

use super::*;

#[test]
fn lines_and_comments() {
    table(&[
        ("A004 blanks before a keyword", "  \t RUN a\n\u{3000}RUN b", &["sh: a", "sh: b"]),
        ("A004 blanks before a comment", "RUN a\n   # RUN b\n\u{3000}# RUN c", &["sh: a"]),
        ("A004 blanks of a continuation line stay", "RUN a \\\n    b\\\n\tc", &["sh: a     b\tc"]),
        ("A005 comments go", "# RUN x\nRUN a\n#RUN y", &["sh: a"]),
        (
            "A005 comments between continuations end nothing",
            "RUN a \\\n# one\n  # two\n b\nRUN c",
            &["sh: a  b", "sh: c"],
        ),
        ("A005 comments do not continue", "# one \\\nRUN a", &["sh: a"]),
        ("A005 comments within do not continue", "RUN a \\\n# one \\\n b\nRUN c", &["sh: a  b", "sh: c"]),
        (
            "A006 `#` is a character",
            "RUN a # b\nLABEL a=b#c\nCMD [\"#\"]",
            &["sh: a # b", "Cmd [\"#\"]", "Label a=b#c"],
        ),
        (
            "A006 `#` behind FROM",
            "FROM ubuntu # x",
            &[
                "!1:13-16 `FROM` requires either one or three arguments [put the comment on a line of its own: within a line `#` begins no comment]",
            ],
        ),
        (
            "A006 `#` behind EXPOSE",
            "EXPOSE 80 # web",
            &[
                "!2:11-16 invalid port in `EXPOSE`: a comment cannot follow on the same line [put the comment on a line of its own: within a line `#` begins no comment]",
            ],
        ),
        ("A007 empty lines between", "\n\nRUN a\n \n\t\nRUN b\n\n", &["sh: a", "sh: b", NO_WARNINGS]),
        ("A007 empty lines within", "RUN a \\\n\n \t\n b\nRUN c", &["sh: a  b", "sh: c", "?NoEmptyContinuation 3:1-1"]),
        ("A008 the escape continues", "RUN a \\\nb", &["sh: a b"]),
        ("A008 blanks may follow the escape", "RUN a \\  \t\nb", &["sh: a b"]),
        ("A008 other spaces may not", "RUN a \\\u{3000}\nRUN b", &["sh: a \\", "sh: b"]),
        ("A008 a line of nothing but the escape", "RUN a \\\n\\\n \\\nb", &["sh: a  b"]),
        ("A008 two escapes do not continue", "RUN a\\\\\nRUN b", &["sh: a\\\\", "sh: b"]),
        ("A008 nor do three", "RUN a\\\\\\\nRUN b", &["sh: a\\\\\\", "sh: b"]),
        ("A008 the end of the file may be continued", "RUN a\\", &["sh: a"]),
        (
            "A008 an escape alone at the end of the file",
            "RUN a\n\\",
            &[
                "!3:1-2 an escape character stands alone, no instruction follows [remove the line: nothing follows that it could continue]",
            ],
        ),
        ("A009 nothing is put between", "RUN ec\\\nho hi", &["sh: echo hi"]),
        ("A009 not even in a keyword", "RU\\\nN a", &["sh: a"]),
    ]);
}

#[test]
fn keywords() {
    table(&[
        ("A010 in any case", "run a\nRun b\nrUN c", &["sh: a", "sh: b", "sh: c"]),
        ("A010 ended by blanks", "RUN\ta\nRUN\u{b}b\nRUN\u{c}c\nRUN\rd", &["sh: a", "sh: b", "sh: c", "sh: d"]),
        (
            "A010 other spaces do not end one",
            "RUN\u{a0}a",
            &[
                "!2:1-6 unknown instruction: `RUN\u{a0}a` [only a plain blank or a tab ends `RUN`; here stands a no-break space (U+00A0)]",
            ],
        ),
        ("A010 unknown", "EMTRYPOINT x", &["!2:1-11 unknown instruction: `EMTRYPOINT` [did you mean `ENTRYPOINT`?]"]),
        (
            "A010 hopeless",
            "FOOBARBAZ x",
            &[
                "!2:1-10 unknown instruction: `FOOBARBAZ` [the instructions are ADD, ARG, CMD, COPY, ENTRYPOINT, ENV, EXPOSE, FROM, HEALTHCHECK, LABEL, MAINTAINER, ONBUILD, RUN, SHELL, STOPSIGNAL, USER, VOLUME, WORKDIR]",
            ],
        ),
        ("A010 casing is a convention", "RUN a\nrun b", &["sh: a", "sh: b", "?ConsistentInstructionCasing 3:1-4"]),
        ("A011 an empty file", "!", &["!1:1-1 the Dockerfile cannot be empty [it begins with `FROM image`]"]),
        ("A011 blank lines", "! \n\n", &["!1:1-3:1 the Dockerfile cannot be empty [it begins with `FROM image`]"]),
        (
            "A011 comments only",
            "!# escape=`\n# c\n",
            &["!1:1-3:1 the Dockerfile has no instructions, only comments [it begins with `FROM image`]"],
        ),
        ("A012 ARG and comments come first", "# c\nARG A=1\n\nARG B\nFROM scratch", &[]),
        (
            "A012 nothing else does",
            "ARG A\nENV A=b\nFROM scratch",
            &[
                "!2:1-4 no build stage in current context: `ENV` before any `FROM` [a Dockerfile begins with `FROM image`; only `ARG` may stand before it]",
            ],
        ),
        (
            "A012 no FROM at all",
            "!ARG A",
            &[
                "!1:1-6 the Dockerfile has no build stage: `FROM` is missing [write `FROM image` below the `ARG`s; `FROM scratch` starts from nothing]",
            ],
        ),
    ]);
}

#[test]
fn flags() {
    const COPY: &str = "`COPY` knows `--from`, `--parents`, `--chown`, `--chmod`, `--link`, `--exclude`";
    let unknown = format!("!2:6-13 unknown flag of `COPY`: `--color` [{COPY}]");
    table(&[
        (
            "A013 flags stand behind the keyword",
            "COPY --chown=1 --chmod=700 a --link /b/",
            &["copy a --link -> /b/ Owner { user: Id(1), group: None } Octal(448)"],
        ),
        (
            "A013 two dashes end them",
            "RUN -- --network=none\nCMD -- -a",
            &["sh: --network=none", "Cmd [\"/bin/sh\", \"-c\", \"-a\"]"],
        ),
        ("A013 one dash begins none", "RUN -network=none", &["sh: -network=none"]),
        (
            "A013 quotes and escapes within",
            "COPY --chown=\"1\":'2' --exclude=a\\ b --exclude='c\\'d' x /y",
            &["copy x -> /y without a b, c'd Owner { user: Id(1), group: Some(Id(2)) }"],
        ),
        (
            "A013 letters of every script",
            "RUN --mount=type=secret,id=schlüssel,target=/ß a",
            &[
                "sh: a; /ß Secret { id: \"schlüssel\", required: false, file: true, env: None, mode: 256, uid: 0, gid: 0 }",
            ],
        ),
        (
            "A013 an open quote",
            "RUN --mount=\"type=tmpfs a",
            &["!2:13-26 a quote in the value of `--mount` is never closed [close it with `\"`]"],
        ),
        ("A014 unknown", "COPY --color a b", &[&unknown]),
        (
            "A014 misspelt",
            "COPY --chonw=1 a b",
            &["!2:6-15 unknown flag of `COPY`: `--chonw` [did you mean `--chown`?]"],
        ),
        (
            "A014 twice",
            "COPY --link --link a b",
            &["!2:13-19 duplicate flag specified: `--link` [remove one of the two]"],
        ),
        ("A014 lists may be longer", "COPY --exclude=a --exclude=b c /d", &["copy c -> /d without a, b"]),
        (
            "A014 without a value",
            "COPY --chown a b",
            &["!2:6-13 missing a value on flag `--chown` [write `--chown=…`, without a blank around the `=`]"],
        ),
        ("A014 true, in any case", "COPY --link=TRUE a /b", &["copy a -> /b", "merge"]),
        ("A014 false, in any case", "COPY --link=False a /b", &["copy a -> /b"]),
        ("A014 nothing means true", "COPY --link a /b", &["copy a -> /b", "merge"]),
        (
            "A014 neither true nor false",
            "COPY --link=1 a b",
            &["!2:6-14 expecting a boolean value for flag `--link`, not `1` [the value is `true` or `false`]"],
        ),
        (
            "A014 where there are none",
            "CMD --a b",
            &[
                "!2:5-8 unknown flag of `CMD`: `--a` [`CMD` has no flags; to begin the arguments with `--`, put `--` before them]",
            ],
        ),
        (
            "A015 every mistake, each with its place",
            "FROM x y\nCOPY \\\n  --link=x a\nENV A\nLABEL a=\"\\\n  b",
            &[
                "!1:8-9 `FROM` requires either one or three arguments [to name the stage, write `FROM x AS y`]",
                "!2:1-3:13 `COPY` requires at least two arguments, but only one was provided: the destination is missing [write `COPY source… destination`]",
                "!3:3-11 expecting a boolean value for flag `--link`, not `x` [the value is `true` or `false`]",
                "!4:5-6 `ENV` must have two arguments: a name and a value [write `ENV A=…`]",
                "!5:7-6:4 unterminated double quote [write `\\\"` for a plain quote]",
            ],
        ),
        ("A017 names are bytes", "COPY \u{e9} e\u{301} 日本語/🦀 /ü/", &["copy \u{e9} e\u{301} 日本語/🦀 -> /ü/"]),
    ]);
}

#[test]
fn directives() {
    table(&[
        ("A019 blanks around", "#  escape  =  `  \nFROM scratch\nRUN a`\nb", &["sh: ab"]),
        ("A019 in any case", "#EsCaPe=`\nFROM scratch\nRUN a`\nb", &["sh: ab"]),
        ("A019 indented", "  # escape=`\nFROM scratch\nRUN a`\nb", &["sh: ab"]),
        (
            "A019 is not continued",
            "# escape=\\\n`\nFROM scratch\nRUN a",
            &[
                "!2:1-2 unknown instruction: ``` [commands are run by `RUN`; a line that another one continues ends with `\\`]",
            ],
        ),
        ("A019 needs a value", "# escape=\nFROM scratch\nRUN a\\\nb", &["sh: ab"]),
        ("A019 names are letters and digits", "# esc_ape=`\n# escape=`\nFROM scratch\nRUN a\\\nb", &["sh: ab"]),
        ("A020 ends at a blank line", "\n# escape=`\nFROM scratch\nRUN a\\\nb", &["sh: ab"]),
        ("A020 ends at a comment", "# c\n# escape=`\nFROM scratch\nRUN a\\\nb", &["sh: ab"]),
        ("A020 ends at an unknown one", "# foo=bar\n# escape=`\nFROM scratch\nRUN a\\\nb", &["sh: ab"]),
        ("A020 ends at an instruction", "FROM scratch\n# escape=`\nRUN a\\\nb", &["sh: ab"]),
        (
            "A020 several in a row",
            "# syntax=docker/dockerfile:1\n# check=skip=all\n# escape=`\nFROM scratch\nRUN a`\nb",
            &["sh: ab"],
        ),
        (
            "A021 escape twice",
            "# escape=`\n# Escape=`\nFROM scratch",
            &["!2:1-11 only one `escape` parser directive can be used [remove one of the two lines]"],
        ),
        (
            "A021 syntax twice",
            "# syntax=docker/dockerfile\n# syntax=docker/dockerfile\nFROM scratch",
            &["!2:1-27 only one `syntax` parser directive can be used [remove one of the two lines]"],
        ),
        (
            "A021 check twice",
            "# check=skip=all\n# check=error=true\nFROM scratch",
            &["!2:1-19 only one `check` parser directive can be used [remove one of the two lines]"],
        ),
        ("A022 a backslash", "# escape=\\\nFROM scratch\nRUN a\\\nb", &["sh: ab"]),
        (
            "A022 a backtick, in words too",
            "# escape=`\nFROM scratch\nENV A=1 B=c:\\x` y C=`$A\nWORKDIR C:\\\nRUN a\\",
            &[
                "mkdir /C:\\ None None",
                "sh: a\\ {A=1} {B=c:\\x y} {C=$A} in /C:\\",
                "Env A=1",
                "Env B=c:\\x y",
                "Env C=$A",
                "Dir /C:\\",
            ],
        ),
        (
            "A022 here-documents keep the backslash",
            "# escape=`\nFROM scratch\nARG A=1\nCOPY <<EOF /x\n\\$A `$A\nEOF",
            &["copy <<EOF=\"$A `1\\n\" -> /x"],
        ),
        (
            "A022 nothing else",
            "# escape=^\nFROM scratch",
            &["!1:10-11 invalid escape character `^` [`escape` is a backslash or a backtick]"],
        ),
    ]);
}
