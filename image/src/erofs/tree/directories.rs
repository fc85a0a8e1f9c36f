//! What is in each directory, if that is too much for memory?
//!
//! Most tars are done with a directory when they go on to the next one. Its names are put aside then, if they are many. What
//! is put into it nonetheless brings them back, once and for all. Names may be asked for in any order: once as much was read
//! again as if all had been several times, whatever is asked for comes back, too.

use rbuild_core::{Held, MakeFile, Names, OnShelf, Shelf};

/// Less is not worth a call to the kernel, and more would have to be in memory twice.
const WORTH: std::ops::Range<usize> = 4 << 10..4 << 20;
/// How many of them are in memory when they are read again.
const RECENT: usize = 4;
/// How many times they may be read.
const TIMES: u64 = 8;

/// Directories by their numbers.
#[derive(Debug)]
pub(in super::super) struct Directories {
    all: Vec<Directory>,
    shelf: Shelf<Names<u32>>,
    /// The one that something was put into last.
    last: u32,
}

#[derive(Debug)]
struct Directory {
    children: Children,
    opaque: bool,
}

#[derive(Debug)]
enum Children {
    Here(Names<u32>),
    Aside(OnShelf<Names<u32>>),
    /// They were aside before.
    Back(Names<u32>),
}

/// What an inode takes in `all`, without names.
pub(super) const ONE: usize = size_of::<Directory>();

impl Directories {
    /// The root's only. Names that are put aside are in the file that `make` makes, if it makes one.
    pub(super) fn new(make: MakeFile) -> Self {
        let mut new = Self { all: Vec::new(), shelf: Shelf::new(0, RECENT, make), last: 0 };
        new.push(false);
        new
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn push(&mut self, opaque: bool) {
        self.all.push(Directory { children: Children::Here(Names::default()), opaque });
    }

    pub(in super::super) fn is_opaque(&self, directory: u32) -> bool {
        self.all[directory as usize].opaque
    }

    pub(super) fn set_opaque(&mut self, directory: u32) {
        self.all[directory as usize].opaque = true;
    }

    /// The names and inodes of what is in a directory.
    pub(in super::super) fn children(&self, directory: u32) -> Held<'_, Names<u32>> {
        match &self.all[directory as usize].children {
            Children::Here(names) | Children::Back(names) => Held::Here(names),
            Children::Aside(names) => self.shelf.get(names),
        }
    }

    pub(super) fn find(&self, directory: u32, name: &[u8]) -> Option<u32> {
        self.children(directory).find(name)
    }

    #[cfg(test)]
    pub(super) fn times_read(&self) -> u64 {
        self.shelf.times_read()
    }

    /// Prepares for a look at what is in a directory. Returns how many bytes of names came back into memory for it.
    pub(super) fn recall(&mut self, directory: u32) -> usize {
        let is_aside = matches!(self.all[directory as usize].children, Children::Aside(_));
        if is_aside && self.shelf.times_read() >= TIMES { self.bring_back(directory) } else { 0 }
    }

    fn bring_back(&mut self, directory: u32) -> usize {
        let Children::Aside(aside) = &self.all[directory as usize].children else { return 0 };
        let was_in_memory = aside.is_in_memory();
        let names = self.shelf.get(aside).clone();
        let back = if was_in_memory { 0 } else { names.bytes() };
        self.all[directory as usize].children = Children::Back(names);
        back
    }

    /// Gives a name of a directory an inode. Returns how many bytes of names came back into memory for it.
    pub(super) fn insert(&mut self, directory: u32, name: &[u8], inode: u32) -> usize {
        self.last = directory;
        let back = self.bring_back(directory);
        match &mut self.all[directory as usize].children {
            Children::Here(names) | Children::Back(names) => _ = names.insert(name, inode),
            Children::Aside(_) => unreachable!("what was aside is back"),
        }
        back
    }

    /// Puts the names aside of the directory that was filled last, unless that is `next`. Returns how many bytes that makes free.
    pub(super) fn leave(&mut self, next: u32) -> usize {
        if next == self.last {
            return 0;
        }
        let children = &mut self.all[self.last as usize].children;
        let Children::Here(names) = children else { return 0 };
        let bytes = names.bytes();
        if !WORTH.contains(&bytes) {
            return 0;
        }
        let aside = self.shelf.put(std::mem::take(names));
        let freed = if aside.is_in_memory() { 0 } else { bytes };
        *children = Children::Aside(aside);
        freed
    }
}
