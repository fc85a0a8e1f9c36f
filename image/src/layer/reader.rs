//! How does a tar that anybody may have written become changes?
//!
//! Old V7, ustar, PAX and GNU dialects. Sizes are never believed: content is handed out as far as it arrives, and
//! extension headers are read up to a limit. Nothing is interpreted beyond one entry: that a path passes through a
//! symbolic link, comes twice or lacks its parent is for whoever applies the changes.
//!
//! Leading slashes and `.` components are dropped; `..` is refused. Global PAX headers are ignored, as Go's
//! archive/tar does. The holes of sparse files are filled with NULs, as it does.

mod input;

use std::io::{self, BufReader, Read, Seek};
use std::path::PathBuf;

use super::header::{BLOCK, Header};
use super::name::{self, Meaning};
use super::pax::Records;
use super::sparse::{Announced, Map, MapText, OldMap};
use super::{Change, Entry, EntryKind, sparse};
use input::{Input, LARGEST_EXTENSION};

/// Iterates over the changes in a plain tar. Reads as much as is asked for and no more: give it a
/// [`io::BufReader`] if each read costs a system call.
#[derive(Debug)]
pub struct LayerReader<R> {
    input: Input<R>,
    whiteouts: Whiteouts,
    done: bool,
    /// Whether the block that ends an archive was read.
    ended: bool,
}

/// What a name that begins with `.wh.` means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Whiteouts {
    Removal,
    Literal,
}

/// Why a tar cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The input failed.
    #[error("cannot read the tar")]
    Read(#[source] io::Error),
    /// The input ends within an entry.
    #[error("the tar ends in the middle of an entry, at byte {0}")]
    Truncated(u64),
    /// No header where one must be.
    #[error("there is no tar header at byte {0}")]
    Header(u64),
    /// A number that is none, or is out of range.
    #[error("the tar header before byte {offset} has an invalid {field}")]
    Field {
        /// Just past the header.
        offset: u64,
        /// Which one.
        field: &'static str,
    },
    /// A number that the kernel gives to nobody.
    #[error("the tar header before byte {offset} has a {field} that nobody can have")]
    Owner {
        /// Just past the header.
        offset: u64,
        /// Which one.
        field: &'static str,
    },
    /// Extension headers of one entry, together more than a megabyte.
    #[error("the tar has extension headers of {0} bytes for one entry")]
    Extension(u64),
    /// A malformed PAX record.
    #[error("the tar has a malformed PAX header before byte {0}")]
    Pax(u64),
    /// A path that leaves the layer, or names nothing.
    #[error("the tar contains the path `{0}`")]
    Path(PathBuf),
    /// A hard link to a path that leaves the layer, or a symbolic link without a target.
    #[error("the tar links `{path}` to `{target}`")]
    Target {
        /// The link.
        path: PathBuf,
        /// What it says.
        target: PathBuf,
    },
    /// A sparse file whose holes are nowhere, or not where they can be.
    #[error("`{0}` is a sparse file whose map of holes is wrong")]
    Sparse(PathBuf),
    /// An entry type that we do not know.
    #[error("`{path}` has the tar entry type `{kind}`, which is not supported")]
    Kind {
        /// The entry.
        path: PathBuf,
        /// The type.
        kind: char,
    },
}

impl<R: Read> LayerReader<R> {
    /// Reads an OCI layer: names that begin with `.wh.` are removals.
    pub fn new(input: R) -> Self {
        Self {
            input: Input {
                inner: input,
                offset: 0,
                remaining: 0,
                padding: 0,
                dirty: false,
                length: 0,
                skip: |_, _| false,
                holes: None,
                map_length: 0,
            },
            whiteouts: Whiteouts::Removal,
            done: false,
            ended: false,
        }
    }

    /// Reads an archive that is no layer: every entry is an [`Change::Upsert`].
    pub fn literal(input: R) -> Self {
        Self { whiteouts: Whiteouts::Literal, ..Self::new(input) }
    }

    /// As [`literal`](Self::literal), from a file's begin on. What nobody reads of a content is not read from the file
    /// either, as long as it lies within the first `length` bytes, which are thought to be there.
    pub fn literal_in_file(input: BufReader<R>, length: u64) -> LayerReader<BufReader<R>>
    where
        R: Seek,
    {
        let mut reader = LayerReader::literal(input);
        reader.input.length = length;
        reader.input.skip = |input, count| i64::try_from(count).is_ok_and(|count| input.seek_relative(count).is_ok());
        reader
    }

