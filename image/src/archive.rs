//! Are these bytes an archive, and how are they decompressed?
//!
//! Formats are told by their first bytes, never by a name. Multi-member gzip, multi-frame zstd, multi-stream bzip2 and
//! multi-stream xz are read as one stream, as the tools that write them in parallel require.

use std::fmt;
use std::io::{self, BufReader, Cursor, Read};

use crate::layer::is_tar_header;

/// How some bytes are compressed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Format {
    /// Not, as far as we can tell.
    Plain,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
}

impl Format {
    /// What its own program is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "nothing",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
        }
    }

    /// How many bytes [`detect`](Self::detect) needs to see.
    pub const MAGIC: usize = 6;

    /// Tells the format by the first bytes.
    pub fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::Plain,
        }
    }
}

/// What decoders read from.
type Peeked<R> = BufReader<io::Chain<Cursor<Vec<u8>>, R>>;

/// The decompressed form of a reader. Made by [`decompress`].
pub struct Decompressed<R: Read> {
    format: Format,
    decoder: Decoder<R>,
}

enum Decoder<R: Read> {
    Plain(io::Chain<Cursor<Vec<u8>>, R>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<Peeked<R>>>),
    Zstd(Box<zstd::Decoder<'static, Peeked<R>>>),
    Bzip2(Box<bzip2::bufread::MultiBzDecoder<Peeked<R>>>),
    Xz(Box<lzma_rust2::XzReader<Peeked<R>>>),
}

impl<R: Read> Decompressed<R> {
    /// What was detected.
    pub fn format(&self) -> Format {
        self.format
    }
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.decoder {
            Decoder::Plain(decoder) => decoder.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Zstd(decoder) => decoder.read(buffer),
            Decoder::Bzip2(decoder) => decoder.read(buffer),
            Decoder::Xz(decoder) => decoder.read(buffer),
        }
    }
}

impl<R: Read> fmt::Debug for Decompressed<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Decompressed").field("format", &self.format).finish_non_exhaustive()
    }
}

/// Decompresses whatever `reader` turns out to hold; bytes of no known format come out as they are.
///
/// # Errors
/// What reading the first bytes returns.
pub fn decompress<R: Read>(mut reader: R) -> io::Result<Decompressed<R>> {
    let start = read_start(&mut reader, Format::MAGIC)?;
    let format = Format::detect(&start);
    let chain = Cursor::new(start).chain(reader);
    let buffered = |chain| BufReader::with_capacity(64 << 10, chain);
    let decoder = match format {
        Format::Plain => Decoder::Plain(chain),
        Format::Gzip => Decoder::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(buffered(chain)))),
        Format::Zstd => Decoder::Zstd(Box::new(zstd::Decoder::with_buffer(buffered(chain))?)),
        Format::Bzip2 => Decoder::Bzip2(Box::new(bzip2::bufread::MultiBzDecoder::new(buffered(chain)))),
        Format::Xz => Decoder::Xz(Box::new(lzma_rust2::XzReader::new(buffered(chain), true))),
    };
    Ok(Decompressed { format, decoder })
}

/// A tar archive, decompressed. Made by [`open`].
#[derive(Debug)]
pub struct Archive<R: Read>(io::Chain<Cursor<Vec<u8>>, Decompressed<R>>);

impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

/// The tar in `reader`, compressed or not; `None` if there is none, whatever else there is. An archive without
/// entries is none. To be read with [`crate::LayerReader::literal`].
///
/// # Errors
/// What the operating system returns for reading. Bytes that do not decompress are no archive.
pub fn open<R: Read>(reader: R) -> io::Result<Option<Archive<R>>> {
    let start = decompress(reader).and_then(|mut plain| Ok((read_start(&mut plain, 512)?, plain)));
    match start {
        Ok((start, plain)) if is_tar_header(&start) => Ok(Some(Archive(Cursor::new(start).chain(plain)))),
        Ok(_) => Ok(None),
        Err(error) if error.raw_os_error().is_some() => Err(error),
        Err(_) => Ok(None),
    }
}

/// What a stream turned out to hold. Made by [`sniff`].
#[derive(Debug)]
pub enum Sniffed<R: Read> {
    /// A tar, to be read with [`crate::LayerReader::literal`]; one without entries, too.
    Tar(Archive<Peek<R>>),
    /// Something compressed that is no tar.
    Compressed(Format),
    /// Anything else: all of it, from its first byte.
    Other(Peek<R>),
}

/// A reader whose first bytes were looked at.
pub type Peek<R> = io::Chain<Cursor<Vec<u8>>, R>;

/// Tells a tar, compressed or not, from everything else, by the first bytes of `reader`.
///
/// # Errors
/// What the operating system returns for reading.
pub fn sniff<R: Read>(mut reader: R) -> io::Result<Sniffed<R>> {
    let start = read_start(&mut reader, 512)?;
    let format = Format::detect(&start);
    // An archive's end, and so one that has nothing else.
    let ends = start == [0; 512];
    let is_tar = ends || is_tar_header(&start);
    let whole = Cursor::new(start).chain(reader);
    match format {
        Format::Plain if is_tar => {
            let plain = Decompressed { format, decoder: Decoder::Plain(Cursor::new(Vec::new()).chain(whole)) };
            Ok(Sniffed::Tar(Archive(Cursor::new(Vec::new()).chain(plain))))
        }
        Format::Plain => Ok(Sniffed::Other(whole)),
        Format::Gzip | Format::Zstd | Format::Bzip2 | Format::Xz => {
            Ok(open(whole)?.map_or(Sniffed::Compressed(format), Sniffed::Tar))
        }
    }
}

fn read_start(reader: &mut impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(limit);
    reader.take(limit as u64).read_to_end(&mut start)?;
    Ok(start)
}
