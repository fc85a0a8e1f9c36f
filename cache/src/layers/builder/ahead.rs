//! How is a large file read while what was read of it before is written?

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

const CHUNK: u64 = 1 << 20;
/// Read and not yet written.
const CHUNKS: usize = 4;

/// What another thread reads.
pub(super) struct Ahead {
    chunks: Receiver<io::Result<Arc<Vec<u8>>>>,
    current: Arc<Vec<u8>>,
    start: usize,
}

impl Ahead {
    /// Has `size` bytes of `file` read, and hashed. The thread returns their blake3, which is right if all were read.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        file: &'scope File,
        size: u64,
    ) -> (Self, ScopedJoinHandle<'scope, [u8; 32]>) {
        let (sender, chunks) = sync_channel(CHUNKS);
        let reading = scope.spawn(move || {
            let mut hasher = blake3::Hasher::new();
            let mut input = file.take(size);
            loop {
                let mut chunk = Vec::with_capacity(CHUNK as usize);
                let read = input.by_ref().take(CHUNK).read_to_end(&mut chunk);
                let ends = !matches!(read, Ok(1..));
                let chunk = Arc::new(chunk);
                // An empty chunk is the end, too.
                if sender.send(read.map(|_| Arc::clone(&chunk))).is_err() || ends {
                    return *hasher.finalize().as_bytes();
                }
                // While the other thread writes it.
                hasher.update(&chunk);
            }
        });
        (Self { chunks, current: Arc::default(), start: 0 }, reading)
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.start == self.current.len() {
            // The other thread ends at the end, or after an error.
            let Ok(next) = self.chunks.recv() else { return Ok(0) };
            (self.current, self.start) = (next?, 0);
        }
        let count = buffer.len().min(self.current.len() - self.start);
        buffer[..count].copy_from_slice(&self.current[self.start..self.start + count]);
        self.start += count;
        Ok(count)
    }
}
