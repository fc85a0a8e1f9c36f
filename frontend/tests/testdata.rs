//! Do the Dockerfiles of `testdata` parse, or say what is wrong with them?
//!
//! `UPDATE_EXPECTED=1` writes what is said to the `.expected` files; read the difference before committing it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use rbuild_frontend::{Diagnostic, Label, Severity, Source, check, parse};

fn place(source: &Source, label: &Label) -> String {
    let (start, end) = (source.position(label.span.start), source.position(label.span.end));
    if start.line == end.line {
        format!("{}:{}-{}", start.line, start.column, end.column)
    } else {
        format!("{}:{}-{}:{}", start.line, start.column, end.line, end.column)
    }
}

fn describe(source: &Source, found: &[Diagnostic]) -> String {
    let mut text = String::new();
    for diagnostic in found {
        let severity = match (diagnostic.severity, diagnostic.rule) {
            (Severity::Error, _) => "error".to_owned(),
            (Severity::Warning, rule) => rule.map_or_else(String::new, |rule| rule.to_string()),
        };
        let label = if diagnostic.primary.text.is_empty() { "" } else { " — " };
        writeln!(
            text,
            "{} {severity}: {}{label}{}",
            place(source, &diagnostic.primary),
            diagnostic.message,
            diagnostic.primary.text
        )
        .unwrap();
        for label in &diagnostic.secondary {
            writeln!(text, "    {}: {}", place(source, label), label.text).unwrap();
        }
        if let Some(hint) = &diagnostic.hint {
            writeln!(text, "    hint: {hint}").unwrap();
        }
    }
    text
}

fn files(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(directory);
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "Dockerfile")).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn compare(path: &Path, said: &str) {
    let expected = path.with_extension("expected");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        if said.is_empty() {
            drop(fs::remove_file(&expected));
        } else {
            fs::write(&expected, said).unwrap();
        }
    }
    assert_eq!(said, fs::read_to_string(&expected).unwrap_or_default(), "{}", path.display());
}

#[test]
fn good_files_parse() {
    for path in files("good") {
        let source = Source::new("Dockerfile", fs::read_to_string(&path).unwrap());
        match parse(&source) {
            Ok(file) => compare(&path, &describe(&source, &check(&file))),
            Err(errors) => panic!("{}:\n{}", path.display(), describe(&source, &errors)),
        }
    }
}

#[test]
fn bad_files_say_what_is_wrong() {
    for path in files("bad") {
        let source = Source::new("Dockerfile", fs::read_to_string(&path).unwrap());
        match parse(&source) {
            Ok(_) => panic!("{} parses", path.display()),
            Err(errors) => compare(&path, &describe(&source, &errors)),
        }
    }
}
