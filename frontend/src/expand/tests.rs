use super::*;

fn word(text: &str) -> Word {
    Word { text: text.to_owned(), span: Span::new(0, text.len() as u32) }
}

fn lookup(name: &str) -> Option<String> {
    let value = match name {
        "A" => "aa",
        "PWD" => "/home",
        "EMPTY" => "",
        "DOLLAR" => "$a",
        "SPACED" => " b  c ",
        "P" => "/usr/local/lib/libfoo.so.1.2",
        "STARS" => "a***yy*",
        "GLOB" => "\\*",
        "größe" => "groß",
        _ => return None,
    };
    Some(value.to_owned())
}

const EXPANDER: Expander<'_> = Expander { escape: '\\', lookup: &lookup };

fn expand(text: &str) -> Result<String, String> {
    EXPANDER.word(&word(text)).map(|expanded| expanded.value).map_err(|error| error.message)
}

#[test]
fn values() {
    let cases = [
        ("plain", "plain"),
        ("", ""),
        ("$A", "aa"),
        ("${A}x", "aax"),
        ("x$A.y", "xaa.y"),
        ("$Ax", ""),
        ("$größe!", "groß!"),
        ("$1x$0$@$*$#$?$-$$$!", "x"),
        ("$.x", "$.x"),
        ("$", "$"),
        ("a$ b", "a$ b"),
        ("$(date)", "$(date)"),
        ("\\$A", "$A"),
        ("\\${A}", "${A}"),
        ("\\\\$A", "\\aa"),
        ("a\\b\\ c", "ab c"),
        ("end\\", "end"),
        ("'$A \\'", "$A \\"),
        ("\"$A\"", "aa"),
        ("\"\\$A \\\" \\\\ \\n\"", "$A \" \\ \\n"),
        ("\"it's\" '\"'", "it's \""),
        ("a'b'\"c\"", "abc"),
        ("${X:-d}|${EMPTY:-d}|${EMPTY-d}|${A:-d}", "d|d||aa"),
        ("${X:+d}|${EMPTY:+d}|${EMPTY+d}|${A:+d}", "||d|d"),
        ("${A?no}${A:?no}${EMPTY?no}", "aaaa"),
        ("${X:-${Y:-$A}}", "aa"),
        ("${X:-'q $A'}${X:-\"q $A\"}", "q $Aq aa"),
        ("${X:-\\$A:}${X:-\\}}", "$A:}"),
        ("${X:-a}}", "a}"),
        ("${X:-{a}", "{a"),
        ("${A:+<$A>}", "<aa>"),
        ("${999:-b}a${@:-b}", "bab"),
        ("${P#*/}", "usr/local/lib/libfoo.so.1.2"),
        ("${P##*/}", "libfoo.so.1.2"),
        ("${P%.*}", "/usr/local/lib/libfoo.so.1"),
        ("${P%%.*}", "/usr/local/lib/libfoo"),
        ("${P#nomatch}${P%nomatch}", "/usr/local/lib/libfoo.so.1.2/usr/local/lib/libfoo.so.1.2"),
        ("${A#\\a}${DOLLAR#\\$}", "aa"),
        ("${A#}${A##}${A%}${A%%}", "aaaaaaaa"),
        ("${STARS%%\\**\\*}", "a"),
        ("${STARS#a$GLOB}", "**yy*"),
        ("${P/lib/LIB}", "/usr/local/LIB/libfoo.so.1.2"),
        ("${P//lib/LIB}", "/usr/local/LIB/LIBfoo.so.1.2"),
        ("${P/l?b/X}", "/usr/local/X/libfoo.so.1.2"),
        ("${P//./_}", "/usr/local/lib/libfoo_so_1_2"),
        ("${P//\\//-}", "-usr-local-lib-libfoo.so.1.2"),
        ("${A//a/$P}", "/usr/local/lib/libfoo.so.1.2/usr/local/lib/libfoo.so.1.2"),
        ("${A//a/[$1]}", "[][]"),
        ("${A/a/}${A///}", "aaa"),
    ];
    for (text, expected) in cases {
        assert_eq!(expand(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn mistakes() {
    let cases = [
        ("a${A", "syntax error: missing `}`", (1, 4)),
        ("${A:-x", "syntax error: missing `}`", (0, 6)),
        ("${X:-${Y:-}", "syntax error: missing `}`", (0, 11)),
        ("${A:-\\}", "syntax error: missing `}`", (0, 7)),
        ("${}", "syntax error: bad substitution `${}`", (0, 3)),
        ("${:-b}", "syntax error: bad substitution `${:-b}`", (0, 6)),
        ("${{A}", "syntax error: bad substitution `${{A}`", (0, 5)),
        ("${.}", "syntax error: bad substitution `${.}`", (0, 4)),
        ("${A:=b}", "unsupported modifier `:=` in `${A:=b}`", (0, 7)),
        ("${A:#b}", "unsupported modifier `:#` in `${A:#b}`", (0, 7)),
        ("${A^^}", "unsupported modifier `^` in `${A^^}`", (0, 6)),
        ("${A:b}", "unsupported modifier `:b` in `${A:b}`", (0, 6)),
        ("${A//x}", "syntax error: missing `/` in `${A//x}`", (0, 7)),
        ("x${X?}", "`X`: must not be unset", (1, 6)),
        ("${EMPTY:?}", "`EMPTY`: must not be empty", (0, 10)),
        ("${X:?set $A}", "`X`: set aa", (0, 12)),
        ("it's", "unterminated single quote", (2, 4)),
        ("\"$A", "unterminated double quote", (0, 3)),
        ("\"a\\\"", "unterminated double quote", (0, 4)),
    ];
    for (text, message, (start, end)) in cases {
        let error = EXPANDER.word(&word(text)).unwrap_err();
        assert_eq!((error.message.as_str(), error.span()), (message, Span::new(start, end)), "{text}");
    }
    assert_eq!(expand("${A#'\\'}"), Err("the pattern `\\` ends with a lone backslash".to_owned()));
}

#[test]
fn words_split_after_expansion() {
    let cases: [(&str, &[&str]); 9] = [
        ("80", &["80"]),
        ("x${SPACED}y", &["x", "b", "c", "y"]),
        ("x\"${SPACED}\"y", &["x b  c y"]),
        ("a b", &["a", "b"]),
        ("a\\ b", &["a b"]),
        ("'a b'", &["a b"]),
        ("$X", &[]),
        ("''", &[]),
        ("${X:-80 90}/tcp", &["80", "90/tcp"]),
    ];
    for (text, expected) in cases {
        assert_eq!(
            EXPANDER.words(&word(text)).map(|words| words.value),
            Ok(expected.iter().map(|w| (*w).to_owned()).collect()),
            "{text}"
        );
    }
}

#[test]
fn other_escape_characters() {
    let expander = Expander { escape: '`', lookup: &lookup };
    let cases = [("c:\\$A", "c:\\aa"), ("`$A``", "$A`"), ("\"`$A `\" \\ `n\"", "$A \" \\ `n")];
    for (text, expected) in cases {
        assert_eq!(expander.word(&word(text)).map(|word| word.value).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn bodies_keep_their_quotes() {
    let heredoc = |body: &str, expand, strip_tabs| Heredoc {
        raw: None,
        name: "EOF".to_owned(),
        descriptor: None,
        expand,
        strip_tabs,
        body: body.to_owned(),
        span: Span::default(),
        body_span: Span::new(0, body.len() as u32),
        terminator_span: Span::default(),
    };
    let cases = [
        ("\"$A\" it's ${X:-\"d\"} \\$A\n", true, false, "\"aa\" it's \"d\" $A\n"),
        ("\t\"$A\n\t\t$A", true, true, "\"aa\naa"),
        ("$A \\$A '\n", false, false, "$A \\$A '\n"),
        ("\t$A\r\n", false, true, "$A\r\n"),
    ];
    let expander = Expander { escape: '`', lookup: &lookup };
    for (body, expand, tabs, expected) in cases {
        let expanded = expander.body(&heredoc(body, expand, tabs)).map(|body| body.value);
        assert_eq!(expanded.as_deref(), Ok(expected), "{body}");
    }
}

#[test]
fn undefined_variables_are_reported_with_their_place() {
    let undefined = |text: &str| {
        let expanded = EXPANDER.word(&word(text)).unwrap();
        expanded.undefined.into_iter().map(|name| (name.value, name.span.start, name.span.end)).collect::<Vec<_>>()
    };
    let at = |name: &str, start, end| (name.to_owned(), start, end);
    assert_eq!(undefined("$A ${EMPTY}"), []);
    assert_eq!(undefined("$X \"${Y}\" ${Z#a}"), [at("X", 0, 2), at("Y", 6, 7), at("Z", 12, 13)]);
    assert_eq!(undefined("${X:-d}${EMPTY+d}${X:-$Y}"), [at("X", 2, 3), at("Y", 22, 24), at("X", 19, 20)]);
    assert_eq!(undefined("'$X' \\$X"), []);
}

#[test]
fn deep_and_growing_words_are_refused() {
    for depth in [50, 100] {
        let deep = format!("{}x{}", "${X:-".repeat(depth), "}".repeat(depth));
        assert_eq!(expand(&deep).as_deref(), Ok("x"), "{depth}");
    }
    for depth in [101, 2_000, 20_000, 200_000] {
        let deep = format!("{}x{}", "${X:-".repeat(depth), "}".repeat(depth));
        assert!(expand(&deep).is_err_and(|message| message.contains("nested too deeply")), "{depth}");
        assert!(expand(&"${X:-".repeat(depth)).is_err(), "{depth}");
        assert!(expand(&"\"${X:-".repeat(depth)).is_err_and(|message| message.contains("too deeply")), "{depth}");
    }
    let many = |_: &str| Some("x".repeat(1 << 20));
    let expander = Expander { escape: '\\', lookup: &many };
    let error = expander.word(&word(&"$A".repeat(65))).unwrap_err();
    assert_eq!(error.message, "the expanded text is longer than 64 MiB");
    assert!(expander.word(&word("${A//x/$A}")).is_err());
}

#[test]
fn long_words_take_linear_time() {
    let long = "a'b'\"c\"\\d$A${X:-y}".repeat(20_000);
    assert_eq!(expand(&long).map(|text| text.len()), Ok(7 * 20_000));
    assert!(expand(&format!("{}'", "\"${".repeat(1000))).is_err());
}

mod simple_words {
    use proptest::prelude::*;

    use super::*;

    const FRAGMENTS: &[&str] = &[
        "a", "$", "${", "}", "$A", "${A}", "$X", "${X}", "${A", "${X", "-", "+", ":+", "b/1.2", "\"", "'", "\\", "`",
        "{", ":-", "1", "_", "é", "$é", "größe", " ", "\n", "\t", "\u{3000}", "(", "#", "-", "?", "!", "@", "*", "%",
        "/", "$SPACED", "~", "\0",
    ];

    fn text() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(FRAGMENTS), 0..9).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// What is read without the grammar means what the grammar says.
        #[test]
        fn mean_what_the_grammar_says(text in text(), backtick in any::<bool>()) {
            let word = word(&text);
            let escape = if backtick { '`' } else { '\\' };
            for (rule, escape, quotes) in
                [(Rule::expansion, escape, Quotes::Resolve), (Rule::body, '\\', Quotes::Keep)]
            {
                if simple::is_simple(&text, escape, quotes) {
                    let pieces = || Pieces::new(&text, escape, quotes);
                    let simple = EXPANDER.simple(pieces(), &word, Whole::new()).map(|(output, names)| (output.0, names));
                    let Ok((output, names)) = EXPANDER.parsed(rule, escape, &word, Whole::new()) else {
                        panic!("{text:?} is not simple");
                    };
                    prop_assert_eq!(simple, Ok((output.0, names)));
                    let split = |(output, names): (Split, Vec<_>)| (output.finish(), names);
                    let simple = EXPANDER.simple(pieces(), &word, Split::default()).map(split);
                    prop_assert_eq!(simple, EXPANDER.parsed(rule, escape, &word, Split::default()).map(split));
                }
            }
        }
    }

    #[test]
    fn are_what_people_write() {
        for text in [
            "a",
            "$A",
            "${A}/b:$B",
            "${A:-1.2}",
            "\"${A+--x=y} $B\"",
            "\"a $B\"",
            "'a b'c",
            "a=$",
            "$(date)",
            "\"it's $A\"",
            "",
        ] {
            assert!(simple::is_simple(text, '\\', Quotes::Resolve), "{text}");
        }
        for text in ["\\$A", "${A:-b c}", "${A:-$B}", "${A:?}", "${A:-b", "$1", "${é}", "$Aé", "\"", "'", "${A", "${}"]
        {
            assert!(!simple::is_simple(text, '\\', Quotes::Resolve), "{text}");
        }
    }
}
