//! How is gzip made with all processors, and always the same?
//!
//! The input is cut into blocks of a fixed size, each of which becomes a gzip member of its own; one after the other
//! they are one gzip file (RFC 1952 §2.2), which every client reads: estargz and `pigz -i` make the same. What comes
//! out depends on the input and the level, never on how many threads there were: they take blocks from a queue and
//! the results are written in order.
//!
//! Members know nothing of each other, which costs a hundredth of the size and allows for libdeflate: at level 3 it
//! makes what zlib makes at level 6, in half the time (`docs/performance.md`).
//!
//! What would not become smaller is not compressed ([`noise`](super::noise)): a block with noise in it becomes several
//! members, those of noise with nothing but copies in them. libdeflate would take as long for it as for a text.
//!
//! No thread is started before the first block is full.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use libdeflater::{CompressionLvl, Compressor};

use super::noise;

/// Changing it changes every compressed layer.
const BLOCK: usize = 1 << 20;
/// Deflate, no flags, no time, compressed fast, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 0xff];

/// Compresses what is written to it. Call [`finish`](Self::finish).
pub(super) struct GzipWriter<W> {
    out: W,
    level: CompressionLvl,
    threads: usize,
    block: Vec<u8>,
    /// Whether a member was made; an empty file needs one, too.
    begun: bool,
    /// Results to come, in order.
    pending: VecDeque<Receiver<Vec<u8>>>,
    pool: Option<Pool>,
}

struct Job {
    block: Vec<u8>,
    done: SyncSender<Vec<u8>>,
}

struct Pool {
    jobs: Option<Sender<Job>>,
    workers: Vec<JoinHandle<()>>,
}

impl<W: Write> GzipWriter<W> {
    /// `level` is libdeflate's; `threads` only says how fast it goes.
    pub(super) fn new(out: W, level: u32, threads: usize) -> io::Result<Self> {
        let level = i32::try_from(level).ok().and_then(|level| CompressionLvl::new(level).ok());
        let level = level.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a level of gzip"))?;
        let (block, pending) = (Vec::new(), VecDeque::new());
        Ok(Self { out, level, threads: threads.max(1), block, begun: false, pending, pool: None })
    }

    pub(super) fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.block.len() == BLOCK {
                self.submit()?;
            }
            let taken = bytes.len().min(BLOCK - self.block.len());
            self.block.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        let last = (!self.block.is_empty() || !self.begun)
            .then(|| members(&mut Compressor::new(self.level), self.level, &self.block));
        while let Some(piece) = self.pending.pop_front() {
            self.write_piece(&piece)?;
        }
        if let Some(last) = last {
            self.out.write_all(&last)?;
        }
        Ok(self.out)
    }

    fn submit(&mut self) -> io::Result<()> {
        let pool = self.pool.get_or_insert_with(|| Pool::start(self.threads, self.level));
        let (done, receiver) = sync_channel(1);
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        let jobs = pool.jobs.as_ref().expect("taken only when the pool is dropped");
        jobs.send(Job { block, done }).map_err(|_| broken())?;
        self.begun = true;
        self.pending.push_back(receiver);
        // Enough in flight to keep every thread busy while one result is written.
        if self.pending.len() > 2 * self.threads
            && let Some(piece) = self.pending.pop_front()
        {
            self.write_piece(&piece)?;
        }
        Ok(())
    }

    fn write_piece(&mut self, piece: &Receiver<Vec<u8>>) -> io::Result<()> {
        self.out.write_all(&piece.recv().map_err(|_| broken())?)
    }
}

fn broken() -> io::Error {
    io::Error::other("a compressing thread ended early")
}

impl Pool {
    fn start(threads: usize, level: CompressionLvl) -> Self {
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let worker = |_| {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || work(&queue, level))
        };
        Self { jobs: Some(jobs), workers: (0..threads).map(worker).collect() }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Without a sender the threads end after the blocks that are still queued; nobody waits for those.
        self.jobs = None;
        for worker in self.workers.drain(..) {
            drop(worker.join());
        }
    }
}

fn work(queue: &Mutex<Receiver<Job>>, level: CompressionLvl) {
    let mut compressor = Compressor::new(level);
    loop {
        let Ok(job) = queue.lock().expect("nothing panics while it holds this lock").recv() else { return };
        // The writer may have given up.
        drop(job.done.send(members(&mut compressor, level, &job.block)));
    }
}

