//! Where do `RUN --mount=type=cache` directories live, and who may use one?
//!
//! ```text
//! cache-mounts/<hash of the id>/            locked (flock) by its users; its mtime is its last use
//! cache-mounts/<hash of the id>/data/       what is mounted
//! cache-mounts/<hash of the id>/seed/       being filled for the first time
//! cache-mounts/<hash of the id>.1/ …        further ones, for concurrent users that do not share
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Context, Result};
use crate::meta::Table;
use crate::store::{self, Store, used_key};

/// The file name in `cache-mounts/` without suffix → the id.
pub(crate) const CACHE_MOUNTS: Table<String> = Table::new(b'q', "cache mount");

/// What happens when two users want the same cache mount.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Sharing {
    /// Both use it at once.
    #[default]
    Shared,
    /// The second waits.
    Locked,
    /// The second gets another directory.
    Private,
}

/// The cache mounts of a [`Store`].
#[derive(Clone, Copy, Debug)]
pub struct CacheMounts<'a>(pub(crate) &'a Store);

impl CacheMounts<'_> {
    /// The directory for `id`, locked as `sharing` says. Blocks this thread while another user has it
    /// [`Sharing::Locked`], or is filling it.
    ///
    /// # Errors
    /// Only if the disk fails.
    pub fn open(&self, id: &str, sharing: Sharing) -> Result<CacheMount> {
        let wait = sharing != Sharing::Private;
        let mount = self.acquire(id, sharing, wait)?;
        Ok(mount.expect("only a private mount could be refused, and it takes another directory instead"))
    }

    /// As [`CacheMounts::open`], but `None` instead of waiting.
    ///
    /// # Errors
    /// Only if the disk fails.
    pub fn try_open(&self, id: &str, sharing: Sharing) -> Result<Option<CacheMount>> {
        self.acquire(id, sharing, false)
    }

    fn acquire(&self, id: &str, sharing: Sharing, wait: bool) -> Result<Option<CacheMount>> {
        let hash = &blake3::hash(id.as_bytes()).to_hex()[..32];
        let directory = self.0.root().join("cache-mounts");
        for slot in 0_u32.. {
            let name = if slot == 0 { hash.to_owned() } else { format!("{hash}.{slot}") };
            let path = directory.join(name);
            match CacheMount::lock(self.0, path, sharing, wait)? {
                Some(mount) => {
                    self.enter(hash, id, mount.is_new())?;
                    return Ok(Some(mount));
                }
                None if sharing == Sharing::Private => {}
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Makes sure that the mount has its row, now that it is locked and so cannot be pruned. The row of a new one may
    /// still be that of a mount that is just being pruned: writing waits for that.
    fn enter(&self, hash: &str, id: &str, is_new: bool) -> Result<()> {
        let last = self.0.0.meta.read(|reader| {
            let known = reader.contains(&CACHE_MOUNTS, hash.as_bytes())?;
            let used = reader.find(&store::USED, &used_key(b'q', hash.as_bytes()))?;
            Ok::<_, crate::StoreError>(known.then_some(used))
        })?;
        if let (Some(last), false) = (last, is_new) {
            self.0.note_use(b'q', hash.as_bytes(), last);
            return Ok(());
        }
        self.0.0.meta.write(|writer| {
            writer.put(&store::USED, &used_key(b'q', hash.as_bytes()), &store::now())?;
            writer.put(&CACHE_MOUNTS, hash.as_bytes(), &id.to_owned())
        })
    }
}

/// A cache mount in use. Dropping it ends the use.
#[derive(Debug)]
#[must_use = "dropping it lets others in"]
pub struct CacheMount {
    store: Store,
    path: PathBuf,
    lock: File,
    sharing: Sharing,
    seeding: bool,
}

impl CacheMount {
    /// What is to be mounted. While [`CacheMount::is_new`], what is to be filled first.
    pub fn path(&self) -> PathBuf {
        self.path.join(if self.seeding { "seed" } else { "data" })
    }

    /// Whether this user is the first, and the only one meanwhile: it chooses owner, mode and initial content of
    /// [`CacheMount::path`] and then calls [`CacheMount::finish_seed`].
    pub fn is_new(&self) -> bool {
        self.seeding
    }

    /// Makes the initial content visible to others; [`CacheMount::path`] changes. Dropped without it, the next user
    /// starts again. Does nothing if the mount is not new.
    ///
    /// # Errors
    /// Only if the disk fails.
    pub fn finish_seed(&mut self) -> Result<()> {
        if !self.seeding {
            return Ok(());
        }
        fs::rename(self.path.join("seed"), self.path.join("data")).context("create", self.path.join("data"))?;
        self.seeding = false;
        if self.sharing == Sharing::Shared {
            store::lock(&self.lock, FlockOperation::LockShared).context("lock", &self.path)?;
        }
        Ok(())
    }

    /// `None` while somebody else has it and `wait` is off.
    fn lock(store: &Store, path: PathBuf, sharing: Sharing, wait: bool) -> Result<Option<Self>> {
        loop {
            match rustix::fs::mkdir(&path, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error).context("create", &path),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let lock = match rustix::fs::open(&path, flags, Mode::empty()) {
                Ok(handle) => File::from(handle),
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error).context("open", &path),
            };
            let filled = path.join("data").is_dir();
            let shared = sharing == Sharing::Shared && filled;
            let operation = match (shared, wait) {
                (true, true) => FlockOperation::LockShared,
                (true, false) => FlockOperation::NonBlockingLockShared,
                (false, true) => FlockOperation::LockExclusive,
                (false, false) => FlockOperation::NonBlockingLockExclusive,
            };
            match store::lock(&lock, operation) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error).context("lock", &path),
            }
            if !is_same(&lock, &path) || path.join("data").is_dir() != filled {
                // Pruned, or filled by the one we waited for.
                continue;
            }
            let mount = Self { store: store.clone(), path, lock, sharing, seeding: !filled };
            if mount.seeding {
                mount.begin_seed()?;
            }
            return Ok(Some(mount));
        }
    }

    fn begin_seed(&self) -> Result<()> {
        let seed = self.path.join("seed");
        self.store.0.aside.discard(&seed)?;
        rustix::fs::mkdir(&seed, Mode::from_raw_mode(0o755)).context("create", &seed)?;
        // The umask does not decide about what containers see.
        rustix::fs::chmod(&seed, Mode::from_raw_mode(0o755)).context("change the mode of", &seed)
    }
}

