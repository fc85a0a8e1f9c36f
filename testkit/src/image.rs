//! What is in an image archive?
//!
//! An OCI archive is read with nothing of the code under test, checked (every blob has the digest it is called by, every
//! layer the diff ID that the configuration gives it), and its layers are put on top of each other: what is left is the
//! tree a container would see, as a list that two builds can be compared by.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tar::{Archive, EntryType};

/// Every path of a file system with what is there; paths have no slash at either end, and the root itself is left out.
pub type Tree = BTreeMap<String, Node>;

/// An image, taken apart.
#[derive(Clone, Debug)]
pub struct Image {
    /// The manifest.
    pub manifest: Value,
    /// The configuration.
    pub config: Value,
    /// What each layer says, whiteouts included, in the order of its archive.
    pub layers: Vec<Vec<(String, Node)>>,
}

/// One file of an image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
}

/// What a file is, with what distinguishes it from others of its kind.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A file with content.
    Regular {
        /// Length in bytes.
        size: u64,
        /// Hash of the content, in hexadecimal digits.
        sha256: String,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink(String),
    /// Another name of a file; a finished tree has none.
    Hardlink(String),
    /// A device or pipe: the letter that `ls` shows, major and minor number.
    Special(char, u32, u32),
}

impl Image {
    /// Reads and checks an OCI archive with one image.
    pub fn read(archive: &Path) -> Result<Self> {
        let mut blobs = HashMap::new();
        let mut index = None;
        for entry in Archive::new(File::open(archive)?).entries()? {
            let mut entry = entry?;
            let path = entry.path()?.to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            if let Some(hex) = path.strip_prefix("blobs/sha256/").filter(|hex| !hex.is_empty()) {
                ensure!(sha256(&bytes) == hex, "the blob `{hex}` has another digest");
                blobs.insert(format!("sha256:{hex}"), bytes);
            } else if path == "index.json" {
                index = Some(serde_json::from_slice::<Value>(&bytes)?);
            }
        }
        let index = index.context("there is no `index.json`")?;
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().context("a descriptor without a digest")?;
            let bytes = blobs.get(digest).with_context(|| format!("there is no blob `{digest}`"))?;
            ensure!(descriptor["size"] == bytes.len(), "the blob `{digest}` has another size");
            Ok(bytes)
        };
        let manifests = index["manifests"].as_array().context("`index.json` lists nothing")?;
        ensure!(manifests.len() == 1, "`index.json` lists {} manifests", manifests.len());
        let manifest: Value = serde_json::from_slice(blob(&manifests[0])?)?;
        let config: Value = serde_json::from_slice(blob(&manifest["config"])?)?;
        let descriptors = manifest["layers"].as_array().context("the manifest has no layers")?;
        let diff_ids = config["rootfs"]["diff_ids"].as_array().context("the configuration has no diff IDs")?;
        ensure!(descriptors.len() == diff_ids.len(), "{} layers, {} diff IDs", descriptors.len(), diff_ids.len());
        let mut layers = Vec::new();
        for (descriptor, diff_id) in descriptors.iter().zip(diff_ids) {
            let tar = decompress(blob(descriptor)?)?;
            ensure!(*diff_id == format!("sha256:{}", sha256(&tar)), "a layer has another diff ID than {diff_id}");
            layers.push(entries(&tar)?);
        }
        Ok(Self { manifest, config, layers })
    }

    /// The layers on top of each other.
    pub fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        for layer in &self.layers {
            apply(&mut tree, layer);
        }
        tree
    }

    /// What the container's configuration says about one thing, such as `Env`.
    pub fn setting(&self, name: &str) -> &Value {
        &self.config["config"][name]
    }
}

/// The tree below a directory of this machine.
pub fn of_directory(directory: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    walk(directory, "", &mut tree)?;
    Ok(tree)
}

/// Lines for paths that only one of two trees has, or that differ: `- ` for the first, `+ ` for the second.
pub fn differences(first: &Tree, second: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    for path in first.keys().chain(second.keys().filter(|path| !first.contains_key(*path))) {
        let (before, after) = (first.get(path), second.get(path));
        if before != after {
            lines.extend(before.map(|node| format!("- {path} {node}")));
            lines.extend(after.map(|node| format!("+ {path} {node}")));
        }
    }
    lines
}

fn apply(tree: &mut Tree, layer: &[(String, Node)]) {
    // Whiteouts speak of the layers below, wherever they stand in their own.
    for (path, _) in layer {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let below = |name: &str| if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") };
        if name == ".wh..wh..opq" {
            remove(tree, parent, false);
        } else if let Some(name) = name.strip_prefix(".wh.") {
            remove(tree, &below(name), true);
        }
    }
    for (path, node) in layer {
        if path.rsplit('/').next().is_some_and(|name| name.starts_with(".wh.")) {
            continue;
        }
        let mut node = node.clone();
        if let Kind::Hardlink(target) = &node.kind
            && let Some(target) = tree.get(target)
        {
            node = target.clone();
        }
        if node.kind != Kind::Directory {
            remove(tree, path, true);
        }
        tree.insert(path.clone(), node);
    }
}

fn remove(tree: &mut Tree, path: &str, itself: bool) {
    let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
    tree.retain(|other, _| !(other.starts_with(&prefix) || itself && other == path));
}

