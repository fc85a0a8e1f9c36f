//! Where is a listing, which can be as long as there are files?

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use tempfile::{SpooledData, SpooledTempFile};

/// More than this is not in memory.
const MEMORY: usize = 1 << 20;
const BUFFER: usize = 64 << 10;

/// The bytes of a listing, compressed.
#[derive(Debug)]
pub(super) enum Packed {
    Memory(Vec<u8>),
    File(File),
}

impl Packed {
    /// For what will be written. What is too much for memory goes to a file without a name in `scratch`.
    pub(super) fn spool(scratch: Option<&Path>) -> SpooledTempFile {
        match scratch {
            Some(scratch) => tempfile::spooled_tempfile_in(MEMORY, scratch),
            None => tempfile::spooled_tempfile(MEMORY),
        }
    }

    /// What was written.
    pub(super) fn of(mut spool: SpooledTempFile) -> io::Result<Self> {
        spool.flush()?;
        Ok(match spool.into_inner() {
            SpooledData::InMemory(bytes) => Self::Memory(bytes.into_inner()),
            SpooledData::OnDisk(file) => Self::File(file),
        })
    }

    /// Reads them from the beginning.
    pub(super) fn reader(&self) -> Box<dyn BufRead + Send + '_> {
        match self {
            Self::Memory(bytes) => Box::new(&**bytes),
            Self::File(file) => Box::new(BufReader::with_capacity(BUFFER, Reading { file, at: 0 })),
        }
    }
}

/// Several may read one file.
struct Reading<'a> {
    file: &'a File,
    at: u64,
}

impl Read for Reading<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
