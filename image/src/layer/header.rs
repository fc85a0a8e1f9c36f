//! Which 512 bytes describe an entry?
//!
//! ```text
//! offset  0 name 100 | 100 mode 8 | 108 uid 8 | 116 gid 8 | 124 size 12 | 136 mtime 12 | 148 checksum 8 | 156 type 1
//!       157 link 100 | 257 magic 8 | 265 uname 32 | 297 gname 32 | 329 major 8 | 337 minor 8 | 345 prefix 155
//! ```
//!
//! We write ustar, with a PAX header before it only if a field needs one. There is exactly one way to write an entry:
//! user and group names stay empty, times are whole seconds, records are sorted by key. We read old V7, ustar and GNU.

use std::ops::Range;

use super::{Timestamp, pax};

pub(super) const BLOCK: usize = 512;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const KIND: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
const MAJOR: Range<usize> = 329..337;
const MINOR: Range<usize> = 337..345;
const PREFIX: Range<usize> = 345..500;

const USTAR: &[u8] = b"ustar\x0000";

/// The fields of an entry as a header holds them.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    pub(super) path: &'a [u8],
    pub(super) link: &'a [u8],
    pub(super) kind: u8,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) major: u32,
    pub(super) minor: u32,
}

impl Fields<'_> {
    /// Appends the header to `out`, and before it a PAX header if one is needed. `xattrs` are sorted by name.
    pub(super) fn write<'x>(&self, out: &mut Vec<u8>, xattrs: impl Iterator<Item = (&'x [u8], &'x [u8])>) {
        let mut draft = Draft { block: [0; BLOCK], records: Vec::new() };
        for (name, value) in xattrs {
            pax::push_xattr(&mut draft.records, name, value);
        }
        // In the order of the records' keys.
        draft.number(GID, b"gid", i64::from(self.gid));
        draft.text(LINK, b"linkpath", self.link);
        draft.number(MTIME, b"mtime", self.mtime);
        if !put_split(&mut draft.block, self.path) {
            draft.text(NAME, b"path", self.path);
        }
        draft.number(SIZE, b"size", i64::try_from(self.size).unwrap_or(i64::MAX));
        draft.number(UID, b"uid", i64::from(self.uid));
        for (field, value) in [(MODE, self.mode), (MAJOR, self.major), (MINOR, self.minor)] {
            put_octal(&mut draft.block[field], i64::from(value));
        }
        if !draft.records.is_empty() {
            let size = draft.records.len() as u64;
            let name = b"PaxHeaders.0/x";
            Fields { path: name, kind: b'x', size, ..Fields::default() }.write(out, std::iter::empty());
            out.extend_from_slice(&draft.records);
            pad(out, size);
        }
        draft.block[KIND] = self.kind;
        draft.block[MAGIC].copy_from_slice(USTAR);
        seal(&mut draft.block);
        out.extend_from_slice(&draft.block);
    }
}

/// Appends the NULs that follow `size` bytes of content.
pub(super) fn pad(out: &mut Vec<u8>, size: u64) {
    out.resize(out.len() + padding(size), 0);
}

/// How many bytes follow `size` bytes of content up to the next block.
pub(super) fn padding(size: u64) -> usize {
    (size.wrapping_neg() % BLOCK as u64) as usize
}

struct Draft {
    block: [u8; BLOCK],
    records: Vec<u8>,
}

impl Draft {
    fn number(&mut self, field: Range<usize>, key: &[u8], value: i64) {
        if !put_octal(&mut self.block[field.clone()], value) {
            put_octal(&mut self.block[field], 0);
            pax::push(&mut self.records, &[key], value.to_string().as_bytes());
        }
    }

    /// A text that does not fit, or is not ASCII, goes into a record; what is left of it stays for readers that know
    /// no PAX.
    fn text(&mut self, field: Range<usize>, key: &[u8], value: &[u8]) {
        if value.len() <= field.len() && value.is_ascii() {
            self.block[field][..value.len()].copy_from_slice(value);
            return;
        }
        pax::push(&mut self.records, &[key], value);
        for (slot, byte) in self.block[field].iter_mut().zip(value) {
            *slot = if byte.is_ascii() { *byte } else { b'_' };
        }
    }
}

