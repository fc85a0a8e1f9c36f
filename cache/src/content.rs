//! How are blobs kept by their sha256?
//!
//! `blobs/sha256/<hex>` is a blob if it exists: it was hashed while it was written to `ingest/` and renamed here when
//! digest and size were right. It is not flushed to disk, so after a power cut a blob can be torn; whoever needs the
//! bytes to be right reads through [`Content::read_verified`] or hashes the stream it reads anyway, and a blob found
//! broken is removed, so that it is fetched again.
//!
//! `ingest/<hex>.partial` is the beginning of a blob whose transfer broke off. It is hashed again when continued.

mod growing;

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rbuild_core::{Algorithm, Digest};
use rbuild_image::Descriptor;
use sha2::Digest as _;

use crate::aside::Working;
use crate::error::{Context, StoreError};
use crate::prune::condemned;
use crate::store::Store;

pub use self::growing::GrowingBlob;

/// How the names of continuable blobs end.
pub(crate) const PARTIAL: &str = ".partial";

/// Why a blob could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The disk failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bytes are not those that were announced.
    #[error("the content has digest `{found}` instead of `{expected}`")]
    Digest {
        /// What was announced.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// There are more or fewer bytes than were announced.
    #[error("the content of `{digest}` has {found} bytes instead of {expected}")]
    Size {
        /// Which blob.
        digest: Digest,
        /// What was announced.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// A stored blob has changed on disk. It has been removed.
    #[error("the stored blob `{0}` is damaged and was removed")]
    Damaged(Digest),
    /// There is no such blob.
    #[error("there is no blob `{0}` in the store")]
    Missing(Digest),
    /// Blobs are named by sha256.
    #[error("`{0}` does not name a blob: only sha256 does")]
    Algorithm(Digest),
}

impl ContentError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Damaged(_) | Self::Missing(_) => Some("load, pull or build the image again".into()),
            Self::Digest { .. } | Self::Size { .. } => {
                Some("the transfer was damaged, or the server sent something else: try again".into())
            }
            Self::Algorithm(_) => None,
        }
    }
}

type Result<T, E = ContentError> = std::result::Result<T, E>;

/// The blobs of a [`Store`].
#[derive(Clone, Copy, Debug)]
pub struct Content<'a>(pub(crate) &'a Store);

