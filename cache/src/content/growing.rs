//! How is a blob read while it is written?
//!
//! Through its file: whoever follows it has a handle of its own, reads as far as the writer says that it has come, and
//! goes on reading after the blob was given its name, or was given up. The file is also what is read again from its
//! beginning, so nobody has to keep what it passed on.
//!
//! Such a blob comes from a [`LayerWriter`](rbuild_image::LayerWriter), which hashes what it writes anyway. Hashing the
//! same bytes here once more would cost half a second for each gigabyte.

use std::fs::File;
use std::io::{self, Write};

use rbuild_image::Descriptor;

use super::{Content, ContentError, Result};
use crate::aside::Working;
use crate::error::Context;
use crate::store::Store;

/// A blob that is being written, and may be read meanwhile. Dropped without [`GrowingBlob::commit`] it is discarded.
#[derive(Debug)]
#[must_use = "a blob becomes visible by `commit`"]
pub struct GrowingBlob {
    store: Store,
    working: Working,
    size: u64,
}

impl Content<'_> {
    /// Starts a blob whose digest its writer will know.
    ///
    /// # Errors
    /// Only if the disk fails.
    pub fn growing(&self) -> Result<GrowingBlob> {
        Ok(GrowingBlob { store: self.0.clone(), working: self.0.0.aside.make_file("blob")?, size: 0 })
    }
}

impl GrowingBlob {
    /// The file, open for reading from its beginning.
    ///
    /// # Errors
    /// Only if the disk fails.
    pub fn reader(&self) -> Result<File> {
        let path = self.working.path();
        File::open(path).context("open", path).map_err(Into::into)
    }

    /// Makes the blob visible. `written` is what was written: its digest is believed, which only who hashed all that it
    /// wrote here can ask for.
    ///
    /// # Errors
    /// `Size` if it is not what was written, or the disk fails; what was written is then discarded.
    pub fn commit(self, written: &Descriptor) -> Result<()> {
        if written.size != self.size {
            let (digest, expected) = (written.digest, written.size);
            return Err(ContentError::Size { digest, expected, found: self.size });
        }
        let target = self.store.content().wanted(&written.digest)?;
        self.working.publish(&target)?;
        Ok(())
    }
}

impl Write for GrowingBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.working.handle().write(bytes)?;
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_is_written_can_be_read_at_once_and_after_the_end() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let content = store.content();
        let ingest = || std::fs::read_dir(store.root().join("ingest")).unwrap().count();
        let descriptor = Descriptor::of("text/plain", b"hello world");
        for complete in [true, false] {
            let mut blob = content.growing().unwrap();
            let mut reader = blob.reader().unwrap();
            let mut read = |count: u64| {
                let mut text = String::new();
                (&mut reader).take(count).read_to_string(&mut text).unwrap();
                text
            };
            blob.write_all(b"hello ").unwrap();
            assert_eq!(read(6), "hello ");
            // Its maker lives, so it is no litter.
            store.reap().unwrap();
            blob.write_all(b"world").unwrap();
            if complete {
                blob.commit(&descriptor).unwrap();
                assert_eq!(content.read_verified(&descriptor.digest).unwrap(), b"hello world");
            } else {
                drop(blob);
            }
            assert_eq!(read(100), "world");
            assert_eq!(ingest(), 0);
        }
        let mut blob = content.growing().unwrap();
        blob.write_all(b"hello").unwrap();
        assert!(matches!(blob.commit(&descriptor), Err(ContentError::Size { found: 5, .. })));
        assert_eq!(ingest(), 0);
    }
}
