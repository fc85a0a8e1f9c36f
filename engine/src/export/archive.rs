//! How does an image become one file?
//!
//! An OCI image layout in a tar archive. With Docker's `manifest.json` beside `index.json` it is what `docker save`
//! writes today and every `docker load` reads. Entries have fixed owners, modes and times: same image, same bytes.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use rbuild_core::Digest;

/// Writes the entries of one archive.
pub(crate) struct ArchiveWriter<W: Write> {
    out: tar::Builder<W>,
    directories: BTreeSet<&'static str>,
    blobs: BTreeSet<Digest>,
}

impl<W: Write> ArchiveWriter<W> {
    pub(crate) fn new(out: W) -> Self {
        let mut out = tar::Builder::new(out);
        out.mode(tar::HeaderMode::Deterministic);
        Self { out, directories: BTreeSet::new(), blobs: BTreeSet::new() }
    }

    /// Adds a blob of `size` bytes; one that is already there is left alone.
    pub(crate) fn blob(&mut self, digest: &Digest, size: u64, content: impl Read) -> io::Result<()> {
        for directory in ["blobs/", "blobs/sha256/"] {
            if self.directories.insert(directory) {
                self.entry(directory, tar::EntryType::Directory, 0o755, 0, io::empty())?;
            }
        }
        if self.blobs.insert(*digest) {
            self.entry(&blob_path(digest), tar::EntryType::Regular, 0o444, size, content)?;
        }
        Ok(())
    }

    /// Adds a small file at the archive's root.
    pub(crate) fn file(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.entry(name, tar::EntryType::Regular, 0o444, content.len() as u64, content)
    }

    /// Ends the archive.
    pub(crate) fn finish(self) -> io::Result<W> {
        let mut out = self.out.into_inner()?;
        out.flush()?;
        Ok(out)
    }

    fn entry(&mut self, path: &str, kind: tar::EntryType, mode: u32, size: u64, content: impl Read) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        let mut counted = content.take(size);
        self.out.append_data(&mut header, path, &mut counted)?;
        match counted.limit() {
            0 => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the blob is shorter than its descriptor says")),
        }
    }
}

/// Where a blob lies in an OCI image layout.
pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_written_once_and_must_have_its_size() {
        let digest = Digest::sha256([7; 32]);
        let mut archive = ArchiveWriter::new(Vec::new());
        archive.blob(&digest, 3, &b"abc"[..]).unwrap();
        archive.blob(&digest, 3, &b"abc"[..]).unwrap();
        archive.file("index.json", b"{}").unwrap();
        let bytes = archive.finish().unwrap();
        let mut reader = tar::Archive::new(&bytes[..]);
        let names: Vec<_> =
            reader.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(names, ["blobs/", "blobs/sha256/", &blob_path(&digest), "index.json"]);
        let short = ArchiveWriter::new(Vec::new()).blob(&digest, 4, &b"abc"[..]).unwrap_err();
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
    }
}
