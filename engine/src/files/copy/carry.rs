//! How is a plan carried out?
//!
//! ```text
//! Stage ──walk──► batches of small files, read by all threads ──► one after the other into a Sink
//!                 at most two wait; 8 MiB or 1024 entries each      (large files are read here)
//! ```
//!
//! Changes come in canonical order: a directory before its entries, names by bytes. The first name of a file in this
//! order is the file, the others are links to it.
//!
//! What a scan of the source has found out is made use of and checked: a file that is not any more what the scan saw is
//! told to the caller, and a known digest is believed only of a file whose times, size and number are still the same
//! *after* it was read.
//!
//! A file whose digest the scan knows, and which a [`Former`] layer has with the same metadata and content, is not opened
//! at all: its content is that of the key, whatever has become of the file since.

mod large;
mod load;
mod walk;

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use rbuild_image::{Change, Found};

use self::load::{Body, Loaded, Opener};
use self::walk::{Planned, Walk};
use super::stage::{Stage, What};
use super::{Copied, CopyError};

pub(super) use self::load::read_staged;

/// The content of a file on its way into a [`Sink`].
#[derive(Debug)]
pub struct Filling<'a> {
    /// What there is to be written.
    pub bytes: Bytes<'a>,
    /// blake3 of the content, if it is known.
    pub digest: Option<[u8; 32]>,
    /// Whether hard links to the file will follow.
    pub linked: bool,
}

/// Where the bytes of a [`Filling`] come from.
pub enum Bytes<'a> {
    /// There are none.
    Empty,
    /// All of a small file.
    Small(Vec<u8>),
    /// As many as the entry says.
    Reader(&'a mut dyn std::io::Read),
    /// As many as the entry says, from where the file stands.
    File(&'a std::fs::File),
    /// Those that the former layer has, as [`Former::find`] told.
    Former(Found),
}

impl std::fmt::Debug for Bytes<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Empty => "Empty",
            Self::Small(_) => "Small",
            Self::Reader(_) => "Reader",
            Self::File(_) => "File",
            Self::Former(_) => "Former",
        })
    }
}

/// What was made when nearly the same was copied before.
pub trait Former: Send + Sync {
    /// The same file with the same metadata and content, whose blake3 is `digest`.
    fn find(&self, change: &Change, digest: &[u8; 32]) -> Option<Found>;
}

/// Takes the changes that a plan makes.
pub trait Sink {
    /// Why a change cannot be made.
    type Error: From<CopyError>;

    /// What contents may be taken from, without opening the files that they came from.
    fn former(&self) -> Option<Arc<dyn Former>> {
        None
    }

    /// Makes one change. They come in canonical order, the root directory first.
    ///
    /// # Errors
    /// The plan is given up then.
    fn put(&mut self, change: &Change, filling: Filling<'_>) -> Result<(), Self::Error>;
}

/// How much is read ahead at a time.
const BATCH_BYTES: u64 = 8 << 20;
const BATCH_ENTRIES: usize = 1024;
/// Entries that one thread takes at a time, so that neighbours share an open directory.
const RUN: usize = 32;

impl Stage<'_> {
    /// Carries out everything that was planned. `report` is told of bytes as they are written.
    ///
    /// # Errors
    /// The first thing that cannot be read, or what the sink says.
    pub fn carry_out<S: Sink>(&self, sink: &mut S, report: &dyn Fn(u64)) -> Result<Copied, S::Error> {
        let mut walk = Walk::new(self);
        let mut done = Done { stage: self, copied: Copied::default(), opener: Opener::default() };
        let former = sink.former();
        let former = former.as_deref();
        let first = next_batch(&mut walk);
        let whole = first.len() < BATCH_ENTRIES && walk.is_at_end();
        done.put_all(load_all(self, first, former)?, sink, report)?;
        if whole {
            return Ok(done.into_copied()?);
        }
        let (sender, batches) = sync_channel(1);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                loop {
                    let batch = next_batch(&mut walk);
                    let last = batch.is_empty();
                    let loaded = load_all(self, batch, former);
                    let failed = loaded.is_err();
                    // Nobody listens any more if the sink has refused something.
                    if last || sender.send(loaded).is_err() || failed {
                        return;
                    }
                }
            });
            // Dropped at the end, and so before the thread is waited for.
            for batch in batches {
                done.put_all(batch?, sink, report)?;
            }
            Ok(done.into_copied()?)
        })
    }
}

