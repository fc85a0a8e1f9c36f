//! How is a place inside a tree named?

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A path below a tree's root: without `.`, `..`, doubled slashes or a leading slash. Empty is the root itself.
///
/// The order is that of a walk: a directory, then all that is below it, then its next sibling.
#[derive(Clone, Default, Eq, Hash, PartialEq)]
pub struct InnerPath(Box<[u8]>);

impl InnerPath {
    /// The tree's root.
    pub fn root() -> Self {
        Self::default()
    }

    /// A path as users write it, taken as if the tree were the whole world: `..` stops at the root.
    pub fn new(path: impl AsRef<OsStr>) -> Self {
        let mut clean = Vec::new();
        for name in path.as_ref().as_bytes().split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => truncate_last(&mut clean),
                name => push(&mut clean, name),
            }
        }
        Self(clean.into())
    }

    /// Trusts that `bytes` is clean.
    pub(crate) fn from_clean(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// Whether it is the tree's root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For calls relative to the root's descriptor: `.` for the root.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(if self.is_root() { b"." } else { &self.0 }))
    }

    /// For matching: empty for the root.
    pub(crate) fn as_relative(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The last name; empty for the root.
    pub fn name(&self) -> &OsStr {
        OsStr::from_bytes(self.0.rsplit(|byte| *byte == b'/').next().unwrap_or_default())
    }

    /// The directory it is in; none for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Some(Self(self.0[..end].into()))
    }

    /// The names on the way from the root.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &OsStr> {
        self.0.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(OsStr::from_bytes)
    }

    /// An entry of this directory. `name` is one name, not `.` or `..`.
    pub fn join(&self, name: &OsStr) -> Self {
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        push(&mut bytes, name.as_bytes());
        Self(bytes.into())
    }

    /// A place below this directory.
    pub fn join_path(&self, below: &Self) -> Self {
        if below.is_root() { self.clone() } else { self.join(OsStr::from_bytes(&below.0)) }
    }

    /// What remains of a path at or below this one.
    pub(crate) fn strip(&self, below: &[u8]) -> Option<Self> {
        let rest = below.strip_prefix(&*self.0)?;
        match (self.is_root(), rest) {
            (true, rest) | (false, rest @ []) => Some(Self(rest.into())),
            (false, [b'/', rest @ ..]) => Some(Self(rest.into())),
            _ => None,
        }
    }
}

fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

fn truncate_last(path: &mut Vec<u8>) {
    path.truncate(path.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
}

/// Compares paths in the order of a walk: `/` is smaller than any byte of a name.
pub(crate) fn walk_order(left: &[u8], right: &[u8]) -> Ordering {
    // Neighbours have long beginnings in common: eight bytes at a time.
    let eights = left.as_chunks::<8>().0.iter().zip(right.as_chunks::<8>().0);
    let mut same = 8 * eights.take_while(|(left, right)| left == right).count();
    same += left[same..].iter().zip(&right[same..]).take_while(|(left, right)| left == right).count();
    let rank = |byte: Option<&u8>| byte.map_or(0, |byte| if *byte == b'/' { 1 } else { 2 + u16::from(*byte) });
    rank(left.get(same)).cmp(&rank(right.get(same)))
}

impl Ord for InnerPath {
    fn cmp(&self, other: &Self) -> Ordering {
        walk_order(&self.0, &other.0)
    }
}

impl PartialOrd for InnerPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for InnerPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.as_path())
    }
}

/// As people know it: absolute, with `/` for the root.
impl fmt::Display for InnerPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "/{}", OsStr::from_bytes(&self.0).display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_written_leads_out() {
        for (written, expected) in [
            ("", "/"),
            ("/", "/"),
            ("a//b/", "/a/b"),
            ("./a/./b", "/a/b"),
            ("../a", "/a"),
            ("a/../../../b", "/b"),
            ("a/..", "/"),
        ] {
            assert_eq!(InnerPath::new(written).to_string(), expected, "{written}");
        }
    }

    #[test]
    fn the_order_is_that_of_a_walk() {
        let mut paths = ["a.b", "a", "b", "a/z", "a/b/c", "", "a-b", "a/b"].map(InnerPath::new);
        paths.sort();
        assert_eq!(paths, ["", "a", "a/b", "a/b/c", "a/z", "a-b", "a.b", "b"].map(InnerPath::new));
    }

    #[test]
    fn long_common_beginnings_make_no_difference() {
        for length in 0..40 {
            let beginning = "x".repeat(length);
            let paths = ["", "/a", "0", "a", "aa"].map(|end| format!("{beginning}{end}"));
            assert!(
                paths.is_sorted_by(|left, right| walk_order(left.as_bytes(), right.as_bytes()).is_lt()),
                "{length}"
            );
        }
    }

    #[test]
    fn parts() {
        let path = InnerPath::new("a/b/c");
        assert_eq!(path.name(), "c");
        assert_eq!(path.parent(), Some(InnerPath::new("a/b")));
        assert_eq!(InnerPath::new("a").parent(), Some(InnerPath::root()));
        assert_eq!(InnerPath::root().parent(), None);
        assert_eq!(path.names().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(InnerPath::root().names().count(), 0);
        assert_eq!(InnerPath::new("a/b").strip(b"a/b/c"), Some(InnerPath::new("c")));
        assert_eq!(InnerPath::new("a/b").strip(b"a/bc"), None);
        assert_eq!(InnerPath::root().strip(b"a"), Some(InnerPath::new("a")));
    }
}
