//! How does a tar from anywhere become a layer?
//!
//! ```text
//! tar ──► read, hash ──chunks──► names: create, link, remove ──small files──► write, owner, mode, time
//! ```
//!
//! This is how it becomes a directory: three threads, bounded channels. As a file (`file`), it is written as it comes.
//! Either is in `ingest/` and becomes the layer only if the hash was right.

mod file;

use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rbuild_core::Digest;
use rustix::fs::Mode;
use sha2::Digest as _;

use super::attributes::Attributes;
use super::unpack::Unpacker;
use super::{Form, Layer, LayerError, LayerKind, Layers, Result};
use crate::aside::Working;
use crate::error::Context;

const CHUNK: usize = 128 << 10;
/// Chunks between the first two threads: 2 MiB.
const CHUNKS: usize = 16;
/// Small files between the last two: 8 MiB at most.
const JOBS: usize = 64;

impl Layers<'_> {
    /// Makes a plain tar the layer with this diff ID. If the layer is there already, `tar` is not read. Any number
    /// of processes may import the same layer at once.
    ///
    /// # Errors
    /// `DiffId` if the tar is another one, `Tar`, `Parent` or `Link` if it makes no sense, or the disk fails.
    pub fn import(&self, diff_id: &Digest, tar: &mut (dyn Read + Send)) -> Result<Layer> {
        if let Some(layer) = self.find_by_diff_id(diff_id)?
            // What somebody else deleted or damaged is here again.
            && let Some(layer) = self.find_intact(&layer.id)?
            && layer.form.is_local()
        {
            return Ok(layer);
        }
        let made = self.of_diff_id(diff_id)?;
        // Our own code made a directory of what it looks into without mounting it.
        if self.makes_files()? && self.known_as(diff_id)?.kind == made.kind {
            return self.import_file(diff_id, tar);
        }
        self.import_directory(diff_id, tar)
    }

    fn import_directory(&self, diff_id: &Digest, tar: &mut (dyn Read + Send)) -> Result<Layer> {
        let working = self.0.0.aside.make_directory("layer")?;
        let Unpacked { digest: found, size, entries, disk_bytes } = self.unpack_new(&working, tar)?;
        if found != *diff_id {
            return Err(LayerError::DiffId { expected: *diff_id, found });
        }
        let layer = self.known_as(diff_id)?;
        // Dropping `working` discards it if another process was faster.
        let layer = Layer { form: Form::Directory, size: Some(size), entries, disk_bytes, ..layer };
        self.publish(working.path(), layer)
    }

    /// The layer that is to have this content. One built here may have turned out to have this diff ID: then it is that.
    fn known_as(&self, diff_id: &Digest) -> Result<Layer> {
        let known = self.0.0.meta.read(|reader| {
            let id = reader.find(&super::DIFF_IDS, diff_id.as_bytes())?;
            id.map_or(Ok(None), |id| reader.find(&super::LAYERS, id.as_bytes()))
        })?;
        known.map_or_else(|| self.of_diff_id(diff_id), Ok)
    }

    /// Unpacks into a new directory.
    fn unpack_new(&self, working: &Working, tar: &mut (dyn Read + Send)) -> Result<Unpacked> {
        let path = working.path();
        rustix::fs::chmod(path, Mode::from_raw_mode(0o755)).context("change the mode of", path)?;
        self.unpack_into(path, tar)
    }

    /// Unpacks a plain tar that nobody refers to by its digest, as a layer built here: only the files count, and
    /// whoever wants a tar gets the canonical one.
    ///
    /// # Errors
    /// `Tar`, `Parent` or `Link` if it makes no sense, or the disk fails.
    pub fn adopt(&self, tar: &mut (dyn Read + Send)) -> Result<Layer> {
        if self.makes_files()? { self.adopt_file(tar) } else { self.adopt_directory(tar) }
    }

    fn adopt_directory(&self, tar: &mut (dyn Read + Send)) -> Result<Layer> {
        let snapshot = self.prepare(&[])?;
        self.unpack_into(&snapshot.upper(), tar)?;
        snapshot.commit(LayerKind::Files)
    }

    fn unpack_into(&self, path: &Path, tar: &mut (dyn Read + Send)) -> Result<Unpacked> {
        let attributes = Attributes { root: path.to_owned(), overlay: self.0.0.options.overlay_xattrs };
        let (sender, jobs) = sync_channel(JOBS);
        let mut unpacker = Unpacker::new(attributes.clone(), sender, self.0.0.aside.clone())?;
        let (digest, size) = std::thread::scope(|scope| {
            let finishing = scope.spawn(move || attributes.finish_files(&jobs));
            let read = read_hashed(tar, |input| unpacker.unpack(input));
            unpacker.end_files();
            // What stopped the last thread stopped the others.
            finishing.join().expect("finishing files does not panic")?;
            read
        })?;
        unpacker.finish_directories()?;
        Ok(Unpacked { digest, size, entries: unpacker.entries, disk_bytes: unpacker.disk_bytes })
    }
}

