//! What is asked of a tree of files, wherever it is?

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

use super::root::is_absent;
use super::{FileDigest, InnerPath, Kind, Node, Root};

/// Looks into a tree. Links are never followed here; [`resolve`] does that.
pub trait Tree: Sync {
    /// What is at `path`, if anything. No directory on the way is a link.
    ///
    /// # Errors
    /// If it cannot be found out.
    fn node(&self, path: &InnerPath) -> io::Result<Option<Node>>;

    /// What a directory contains, sorted by the names' bytes.
    ///
    /// # Errors
    /// If it cannot be read.
    fn list(&self, directory: &InnerPath) -> io::Result<Vec<(OsString, Node)>>;

    /// As [`list`](Self::list), without having all of it in memory if that can be avoided.
    ///
    /// # Errors
    /// The same.
    fn entries(&self, directory: &InnerPath) -> io::Result<Listed<'_>> {
        Ok(Box::new(self.list(directory)?.into_iter()))
    }

    /// What is at `path` if that is easily said: there is something, and no link on the way or at the end.
    fn node_without_links(&self, _path: &InnerPath) -> Option<Node> {
        None
    }
}

/// What a directory contains, one after the other.
pub(crate) type Listed<'a> = Box<dyn Iterator<Item = (OsString, Node)> + Send + 'a>;

/// Who is shown paths, what is there, and the digest of its content.
pub(crate) type ShowBelow<'a> = &'a mut dyn FnMut(&[u8], &Node, FileDigest);

/// Whether files are read whose digest is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reading {
    /// Those that are not known.
    Unknown,
    /// None: what is not known stays so.
    Never,
}

/// A tree that files are copied from.
pub trait SourceTree: Tree {
    /// Where contents are read.
    fn root(&self) -> &Root;

    /// Digests of content and attributes, one for each of `files`: regular files, and directories (whose content is
    /// not meant).
    ///
    /// # Errors
    /// The first file that cannot be read.
    fn digests(&self, files: &[(&InnerPath, &Node)]) -> Result<Vec<FileDigest>, (InnerPath, io::Error)>;

    /// The same, unless one of them would have to be read.
    fn known_digests(&self, _files: &[(&InnerPath, &Node)]) -> Option<Vec<FileDigest>> {
        None
    }

    /// Shows everything below a directory in the order of a walk, with the digests of files, if that is at hand. Tells
    /// whether that was all: it ends before a file that would have to be read and may not.
    ///
    /// # Errors
    /// The first file that cannot be read.
    fn show_below(
        &self,
        _directory: &InnerPath,
        _reading: Reading,
        _show: ShowBelow<'_>,
    ) -> Option<Result<bool, (InnerPath, io::Error)>> {
        None
    }

    /// What a directory contains, if the tree holds everything in memory and no file of it has several names. A tree that
    /// answers this for one directory does for all, always the same.
    fn held(&self, _directory: &InnerPath) -> Option<Listed<'_>> {
        None
    }

    /// A number by which [`name`](Self::name) gives the name of what is at `path`, if the tree holds everything in memory:
    /// what it shows of a path stays the same then.
    fn number(&self, _path: &InnerPath) -> Option<u32> {
        None
    }

    /// The name that goes with a number.
    fn name(&self, _number: u32) -> OsString {
        OsString::new()
    }

    /// Whether [`number`](Self::number) numbers everything that the tree shows.
    fn is_held(&self) -> bool {
        false
    }

    /// Whether files may have several names in the tree.
    fn has_links(&self) -> bool {
        true
    }

    /// What was found out about a file before, if the tree is not asked anew each time.
    fn known(&self, _path: &InnerPath) -> Option<Seen> {
        None
    }

    /// The pattern of the ignore file that hides `path`.
    fn hidden_by(&self, path: &InnerPath) -> Option<String>;

    /// Whether extended attributes of directories are part of the tree. Those of a local directory belong to the
    /// machine it is on.
    fn keeps_directory_attributes(&self) -> bool;
}

/// What a tree knows of a file since it was looked at.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What it was.
    pub node: Node,
    /// Digest of its content and attributes, if it was read.
    pub digest: Option<FileDigest>,
    /// Whether it would have other times had it been changed since. If not, only its content can tell.
    pub settled: bool,
}

impl SourceTree for Root {
    fn root(&self) -> &Root {
        self
    }

    fn digests(&self, files: &[(&InnerPath, &Node)]) -> Result<Vec<FileDigest>, (InnerPath, io::Error)> {
        super::content::Reader::new(self).read(files).map(|found| found.into_iter().map(|(digest, _)| digest).collect())
    }

    fn hidden_by(&self, _path: &InnerPath) -> Option<String> {
        None
    }

    fn keeps_directory_attributes(&self) -> bool {
        true
    }
}

/// Where a path leads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resolved {
    /// The path without links; names that do not exist are as written.
    pub path: InnerPath,
    /// What is there, if anything.
    pub node: Option<Node>,
    /// The links that were followed, in order: where each is, and its text.
    pub links: Vec<(InnerPath, Box<OsStr>)>,
}

/// How many links may be on one path, as in Linux.
const MAX_LINKS: usize = 40;