fn entries(tar: &[u8]) -> Result<Vec<(String, Node)>> {
    let mut found = Vec::new();
    for entry in Archive::new(tar).entries()? {
        let mut entry = entry?;
        let path = plain(&String::from_utf8_lossy(&entry.path_bytes()));
        let link = |entry: &tar::Entry<'_, _>| {
            let name = entry.link_name_bytes().context("a link without a target")?;
            anyhow::Ok(String::from_utf8_lossy(&name).into_owned())
        };
        let header = entry.header();
        let device = |letter| -> Result<Kind> {
            Ok(Kind::Special(letter, header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0)))
        };
        let (mode, uid, gid) = (header.mode()? & 0o7777, header.uid()?, header.gid()?);
        let kind = match header.entry_type() {
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink(link(&entry)?),
            EntryType::Link => Kind::Hardlink(plain(&link(&entry)?)),
            EntryType::Char => device('c')?,
            EntryType::Block => device('b')?,
            EntryType::Fifo => Kind::Special('p', 0, 0),
            EntryType::Regular | EntryType::Continuous => {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                Kind::Regular { size: bytes.len() as u64, sha256: sha256(&bytes) }
            }
            EntryType::XGlobalHeader => continue,
            other => bail!("`{path}` is a {other:?}"),
        };
        if !path.is_empty() {
            found.push((path, Node { kind, mode, uid, gid }));
        }
    }
    Ok(found)
}

fn walk(directory: &Path, path: &str, tree: &mut Tree) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if path.is_empty() { name } else { format!("{path}/{name}") };
        let metadata = entry.metadata()?;
        let kind = metadata.file_type();
        let special = |letter| {
            let device = metadata.rdev();
            Kind::Special(letter, rustix::fs::major(device), rustix::fs::minor(device))
        };
        let kind = if kind.is_dir() {
            walk(&entry.path(), &path, tree)?;
            Kind::Directory
        } else if kind.is_symlink() {
            Kind::Symlink(fs::read_link(entry.path())?.to_string_lossy().into_owned())
        } else if kind.is_char_device() {
            special('c')
        } else if kind.is_block_device() {
            special('b')
        } else if kind.is_fifo() {
            Kind::Special('p', 0, 0)
        } else {
            let bytes = fs::read(entry.path())?;
            Kind::Regular { size: bytes.len() as u64, sha256: sha256(&bytes) }
        };
        let (uid, gid) = (u64::from(metadata.uid()), u64::from(metadata.gid()));
        tree.insert(path, Node { kind, mode: metadata.mode() & 0o7777, uid, gid });
    }
    Ok(())
}

/// `./a/b/` as `a/b`.
fn plain(path: &str) -> String {
    path.split('/').filter(|name| !matches!(*name, "" | ".")).collect::<Vec<_>>().join("/")
}

fn decompress(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut tar = Vec::new();
    match bytes {
        [0x1f, 0x8b, ..] => flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut tar)?,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => zstd::Decoder::new(Cursor::new(bytes))?.read_to_end(&mut tar)?,
        _ => return Ok(bytes.to_owned()),
    };
    Ok(tar)
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Display for Node {
    /// `-rw 0644 0:0 12 5891b5b5…`, in one line.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, mode, uid, gid } = self;
        write!(formatter, "{mode:04o} {uid}:{gid} ")?;
        match kind {
            Kind::Regular { size, sha256 } => write!(formatter, "file {size} {sha256}"),
            Kind::Directory => formatter.write_str("directory"),
            Kind::Symlink(target) => write!(formatter, "-> {target}"),
            Kind::Hardlink(target) => write!(formatter, "same file as {target}"),
            Kind::Special(letter, major, minor) => write!(formatter, "{letter} {major}:{minor}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> Node {
        Node { kind: Kind::Directory, mode: 0o755, uid: 0, gid: 0 }
    }

    fn link(target: &str) -> Node {
        Node { kind: Kind::Symlink(target.to_owned()), mode: 0o777, uid: 0, gid: 0 }
    }

    fn layer(entries: &[(&str, Node)]) -> Vec<(String, Node)> {
        entries.iter().map(|(path, node)| ((*path).to_owned(), node.clone())).collect()
    }

    #[test]
    fn whiteouts_hide_what_is_below() {
        let mut tree = Tree::new();
        apply(&mut tree, &layer(&[("a", directory()), ("a/x", link("1")), ("b", directory()), ("b/y", link("2"))]));
        apply(&mut tree, &layer(&[("a/.wh.x", link("")), ("b/z", link("3")), ("b/.wh..wh..opq", link(""))]));
        assert_eq!(tree.keys().collect::<Vec<_>>(), ["a", "b", "b/z"]);
        apply(&mut tree, &layer(&[("b", link("a"))]));
        assert_eq!(tree.keys().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn differences_are_lines() {
        let first = Tree::from([("a".to_owned(), directory()), ("b".to_owned(), link("x"))]);
        let second =
            Tree::from([("a".to_owned(), directory()), ("b".to_owned(), link("y")), ("c".to_owned(), directory())]);
        assert_eq!(differences(&first, &first), [""; 0]);
        assert_eq!(differences(&first, &second), ["- b 0777 0:0 -> x", "+ b 0777 0:0 -> y", "+ c 0755 0:0 directory"]);
    }
}