/// A block as gzip members, one for each part of it that is noise or is not. Noise is only copied: deflate has blocks
/// for that.
fn members(compressor: &mut Compressor, level: CompressionLvl, block: &[u8]) -> Vec<u8> {
    if level == CompressionLvl::new(0).expect("the lowest level") {
        return member(compressor, block, Vec::new());
    }
    let parts = noise::parts(block);
    parts.into_iter().fold(Vec::new(), |out, part| match part.noise {
        true => stored(&block[part.range], out),
        false => member(compressor, &block[part.range], out),
    })
}

/// Appends one gzip member: no time, no name, no operating system.
fn member(compressor: &mut Compressor, bytes: &[u8], mut out: Vec<u8>) -> Vec<u8> {
    let start = out.len();
    out.resize(start + compressor.gzip_compress_bound(bytes.len()), 0);
    let length = compressor.gzip_compress(bytes, &mut out[start..]).expect("the bound is an upper bound");
    out.truncate(start + length);
    out
}

/// Appends a gzip member that is not compressed (RFC 1951 §3.2.4).
fn stored(bytes: &[u8], mut out: Vec<u8>) -> Vec<u8> {
    const LONGEST: usize = 0xffff;
    out.reserve(bytes.len() + bytes.len() / LONGEST * 5 + HEADER.len() + 16);
    out.extend_from_slice(&HEADER);
    let mut left = bytes;
    while !left.is_empty() {
        let (now, later) = left.split_at(left.len().min(LONGEST));
        let length = u16::try_from(now.len()).expect("at most the longest");
        out.push(u8::from(later.is_empty()));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(now);
        left = later;
    }
    out.extend_from_slice(&libdeflater::crc32(bytes).to_le_bytes());
    out.extend_from_slice(&u32::try_from(bytes.len()).expect("at most a block").to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn gzip(data: &[u8], level: u32, threads: usize, step: usize) -> Vec<u8> {
        let mut writer = GzipWriter::new(Vec::new(), level, threads).unwrap();
        data.chunks(step).for_each(|chunk| writer.write_all(chunk).unwrap());
        writer.finish().unwrap()
    }

    /// Bytes that compress somewhat, with repetitions across blocks.
    fn data(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let words: Vec<u8> = (0..40_000).map(|_| next() & 0x3f).collect();
        let mut data: Vec<u8> = words.iter().copied().cycle().take(length).collect();
        if length > BLOCK {
            data[BLOCK / 2..][..300_001].fill_with(next);
        }
        data
    }

    #[test]
    fn noise_is_stored_and_all_else_is_as_libdeflate_makes_it() {
        let (level, data) = (CompressionLvl::new(3).unwrap(), data(BLOCK + 1));
        let mut compressor = Compressor::new(level);
        let text = &data[..BLOCK / 2];
        assert!(members(&mut compressor, level, text) == member(&mut compressor, text, Vec::new()));
        let noise = &data[BLOCK / 2..][..(256 << 10)];
        let packed = members(&mut compressor, level, noise);
        // A header, a checksum, and five bytes for each of five copies.
        assert_eq!(packed.len(), noise.len() + 18 + 25);
        let mut plain = Vec::new();
        flate2::bufread::GzDecoder::new(&packed[..]).read_to_end(&mut plain).unwrap();
        assert!(plain == noise);
    }

    #[test]
    fn the_input_comes_back_whatever_the_length_and_level() {
        let data = data(3 * BLOCK + 77);
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, data.len()] {
            for level in [0, 1, 3, 9] {
                let packed = gzip(&data[..length], level, 2, 100_000);
                let mut plain = Vec::new();
                flate2::bufread::MultiGzDecoder::new(packed.as_slice()).read_to_end(&mut plain).unwrap();
                assert!(plain == data[..length], "{length} at level {level}");
            }
        }
    }

    #[test]
    fn the_bytes_depend_neither_on_threads_nor_on_how_they_are_written() {
        let data = data(4 * BLOCK + 1);
        let expected = gzip(&data, 6, 1, data.len());
        for (threads, step) in [(1, 4096), (2, BLOCK), (3, 1_000_003), (16, 77_777)] {
            assert!(gzip(&data, 6, threads, step) == expected, "{threads} threads");
        }
    }

    #[test]
    fn an_unfinished_writer_is_dropped_without_waiting_for_anybody() {
        let mut writer = GzipWriter::new(Vec::new(), 6, 2).unwrap();
        writer.write_all(&data(4 * BLOCK)).unwrap();
        drop(writer);
    }
}