/// What a tar turned out to be.
struct Unpacked {
    digest: Digest,
    size: u64,
    entries: u64,
    disk_bytes: u64,
}

/// Runs `consume` on the bytes of `tar` while another thread reads and hashes them, and the rest after it. Returns the
/// sha256 and length of all.
fn read_hashed(tar: &mut (dyn Read + Send), consume: impl FnOnce(&mut Chunks) -> Result<()>) -> Result<(Digest, u64)> {
    let (sender, receiver) = sync_channel(CHUNKS);
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || hash_into(tar, &sender));
        let mut chunks = Chunks { receiver, current: Vec::new(), start: 0 };
        let consumed = consume(&mut chunks).and_then(|()| {
            // The diff ID covers what follows the archive's end, too.
            io::copy(&mut chunks, &mut io::sink())
                .map_err(|error| LayerError::Tar(rbuild_image::LayerError::Read(error)))
        });
        // Ends the other thread if it is not at the end.
        drop(chunks);
        let hashed = reading.join().expect("reading a tar does not panic unless the reader given to us does");
        consumed?;
        Ok(hashed)
    })
}

fn hash_into(tar: &mut (dyn Read + Send), sender: &SyncSender<io::Result<Vec<u8>>>) -> (Digest, u64) {
    let mut hasher = sha2::Sha256::new();
    let mut size = 0;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let result = tar.take(CHUNK as u64).read_to_end(&mut chunk);
        hasher.update(&chunk);
        size += chunk.len() as u64;
        let more = !chunk.is_empty() && result.is_ok();
        let sent = match result {
            Err(error) => sender.send(Err(error)),
            Ok(0) => Ok(()),
            Ok(_) => sender.send(Ok(chunk)),
        };
        if sent.is_err() || !more {
            return (Digest::sha256(hasher.finalize().into()), size);
        }
    }
}

/// The bytes that the other thread has hashed.
struct Chunks {
    receiver: Receiver<io::Result<Vec<u8>>>,
    current: Vec<u8>,
    start: usize,
}

impl Chunks {
    /// Whether the next read waits for another chunk.
    fn is_used_up(&self) -> bool {
        self.start == self.current.len()
    }

    /// The next chunk, which is read next; empty at the end.
    fn receive(&mut self) -> io::Result<&[u8]> {
        (self.current, self.start) = (self.receiver.recv().unwrap_or(Ok(Vec::new()))?, 0);
        Ok(&self.current)
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_used_up() && self.receive()?.is_empty() {
            return Ok(0);
        }
        let count = buffer.len().min(self.current.len() - self.start);
        buffer[..count].copy_from_slice(&self.current[self.start..self.start + count]);
        self.start += count;
        Ok(count)
    }
}
