//! Do the Dockerfiles of `testdata` parse, or say what is wrong with them? What parses and is bad even so, cannot be built.
//!
//! `UPDATE_EXPECTED=1` writes what is said to the `.expected` files; read the difference before committing it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use rbuild_core::{Digest, Platform};
use rbuild_frontend::{
    Diagnostic, Label, LowerError, LowerOptions, ResolveImage, Severity, Source, check, lower, parse,
};
use rbuild_image::ImageConfig;

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
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let options = LowerOptions::new("linux/amd64".parse().unwrap());
    for path in files("bad") {
        let source = Source::new("Dockerfile", fs::read_to_string(&path).unwrap());
        let said = match parse(&source) {
            Err(errors) => describe(&source, &errors),
            Ok(file) => match runtime.block_on(lower(&file, &options, &Registry)) {
                Ok(_) => panic!("nothing is wrong with {}", path.display()),
                Err(LowerError::Mistakes(errors)) => describe(&source, &[check(&file), errors].concat()),
                Err(LowerError::Image { name, span, hint, .. }) => {
                    let error = Diagnostic::error(span, format!("no image `{name}`")).hint_if(hint);
                    describe(&source, &[check(&file), vec![error]].concat())
                }
                Err(LowerError::Date { name, .. }) => panic!("{} asks when `{name}` was changed", path.display()),
            },
        };
        compare(&path, &said);
    }
}

/// Has `busybox`, and `broken`, whose triggers are no instructions.
struct Registry;

#[derive(Debug, thiserror::Error)]
#[error("no such image")]
struct Unknown;

impl ResolveImage for Registry {
    type Error = Unknown;

    async fn resolve(&self, name: &str, platform: &Platform) -> Result<(Digest, ImageConfig), Unknown> {
        let mut image = ImageConfig::scratch(platform);
        match name {
            "busybox" => {}
            "broken" => {
                image.config.on_build = ["CPOY a b", "WORKDIR", "FROM x", "RUN a\nRUN b"].map(str::to_owned).to_vec();
            }
            _ => return Err(Unknown),
        }
        Ok((Digest::sha256([1; 32]), image))
    }
}
