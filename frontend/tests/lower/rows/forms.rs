//! Arrays, shell lines, pairs and lists.

use super::*;

#[test]
fn forms() {
    table(&[
        (
            "A037 an array of strings",
            "RUN [\"a\",\"b c\" , \"$D\"]\nCMD [ ]\nENTRYPOINT [\"x\"]",
            &["exec [\"a\", \"b c\", \"$D\"]", "Entrypoint [\"x\"]"],
        ),
        (
            "A037 with the escapes of JSON",
            "CMD [\"c:\\\\x\", \"\\u0041\\n\\\"\"]",
            &["Cmd [\"c:\\\\x\", \"A\\n\\\"\"]"],
        ),
        ("A037 over several lines", "CMD [ \\\n  \"a\", \\\n  # c\n  \"b\" \\\n]", &["Cmd [\"a\", \"b\"]"]),
        (
            "A038 a missing comma",
            "CMD [\"ls\" \"-a\"]",
            &["Cmd [\"/bin/sh\", \"-c\", \"[\\\"ls\\\" \\\"-a\\\"]\"]", "?InvalidJsonForm 2:5-16"],
        ),
        (
            "A038 single quotes",
            "ENTRYPOINT ['a']",
            &["Entrypoint [\"/bin/sh\", \"-c\", \"['a']\"]", "?InvalidJsonForm 2:12-17"],
        ),
        ("A038 a single backslash", "RUN [\"c:\\x\"]", &["sh: [\"c:\\x\"]", "?InvalidJsonForm 2:5-13"]),
        ("A038 text behind it", "RUN [\"a\"] && b\nRUN [ -f x ]", &["sh: [\"a\"] && b", "sh: [ -f x ]"]),
        (
            "A038 lists split at blanks",
            "COPY [\"a\" \"b\"] /c/\nADD ['d', '/e/']",
            &[
                "!2:6-10 malformed pattern `[a`: a `[` is not closed [an array is written `[\"a\", \"b\"]`, with commas between the strings]",
                "!3:5-10 malformed pattern `[d,`: a `[` is not closed [an array is written `[\"a\", \"b\"]`, with double quotes]",
            ],
        ),
        ("A038 so does VOLUME", "VOLUME ['/a']", &["Volume [/a]"]),
        (
            "A038 other values are mistakes",
            "RUN [\"a\", 1]\nCMD [null]\nCOPY [\"a\", [\"b\"]]\nVOLUME [true]",
            &[
                "!2:11-12 a JSON array here must hold strings only [write `\"1\"`]",
                "!3:6-10 a JSON array here must hold strings only [write `\"null\"`]",
                "!4:12-17 a JSON array here must hold strings only [write `\"[\\\"b\\\"]\"`]",
                "!5:9-13 a JSON array here must hold strings only [write `\"true\"`]",
            ],
        ),
        (
            "A039 is one argument of the shell",
            "RUN a  'b c' | d\nCMD a  \"b\"\nENTRYPOINT $A",
            &[
                "sh: a  'b c' | d",
                "Entrypoint [\"/bin/sh\", \"-c\", \"$A\"]",
                "Cmd [\"/bin/sh\", \"-c\", \"a  \\\"b\\\"\"]",
            ],
        ),
        (
            "A039 whichever that is",
            "SHELL [\"/bin/ash\", \"-eo\", \"x\"]\nRUN a b\nCMD c",
            &[
                "exec [\"/bin/ash\", \"-eo\", \"x\", \"a b\"]",
                "Cmd [\"/bin/ash\", \"-eo\", \"x\", \"c\"]",
                "Shell [\"/bin/ash\", \"-eo\", \"x\"]",
            ],
        ),
        (
            "A040 names with blanks",
            "COPY [\"a b\", \"c\", \"/d e/\"]\nADD [\"a b\", \"/f\"]\nVOLUME [\"/g h\", \"/i\"]",
            &["copy \"a b\" c -> /d e/", "add \"a b\" -> /f", "Volume /g h", "Volume /i"],
        ),
        (
            "A041 SHELL has an array",
            "SHELL /bin/bash -c",
            &["!2:7-19 `SHELL` requires its arguments as a JSON array [write `SHELL [\"/bin/bash\", \"-c\"]`]"],
        ),
        (
            "A041 with something in it",
            "SHELL []",
            &["!2:1-9 `SHELL` requires at least one argument [write `SHELL [\"/bin/sh\", \"-c\"]`]"],
        ),
        (
            "A041 almost JSON is none",
            "SHELL ['a']",
            &["!2:7-12 `SHELL` requires its arguments as a JSON array [write `SHELL [\"/bin/sh\", \"-c\"]`]"],
        ),
    ]);
}