    /// The next change and the content of its file (empty for everything else). What is not read of the content is
    /// skipped. After `None` the input stands just past the first block of the archive's end.
    ///
    /// # Errors
    /// See [`LayerError`]; the reader is of no use afterwards.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend its items")]
    pub fn next(&mut self) -> Result<Option<(Change, &mut dyn Read)>, LayerError> {
        while !self.done {
            self.input.skip_content()?;
            match self.next_entry()? {
                Step::End => self.done = true,
                Step::Skip => {}
                Step::Change(change) => return Ok(Some((change, &mut self.input))),
            }
        }
        Ok(None)
    }

    /// [`next`](Self::next), with the offset of the content in the tar. The content itself is [`content`](Self::content).
    ///
    /// # Errors
    /// As there.
    pub fn next_at(&mut self) -> Result<Option<(Change, u64)>, LayerError> {
        let change = self.next()?.map(|(change, _)| change);
        Ok(change.map(|change| (change, self.content_offset())))
    }

    /// What was not read yet of the last change's content.
    pub fn content(&mut self) -> &mut dyn Read {
        &mut self.input
    }

    /// Where in the tar the content of the last change begins, as long as none of it was read.
    pub fn content_offset(&self) -> u64 {
        self.input.offset
    }

    /// Whether the content of the last change is not one piece of the tar, but has holes.
    pub fn is_sparse(&self) -> bool {
        self.input.holes.is_some()
    }

    /// Whether something else than NULs followed the content of a file up to its block's end.
    pub fn has_dirty_padding(&self) -> bool {
        self.input.dirty
    }

    /// Whether the archive's own end was reached. After `None` and without it the input ended between two entries:
    /// others accept that, but it may have been cut off there.
    pub fn is_complete(&self) -> bool {
        self.ended
    }

    /// The input, for hashing what follows the archive's end.
    pub fn into_inner(self) -> R {
        self.input.inner
    }

    fn next_entry(&mut self) -> Result<Step, LayerError> {
        let mut records = Records::default();
        let (mut long_path, mut long_link) = (None, None);
        // Of all extension headers before one entry: there may be any number of them.
        let mut extensions = 0;
        let mut block = [0; BLOCK];
        loop {
            let start = self.input.offset;
            if !self.input.read_block(&mut block)? {
                return Ok(Step::End);
            }
            if block == [0; BLOCK] {
                self.ended = true;
                return Ok(Step::End);
            }
            let header = Header::new(&block).ok_or(LayerError::Header(start))?;
            let size = header.size().ok_or(self.field("size"))?;
            match header.kind() {
                b'x' => {
                    let data = self.input.read_extension(size, &mut extensions)?;
                    records = Records::default();
                    records.parse(&data).ok_or(LayerError::Pax(self.input.offset))?;
                }
                b'L' => long_path = Some(until_nul(self.input.read_extension(size, &mut extensions)?)),
                b'K' => long_link = Some(until_nul(self.input.read_extension(size, &mut extensions)?)),
                // Global headers; volume labels. To Go they are entries.
                b'g' | b'V' => {
                    self.input.expect(size);
                    self.input.skip_content()?;
                    (records, long_path, long_link) = (Records::default(), None, None);
                }
                _ => {
                    let long = |long: Option<Vec<u8>>| long.filter(|long| !long.is_empty());
                    let path = long(long_path).or(records.path.take()).unwrap_or_else(|| header.path());
                    let link = long(long_link).or(records.link.take()).unwrap_or_else(|| header.link().to_vec());
                    return self.entry(header, records, path, link);
                }
            }
        }
    }

