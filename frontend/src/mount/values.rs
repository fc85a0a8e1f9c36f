//! What does the value of an option mean?

use rbuild_core::parse_size;

use super::Field;
use crate::ast::Word;
use crate::diagnostic::Diagnostic;
use crate::suggest::did_you_mean;

pub(super) fn choice<T: Copy>(field: &Field, value: &Word, names: &[(&str, T)], what: &str) -> Result<T, Diagnostic> {
    let wanted = value.text.to_lowercase();
    let found = names.iter().find(|(name, _)| *name == wanted).map(|(_, choice)| *choice);
    found.ok_or_else(|| {
        let known: Vec<_> = names.iter().map(|(name, _)| format!("`{name}`")).collect();
        let hint = did_you_mean(&wanted, names.iter().map(|(name, _)| *name));
        Diagnostic::error(value.span, format!("unsupported {what} `{}` in `{}`", value.text, field.text))
            .hint(hint.unwrap_or_else(|| format!("one of {}", known.join(", "))))
    })
}

fn invalid(field: &Field, value: &Word, expected: &str) -> Diagnostic {
    Diagnostic::error(value.span, format!("invalid value `{}` for `{}`", value.text, field.name))
        .hint(format!("expected {expected}"))
}

/// Permission bits.
pub(super) fn mode(field: &Field, value: &Word) -> Result<u32, Diagnostic> {
    let mode = u32::from_str_radix(&value.text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| invalid(field, value, "an octal mode"))
}

pub(super) fn number(field: &Field, value: &Word) -> Result<u32, Diagnostic> {
    value.text.parse().map_err(|_| invalid(field, value, "a number"))
}

/// The spellings of Go's `strconv.ParseBool`.
pub(super) fn boolean(field: &Field, value: &Word) -> Result<bool, Diagnostic> {
    match value.text.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(invalid(field, value, "`true` or `false`")),
    }
}

/// A number of bytes.
pub(super) fn size(field: &Field, value: &Word) -> Result<u64, Diagnostic> {
    parse_size(&value.text).ok_or_else(|| invalid(field, value, "a size as `64m`"))
}
