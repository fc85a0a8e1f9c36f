//! What is the content of what a step copies or mounts?
//!
//! One digest over everything that is selected; if it is asked for, a component for each path, so that a miss can be
//! explained. What counts (and what does not):
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

use std::borrow::Cow;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;

use rbuild_core::{Digest, KeyHasher};
use rbuild_solver::graph::{CopyAction, CopySource, LocalOp};

use super::select::{Match, Parents, matches};
use super::tree::SourceTree;
use super::walk::{Filter, Reason, Visitor, WalkError, walk};
use super::{Exclude, FileDigest, InnerPath, Kind, Node, PatternError, SelectError};

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

/// The part that one path has in a digest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Component {
    /// The path from the tree's root, links followed.
    pub path: InnerPath,
    /// Digest of all that counts of it.
    pub digest: Digest,
}

/// The files a [`Selector`] selects, as digests.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Selection {
    /// Of everything.
    pub digest: Digest,
    /// Of each path, in the order of the sources.
    pub components: Vec<Component>,
}

impl Selection {
    /// Looks at everything selected, and reads what is not known yet.
    ///
    /// # Errors
    /// If a pattern is malformed or something selected cannot be read. A path that does not exist is no error: its
    /// absence is part of the digest.
    pub fn of(tree: &dyn SourceTree, selector: &Selector) -> Result<Self, DigestError> {
        let items = Items::of(tree, selector)?;
        let contents = items.contents(tree)?;
        let mut components = Vec::with_capacity(items.list.len());
        let digest = items.digest(contents, selector.owners, |item, record| {
            let digest = Digest::blake3(*blake3::hash(record).as_bytes());
            components.push(Component { path: item.path.clone().into_owned(), digest });
        });
        Ok(Self { digest, components })
    }

    /// As [`Selection::of`], without components.
    ///
    /// # Errors
    /// The same.
    pub fn digest(tree: &dyn SourceTree, selector: &Selector) -> Result<Digest, DigestError> {
        let items = Items::of(tree, selector)?;
        let contents = items.contents(tree)?;
        Ok(items.digest(contents, selector.owners, |_, _| {}))
    }

    /// Shows everything selected, in the order of the sources: its path, what is there, and the digest of its content.
    ///
    /// # Errors
    /// As [`Selection::of`].
    pub(super) fn visit(
        tree: &dyn SourceTree,
        selector: &Selector,
        mut look: impl FnMut(&InnerPath, Option<&Node>, FileDigest),
    ) -> Result<(), DigestError> {
        let items = Items::of(tree, selector)?;
        let mut contents = items.contents(tree)?.into_iter();
        for item in &items.list {
            let content = if item.has_content() { contents.next().unwrap_or_default() } else { FileDigest::default() };
            look(&item.path, item.node.as_deref(), content);
        }
        Ok(())
    }

    /// As [`Selection::digest`]; nothing if a file would have to be read for it.
    ///
    /// # Errors
    /// The same, but for errors of reading files.
    pub fn known_digest(tree: &dyn SourceTree, selector: &Selector) -> Result<Option<Digest>, DigestError> {
        let items = Items::of(tree, selector)?;
        let contents = tree.known_digests(&items.with_content());
        Ok(contents.map(|contents| items.digest(contents, selector.owners, |_, _| {})))
    }
}

/// What is to be hashed about one path.
struct Item<'a> {
    label: Label,
    path: Cow<'a, InnerPath>,
    role: Role,
    node: Option<Seen<'a>>,
}

/// A node that the tree has, or that was made for the one who asked.
enum Seen<'a> {
    There(&'a Node),
    Here(Box<Node>),
}

impl Deref for Seen<'_> {
    type Target = Node;

    fn deref(&self) -> &Node {
        match self {
            Self::There(node) => node,
            Self::Here(node) => node,
        }
    }
}

/// What a copy calls it.
enum Label {
    /// The name of a matched file; nothing for a directory.
    Name(Box<[u8]>),
    /// The path from here on.
    PathFrom(usize),
}

#[derive(Clone, Copy)]
enum Role {
    /// Found by a source, or missing.
    Match = 0,
    /// Below a directory that was found.
    Below = 1,
    /// On the way to something with `--parents`.
    OnTheWay = 2,
}

struct Items<'a> {
    list: Vec<Item<'a>>,
    base: InnerPath,
}