    fn entry(
        &mut self,
        header: Header<'_>,
        mut records: Records,
        path: Vec<u8>,
        link: Vec<u8>,
    ) -> Result<Step, LayerError> {
        let is_old_directory = header.kind() == b'\0' && path.ends_with(b"/");
        let name = if header.kind() == b'S' { None } else { records.sparse.take_name() };
        let written = name.unwrap_or(path);
        let display = || name::path_buf(written.clone());
        let content = match records.size {
            Some(size) => size,
            None => header.size().ok_or(self.field("size"))?,
        };
        let holes = self.holes(header, &records.sparse, content, display)?;
        let size = holes.as_ref().map_or(content, Map::size);
        let path = name::clean(&written).ok_or_else(|| LayerError::Path(display()))?;
        let target = || name::path_buf(link.clone());
        let bad_target = || LayerError::Target { path: display(), target: target() };
        let kind = match header.kind() {
            b'\0' if is_old_directory => EntryKind::Directory,
            b'0' | b'\0' | b'7' | b'S' => EntryKind::File { size },
            b'1' => {
                let clean = name::clean(&link).filter(|link| !link.is_empty()).ok_or_else(bad_target)?;
                EntryKind::Hardlink { target: name::path_buf(clean) }
            }
            b'2' if link.is_empty() || link.contains(&0) => return Err(bad_target()),
            b'2' => EntryKind::Symlink { target: target() },
            kind @ (b'3' | b'4') => {
                let (major, minor) = header.device().ok_or(self.field("device number"))?;
                match kind {
                    b'3' => EntryKind::CharDevice { major, minor },
                    _ => EntryKind::BlockDevice { major, minor },
                }
            }
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            other => return Err(LayerError::Kind { path: display(), kind: char::from(other) }),
        };
        // A size on anything but a file means nothing: there is no content (as in Go's archive/tar).
        if holes.is_some() && !matches!(kind, EntryKind::File { .. }) {
            return Err(LayerError::Sparse(display()));
        }
        if matches!(kind, EntryKind::File { .. }) {
            // What is left of it behind a map.
            self.input.expect(content - self.input.map_length);
            self.input.holes = holes;
        }
        if path.is_empty() && kind != EntryKind::Directory {
            return Err(LayerError::Path(display()));
        }
        let meaning = match self.whiteouts {
            Whiteouts::Removal => name::meaning(&path).ok_or_else(|| LayerError::Path(display()))?,
            Whiteouts::Literal => Meaning::File,
        };
        let change = match meaning {
            Meaning::Nothing => return Ok(Step::Skip),
            Meaning::Remove(path) => Change::Remove(path),
            Meaning::Opaque(path) => Change::Opaque(path),
            Meaning::File => Change::Upsert(Entry {
                path: name::path_buf(path),
                kind,
                mode: header.mode().ok_or(self.field("mode"))?,
                uid: self.id(records.uid.or(header.uid()), "uid")?,
                gid: self.id(records.gid.or(header.gid()), "gid")?,
                mtime: records.mtime.or(header.mtime()).ok_or(self.field("mtime"))?,
                xattrs: records.xattrs,
            }),
        };
        if !matches!(change, Change::Upsert(_)) {
            self.input.skip_content()?;
        }
        Ok(Step::Change(change))
    }

    /// The holes of a sparse file. Afterwards the input stands where its pieces begin.
    fn holes(
        &mut self,
        header: Header<'_>,
        records: &sparse::Records,
        content: u64,
        path: impl Fn() -> PathBuf,
    ) -> Result<Option<Map>, LayerError> {
        self.input.map_length = 0;
        let wrong = || LayerError::Sparse(path());
        let mut block = [0; BLOCK];
        let mut next = |input: &mut Input<R>, length: &mut u64| {
            *length += BLOCK as u64;
            if *length > LARGEST_EXTENSION {
                return Err(LayerError::Extension(*length));
            }
            if input.read_block(&mut block)? { Ok(block) } else { Err(LayerError::Truncated(input.offset)) }
        };
        if header.kind() == b'S' {
            // Others put something else in the map's place.
            let mut map = header.is_gnu().then(|| OldMap::new(header.block())).flatten().ok_or_else(wrong)?;
            let mut length = 0;
            while map.has_more() {
                map.add(&next(&mut self.input, &mut length)?).ok_or_else(wrong)?;
            }
            return map.finish(content).map(Some).ok_or_else(wrong);
        }
        match records.announced(content) {
            Announced::Nothing => Ok(None),
            Announced::Known(map) => Ok(Some(map)),
            Announced::InContent(size) => {
                let (mut text, mut length) = (MapText::default(), 0);
                loop {
                    if length >= content {
                        return Err(wrong());
                    }
                    if text.add(&next(&mut self.input, &mut length)?).ok_or_else(wrong)? {
                        break;
                    }
                }
                self.input.map_length = length;
                let rest = content.checked_sub(length).ok_or_else(wrong)?;
                text.finish(size, rest).map(Some).ok_or_else(wrong)
            }
            Announced::Wrong => Err(wrong()),
        }
    }

    fn id(&self, value: Option<u64>, field: &'static str) -> Result<u32, LayerError> {
        let id = value.ok_or(self.field(field))?.try_into().ok();
        // The largest means "nobody" to the kernel.
        id.filter(|id| *id != u32::MAX).ok_or(LayerError::Owner { offset: self.input.offset, field })
    }

    fn field(&self, field: &'static str) -> LayerError {
        LayerError::Field { offset: self.input.offset, field }
    }
}

enum Step {
    End,
    Skip,
    Change(Change),
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
        bytes.truncate(end);
    }
    bytes
}
