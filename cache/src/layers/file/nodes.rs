//! Which files are in a layer that is a file, without having all metadata in memory?

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use rbuild_image::erofs::{ErofsBytes, ErofsImage, ErofsNode, ErofsNodes, MalformedErofs};

use super::{LayerFile, Part};

/// How much of the metadata is in memory.
const WINDOW: u64 = 8 << 10;

impl LayerFile {
    /// Everything in the layer, in canonical order, the root first. Nothing follows an error.
    pub(in super::super) fn nodes(&self) -> io::Result<LayerNodes> {
        let window = Window {
            file: self.file.try_clone()?,
            start: self.header.metadata_offset,
            length: self.header.metadata_length,
            bytes: Vec::new(),
            at: 0,
        };
        let image = ErofsImage::new(&self.superblock, window, self.header.metadata_offset);
        Ok(LayerNodes(image.map_err(unreadable)?.into_nodes()))
    }
}

/// Goes through the files of a layer, see [`LayerFile::nodes`].
#[derive(Debug)]
pub(in super::super) struct LayerNodes(ErofsNodes<Window>);

impl Iterator for LayerNodes {
    type Item = io::Result<ErofsNode>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|node| node.map_err(unreadable))
    }
}

fn unreadable(error: MalformedErofs) -> io::Error {
    match error {
        MalformedErofs::Read(error) => error,
        error @ MalformedErofs::Damaged(_) => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}

/// The metadata of a file, of which a window is in memory: files of one directory lie beside each other.
#[derive(Debug)]
struct Window {
    file: File,
    start: u64,
    length: u64,
    bytes: Vec<u8>,
    /// Where the window begins.
    at: u64,
}

impl ErofsBytes for Window {
    fn length(&self) -> u64 {
        self.length
    }

    fn read(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        if buffer.len() >= WINDOW as usize {
            return self.file.read_exact_at(buffer, self.start + at);
        }
        let end = at + buffer.len() as u64;
        if at < self.at || end > self.at + self.bytes.len() as u64 {
            self.bytes.clear();
            let length = WINDOW.min(self.length.saturating_sub(at));
            Part::new(&self.file, self.start + at, length).read_to_end(&mut self.bytes)?;
            self.at = at;
        }
        let from = (at - self.at) as usize;
        let there = self.bytes.get(from..).and_then(|bytes| bytes.get(..buffer.len()));
        buffer.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}
