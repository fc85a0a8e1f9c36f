//! Which part of a value does a pattern match?
//!
//! `*` matches any text, `?` one character, a backslash takes the meaning from what follows. There are no character
//! classes. Patterns become regular expressions, which the `regex` crate matches in linear time.

use rbuild_core::Span;
use regex::{NoExpand, Regex, RegexBuilder};

use crate::diagnostic::Diagnostic;

/// Why a pattern cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum PatternError {
    #[error("the pattern `{0}` ends with a lone backslash")]
    Escape(String),
    #[error("the pattern is too long")]
    Size,
    #[error("the result of the replacement is too long")]
    Result,
}

impl PatternError {
    pub(super) fn at(&self, span: Span) -> Diagnostic {
        let hint = match &self {
            Self::Escape(_) => "write `\\\\` for a backslash",
            Self::Size | Self::Result => "let a `RUN` compute the text",
        };
        Diagnostic::error(span, self.to_string()).hint(hint)
    }
}

/// How often to replace.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Which {
    First,
    All,
}

/// Takes the prefix (`#`, `##`) or suffix (`%`, `%%`) off that the pattern matches; doubled operators take the longest.
pub(super) fn trim(value: &str, operator: &str, pattern: &str) -> Result<String, PatternError> {
    let longest = operator.len() == 2;
    let parts = parts(pattern)?;
    if operator.starts_with('#') {
        let found = compile(&parts, longest, Anchor::Start)?.find(value);
        return Ok(found.map_or(value, |found| &value[found.end()..]).to_owned());
    }
    // A leftmost search cannot find the shortest suffix, so both sides are turned round.
    let backwards: Vec<Part> = parts.into_iter().rev().collect();
    let turned: String = value.chars().rev().collect();
    let end = compile(&backwards, longest, Anchor::Start)?.find(&turned).map_or(0, |found| found.end());
    Ok(value[..value.len() - end].to_owned())
}

/// Replaces the first or every match, each the longest possible; an empty match counts.
pub(super) fn replace(
    value: &str,
    pattern: &str,
    replacement: &str,
    which: Which,
    limit: usize,
) -> Result<String, PatternError> {
    let regex = compile(&parts(pattern)?, true, Anchor::None)?;
    if which == Which::First {
        return Ok(regex.replace(value, NoExpand(replacement)).into_owned());
    }
    let matches = regex.find_iter(value).count();
    if matches.saturating_mul(replacement.len()) > limit {
        return Err(PatternError::Result);
    }
    Ok(regex.replace_all(value, NoExpand(replacement)).into_owned())
}

#[derive(Clone, Copy)]
enum Part {
    Any,
    One,
    Literal(char),
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Anchor {
    None,
    Start,
}

fn parts(pattern: &str) -> Result<Vec<Part>, PatternError> {
    let mut parts = Vec::new();
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        parts.push(match letter {
            '*' => Part::Any,
            '?' => Part::One,
            '\\' => Part::Literal(letters.next().ok_or_else(|| PatternError::Escape(pattern.to_owned()))?),
            other => Part::Literal(other),
        });
    }
    Ok(parts)
}

fn compile(parts: &[Part], longest: bool, anchor: Anchor) -> Result<Regex, PatternError> {
    let mut text = String::from(if anchor == Anchor::Start { "^" } else { "" });
    for part in parts {
        match part {
            Part::Any => text.push_str(if longest { ".*" } else { ".*?" }),
            Part::One => text.push('.'),
            Part::Literal(letter) => text.push_str(&regex::escape(letter.encode_utf8(&mut [0; 4]))),
        }
    }
    RegexBuilder::new(&text).build().map_err(|_| PatternError::Size)
}
