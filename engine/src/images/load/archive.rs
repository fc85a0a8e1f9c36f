//! What is in an archive of images, or in a directory of the same shape?

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path};

use rbuild_image::Descriptor;
use rustix::fs::{Mode, OFlags};

use crate::error::Error;
use crate::files::{InnerPath, Root, Tree};

/// The most that an index, a manifest or a configuration in an archive may have.
const LARGEST_JSON: u64 = 8 << 20;

fn decompressed(file: impl Read + Send) -> Result<impl Read + Send, Error> {
    rbuild_image::archive::decompress(file).map_err(|source| Error::Stream { action: "read the archive", source })
}

/// Files by their paths.
#[derive(Debug)]
pub(super) enum Archive {
    /// A plain tar in a file without a name, and where each entry's content lies in it.
    Tar { file: File, entries: BTreeMap<String, (u64, u64)> },
    /// A directory that no path leads out of.
    Directory(Root),
}

impl Archive {
    /// Writes it to a file first: an index may come after what it names.
    pub(super) fn open(archive: &mut (dyn Read + Send)) -> Result<Self, Error> {
        let failed = |source| Error::Stream { action: "read the archive", source };
        let mut plain = decompressed(archive)?;
        let mut file = tempfile::tempfile().map_err(failed)?;
        io::copy(&mut plain, &mut file).map_err(failed)?;
        file.rewind().map_err(failed)?;
        let mut entries = BTreeMap::new();
        let mut links = Vec::new();
        let mut tar = tar::Archive::new(&file);
        for entry in tar.entries_with_seek().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Some(name) = clean(&entry.path().map_err(failed)?) else { continue };
            match entry.header().entry_type() {
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    entries.insert(name, (entry.raw_file_position(), entry.size()));
                }
                // Older archives of Docker name a layer they have already by a link.
                tar::EntryType::Symlink | tar::EntryType::Link => {
                    let target = entry.link_name().map_err(failed)?.unwrap_or_default();
                    let base = if entry.header().entry_type() == tar::EntryType::Symlink {
                        Path::new(&name).parent().unwrap_or(Path::new("")).join(target)
                    } else {
                        target.into_owned()
                    };
                    links.push((name, base));
                }
                _ => {}
            }
        }
        for (name, target) in links {
            if let Some(place) = clean(&target).and_then(|target| entries.get(&target).copied()) {
                entries.insert(name, place);
            }
        }
        Ok(Self::Tar { file, entries })
    }

    /// Looks files up in a directory.
    pub(super) fn directory(path: &Path) -> Result<Self, Error> {
        Root::open(path).map(Self::Directory).map_err(Error::file("open", path))
    }

    /// Whether it has an entry of this name.
    pub(super) fn contains(&self, name: &str) -> bool {
        match self {
            Self::Tar { entries, .. } => entries.contains_key(name),
            Self::Directory(root) => root.node(&InnerPath::new(name)).is_ok_and(|node| node.is_some()),
        }
    }

    /// The content of an entry.
    pub(super) fn open_entry(&self, name: &str) -> Result<io::Take<io::BufReader<File>>, Error> {
        let missing = || {
            let missing = io::Error::new(io::ErrorKind::NotFound, format!("there is no `{name}` in it"));
            Error::malformed("archive", "images", missing)
        };
        let failed = |source| Error::Stream { action: "read the archive", source };
        let (file, size) = match self {
            Self::Tar { file, entries } => {
                let key = clean(Path::new(name)).unwrap_or_default();
                let (start, size) = *entries.get(&key).ok_or_else(missing)?;
                let mut file = file.try_clone().map_err(failed)?;
                file.seek(SeekFrom::Start(start)).map_err(failed)?;
                (file, size)
            }
            Self::Directory(root) => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
                let opened = root.open_inside(&InnerPath::new(name), flags, Mode::empty());
                let file = File::from(opened.map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => missing(),
                    _ => failed(error),
                })?);
                let metadata = file.metadata().map_err(failed)?;
                if !metadata.is_file() {
                    return Err(missing());
                }
                (file, metadata.len())
            }
        };
        Ok(io::BufReader::with_capacity(1 << 18, file).take(size))
    }

    /// The whole of a small entry.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let entry = self.open_entry(name)?;
        if entry.limit() > LARGEST_JSON {
            let size = io::Error::new(io::ErrorKind::InvalidData, format!("it has {} bytes", entry.limit()));
            return Err(Error::malformed("archive", name, size));
        }
        let failed = |source| Error::Stream { action: "read the archive", source };
        entry.take(LARGEST_JSON).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    /// A small blob of an OCI image layout, which is what its descriptor says.
    pub(super) fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let bytes = self.read(&rbuild_image::layout::blob_path(&descriptor.digest))?;
        let found = rbuild_image::sha256(&bytes);
        if found != descriptor.digest {
            let unlike = io::Error::new(io::ErrorKind::InvalidData, format!("its content is {found}"));
            return Err(Error::malformed("blob", descriptor.digest, unlike));
        }
        Ok(bytes)
    }

    /// A small entry, parsed.
    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, Error> {
        serde_json::from_slice(&self.read(name)?).map_err(|source| Error::malformed("archive", name, source))
    }
}

/// A path inside an archive without `.`; `None` if it leads anywhere else.
fn clean(path: &Path) -> Option<String> {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str()?.to_owned()),
            Component::CurDir => {}
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, &[u8])]) -> Archive {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, *content).unwrap();
        }
        Archive::open(&mut &tar.into_inner().unwrap()[..]).unwrap()
    }

    #[test]
    fn entries_are_found_by_their_clean_names() {
        let archive = archive(&[("./a/b", b"content")]);
        assert_eq!(archive.read("a/x/../b").unwrap(), b"content");
        for name in ["a", "../a/b", "/a/b", ""] {
            assert!(archive.read(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_blob_must_have_its_digest() {
        let right = Descriptor::of("text/plain", b"right");
        let path = rbuild_image::layout::blob_path(&right.digest);
        assert_eq!(archive(&[(&path, b"right")]).blob(&right).unwrap(), b"right");
        assert!(matches!(archive(&[(&path, b"wrong")]).blob(&right), Err(Error::Malformed { what: "blob", .. })));
    }

    #[test]
    fn what_is_too_large_for_memory_is_refused() {
        let large = vec![0; usize::try_from(LARGEST_JSON).unwrap() + 1];
        assert!(archive(&[("large", &large)]).read("large").is_err());
    }
}
