//! How many bytes does a text such as `64m` stand for?

/// A number with an optional fraction and a unit: `b`, or `k`, `m`, `g`, `t`, `p`, each with `b` or `ib` after it;
/// powers of 1024, as sizes that users give are everywhere in Docker and BuildKit. Sizes that they are shown count in
/// 1000s there.
pub fn parse_size(text: &str) -> Option<u64> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        for (text, expected) in [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("10b", Some(10)),
            ("1k", Some(1 << 10)),
            ("64m", Some(64 << 20)),
            ("64MB", Some(64 << 20)),
            ("64MiB", Some(64 << 20)),
            ("1.5g", Some(3 << 29)),
            ("1 t", Some(1 << 40)),
            ("1pb", Some(1 << 50)),
            ("", None),
            ("m", None),
            ("-1", None),
            ("1x", None),
            ("1ib", None),
            ("64mi", None),
            ("1e3", None),
            ("10%", None),
            ("nan", None),
            ("inf", None),
            ("99999999p", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }
}