pub(crate) fn is_same(handle: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(ours), Ok(there)) = (handle.metadata(), fs::symlink_metadata(path)) else { return false };
    ours.ino() == there.ino() && ours.dev() == there.dev()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(store: &Store, sharing: Sharing) -> CacheMount {
        let mut mount = store.cache_mounts().open("/root/.cache", sharing).unwrap();
        if mount.is_new() {
            mount.finish_seed().unwrap();
        }
        mount
    }

    #[test]
    fn each_mode_shares_as_it_says() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let mounts = store.cache_mounts();
        let first = filled(&store, Sharing::Shared);
        fs::write(first.path().join("x"), b"1").unwrap();
        let second = filled(&store, Sharing::Shared);
        assert_eq!(first.path(), second.path());
        assert!(mounts.try_open("/root/.cache", Sharing::Locked).unwrap().is_none());
        let private = filled(&store, Sharing::Private);
        assert_ne!(private.path(), first.path());
        drop((first, second));
        let locked = mounts.try_open("/root/.cache", Sharing::Locked).unwrap().unwrap();
        assert!(locked.path().join("x").exists() && !locked.is_new());
        assert!(mounts.try_open("/root/.cache", Sharing::Shared).unwrap().is_none());
        assert!(mounts.try_open("other", Sharing::Locked).unwrap().is_some());
    }

    #[test]
    fn an_unfinished_seed_is_made_again() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let mounts = store.cache_mounts();
        let mount = mounts.open("id", Sharing::Shared).unwrap();
        fs::write(mount.path().join("half"), b"").unwrap();
        assert!(mounts.try_open("id", Sharing::Shared).unwrap().is_none(), "others wait for the seed");
        drop(mount);
        let mut mount = mounts.open("id", Sharing::Shared).unwrap();
        assert!(mount.is_new() && !mount.path().join("half").exists());
        mount.finish_seed().unwrap();
        assert!(!mounts.try_open("id", Sharing::Shared).unwrap().unwrap().is_new());
    }
}
