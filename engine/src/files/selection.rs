//! What is the content of what a step copies or mounts?
//!
//! One digest over everything that is selected. What counts (and what does not):
//!
//! | of each | counts |
//! |---|---|
//! | match of a source | the name it was found under, if it is not a directory; that it is absent |
//! | anything | path below the source, kind, mode; owner and group only when they are kept |
//! | file | size, content, `security.capability` and `user.*` attributes |
//! | link | where it points |
//! | device | its number |
//! | directory on the way to something with `--parents` | as any directory |
//!
//! Times, inode numbers and link counts do not count, nor does anything that ignore files or `--exclude` leave out. Of
//! a context's own root directory nothing counts but what it contains.

mod items;

use rbuild_core::Digest;
use rbuild_solver::graph::{CopyAction, CopySource, LocalOp};

use self::items::{Hashing, Item, Stop, each};
use super::tree::{Reading, SourceTree};
use super::walk::WalkError;
use super::{FileDigest, InnerPath, Node, PatternError, SelectError};

/// Which files of a tree a step sees.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Selector {
    /// Paths or patterns, as [`LocalOp::include`] has them.
    pub include: Vec<String>,
    /// Whether they may contain wildcards.
    pub wildcards: bool,
    /// Whether they are sources of a copy with `--parents`.
    pub parents: bool,
    /// What is left out, relative to each source's root.
    pub exclude: Vec<String>,
    /// Whether it matters who owns the files.
    pub owners: bool,
}

impl From<&LocalOp> for Selector {
    fn from(op: &LocalOp) -> Self {
        Self {
            include: op.include.clone(),
            wildcards: op.wildcards,
            parents: op.parents,
            exclude: op.exclude.clone(),
            owners: false,
        }
    }
}

impl Selector {
    /// What a copy takes from one of its inputs.
    pub fn of_copy(action: &CopyAction, input: usize) -> Self {
        let path = |source: &CopySource| match source {
            CopySource::Path { input: from, path, .. } if *from == input => Some(path.clone()),
            _ => None,
        };
        Self {
            include: action.sources.iter().filter_map(path).collect(),
            wildcards: action.wildcards,
            parents: action.parents,
            exclude: action.exclude.clone(),
            owners: action.preserve_owner && action.owner.is_none(),
        }
    }

    /// All of what is at `path`: the source of a bind mount.
    pub fn path(path: &str) -> Self {
        let include = vec![path.to_owned()];
        Self { include, wildcards: false, parents: false, exclude: Vec::new(), owners: true }
    }
}

/// Why a selection has no digest.
#[derive(Debug, thiserror::Error)]
pub enum DigestError {
    /// It is not known what is selected.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// Something selected cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// What, from the tree's root.
        path: InnerPath,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

impl From<PatternError> for DigestError {
    fn from(error: PatternError) -> Self {
        Self::Select(error.into())
    }
}

impl From<WalkError> for DigestError {
    fn from(WalkError { path, source }: WalkError) -> Self {
        Self::Read { path, source }
    }
}

impl Selector {
    /// The digest of everything selected. Reads what is not known yet.
    ///
    /// # Errors
    /// If a pattern is malformed or something selected cannot be read. A path that does not exist is no error: its
    /// absence is part of the digest.
    pub fn digest(&self, tree: &dyn SourceTree) -> Result<Digest, DigestError> {
        let mut hashing = Hashing::new(self.owners);
        read_each(tree, self, &mut |item| hashing.add(&item))?;
        Ok(hashing.finish())
    }

    /// Shows everything selected, in the order of the sources: its path, what is there, and the digest of its content.
    ///
    /// # Errors
    /// As [`Selector::digest`].
    pub(super) fn visit(
        &self,
        tree: &dyn SourceTree,
        mut look: impl FnMut(&[u8], Option<&Node>, FileDigest),
    ) -> Result<(), DigestError> {
        read_each(tree, self, &mut |item| look(item.path, item.node, item.content))
    }

