//! How do the fields that do not fit a header travel?
//!
//! PAX records, `LENGTH KEY=VALUE\n`, where LENGTH counts the whole record. Values may hold any byte, line feeds too:
//! `security.capability` is binary.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::{Timestamp, sparse};

const XATTR: &[u8] = b"SCHILY.xattr.";

/// Appends one record.
pub(super) fn push(out: &mut Vec<u8>, key: &[&[u8]], value: &[u8]) {
    let rest = key.iter().map(|part| part.len()).sum::<usize>() + value.len() + 3;
    // The length counts its own digits.
    let mut length = rest + decimal_digits(rest);
    length = rest + decimal_digits(length);
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    key.iter().for_each(|part| out.extend_from_slice(part));
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Appends the record of an extended attribute.
pub(super) fn push_xattr(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    push(out, &[XATTR, name], value);
}

fn decimal_digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// What the records before an entry say about it.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) xattrs: BTreeMap<OsString, Vec<u8>>,
    pub(super) sparse: sparse::Records,
}

impl Records {
    /// Reads a block of records; `None` if it is malformed. Later records win, unknown keys are ignored, and a value that
    /// is empty leaves what the header says.
    pub(super) fn parse(&mut self, mut data: &[u8]) -> Option<()> {
        while !data.is_empty() {
            // Some writers pad with NUL.
            if data.iter().all(|&byte| byte == 0) {
                break;
            }
            // 20 digits hold any length: a longer run is refused without reading on.
            let space = data.iter().take(21).position(|&byte| byte == b' ')?;
            let length: usize = number(&data[..space])?.try_into().ok()?;
            let record = data.get(space + 1..length)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|&byte| byte == b'=')?;
            self.set(&record[..equals], &record[equals + 1..])?;
            data = &data[length..];
        }
        Some(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let text = || (!value.is_empty()).then(|| value.to_vec());
        // `None` if it is malformed, as everywhere here.
        let number = || if value.is_empty() { Some(None) } else { number(value).map(Some) };
        match key {
            b"path" => self.path = text(),
            b"linkpath" => self.link = text(),
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(timestamp(value)?),
            _ => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    return self.sparse.set(key, value);
                }
                if let Some(name) = key.strip_prefix(XATTR).filter(|name| !name.is_empty()) {
                    self.xattrs.insert(OsString::from_vec(name.to_vec()), value.to_vec());
                }
            }
        }
        Some(())
    }
}

fn number(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if digits { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
}

/// Decimal seconds with an optional fraction; digits beyond nanoseconds are dropped. Rounded down, also below zero.
fn timestamp(text: &[u8]) -> Option<Timestamp> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let point = text.iter().position(|&byte| byte == b'.');
    let (whole, fraction) = point.map_or((text, &[][..]), |at| (&text[..at], &text[at + 1..]));
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = i64::try_from(number(whole)?).ok()?;
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanoseconds) {
        (false, nanoseconds) => Timestamp { seconds, nanoseconds },
        (true, 0) => Timestamp::from_seconds(-seconds),
        (true, nanoseconds) => Timestamp { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_their_own_digits() {
        for size in (0..30).chain(85..105).chain(985..1005) {
            let mut out = Vec::new();
            push(&mut out, &[b"k"], &vec![b'v'; size]);
            let text = String::from_utf8(out.clone()).unwrap();
            assert_eq!(text.split_once(' ').unwrap().0, out.len().to_string());
        }
    }

    #[test]
    fn binary_values_survive() {
        let mut out = Vec::new();
        push_xattr(&mut out, b"security.capability", b"\n=1\0 \xff");
        push(&mut out, &[b"comment"], b"3 x\n");
        push(&mut out, &[b"size"], b"9000000000");
        let mut records = Records::default();
        records.parse(&out).unwrap();
        assert_eq!(records.xattrs[&OsString::from("security.capability")], b"\n=1\0 \xff");
        assert_eq!(records.size, Some(9_000_000_000));
    }

    #[test]
    fn malformed_records_are_refused() {
        for text in
            ["x", "5 a=b", "6 a=b", "7 a=b\n", "4 ab\n", "0 a=b\n", "2 \n", "-1 a=\n", "9 size=x\n", "10 size=-1\n"]
        {
            assert!(Records::default().parse(text.as_bytes()).is_none(), "{text:?}");
        }
        let long = [b'1'; 100_000];
        assert!(Records::default().parse(&long).is_none());
    }

    #[test]
    fn times_are_rounded_down() {
        for (text, seconds, nanoseconds) in [
            ("0", 0, 0),
            ("1.5", 1, 500_000_000),
            ("1.1234567899", 1, 123_456_789),
            ("-1.5", -2, 500_000_000),
            ("-1", -1, 0),
            ("1.", 1, 0),
        ] {
            assert_eq!(timestamp(text.as_bytes()), Some(Timestamp { seconds, nanoseconds }), "{text}");
        }
        for text in ["", ".5", "1.x", "--1", "1e3", "99999999999999999999"] {
            assert_eq!(timestamp(text.as_bytes()), None, "{text}");
        }
    }
}
