//! Which paths may stand in a layer, and which are not files but orders?

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Begins the base name of a removal.
pub(super) const WHITEOUT: &[u8] = b".wh.";
/// The base name that makes its directory opaque.
pub(super) const OPAQUE: &[u8] = b".wh..wh..opq";
/// Begins the base names that AUFS kept for itself.
const RESERVED: &[u8] = b".wh..wh.";

/// Whether `path` is relative and clean, so that it means the same to every reader. The empty path is.
pub(super) fn is_clean(path: &[u8]) -> bool {
    path.is_empty()
        || path.split(|&byte| byte == b'/').all(|part| !matches!(part, b"" | b"." | b"..")) && !path.contains(&0)
}

/// Whether a component of `path` would be read as an order.
pub(super) fn is_reserved(path: &[u8]) -> bool {
    path.split(|&byte| byte == b'/').any(|part| part.starts_with(WHITEOUT))
}

/// The clean form of a path as archives write them: `./a`, `/a`, `a//b`, `a/`. `None` if it goes up or holds a NUL.
pub(super) fn clean(path: &[u8]) -> Option<Vec<u8>> {
    if path.contains(&0) {
        return None;
    }
    let mut out = Vec::with_capacity(path.len());
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return None,
            part => {
                if !out.is_empty() {
                    out.push(b'/');
                }
                out.extend_from_slice(part);
            }
        }
    }
    Some(out)
}

/// What the path of an entry in a layer means.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Meaning {
    File,
    Remove(PathBuf),
    Opaque(PathBuf),
    /// AUFS bookkeeping, of no meaning to anybody else.
    Nothing,
}

/// Reads whiteouts out of a clean path. `None` if it is a malformed one.
pub(super) fn meaning(path: &[u8]) -> Option<Meaning> {
    if !is_reserved(path) {
        return Some(Meaning::File);
    }
    let (parent, base) = match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&path[..0], path),
    };
    let bookkeeping = |part: &[u8]| part.starts_with(RESERVED);
    if parent.split(|&byte| byte == b'/').any(bookkeeping) {
        return Some(Meaning::Nothing);
    }
    if is_reserved(parent) {
        return None;
    }
    match base.strip_prefix(WHITEOUT) {
        _ if base == OPAQUE => Some(Meaning::Opaque(path_buf(parent.to_vec()))),
        _ if bookkeeping(base) => Some(Meaning::Nothing),
        Some(b"" | b"." | b"..") | None => None,
        Some(hidden) => Some(Meaning::Remove(path_buf(parent.to_vec()).join(path_buf(hidden.to_vec())))),
    }
}

/// A path of these bytes.
pub(super) fn path_buf(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

/// The bytes of a path.
pub(super) fn bytes(path: &Path) -> &[u8] {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_archives_are_cleaned_or_refused() {
        for (written, expected) in [
            ("a/b", Some("a/b")),
            ("./a//b/", Some("a/b")),
            ("/a", Some("a")),
            ("./", Some("")),
            ("", Some("")),
            ("..a/b..", Some("..a/b..")),
            ("a/../b", None),
            ("..", None),
            ("a\0b", None),
        ] {
            let cleaned = clean(written.as_bytes());
            assert_eq!(cleaned.as_deref(), expected.map(str::as_bytes), "{written}");
            assert!(cleaned.is_none_or(|path| is_clean(&path)));
        }
        assert!(!is_clean(b"/a") && !is_clean(b"a/") && !is_clean(b"./a") && !is_clean(b"a/../b"));
    }

    #[test]
    fn whiteouts_are_recognised_in_the_base_name_only() {
        let remove = |path: &str| Some(Meaning::Remove(path.into()));
        for (path, expected) in [
            ("a", Some(Meaning::File)),
            ("a/.whatever", Some(Meaning::File)),
            (".wh.a", remove("a")),
            ("d/.wh.a", remove("d/a")),
            ("d/.wh..wh..opq", Some(Meaning::Opaque("d".into()))),
            (".wh..wh..opq", Some(Meaning::Opaque("".into()))),
            (".wh..wh.plnk", Some(Meaning::Nothing)),
            (".wh..wh.plnk/1.2", Some(Meaning::Nothing)),
            ("d/.wh..a", remove("d/.a")),
            (".wh.", None),
            (".wh..", None),
            ("d/.wh...", None),
            (".wh.d/a", None),
        ] {
            assert_eq!(meaning(path.as_bytes()), expected, "{path}");
        }
    }
}
