//! How does the content of a large file come into the file of a layer?
//!
//! ```text
//! ┌► spare buffers ──read, blake3──► in order ──sha256 (the caller)──► in order ──write──┐
//! └─────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Three threads, each of which has another buffer. There are as many of them as make up for hiccups, and they are used
//! again: memory that nobody has touched yet is dear.
//!
//! Zeros are not written, and what is a hole in the source is not even read. The layer's file has holes there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use super::behind::{BLOCK, write_sparsely};
use crate::holes::Holes;

const BUFFERS: usize = 8;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// What is copied where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Large<'f> {
    pub(super) from: &'f File,
    /// Where the content begins in `from`.
    pub(super) start: u64,
    pub(super) size: u64,
    /// A file that is empty where the content goes.
    pub(super) to: &'f File,
    pub(super) at: u64,
}

/// Which side failed.
#[derive(Debug)]
pub(super) enum Failed {
    Read(io::Error),
    Write(io::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

struct Block {
    /// Of [`BLOCK`] bytes, or none if the block was not read.
    buffer: Vec<u8>,
    is_hole: bool,
    length: usize,
    at: u64,
}

impl Block {
    fn bytes(&self) -> &[u8] {
        if self.is_hole { &ZEROS[..self.length] } else { &self.buffer[..self.length] }
    }
}

impl Large<'_> {
    /// Copies, and shows everything in its order to `see`. With a `hasher`, that gets it too.
    pub(super) fn copy(self, hasher: Option<&mut blake3::Hasher>, see: &mut dyn FnMut(&[u8])) -> Result<(), Failed> {
        let (give_back, spare) = channel();
        (0..BUFFERS).try_for_each(|_| give_back.send(Vec::new())).expect("the receiver is still here");
        let (read_out, read) = sync_channel(BUFFERS);
        let (seen, to_write) = sync_channel(BUFFERS);
        thread::scope(|scope| {
            let name = |name: &str| thread::Builder::new().name(name.into());
            let writing = name("layer").spawn_scoped(scope, move || self.write(&to_write, &give_back))?;
            let reading = name("source").spawn_scoped(scope, move || self.read(hasher, &spare, &read_out))?;
            for block in &read {
                see(block.bytes());
                if seen.send(block).is_err() {
                    break;
                }
            }
            // Each side ends when the other end of its channel is gone.
            drop((read, seen));
            let is_read = reading.join().expect("reading and hashing do not panic");
            writing.join().expect("writing does not panic").map_err(Failed::Write)?;
            is_read.map_err(Failed::Read)
        })
    }

    fn read(
        self,
        mut hasher: Option<&mut blake3::Hasher>,
        spare: &Receiver<Vec<u8>>,
        out: &SyncSender<Block>,
    ) -> io::Result<()> {
        let mut holes = Holes::of(self.from)?;
        let mut done = 0;
        while done < self.size {
            let Ok(mut buffer) = spare.recv() else { return Ok(()) };
            let at = self.at + done;
            let length = usize::try_from(self.size - done).unwrap_or(usize::MAX).min(BLOCK);
            let is_hole = holes.cover(self.start + done, length as u64);
            if !is_hole {
                buffer.resize(BLOCK, 0);
                self.from.read_exact_at(&mut buffer[..length], self.start + done)?;
            }
            let block = Block { buffer, is_hole, length, at };
            if let Some(hasher) = &mut hasher {
                hasher.update(block.bytes());
            }
            if out.send(block).is_err() {
                return Ok(());
            }
            done += length as u64;
        }
        Ok(())
    }

    fn write(self, blocks: &Receiver<Block>, give_back: &Sender<Vec<u8>>) -> io::Result<()> {
        for block in blocks {
            if !block.is_hole {
                write_sparsely(self.to, block.bytes(), block.at)?;
            }
            // Nobody wants it any more at the end.
            let _finished = give_back.send(block.buffer);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    const MIB: u64 = 1 << 20;

    struct Copied {
        to: File,
        seen: Vec<u8>,
        blake3: [u8; 32],
    }

    fn copy(from: &File, start: u64, size: u64, at: u64) -> Result<Copied, Failed> {
        let to = tempfile::tempfile().unwrap();
        let (mut seen, mut hasher) = (Vec::new(), blake3::Hasher::new());
        let large = Large { from, start, size, to: &to, at };
        large.copy(Some(&mut hasher), &mut |bytes| seen.extend_from_slice(bytes))?;
        Ok(Copied { to, seen, blake3: *hasher.finalize().as_bytes() })
    }

    fn noise(size: u64) -> Vec<u8> {
        (0..size).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 29) as u8 | 1).collect()
    }

    #[test]
    fn all_that_was_asked_for_is_seen_and_written() {
        let content = noise(9 * MIB + 77);
        let from = tempfile::tempfile().unwrap();
        from.write_all_at(&content, 0).unwrap();
        let all = content.len() as u64;
        let cases =
            [(0, all, 0), (0, all, 4608), (1, all - 1, 5120), (0, 1, MIB - 1), (3 * MIB, MIB, 512), (all - 1, 1, 0)];
        for (start, size, at) in cases {
            let copied = copy(&from, start, size, at).unwrap();
            let expected = &content[start as usize..(start + size) as usize];
            let mut written = vec![0; expected.len()];
            copied.to.read_exact_at(&mut written, at).unwrap();
            assert!(copied.seen == expected && written == expected, "{start} {size} {at}");
            assert_eq!(copied.blake3, *blake3::hash(expected).as_bytes());
            assert_eq!(copied.to.metadata().unwrap().len(), at + size);
        }
        assert!(copy(&from, 0, 0, 5).unwrap().seen.is_empty());
    }

    #[test]
    fn holes_and_zeros_are_seen_but_not_written() {
        let from = tempfile::tempfile().unwrap();
        from.set_len(40 * MIB).unwrap();
        // Written zeros, then data in the middle of a hole.
        from.write_all_at(&vec![0; 4 << 20], 0).unwrap();
        from.write_all_at(b"data", 20 * MIB + 12_345).unwrap();
        let copied = copy(&from, 0, 40 * MIB, 4608).unwrap();
        let mut expected = vec![0; 40 << 20];
        from.read_exact_at(&mut expected, 0).unwrap();
        assert!(copied.seen == expected);
        assert_eq!(copied.blake3, *blake3::hash(&expected).as_bytes());
        // Who writes something behind makes it as long as it should be.
        copied.to.set_len(4608 + 40 * MIB).unwrap();
        let mut written = vec![1; 40 << 20];
        copied.to.read_exact_at(&mut written, 4608).unwrap();
        assert!(written == expected);
        let room = copied.to.metadata().unwrap().blocks() * 512;
        assert!(room <= 2 * MIB, "{room} bytes are taken");
    }

    #[test]
    fn a_file_that_has_become_shorter_is_an_error_of_the_source() {
        let from = tempfile::tempfile().unwrap();
        for (length, is_sparse) in [(12 * MIB - 1, false), (5 * MIB, false), (0, false), (7 * MIB, true)] {
            from.set_len(0).unwrap();
            from.set_len(length).unwrap();
            if !is_sparse {
                from.write_all_at(&noise(length), 0).unwrap();
            }
            let Err(Failed::Read(error)) = copy(&from, 0, 12 * MIB, 4608) else { panic!("{length} is enough") };
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length}");
        }
    }

    #[test]
    fn what_cannot_be_written_ends_all_threads() {
        let from = tempfile::tempfile().unwrap();
        from.write_all_at(&noise(12 * MIB), 0).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("closed");
        std::fs::write(&path, "").unwrap();
        let to = File::open(&path).unwrap();
        let large = Large { from: &from, start: 0, size: 12 * MIB, to: &to, at: 0 };
        assert!(matches!(large.copy(None, &mut |_| {}), Err(Failed::Write(_))));
    }
}