impl Content<'_> {
    /// Whether the blob is here, and its size.
    ///
    /// # Errors
    /// Only if the disk fails.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.wanted(digest)?;
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("read", path).map_err(Into::into),
        }
    }

    /// Whether the blob is here. A failing disk counts as no.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.size(digest).is_ok_and(|size| size.is_some())
    }

    /// The blob, unverified: for readers that hash what they read, such as a layer import or a registry.
    ///
    /// # Errors
    /// Only if the disk fails; an absent blob is `None`.
    pub fn open(&self, digest: &Digest) -> Result<Option<Blob>> {
        let path = self.wanted(digest)?;
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("open", path).map_err(Into::into),
        };
        let size = file.metadata().context("read", &path)?.len();
        Ok(Some(Blob { file, size, path }))
    }

    /// The whole blob, hashed: for manifests and configurations.
    ///
    /// # Errors
    /// `Missing`, or `Damaged` if the bytes are no longer those of the digest.
    pub fn read_verified(&self, digest: &Digest) -> Result<Vec<u8>> {
        let mut blob = self.open(digest)?.ok_or(ContentError::Missing(*digest))?;
        let mut bytes = Vec::with_capacity(usize::try_from(blob.size).unwrap_or(0));
        blob.file.read_to_end(&mut bytes).context("read", &blob.path)?;
        if rbuild_image::sha256(&bytes) != *digest {
            self.remove_damaged(digest)?;
            return Err(ContentError::Damaged(*digest));
        }
        Ok(bytes)
    }

    /// The whole blob if it is here and right, without wanting it: for those who are inside of a write transaction.
    pub(crate) fn peek(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let Ok(path) = self.path(digest) else { return Ok(None) };
        let bytes = crate::store::read_if_exists(&path)?;
        Ok(bytes.filter(|bytes| rbuild_image::sha256(bytes) == *digest))
    }

    /// Whether the blob is here, without wanting it.
    pub(crate) fn is_there(&self, digest: &Digest) -> bool {
        self.path(digest).is_ok_and(|path| path.exists())
    }

    /// Removes a blob whose reader found that its bytes are wrong.
    ///
    /// # Errors
    /// Only if the disk fails.
    pub fn remove_damaged(&self, digest: &Digest) -> Result<()> {
        tracing::warn!(%digest, "damaged blob removed");
        self.0.0.aside.discard(&self.path(digest)?)?;
        Ok(())
    }

    /// Starts a blob of unknown digest.
    ///
    /// # Errors
    /// Only if the disk fails.
    pub fn writer(&self) -> Result<BlobWriter> {
        let working = self.0.0.aside.make_file("blob")?;
        Ok(BlobWriter::new(self.0.clone(), working, None))
    }

    /// Starts the blob `digest`, or continues where an earlier attempt broke off: see [`BlobWriter::offset`]. While
    /// another process is writing the same blob, starts from nothing beside it.
    ///
    /// # Errors
    /// Only if the disk fails.
    pub fn resume(&self, digest: &Digest) -> Result<BlobWriter> {
        self.path(digest)?;
        let Some(working) = self.0.0.aside.open_shared_file(&format!("{}{PARTIAL}", digest.hex()))? else {
            return self.writer();
        };
        let mut writer = BlobWriter::new(self.0.clone(), working, Some(*digest));
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let file = &mut writer.file();
            let count = file.read(&mut buffer).context("read", writer.working().path())?;
            if count == 0 {
                return Ok(writer);
            }
            writer.hasher.update(&buffer[..count]);
            writer.size += count as u64;
        }
    }

    /// Stores `bytes` and describes them.
    ///
    /// # Errors
    /// Only if the disk fails.
    pub fn put(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let descriptor = Descriptor::of(media_type, bytes);
        if self.size(&descriptor.digest)? == Some(descriptor.size) {
            return Ok(descriptor);
        }
        let mut writer = self.writer()?;
        writer.file().write_all(bytes).context("write", writer.working().path())?;
        writer.hasher.update(bytes);
        writer.size = bytes.len() as u64;
        writer.commit(Some(&descriptor))?;
        Ok(descriptor)
    }

    /// Where the blob is if it is there. It stays there while the caller has its lease.
    fn wanted(&self, digest: &Digest) -> Result<PathBuf> {
        let path = self.path(digest)?;
        let meta = &self.0.0.meta;
        if meta.read(|reader| condemned::is_blob_condemned(reader, digest))? {
            meta.write(|writer| condemned::spare_blob(writer, digest))?;
        }
        Ok(path)
    }

    fn path(&self, digest: &Digest) -> Result<PathBuf> {
        match digest.algorithm() {
            Algorithm::Sha256 => Ok(self.0.root().join("blobs/sha256").join(digest.hex())),
            Algorithm::Blake3 => Err(ContentError::Algorithm(*digest)),
        }
    }
}

/// A stored blob, open for reading from its beginning. Reads are not verified.
#[derive(Debug)]
pub struct Blob {
    file: File,
    size: u64,
    path: PathBuf,
}