#[test]
fn pairs_and_lists() {
    const BLANKS: &str = "put quotes around a value with blanks";
    let no_equals =
        |place: &str, word: &str| format!("!{place} `{word}` has no `=`: `ENV` expects name=value [{BLANKS}]");
    table(&[
        (
            "A042 quotes and escapes",
            "ENV a=\"b c\" d='e f' g=h\\ i j=\"k\"'l'm",
            &["Env a=b c", "Env d=e f", "Env g=h i", "Env j=klm"],
        ),
        ("A042 of labels too", "LABEL a=\"b c\" \"d e\"=f", &["Label a=b c", "Label d e=f"]),
        ("A042 quotes stay until expansion", "ARG Q=\\\"\nENV a=$Q'b'$Q c=\"$Q\"", &["Env a=\"b\"", "Env c=\""]),
        ("A042 the first word decides", "ENV a b=c  d\nLABEL e f  g", &["Env a=b=c  d", "Label e=f  g"]),
        ("A042 blanks around `=`", "ENV A = b", &["Env A== b", "?LegacyKeyValueFormat 2:1-10"]),
        ("A042 or a word behind", "ENV a=b c", &[&no_equals("2:9-10", "c")]),
        ("A042 `=` in quotes counts", "ENV \"a b\"=c", &["Env a b=c"]),
        (
            "A042 and cuts there",
            "ENV \"a=b\" c=d",
            &[
                "!2:5-7 unterminated double quote [write `\\\"` for a plain quote]",
                "!2:9-10 unterminated double quote [write `\\\"` for a plain quote]",
            ],
        ),
        ("A042 braces hold nothing together", "ENV a=${b:-x y}", &[&no_equals("2:14-16", "y}")]),
        ("A042 but quotes in them do", "ENV a=${b:-\"x y\"}", &["Env a=x y"]),
        (
            "A042 nothing behind the name",
            "ENV a",
            &["!2:5-6 `ENV` must have two arguments: a name and a value [write `ENV a=…`]"],
        ),
        ("A042 continued in quotes", "LABEL a=\"b \\\n  c\" d=e", &["Label a=b   c", "Label d=e"]),
        (
            "A043 split at blanks",
            "EXPOSE 1 \t 2\\\n 3\nVOLUME /a  /b",
            &["Port 1/tcp", "Port 2/tcp", "Port 3/tcp", "Volume /a", "Volume /b"],
        ),
        (
            "A043 quotes hold nothing together",
            "COPY \"a b\" /c/",
            &[
                "!2:6-8 unterminated double quote [write `\\\"` for a plain quote]",
                "!2:10-11 unterminated double quote [write `\\\"` for a plain quote]",
            ],
        ),
        ("A043 but go", "COPY \"a\" 'b' /c/\nVOLUME \"/d\"", &["copy a b -> /c/", "Volume /d"]),
        ("A043 except in ARG", "ARG a=\"b c\" d='e f' g\nLABEL x=$a,$d", &["Label x=b c,e f"]),
        (
            "A043 nor in FROM",
            "FROM \"scratch\" AS \"a\"",
            &[
                "!1:19-22 invalid name for build stage: `\"a\"` [a name begins with a letter and goes on with letters, digits, `-`, `_` and `.`]",
            ],
        ),
    ]);
}
