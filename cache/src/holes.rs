//! Which parts of a file need not be read to know that they are zeros?
//!
//! Those that a sparse file has no room on the disk for. To read them costs memory, not only time: the kernel fills its
//! page cache with zeros first.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Finds the holes of a file, from its beginning to its end. Moves where the file stands.
#[derive(Debug)]
pub struct Holes<'f> {
    file: &'f File,
    /// Not asked of a file that has as much room as it is long: some file systems take long to answer.
    sparse: bool,
    /// From where on something was looked for, and where the next was found.
    known: (u64, u64),
}

impl<'f> Holes<'f> {
    /// Those of an open file.
    ///
    /// # Errors
    /// The file cannot be looked at.
    pub fn of(file: &'f File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self { file, sparse: found.blocks().saturating_mul(512) < found.len(), known: (0, 0) })
    }

    /// Whether there is nothing in these bytes, and the file does not end before they do.
    pub fn cover(&mut self, at: u64, length: u64) -> bool {
        if !self.sparse {
            return false;
        }
        if !(self.known.0..self.known.1).contains(&at) {
            self.known = (at, self.next_data(at));
        }
        at.checked_add(length).is_some_and(|end| end <= self.known.1)
    }

    fn next_data(&mut self, at: u64) -> u64 {
        match seek(self.file, SeekFrom::Data(at)) {
            Ok(next) => next,
            // A hole up to the end, wherever that is by now.
            Err(Errno::NXIO) => self.file.metadata().map_or(at, |file| file.len().max(at)),
            Err(_) => {
                self.sparse = false;
                at
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn holes_are_where_nothing_was_written() {
        const MIB: u64 = 1 << 20;
        let file = tempfile::tempfile().unwrap();
        file.set_len(8 * MIB).unwrap();
        file.write_all_at(b"data", 3 * MIB + 5).unwrap();
        if file.metadata().unwrap().blocks() > 1024 {
            println!("skipped: no sparse files here");
            return;
        }
        let mut holes = Holes::of(&file).unwrap();
        let cases = [
            (0, MIB, true),
            (MIB, 2 * MIB, true),
            (2 * MIB, MIB + 6, false),
            (3 * MIB, MIB, false),
            (4 * MIB, 4 * MIB, true),
            (7 * MIB + 1, MIB - 1, true),
            (7 * MIB, MIB + 1, false),
            (9 * MIB, MIB, false),
            (u64::MAX - 1, 2, false),
            // Backwards, too.
            (MIB, MIB, true),
        ];
        for (at, length, expected) in cases {
            assert_eq!(holes.cover(at, length), expected, "{at} {length}");
        }
        let mut short = Holes::of(&file).unwrap();
        file.set_len(6 * MIB).unwrap();
        assert!(short.cover(4 * MIB, MIB) && !short.cover(6 * MIB, 1) && !short.cover(7 * MIB, MIB));
    }

    #[test]
    fn a_file_without_holes_has_none() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[0; 100_000], 0).unwrap();
        file.sync_all().unwrap();
        assert!(!Holes::of(&file).unwrap().cover(0, 100_000));
    }
}
