//! How does a SARIF log look?
//!
//! Version 2.1.0, one run: the rules that found something, and a result for each finding, with its fix if there is one.
//! Lines and columns count from 1, columns in characters.

use rbuild_core::Span;
use rbuild_frontend::rule::Rule;
use rbuild_frontend::{Diagnostic, Label, Source};
use serde_json::{Map, Value, json};

use super::{NO_RULE, is_error, rule_name};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// The whole log.
pub fn report(source: &Source, found: &[Diagnostic]) -> Value {
    let mut used: Vec<Option<Rule>> = found.iter().map(|found| found.rule).collect();
    used.sort();
    used.dedup();
    let results: Vec<_> = found.iter().map(|found| result(source, found, &used)).collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "rbuild",
                "version": env!("CARGO_PKG_VERSION"),
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": used.iter().map(|rule| descriptor(*rule)).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "artifacts": [{"location": {"uri": uri(source.name())}, "sourceLanguage": "dockerfile"}],
            "results": results,
        }],
    })
}

fn descriptor(rule: Option<Rule>) -> Value {
    let Some(rule) = rule else {
        return json!({
            "id": NO_RULE,
            "shortDescription": {"text": "The Dockerfile has no meaning here."},
            "defaultConfiguration": {"level": "error"},
        });
    };
    let mut descriptor = json!({
        "id": rule.name(),
        "name": rule.name(),
        "shortDescription": {"text": rule.summary()},
        "help": {"text": format!("{} To leave it out, write `# check=skip={rule}`.", rule.summary())},
        "defaultConfiguration": {"level": "warning"},
    });
    if let (Some(url), Value::Object(descriptor)) = (rule.url(), &mut descriptor) {
        descriptor.insert("helpUri".to_owned(), url.into());
    }
    descriptor
}

fn result(source: &Source, found: &Diagnostic, used: &[Option<Rule>]) -> Value {
    let text = match &found.hint {
        Some(hint) => format!("{} ({hint})", found.message),
        None => found.message.clone(),
    };
    let mut result = Map::new();
    result.insert("ruleId".to_owned(), rule_name(found).into());
    result.extend(used.iter().position(|rule| *rule == found.rule).map(|at| ("ruleIndex".to_owned(), at.into())));
    result.insert("level".to_owned(), if is_error(found) { "error" } else { "warning" }.into());
    result.insert("message".to_owned(), json!({"text": text}));
    result.insert("locations".to_owned(), json!([location(source, &found.primary)]));
    if !found.secondary.is_empty() {
        let related: Vec<_> = found.secondary.iter().map(|label| location(source, label)).collect();
        result.insert("relatedLocations".to_owned(), related.into());
    }
    if let Some(fix) = &found.fix {
        let replacements: Vec<_> = fix
            .edits
            .iter()
            .map(|edit| json!({"deletedRegion": region(source, edit.span), "insertedContent": {"text": edit.text}}))
            .collect();
        let change = json!({"artifactLocation": artifact(source), "replacements": replacements});
        result.insert("fixes".to_owned(), json!([{"artifactChanges": [change]}]));
    }
    result.into()
}

fn location(source: &Source, label: &Label) -> Value {
    let physical = json!({"artifactLocation": artifact(source), "region": region(source, label.span)});
    let mut location = json!({"physicalLocation": physical});
    if let (false, Value::Object(location)) = (label.text.is_empty(), &mut location) {
        location.insert("message".to_owned(), json!({"text": label.text}));
    }
    location
}

fn artifact(source: &Source) -> Value {
    json!({"uri": uri(source.name()), "index": 0})
}

/// The end is the place behind the last character.
fn region(source: &Source, span: Span) -> Value {
    let (start, end) = (source.position(span.start), source.position(span.end.max(span.start)));
    json!({
        "startLine": start.line,
        "startColumn": start.column,
        "endLine": end.line,
        "endColumn": end.column,
    })
}

/// A path as a relative reference, or a file URI if it is absolute.
fn uri(path: &str) -> String {
    let mut uri = if path.starts_with('/') { "file://".to_owned() } else { String::new() };
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => uri.push(char::from(byte)),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}
