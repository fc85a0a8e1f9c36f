//! Where is what is known about a build context's files kept between builds?
//!
//! One file per context directory, opaque here: `stat-cache-v1/<hash of the path>`. It ends in its own blake3, which is
//! compared when it is opened, so a torn one is as good as none. It is never written to again: the last writer replaces it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Context, Result};
use crate::store::Store;

/// How much is read at once.
const CHUNK: usize = 256 << 10;

/// The stat caches of a [`Store`].
#[derive(Clone, Copy, Debug)]
pub struct StatCache<'a>(pub(crate) &'a Store);

impl StatCache<'_> {
    /// What was saved for `root`, if it is whole: a file, and how many of its bytes are meant.
    ///
    /// # Errors
    /// Only if the disk fails.
    pub fn open(&self, root: &Path) -> Result<Option<(File, u64)>> {
        let path = self.path(root);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.context("open", &path)?,
        };
        let end = file.metadata().context("read", &path)?.len();
        let Some(length) = end.checked_sub(blake3::OUT_LEN as u64) else { return Ok(None) };
        let (mut hasher, mut buffer) = (blake3::Hasher::new(), vec![0; CHUNK]);
        let mut rest = (&file).take(length);
        loop {
            match rest.read(&mut buffer).context("read", &path)? {
                0 => break,
                count => hasher.update(&buffer[..count]),
            };
        }
        let mut digest = [0; blake3::OUT_LEN];
        let whole = (&file).read_exact(&mut digest).is_ok() && hasher.finalize() == digest;
        Ok(whole.then_some((file, length)))
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
        let load = |root: &Path| {
            let (file, length) = cache.open(root).unwrap()?;
            let mut bytes = vec![0; usize::try_from(length).unwrap()];
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
            Some(bytes)
        };
        assert_eq!(load(context), None);
        cache.save(context, b"one").unwrap();
        cache.save(context, b"two").unwrap();
        assert_eq!(load(context).as_deref(), Some(&b"two"[..]));
        assert_eq!(load(Path::new("/other")), None);
        let path = cache.path(context);
        let bytes = fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            assert_eq!(load(context), None, "{length} bytes");
        }
        assert_eq!(cache.remove_older(u64::MAX).unwrap(), 1);
    }
}
