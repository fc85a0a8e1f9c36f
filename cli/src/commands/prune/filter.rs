//! What does a `--filter` mean?

use std::time::Duration;

use rbuild_engine::prune::{Filter, FilterField, FilterTest};

/// One `--filter`.
#[derive(Clone, Debug)]
pub enum Given {
    /// `until=24h`
    Until(Duration),
    /// Everything else.
    Matching(Filter),
}

/// `until=24h`, `type=cachemount`, `id!=abc`, `description~=npm`.
pub fn parse(text: &str) -> Result<Given, String> {
    let wrong = || format!("`{text}` is no filter such as until=24h, type=step or description~=npm");
    let end = text.find(|char: char| !char.is_ascii_lowercase()).ok_or_else(wrong)?;
    let (name, rest) = text.split_at(end);
    let (operator, value) = ["==", "!=", "~=", "="]
        .into_iter()
        .find_map(|operator| Some((operator, rest.strip_prefix(operator)?)))
        .ok_or_else(wrong)?;
    let field = match name {
        "until" if matches!(operator, "=" | "==") => return time(value).map(Given::Until),
        "id" => FilterField::Id,
        "type" => FilterField::Kind,
        "description" => FilterField::Description,
        _ => return Err(format!("not supported: --filter {text}")),
    };
    let test = match operator {
        "!=" => FilterTest::IsNot(value.to_owned()),
        "~=" => FilterTest::matches(value).map_err(|error| format!("`{value}` is no regular expression: {error}"))?,
        _ => FilterTest::Is(value.to_owned()),
    };
    Ok(Given::Matching(Filter { field, test }))
}

/// A time in Go's notation, `1h30m` for instance.
fn time(value: &str) -> Result<Duration, String> {
    let wrong = || format!("`{value}` is not a time such as 24h or 1h30m");
    let mut total = 0.0;
    let mut rest = value;
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit() && char != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = rest[digits..].find(|char: char| char.is_ascii_digit()).map_or(rest.len(), |length| digits + length);
        total += number
            * match &rest[digits..unit] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(wrong()),
            };
        rest = &rest[unit..];
    }
    if value.is_empty() { Err(wrong()) } else { Duration::try_from_secs_f64(total).map_err(|_| wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_gos() {
        for (text, seconds) in [("until=24h", 86_400), ("until=1h30m", 5400), ("until=90s", 90), ("until=0.5h", 1800)] {
            let Ok(Given::Until(time)) = parse(text) else { panic!("{text}") };
            assert_eq!(time, Duration::from_secs(seconds), "{text}");
        }
        for text in ["", "until=", "until=1", "until=h", "until=1d", "until=1..2h", "until=999999999999999999999h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn conditions_have_a_field_and_a_test() {
        for (text, field, test) in [
            ("id=abc", "Id", "Is(\"abc\")"),
            ("type==step", "Kind", "Is(\"step\")"),
            ("type!=image", "Kind", "IsNot(\"image\")"),
            ("description~=RUN .*=x", "Description", "Matches(Regex(\"RUN .*=x\"))"),
        ] {
            let Ok(Given::Matching(filter)) = parse(text) else { panic!("{text}") };
            assert_eq!(
                (format!("{:?}", filter.field), format!("{:?}", filter.test)),
                (field.to_owned(), test.to_owned())
            );
        }
        for text in ["label=x", "id", "id~x", "description~=(", "until!=3h", "shared=1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
