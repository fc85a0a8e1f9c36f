//! Where is what is known about a build context's files kept between builds?
//!
//! One file per context directory, opaque here: `stat-cache-v1/<hash of the path>`. It ends in its own blake3, which is
//! compared when it is opened, so a torn one is as good as none. It is never written to again: the last writer replaces it.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Context, Result};
use crate::store::Store;

/// For how long the mark that a file was used is good.
const MARKED: Duration = Duration::from_secs(24 * 3600);

/// How much is read at once.
const CHUNK: usize = 256 << 10;

/// The stat caches of a [`Store`].
#[derive(Clone, Copy, Debug)]
pub struct StatCache<'a>(pub(crate) &'a Store);

impl StatCache<'_> {
    /// What was saved for `root`, if it is whole: a file, and how many of its bytes are meant. The file's time says, give or
    /// take a day, when this was last asked.
    ///
    /// # Errors
    /// Only if the disk fails.
    pub fn open(&self, root: &Path) -> Result<Option<(File, u64)>> {
        let path = self.path(root);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(&path, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::LOOP) => return Ok(None),
            file => File::from(file.context("open", &path)?),
        };
        let metadata = file.metadata().context("read", &path)?;
        if !metadata.is_file() {
            return Ok(None);
        }
        if metadata.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > MARKED))
            && let Err(error) = file.set_modified(SystemTime::now())
        {
            tracing::debug!(path = %path.display(), %error, "use not marked");
        }
        let end = metadata.len();
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

    /// Replaces what is known about `root`, an absolute path, with what `write` writes, which may be in small pieces.
    ///
    /// # Errors
    /// Only if the disk fails.
    pub fn save(&self, root: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        let working = self.0.0.aside.make_file("stat")?;
        let mut out =
            BufWriter::with_capacity(CHUNK, Hashing { file: working.handle(), hasher: blake3::Hasher::new() });
        let written = write(&mut out).and_then(|()| {
            let Hashing { mut file, hasher } = out.into_inner()?;
            file.write_all(hasher.finalize().as_bytes())
        });
        written.context("write", working.path())?;
        let path = self.path(root);
        if fs::symlink_metadata(&path).is_ok_and(|there| there.is_dir()) {
            self.0.0.aside.discard(&path)?;
        }
        working.publish(&path)
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

/// Hashes what passes by.
struct Hashing<'a> {
    file: &'a File,
    hasher: blake3::Hasher,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::FileType;

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
        cache.save(context, |out| out.write_all(b"one")).unwrap();
        cache.save(context, |out| out.write_all(b"two")).unwrap();
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

    #[test]
    fn what_is_no_file_is_no_cache() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let cache = store.stat_cache();
        let context = Path::new("/src");
        let path = cache.path(context);
        let makers: [fn(&Path); 3] = [
            |path| fs::create_dir_all(path.join("below")).unwrap(),
            |path| std::os::unix::fs::symlink(path, path).unwrap(),
            |path| rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap(),
        ];
        for make in makers {
            make(&path);
            assert!(cache.open(context).unwrap().is_none());
            cache.save(context, |out| out.write_all(b"one")).unwrap();
            assert!(cache.open(context).unwrap().is_some());
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn what_is_used_stays() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let cache = store.stat_cache();
        let day = Duration::from_secs(24 * 3600);
        for name in ["/used", "/unused"] {
            cache.save(Path::new(name), |out| out.write_all(b"one")).unwrap();
            let file = File::open(cache.path(Path::new(name))).unwrap();
            file.set_modified(SystemTime::now() - 70 * day).unwrap();
        }
        assert!(cache.open(Path::new("/used")).unwrap().is_some());
        store.prune(&crate::PrunePolicy { unused_for: Some(day), ..crate::PrunePolicy::default() }).unwrap();
        assert!(cache.open(Path::new("/used")).unwrap().is_some());
        assert!(cache.open(Path::new("/unused")).unwrap().is_none());
    }
}
