//! Where are files that are needed for one command only?
//!
//! In a directory of `ingest/`, so that nobody else sees them and the next command removes what a killed process left.

use std::path::{Path, PathBuf};

use rbuild_core::MakeFile;

use crate::aside::Working;
use crate::error::Result;
use crate::store::Store;

/// A directory that is removed with all that is in it when this is dropped.
#[derive(Debug)]
#[must_use = "dropping it removes the directory"]
pub struct Scratch {
    store: Store,
    /// None once the directory is gone.
    working: Option<Working>,
}

impl Store {
    /// Makes an empty directory that only this process uses. `what` is the beginning of its name.
    ///
    /// # Errors
    /// The disk fails.
    pub fn scratch(&self, what: &str) -> Result<Scratch> {
        let working = self.0.aside.make_directory(what)?;
        Ok(Scratch { store: self.clone(), working: Some(working) })
    }

    /// The same for a few small files, whose removal can wait until others are removed.
    ///
    /// # Errors
    /// The disk fails.
    pub fn working_directory(&self, what: &str) -> Result<WorkingDirectory> {
        self.0.aside.make_directory(what).map(WorkingDirectory)
    }

    /// Where files without names may be made, which are gone as soon as nobody has them open.
    pub fn nameless_files(&self) -> PathBuf {
        self.root().join("ingest")
    }
}

/// A directory that goes to the trash when this is dropped.
#[derive(Debug)]
#[must_use = "dropping it removes the directory"]
pub struct WorkingDirectory(Working);

impl WorkingDirectory {
    /// The directory, absolute.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Scratch {
    /// The directory, absolute.
    pub fn path(&self) -> &Path {
        self.working.as_ref().expect("it is only taken when this is dropped").path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.working.take());
        // At once: a command that ends early has no other clean-up, and this can be as much as a whole context.
        if let Err(error) = self.store.0.aside.empty_trash() {
            tracing::debug!(%error, "left in the trash");
        }
    }
}

/// Makes files without names in a directory.
pub(crate) fn nameless_file(directory: &Path) -> MakeFile {
    let directory = directory.to_owned();
    Box::new(move || tempfile::tempfile_in(&directory))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn nothing_is_left_of_a_scratch_directory() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let count = |name: &str| fs::read_dir(store.root().join(name)).unwrap().count();
        let scratch = store.scratch("context").unwrap();
        fs::create_dir_all(scratch.path().join("a/b")).unwrap();
        fs::write(scratch.path().join("a/b/c"), "c").unwrap();
        // Its maker lives, so it is no litter.
        store.reap().unwrap();
        assert!(scratch.path().join("a/b/c").exists());
        drop(scratch);
        assert_eq!((count("ingest"), count("trash")), (0, 0));
    }

    #[test]
    fn what_a_dead_process_left_is_reaped() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        fs::create_dir_all(store.root().join("ingest/context-0123/a")).unwrap();
        assert_eq!(store.reap().unwrap(), 1);
        assert_eq!(fs::read_dir(store.root().join("ingest")).unwrap().count(), 0);
    }
}
