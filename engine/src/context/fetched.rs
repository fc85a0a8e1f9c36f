//! How do files of a context that are not in a directory of the user's come to this machine?
//!
//! As a tar that is unpacked while it is read, or as a checkout, into a directory of the store that lives as long as
//! [`Fetched`]. No entry leads out of it: the kernel resolves every path beneath it. Dropping the future that fetches
//! stops the thread that unpacks and removes the directory.

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rbuild_cache::{Scratch, Store};
use rbuild_image::archive::{self, Sniffed};

use super::ContextError;
use crate::blocking::blocking;
use crate::error::Error;
use crate::files::copy::{CopyError, unpack_context};
use crate::files::{InnerPath, Root, resolve};

/// The most bytes that a Dockerfile from a stream or the network may have: it is kept in memory.
pub(crate) const LARGEST_DOCKERFILE: u64 = 64 << 20;

/// What messages call it.
pub(crate) const STANDARD_INPUT: &str = "standard input";

/// What a file that is no archive is called in the context that it is all of, as in BuildKit.
pub(crate) const SINGLE: &str = "context";

/// Files that are here for one build. Dropping it removes them.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// Where they came from, for messages.
    what: String,
    #[expect(dead_code, reason = "removes the directory in the end")]
    scratch: Option<Scratch>,
    /// The directory that is the context: the scratch directory, or one below it.
    root: PathBuf,
    /// The only file, if it came as that and not as an archive.
    single: Option<InnerPath>,
}

impl Fetched {
    /// No files at all.
    pub(crate) fn nothing(store: &Store) -> Result<Self, Error> {
        Self::new(store, "nowhere".to_owned())
    }

    /// An empty directory for files from `what`.
    fn new(store: &Store, what: String) -> Result<Self, Error> {
        let scratch = store.scratch("context")?;
        let root = scratch.path().to_owned();
        // Its parents are closed to others; a copy of the context's root is not to be.
        fs::set_permissions(&root, Permissions::from_mode(0o755)).map_err(Error::file("change the mode of", &root))?;
        Ok(Self { what, scratch: Some(scratch), root, single: None })
    }

    /// The files of a layer, which a lease keeps.
    pub(crate) fn layer(what: String, root: PathBuf) -> Self {
        Self { what, scratch: None, root, single: None }
    }

    /// With this as the only file.
    pub(crate) fn only(self, name: &str) -> Self {
        Self { single: Some(InnerPath::new(name)), ..self }
    }

    /// Reads a stream to its end: the files of a tar, or else no files and all that it says.
    pub(crate) async fn receive(
        store: &Store,
        stream: impl Read + Send + 'static,
        what: String,
    ) -> Result<(Self, Option<Vec<u8>>), Error> {
        let fetched = Self::new(store, what.clone())?;
        let text = fetched
            .fill(stream, move |stream, root| match unpack(archive::sniff(stream), root, what.clone())? {
                None => Ok(None),
                Some(whole) => limited(whole, what).map(Some),
            })
            .await?;
        Ok((fetched, text))
    }

    /// The tar in a file of this machine.
    pub(crate) async fn archive(store: &Store, path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| ContextError::Open { path: path.to_owned(), source })?;
        let unpacked = Self::unpacked(store, file, format!("`{}`", path.display())).await?;
        unpacked.ok_or_else(|| ContextError::NotAnArchive(path.display().to_string()).into())
    }

    /// The files of a stream, if it is a tar.
    pub(crate) async fn unpacked(
        store: &Store,
        stream: impl Read + Send + 'static,
        what: String,
    ) -> Result<Option<Self>, Error> {
        let fetched = Self::new(store, what.clone())?;
        let other = fetched.fill(stream, move |stream, root| Ok(unpack(archive::sniff(stream), root, what)?.is_some()));
        Ok(if other.await? { None } else { Some(fetched) })
    }

    /// Lets another thread fill the directory from a stream, for as long as somebody waits for it.
    async fn fill<R: Read + Send + 'static, T: Send + 'static>(
        &self,
        stream: R,
        work: impl FnOnce(Stoppable<R>, &Root) -> Result<T, ContextError> + Send + 'static,
    ) -> Result<T, Error> {
        let root = Root::open(self.root()).map_err(Error::file("open", self.root()))?;
        let (stream, _stopper) = Stoppable::new(stream);
        Ok(blocking(move || work(stream, &root)).await?)
    }

    /// A directory of the context takes its place. Links are followed inside.
    pub(crate) fn within(self, subdir: &str) -> Result<Self, Error> {
        let missing = || ContextError::Subdir { what: self.what.clone(), subdir: subdir.to_owned() };
        let top = Root::open(self.root()).map_err(Error::file("open", self.root()))?;
        let found = resolve(&top, &InnerPath::new(subdir), true).map_err(|_| missing())?;
        if !found.node.is_some_and(|node| node.is_directory()) {
            return Err(missing().into());
        }
        let root = self.root.join(found.path.as_path());
        Ok(Self { root, single: None, ..self })
    }

    /// Where the files came from.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// The directory they are in.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The only file, if it came as such.
    pub(crate) fn single(&self) -> Option<&InnerPath> {
        self.single.as_ref()
    }
}

/// Everything in a stream that is a Dockerfile.
fn limited(stream: impl Read, what: String) -> Result<Vec<u8>, ContextError> {
    let mut text = Vec::new();
    let read = stream.take(LARGEST_DOCKERFILE + 1).read_to_end(&mut text);
    match read {
        Err(source) => Err(ContextError::Read { what, source }),
        Ok(length) if length as u64 > LARGEST_DOCKERFILE => {
            Err(ContextError::TooLarge { what, limit: LARGEST_DOCKERFILE })
        }
        Ok(_) => Ok(text),
    }
}

/// Unpacks a tar, or gives back what is none.
fn unpack<R: Read>(
    sniffed: io::Result<Sniffed<R>>,
    root: &Root,
    what: String,
) -> Result<Option<archive::Peek<R>>, ContextError> {
    let mut tar = match sniffed {
        Ok(Sniffed::Tar(tar)) => tar,
        Ok(Sniffed::Compressed(format)) => return Err(ContextError::Compressed { what, format: format.name() }),
        Ok(Sniffed::Other(whole)) => return Ok(Some(whole)),
        Err(source) => return Err(ContextError::Read { what, source }),
    };
    unpack_context(&mut tar, root, &InnerPath::new("context")).map_err(|error| match error {
        CopyError::Archive { source, .. } => ContextError::Damaged { what: what.clone(), source },
        CopyError::Read { source, .. } => ContextError::Read { what: what.clone(), source },
        source => ContextError::Unpack { what: what.clone(), source },
    })?;
    // Whoever writes must not get a broken pipe for what comes behind the last entry, and a compressed stream has its
    // checksum there.
    io::copy(&mut tar, &mut io::sink()).map_err(|source| ContextError::Read { what, source })?;
    Ok(None)
}

/// A reader that fails once nobody wants what it reads.
struct Stoppable<R> {
    inner: R,
    stopped: Arc<AtomicBool>,
}

/// Stops a [`Stoppable`] when dropped.
struct Stopper(Arc<AtomicBool>);

impl<R: Read> Stoppable<R> {
    fn new(inner: R) -> (Self, Stopper) {
        let stopped = Arc::new(AtomicBool::new(false));
        (Self { inner, stopped: Arc::clone(&stopped) }, Stopper(stopped))
    }
}

impl<R: Read> Read for Stoppable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(io::Error::other("the build has ended"));
        }
        self.inner.read(buffer)
    }
}

impl Drop for Stopper {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
