//! What is in the file of a layer, and is it still what was written?
//!
//! ```text
//! 0      magic `rblayer1` │ tar length 8 │ metadata offset 8 │ length 8 │ diff ID 32 │ blake3 of the metadata 32
//! 96     mode, owner, group of the root directory, 4 each
//! 108    length of the index 8 │ blake3 of the index 32 │ NULs
//! 992    blake3 of all 4096 bytes with this field as NULs
//! 1024   EROFS superblock │ NULs
//! 4096   the plain tar
//!        NULs up to a multiple of 4096, EROFS metadata
//!        an index of the tar, if it may be of use for the next layer (`TarIndex`)
//! ```
//!
//! All numbers are little endian. The kernel reads what begins at 1024, and leaves the rest to us.
//!
//! A layer's row has a [`FileStamp`]. While that fits, nobody has written to the file since it was made, and only the
//! header and the metadata are read and compared before the first use in a process: a kernel that reads them when they
//! are damaged would serve other files. If the stamp does not fit, the store may have been copied, and all is compared.

mod nodes;

use std::fs::{File, Metadata};
use std::io::{self, BufWriter, Read, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rbuild_core::Digest;
use rbuild_image::TarIndex;
use rbuild_image::erofs::{
    ErofsTree, SUPERBLOCK_LENGTH, SUPERBLOCK_OFFSET, TAR_OFFSET, Undescribable, metadata_offset,
};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

pub(super) use self::nodes::LayerNodes;

const MAGIC: &[u8; 8] = b"rblayer1";
const LENGTH: usize = TAR_OFFSET as usize;
const CHECK: Range<usize> = 992..1024;
const SUPERBLOCK: Range<usize> = SUPERBLOCK_OFFSET as usize..SUPERBLOCK_OFFSET as usize + SUPERBLOCK_LENGTH;
const CHUNK: usize = 128 << 10;

/// What changes when somebody writes to a file, or puts another one in its place.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub(crate) struct FileStamp {
    size: u64,
    inode: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl FileStamp {
    pub(super) fn of(file: &Metadata) -> Self {
        Self {
            size: file.size(),
            inode: file.ino(),
            mtime: (file.mtime(), file.mtime_nsec()),
            ctime: (file.ctime(), file.ctime_nsec()),
        }
    }
}

/// Everything that the header says, but the superblock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Header {
    pub(super) tar_length: u64,
    metadata_offset: u64,
    metadata_length: u64,
    pub(super) diff_id: Digest,
    metadata: [u8; 32],
    /// Mode, owner and group.
    pub(super) root: (u32, u32, u32),
    index_length: u64,
    index: [u8; 32],
}

impl Header {
    fn to_bytes(self, superblock: &[u8; SUPERBLOCK_LENGTH]) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(MAGIC);
        for number in [self.tar_length, self.metadata_offset, self.metadata_length] {
            put(&number.to_le_bytes());
        }
        put(self.diff_id.as_bytes());
        put(&self.metadata);
        for number in <[u32; 3]>::from(self.root) {
            put(&number.to_le_bytes());
        }
        put(&self.index_length.to_le_bytes());
        put(&self.index);
        bytes[SUPERBLOCK].copy_from_slice(superblock);
        let check = blake3::hash(&bytes);
        bytes[CHECK].copy_from_slice(check.as_bytes());
        bytes
    }

    fn index_at(&self) -> Option<u64> {
        self.metadata_offset.checked_add(self.metadata_length)
    }

    /// Reads a header and the superblock after it; `None` if it is damaged.
    fn parse(mut bytes: [u8; LENGTH]) -> Option<(Self, [u8; SUPERBLOCK_LENGTH])> {
        let check: [u8; 32] = bytes[CHECK].try_into().ok()?;
        bytes[CHECK].fill(0);
        if &bytes[..8] != MAGIC || blake3::hash(&bytes) != check {
            return None;
        }
        let long = |at: usize| Some(u64::from_le_bytes(bytes[at..at + 8].try_into().ok()?));
        let short = |at: usize| Some(u32::from_le_bytes(bytes[at..at + 4].try_into().ok()?));
        let header = Self {
            tar_length: long(8)?,
            metadata_offset: long(16)?,
            metadata_length: long(24)?,
            diff_id: Digest::sha256(bytes[32..64].try_into().ok()?),
            metadata: bytes[64..96].try_into().ok()?,
            root: (short(96)?, short(100)?, short(104)?),
            index_length: long(108)?,
            index: bytes[116..148].try_into().ok()?,
        };
        Some((header, bytes[SUPERBLOCK].try_into().ok()?))
    }
}

/// Writes at a place in a file that moves on.
pub(super) struct At<'a> {
    file: &'a File,
    at: u64,
}

impl<'a> At<'a> {
    pub(super) fn new(file: &'a File, at: u64) -> Self {
        Self { file, at }
    }
}

impl Write for At<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write_at(bytes, self.at)?;
        self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a part of a file, whatever others do with its position.
#[derive(Debug)]
pub(super) struct Part<F> {
    file: F,
    at: u64,
    end: u64,
}

impl<F> Part<F> {
    pub(super) fn new(file: F, at: u64, length: u64) -> Self {
        Self { file, at, end: at.saturating_add(length) }
    }
}

