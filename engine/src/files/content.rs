//! What is in files, as digests?
//!
//! A file's digest is the blake3 of its content. If it has attributes that a copy keeps, it is the blake3 of both; the
//! two cases cannot meet, since the second is a hash under a domain of its own.

mod parallel;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use rbuild_core::KeyHasher;
use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{SeekFrom, fgetxattr, flistxattr, seek};
use rustix::io::{Errno, read};

use super::root::node_of;
use super::{InnerPath, Node, Root};

/// blake3 of a file's content and of the attributes that a copy keeps.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FileDigest(pub [u8; 32]);

/// The extended attributes that copies keep, sorted by name: file capabilities and what users set.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Attributes(Vec<(CString, Vec<u8>)>);

impl Attributes {
    /// Reads them from an open file or directory; none if the file system has no attributes.
    ///
    /// # Errors
    /// If they exist but cannot be read.
    pub fn read(file: impl AsFd) -> io::Result<Self> {
        Self::read_which(file.as_fd(), is_kept)
    }

    /// Reads all that there are: what the kernel keeps when an overlay copies a file up.
    pub(crate) fn read_all(file: impl AsFd) -> io::Result<Self> {
        Self::read_which(file.as_fd(), |name| !name.is_empty())
    }

    fn read_which(file: BorrowedFd<'_>, which: impl Fn(&[u8]) -> bool) -> io::Result<Self> {
        let mut found = Vec::new();
        let list = xattr(|buffer| flistxattr(file, spare_capacity(buffer)))?;
        for name in list.split(|byte| *byte == 0).filter(|name| which(name)) {
            let name = CString::new(name).expect("split at zeros");
            let value = xattr(|buffer| fgetxattr(file, &*name, spare_capacity(buffer)))?;
            found.push((name, value));
        }
        found.sort_unstable();
        Ok(Self(found))
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As entries of layers have them.
    pub(crate) fn to_map(&self) -> BTreeMap<OsString, Vec<u8>> {
        self.iter().map(|(name, value)| (OsStr::from_bytes(name.to_bytes()).to_owned(), value.to_vec())).collect()
    }

    /// All that a layer's entry has.
    pub(crate) fn of_map(all: &BTreeMap<OsString, Vec<u8>>) -> Self {
        Self(
            all.iter().filter_map(|(name, value)| Some((CString::new(name.as_bytes()).ok()?, value.clone()))).collect(),
        )
    }

    /// Those of an archive's entry that a copy keeps.
    pub(crate) fn kept_of(all: &BTreeMap<OsString, Vec<u8>>) -> Self {
        let kept = all.iter().filter(|(name, _)| is_kept(name.as_bytes()));
        Self(kept.filter_map(|(name, value)| Some((CString::new(name.as_bytes()).ok()?, value.clone()))).collect())
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&CString, &[u8])> {
        self.0.iter().map(|(name, value)| (name, value.as_slice()))
    }
}

/// `user.overlay.*` is how overlay mounts in a user namespace keep their own notes; it is not the file's.
fn is_kept(name: &[u8]) -> bool {
    name == b"security.capability" || name.starts_with(b"user.") && !name.starts_with(b"user.overlay.")
}

fn xattr(mut call: impl FnMut(&mut Vec<u8>) -> rustix::io::Result<usize>) -> io::Result<Vec<u8>> {
    let mut buffer = Vec::with_capacity(256);
    loop {
        match call(&mut buffer) {
            Ok(_) => return Ok(buffer),
            Err(Errno::RANGE) if buffer.capacity() < 1 << 20 => buffer.reserve_exact(buffer.capacity() * 4),
            // Removed meanwhile, or the file system has none.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads files, many at the same time if they are many.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    root: &'a Root,
    /// Made for the first files that are worth it.
    pool: Option<rayon::ThreadPool>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(root: &'a Root) -> Self {
        Self { root, pool: None }
    }

    /// Digests of `files`, in their order, each with what the file was when it was read.
    pub(crate) fn read(
        &mut self,
        files: &[(&InnerPath, &Node)],
    ) -> Result<Vec<(FileDigest, Node)>, (InnerPath, io::Error)> {
        let root = self.root;
        let one = |(path, _): &(&InnerPath, &Node)| digest_one(root, path).map_err(|error| ((*path).clone(), error));
        let bytes: u64 = files.iter().map(|(_, node)| node.size).sum();
        if files.len() < 16 && bytes < 1 << 20 {
            return files.iter().map(one).collect();
        }
        if self.pool.is_none() {
            // More threads than processors: with a cold page cache it is the disk that waits for questions.
            let threads = std::thread::available_parallelism().map_or(1, usize::from).clamp(8, 64);
            self.pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().ok();
        }
        match &self.pool {
            Some(pool) => pool.install(|| files.par_iter().with_min_len(8).map(one).collect()),
            None => files.iter().map(one).collect(),
        }
    }
}

fn digest_one(root: &Root, path: &InnerPath) -> io::Result<(FileDigest, Node)> {
    let file = File::from(root.open_to_read(path)?);
    let node = node_of(file.as_fd())?;
    let content = if node.is_directory() { None } else { Some(blake3_of(&file, node.size)?) };
    let attributes = Attributes::read(&file)?;
    Ok((combine(content, &attributes), node))
}

/// The digest of a file with this content.
pub(crate) fn combine(content: Option<[u8; 32]>, attributes: &Attributes) -> FileDigest {
    let content = content.unwrap_or_default();
    if attributes.0.is_empty() {
        return FileDigest(content);
    }
    let mut hasher = KeyHasher::new("file-with-attributes/1");
    hasher.bytes(&content);
    for (name, value) in attributes.iter() {
        hasher.bytes(name.to_bytes()).bytes(value);
    }
    FileDigest(*hasher.finish().as_bytes())
}

const SMALL_BUFFER: usize = 64 * 1024;
const LARGE_BUFFER: usize = 1024 * 1024;
/// From this size on one file is hashed by all processors.
const SHARED: u64 = 4 << 20;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn blake3_of(file: &File, size: u64) -> io::Result<[u8; 32]> {
    if size >= SHARED {
        if let Some(digest) = parallel::blake3_of(file, size)? {
            return Ok(digest);
        }
        // It is changing: whatever there is now, up to its end.
        seek(file, SeekFrom::Start(0))?;
    }
    BUFFER.with_borrow_mut(|buffer| {
        let large = size > LARGE_BUFFER as u64;
        let length = if large { LARGE_BUFFER } else { SMALL_BUFFER };
        if buffer.len() < length {
            buffer.resize(length, 0);
        }
        let buffer = &mut buffer[..length];
        let mut hasher = blake3::Hasher::new();
        loop {
            match read(file, &mut *buffer) {
                Ok(0) => return Ok(*hasher.finalize().as_bytes()),
                Ok(length) => hasher.update(&buffer[..length]),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
        }
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::{XattrFlags, setxattr};

    use super::*;

    #[test]
    fn content_and_kept_attributes_count() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, "content").unwrap();
        let root = Root::open(directory.path()).unwrap();
        let digest = || digest_one(&root, &InnerPath::new("f")).unwrap().0;
        let plain = digest();
        assert_eq!(plain.0, *blake3::hash(b"content").as_bytes());
        if setxattr(&path, "user.note", b"n", XattrFlags::empty()).is_err() {
            println!("skipped: the temporary directory has no user attributes");
            return;
        }
        let noted = digest();
        assert_ne!(plain, noted);
        setxattr(&path, "user.note", b"other", XattrFlags::empty()).unwrap();
        assert_ne!(noted, digest());
    }

    #[test]
    fn large_files_are_streamed() {
        let directory = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..3_000_001_u32).map(|number| number.to_le_bytes()[1]).collect();
        fs::write(directory.path().join("f"), &content).unwrap();
        let root = Root::open(directory.path()).unwrap();
        let path = InnerPath::new("f");
        let node = super::super::Tree::node(&root, &path).unwrap().unwrap();
        let found = Reader::new(&root).read(&[(&path, &node)]).unwrap();
        assert_eq!(found[0].0.0, *blake3::hash(&content).as_bytes());
        assert_eq!(found[0].1.size, content.len() as u64);
    }
}
