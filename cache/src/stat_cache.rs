//! Where is what is known about a build context's files kept between builds?
//!
//! One file per context directory, opaque here, read and written whole: `stat-cache-v1/<hash of the path>`. It ends in
//! its own blake3, so a torn one is as good as none. The last writer wins.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Context, Result};
use crate::store::{Store, read_if_exists};

/// The stat caches of a [`Store`].
#[derive(Clone, Copy, Debug)]
pub struct StatCache<'a>(pub(crate) &'a Store);

impl StatCache<'_> {
    /// What was saved for `root`, if it is whole.
    ///
    /// # Errors
    /// Only if the disk fails.
    pub fn load(&self, root: &Path) -> Result<Option<Vec<u8>>> {
        let Some(mut bytes) = read_if_exists(&self.path(root))? else { return Ok(None) };
        let Some(length) = bytes.len().checked_sub(blake3::OUT_LEN) else { return Ok(None) };
        if *blake3::hash(&bytes[..length]).as_bytes() != bytes[length..] {
            return Ok(None);
        }
        bytes.truncate(length);
        Ok(Some(bytes))
    }

    /// Replaces what is known about `root`, an absolute path.
    ///
    /// # Errors
    /// Only if the disk fails.
    pub fn save(&self, root: &Path, bytes: &[u8]) -> Result<()> {
        let working = self.0.0.aside.make_file("stat")?;
        let mut file = working.handle();
        file.write_all(bytes).context("write", working.path())?;
        file.write_all(blake3::hash(bytes).as_bytes()).context("write", working.path())?;
        working.publish(&self.path(root))
    }

    /// Forgets everything that was not saved or loaded since `oldest`, seconds since 1970. Returns how many went.
    pub(crate) fn remove_older(&self, oldest: u64) -> Result<usize> {
        let directory = self.0.root().join("stat-cache-v1");
        let mut count = 0;
        for entry in fs::read_dir(&directory).context("read", &directory)? {
            let entry = entry.context("read", &directory)?;
            let Ok(metadata) = entry.metadata() else { continue };
            let modified = metadata.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
            if modified.is_some_and(|at| at.as_secs() < oldest) && self.0.0.aside.discard(&entry.path())? {
                count += 1;
            }
        }
        Ok(count)
    }

    fn path(&self, root: &Path) -> PathBuf {
        self.0.root().join("stat-cache-v1").join(blake3::hash(root.as_os_str().as_bytes()).to_hex().as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_cache_is_as_good_as_none() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let cache = store.stat_cache();
        let context = Path::new("/src");
        assert_eq!(cache.load(context).unwrap(), None);
        cache.save(context, b"one").unwrap();
        cache.save(context, b"two").unwrap();
        assert_eq!(cache.load(context).unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(cache.load(Path::new("/other")).unwrap(), None);
        let path = cache.path(context);
        let bytes = fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            assert_eq!(cache.load(context).unwrap(), None, "{length} bytes");
        }
        assert_eq!(cache.remove_older(u64::MAX).unwrap(), 1);
    }
}
