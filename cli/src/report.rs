//! In which form are findings about a Dockerfile written down?
//!
//! As text for people ([`diagnostics`](crate::diagnostics)), as JSON in the shape of `docker buildx build
//! --call=check,format=json` with what that has no room for besides, or as SARIF for the programs that show findings next
//! to code.

mod json;
mod sarif;
#[cfg(test)]
mod tests;

use rbuild_frontend::{Diagnostic, Severity, Source};
use serde_json::Value;

pub use self::json::{build_warnings, location};
use crate::diagnostics::{Colour, render};

/// `--format` of what checks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum ReportFormat {
    /// Excerpts with remarks
    #[default]
    Text,
    /// One object, in the shape of `docker buildx build --call=check,format=json`
    Json,
    /// SARIF 2.1.0
    Sarif,
}

/// Everything that was found, or that nothing was.
pub fn write(format: ReportFormat, source: &Source, found: &[Diagnostic], colour: Colour) -> String {
    match format {
        ReportFormat::Text if found.is_empty() => "no warnings found\n".to_owned(),
        ReportFormat::Text => text(source, found, colour),
        ReportFormat::Json => pretty(&json::report(source, found)),
        ReportFormat::Sarif => pretty(&sarif::report(source, found)),
    }
}

/// As files and terminals want JSON: indented, with a line end.
pub fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn text(source: &Source, found: &[Diagnostic], colour: Colour) -> String {
    let mut text = render(source, found, colour);
    let repairable = found.iter().filter(|found| found.fix.is_some()).count();
    if repairable > 0 {
        text.push_str(&format!("{repairable} of {} can be repaired: `rbuild check --fix`\n", found.len()));
    }
    text
}

/// What both machine formats say of a finding without a rule of its own.
const NO_RULE: &str = "DockerfileError";

fn rule_name(found: &Diagnostic) -> &'static str {
    found.rule.map_or(NO_RULE, |rule| rule.name())
}

fn is_error(found: &Diagnostic) -> bool {
    found.severity == Severity::Error
}
