//! Which files of a build context does a build not see?
//!
//! The language of `.dockerignore`, which is not that of `.gitignore`:
//!
//! - one pattern a line; `#` in column 0 starts a comment; blanks around a pattern, a leading `/`, `./`, inner `..` and
//!   a trailing `/` mean nothing;
//! - a pattern is anchored at the root of the context: `*.log` says nothing about `a/b.log`, `**/*.log` does;
//! - a pattern that matches a directory also covers everything below it;
//! - `!pattern` takes files back in; of all patterns that cover a path the last one decides.
//!
//! Finding the file and reading it is the caller's business. `--exclude` has the same language ([`IgnoreFile::new`]).
//!
//! A walk that goes from directories to what they contain asks cheaply: the answer for a directory is all it takes to
//! answer for its entries ([`IgnoreFile::matched_below`]), and an excluded directory need not be read at all unless an
//! exception could reach into it ([`IgnoreFile::prunes`]).
//!
//! ```
//! # use std::path::Path;
//! use rbuild_frontend::{IgnoreFile, Match};
//! let file = IgnoreFile::parse("vendor\n!vendor/keep\n")?;
//! let vendor = file.matched_below(Match::None, Path::new("vendor"));
//! assert!(vendor.is_excluded() && !file.prunes(vendor, Path::new("vendor")));
//! let other = file.matched_below(vendor, Path::new("vendor/other"));
//! assert!(other.is_excluded() && file.prunes(other, Path::new("vendor/other")));
//! assert!(!file.matched(Path::new("vendor/keep/a")).is_excluded());
//! # Ok::<(), Vec<rbuild_frontend::Diagnostic>>(())
//! ```

mod clean;
mod glob;

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub use clean::clean;
pub use glob::{Glob, GlobError, Stars};
use rbuild_core::Span;

use crate::Diagnostic;

/// The patterns of one ignore file, in order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct IgnoreFile {
    patterns: Vec<Pattern>,
}

/// One line of an ignore file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pattern {
    index: usize,
    text: String,
    span: Span,
    exception: bool,
    glob: Glob,
}

impl Pattern {
    /// The pattern as written, without blanks around it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its place in the ignore file; empty if it came from [`IgnoreFile::new`].
    pub fn span(&self) -> Span {
        self.span
    }

    /// Whether it takes files back in.
    pub fn is_exception(&self) -> bool {
        self.exception
    }
}

/// What the patterns say about a path, and which of them says it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Match<'a> {
    /// No pattern covers it: it is part of the context.
    #[default]
    None,
    /// Left out by this pattern.
    Excluded(&'a Pattern),
    /// Taken back in by this exception.
    Included(&'a Pattern),
}

impl<'a> Match<'a> {
    /// Whether the path is not part of the context.
    pub fn is_excluded(self) -> bool {
        matches!(self, Self::Excluded(_))
    }

    /// The deciding pattern.
    pub fn pattern(self) -> Option<&'a Pattern> {
        match self {
            Self::None => None,
            Self::Excluded(pattern) | Self::Included(pattern) => Some(pattern),
        }
    }

    fn by(pattern: &'a Pattern) -> Self {
        if pattern.exception { Self::Included(pattern) } else { Self::Excluded(pattern) }
    }
}

