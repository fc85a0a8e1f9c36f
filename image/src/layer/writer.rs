//! How do changes become the bytes of a layer?
//!
//! ```text
//! Change ──► header, content, padding ──► 128 KiB buffer ──┬─► sha256 (diff ID)
//!                                                          └─► compressor ──┬─► sha256 (descriptor)
//!                                                                           └─► output
//! ```
//!
//! Every byte is hashed once on each side of the compressor (once in all without one), and memory is one buffer plus
//! what the compressor needs for each of its threads. The order of changes is the caller's: sort them by path, parents first.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;

use rbuild_core::Digest;
use sha2::digest::common::hazmat::SerializableState;
use sha2::{Digest as _, Sha256};

use super::gzip::GzipWriter;
use super::header::{Fields, pad};
use super::{Change, Compression, Entry, EntryKind, Layer, name};
use crate::descriptor::Descriptor;

const CHUNK: usize = 128 << 10;
/// Room for a header and its padding, so that the buffer never grows.
const SLACK: usize = 4 << 10;

/// Writes one layer as a canonical tar. Dropping it without [`finish`](Self::finish) leaves a truncated layer.
#[derive(Debug)]
#[must_use = "a layer is complete only after `finish`"]
pub struct LayerWriter<W: Write> {
    sink: Sink<W>,
}

impl<W: Write> LayerWriter<W> {
    /// A layer without changes yet.
    ///
    /// # Errors
    /// If the compressor refuses its level.
    pub fn new(out: W, compression: Compression) -> io::Result<Self> {
        Ok(Self { sink: Sink::new(out, compression)? })
    }

