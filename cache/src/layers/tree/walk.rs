//! How is a layer's directory read in canonical order, however many files it has?
//!
//! Depth first. In memory are the names of the directories on the way to where the walk is, packed, and one *batch* of
//! entries that come next: those are looked at side by side, and open files are those of their directories.
//!
//! Nothing but a directory is opened by a joined path, on which no symlink is followed either: every name is looked up
//! below the directory's own handle.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, OFlags, RawDir};
use rustix::io::Errno;

use super::super::Result;
use super::super::error::LayerError;
use super::{open_beneath, open_root};
use crate::error::StoreError;

/// How many entries a batch has, and how many directories they may be in.
const ENTRIES: usize = 1024;
const DIRECTORIES: usize = 16;
/// Directories on the way that stay open; those further down are opened again when the walk comes back to them.
const OPEN: usize = 8;

/// One file, where it lies.
#[derive(Clone, Debug)]
pub(super) struct Place {
    directory: Arc<Names>,
    handle: Arc<OwnedFd>,
    index: usize,
}

impl Place {
    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    pub(super) fn name(&self) -> &OsStr {
        OsStr::from_bytes(self.directory.name(self.index).to_bytes())
    }

    /// Relative to the root of the layer; empty for the root itself.
    pub(super) fn path(&self) -> PathBuf {
        if self.directory.is_root_itself { PathBuf::new() } else { self.directory.path.join(self.name()) }
    }
}

/// The names in one directory, by their bytes.
#[derive(Debug)]
struct Names {
    path: PathBuf,
    /// Each after a byte that says whether it is a directory, and before a NUL.
    text: Vec<u8>,
    places: Vec<u32>,
    /// It has one name, which is that of the root.
    is_root_itself: bool,
}

impl Names {
    fn read(path: PathBuf, directory: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        let mut names = Self { path, text: Vec::new(), places: Vec::new(), is_root_itself: false };
        let mut buffer = Vec::with_capacity(32 << 10);
        let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    FileType::from_raw_mode(stat.st_mode)
                }
                known => known,
            };
            names.push(name, kind == FileType::Directory)?;
        }
        let Self { text, places, .. } = &mut names;
        places.sort_unstable_by(|left, right| name_at(text, *left).cmp(name_at(text, *right)));
        Ok(names)
    }

    fn push(&mut self, name: &CStr, is_directory: bool) -> rustix::io::Result<()> {
        self.places.push(u32::try_from(self.text.len()).map_err(|_| Errno::OVERFLOW)?);
        self.text.push(is_directory.into());
        self.text.extend_from_slice(name.to_bytes_with_nul());
        Ok(())
    }

    fn name(&self, index: usize) -> &CStr {
        name_at(&self.text, self.places[index])
    }

    fn is_directory(&self, index: usize) -> bool {
        self.text[self.places[index] as usize] != 0
    }
}

fn name_at(text: &[u8], at: u32) -> &CStr {
    CStr::from_bytes_until_nul(&text[at as usize + 1..]).expect("a NUL follows each name")
}

/// Goes through a directory and everything below it.
#[derive(Debug)]
pub(super) struct Walk {
    path: PathBuf,
    root: Arc<OwnedFd>,
    begun: bool,
    /// Directories on the way, the root first, and how many of their names were seen.
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    names: Arc<Names>,
    handle: Option<Arc<OwnedFd>>,
    seen: usize,
}

impl Walk {
    pub(super) fn new(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), root: Arc::new(open_root(path)?), begun: false, open: Vec::new() })
    }

    /// The files that come next, the root before all others; none at the end.
    pub(super) fn batch(&mut self) -> Result<Vec<Place>> {
        let mut batch = Vec::new();
        let mut directories = 0;
        if !self.begun {
            self.begun = true;
            let mut names = Names { path: PathBuf::new(), text: Vec::new(), places: Vec::new(), is_root_itself: true };
            names.push(c".", true).map_err(|error| self.failed(Path::new(""), error))?;
            batch.push(Place { directory: Arc::new(names), handle: Arc::clone(&self.root), index: 0 });
            self.enter(PathBuf::new(), Arc::clone(&self.root))?;
        }
        while batch.len() < ENTRIES && directories < DIRECTORIES {
            let Some(open) = self.open.last_mut() else { break };
            let index = open.seen;
            if index == open.names.places.len() {
                self.open.pop();
                continue;
            }
            open.seen += 1;
            let handle = match &open.handle {
                Some(handle) => Arc::clone(handle),
                None => {
                    let opened = open_beneath(self.root.as_fd(), &open.names.path, OFlags::DIRECTORY);
                    let path = &open.names.path;
                    let opened = Arc::new(opened.map_err(|error| failed(&self.path, path, error))?);
                    directories += 1;
                    Arc::clone(open.handle.insert(opened))
                }
            };
            let place = Place { directory: Arc::clone(&open.names), handle, index };
            if open.names.is_directory(index) {
                let path = place.path();
                let below = open_beneath(place.directory(), Path::new(place.name()), OFlags::DIRECTORY);
                self.enter(path.clone(), Arc::new(below.map_err(|error| self.failed(&path, error))?))?;
                directories += 1;
            }
            batch.push(place);
        }
        Ok(batch)
    }

    /// What to say about a file that cannot be read.
    pub(super) fn failed(&self, path: &Path, error: Errno) -> LayerError {
        failed(&self.path, path, error)
    }

    fn enter(&mut self, path: PathBuf, handle: Arc<OwnedFd>) -> Result<()> {
        let names = Names::read(path.clone(), handle.as_fd()).map_err(|error| self.failed(&path, error))?;
        if self.open.len() >= OPEN
            && let Some(above) = self.open.last_mut()
        {
            above.handle = None;
        }
        self.open.push(Open { names: Arc::new(names), handle: Some(handle), seen: 0 });
        Ok(())
    }
}

fn failed(root: &Path, path: &Path, error: Errno) -> LayerError {
    StoreError::io("read", root.join(path), error).into()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_directory_that_became_a_link_is_not_followed() {
        // After the last directory of the first batch come those whose handles were closed.
        const DEPTH: usize = DIRECTORIES + OPEN;
        for replaced in [0, 1, OPEN, DIRECTORIES - 2] {
            let directory = tempfile::tempdir().unwrap();
            let (layer, outside) = (directory.path().join("layer"), directory.path().join("outside"));
            for root in [&layer, &outside] {
                let mut path = root.clone();
                for _ in 0..DEPTH {
                    path.push("d");
                    fs::create_dir_all(&path).unwrap();
                    fs::write(path.join("z"), root.as_os_str().as_bytes()).unwrap();
                }
            }
            let mut walk = Walk::new(&layer).unwrap();
            walk.batch().unwrap();
            let middle: PathBuf = std::iter::repeat_n("d", replaced + 1).collect();
            fs::rename(layer.join(&middle), directory.path().join("gone")).unwrap();
            symlink(outside.join(&middle), layer.join(&middle)).unwrap();
            let error = loop {
                match walk.batch() {
                    Err(error) => break error,
                    Ok(batch) => assert!(!batch.is_empty(), "the link at {replaced} is seen"),
                }
            };
            let source = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source()).last();
            assert!(source.unwrap().to_string().contains("symbolic link"), "{replaced}: {error:?}");
        }
    }
}
