//! Variables in words.

use super::*;

/// `LABEL x=…` under a few variables.
fn labels(rows: &[(&'static str, &'static str, &'static str)]) {
    let mut wrong = String::new();
    for (claim, word, expected) in rows {
        let text = format!(
            "FROM scratch\nARG A=aa E= D=\\$x S='a b' P=/usr/local/lib/libfoo.so.1.2 größe=groß STAR='*'\nLABEL x={word}\n"
        );
        let found = facts(&text, &options()).into_iter().find(|fact| !fact.starts_with('?')).unwrap_or_default();
        let found = found.strip_prefix("Label x=").or(found.strip_prefix("!3:")).unwrap_or(&found);
        if found != *expected {
            writeln!(wrong, "{claim}: {word}\n    found    {found}\n    expected {expected}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn operators() {
    labels(&[
        ("A045 with and without braces", "$A${A}x", "aaaax"),
        ("A045 the longest name counts", "$Ax-$A_-$A.", "--aa."),
        ("A045 letters of every script", "$größe", "groß"),
        ("A045 a number is digits only", "$1x$12", "x"),
        ("A045 special ones are names", "$@$*$#$?$-$$$!$0.", "."),
        ("A045 anything else is text", "$.x$/$", "$.x$/$"),
        ("A045 nothing if unset", "<$N>", "<>"),
        (
            "A045 assignment is not an operator",
            "${A:=x}",
            "9-16 unsupported modifier `:=` in `${A:=x}` [after the name may follow one of `:-` `-` `:+` `+` `:?` `?` `#` `##` `%` `%%` `/` `//`]",
        ),
        (
            "A045 no name",
            "${.}",
            "9-13 syntax error: bad substitution `${.}` [write `${name}`, or `\\$` for a plain dollar sign]",
        ),
        ("A046 unset or empty", "${N:-w}${E:-w}${A:-w}", "wwaa"),
        ("A046 unset", "${N-w}${E-w}${A-w}", "waa"),
        ("A046 the word expands", "${N:-${N:-<$A>}}", "<aa>"),
        ("A047 set and not empty", "${N:+w}${E:+w}${A:+w}", "w"),
        ("A047 set", "${N+w}${E+w}${A+w}", "ww"),
        ("A047 the word expands", "${A:+<$A>}", "<aa>"),
        (
            "A048 unset",
            "\"${N?set $A}\"",
            "10-21 `N`: set aa [set it: with `ARG N=…`, `ENV N=…`, or `--build-arg N=…` where an `ARG N` declares it]",
        ),
        (
            "A048 unset or empty",
            "${E:?empty}",
            "9-20 `E`: empty [set it: with `ARG E=…`, `ENV E=…`, or `--build-arg E=…` where an `ARG E` declares it]",
        ),
        (
            "A048 without a message",
            "${N:?}",
            "9-15 `N`: must not be unset [set it: with `ARG N=…`, `ENV N=…`, or `--build-arg N=…` where an `ARG N` declares it]",
        ),
        ("A048 set", "${A?no}${A:?no}${E?no}", "aaaa"),
        ("A049 the shortest prefix", "${P#*/}", "usr/local/lib/libfoo.so.1.2"),
        ("A049 the longest prefix", "${P##*/}", "libfoo.so.1.2"),
        ("A049 one character", "${P#/???/}", "local/lib/libfoo.so.1.2"),
        ("A049 escapes", "${D#\\$}${STAR#\\?}", "x*"),
        ("A049 an escaped star", "${STAR#\\*}", ""),
        ("A049 no classes", "${P#[/]}", "/usr/local/lib/libfoo.so.1.2"),
        ("A049 no match", "${P#x}", "/usr/local/lib/libfoo.so.1.2"),
        ("A050 the shortest suffix", "${P%.*}", "/usr/local/lib/libfoo.so.1"),
        ("A050 the longest suffix", "${P%%.*}", "/usr/local/lib/libfoo"),
        ("A050 no match", "${P%x}${P%%x}", "/usr/local/lib/libfoo.so.1.2/usr/local/lib/libfoo.so.1.2"),
        ("A051 the first", "${P/lib/LIB}", "/usr/local/LIB/libfoo.so.1.2"),
        ("A051 all", "${P//lib/LIB}", "/usr/local/LIB/LIBfoo.so.1.2"),
        ("A051 patterns", "${P/l*l/X}${A//?/b}", "/usr/Xibfoo.so.1.2bb"),
        (
            "A051 an escaped slash or brace ends nothing",
            "${P//\\//-}${P/\\}/x}",
            "-usr-local-lib-libfoo.so.1.2/usr/local/lib/libfoo.so.1.2",
        ),
        ("A051 the replacement keeps its escapes", "${A/a/\\}}${A/a/x\\/y}", "\\}ax\\/ya"),
        ("A051 with nothing", "${P//[.]/}${A/a/}", "/usr/local/lib/libfoo.so.1.2a"),
        (
            "A052 a colon before a pattern",
            "${A:#a}",
            "9-16 unsupported modifier `:#` in `${A:#a}` [after the name may follow one of `:-` `-` `:+` `+` `:?` `?` `#` `##` `%` `%%` `/` `//`]",
        ),
        (
            "A052 or a suffix",
            "${A:%a}",
            "9-16 unsupported modifier `:%` in `${A:%a}` [after the name may follow one of `:-` `-` `:+` `+` `:?` `?` `#` `##` `%` `%%` `/` `//`]",
        ),
        (
            "A052 no name",
            "${}",
            "9-12 syntax error: bad substitution `${}` [write `${name}`, or `\\$` for a plain dollar sign]",
        ),
        (
            "A052 no name but an operator",
            "${:x}",
            "9-14 syntax error: bad substitution `${:x}` [write `${name}`, or `\\$` for a plain dollar sign]",
        ),
        (
            "A052 open",
            "a${A",
            "10-13 syntax error: missing `}` [close it with `}`, or write `\\$` for a plain dollar sign]",
        ),
        ("A053 a dollar sign", "\\$A\\${A}", "$A${A}"),
        ("A053 anything else", "\\a\\\\\\ b", "a\\ b"),
        ("A053 at the end", "a\\", "a"),
        ("A054 nothing means anything", "'$A \\ \"'", "$A \\ \""),
        ("A054 open", "a'b", "10-12 unterminated single quote [write `\\'` for a plain quote]"),
        ("A055 variables", "\"$A '${A}'\"", "aa 'aa'"),
        ("A055 escapes of quote, dollar and escape", "\"\\\" \\$A \\\\\"", "\" $A \\"),
        ("A055 escapes of nothing else", "\"\\a \\'\"", "\\a \\'"),
        ("A055 open", "\"a", "9-11 unterminated double quote [write `\\\"` for a plain quote]"),
    ]);
    table(&[(
        "A053 another escape character",
        "# escape=`\nFROM scratch\nLABEL a=`$A b=\\`\"",
        &["Label a=$A", "Label b=\\\""],
    )]);
}

#[test]
fn instructions_that_expand() {
    table(&[
        (
            "A044 they do",
            "ARG X=x N=9\nADD $X /$X\nCOPY $X /$X\nENV $X=$X\nEXPOSE $N\nLABEL $X=$X\nSTOPSIGNAL $N\nUSER $X\nVOLUME /$X [\"$X\"]\nWORKDIR /$X",
            &[
                "add x -> /x",
                "copy x -> /x",
                "mkdir /x Some(Owner { user: Name(\"x\"), group: None }) None",
                "Env x=x",
                "Label x=x",
                "Port 9/tcp",
                "Volume /x",
                "Volume [x]",
                "User x",
                "Dir /x",
                "Signal 9",
            ],
        ),
        ("A044 in arrays too", "ARG X=x\nCOPY [\"$X\", \"/$X\"]\nVOLUME [\"/$X\"]", &["copy x -> /x", "Volume /x"]),
        (
            "A044 FROM and ARG",
            "ARG A=busy\nARG B=${A}box\nFROM $B\nARG C=c\nARG D=$C\nLABEL d=$D",
            &["image busybox linux/amd64", "Cmd [\"sh\"]", "Label d=c"],
        ),
        (
            "A044 these do not",
            "ENV X=x\nRUN $X\nRUN [\"$X\"]\nCMD $X\nENTRYPOINT [\"$X\"]\nSHELL [\"$X\"]\nMAINTAINER $X\nHEALTHCHECK CMD $X\nONBUILD USER $X",
            &[
                "sh: $X {X=x}",
                "exec [\"$X\"] {X=x}",
                "Env X=x",
                "Entrypoint [\"$X\"]",
                "Cmd [\"/bin/sh\", \"-c\", \"$X\"]",
                "Shell [\"$X\"]",
                "Check {\"Test\":[\"CMD-SHELL\",\"$X\"]}",
                "OnBuild USER $X",
                "Author $X",
            ],
        ),
        (
            "A044 triggers do when they run",
            "FROM scratch AS a\nENV X=x\nONBUILD USER $X\nFROM a",
            &["Env X=x", "User x"],
        ),
        ("A045 unset is worth a word", "LABEL a=$NOPE", &["Label a=", "?UndefinedVar 2:9-14"]),
        (
            "A056 a line of ENV sees what was before",
            "ENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc",
            &["Env abc=bye", "Env def=hello", "Env ghi=bye"],
        ),
        ("A056 so do labels", "ENV a=1\nLABEL b=2 c=$b$a", &["Env a=1", "Label b=2", "Label c=1"]),
        ("A057 a line of ARG sees itself", "ARG a=1 b=$a c=$b$a\nLABEL x=$c", &["Label x=11"]),
        ("A057 before FROM too", "ARG a=busy b=${a}box\nFROM $b", &["image busybox linux/amd64", "Cmd [\"sh\"]"]),
        (
            "A058 names expand",
            "ARG K=key\nENV $K=1 a${K}b=2\nLABEL \"$K c\"=3\nARG ${K}_x=4\nLABEL d=$key_x",
            &["Env key=1", "Env akeyb=2", "Label d=4", "Label key c=3"],
        ),
        ("A058 in the old form", "ARG K=key\nENV $K a $K", &["Env key=a key"]),
        (
            "A059 a variable can be several ports",
            "ENV P=\"80 81-82/udp\"\nEXPOSE $P 90",
            &["Env P=80 81-82/udp", "Port 80/tcp", "Port 81/udp", "Port 82/udp", "Port 90/tcp"],
        ),
        ("A059 or none", "EXPOSE $NONE 1", &["Port 1/tcp"]),
        (
            "A059 but not in quotes",
            "ENV P=\"80 81\"\nEXPOSE \"$P\"",
            &[
                "!3:8-12 invalid port `80 81` in `EXPOSE`: expected port[-port][/protocol] [write a number or a range: `80`, `53/udp`, `8000-8010`]",
            ],
        ),
    ]);
}

#[test]
fn flags_that_expand() {
    table(&[
        (
            "A060 owner and mode",
            "ARG O=1:2 M=700\nCOPY --chown=$O --chmod=$M a /b\nADD --chown=${O} --chmod=${M} a /b",
            &[
                "copy a -> /b Owner { user: Id(1), group: Some(Id(2)) } Octal(448)",
                "add a -> /b Owner { user: Id(1), group: Some(Id(2)) } Octal(448)",
            ],
        ),
        (
            "A060 platform",
            "ARG P=linux/arm64\nFROM --platform=$P busybox",
            &["image busybox linux/arm64", "Cmd [\"sh\"]"],
        ),
        (
            "A060 options of mounts",
            "ARG T=tmpfs D=/d\nENV Z=1k\nRUN --mount=type=$T,target=$D,size=${Z} a",
            &["sh: a {T=tmpfs} {D=/d} {Z=1k}; /d Tmpfs { size: Some(1024) }", "Env Z=1k"],
        ),
        (
            "A060 but not where a mount is from",
            "ARG S=x\nRUN --mount=from=$S,target=/d a",
            &[
                "!3:18-20 `from` of `--mount` does not support variables: `$S` [give the image a stage: `FROM $S AS name`, and use `name` here]",
            ],
        ),
        ("A061 what is excluded", "ARG X=x\nCOPY --exclude=$X . /", &["copy  -> / without $X"]),
        (
            "A061 where files are from",
            "ARG S=x\nCOPY --from=$S a b",
            &[
                "!3:13-15 `COPY --from` does not support variables: `$S` [give the image a stage: `FROM $S AS name`, and use `name` here]",
            ],
        ),
        (
            "A061 what a RUN is allowed",
            "ARG X=none\nRUN --network=$X a\nRUN --security=$X a",
            &[
                "!3:15-17 unsupported value `$X` for flag `--network` [the value is one of `default`, `none`, `host`; variables are not replaced here]",
                "!4:16-18 unsupported value `$X` for flag `--security` [the value is one of `sandbox`, `insecure`; variables are not replaced here]",
            ],
        ),
        ("A062 FROM sees global arguments", "ARG A=busybox\nFROM $A", &["image busybox linux/amd64", "Cmd [\"sh\"]"]),
        (
            "A062 and platforms",
            "FROM --platform=$TARGETPLATFORM busybox AS $",
            &[
                "!1:44-45 invalid name for build stage: `$` [a name begins with a letter and goes on with letters, digits, `-`, `_` and `.`; variables are not replaced here]",
            ],
        ),
        (
            "A062 never what a stage sets",
            "FROM scratch\nARG A=busybox\nENV B=busybox\nFROM ${A:-scratch}\nFROM ${B:-scratch}",
            &[],
        ),
        (
            "A063 quotes stay, the escape is a backslash",
            "# escape=`\nFROM scratch\nARG A=1\nCOPY <<E /x\n\"$A\" '$A' \\$A `$A ${A:+\"q\"}\nE",
            &["copy <<E=\"\\\"1\\\" '1' $A `1 \\\"q\\\"\\n\" -> /x"],
        ),
    ]);
}