/// How much is hashed at once.
const BATCH: usize = 1 << 16;

impl<'a> Items<'a> {
    fn of(tree: &'a dyn SourceTree, selector: &Selector) -> Result<Self, DigestError> {
        let exclude = Exclude::new(&selector.exclude)?;
        let mut items = Self { list: Vec::new(), base: InnerPath::root() };
        let everything = [String::new()];
        let include = if selector.include.is_empty() { &everything[..] } else { &selector.include[..] };
        for pattern in include {
            if selector.parents {
                items.parents(tree, pattern, selector.wildcards, &exclude)?;
            } else {
                items.sources(tree, pattern, selector.wildcards, &exclude)?;
            }
        }
        Ok(items)
    }

    fn sources(
        &mut self,
        tree: &'a dyn SourceTree,
        pattern: &str,
        wildcards: bool,
        exclude: &Exclude,
    ) -> Result<(), DigestError> {
        for found in matches(tree, pattern, wildcards)? {
            let is_directory = found.node.as_ref().is_some_and(Node::is_directory);
            self.push_match(&found, is_directory);
            if !is_directory {
                continue;
            }
            self.base = found.path;
            match tree.below(&self.base).filter(|_| exclude.0.is_empty()) {
                Some(all) => self.push_all(&all),
                None => walk(tree, &self.base.clone(), Filter { exclude: &exclude.0, include: None }, self)?,
            }
        }
        Ok(())
    }

    fn parents(
        &mut self,
        tree: &'a dyn SourceTree,
        pattern: &str,
        wildcards: bool,
        exclude: &Exclude,
    ) -> Result<(), DigestError> {
        let parents = Parents::new(pattern, wildcards)?;
        for found in matches(tree, parents.pivot, wildcards)? {
            let is_directory = found.node.as_ref().is_some_and(Node::is_directory);
            self.push_match(&found, is_directory);
            if is_directory {
                self.base = found.path;
                let filter = Filter { exclude: &exclude.0, include: parents.include.as_ref() };
                walk(tree, &self.base.clone(), filter, self)?;
            }
        }
        Ok(())
    }

    fn push_match(&mut self, found: &Match, is_directory: bool) {
        let label = Label::Name(if is_directory { Box::default() } else { found.name.as_bytes().into() });
        let node = found.node.clone().map(|node| Seen::Here(Box::new(node)));
        self.list.push(Item { label, path: Cow::Owned(found.path.clone()), role: Role::Match, node });
    }

    fn push(&mut self, path: &InnerPath, node: &Node, role: Role) {
        let full = self.base.join_path(path);
        let label = Label::PathFrom(full.as_bytes().len() - path.as_bytes().len());
        let node = Some(Seen::Here(Box::new(node.clone())));
        self.list.push(Item { label, path: Cow::Owned(full), role, node });
    }

    /// What a walk would come by, which is at hand.
    fn push_all(&mut self, all: &[(&'a InnerPath, &'a Node)]) {
        let start = if self.base.is_root() { 0 } else { self.base.as_bytes().len() + 1 };
        let item = |&(path, node): &(&'a InnerPath, &'a Node)| Item {
            label: Label::PathFrom(start),
            path: Cow::Borrowed(path),
            role: Role::Below,
            node: Some(Seen::There(node)),
        };
        self.list.extend(all.iter().filter(|(_, node)| node.kind != Kind::Socket).map(item));
    }

    fn with_content(&self) -> Vec<(&InnerPath, &Node)> {
        let with_content = self.list.iter().filter(|item| item.has_content());
        with_content.filter_map(|item| Some((&*item.path, &**item.node.as_ref()?))).collect()
    }

    /// The digests of those that [have content](Item::has_content).
    fn contents(&self, tree: &dyn SourceTree) -> Result<Vec<FileDigest>, DigestError> {
        tree.digests(&self.with_content()).map_err(|(path, source)| DigestError::Read { path, source })
    }

