//! Where are the holes of a sparse file in a tar?
//!
//! A map lists the pieces that are there, in order; everything between them is NULs, up to the file's size. The pieces
//! stand in the tar one after the other, as the entry's content.
//!
//! ```text
//! type `S`     map in the header, from byte 386: 4 × (offset 12, length 12), more 1, size 12; then blocks with
//!              21 × (offset 12, length 12), more 1, while there are more
//! PAX 0.0      records GNU.sparse.offset and GNU.sparse.numbytes in turn, GNU.sparse.numblocks and GNU.sparse.size
//! PAX 0.1      record GNU.sparse.map: all of them with commas; numblocks, size, name
//! PAX 1.0      GNU.sparse.major=1, minor=0, realsize, name; the map is the content's beginning: a line with a number for
//!              how many there are, offset, length, offset, …, and NULs up to the end of a block
//! ```
//!
//! What Docker does with such entries is what Go's archive/tar does: it fills in the NULs. A map that overlaps, leads out
//! of the file or does not fit the content is refused there and here. Records of a version that nobody knows mean
//! nothing, there and here: the entry is what its content is.

use super::header::{BLOCK, parse_number};

/// A place in a file, and so many bytes from there on.
type Piece = (u64, u64);

/// What the PAX records of an entry say about its holes. An empty text is as good as none.
#[derive(Debug, Default)]
pub(super) struct Records {
    major: Vec<u8>,
    minor: Vec<u8>,
    size: Vec<u8>,
    real_size: Vec<u8>,
    name: Vec<u8>,
    blocks: Vec<u8>,
    map: Vec<u8>,
    /// The same from records of its own, which go before a map.
    pieces: Vec<u8>,
    /// How many numbers these are.
    count: usize,
}

/// Which kind of sparse file the records announce.
pub(super) enum Announced {
    /// None.
    Nothing,
    /// The map is known.
    Known(Map),
    /// The map is the beginning of the content; the file has this size.
    InContent(u64),
    /// One that makes no sense.
    Wrong,
}

impl Records {
    /// Takes the record of `key`, what stands behind `GNU.sparse.`; `None` if it stands in the wrong place.
    pub(super) fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let field = match key {
            b"major" => &mut self.major,
            b"minor" => &mut self.minor,
            b"size" => &mut self.size,
            b"realsize" => &mut self.real_size,
            b"name" => &mut self.name,
            b"numblocks" => &mut self.blocks,
            b"map" => &mut self.map,
            b"offset" if self.count.is_multiple_of(2) => return self.add(value),
            b"numbytes" if !self.count.is_multiple_of(2) => return self.add(value),
            b"offset" | b"numbytes" => return None,
            _ => return Some(()),
        };
        *field = value.to_vec();
        Some(())
    }

    fn add(&mut self, number: &[u8]) -> Option<()> {
        if self.count > 0 {
            self.pieces.push(b',');
        }
        self.pieces.extend_from_slice(number);
        self.count += 1;
        (!number.contains(&b',')).then_some(())
    }

    fn map(&self) -> &[u8] {
        if self.count == 0 { &self.map } else { &self.pieces }
    }

    /// Where the map is, if there is one.
    fn place(&self) -> Option<Place> {
        match (&self.major[..], &self.minor[..]) {
            (b"0", b"0" | b"1") => Some(Place::Records),
            (b"1", b"0") => Some(Place::Content),
            (b"", b"") if !self.map().is_empty() => Some(Place::Records),
            _ => None,
        }
    }

    /// What the file is really called, if it is sparse.
    pub(super) fn take_name(&mut self) -> Option<Vec<u8>> {
        self.place()?;
        Some(std::mem::take(&mut self.name)).filter(|name| !name.is_empty())
    }

    /// `content` is the size of what the tar has of the file.
    pub(super) fn announced(&self, content: u64) -> Announced {
        let Some(place) = self.place() else { return Announced::Nothing };
        let size = [&self.size, &self.real_size].into_iter().find(|size| !size.is_empty());
        let Some(size) = size.map_or(Some(content), |size| decimal(size)) else { return Announced::Wrong };
        match place {
            Place::Content => Announced::InContent(size),
            Place::Records => self.read_map(size, content).map_or(Announced::Wrong, Announced::Known),
        }
    }

    fn read_map(&self, size: u64, content: u64) -> Option<Map> {
        let numbers = self.map().split(|byte| *byte == b',').filter(|_| !self.map().is_empty());
        let numbers = numbers.map(decimal).collect::<Option<Vec<_>>>()?;
        let count = decimal(&self.blocks)?.checked_mul(2)?;
        let pieces = || numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        if count == numbers.len() as u64 { Map::new(pieces(), size, content) } else { None }
    }
}

