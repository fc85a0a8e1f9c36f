//! How is a blob read that is still being written?
//!
//! ```text
//! compressor ──► file in ingest/ ──────────────► blobs/sha256/<hex>
//!                 │ as far as it has come
//!                 └────────────────► upload
//! ```
//!
//! The compressor never waits for the network: the file between them takes what is not sent yet. So it ends as early as
//! it can, and from then on the digest is known, which may show that the rest need not be sent. Whoever fell behind or
//! failed reads the same file again.

use std::fs::File;
use std::io::{self, Read, Write};

use bytes::Bytes;
use futures_util::{Stream, stream};
use rbuild_cache::GrowingBlob;
use rbuild_image::Descriptor;
use tokio::sync::watch;

use crate::blocking::blocking;

/// Bytes read at once.
const CHUNK: u64 = 1 << 18;

/// A blob that is being made.
pub(super) struct Growing<F> {
    /// Makes it, as far as this is polled; the maker ends at its next write once `follow` and all that came from it are dropped.
    pub(super) made: F,
    /// What is there so far.
    pub(super) follow: Follow,
}

/// How far a blob has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Growth {
    length: u64,
    /// Once nothing more will come.
    whole: Option<Descriptor>,
}

impl Growth {
    pub(super) fn complete(whole: Descriptor) -> Self {
        Self { length: whole.size, whole: Some(whole) }
    }
}

/// Says after each write how far the blob has come, and fails when nobody wants to know.
pub(super) struct Telling {
    pub(super) blob: GrowingBlob,
    pub(super) growth: watch::Sender<Growth>,
}

impl Write for Telling {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.growth.is_closed() {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "nobody wants the blob any more"));
        }
        let count = self.blob.write(bytes)?;
        self.growth.send_modify(|growth| growth.length += count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.blob.flush()
    }
}

/// Reads a blob that may still grow, from its beginning.
pub(super) struct Follow {
    file: File,
    growth: watch::Receiver<Growth>,
}

impl Follow {
    pub(super) fn new(file: File, growth: watch::Receiver<Growth>) -> Self {
        Self { file, growth }
    }

    /// A blob that is complete.
    pub(super) fn whole(file: File, whole: &Descriptor) -> Self {
        Self { file, growth: watch::channel(Growth::complete(whole.clone())).1 }
    }

    /// For who wants to know how far it has come.
    pub(super) fn growth(&self) -> watch::Receiver<Growth> {
        self.growth.clone()
    }

    /// All bytes, as soon as they are there. An error if its maker gives up.
    pub(super) fn chunks(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        stream::try_unfold((self.file, self.growth, 0), |(file, mut growth, at)| async move {
            let more = growth.wait_for(|growth| growth.whole.is_some() || growth.length > at).await;
            let length = more.map_err(|_| io::Error::other("it did not become complete"))?.length;
            if length == at {
                return Ok(None);
            }
            let count = CHUNK.min(length - at);
            let (file, bytes) = blocking(move || {
                let mut bytes = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
                let read = (&file).take(count).read_to_end(&mut bytes);
                read.map(|_| (file, bytes))
            })
            .await?;
            if (bytes.len() as u64) < count {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the blob is shorter than it was"));
            }
            Ok(Some((Bytes::from(bytes), (file, growth, at + count))))
        })
    }
}

/// What the blob is, once it is complete; nothing if its maker gives up.
pub(super) async fn whole(mut growth: watch::Receiver<Growth>) -> Option<Descriptor> {
    growth.wait_for(|growth| growth.whole.is_some()).await.ok()?.whole.clone()
}

/// Waits until there are more than `length` bytes, but not beyond the end. Returns what the blob is if it has ended, and
/// nothing if its maker gave up or it goes on.
pub(super) async fn beyond(mut growth: watch::Receiver<Growth>, length: u64) -> Option<Descriptor> {
    growth.wait_for(|growth| growth.whole.is_some() || growth.length > length).await.ok()?.whole.clone()
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;
    use rbuild_cache::Store;

    use super::*;

    fn begin(store: &Store) -> (Telling, Follow) {
        let blob = store.content().growing().unwrap();
        let file = blob.reader().unwrap();
        let (growth, follower) = watch::channel(Growth::default());
        (Telling { blob, growth }, Follow::new(file, follower))
    }

    #[tokio::test]
    async fn a_follower_gets_everything_and_the_end_or_an_error() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|number| (number / 3) as u8).collect();
        let descriptor = Descriptor::of("a/b", &bytes);
        for ends in [true, false] {
            let (mut telling, follow) = begin(&store);
            let watching = follow.growth();
            let reading = follow.chunks().map_ok(|chunk| chunk.to_vec()).try_concat();
            let writing = async {
                for piece in bytes.chunks(77_777) {
                    telling.write_all(piece).unwrap();
                    tokio::task::yield_now().await;
                }
                if ends {
                    let Telling { blob, growth } = telling;
                    blob.commit(&descriptor).unwrap();
                    growth.send_replace(Growth::complete(descriptor.clone()));
                } else {
                    drop(telling);
                }
            };
            let (read, ()) = futures_util::future::join(reading, writing).await;
            assert_eq!(read.ok(), ends.then(|| bytes.clone()));
            assert_eq!(whole(watching.clone()).await, ends.then(|| descriptor.clone()));
            assert_eq!(beyond(watching, 2_000_000).await, ends.then(|| descriptor.clone()));
        }
        let file = store.content().open(&descriptor.digest).unwrap().unwrap().into_file();
        let read = Follow::whole(file, &descriptor).chunks().map_ok(|chunk| chunk.to_vec()).try_concat().await;
        assert_eq!(read.unwrap(), bytes);
    }

    #[test]
    fn a_blob_that_nobody_follows_ends() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let (mut telling, follow) = begin(&store);
        telling.write_all(b"a").unwrap();
        drop(follow);
        assert_eq!(telling.write_all(b"b").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
