//! Here-documents.

use super::*;

#[test]
fn heredocs() {
    table(&[
        ("A027 in RUN", "RUN <<E\na\nE", &["sh: a\n"]),
        ("A027 in COPY", "COPY <<E /x\na\nE", &["copy <<E=\"a\\n\" -> /x"]),
        ("A027 in ADD", "ADD <<E /x\na\nE", &["add <<E=\"a\\n\" -> /x"]),
        (
            "A027 in triggers of these",
            "FROM scratch AS a\nONBUILD RUN <<E\na\nE\nONBUILD COPY <<E /x\nb\nE\nFROM a",
            &["sh: a\n", "copy <<E=\"b\\n\" -> /x"],
        ),
        (
            "A027 not in a trigger of a trigger",
            "ONBUILD ONBUILD RUN <<E\nRUN a",
            &[
                "!2:9-16 chaining `ONBUILD ONBUILD` is not allowed [write `ONBUILD` once: a trigger runs in images built on this one]",
            ],
        ),
        (
            "A027 not elsewhere",
            "CMD cat <<E\nENTRYPOINT cat <<E\nUSER <<E",
            &["Entrypoint [\"/bin/sh\", \"-c\", \"cat <<E\"]", "Cmd [\"/bin/sh\", \"-c\", \"cat <<E\"]", "User <<E"],
        ),
        (
            "A027 not in arrays",
            "RUN [\"a\", \"<<E\"]\nCOPY [\"<<E\", \"/x\"]",
            &["exec [\"a\", \"<<E\"]", "copy <<E -> /x"],
        ),
        (
            "A028 several in a line",
            "RUN <<A cat >x && <<B cat >y\na\nA\nb\nB",
            &["sh: <<A cat >x && <<B cat >y\na\nA\nb\nB"],
        ),
        ("A028 a descriptor is the shell's", "RUN 3<<E cat <&3\na\nE", &["sh: 3<<E cat <&3\na\nE"]),
        ("A028 a here-string is none", "RUN cat <<<E\nRUN b", &["sh: cat <<<E", "sh: b"]),
        ("A028 begins a word", "RUN cat<<E\nRUN b", &["sh: cat<<E", "sh: b"]),
        (
            "A028 what is glued to the name belongs to it",
            "RUN (cat <<E)\na\nE)\nRUN b",
            &["sh: (cat <<E)\na\nE)", "sh: b"],
        ),
        ("A028 blanks behind `<<`", "RUN cat << E\na\nE\nRUN b", &["sh: cat << E\na\nE", "sh: b"]),
        ("A028 but not behind `<<-`", "RUN cat <<- E\nRUN b", &["sh: cat <<- E", "sh: b"]),
        (
            "A028 a shift is taken for one",
            "RUN echo $((1 << 2))",
            &[
                "!2:15-21 unterminated heredoc `2))` [where `<<` opens no here-document, write it without blanks around it]",
            ],
        ),
        ("A028 an open quote turns all off", "RUN echo \" <<E\nRUN b", &["sh: echo \" <<E", "sh: b"]),
        ("A029 the name and nothing else", "RUN <<E\nE \n E\nEE\ne\nE\nRUN b", &["sh: E \n E\nEE\ne\n", "sh: b"]),
        ("A029 a carriage return does not count", "RUN <<E\r\na\r\nE\r\nRUN b", &["sh: a\r\n", "sh: b"]),
        (
            "A029 none of the lines is an instruction",
            "FROM scratch\nRUN <<E\nFROM x\n# c\n\n\\\nE\nRUN b",
            &["sh: FROM x\n# c\n\n\\\n", "sh: b"],
        ),
        (
            "A029 missing",
            "RUN <<EOF\na\n",
            &["!2:5-10 unterminated heredoc `EOF` [put `EOF` on a line of its own below the text]"],
        ),
        (
            "A030 quotes turn expansion off",
            "ARG A=1\nCOPY <<\"E\" /a\n$A\nE\nCOPY <<'E' /b\n$A\nE\nCOPY <<E\"O\"F /c\n$A\nEOF\nCOPY <<E /d\n$A\nE",
            &[
                "copy <<E=\"$A\\n\" -> /a",
                "copy <<E=\"$A\\n\" -> /b",
                "copy <<EOF=\"$A\\n\" -> /c",
                "copy <<E=\"1\\n\" -> /d",
            ],
        ),
        ("A030 an escape does not", "ARG A=1\nCOPY <<\\E /a\n$A\nE", &["copy <<E=\"1\\n\" -> /a"]),
        ("A030 RUN leaves the quotes to the shell", "RUN cat <<\"E\"\n$A\nE", &["sh: cat <<\"E\"\n$A\nE"]),
        (
            "A031 takes leading tabs off, of the end too",
            "COPY <<-E /x\n\t\ta\n\t b\n  c\n\t\tE\nRUN <<-E\n\ta\n\tE",
            &["copy <<E=\"a\\n b\\n  c\\n\" -> /x", "sh: a\n"],
        ),
        ("A031 tabs only", "RUN <<-E\n a\n E\nE", &["sh:  a\n E\n"]),
        (
            "A032 is a script for the shell",
            "SHELL [\"ash\", \"-e\"]\nRUN <<E\na $B\nc\nE",
            &["exec [\"ash\", \"-e\", \"a $B\\nc\\n\"]", "Shell [\"ash\", \"-e\"]"],
        ),
        (
            "A032 which expands it, quoted or not",
            "ARG A=1\nRUN <<E\n$A\nE\nRUN <<'E'\n$A\nE",
            &["sh: $A\n {A=1}", "sh: $A\n {A=1}"],
        ),
        (
            "A033 runs itself",
            "RUN <<E\n#!/usr/bin/python3\nprint()\nE",
            &["sh: /dev/pipes/E; /dev/pipes/E 755 \"#!/usr/bin/python3\\nprint()\\n\""],
        ),
        (
            "A033 with its tabs off",
            "RUN <<-E\n\t#!/x\n\ta\n\tE",
            &["sh: /dev/pipes/E; /dev/pipes/E 755 \"#!/x\\na\\n\""],
        ),
        ("A034 is one for the shell", "RUN python3 <<E\nprint()\nE\nRUN b", &["sh: python3 <<E\nprint()\nE", "sh: b"]),
        (
            "A034 continued lines come first",
            "RUN cat <<E > /x && \\\n  true\na\nE",
            &["sh: cat <<E > /x &&   true\na\nE"],
        ),
        ("A035 named by the destination", "COPY <<E /a/b\nx\nE", &["copy <<E=\"x\\n\" -> /a/b"]),
        ("A035 named by the delimiter", "COPY <<E /a/\nx\nE", &["copy <<E=\"x\\n\" -> /a/"]),
        ("A035 several", "COPY <<a <<b.txt /d/\n1\na\n2\nb.txt", &["copy <<a=\"1\\n\" <<b.txt=\"2\\n\" -> /d/"]),
        (
            "A035 owner and mode",
            "COPY --chown=1:2 --chmod=600 <<E /a\nE",
            &["copy <<E=\"\" -> /a Owner { user: Id(1), group: Some(Id(2)) } Octal(384)"],
        ),
        (
            "A035 variables and quotes",
            "ENV E=1\nARG A=2\nCOPY <<E /a\n\"$E\" '${A}' ${N:-3}\nE",
            &["copy <<E=\"\\\"1\\\" '2' 3\\n\" -> /a", "Env E=1"],
        ),
        (
            "A036 is no destination",
            "COPY a <<E\nx\nE",
            &[
                "!2:8-11 `COPY` cannot accept a heredoc as its destination [the destination stands last, on the same line]",
            ],
        ),
        (
            "A036 is no destination of ADD",
            "ADD <<E <<F\nx\nE\nF",
            &[
                "!2:9-12 `ADD` cannot accept a heredoc as its destination [the destination stands last, on the same line]",
            ],
        ),
        ("A036 stands among files", "COPY a <<E b /d/\nx\nE", &["copy a <<E=\"x\\n\" b -> /d/"]),
    ]);
}
