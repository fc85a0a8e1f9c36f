//! How is gzip made with all processors, and always the same?
//!
//! The input is cut into blocks of a fixed size. Each is compressed alone, with the 32 KiB before it as a dictionary,
//! and ends at a byte boundary; put together they are one ordinary gzip member that every client reads. What comes
//! out depends on the input and the level, never on how many threads there were: they take blocks from a queue and
//! the results are written in order.
//!
//! No thread is started before the first block is full.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use flate2::{Compress, Compression, Crc, FlushCompress};

/// Changing it changes every compressed layer.
const BLOCK: usize = 1 << 20;
/// How far deflate looks back.
const WINDOW: usize = 32 << 10;

/// Compresses what is written to it. Call [`finish`](Self::finish).
pub(super) struct GzipWriter<W> {
    out: W,
    level: Compression,
    threads: usize,
    block: Vec<u8>,
    /// The end of the block before.
    dictionary: Vec<u8>,
    crc: Crc,
    /// Results to come, in order.
    pending: VecDeque<Receiver<Piece>>,
    pool: Option<Pool>,
}

struct Job {
    block: Vec<u8>,
    dictionary: Vec<u8>,
    done: SyncSender<Piece>,
}

struct Piece {
    compressed: Vec<u8>,
    crc: Crc,
}

struct Pool {
    jobs: Option<Sender<Job>>,
    workers: Vec<JoinHandle<()>>,
}

impl<W: Write> GzipWriter<W> {
    /// Writes the header. `threads` only says how fast it goes.
    pub(super) fn new(mut out: W, level: u32, threads: usize) -> io::Result<Self> {
        let speed = match level {
            1 => 4,
            9 => 2,
            _ => 0,
        };
        // No time, no name, no operating system.
        out.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, speed, 255])?;
        Ok(Self {
            out,
            level: Compression::new(level),
            threads: threads.max(1),
            block: Vec::new(),
            dictionary: Vec::new(),
            crc: Crc::new(),
            pending: VecDeque::new(),
            pool: None,
        })
    }

    pub(super) fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            // The last block must not be taken for one in the middle, so a full one waits for more.
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
        let last = compress(&mut new_compressor(self.level), &self.dictionary, &self.block, FlushCompress::Finish);
        while let Some(piece) = self.pending.pop_front() {
            self.write_piece(&piece)?;
        }
        self.write_piece_of(&last)?;
        let trailer = (u64::from(self.crc.amount()) << 32 | u64::from(self.crc.sum())).to_le_bytes();
        self.out.write_all(&trailer)?;
        Ok(self.out)
    }

    fn submit(&mut self) -> io::Result<()> {
        let pool = self.pool.get_or_insert_with(|| Pool::start(self.threads, self.level));
        let (done, receiver) = sync_channel(1);
        let window = self.block[BLOCK - WINDOW..].to_vec();
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        let dictionary = std::mem::replace(&mut self.dictionary, window);
        let jobs = pool.jobs.as_ref().expect("taken only when the pool is dropped");
        jobs.send(Job { block, dictionary, done }).map_err(|_| broken())?;
        self.pending.push_back(receiver);
        // Enough in flight to keep every thread busy while one result is written.
        if self.pending.len() > 2 * self.threads
            && let Some(piece) = self.pending.pop_front()
        {
            self.write_piece(&piece)?;
        }
        Ok(())
    }

    fn write_piece(&mut self, piece: &Receiver<Piece>) -> io::Result<()> {
        let piece = piece.recv().map_err(|_| broken())?;
        self.write_piece_of(&piece)
    }

    fn write_piece_of(&mut self, piece: &Piece) -> io::Result<()> {
        self.crc.combine(&piece.crc);
        self.out.write_all(&piece.compressed)
    }
}

fn broken() -> io::Error {
    io::Error::other("a compressing thread ended early")
}

impl Pool {
    fn start(threads: usize, level: Compression) -> Self {
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

fn work(queue: &Mutex<Receiver<Job>>, level: Compression) {
    let mut compressor = new_compressor(level);
    loop {
        let Ok(job) = queue.lock().expect("nothing panics while it holds this lock").recv() else { return };
        compressor.reset();
        let piece = compress(&mut compressor, &job.dictionary, &job.block, FlushCompress::Sync);
        // The writer may have given up.
        drop(job.done.send(piece));
    }
}

fn new_compressor(level: Compression) -> Compress {
    Compress::new(level, false)
}

fn compress(compressor: &mut Compress, dictionary: &[u8], block: &[u8], flush: FlushCompress) -> Piece {
    if !dictionary.is_empty() {
        compressor.set_dictionary(dictionary).expect("a raw stream takes a dictionary before its first byte");
    }
    // More than deflate ever needs, so that one call does it: a second flush would leave a mark in the output.
    let mut compressed = Vec::with_capacity(block.len() + block.len() / 8 + 1024);
    let start = compressor.total_in();
    loop {
        let taken = usize::try_from(compressor.total_in() - start).expect("not more than the block");
        compressor
            .compress_vec(&block[taken..], &mut compressed, flush)
            .expect("the compressor is used as its documentation says");
        // Room that is left means that everything came out.
        if compressed.len() < compressed.capacity() {
            break;
        }
        compressed.reserve(block.len() / 4 + 1024);
    }
    let mut crc = Crc::new();
    crc.update(block);
    Piece { compressed, crc }
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
        words.iter().copied().cycle().take(length).collect()
    }

    #[test]
    fn one_member_comes_out_whatever_the_length_and_level() {
        let data = data(3 * BLOCK + 77);
        for length in [0, 1, WINDOW, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, data.len()] {
            for level in [0, 1, 6] {
                let packed = gzip(&data[..length], level, 2, 100_000);
                let mut plain = Vec::new();
                // Not the multi-member decoder.
                let mut decoder = flate2::bufread::GzDecoder::new(packed.as_slice());
                decoder.read_to_end(&mut plain).unwrap();
                assert!(plain == data[..length], "{length} at level {level}");
                assert!(decoder.into_inner().is_empty());
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
