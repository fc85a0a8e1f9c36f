//! What does the value of an option mean?

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
    bytes(&value.text).ok_or_else(|| invalid(field, value, "a size as `64m`"))
}

/// A number with an optional fraction and a unit: `b`, or `k`, `m`, `g`, `t`, `p`, each with `b` or `ib` after it;
/// powers of 1024 as memory sizes everywhere in Docker.
fn bytes(text: &str) -> Option<u64> {
    let split = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let digits = digits.trim_end_matches(' ');
    if !digits.starts_with(|digit: char| digit.is_ascii_digit() || digit == '.') {
        return None;
    }
    let amount: f64 = digits.parse().ok()?;
    let unit = unit.to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
        "" if !unit.starts_with('i') => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let size = amount * 1024_f64.powi(power);
    (size.is_finite() && size < u64::MAX as f64).then_some(size as u64)
}