/// Where a map is.
enum Place {
    Records,
    Content,
}

/// The pieces of a file, and how far it has been read.
#[derive(Debug)]
pub(super) struct Map {
    pieces: std::vec::IntoIter<Piece>,
    /// The piece that is read now or next.
    current: Option<Piece>,
    at: u64,
    size: u64,
}

/// What comes next in a file.
pub(super) enum Next {
    /// So many NULs.
    Hole(u64),
    /// So many bytes of the tar.
    Data(u64),
    End,
}

impl Map {
    /// `None` if it makes no sense, or the content has another length than all pieces.
    fn new(pieces: Vec<Piece>, size: u64, content: u64) -> Option<Self> {
        let (mut end, mut total) = (0_u64, 0_u64);
        for (offset, length) in &pieces {
            if *offset < end {
                return None;
            }
            end = offset.checked_add(*length).filter(|end| *end <= size)?;
            total += length;
        }
        // Larger than any file can be.
        let fits = total == content && i64::try_from(size).is_ok();
        let mut pieces = pieces.into_iter();
        fits.then(|| Self { current: pieces.next(), pieces, at: 0, size })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn next(&mut self) -> Next {
        loop {
            match self.current {
                Some((offset, length)) if self.at == offset + length => self.current = self.pieces.next(),
                Some((offset, length)) if self.at >= offset => return Next::Data(offset + length - self.at),
                Some((offset, _)) => return Next::Hole(offset - self.at),
                None if self.at == self.size => return Next::End,
                None => return Next::Hole(self.size - self.at),
            }
        }
    }

    pub(super) fn advance(&mut self, count: u64) {
        self.at += count;
    }
}

/// The map in a header of type `S` and the blocks after it.
#[derive(Debug)]
pub(super) struct OldMap {
    pieces: Vec<Piece>,
    size: u64,
    more: bool,
}

impl OldMap {
    /// From the header.
    pub(super) fn new(header: &[u8; BLOCK]) -> Option<Self> {
        let mut map = Self { pieces: Vec::new(), size: number(&header[483..495])?, more: header[482] != 0 };
        map.extend(&header[386..482])?;
        Some(map)
    }

    /// Whether another block belongs to it.
    pub(super) fn has_more(&self) -> bool {
        self.more
    }

    /// Takes that block.
    pub(super) fn add(&mut self, block: &[u8; BLOCK]) -> Option<()> {
        self.more = block[504] != 0;
        self.extend(&block[..504])
    }

    fn extend(&mut self, fields: &[u8]) -> Option<()> {
        for field in fields.chunks_exact(24).take_while(|field| field[0] != 0) {
            self.pieces.push((number(&field[..12])?, number(&field[12..])?));
        }
        Some(())
    }

    pub(super) fn finish(self, content: u64) -> Option<Map> {
        Map::new(self.pieces, self.size, content)
    }
}

/// A map at the beginning of a content, line by line.
#[derive(Debug, Default)]
pub(super) struct MapText {
    line: Vec<u8>,
    wanted: Option<u64>,
    numbers: Vec<u64>,
}

impl MapText {
    /// Takes a block; whether it was the last. `None` if it is malformed.
    pub(super) fn add(&mut self, block: &[u8; BLOCK]) -> Option<bool> {
        for byte in block {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let number = decimal(&std::mem::take(&mut self.line))?;
            match self.wanted {
                None => self.wanted = Some(number.checked_mul(2)?),
                Some(_) => self.numbers.push(number),
            }
            if self.wanted == Some(self.numbers.len() as u64) {
                return Some(true);
            }
        }
        Some(false)
    }

    /// `content` is what is left of the content behind the map.
    pub(super) fn finish(self, size: u64, content: u64) -> Option<Map> {
        Map::new(self.numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect(), size, content)
    }
}

fn number(field: &[u8]) -> Option<u64> {
    parse_number(field)?.try_into().ok()
}

/// With a sign, perhaps, and any number of zeros.
fn decimal(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse::<i64>().ok()?.try_into().ok()
}