/// Splits a path that is too long for the name at the last slash that lets both halves fit.
fn put_split(block: &mut [u8; BLOCK], path: &[u8]) -> bool {
    if path.len() <= NAME.len() || path.len() > PREFIX.len() + 1 + NAME.len() || !path.is_ascii() {
        return false;
    }
    // A directory's final slash belongs to the name.
    let end = PREFIX.len().min(path.len() - 2);
    let Some(slash) = path[..=end].iter().rposition(|&byte| byte == b'/') else { return false };
    let (prefix, name) = (&path[..slash], &path[slash + 1..]);
    if prefix.is_empty() || name.len() > NAME.len() {
        return false;
    }
    block[PREFIX][..prefix.len()].copy_from_slice(prefix);
    block[NAME][..name.len()].copy_from_slice(name);
    true
}

/// Writes `value` as octal digits and a NUL if it fits.
fn put_octal(field: &mut [u8], value: i64) -> bool {
    let digits = field.len() - 1;
    if value < 0 || value >> (3 * digits) != 0 {
        return false;
    }
    for (place, slot) in field[..digits].iter_mut().rev().enumerate() {
        *slot = b'0' + (value >> (3 * place) & 7) as u8;
    }
    true
}

fn seal(block: &mut [u8; BLOCK]) {
    block[CHECKSUM].fill(b' ');
    let sum: i64 = block.iter().map(|&byte| i64::from(byte)).sum();
    // Six digits, NUL, space: the form every tar since V7 writes.
    put_octal(&mut block[CHECKSUM.start..CHECKSUM.end - 1], sum);
    block[CHECKSUM.end - 2] = 0;
}

/// A header block with the right checksum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header<'a>(&'a [u8; BLOCK]);

impl<'a> Header<'a> {
    /// The header in `block`, unless its checksum says that it is something else.
    pub(super) fn new(block: &'a [u8; BLOCK]) -> Option<Self> {
        let stated = parse_octal(&block[CHECKSUM])?;
        let outside = |index: usize| !CHECKSUM.contains(&index);
        let blanks = i64::from(b' ') * CHECKSUM.len() as i64;
        let bytes = || block.iter().enumerate().filter(|(index, _)| outside(*index)).map(|(_, byte)| *byte);
        let unsigned = blanks + bytes().map(i64::from).sum::<i64>();
        // Some old tars added signed characters.
        let signed = || blanks + bytes().map(|byte| i64::from(byte.cast_signed())).sum::<i64>();
        (stated == unsigned || stated == signed()).then_some(Self(block))
    }

    /// All of it.
    pub(super) fn block(&self) -> &'a [u8; BLOCK] {
        self.0
    }

    pub(super) fn kind(&self) -> u8 {
        self.0[KIND]
    }

    /// Whether GNU's fields are in it.
    pub(super) fn is_gnu(&self) -> bool {
        self.0[MAGIC] == *b"ustar  \0"
    }

    /// The path, with the prefix if the header has one. GNU uses that place for other things.
    pub(super) fn path(&self) -> Vec<u8> {
        let prefix = if &self.0[MAGIC][..6] == b"ustar\0" { text(&self.0[PREFIX]) } else { &[] };
        let name = text(&self.0[NAME]);
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link(&self) -> &'a [u8] {
        text(&self.0[LINK])
    }

    pub(super) fn mode(&self) -> Option<u32> {
        parse_number(&self.0[MODE]).map(|mode| (mode & 0o7777) as u32)
    }

    pub(super) fn uid(&self) -> Option<u64> {
        parse_number(&self.0[UID])?.try_into().ok()
    }

    pub(super) fn gid(&self) -> Option<u64> {
        parse_number(&self.0[GID])?.try_into().ok()
    }

    pub(super) fn size(&self) -> Option<u64> {
        parse_number(&self.0[SIZE])?.try_into().ok()
    }

    pub(super) fn mtime(&self) -> Option<Timestamp> {
        parse_number(&self.0[MTIME]).map(Timestamp::from_seconds)
    }

    /// Major and minor number; V7 headers have none.
    pub(super) fn device(&self) -> Option<(u32, u32)> {
        if !self.0[MAGIC].starts_with(b"ustar") {
            return Some((0, 0));
        }
        let number = |field: Range<usize>| parse_number(&self.0[field])?.try_into().ok();
        Some((number(MAJOR)?, number(MINOR)?))
    }
}

fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// Octal text, or GNU's big-endian two's complement if the first bit is set.
pub(super) fn parse_number(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 == 0 {
        return parse_octal(field);
    }
    // The marker bit is not part of the number; the next one is its sign.
    let negative = first & 0x40 != 0;
    let start = i128::from(first & 0x3f) - if negative { 0x40 } else { 0 };
    let value = rest.iter().try_fold(start, |sum, &byte| sum.checked_mul(256)?.checked_add(i128::from(byte)))?;
    i64::try_from(value).ok()
}

fn parse_octal(field: &[u8]) -> Option<i64> {
    let blank = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    let digits = &digits[..end];
    // 12 digits are 36 bits: no overflow.
    let octal = digits.iter().all(|byte| matches!(byte, b'0'..=b'7'));
    octal.then(|| digits.iter().fold(0, |sum, digit| sum << 3 | i64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(fields: &Fields<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        fields.write(&mut out, std::iter::empty());
        out
    }

    fn last(bytes: &[u8]) -> &[u8; BLOCK] {
        bytes.last_chunk().unwrap()
    }

    #[test]
    fn plain_fields_need_one_block_and_are_read_back() {
        let out = write(&Fields {
            path: b"usr/bin/tool",
            kind: b'0',
            mode: 0o4755,
            uid: 0o777_7777,
            gid: 5,
            size: 0o777_7777_7777,
            mtime: 1_700_000_000,
            ..Fields::default()
        });
        assert_eq!(out.len(), BLOCK);
        let header = Header::new(last(&out)).unwrap();
        assert_eq!(header.path(), b"usr/bin/tool");
        assert_eq!((header.mode(), header.uid(), header.gid()), (Some(0o4755), Some(0o777_7777), Some(5)));
        assert_eq!(header.size(), Some(0o777_7777_7777));
        assert_eq!(header.mtime(), Some(Timestamp::from_seconds(1_700_000_000)));
        let second_opinion = tar::Header::from_byte_slice(&out);
        assert_eq!(second_opinion.cksum().unwrap(), {
            let mut copy = second_opinion.clone();
            copy.set_cksum();
            copy.cksum().unwrap()
        });
    }

    #[test]
    fn only_fields_that_do_not_fit_get_a_record() {
        let long = |length: usize| "d/".repeat(length / 2 - 1) + "ff";
        for (path, uid, mtime, blocks) in [
            ("a".to_owned(), 0, 0, 1),
            ("a".to_owned(), 0o1000_0000, 0, 3),
            ("a".to_owned(), 0, -1, 3),
            ("a".to_owned(), 0, 0o1_0000_0000_0000, 3),
            (long(100), 0, 0, 1),
            (long(102), 0, 0, 1),
            (long(254), 0, 0, 1),
            (long(300), 0, 0, 3),
            ("x".repeat(101), 0, 0, 3),
            ("\u{e9}".to_owned(), 0, 0, 3),
        ] {
            let out = write(&Fields { path: path.as_bytes(), uid, mtime, kind: b'0', ..Fields::default() });
            assert_eq!(out.len() / BLOCK, blocks, "{path}");
            if blocks == 1 {
                assert_eq!(Header::new(last(&out)).unwrap().path(), path.as_bytes());
            }
        }
    }

    #[test]
    fn numbers_of_every_dialect_are_read() {
        for (field, expected) in [
            (&b"0000017\0"[..], Some(15)),
            (b"    17 \0", Some(15)),
            (b"17", Some(15)),
            (b"\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"18", None),
            (b"-1", None),
        ] {
            assert_eq!(parse_number(field), expected, "{field:?}");
        }
    }

    #[test]
    fn a_wrong_checksum_is_no_header() {
        let mut out = write(&Fields { path: b"a", kind: b'0', ..Fields::default() });
        out[0] = b'b';
        assert!(Header::new(last(&out)).is_none());
        assert!(Header::new(&[0; BLOCK]).is_none());
    }
}
