//! Does any text make the parser panic, or point outside of the text?

use proptest::prelude::*;
use rbuild_frontend::ast::{Command, Kind};
use rbuild_frontend::expand::Expander;
use rbuild_frontend::{Diagnostic, Source, Span, check, mount, parse, parse_trigger};

/// Pieces that meet each other in odd ways.
const FRAGMENTS: &[&str] = &[
    "FROM ",
    "from",
    "RUN ",
    "COPY ",
    "ADD ",
    "ENV ",
    "LABEL ",
    "ARG ",
    "CMD ",
    "ENTRYPOINT ",
    "EXPOSE ",
    "HEALTHCHECK ",
    "ONBUILD ",
    "SHELL ",
    "STOPSIGNAL ",
    "USER ",
    "VOLUME ",
    "WORKDIR ",
    "MAINTAINER ",
    "EMTRYPOINT ",
    " AS ",
    "x",
    "é",
    "\u{3000}",
    "\u{A0}",
    " ",
    "\t",
    "\n",
    "\n",
    "\n",
    "\r\n",
    "\\\n",
    "\\ \n",
    "`\n",
    "\\",
    "`",
    "# ",
    "# c\n",
    "\u{FEFF}",
    "# escape=`\n",
    "# check=skip=all;error=true\n",
    "# syntax=docker/dockerfile:1\n",
    "--",
    "--mount=",
    "type=cache,",
    "target=/x",
    "--from=",
    "--chmod=",
    "--interval=",
    "1m",
    "=",
    ",",
    ":",
    "/",
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    "$",
    "${",
    "${a:-",
    "${a##",
    "${a//",
    "\\$",
    "$a",
    "\\u00e9",
    "<<",
    "<<EOF",
    "<<-'E'",
    "EOF",
    "E",
    "\nEOF\n",
    "80",
    "/udp",
    "NONE",
    "\0",
    "💥",
];

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(FRAGMENTS), 0..60).prop_map(|parts| parts.concat())
}

/// Every span lies in the text, at borders of characters.
fn inside(text: &str, found: &[Diagnostic]) -> Result<(), TestCaseError> {
    for diagnostic in found {
        for label in std::iter::once(&diagnostic.primary).chain(&diagnostic.secondary) {
            let Span { start, end } = label.span;
            prop_assert!(start <= end, "{diagnostic:?} in {text:?}");
            prop_assert!(text.get(label.span.range()).is_some(), "{diagnostic:?} in {text:?}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics(text in text(), stage in any::<bool>()) {
        let text = if stage { format!("FROM x\n{text}") } else { text };
        let source = Source::new("Dockerfile", text.as_str());
        match parse(&source) {
            Ok(file) => {
                let found = check(&file);
                inside(&text, &found)?;
                for stage in &file.stages {
                    prop_assert!(text.get(stage.header.span.range()).is_some());
                    let mut last = stage.header.span.start;
                    for instruction in &stage.instructions {
                        let header = &instruction.header;
                        prop_assert!(last < header.span.start && header.span.start < header.span.end, "{text:?}");
                        prop_assert_eq!(source.slice(header.keyword.span), &header.keyword.text);
                        last = header.span.start;
                    }
                }
            }
            Err(found) => {
                prop_assert!(!found.is_empty());
                inside(&text, &found)?;
            }
        }
        if let Err(found) = parse_trigger(&source) {
            inside(&text, &found)?;
        }
    }

    #[test]
    fn words_expand_or_say_why(text in text(), backtick in any::<bool>()) {
        let lookup = |name: &str| (name != "x").then(|| format!("<{name}>"));
        let expander = Expander { escape: if backtick { '`' } else { '\\' }, lookup: &lookup };
        let word = rbuild_frontend::ast::Word { span: Span::new(0, text.len() as u32), text: text.clone() };
        if let Err(error) = expander.word(&word) {
            inside(&text, &[error])?;
        }
        let whole = expander.words(&word);
        prop_assert_eq!(whole.is_ok(), expander.word(&word).is_ok());
        if let Err(error) = mount::parse(&word, &mut |value| expander.word(value).map(|value| value.value)) {
            inside(&text, &[error])?;
        }
    }

    /// Arrays are those of JSON, whatever stands in their strings.
    #[test]
    fn arrays_decode_as_json_does(words in prop::collection::vec(any::<String>(), 1..8)) {
        let text = format!("FROM x\nRUN {}\n", serde_json::to_string(&words).unwrap());
        let file = parse(&Source::new("Dockerfile", text)).unwrap();
        let Kind::Run(run) = &file.stages[0].instructions[0].kind else { panic!() };
        let Command::Exec(found) = &run.command else { panic!("{:?}", run.command) };
        prop_assert_eq!(found.iter().map(|word| word.text.as_str()).collect::<Vec<_>>(), words);
    }

    /// Wherever a line is continued, it says the same, and each word knows the bytes it came from.
    #[test]
    fn continuations_change_nothing(parts in prop::collection::vec("[a-z0-9$=,.é-]{1,5}", 1..12)) {
        let line = parts.concat();
        let text = format!("FROM x\nRUN a {}\n", parts.join("\\\n# between\n"));
        let source = Source::new("Dockerfile", text);
        let file = parse(&source).unwrap();
        let instruction = &file.stages[0].instructions[0];
        prop_assert_eq!(&instruction.header.text, &format!("RUN a {line}"));
        let Kind::Run(run) = &instruction.kind else { panic!() };
        let Command::Shell(word) = &run.command else { panic!() };
        let glued: String = source.slice(word.span).split("\\\n# between\n").collect();
        prop_assert_eq!(&glued, &word.text);
    }

    #[test]
    fn plain_words_expand_to_themselves(text in "[^$\"'\\\\]*") {
        let expander = Expander { escape: '\\', lookup: &|_| None };
        let word = rbuild_frontend::ast::Word { span: Span::new(0, text.len() as u32), text: text.clone() };
        prop_assert_eq!(expander.word(&word).map(|word| word.value), Ok(text));
    }

    /// What is quoted means itself, whatever it is.
    #[test]
    fn quoted_words_expand_to_what_was_quoted(text in "[^']*") {
        let expander = Expander { escape: '\\', lookup: &|_| None };
        let quoted = format!("'{text}'");
        let word = rbuild_frontend::ast::Word { span: Span::new(0, quoted.len() as u32), text: quoted };
        prop_assert_eq!(expander.word(&word).map(|word| word.value), Ok(text));
    }
}