fn next_batch<'s>(walk: &mut Walk<'s, '_>) -> Vec<Planned<'s>> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while bytes < BATCH_BYTES
        && batch.len() < BATCH_ENTRIES
        && let Some(planned) = walk.next()
    {
        bytes += planned.small_size();
        batch.push(planned);
    }
    batch
}

fn load_all<'s>(
    stage: &'s Stage<'_>,
    batch: Vec<Planned<'s>>,
    former: Option<&dyn Former>,
) -> Result<Vec<Loaded<'s>>, CopyError> {
    use rayon::iter::ParallelIterator;
    use rayon::slice::ParallelSlice;
    let run = |run: &[Planned<'s>]| {
        let mut opener = Opener::default();
        run.iter().map(|planned| load::load(stage, planned, &mut opener, former)).collect::<Result<Vec<_>, _>>()
    };
    if batch.len() <= RUN {
        return run(&batch);
    }
    let runs: Vec<Vec<Loaded<'s>>> = batch.par_chunks(RUN).map(run).collect::<Result<_, _>>()?;
    Ok(runs.into_iter().flatten().collect())
}

/// What has been carried out.
struct Done<'s, 'a> {
    stage: &'s Stage<'a>,
    copied: Copied,
    opener: Opener,
}

impl Done<'_, '_> {
    fn put_all<S: Sink>(&mut self, batch: Vec<Loaded<'_>>, sink: &mut S, report: &dyn Fn(u64)) -> Result<(), S::Error> {
        batch.into_iter().try_for_each(|loaded| self.put(loaded, sink, report))
    }

    fn put<S: Sink>(&mut self, loaded: Loaded<'_>, sink: &mut S, report: &dyn Fn(u64)) -> Result<(), S::Error> {
        let Loaded { change, body, linked, changed } = loaded;
        self.copied.changed.extend(changed);
        let bytes = match body {
            Body::Nothing => {
                sink.put(&change, Filling { bytes: Bytes::Empty, digest: None, linked: false })?;
                if matches!(&change, Change::Upsert(entry) if entry.kind != rbuild_image::EntryKind::Directory) {
                    self.copied.files += 1;
                }
                return Ok(());
            }
            Body::Small { bytes, digest } => {
                let count = bytes.len() as u64;
                let bytes = if bytes.is_empty() { Bytes::Empty } else { Bytes::Small(bytes) };
                sink.put(&change, Filling { bytes, digest: Some(digest), linked })?;
                count
            }
            Body::Former { found, digest, size } => {
                sink.put(&change, Filling { bytes: Bytes::Former(found), digest: Some(digest), linked })?;
                size
            }
            Body::Large(item, name) => {
                let (Change::Upsert(entry), What::File { content, .. }) = (change, &item.what) else { return Ok(()) };
                let mut large = large::Large::open(self.stage, content, &name, entry, &mut self.opener)?;
                let (change, bytes, digest) = large.parts();
                if let Err(error) = sink.put(change, Filling { bytes, digest, linked }) {
                    return Err(large.shorter().map_or(error, S::Error::from));
                }
                let (count, changed) = large.finish()?;
                self.copied.changed.extend(changed);
                count
            }
        };
        self.copied.files += 1;
        self.copied.bytes += bytes;
        report(bytes);
        Ok(())
    }

    fn into_copied(self) -> Result<Copied, CopyError> {
        let mut copied = self.copied;
        copied.changed.extend_from_slice(&self.stage.changed);
        for archive in &self.stage.archives {
            if let (true, Some((path, _))) = (archive.has_changed()?, &archive.source) {
                copied.changed.push(path.clone());
            }
        }
        copied.changed.sort();
        copied.changed.dedup();
        Ok(copied)
    }
}
