//! Where are hostile archives unpacked, and did anything else change?
//!
//! ```text
//! /dev/shm/rbuild-fuzz/      RBUILD_FUZZ_DIRECTORY, if set
//! ├── outside/               the canaries; links of archives aim at them
//! ├── context/archive        what `ADD` unpacks
//! ├── image/                 where it does, with links that lead to the canaries
//! └── store-N/               where layers are imported; a new one now and then
//! ```
//!
//! A canary tells of every change by its change time, which nothing can set back. `scripts/fuzz.sh` makes everything else
//! read-only besides.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rbuild_cache::Store;
use rbuild_engine::files::copy::{Copied, CopyError, Sources, apply};
use rbuild_engine::files::{ContextScan, Root, SourceTree, StatCache};
use rbuild_frontend::IgnoreFile;
use rbuild_solver::graph::{CopyAction, CopySource, Unpack};

/// After so many inputs the store starts anew.
const INPUTS: usize = 64;

/// The directory and what is known of its canaries.
#[derive(Debug)]
pub struct Jail {
    root: PathBuf,
    before: BTreeMap<PathBuf, [i64; 9]>,
    store: Option<Store>,
    inputs: usize,
}

impl Default for Jail {
    fn default() -> Self {
        let root = std::env::var_os("RBUILD_FUZZ_DIRECTORY").map_or("/dev/shm/rbuild-fuzz".into(), PathBuf::from);
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("outside/directory")).expect("a directory of our own");
        fs::write(root.join("outside/file"), "canary").expect("a canary");
        fs::write(root.join("outside/directory/file"), "canary").expect("a canary");
        symlink("file", root.join("outside/link")).expect("a canary");
        fs::create_dir(root.join("context")).expect("a context");
        fs::write(root.join("context/archive"), "").expect("an archive");
        let mut jail = Self { root, before: BTreeMap::new(), store: None, inputs: 0 };
        jail.before = jail.canaries();
        jail
    }
}

impl Jail {
    /// A store to import into.
    pub fn store(&mut self) -> Store {
        self.inputs += 1;
        if let Some(store) = &self.store
            && !self.inputs.is_multiple_of(INPUTS)
        {
            return store.clone();
        }
        if let Some(old) = self.store.take() {
            let path = old.root().to_owned();
            drop(old);
            remove(&path);
        }
        let path = self.root.join(format!("store-{}", self.inputs / INPUTS));
        fs::create_dir_all(&path).expect("a directory for the store");
        let store = Store::open(&path).expect("a store");
        self.store = Some(store.clone());
        store
    }

    /// `ADD archive /dir/` onto an image whose links lead out.
    ///
    /// # Errors
    /// As the copy.
    pub fn add(&self, archive: &[u8]) -> Result<Copied, CopyError> {
        let (context, image) = (self.root.join("context"), self.root.join("image"));
        remove(&image);
        fs::create_dir_all(image.join("dir/a")).expect("an image");
        for (name, target) in [("up", "../../outside"), ("link", "/"), ("dir/up", "../../../outside"), ("loop", "loop")]
        {
            symlink(target, image.join(name)).expect("a link");
        }
        symlink(self.root.join("outside"), image.join("dir/absolute")).expect("a link");
        fs::write(context.join("archive"), archive).expect("an archive");
        let scan = ContextScan::new(&context, IgnoreFile::default(), StatCache::default(), None).expect("a context");
        let action = CopyAction {
            sources: vec![CopySource::Path { input: 1, path: "archive".to_owned(), written: "archive".to_owned() }],
            destination: "/dir".to_owned(),
            into_directory: true,
            owner: None,
            mode: None,
            preserve_owner: false,
            unpack: Unpack::Archives,
            parents: false,
            exclude: Vec::new(),
            wildcards: false,
            mtime: Some(0),
        };
        let sources: Sources<'_> = BTreeMap::from([(1, &scan as &dyn SourceTree)]);
        apply(&action, &sources, &Root::open(&image).expect("an image"), &|_| ())
    }

    /// # Panics
    /// If anything outside of where archives are unpacked is not as it was.
    pub fn check(&self) {
        assert_eq!(self.before, self.canaries(), "a canary has changed");
        for entry in fs::read_dir(&self.root).expect("a directory of our own") {
            let name = entry.expect("an entry").file_name();
            let known = ["outside", "context", "image"].map(Path::new).contains(&Path::new(&name));
            assert!(known || name.as_encoded_bytes().starts_with(b"store-"), "`{}` is new", name.display());
        }
        assert_eq!(fs::read_dir(self.root.join("context")).expect("the context").count(), 1, "the context has changed");
    }

    fn canaries(&self) -> BTreeMap<PathBuf, [i64; 9]> {
        let mut found = BTreeMap::new();
        let mut pending = vec![self.root.join("outside")];
        while let Some(path) = pending.pop() {
            let stat = fs::symlink_metadata(&path).expect("a canary");
            if stat.is_dir() {
                let entries = fs::read_dir(&path).expect("a canary");
                pending.extend(entries.map(|entry| entry.expect("a canary").path()));
            }
            let numbers = [
                stat.ino().cast_signed(),
                stat.mode().into(),
                stat.uid().into(),
                stat.gid().into(),
                stat.nlink().cast_signed(),
                stat.size().cast_signed(),
                stat.mtime(),
                stat.ctime(),
                stat.ctime_nsec(),
            ];
            found.insert(path, numbers);
        }
        found
    }
}

fn remove(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            panic!("cannot remove `{}`: {error}", path.display())
        }
        _ => {}
    }
}