impl Blob {
    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where it lies; stays valid while a lease is held.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file, for `sendfile` and asynchronous readers.
    pub fn into_file(self) -> File {
        self.file
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Seek for Blob {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}

/// A blob being written, hashed on the way. Dropped without [`BlobWriter::commit`], a blob of known digest stays to be
/// continued, any other is discarded.
#[derive(Debug)]
#[must_use = "a blob becomes visible by `commit`"]
pub struct BlobWriter {
    store: Store,
    working: Option<Working>,
    digest: Option<Digest>,
    hasher: sha2::Sha256,
    size: u64,
}

impl BlobWriter {
    fn new(store: Store, working: Working, digest: Option<Digest>) -> Self {
        Self { store, working: Some(working), digest, hasher: sha2::Sha256::new(), size: 0 }
    }

    /// How many bytes are already there: where a transfer has to continue.
    pub fn offset(&self) -> u64 {
        self.size
    }

    /// Forgets everything written so far: the server cannot continue in the middle.
    ///
    /// # Errors
    /// Only if the disk fails.
    pub fn restart(&mut self) -> Result<()> {
        let path = self.working().path();
        self.file().set_len(0).context("truncate", path)?;
        self.file().rewind().context("truncate", path)?;
        self.hasher = sha2::Sha256::new();
        self.size = 0;
        Ok(())
    }

    /// Makes the blob visible if it is what was `expected` (and what was resumed); returns its digest and size.
    ///
    /// # Errors
    /// `Digest` or `Size`; what was written is then discarded.
    pub fn commit(mut self, expected: Option<&Descriptor>) -> Result<(Digest, u64)> {
        let digest = Digest::sha256(std::mem::take(&mut self.hasher).finalize().into());
        let working = self.working.take().expect("only commit takes it, and consumes the writer");
        // From here on a failure drops `working`, which discards the file.
        if let Some(expected) = expected
            && expected.size != self.size
        {
            return Err(ContentError::Size { digest: expected.digest, expected: expected.size, found: self.size });
        }
        if let Some(expected) = expected.map(|expected| expected.digest).into_iter().chain(self.digest).next()
            && expected != digest
        {
            return Err(ContentError::Digest { expected, found: digest });
        }
        working.publish(&self.store.content().wanted(&digest)?)?;
        Ok((digest, self.size))
    }

    fn working(&self) -> &Working {
        self.working.as_ref().expect("only commit takes it, and consumes the writer")
    }

    fn file(&self) -> &File {
        self.working().handle()
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file().write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if let Some(working) = self.working.take()
            && self.digest.is_some()
        {
            working.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        (root, store)
    }

    fn entries(store: &Store, name: &str) -> usize {
        fs::read_dir(store.root().join(name)).unwrap().count()
    }

    #[test]
    fn a_blob_is_visible_only_after_a_matching_commit() {
        let (_root, store) = store();
        let content = store.content();
        let descriptor = Descriptor::of("text/plain", b"hello");
        for (bytes, right) in [(&b"hullo"[..], false), (b"hell", false), (b"hello", true)] {
            let mut writer = content.writer().unwrap();
            writer.write_all(bytes).unwrap();
            assert!(!content.contains(&descriptor.digest));
            assert_eq!(writer.commit(Some(&descriptor)).is_ok(), right);
            assert_eq!(content.contains(&descriptor.digest), right);
        }
        assert_eq!(content.read_verified(&descriptor.digest).unwrap(), b"hello");
        assert_eq!(entries(&store, "ingest"), 0);
    }

    #[test]
    fn a_broken_transfer_continues_where_it_stopped() {
        let (_root, store) = store();
        let content = store.content();
        let descriptor = Descriptor::of("text/plain", b"hello world");
        let mut writer = content.resume(&descriptor.digest).unwrap();
        assert_eq!(writer.offset(), 0);
        writer.write_all(b"hello ").unwrap();
        let beside = content.resume(&descriptor.digest).unwrap();
        assert_eq!(beside.offset(), 0, "another writer starts anew");
        drop((writer, beside));
        store.reap().unwrap();
        let mut writer = content.resume(&descriptor.digest).unwrap();
        assert_eq!(writer.offset(), 6);
        writer.write_all(b"world").unwrap();
        assert_eq!(writer.commit(Some(&descriptor)).unwrap(), (descriptor.digest, 11));
        assert_eq!(entries(&store, "ingest"), 0);
        let mut writer = content.resume(&descriptor.digest).unwrap();
        writer.write_all(b"wrong").unwrap();
        writer.restart().unwrap();
        writer.write_all(b"hello world").unwrap();
        writer.commit(None).unwrap();
    }

    #[test]
    fn damage_is_noticed_and_removed() {
        let (_root, store) = store();
        let content = store.content();
        for damage in [&b"hell"[..], b"", b"hullo"] {
            let descriptor = content.put("text/plain", b"hello").unwrap();
            let path = content.open(&descriptor.digest).unwrap().unwrap().path().to_owned();
            fs::write(path, damage).unwrap();
            let error = content.read_verified(&descriptor.digest).unwrap_err();
            assert!(matches!(error, ContentError::Damaged(_)));
            assert!(!content.contains(&descriptor.digest));
        }
    }

    #[test]
    fn only_sha256_names_blobs() {
        let (_root, store) = store();
        let error = store.content().open(&Digest::blake3([0; 32])).unwrap_err();
        assert!(matches!(error, ContentError::Algorithm(_)));
    }
}