impl IgnoreFile {
    /// Reads the text of an ignore file.
    ///
    /// # Errors
    /// All malformed patterns, with spans in `text`.
    pub fn parse(text: &str) -> Result<Self, Vec<Diagnostic>> {
        let mut file = Self::default();
        let mut mistakes = Vec::new();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let at = start;
            start += line.len();
            let (at, line) = match line.strip_prefix('\u{feff}') {
                Some(rest) if at == 0 => (line.len() - rest.len(), rest),
                _ => (at, line),
            };
            let written = line.trim();
            if line.starts_with('#') || written.is_empty() {
                continue;
            }
            let at = at + (line.len() - line.trim_start().len());
            let span = Span::new(offset(at), offset(at + written.len()));
            mistakes.extend(file.push(written, span).err());
        }
        if mistakes.is_empty() { Ok(file) } else { Err(mistakes) }
    }

    /// A list of patterns that are not from a file: those of `--exclude`. Empty ones are skipped.
    ///
    /// # Errors
    /// The first malformed pattern, by its position in the list.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, (usize, GlobError)> {
        let mut file = Self::default();
        for (place, pattern) in patterns.into_iter().map(str::trim).enumerate() {
            if !pattern.is_empty() {
                file.add(pattern, Span::default()).map_err(|error| (place, error))?;
            }
        }
        Ok(file)
    }

    /// Whether there is no pattern, so that nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// All patterns, in order.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// The pattern that leaves `path` out of the context, if one does.
    pub fn excludes(&self, path: &Path) -> Option<&Pattern> {
        match self.matched(path) {
            Match::Excluded(pattern) => Some(pattern),
            Match::None | Match::Included(_) => None,
        }
    }

    /// What holds for `path`: relative to the root of the context, without `.` and `..`.
    pub fn matched(&self, path: &Path) -> Match<'_> {
        let bytes = path.as_os_str().as_bytes();
        let above = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &bytes[..at]);
        above.chain([bytes]).fold(Match::None, |parent, path| self.step(parent, path))
    }

    /// What holds for `path`, given what holds for the directory it is in ([`Match::None`] at the root).
    pub fn matched_below(&self, parent: Match<'_>, path: &Path) -> Match<'_> {
        self.step(parent, path.as_os_str().as_bytes())
    }

    /// Whether everything below an excluded directory is excluded too, so that a walk need not enter it. `verdict` is
    /// what was found for `directory`.
    pub fn prunes(&self, verdict: Match<'_>, directory: &Path) -> bool {
        let Match::Excluded(decider) = verdict else { return false };
        let later = self.patterns.get(decider.index + 1..).unwrap_or_default();
        !later.iter().any(|pattern| pattern.exception && pattern.glob.may_match_below(directory))
    }

    /// Everything a directory is covered by covers its entries as well, and the last pattern decides: so the last one
    /// found for the parent stands unless a later one matches the entry itself.
    fn step(&self, parent: Match<'_>, path: &[u8]) -> Match<'_> {
        let inherited = parent.pattern().map_or(0, |pattern| pattern.index + 1);
        let later = self.patterns.get(inherited..).unwrap_or_default();
        let own = later.iter().rev().find(|pattern| pattern.glob.matches_bytes(path));
        let decider = own.or_else(|| self.patterns.get(inherited.checked_sub(1)?));
        decider.map_or(Match::None, Match::by)
    }

    fn push(&mut self, written: &str, span: Span) -> Result<(), Diagnostic> {
        if written == "!" {
            return Err(Diagnostic::error(span, "`!` takes nothing back in").hint("write a pattern behind it"));
        }
        self.add(written, span)
            .map_err(|error| Diagnostic::error(span, format!("malformed pattern `{written}`: {error}")))
    }

    fn add(&mut self, written: &str, span: Span) -> Result<(), GlobError> {
        let (exception, pattern) = match written.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, written),
        };
        let cleaned = clean(pattern);
        let anchored = cleaned.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(&cleaned);
        let glob = Glob::new(anchored, Stars::Deep)?;
        let index = self.patterns.len();
        self.patterns.push(Pattern { index, text: written.to_owned(), span, exception, glob });
        Ok(())
    }
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pattern that decides and whether it excludes, as `-pattern`, `+pattern` or nothing.
    fn verdict(text: &str, path: &str) -> String {
        match IgnoreFile::parse(text).unwrap().matched(Path::new(path)) {
            Match::None => String::new(),
            Match::Excluded(pattern) => format!("-{}", pattern.text()),
            Match::Included(pattern) => format!("+{}", pattern.text()),
        }
    }

    macro_rules! cases {
        ($text:expr; $($path:literal => $expected:literal,)*) => {
            $(assert_eq!(verdict($text, $path), $expected, "{:?} {}", $text, $path);)*
        };
    }

    #[test]
    fn a197_a198_patterns_are_anchored_and_trimmed_and_cover_what_is_below() {
        cases! { "\u{feff}# a comment\n*.log\r\n\nsecret.txt\nbuild\n  padded.tmp  \n #no-comment\n";
            "a.log" => "-*.log",
            "keep/b.log" => "",
            "secret.txt" => "-secret.txt",
            "keep/secret.txt" => "",
            "build" => "-build",
            "build/out.bin" => "-build",
            "build/deep/out.bin" => "-build",
            "builds" => "",
            "padded.tmp" => "-padded.tmp",
            "#no-comment" => "-#no-comment",
            "# a comment" => "",
        }
    }

    #[test]
    fn a197_slashes_and_dots_mean_nothing() {
        cases! { "/lead.txt\ndir/\n./dot.txt\nsub/../other.txt\n/\n.\n";
            "lead.txt" => "-/lead.txt",
            "n/lead.txt" => "",
            "dir/f" => "-dir/",
            "dot.txt" => "-./dot.txt",
            "other.txt" => "-sub/../other.txt",
            "sub/s" => "",
            "anything" => "",
        }
    }

    #[test]
    fn a198_double_stars_cross_directories() {
        cases! { "**/*.tmp\ndocs/**\n**/node_modules\nsrc/**/gen\n";
            "a.tmp" => "-**/*.tmp",
            "p/q/b.tmp" => "-**/*.tmp",
            "docs" => "",
            "docs/x.md" => "-docs/**",
            "app/node_modules/m.js" => "-**/node_modules",
            "node_modules/a/b" => "-**/node_modules",
            "src/gen/1" => "-src/**/gen",
            "src/a/b/gen/2" => "-src/**/gen",
            "src/a/b/keep" => "",
            "generic" => "",
        }
    }

    /// Docker 26.1.5 leaves these out.
    #[test]
    fn a198_classes_may_take_a_slash() {
        cases! { "a[^x]b\nc[+-9]d\n";
            "a-b" => "-a[^x]b",
            "a/b" => "-a[^x]b",
            "axb" => "",
            "c/d" => "-c[+-9]d",
            "c:d" => "",
        }
    }

    #[test]
    fn a199_the_last_match_wins() {
        cases! { "*\n!src\nsrc/*.o\n!src/keep.o\n! README*\nREADME.secret\n";
            "other" => "-*",
            "src" => "+!src",
            "src/a.c" => "+!src",
            "src/a.o" => "-src/*.o",
            "src/keep.o" => "+!src/keep.o",
            "README.md" => "+! README*",
            "README.secret" => "-README.secret",
        }
        cases! { "!a\na\n"; "a" => "-a", "a/b" => "-a", }
        cases! { "a\n!a/b/c\na/b\n"; "a/b/c" => "-a/b", }
    }

    #[test]
    fn a199_a_file_inside_an_ignored_directory_can_be_taken_back() {
        let file = IgnoreFile::parse("vendor\n!vendor/keep/me.txt\n").unwrap();
        let mut found = Vec::new();
        let mut parent = vec![Match::None];
        for (depth, path) in [
            (0, "vendor"),
            (1, "vendor/drop"),
            (1, "vendor/keep"),
            (2, "vendor/keep/me.txt"),
            (2, "vendor/keep/not.txt"),
            (0, "vendors"),
        ] {
            parent.truncate(depth + 1);
            let verdict = file.matched_below(parent[depth], Path::new(path));
            assert_eq!(verdict, file.matched(Path::new(path)), "{path}");
            found.push((path, verdict.is_excluded(), file.prunes(verdict, Path::new(path))));
            parent.push(verdict);
        }
        assert_eq!(
            found,
            [
                ("vendor", true, false),
                ("vendor/drop", true, true),
                ("vendor/keep", true, false),
                ("vendor/keep/me.txt", false, false),
                ("vendor/keep/not.txt", true, true),
                ("vendors", false, false),
            ]
        );
    }

    #[test]
    fn exceptions_before_the_deciding_pattern_do_not_keep_a_directory_open() {
        let file = IgnoreFile::parse("!a/b\na\n!**/c\nd\n").unwrap();
        for (path, pruned) in [("a", false), ("d", true)] {
            assert_eq!(file.prunes(file.matched(Path::new(path)), Path::new(path)), pruned, "{path}");
        }
    }

    #[test]
    fn a197_every_malformed_pattern_is_reported_at_its_place() {
        let text = "ok\n  a[\n!\n! [x-]\nb\\\n";
        let found: Vec<_> = IgnoreFile::parse(text)
            .unwrap_err()
            .into_iter()
            .map(|mistake| (text[mistake.span().range()].to_owned(), mistake.message))
            .collect();
        let found: Vec<_> = found.iter().map(|(at, message)| (at.as_str(), message.as_str())).collect();
        assert_eq!(
            found,
            [
                ("a[", "malformed pattern `a[`: a `[` is not closed"),
                ("!", "`!` takes nothing back in"),
                (
                    "! [x-]",
                    "malformed pattern `! [x-]`: a range in `[…]` is incomplete; write `\\-` and `\\]` for these characters themselves"
                ),
                ("b\\", "malformed pattern `b\\`: nothing follows the last `\\`"),
            ]
        );
    }

    #[test]
    fn excludes_of_a_flag_have_the_same_language() {
        let list = IgnoreFile::new(["*.md", "!README.md", ""]).unwrap();
        assert!(list.excludes(Path::new("a.md")).is_some());
        assert!(list.excludes(Path::new("README.md")).is_none());
        assert_eq!(IgnoreFile::new(["a", "["]), Err((1, GlobError::OpenClass)));
    }
}
