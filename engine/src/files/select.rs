//! Which files does a source of `COPY` name?
//!
//! - Names up to the first wildcard are taken literally, and links among them are followed inside the tree.
//! - From the first wildcard on, each name is a pattern (Go's `filepath.Match`); links on the way are not followed.
//! - What is found is followed if it is a link.
//! - With `--parents` a path is split at its pivot `/./`; what stands behind it selects below what stands before it
//!   and has the language of ignore files (`**`).

use std::ffi::OsString;
use std::io;

use rbuild_frontend::{Glob, GlobError, IgnoreFile, Stars};

use super::tree::{Listed, resolve_source};
use super::{InnerPath, Kind, Node, Tree};

/// A malformed pattern.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("malformed pattern `{pattern}`")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    #[source]
    pub source: GlobError,
}

/// `--exclude` patterns, ready for use. They are relative to a source that is a directory, and say nothing of other
/// sources.
#[derive(Clone, Debug, Default)]
pub struct Exclude(pub(crate) IgnoreFile);

impl Exclude {
    /// Reads the patterns of one instruction.
    ///
    /// # Errors
    /// The first malformed one.
    pub fn new(patterns: &[String]) -> Result<Self, PatternError> {
        let file = IgnoreFile::new(patterns.iter().map(String::as_str)).map_err(|(place, source)| PatternError {
            pattern: patterns.get(place).cloned().unwrap_or_default(),
            source,
        })?;
        Ok(Self(file))
    }
}

/// Why it is not known what a source names.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// The source is no pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// Something had to be looked at and cannot be.
    #[error("cannot read `{path}`")]
    Read {
        /// What.
        path: InnerPath,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// One thing that a source names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Match {
    /// The name it was found under: what a copy into a directory is called.
    pub(crate) name: OsString,
    /// Where it is, links followed.
    pub(crate) path: InnerPath,
    /// What it is. Nothing: a literal path does not exist, or a link leads nowhere.
    pub(crate) node: Option<Node>,
}

/// Everything that `pattern` names, in the order of a walk. A literal path always gives one match.
pub(crate) fn matches<'t, T: Tree + ?Sized>(
    tree: &'t T,
    pattern: &str,
    wildcards: bool,
) -> Result<Matches<'t, T>, SelectError> {
    let (literal, rest) = if wildcards { split_at_wildcard(pattern) } else { (pattern, "") };
    let literal = InnerPath::new(literal);
    let found = follow(tree, &literal)?;
    if rest.is_empty() {
        return Ok(Matches { tree, literal: Some(found), glob: None, open: Vec::new() });
    }
    let rest = String::from_utf8_lossy(InnerPath::new(rest).as_bytes()).into_owned();
    let glob =
        Glob::new(&rest, Stars::Shallow).map_err(|source| PatternError { pattern: pattern.to_owned(), source })?;
    let mut open = Vec::new();
    if found.node.as_ref().is_some_and(Node::is_directory) {
        open.push((InnerPath::root(), entries(tree, &found.path)?));
    }
    Ok(Matches { tree, literal: None, glob: Some((glob, found.path)), open })
}

fn entries<'t, T: Tree + ?Sized>(tree: &'t T, directory: &InnerPath) -> Result<Listed<'t>, SelectError> {
    tree.entries(directory).map_err(|source| SelectError::Read { path: directory.clone(), source })
}

/// What a pattern names, found as it is asked for: of all that a directory contains only one entry is held at a time.
pub(crate) struct Matches<'t, T: ?Sized> {
    tree: &'t T,
    /// The only one.
    literal: Option<Match>,
    /// The pattern, and where its paths begin.
    glob: Option<(Glob, InnerPath)>,
    /// Directories that something may match in, from there, each in the one before, and what is left of them.
    open: Vec<(InnerPath, Listed<'t>)>,
}

impl<T: Tree + ?Sized> Iterator for Matches<'_, T> {
    type Item = Result<Match, SelectError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(only) = self.literal.take() {
            return Some(Ok(only));
        }
        let (glob, base) = self.glob.as_ref()?;
        loop {
            let (directory, left) = self.open.last_mut()?;
            let Some((name, node)) = left.next() else {
                self.open.pop();
                continue;
            };
            let path = directory.join(&name);
            if glob.matches(path.as_relative()) {
                let full = base.join_path(&path);
                return Some(match node.kind {
                    Kind::Symlink => follow(self.tree, &full).map(|found| Match { name, ..found }),
                    _ => Ok(Match { name, path: full, node: Some(node) }),
                });
            }
            if node.is_directory() && glob.may_match_below(path.as_relative()) {
                match entries(self.tree, &base.join_path(&path)) {
                    Ok(below) => self.open.push((path, below)),
                    Err(error) => return Some(Err(error)),
                }
            }
        }
    }
}

fn follow(tree: &(impl Tree + ?Sized), path: &InnerPath) -> Result<Match, SelectError> {
    let error = |source| SelectError::Read { path: path.clone(), source };
    let found = resolve_source(tree, path).map_err(error)?;
    Ok(Match { name: path.name().to_owned(), path: found.path, node: found.node })
}

/// What a source with `--parents` means.
#[derive(Debug)]
pub(crate) struct Parents<'a> {
    /// The directory below which directories are kept, as a source of its own.
    pub(crate) pivot: &'a str,
    /// What is selected below it; absent for all.
    pub(crate) include: Option<Glob>,
    /// The path that has to exist, if there is no wildcard anywhere.
    pub(crate) required: Option<InnerPath>,
}