impl<F: std::borrow::Borrow<File>> Read for Part<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = (self.end - self.at).min(buffer.len() as u64) as usize;
        let count = self.file.borrow().read_at(&mut buffer[..limit], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// Completes a file that has the tar: metadata and header. Only then is it a layer's. `index` is that of the tar, if there is one.
pub(super) fn complete(
    file: &File,
    tree: ErofsTree,
    tar_length: u64,
    diff_id: Digest,
    index: Option<&TarIndex>,
) -> Result<(), Incomplete> {
    let root = tree.root();
    let metadata = tree.finish(tar_length)?;
    let (_, digest) = write_hashed(file, metadata.offset(), |out| metadata.write(out))?;
    let behind = metadata.offset() + metadata.length();
    let (index_length, index) = write_hashed(file, behind, |out| index.map_or(Ok(()), |index| index.write(out)))?;
    let header = Header {
        tar_length,
        metadata_offset: metadata.offset(),
        metadata_length: metadata.length(),
        diff_id,
        metadata: digest,
        root,
        index_length,
        index,
    };
    let uuid = uuid(diff_id, file.metadata()?.ino());
    file.write_all_at(&header.to_bytes(&metadata.superblock(uuid)), 0)?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(0o444)).map_err(io::Error::from)?;
    Ok(())
}

/// No two files of a store have the same, also if two layers have the same content: an overlay of file systems of which two
/// are called the same gives up making the device numbers of its files one (`xino` of the kernel's `overlayfs.rst`).
fn uuid(diff_id: Digest, inode: u64) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&diff_id.as_bytes()[..8]);
    uuid[8..].copy_from_slice(&inode.to_le_bytes());
    uuid
}

/// Why a file could not be completed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Incomplete {
    #[error(transparent)]
    Undescribable(#[from] Undescribable),
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// Writes from a place on, and returns how many bytes that were, and their blake3.
fn write_hashed(
    file: &File,
    at: u64,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<(u64, [u8; 32])> {
    struct Hashed<'a>(At<'a>, blake3::Hasher);
    impl Write for Hashed<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.0.write(bytes)?;
            self.1.update(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut out = BufWriter::with_capacity(CHUNK, Hashed(At::new(file, at), blake3::Hasher::new()));
    write(&mut out)?;
    let Hashed(_, hasher) = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok((hasher.count(), *hasher.finalize().as_bytes()))
}

/// The file of a layer, whose header is right.
#[derive(Debug)]
pub(super) struct LayerFile {
    pub(super) file: File,
    pub(super) header: Header,
    superblock: [u8; SUPERBLOCK_LENGTH],
}

impl LayerFile {
    /// Opens it and reads the header.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        let mut bytes = [0; LENGTH];
        file.read_exact_at(&mut bytes, 0)?;
        let (header, superblock) = Header::parse(bytes).ok_or_else(damaged)?;
        let fits = header.metadata_offset == metadata_offset(header.tar_length)
            && header.index_at().and_then(|at| at.checked_add(header.index_length)) == Some(file.metadata()?.len());
        if fits { Ok(Self { file, header, superblock }) } else { Err(damaged()) }
    }

    /// Where the index of the tar is and how long; none if there is none, or a damaged one.
    pub(super) fn index(&self) -> io::Result<Option<Range<u64>>> {
        let Some(at) = self.header.index_at().filter(|_| self.header.index_length > 0) else { return Ok(None) };
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(Part::new(&self.file, at, self.header.index_length))?;
        let is_intact = hasher.finalize() == self.header.index;
        Ok(is_intact.then(|| at..at + self.header.index_length))
    }

    /// Compares the metadata without keeping them.
    pub(super) fn check_metadata(&self) -> io::Result<()> {
        let mut hasher = blake3::Hasher::new();
        let part = Part::new(&self.file, self.header.metadata_offset, self.header.metadata_length);
        hasher.update_reader(part)?;
        if hasher.finalize() == self.header.metadata { Ok(()) } else { Err(damaged()) }
    }

    /// Compares everything.
    pub(super) fn check(&self) -> io::Result<()> {
        self.check_metadata()?;
        let mut hasher = sha2::Sha256::new();
        let mut part = self.tar();
        let mut buffer = vec![0; CHUNK];
        loop {
            match part.read(&mut buffer)? {
                0 => break,
                count => hasher.update(&buffer[..count]),
            }
        }
        if Digest::sha256(hasher.finalize().into()) == self.header.diff_id { Ok(()) } else { Err(damaged()) }
    }

    /// The plain tar.
    pub(super) fn tar(&self) -> Part<&File> {
        Part::new(&self.file, TAR_OFFSET, self.header.tar_length)
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the layer's file is damaged")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_of_a_header_counts() {
        let header = Header {
            tar_length: 1,
            metadata_offset: 2,
            metadata_length: 3,
            diff_id: Digest::sha256([4; 32]),
            metadata: [5; 32],
            root: (0o1777, 6, 7),
            index_length: 8,
            index: [9; 32],
        };
        let bytes = header.to_bytes(&[8; SUPERBLOCK_LENGTH]);
        assert_eq!(Header::parse(bytes), Some((header, [8; SUPERBLOCK_LENGTH])));
        for at in 0..LENGTH {
            let mut damaged = bytes;
            damaged[at] ^= 1;
            assert_eq!(Header::parse(damaged), None, "byte {at}");
        }
    }
}
