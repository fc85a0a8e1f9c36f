//! How is a file written while more of it is being made?
//!
//! By another thread, once there is much. Buffers are used again, since memory that nobody has touched yet is dear.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

/// A buffer.
pub(super) const BLOCK: usize = 512 << 10;
/// That wait to be written.
const BLOCKS: usize = 3;
/// So much is written by this thread.
const LITTLE: u64 = 1 << 20;
/// What is written at once. The kernel takes memory in pieces as large as that, or smaller ones if it does not begin at a
/// multiple of its length. Large pieces are what a virtual machine has given back to its host, and has to get again, at
/// seven times the price of writing; docs/decisions/0016-large-files.md has figures.
const PIECE: usize = 128 << 10;
static ZEROS: [u8; PIECE] = [0; PIECE];

/// Writes to a place, or nothing where nothing but zeros should be.
pub(super) fn write_sparsely(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    for (piece, at) in bytes.chunks(PIECE).zip((at..).step_by(PIECE)) {
        // Compared up to the first byte that is another, which nearly always is the first.
        if piece != &ZEROS[..piece.len()] {
            file.write_all_at(piece, at)?;
        }
    }
    Ok(())
}

fn write(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    bytes.chunks(PIECE).zip((at..).step_by(PIECE)).try_for_each(|(piece, at)| file.write_all_at(piece, at))
}

/// A file from some place on.
#[derive(Debug)]
pub(super) struct Behind {
    file: Arc<File>,
    /// What comes next.
    block: Vec<u8>,
    /// Where that begins.
    at: u64,
    thread: Option<Writing>,
}

#[derive(Debug)]
struct Writing {
    blocks: SyncSender<(u64, Vec<u8>)>,
    spare: Receiver<Vec<u8>>,
    thread: JoinHandle<io::Result<()>>,
}

impl Behind {
    pub(super) fn new(file: Arc<File>, at: u64) -> Self {
        Self { file, block: Vec::new(), at, thread: None }
    }

    /// Where the next byte will be.
    pub(super) fn at(&self) -> u64 {
        self.at + self.block.len() as u64
    }

    /// Leaves out what somebody else writes.
    pub(super) fn pass(&mut self, length: u64) -> io::Result<()> {
        self.end_block()?;
        self.at += length;
        Ok(())
    }

    /// Everything is written then.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.end_block()?;
        self.join()
    }

    fn join(&mut self) -> io::Result<()> {
        let Some(Writing { blocks, thread, .. }) = self.thread.take() else { return Ok(()) };
        drop(blocks);
        thread.join().expect("writing does not panic")
    }

    fn end_block(&mut self) -> io::Result<()> {
        let (at, length) = (self.at, self.block.len() as u64);
        let Some(writing) = &self.thread else {
            write(&self.file, &self.block, at)?;
            self.block.clear();
            self.at += length;
            return Ok(());
        };
        let next = writing.spare.try_recv().unwrap_or_default();
        let block = std::mem::replace(&mut self.block, next);
        self.at += length;
        if writing.blocks.send((at, block)).is_err() {
            // It ended, so it failed.
            return Err(self.join().err().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()));
        }
        Ok(())
    }

    fn start(&self) -> io::Result<Writing> {
        let (blocks, to_write) = sync_channel::<(u64, Vec<u8>)>(BLOCKS);
        let (give_back, spare) = channel();
        let file = Arc::clone(&self.file);
        let write = move || {
            to_write.iter().try_for_each(|(at, mut block)| {
                write(&file, &block, at)?;
                block.clear();
                // Nobody wants it any more at the end.
                let _finished = give_back.send(block);
                Ok(())
            })
        };
        let thread = std::thread::Builder::new().name("layer".into()).spawn(write)?;
        Ok(Writing { blocks, spare, thread })
    }
}

impl Write for Behind {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(BLOCK - self.block.len()));
            self.block.extend_from_slice(now);
            rest = later;
            if self.block.len() == BLOCK {
                if self.thread.is_none() && self.at >= LITTLE {
                    self.thread = Some(self.start()?);
                }
                self.end_block()?;
            }
        }
        Ok(bytes.len())
    }

    /// Not before the end: a block that has begun is not complete.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        if let Err(error) = self.join() {
            tracing::debug!(%error, "discarded");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_to_their_places() {
        let content: Vec<u8> = (0..5_000_000_u32).map(|at| at.wrapping_mul(0x9e37_79b9).to_le_bytes()[3]).collect();
        for (start, step) in [(4096, 1 << 17), (0, 1 << 20), (5, 999_983), (1 << 20, 4_999_999), (77, 5_000_000)] {
            let file = Arc::new(tempfile::tempfile().unwrap());
            let mut behind = Behind::new(Arc::clone(&file), start);
            content.chunks(step).for_each(|bytes| behind.write_all(bytes).unwrap());
            behind.pass(3_000_000).unwrap();
            assert_eq!(behind.at(), start + 8_000_000);
            content.chunks(step).for_each(|bytes| behind.write_all(bytes).unwrap());
            behind.finish().unwrap();
            assert_eq!(file.metadata().unwrap().len(), start + 13_000_000);
            for at in [start, start + 8_000_000] {
                let mut written = vec![0; content.len()];
                file.read_exact_at(&mut written, at).unwrap();
                assert!(written == content, "{start} {step} {at}");
            }
            let mut passed = vec![1; 3_000_000];
            file.read_exact_at(&mut passed, start + 5_000_000).unwrap();
            assert!(passed.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn little_needs_no_thread() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let mut behind = Behind::new(Arc::clone(&file), 4096);
        behind.write_all(&[7; 1_000_000]).unwrap();
        assert!(behind.thread.is_none());
        behind.finish().unwrap();
        assert_eq!(file.metadata().unwrap().len(), 1_004_096);
    }

    #[test]
    fn a_failure_is_told_at_last() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("closed");
        std::fs::write(&path, "").unwrap();
        let mut behind = Behind::new(Arc::new(File::open(&path).unwrap()), 0);
        let written = (0..20).try_for_each(|_| behind.write_all(&[7; 1 << 20]));
        assert!(written.is_err() || behind.finish().is_err());
    }
}
