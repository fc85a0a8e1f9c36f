//! How does JSON for `buildx` users look?
//!
//! ```text
//! { "warnings": [{ "ruleName", "description", "url", "detail", "location": { "ranges": [{ "start", "end" }] } }],
//!   "sources": [{ "filename", "language", "data": base64 }],
//!   "buildError": { "message", "location" } }
//! ```
//!
//! Lines count from 1, characters from 0. Only here: `hint` and `fix` of a warning, places within a line, and `errors`,
//! of which `buildError` is the first.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rbuild_core::Span;
use rbuild_frontend::{Diagnostic, Source};
use serde_json::{Map, Value, json};

use super::{is_error, rule_name};

/// The whole object.
pub fn report(source: &Source, found: &[Diagnostic]) -> Value {
    let (errors, warnings): (Vec<_>, Vec<_>) = found.iter().partition(|found| is_error(found));
    let list = |found: Vec<&Diagnostic>| found.into_iter().map(|found| finding(source, found)).collect::<Vec<_>>();
    let first =
        errors.first().map(|first| json!({"message": first.message, "location": location(source, first.span())}));
    let mut report = json!({
        "warnings": list(warnings),
        "sources": [{"filename": source.name(), "language": "Dockerfile", "data": STANDARD.encode(source.to_bytes())}],
    });
    if let (Some(first), Value::Object(report)) = (first, &mut report) {
        report.insert("buildError".to_owned(), first);
        report.insert("errors".to_owned(), list(errors).into());
    }
    report
}

fn finding(source: &Source, found: &Diagnostic) -> Value {
    let mut finding = Map::new();
    finding.insert("ruleName".to_owned(), rule_name(found).into());
    if let Some(rule) = found.rule {
        finding.insert("description".to_owned(), rule.summary().into());
        finding.extend(rule.url().map(|url| ("url".to_owned(), url.into())));
    }
    finding.insert("detail".to_owned(), found.message.as_str().into());
    finding.insert("location".to_owned(), location(source, found.span()));
    finding.extend(found.hint.as_ref().map(|hint| ("hint".to_owned(), hint.as_str().into())));
    if let Some(fix) = &found.fix {
        let edit = |span, text: &str| json!({"range": range(source, span), "text": text});
        let edits: Vec<_> = fix.edits.iter().map(|one| edit(one.span, &one.text)).collect();
        finding.insert("fix".to_owned(), json!({"edits": edits}));
    }
    finding.into()
}

/// Warnings as metadata files have them: texts in base64, as Go writes bytes. The Dockerfile comes with the first one.
pub fn build_warnings(source: &Source, found: &[Diagnostic]) -> Value {
    let warning = |(at, found): (usize, &Diagnostic)| {
        let mut info = json!({"filename": source.name(), "language": "Dockerfile"});
        if at == 0 {
            info["data"] = STANDARD.encode(source.to_bytes()).into();
        }
        let line = source.position(found.span().start).line;
        let short = format!("{}: {} (line {line})", rule_name(found), found.message);
        let mut warning = json!({
            "level": 1,
            "short": STANDARD.encode(short),
            "sourceInfo": info,
            "range": [range(source, found.span())],
        });
        if let (Some(rule), Value::Object(warning)) = (found.rule, &mut warning) {
            warning.insert("detail".to_owned(), json!([STANDARD.encode(rule.summary())]));
            warning.extend(rule.url().map(|url| ("url".to_owned(), url.into())));
        }
        warning
    };
    found.iter().enumerate().map(warning).collect()
}

/// A place as BuildKit writes it.
pub fn location(source: &Source, span: Span) -> Value {
    json!({"ranges": [range(source, span)]})
}

fn range(source: &Source, span: Span) -> Value {
    let position = |offset| {
        let position = source.position(offset);
        json!({"line": position.line, "character": position.column - 1})
    };
    json!({"start": position(span.start), "end": position(span.end.max(span.start))})
}
