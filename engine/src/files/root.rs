//! How is a directory tree used without any path leading out of it?
//!
//! Everything goes through one descriptor: paths are opened with `openat2` and `RESOLVE_IN_ROOT`, so that `/` and `..`
//! in links mean the tree's own root, for the kernel too and whatever is renamed meanwhile.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, ResolveFlags, StatxFlags, openat, openat2, readlinkat, statx};
use rustix::io::Errno;
use rustix::path::Arg;

use super::entries::Pile;
use super::tree::Listed;
use super::{InnerPath, Kind, Node, Tree};

/// A directory tree behind a descriptor: a local directory, or the detached mount of an image's root file system.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
    /// Whether a character device 0/0 is not there.
    hides_whiteouts: bool,
}

impl From<OwnedFd> for Root {
    /// `directory` is an open directory; a path descriptor (`O_PATH`) will do.
    fn from(directory: OwnedFd) -> Self {
        Self { directory, hides_whiteouts: false }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl Root {
    /// Opens a directory of this machine.
    ///
    /// # Errors
    /// If `path` is not a directory that can be entered.
    pub fn open(path: &Path) -> io::Result<Self> {
        let directory = openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { directory, hides_whiteouts: false })
    }

    /// Opens the mount of an image's layers. One of a single layer is no overlay, so the layer's whiteouts are left for
    /// us to hide: they remove what is not there.
    pub(crate) fn of_layers(path: &Path) -> io::Result<Self> {
        Ok(Self { hides_whiteouts: true, ..Self::open(path)? })
    }

    fn shows(&self, node: &Node) -> bool {
        !(self.hides_whiteouts && node.kind == Kind::CharacterDevice && node.device == 0)
    }

    /// Opens something inside. Links on the way are followed inside the tree; `flags` decide about the last one.
    ///
    /// # Errors
    /// As `open(2)`.
    pub fn open_inside(&self, path: &InnerPath, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        self.open_resolving(path, flags, mode, ResolveFlags::NO_MAGICLINKS)
    }

    fn open_resolving(
        &self,
        path: &InnerPath,
        flags: OFlags,
        mode: Mode,
        resolve: ResolveFlags,
    ) -> io::Result<OwnedFd> {
        let resolve = resolve | ResolveFlags::IN_ROOT;
        let flags = flags | OFlags::CLOEXEC;
        // The kernel answers EAGAIN when a rename elsewhere may have spoiled its `..`; that is rare and passes.
        for _ in 0..128 {
            match openat2(&self.directory, path.as_path(), flags, mode, resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// Opens a file or directory to read it. Its links are followed already: one is refused. A fifo does not block.
    pub(crate) fn open_to_read(&self, path: &InnerPath) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        self.open_resolving(path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
    }

    /// Opens a directory to work in it with the `*at` calls. Its links are followed already: one is refused.
    pub(crate) fn open_directory(&self, path: &InnerPath) -> io::Result<OwnedFd> {
        self.open_resolving(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty(), ResolveFlags::NO_SYMLINKS)
    }

    /// The content of a small file, links followed inside the tree; nothing if it does not exist.
    ///
    /// # Errors
    /// If it cannot be read, or is larger than `limit`.
    pub fn read_small(&self, path: &InnerPath, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let fd = match self.open_inside(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty()) {
            Ok(fd) => fd,
            Err(error) if is_absent(&error) => return Ok(None),
            // No driver has a whiteout's number.
            Err(_) if self.hides_whiteouts && self.node(path).is_ok_and(|node| node.is_none()) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut content = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(std::fs::File::from(fd), limit + 1), &mut content)?;
        if content.len() as u64 > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(Some(content))
    }
}

impl Tree for Root {
    fn node(&self, path: &InnerPath) -> io::Result<Option<Node>> {
        let fd = match self.open_inside(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => fd,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(node_of(fd.as_fd())?).filter(|node| self.shows(node)))
    }

    fn list(&self, directory: &InnerPath) -> io::Result<Vec<(OsString, Node)>> {
        self.entries(directory).map(Iterator::collect)
    }

    /// As little as a scan holds of a directory.
    fn entries(&self, directory: &InnerPath) -> io::Result<Listed<'_>> {
        let directory = self.open_directory(directory)?;
        let mut pile = Pile::default();
        let mut found = Vec::new();
        let mut buffer = Vec::with_capacity(32 * 1024);
        let mut list = RawDir::new(&directory, buffer.spare_capacity_mut());
        while let Some(entry) = list.next() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            // What vanishes between the two calls was not there.
            if let Some(node) = node_at(directory.as_fd(), name)?.filter(|node| self.shows(node)) {
                found.push(pile.pack(name.to_bytes(), &node, false)?);
            }
        }
        pile.sort(&mut found);
        Ok(Box::new(pile.into_list(found)))
    }

    fn node_without_links(&self, path: &InnerPath) -> Option<Node> {
        let fd = self.open_resolving(path, OFlags::PATH, Mode::empty(), ResolveFlags::NO_SYMLINKS).ok()?;
        node_of(fd.as_fd()).ok().filter(|node| self.shows(node))
    }
}

/// Whether an error says that there is nothing at a path.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// What an open descriptor stands for.
pub(crate) fn node_of(fd: BorrowedFd<'_>) -> io::Result<Node> {
    let stat = statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    with_target(Node::from_statx(&stat, None), fd, c"")
}

/// What a name in a directory stands for, links not followed.
pub(crate) fn node_at(directory: BorrowedFd<'_>, name: impl Arg + Copy) -> io::Result<Option<Node>> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    match statx(directory, name, flags, StatxFlags::BASIC_STATS) {
        Ok(stat) => with_target(Node::from_statx(&stat, None), directory, name).map(Some),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn with_target(mut node: Node, directory: BorrowedFd<'_>, name: impl Arg) -> io::Result<Node> {
    if node.kind == Kind::Symlink {
        let target = readlinkat(directory, name, Vec::new())?.into_bytes();
        node.target = Some(OsString::from_vec(target).into());
    }
    Ok(node)
}

/// The names in a directory, in no order.
pub(crate) fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::super::resolve;
    use super::*;

    #[test]
    fn links_stay_inside() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "s").unwrap();
        let inside = outside.path().join("inside");
        fs::create_dir_all(inside.join("sub")).unwrap();
        fs::write(inside.join("own"), "o").unwrap();
        symlink("../../secret", inside.join("sub/up")).unwrap();
        symlink(outside.path().join("secret"), inside.join("absolute")).unwrap();
        symlink("/own", inside.join("sub/root")).unwrap();
        let root = Root::open(&inside).unwrap();
        for path in ["sub/up", "absolute", "../secret", "sub/../../secret"] {
            assert_eq!(root.read_small(&InnerPath::new(path), 100).unwrap(), None, "{path}");
        }
        assert_eq!(root.read_small(&InnerPath::new("sub/root"), 100).unwrap().unwrap(), b"o");
        let found = resolve(&root, &InnerPath::new("sub/up"), true).unwrap();
        assert_eq!((found.path, found.node), (InnerPath::new("secret"), None));
    }