    /// Hashes everything, and shows what is hashed of each.
    fn digest(&self, contents: Vec<FileDigest>, owners: bool, mut show: impl FnMut(&Item<'a>, &[u8])) -> Digest {
        let mut contents = contents.into_iter();
        let mut hasher = KeyHasher::new("selection/1");
        let mut batch = Vec::with_capacity(BATCH);
        for item in &self.list {
            let content = if item.has_content() { contents.next().unwrap_or_default() } else { FileDigest::default() };
            let start = batch.len();
            batch.extend_from_slice(&[0; 8]);
            item.write(&mut batch, content, owners);
            let (length, record) = batch[start..].split_at_mut(8);
            length.copy_from_slice(&(record.len() as u64).to_le_bytes());
            show(item, record);
            if batch.len() >= BATCH {
                hasher.bytes(&batch);
                batch.clear();
            }
        }
        hasher.bytes(&batch);
        hasher.finish()
    }
}

impl Visitor for Items<'_> {
    type Error = DigestError;

    fn enter(&mut self, path: &InnerPath, node: &Node, reason: Reason) -> Result<(), DigestError> {
        self.push(path, node, if reason == Reason::Selected { Role::Below } else { Role::OnTheWay });
        Ok(())
    }

    fn leave(&mut self) -> Result<(), DigestError> {
        Ok(())
    }

    fn other(&mut self, path: &InnerPath, node: &Node) -> Result<(), DigestError> {
        // A socket is never copied, and comes and goes with whoever listens.
        if node.kind != Kind::Socket {
            self.push(path, node, Role::Below);
        }
        Ok(())
    }
}

impl Item<'_> {
    fn has_content(&self) -> bool {
        self.node.as_ref().is_some_and(|node| matches!(node.kind, Kind::File | Kind::Directory))
    }

    /// Every field has a fixed length or its length before it.
    fn write(&self, record: &mut Vec<u8>, content: FileDigest, owners: bool) {
        let text = |record: &mut Vec<u8>, text: &[u8]| {
            record.extend_from_slice(&(text.len() as u64).to_le_bytes());
            record.extend_from_slice(text);
        };
        record.push(self.role as u8);
        match &self.label {
            Label::Name(name) => text(record, name),
            Label::PathFrom(start) => text(record, &self.path.as_bytes()[*start..]),
        }
        let Some(node) = &self.node else {
            record.push(b'!');
            return;
        };
        record.push(node.kind.letter());
        if matches!(self.role, Role::Match) && node.is_directory() && self.path.is_root() {
            return;
        }
        record.extend_from_slice(&node.mode.to_le_bytes());
        let (uid, gid) = if owners { (node.uid, node.gid) } else { (0, 0) };
        record.extend_from_slice(&uid.to_le_bytes());
        record.extend_from_slice(&gid.to_le_bytes());
        match node.kind {
            Kind::File => {
                record.extend_from_slice(&node.size.to_le_bytes());
                record.extend_from_slice(&content.0);
            }
            Kind::Directory => record.extend_from_slice(&content.0),
            Kind::Symlink => text(record, node.target.as_deref().map(OsStrExt::as_bytes).unwrap_or_default()),
            Kind::CharacterDevice | Kind::BlockDevice => record.extend_from_slice(&node.device.to_le_bytes()),
            Kind::Fifo | Kind::Socket => {}
        }
    }
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
        let scan = ContextScan::new(directory, ignore, StatCache::default()).unwrap();
        Selection::of(&scan, &selector(include)).unwrap().digest
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
        let scan = ContextScan::new(directory.path(), IgnoreFile::default(), StatCache::default()).unwrap();
        let root = Root::open(directory.path()).unwrap();
        for include in ["", "d", "to-d", "w?.txt", "missing", "--parents d/e"] {
            let [scan, root] =
                [&scan as &dyn SourceTree, &root].map(|tree| Selection::of(tree, &selector(include)).unwrap());
            assert_eq!(scan, root, "{include}");
        }
    }

    #[test]
    fn components_name_what_changed() {
        let directory = context();
        let components = || {
            let scan = ContextScan::new(directory.path(), IgnoreFile::default(), StatCache::default()).unwrap();
            Selection::of(&scan, &selector("d")).unwrap().components
        };
        let before = components();
        assert_eq!(
            before.iter().map(|part| part.path.to_string()).collect::<Vec<_>>(),
            ["/d", "/d/e", "/d/e/deep", "/d/in", "/d/x.md"]
        );
        write(directory.path(), "d/e/deep", "new");
        let after = components();
        let changed: Vec<_> =
            before.iter().zip(&after).filter(|(old, new)| old != new).map(|(old, _)| &old.path).collect();
        assert_eq!(changed, [&InnerPath::new("d/e/deep")]);
    }
}
