//! What do history entries say?
//!
//! Texts as BuildKit writes them, that is as Go prints the values: people and tools read `docker history`.

use std::fmt::Write;

use rbuild_image::{Healthcheck, History};

const COMMENT: &str = "buildkit.dockerfile.v0";

/// Whether an instruction makes a layer, and whether it did so by running something or copying files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LayerKind {
    /// It only changes the configuration.
    None,
    /// `WORKDIR`.
    Directory,
    /// `RUN`, `COPY` and `ADD`: the text is marked.
    Files,
}

pub(super) fn entry(mut text: String, layer: LayerKind) -> History {
    if layer == LayerKind::Files {
        text.push_str(" # buildkit");
    }
    History {
        created_by: Some(text),
        comment: Some(COMMENT.to_owned()),
        empty_layer: layer == LayerKind::None,
        ..History::default()
    }
}

/// `["a" "b"]`: Go's `%q` of a list.
pub(super) fn quoted_list(texts: &[String]) -> String {
    let quoted: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", quoted.join(" "))
}

/// `[a b]`: Go's `%v` of a list.
pub(super) fn plain_list(texts: &[String]) -> String {
    format!("[{}]", texts.join(" "))
}

/// Go's `%+v` of a health check.
pub(super) fn healthcheck(check: &Healthcheck) -> String {
    format!(
        "{{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        plain_list(&check.test),
        duration(check.interval),
        duration(check.timeout),
        duration(check.start_period),
        duration(check.start_interval),
        check.retries
    )
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            control if control.is_control() && control.is_ascii() => {
                write!(out, "\\x{:02x}", u32::from(control)).expect("a String takes everything");
            }
            control if control.is_control() => {
                write!(out, "\\u{:04x}", u32::from(control)).expect("a String takes everything");
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// Go's `Duration.String`: `1m30s`, `500ms`, `1.5s`, `0s`.
fn duration(nanoseconds: i64) -> String {
    let total = nanoseconds.unsigned_abs();
    let fraction = |value: u64, unit: u64, name: &str| {
        let digits = format!("{:0width$}", value % unit, width = unit.ilog10() as usize);
        let digits = digits.trim_end_matches('0');
        let point = if digits.is_empty() { "" } else { "." };
        format!("{}{point}{digits}{name}", value / unit)
    };
    match total {
        0 => "0s".to_owned(),
        1..1_000 => format!("{total}ns"),
        1_000..1_000_000 => fraction(total, 1_000, "µs"),
        1_000_000..1_000_000_000 => fraction(total, 1_000_000, "ms"),
        _ => {
            let (minutes, rest) = (total / 60_000_000_000, total % 60_000_000_000);
            let seconds = fraction(rest, 1_000_000_000, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        for (nanoseconds, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (500_000_000, "500ms"),
            (2_000_000_000, "2s"),
            (2_050_000_000, "2.05s"),
            (90_000_000_000, "1m30s"),
            (5_400_000_000_000, "1h30m0s"),
            (60_000_000_000, "1m0s"),
        ] {
            assert_eq!(duration(nanoseconds), expected);
        }
    }

    #[test]
    fn lists_are_quoted_as_go_does() {
        let texts = ["sh".to_owned(), "say \"hi\"\n\t\\".to_owned(), "é\u{1}".to_owned()];
        assert_eq!(quoted_list(&texts), r#"["sh" "say \"hi\"\n\t\\" "é\x01"]"#);
        assert_eq!(plain_list(&texts[..1]), "[sh]");
    }
}