    /// As [`Selector::digest`]; nothing if a file would have to be read for it.
    ///
    /// # Errors
    /// The same, but for errors of reading files.
    pub fn known_digest(&self, tree: &dyn SourceTree) -> Result<Option<Digest>, DigestError> {
        let mut hashing = Hashing::new(self.owners);
        match each(tree, self, Reading::Never, &mut |item| hashing.add(&item)) {
            Ok(()) => Ok(Some(hashing.finish())),
            Err(Stop::Unknown) => Ok(None),
            Err(Stop::Failed(error)) => Err(error),
        }
    }
}

fn read_each(tree: &dyn SourceTree, selector: &Selector, show: &mut dyn FnMut(Item<'_>)) -> Result<(), DigestError> {
    each(tree, selector, Reading::Unknown, show).map_err(|stop| match stop {
        Stop::Failed(error) => error,
        Stop::Unknown => unreachable!("what is not known is read"),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use rbuild_frontend::IgnoreFile;

    use super::*;
    use crate::files::{ContextScan, Root, StatCache};

    const FILES: [&str; 8] = ["used", "other", "d/in", "d/x.md", "d/e/deep", "w1.txt", "w2.txt", "logs/1"];

    fn context() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for file in FILES {
            write(directory.path(), file, file);
        }
        symlink("d", directory.path().join("to-d")).unwrap();
        directory
    }

    fn write(directory: &Path, path: &str, text: &str) {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn selector(include: &str) -> Selector {
        let (flag, include) = include.split_once(' ').unwrap_or(("", include));
        Selector {
            include: vec![include.to_owned()],
            wildcards: true,
            parents: flag == "--parents",
            exclude: flag.strip_prefix("--exclude=").map(str::to_owned).into_iter().collect(),
            owners: false,
        }
    }

    fn digest(directory: &Path, include: &str) -> Digest {
        let ignore = IgnoreFile::parse("logs").unwrap();
        let scan = ContextScan::new(directory, ignore, StatCache::default(), None).unwrap();
        selector(include).digest(&scan).unwrap()
    }

    #[test]
    fn only_what_is_selected_counts() {
        type Change = fn(&Path);
        let changes: [(&str, Change, &[&str]); 14] = [
            ("content", |at| write(at, "used", "new"), &["used", "", "use?"]),
            ("other content", |at| write(at, "other", "new"), &["", "oth*"]),
            ("new file", |at| write(at, "new", "new"), &["", "n*"]),
            ("below a directory", |at| write(at, "d/e/deep", "new"), &["", "d", "to-d", "--parents d/e"]),
            ("excluded", |at| write(at, "d/x.md", "new"), &["", "d", "to-d"]),
            ("ignored", |at| write(at, "logs/1", "new"), &[]),
            ("times", |at| touch(&at.join("used")), &[]),
            ("mode", |at| chmod(&at.join("used"), 0o600), &["used", "", "use?"]),
            ("mode above", |at| chmod(&at.join("d"), 0o700), &["", "d", "to-d", "--exclude=*.md d", "--parents d/e"]),
            ("root's mode", |at| chmod(at, 0o711), &[]),
            ("renamed match", |at| rename(at, "w1.txt", "w3.txt"), &["", "w*.txt"]),
            ("renamed literal", |at| rename(at, "used", "unused"), &["", "used", "use?"]),
            ("link", |at| relink(at, "other"), &["", "to-d"]),
            ("now missing", |at| fs::remove_file(at.join("other")).unwrap(), &["", "oth*"]),
        ];
        let all =
            ["used", "", "d", "to-d", "use?", "oth*", "n*", "w*.txt", "--exclude=*.md d", "--parents d/e", "missing"];
        for (what, change, expected) in changes {
            let directory = context();
            let before: Vec<_> = all.iter().map(|include| digest(directory.path(), include)).collect();
            change(directory.path());
            let changed: Vec<_> = all
                .iter()
                .zip(before)
                .filter(|(include, before)| digest(directory.path(), include) != *before)
                .map(|(include, _)| *include)
                .collect();
            let mut expected = expected.to_vec();
            expected.sort_by_key(|include| all.iter().position(|known| known == include));
            // A link that is followed shows another thing to whoever named it.
            assert_eq!(changed, with_implied(what, expected), "{what}");
        }
    }

    fn with_implied<'a>(what: &str, mut expected: Vec<&'a str>) -> Vec<&'a str> {
        if what == "below a directory" {
            let place = expected.iter().position(|include| *include == "--parents d/e").unwrap();
            expected.insert(place, "--exclude=*.md d");
        }
        expected
    }

    fn touch(path: &Path) {
        let time = std::time::SystemTime::UNIX_EPOCH;
        fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn rename(at: &Path, from: &str, to: &str) {
        fs::rename(at.join(from), at.join(to)).unwrap();
    }

    fn relink(at: &Path, target: &str) {
        fs::remove_file(at.join("to-d")).unwrap();
        symlink(target, at.join("to-d")).unwrap();
    }

    #[test]
    fn a_context_and_an_image_with_the_same_files_have_the_same_digest() {
        let directory = context();
        let scan = ContextScan::new(directory.path(), IgnoreFile::default(), StatCache::default(), None).unwrap();
        let root = Root::open(directory.path()).unwrap();
        for include in ["", "d", "to-d", "w?.txt", "missing", "--parents d/e"] {
            let [scan, root] = [&scan as &dyn SourceTree, &root].map(|tree| selector(include).digest(tree).unwrap());
            assert_eq!(scan, root, "{include}");
        }
    }

    #[test]
    fn what_is_selected_is_shown_with_its_content() {
        let directory = context();
        let shown = || {
            let scan = ContextScan::new(directory.path(), IgnoreFile::default(), StatCache::default(), None).unwrap();
            let mut shown = Vec::new();
            let look = |path: &[u8], _: Option<&Node>, content| {
                shown.push((String::from_utf8_lossy(path).into_owned(), content));
            };
            selector("d").visit(&scan, look).unwrap();
            shown
        };
        let before = shown();
        let paths: Vec<_> = before.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["d", "d/e", "d/e/deep", "d/in", "d/x.md"]);
        write(directory.path(), "d/e/deep", "new");
        let after = shown();
        let changed = before.iter().zip(&after).filter(|(old, new)| old != new).map(|(old, _)| old.0.as_str());
        assert_eq!(changed.collect::<Vec<_>>(), ["d/e/deep"]);
    }
}