    /// Adds one change. `content` is read only for a regular file, and exactly as far as the entry's size says.
    /// Returns where that content begins in the uncompressed tar.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for an entry that no layer can express: an unclean path, a name that begins
    /// with `.wh.`, an attribute name with `=`; [`io::ErrorKind::UnexpectedEof`] if `content` is shorter than the
    /// entry's size; what reading and writing return.
    pub fn append(&mut self, change: &Change, content: &mut dyn Read) -> io::Result<u64> {
        let size = header_of(change, &mut self.sink.buffer)?;
        self.sink.flush_if_full()?;
        let start = self.sink.offset();
        if size > 0 {
            let copied = self.sink.copy(content, size)?;
            if copied < size {
                let path = change.path().display();
                let text = format!("`{path}` is shorter than the {size} bytes it should have");
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
            self.sink.pad(size)?;
        }
        Ok(start)
    }

    /// [`append`](Self::append) of a file whose content need not pass through here: `place` puts as many bytes as the entry
    /// says into the output, behind those that were written, and shows them in their order. Only of a plain layer.
    pub(super) fn append_placed<E: From<io::Error>>(
        &mut self,
        change: &Change,
        place: impl FnOnce(&mut W, &mut dyn FnMut(&[u8])) -> Result<(), E>,
    ) -> Result<u64, E> {
        let size = header_of(change, &mut self.sink.buffer)?;
        self.sink.flush()?;
        let start = self.sink.offset();
        self.sink.placed(place)?;
        if self.sink.offset() - start != size {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.sink.pad(size)?;
        Ok(start)
    }

    /// A plain layer, of which the first `offset` bytes are in `out` already; `state` is the hash of those, as
    /// [`states`](Self::states) had it.
    pub(super) fn resume(out: W, offset: u64, state: &State) -> Option<Self> {
        let hash = SerializableState::deserialize(&(*state).into()).ok()?;
        Some(Self { sink: Sink::of(Hashed { out, hash, size: offset }, offset) })
    }

    /// Appends `length` bytes that are entries already.
    pub(super) fn raw(&mut self, entries: &mut dyn Read, length: u64) -> io::Result<()> {
        if self.sink.copy(entries, length)? < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Where the next header will be.
    pub(super) fn offset(&self) -> u64 {
        self.sink.offset()
    }

    /// The hash of the plain tar up to some places, [`STATES`] bytes apart. Only of a layer that is not compressed.
    pub(super) fn states(&self) -> &[(u64, State)] {
        &self.sink.states
    }

    /// Completes the layer and flushes the output.
    ///
    /// # Errors
    /// What writing returns.
    pub fn finish(self) -> io::Result<Layer> {
        Ok(self.finish_into()?.0)
    }

    /// [`finish`](Self::finish), and gives the output back.
    ///
    /// # Errors
    /// What writing returns.
    pub fn finish_into(mut self) -> io::Result<(Layer, W)> {
        self.sink.buffer.resize(self.sink.buffer.len() + 2 * super::header::BLOCK, 0);
        self.sink.finish()
    }
}

/// Compresses a layer that exists as a plain tar.
///
/// # Errors
/// What reading and writing return.
pub fn compress_layer(plain: &mut dyn Read, out: impl Write, compression: Compression) -> io::Result<Layer> {
    let mut sink = Sink::new(out, compression)?;
    sink.copy(plain, u64::MAX)?;
    Ok(sink.finish()?.0)
}

/// A sha256 under way.
pub(super) type State = [u8; 104];

/// How far apart the states of the hash are that can be resumed from.
const STATES: u64 = if cfg!(test) { 256 << 10 } else { 8 << 20 };

/// Appends the header of one change, with the extension that it may need; returns how many bytes of content follow.
pub(super) fn header_of(change: &Change, out: &mut Vec<u8>) -> io::Result<u64> {
    let path = name::bytes(change.path());
    if !name::is_clean(path) {
        return Err(invalid(path, "the path is not clean"));
    }
    if name::is_reserved(path) {
        return Err(invalid(path, "names that begin with `.wh.` mean removals"));
    }
    let mut whiteout = |path: &[u8]| {
        Fields { path, kind: b'0', ..Fields::default() }.write(out, std::iter::empty());
        Ok(0)
    };
    match change {
        Change::Upsert(entry) => header_of_entry(entry, out),
        Change::Remove(_) if path.is_empty() => Err(invalid(path, "the root cannot be removed")),
        Change::Remove(_) => {
            let base = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
            whiteout(&[&path[..base], name::WHITEOUT, &path[base..]].concat())
        }
        Change::Opaque(_) if path.is_empty() => whiteout(name::OPAQUE),
        Change::Opaque(_) => whiteout(&[path, b"/", name::OPAQUE].concat()),
    }
}

fn header_of_entry(entry: &Entry, out: &mut Vec<u8>) -> io::Result<u64> {
    let path = name::bytes(&entry.path);
    let mut fields = Fields {
        path,
        mode: entry.mode & 0o7777,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime.seconds,
        ..Fields::default()
    };
    let directory_path;
    match &entry.kind {
        EntryKind::Directory => {
            directory_path = if path.is_empty() { b"./".to_vec() } else { [path, b"/"].concat() };
            fields.path = &directory_path;
            fields.kind = b'5';
        }
        _ if path.is_empty() => return Err(invalid(path, "the root is a directory")),
        EntryKind::File { size } => {
            fields.size = *size;
            fields.kind = b'0';
        }
        EntryKind::Symlink { target } => {
            fields.link = name::bytes(target);
            fields.kind = b'2';
        }
        EntryKind::Hardlink { target } => {
            fields.link = name::bytes(target);
            fields.kind = b'1';
            if fields.link.is_empty() || !name::is_clean(fields.link) || name::is_reserved(fields.link) {
                return Err(invalid(path, "the hard link's target is not a clean path"));
            }
        }
        EntryKind::CharDevice { major, minor } => {
            (fields.kind, fields.major, fields.minor) = (b'3', *major, *minor);
        }
        EntryKind::BlockDevice { major, minor } => {
            (fields.kind, fields.major, fields.minor) = (b'4', *major, *minor);
        }
        EntryKind::Fifo => fields.kind = b'6',
    }
    check(entry, &fields)?;
    let xattrs = entry.xattrs.iter().map(|(name, value)| (name.as_bytes(), value.as_slice()));
    fields.write(out, xattrs);
    Ok(fields.size)
}

fn check(entry: &Entry, fields: &Fields<'_>) -> io::Result<()> {
    // Seven octal digits; Linux has 12 bits of major and 20 of minor.
    if fields.major.max(fields.minor) >= 1 << 21 {
        return Err(invalid(name::bytes(&entry.path), "the device number is too large for a tar"));
    }
    if matches!(entry.kind, EntryKind::Symlink { .. }) && (fields.link.is_empty() || fields.link.contains(&0)) {
        return Err(invalid(name::bytes(&entry.path), "the symbolic link's target is empty or contains a NUL"));
    }
    let expressible = |name: &OsStr| !name.is_empty() && !name.as_bytes().iter().any(|byte| matches!(byte, b'=' | 0));
    if !entry.xattrs.keys().all(|name| expressible(name)) {
        return Err(invalid(name::bytes(&entry.path), "a tar cannot hold an attribute name with `=`"));
    }
    Ok(())
}

fn invalid(path: &[u8], problem: &str) -> io::Error {
    let text = format!("`{}` cannot be put into a layer: {problem}", String::from_utf8_lossy(path));
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// Where the plain tar goes: hashed, compressed, hashed again.
#[derive(Debug)]
struct Sink<W: Write> {
    buffer: Vec<u8>,
    /// Bytes that left the buffer.
    flushed: u64,
    compression: Compression,
    /// Hash of the plain bytes, unless they are the output.
    plain: Option<Sha256>,
    encoder: Encoder<W>,
    /// Of a plain layer.
    states: Vec<(u64, State)>,
}

impl<W: Write> Sink<W> {
    fn new(out: W, compression: Compression) -> io::Result<Self> {
        let out = Hashed { out, hash: Sha256::new(), size: 0 };
        let encoder = Encoder::new(out, compression)?;
        let plain = (compression != Compression::None).then(Sha256::new);
        let buffer = Vec::with_capacity(CHUNK + SLACK);
        Ok(Self { buffer, flushed: 0, compression, plain, encoder, states: Vec::new() })
    }

    /// Without a compressor, behind bytes that are there.
    fn of(out: Hashed<W>, flushed: u64) -> Self {
        let buffer = Vec::with_capacity(CHUNK + SLACK);
        let (compression, encoder) = (Compression::None, Encoder::Plain(out));
        Self { buffer, flushed, compression, plain: None, encoder, states: Vec::new() }
    }

    fn offset(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    /// Reads straight into the buffer; returns how much there was, at most `limit`.
    fn copy(&mut self, content: &mut dyn Read, limit: u64) -> io::Result<u64> {
        let mut copied = 0;
        while copied < limit {
            let room = (CHUNK - self.buffer.len()) as u64;
            let wanted = room.min(limit - copied);
            let got = content.take(wanted).read_to_end(&mut self.buffer)? as u64;
            copied += got;
            self.flush_if_full()?;
            if got < wanted {
                break;
            }
        }
        Ok(copied)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        pad(&mut self.buffer, size);
        self.flush_if_full()
    }

    fn flush_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(hash) = &mut self.plain {
            hash.update(&self.buffer);
        }
        self.encoder.write_all(&self.buffer)?;
        let before = self.flushed;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        if let Encoder::Plain(out) = &self.encoder {
            keep_state(&mut self.states, &out.hash, before, self.flushed);
        }
        Ok(())
    }

    /// Takes account of what comes into the output by other means. The buffer is empty.
    fn placed<E: From<io::Error>>(
        &mut self,
        place: impl FnOnce(&mut W, &mut dyn FnMut(&[u8])) -> Result<(), E>,
    ) -> Result<(), E> {
        let Encoder::Plain(Hashed { out, hash, size }) = &mut self.encoder else {
            return Err(io::Error::from(io::ErrorKind::Unsupported).into());
        };
        place(out, &mut |bytes| {
            hash.update(bytes);
            let before = self.flushed;
            self.flushed += bytes.len() as u64;
            *size += bytes.len() as u64;
            keep_state(&mut self.states, hash, before, self.flushed);
        })
    }

    fn finish(mut self) -> io::Result<(Layer, W)> {
        self.flush()?;
        let mut hashed = self.encoder.finish()?;
        hashed.out.flush()?;
        let digest = Digest::sha256(hashed.hash.finalize().into());
        let diff_id = self.plain.map_or(digest, |hash| Digest::sha256(hash.finalize().into()));
        let descriptor = Descriptor::new(self.compression.media_type(), digest, hashed.size);
        Ok((Layer { descriptor, diff_id, size: self.flushed }, hashed.out))
    }
}

/// Keeps the state of a hash if one is due between two offsets.
fn keep_state(states: &mut Vec<(u64, State)>, hash: &Sha256, before: u64, now: u64) {
    if before / STATES != now / STATES {
        states.push((now, hash.serialize().into()));
    }
}

enum Encoder<W: Write> {
    Plain(Hashed<W>),
    Gzip(GzipWriter<Hashed<W>>),
    Zstd(zstd::Encoder<'static, Hashed<W>>),
}

impl<W: Write> Encoder<W> {
    fn new(out: Hashed<W>, compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::Plain(out),
            Compression::Gzip(level @ 0..=9) => Self::Gzip(GzipWriter::new(out, level, threads())?),
            Compression::Zstd(level @ 1..=22) => {
                let mut encoder = zstd::Encoder::new(out, level)?;
                // With one worker or many zstd cuts its jobs the same; without any it would not.
                encoder.multithread(u32::try_from(threads().min(MOST_ZSTD)).unwrap_or(1))?;
                Self::Zstd(encoder)
            }
            Compression::Gzip(_) | Compression::Zstd(_) => {
                let text = format!("{compression:?} is not a compression level (gzip: 0 to 9, zstd: 1 to 22)");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        })
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.write_all(bytes),
            Self::Gzip(encoder) => encoder.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<Hashed<W>> {
        match self {
            Self::Plain(out) => Ok(out),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> std::fmt::Debug for Encoder<W> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Encoder")
    }
}

/// zstd's own threads have 16 MiB and more each, and so many compress faster than one can hash.
const MOST_ZSTD: usize = 6;

/// How many threads compress. The bytes do not depend on it.
fn threads() -> usize {
    // More than this many outrun every disk and network, and each has its buffers.
    const ENOUGH: usize = 16;
    std::thread::available_parallelism().map_or(1, usize::from).min(ENOUGH)
}

/// An output whose bytes are counted and hashed on the way.
#[derive(Debug)]
struct Hashed<W> {
    out: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What [`Encoder::new`] relies on.
    #[test]
    fn zstd_makes_the_same_bytes_with_any_number_of_workers() {
        let noise = |number: u32| (number.wrapping_mul(2_654_435_761) >> 13) as u8 & 0x1f;
        let data: Vec<u8> = (0..30_000_000).map(noise).collect();
        let pack = |workers, step| {
            let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
            encoder.multithread(workers).unwrap();
            data.chunks(step).for_each(|chunk| encoder.write_all(chunk).unwrap());
            encoder.finish().unwrap()
        };
        let expected = pack(1, 128 << 10);
        assert!(pack(2, 128 << 10) == expected && pack(7, 1_000_000) == expected);
    }
}
