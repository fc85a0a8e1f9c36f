//! How are extended attributes written beside an inode?
//!
//! ```text
//! header 12: filter 4 (unused), shared count 1 (none), 7 × 0 │ entries: name length 1, prefix 1, value length 2, name, value, NULs to 4
//! ```
//!
//! A name's beginning is a number. What begins otherwise is no attribute of any file system that we know, and is left
//! out, as unpacking it would leave it out.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::format::XATTR_HEADER;
use super::tree::Undescribable;

/// The kernel's numbers of the beginnings. The whole name comes before the beginnings of other names.
const PREFIXES: [(u8, &[u8]); 5] = [
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (1, b"user."),
    (4, b"trusted."),
    (6, b"security."),
];
/// The kernel's limits.
const LONGEST_NAME: usize = 255;
const LONGEST_VALUE: usize = u16::MAX as usize;
/// What all of one inode may take on ext4, which keeps them in one block of 4096 bytes, so that the overlay can copy the
/// file up. The rest is for its header and what the overlay itself adds.
const MOST_ROOM: usize = 3900;
/// What ext4 keeps of an attribute besides its name and value.
const EXT4_ENTRY: usize = 16;

/// What marks an opaque directory, as an entry.
pub(super) const OPAQUE: &[u8] = b"\x0e\x04\x01\x00overlay.opaquey\0";
const OPAQUE_NAME: &[u8] = b"trusted.overlay.opaque";

/// The entries of these attributes, in the order of their names. What only an overlay may say is left out.
pub(super) fn encode(xattrs: &BTreeMap<OsString, Vec<u8>>) -> Result<Vec<u8>, Undescribable> {
    let mut body = Vec::new();
    let mut taken = 0;
    for (name, value) in xattrs {
        let name = name.as_bytes();
        if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
            continue;
        }
        let Some((index, rest)) = split(name) else { continue };
        let refused = || Undescribable::Attribute(String::from_utf8_lossy(name).into_owned());
        let is_whole = matches!(index, 2 | 3);
        if name.len() > LONGEST_NAME || value.len() > LONGEST_VALUE || rest.is_empty() != is_whole {
            return Err(refused());
        }
        if name == b"security.capability" && !is_capability(value) || is_whole && !is_acl(value) {
            return Err(refused());
        }
        taken += EXT4_ENTRY + rest.len().next_multiple_of(4) + value.len().next_multiple_of(4);
        if taken > MOST_ROOM {
            return Err(refused());
        }
        // At most 255 and 65,535.
        body.push(rest.len() as u8);
        body.push(index);
        body.extend_from_slice(&(value.len() as u16).to_le_bytes());
        body.extend_from_slice(rest);
        body.extend_from_slice(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    Ok(body)
}

/// Whether a file can have this attribute beside others. The overlay's own are not for files to have.
pub fn holds_attribute(name: &OsStr, value: &[u8]) -> bool {
    let one = BTreeMap::from([(name.to_owned(), value.to_vec())]);
    encode(&one).is_ok_and(|body| !body.is_empty())
}

/// Whether one file can have all of these.
pub fn holds_attributes(xattrs: &BTreeMap<OsString, Vec<u8>>) -> bool {
    encode(xattrs).is_ok()
}

/// Reads what [`encode`] wrote, and whether [`OPAQUE`] is among it; `None` if it is malformed.
pub(super) fn decode(mut body: &[u8]) -> Option<(BTreeMap<OsString, Vec<u8>>, bool)> {
    let (mut xattrs, mut opaque) = (BTreeMap::new(), false);
    while !body.is_empty() {
        let (&[length, index, low, high], rest) = body.split_first_chunk()?;
        let (length, size) = (usize::from(length), usize::from(u16::from_le_bytes([low, high])));
        let (_, prefix) = PREFIXES.iter().find(|(known, _)| *known == index)?;
        let name = [prefix, rest.get(..length)?].concat();
        let value = rest.get(length..length + size)?;
        if name == OPAQUE_NAME {
            opaque = value == b"y";
        } else {
            xattrs.insert(OsString::from_vec(name), value.to_vec());
        }
        body = body.get((4 + length + size).next_multiple_of(4)..)?;
    }
    Some((xattrs, opaque))
}

/// How much room the entries and their header take.
pub(super) fn room(body: u64) -> u64 {
    if body == 0 { 0 } else { XATTR_HEADER + body }
}

fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.iter().find_map(|(index, prefix)| match name.strip_prefix(*prefix) {
        Some(rest) if matches!(index, 2 | 3) && !rest.is_empty() => None,
        other => other.map(|rest| (*index, rest)),
    })
}

/// What the kernel lets set, so that a file system with it is one that could have been made otherwise.
fn is_capability(value: &[u8]) -> bool {
    let Some(magic) = value.first_chunk() else { return false };
    // Above the flag "effective".
    matches!((u32::from_le_bytes(*magic) & !1, value.len()), (0x0200_0000, 20) | (0x0300_0000, 24))
}

/// A list of version 2: whole entries, at least the three of the mode.
fn is_acl(value: &[u8]) -> bool {
    let Some((magic, entries)) = value.split_first_chunk() else { return false };
    let known = |entry: &[u8]| matches!(entry.first(), Some(0x01 | 0x02 | 0x04 | 0x08 | 0x10 | 0x20));
    let whole = entries.len() % 8 == 0 && entries.len() >= 3 * 8;
    u32::from_le_bytes(*magic) == 2 && whole && entries.chunks(8).all(|entry| known(entry) && entry[1] == 0)
}
