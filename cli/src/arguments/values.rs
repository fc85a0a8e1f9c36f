//! What do the values of flags mean?
//!
//! One function per form, each usable as clap's `value_parser`; errors say what is wrong with the value, clap adds
//! which flag it was given to.

use std::net::IpAddr;

/// A name, and a value unless it is to be taken from the environment.
pub type Assignment = (String, Option<String>);

/// `NAME=VALUE` or `NAME`.
pub fn assignment(text: &str) -> Result<Assignment, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    if name.is_empty() { Err("the name is missing".to_owned()) } else { Ok((name.to_owned(), value)) }
}

/// `NAME=VALUE`; a name alone has an empty value, as Docker has it for labels.
pub fn label(text: &str) -> Result<(String, String), String> {
    assignment(text).map(|(name, value)| (name, value.unwrap_or_default()))
}

/// `NAME=SOURCE`.
pub fn named_source(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, source)) if !name.is_empty() && !source.is_empty() => Ok((name.to_owned(), source.to_owned())),
        _ => Err("expected NAME=SOURCE".to_owned()),
    }
}

/// `NAME:ADDRESS` or `NAME=ADDRESS`; an IPv6 address may stand in brackets.
pub fn host(text: &str) -> Result<(String, String), String> {
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or("expected NAME:ADDRESS")?;
    if name.is_empty() {
        return Err("the name is missing".to_owned());
    }
    if address == "host-gateway" {
        return Err("not supported: `host-gateway`".to_owned());
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let parsed: IpAddr = bare.parse().map_err(|_| format!("`{address}` is not an address"))?;
    Ok((name.to_owned(), parsed.to_string()))
}

/// `64m`, `1gb`, `4096`: bytes in Docker's units, which count in 1024s.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || "expected a number with an optional unit b, k, m, g, t or p".to_owned();
    rbuild_core::parse_size(text.trim()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_take_both_separators_and_brackets() {
        for (text, expected) in [
            ("db:10.0.0.2", Some(("db", "10.0.0.2"))),
            ("db=10.0.0.2", Some(("db", "10.0.0.2"))),
            ("db:[::1]", Some(("db", "::1"))),
            ("db:::1", Some(("db", "::1"))),
            ("db=::1", Some(("db", "::1"))),
            ("db", None),
            (":1.2.3.4", None),
            ("db:elsewhere", None),
            ("db:host-gateway", None),
        ] {
            let expected = expected.map(|(name, address)| (name.to_owned(), address.to_owned()));
            assert_eq!(host(text).ok(), expected, "{text}");
        }
    }
}
