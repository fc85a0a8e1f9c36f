//! Does every text parse or come back as mistakes that can be drawn, in linear time, and always the same?
//!
//! The text is a Dockerfile, a trigger, the value of a `--mount` and a word to expand.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use rbuild_frontend::ast::{Instruction, Kind, Word};
use rbuild_frontend::expand::Expander;
use rbuild_frontend::fix::repair;
use rbuild_frontend::{Source, Span, Surroundings, check, examine, mount, parse, parse_trigger};
use rbuild_fuzz::{cost::bounded, spans};

fuzz_target!(|text: &str| -> Corpus {
    let source = Source::new("Dockerfile", text);
    file(&source);
    if let Err(found) = bounded("parsing a trigger", text.len(), || parse_trigger(&source)) {
        assert!(!found.is_empty(), "neither a trigger nor a mistake");
        spans::drawable(&source, &found);
    }
    word(&source);
    Corpus::Keep
});

fn file(source: &Source) {
    let length = source.text().len();
    let parsed = bounded("parsing", length, || parse(source));
    assert_eq!(parsed, parse(source), "the same text was read twice and came out different");
    match parsed {
        Ok(file) => {
            let found = bounded("checking", length, || check(&file));
            spans::drawable(source, &found);
            spans::drawable(source, &file.warnings);
            for stage in &file.stages {
                header(source, &stage.header);
                let mut last = stage.header.span.start;
                for instruction in &stage.instructions {
                    header(source, &instruction.header);
                    assert!(last < instruction.header.span.start, "instructions are out of order");
                    last = instruction.header.span.start;
                    words(source, instruction);
                }
            }
        }
        Err(found) => {
            assert!(!found.is_empty(), "neither a file nor a mistake");
            spans::drawable(source, &found);
        }
    }
    let repaired = bounded("repairing", length, || repair(source));
    spans::drawable(source, &examine(source, &Surroundings::default()));
    if parse(source).is_ok() {
        assert!(parse(&repaired.source).is_ok(), "a repair broke it:\n{}", repaired.source.text());
    }
}

fn header(source: &Source, header: &rbuild_frontend::ast::Header) {
    spans::inside(source, header.span, header);
    let written = source.slice(header.keyword.span);
    // A continuation may go through it.
    if written.len() == header.keyword.text.len() {
        assert_eq!(written, header.keyword.text, "a keyword is not where it is said to be");
    } else {
        assert!(written.contains('\n'), "a keyword is not where it is said to be: {written:?}");
    }
    for comment in &header.comments {
        spans::inside(source, comment.span, comment);
    }
}

fn words(source: &Source, instruction: &Instruction) {
    let inside = |word: &Word| spans::inside(source, word.span, word);
    match &instruction.kind {
        Kind::Run(run) => run.mounts.iter().for_each(inside),
        Kind::Env(pairs) | Kind::Label(pairs) => {
            for pair in &pairs.pairs {
                inside(&pair.name);
                inside(&pair.value);
            }
        }
        Kind::Copy(copy) => inside(&copy.destination),
        Kind::Add(add) => inside(&add.destination),
        Kind::Arg(arg) => arg.declarations.iter().for_each(|declaration| inside(&declaration.name)),
        _ => {}
    }
}

/// The whole text as a word.
fn word(source: &Source) {
    let text = source.text();
    let lookup = |name: &str| (name != "x").then(|| format!("<{name}>"));
    for escape in ['\\', '`'] {
        let expander = Expander { escape, lookup: &lookup };
        let end = u32::try_from(text.len()).expect("inputs are small");
        let word = Word { span: Span::new(0, end), text: text.to_owned() };
        let one = bounded("expanding", text.len(), || expander.word(&word));
        let many = bounded("expanding and splitting", text.len(), || expander.words(&word));
        assert_eq!(one.is_ok(), many.is_ok(), "one word, or several: {one:?} {many:?}");
        if let Err(mistake) = one {
            spans::drawable(source, &[mistake]);
        }
        let mut expand = |value: &Word| expander.word(value).map(|value| value.value);
        if let Err(mistake) = bounded("reading a mount", text.len(), || mount::parse(&word, &mut expand)) {
            spans::drawable(source, &[mistake]);
        }
    }
}