    #[test]
    fn whiteouts_of_a_single_layer_are_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let (kind, mode) = (rustix::fs::FileType::CharacterDevice, Mode::RUSR);
        if rustix::fs::mknodat(CWD, directory.path().join("gone"), kind, mode, 0).is_err() {
            println!("skipped: this machine lets us make no whiteout");
            return;
        }
        fs::write(directory.path().join("there"), "").unwrap();
        let path = InnerPath::new("gone");
        for (root, seen) in
            [(Root::open(directory.path()).unwrap(), true), (Root::of_layers(directory.path()).unwrap(), false)]
        {
            assert_eq!(root.node(&path).unwrap().is_some(), seen);
            assert_eq!(root.node_without_links(&path).is_some(), seen);
            assert_eq!(root.list(&InnerPath::root()).unwrap().len(), 1 + usize::from(seen));
            assert_eq!(matches!(root.read_small(&path, 10), Ok(None)), !seen);
            assert!(root.node(&InnerPath::new("gone/in")).unwrap().is_none());
        }
    }

    #[test]
    fn lists_are_sorted_and_know_link_targets() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("b"), "12").unwrap();
        symlink("b", directory.path().join("a")).unwrap();
        fs::create_dir(directory.path().join("c")).unwrap();
        let root = Root::open(directory.path()).unwrap();
        let list = root.list(&InnerPath::root()).unwrap();
        let list: Vec<_> = list.iter().map(|(name, node)| (name.to_str().unwrap(), node.kind, node.size)).collect();
        assert_eq!((list[0], list[1]), (("a", Kind::Symlink, 1), ("b", Kind::File, 2)));
        assert_eq!((list[2].0, list[2].1), ("c", Kind::Directory));
        assert_eq!(root.node(&InnerPath::new("a")).unwrap().unwrap().target.as_deref(), Some(OsStr::new("b")));
        assert_eq!(root.node(&InnerPath::new("b/x")).unwrap(), None);
    }
}