/// Follows the links on the way, and a link at the end if `follow_last`, as if the tree were the whole file system.
///
/// # Errors
/// If there are too many links, something that is no directory is on the way, or a directory cannot be searched.
pub fn resolve(tree: &(impl Tree + ?Sized), path: &InnerPath, follow_last: bool) -> io::Result<Resolved> {
    if let Some(node) = tree.node_without_links(path) {
        return Ok(Resolved { path: path.clone(), node: Some(node), links: Vec::new() });
    }
    let mut names: VecDeque<OsString> = path.names().map(OsStr::to_owned).collect();
    let mut current = InnerPath::root();
    let mut node = tree.node(&current)?;
    let mut links = Vec::new();
    while let Some(name) = names.pop_front() {
        if name == ".." {
            current = current.parent().unwrap_or_default();
            node = tree.node(&current)?;
            continue;
        }
        match &node {
            Some(node) if !node.is_directory() => return Err(io::ErrorKind::NotADirectory.into()),
            None => {
                current = current.join(&name);
                continue;
            }
            Some(_) => {}
        }
        let next = current.join(&name);
        let found = tree.node(&next)?;
        if let Some(Node { kind: Kind::Symlink, target: Some(target), .. }) = &found
            && (follow_last || !names.is_empty())
        {
            links.push((next, target.clone()));
            if links.len() > MAX_LINKS {
                return Err(rustix::io::Errno::LOOP.into());
            }
            if target.as_bytes().starts_with(b"/") {
                current = InnerPath::root();
                node = tree.node(&current)?;
            }
            let target = target.as_bytes().split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
            for name in target.rev() {
                names.push_front(OsStr::from_bytes(name).to_owned());
            }
            continue;
        }
        current = next;
        node = found;
    }
    Ok(Resolved { path: current, node, links })
}

/// As [`resolve`], with a path through something that is no directory counted as absent.
pub(crate) fn resolve_source(tree: &(impl Tree + ?Sized), path: &InnerPath) -> io::Result<Resolved> {
    match resolve(tree, path, true) {
        Err(error) if is_absent(&error) => Ok(Resolved { path: path.clone(), node: None, links: Vec::new() }),
        result => result,
    }
}

#[cfg(test)]
pub(crate) mod fake {
    //! A tree in memory.

    use std::collections::BTreeMap;

    use super::*;
    use crate::files::Timestamp;

    #[derive(Debug, Default)]
    pub(crate) struct FakeTree(BTreeMap<InnerPath, Node>);

    impl FakeTree {
        /// One word for each entry: `dir/`, `file`, `link->target`. Parents are made on the way.
        pub(crate) fn new(entries: &str) -> Self {
            let mut tree = Self::default();
            tree.insert(InnerPath::root(), Kind::Directory, None);
            for (place, entry) in entries.split_whitespace().enumerate() {
                let (path, target) =
                    entry.split_once("->").map_or((entry, None), |(path, target)| (path, Some(target)));
                let kind = match (target, path.ends_with('/')) {
                    (Some(_), _) => Kind::Symlink,
                    (None, true) => Kind::Directory,
                    (None, false) => Kind::File,
                };
                let path = InnerPath::new(path);
                let mut parent = path.parent();
                while let Some(path) = parent {
                    parent = path.parent();
                    tree.insert(path, Kind::Directory, None);
                }
                tree.insert(path.clone(), kind, target);
                tree.0.get_mut(&path).unwrap().ino = place as u64 + 10;
            }
            tree
        }

        fn insert(&mut self, path: InnerPath, kind: Kind, target: Option<&str>) {
            self.0.entry(path).or_insert(Node {
                kind,
                mode: if kind == Kind::Directory { 0o755 } else { 0o644 },
                uid: 0,
                gid: 0,
                size: 0,
                mtime: Timestamp::default(),
                ctime: Timestamp::default(),
                dev: 1,
                ino: 1,
                links: 1,
                device: 0,
                target: target.map(|target| OsStr::new(target).into()),
            });
        }
    }

    impl Tree for FakeTree {
        fn node(&self, path: &InnerPath) -> io::Result<Option<Node>> {
            Ok(self.0.get(path).cloned())
        }

        fn list(&self, directory: &InnerPath) -> io::Result<Vec<(OsString, Node)>> {
            let entries = self.0.iter().filter(|(path, _)| path.parent().as_ref() == Some(directory));
            Ok(entries.map(|(path, node)| (path.name().to_owned(), node.clone())).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fake::FakeTree;
    use super::*;

    #[test]
    fn paths_are_followed_as_in_a_file_system_of_its_own() {
        let tree = FakeTree::new(
            "real/in file abs->/real rel->real up->../../real chain->abs dangling->/no/where deep->real/../file loop->loop",
        );
        for (path, expected) in [
            ("", "/ found"),
            ("real/in", "/real/in found"),
            ("abs/in", "/real/in found"),
            ("rel", "/real found"),
            ("up/in", "/real/in found"),
            ("chain/in", "/real/in found"),
            ("deep", "/file found"),
            ("dangling", "/no/where absent"),
            ("dangling/x", "/no/where/x absent"),
            ("new/x", "/new/x absent"),
            ("file/x", "not a directory"),
            ("loop", "Too many levels of symbolic links (os error 40)"),
        ] {
            let result = match resolve(&tree, &InnerPath::new(path), true) {
                Ok(Resolved { path, node: Some(_), .. }) => format!("{path} found"),
                Ok(Resolved { path, node: None, .. }) => format!("{path} absent"),
                Err(error) => error.to_string(),
            };
            assert_eq!(result, expected, "{path}");
        }
        let link = resolve(&tree, &InnerPath::new("chain"), false).unwrap();
        assert_eq!((link.path, link.node.unwrap().kind), (InnerPath::new("chain"), Kind::Symlink));
    }
}