impl<'a> Parents<'a> {
    pub(crate) fn new(pattern: &'a str, wildcards: bool) -> Result<Self, PatternError> {
        let (pivot, below) = pattern.split_once("/./").unwrap_or(("", pattern));
        let literal = !wildcards || split_at_wildcard(pattern).1.is_empty();
        let below = InnerPath::new(below);
        let text = String::from_utf8_lossy(below.as_bytes()).into_owned();
        let text = if wildcards { text } else { escape(&text) };
        let include = (!below.is_root())
            .then(|| Glob::new(&text, Stars::Deep))
            .transpose()
            .map_err(|source| PatternError { pattern: pattern.to_owned(), source })?;
        let required = literal.then(|| InnerPath::new(pivot).join_path(&below));
        Ok(Self { pivot, include, required })
    }
}

fn escape(literal: &str) -> String {
    let mut text = String::with_capacity(literal.len());
    for character in literal.chars() {
        if matches!(character, '*' | '?' | '[' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

/// Cuts before the first name with a wildcard in it. A backslash before a wildcard character takes its meaning away,
/// but stays: in a name without wildcards it is a character like any other.
pub(crate) fn split_at_wildcard(pattern: &str) -> (&str, &str) {
    let mut start = 0;
    for name in pattern.split_inclusive('/') {
        if has_wildcard(name) {
            return pattern.split_at(start);
        }
        start += name.len();
    }
    (pattern, "")
}

fn has_wildcard(name: &str) -> bool {
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tree::fake::FakeTree;

    const TREE: &str = "a.txt z.txt .hidden.txt file1.md file10.md bee/inner dir1/inside dir1/x.cfg dir2/y.cfg arr[0].txt \
                        back\\slash link->dir1 flink->a.txt up->../../a.txt dangling->/nowhere dir2/in->../dir1/inside";

    fn found(pattern: &str, wildcards: bool) -> String {
        let tree = FakeTree::new(TREE);
        match matches(&tree, pattern, wildcards).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
            Err(error) => error.to_string(),
            Ok(matches) => {
                let show = |found: &Match| {
                    let absent = if found.node.is_none() { "!" } else { "" };
                    format!("{}={}{absent}", found.name.display(), found.path)
                };
                matches.iter().map(show).collect::<Vec<_>>().join(" ")
            }
        }
    }

    #[test]
    fn sources_name_what_filepath_match_finds() {
        for (pattern, expected) in [
            ("", "=/"),
            ("a.txt", "a.txt=/a.txt"),
            ("/a.txt", "a.txt=/a.txt"),
            ("*.txt", ".hidden.txt=/.hidden.txt a.txt=/a.txt arr[0].txt=/arr[0].txt z.txt=/z.txt"),
            ("file?.md", "file1.md=/file1.md"),
            ("[a-b]*", "a.txt=/a.txt arr[0].txt=/arr[0].txt back\\slash=/back\\slash bee=/bee"),
            ("[^a-y].txt", "z.txt=/z.txt"),
            ("d*/in?ide", "inside=/dir1/inside"),
            ("*/*.cfg", "x.cfg=/dir1/x.cfg y.cfg=/dir2/y.cfg"),
            ("arr[[]0].txt", "arr[0].txt=/arr[0].txt"),
            ("back\\slash", "back\\slash=/back\\slash"),
            ("link", "link=/dir1"),
            ("link/inside", "inside=/dir1/inside"),
            ("link/*", "inside=/dir1/inside x.cfg=/dir1/x.cfg"),
            ("*ink", "flink=/a.txt link=/dir1"),
            ("*ink/inside", ""),
            ("up", "up=/a.txt"),
            ("dir2/i*", "in=/dir1/inside"),
            ("missing", "missing=/missing!"),
            ("a.txt/x", "x=/a.txt/x!"),
            ("dangling", "dangling=/nowhere!"),
            ("dang*", "dangling=/nowhere!"),
            ("no*", ""),
            ("missing/*", ""),
            ("a[", "malformed pattern `a[`"),
        ] {
            assert_eq!(found(pattern, true), expected, "{pattern}");
        }
        assert_eq!(found("arr[0].txt", false), "arr[0].txt=/arr[0].txt");
        assert_eq!(found("*.txt", false), "*.txt=/*.txt!");
    }

    #[test]
    fn parents_are_split_at_the_pivot() {
        for (pattern, pivot, required) in [
            ("x/y/a.txt", "", Some("x/y/a.txt")),
            ("x/./y/a.txt", "x", Some("x/y/a.txt")),
            ("x/./y/*.txt", "x", None),
            ("x*/./y", "x*", None),
            ("**/deep", "", None),
            ("./x", "", Some("x")),
        ] {
            let parents = Parents::new(pattern, true).unwrap();
            assert_eq!((parents.pivot, parents.required), (pivot, required.map(InnerPath::new)), "{pattern}");
        }
        assert!(Parents::new("", true).unwrap().include.is_none());
        let literal = Parents::new("a*b", false).unwrap();
        assert_eq!(literal.include.unwrap().literal(), Some("a*b"));
    }

    #[test]
    fn wildcards_behind_a_backslash_are_literal() {
        for (name, expected) in
            [("a", false), ("a*", true), ("a\\*", false), ("a\\\\*", true), ("[", true), ("a\\", false)]
        {
            assert_eq!(has_wildcard(name), expected, "{name}");
        }
    }
}
