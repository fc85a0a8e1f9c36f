//! How does a root file system leave the store as plain files?

use std::collections::hash_map::Entry as Known;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use rbuild_cache::LayerId;
use rbuild_image::{Change, Compression, Entry, EntryKind, LayerWriter, Timestamp};

use crate::engine::Engine;
use crate::error::Error;
use crate::files::{Attributes, InnerPath, Kind, Node, Root, Selector, Tree, copy};
use crate::files_error::FilesError;
use crate::mounted::Mounted;

/// Writes the root file system as one tar.
pub(super) fn write_tar(engine: &Engine, layers: &[LayerId], out: &mut dyn Write) -> Result<(), Error> {
    let mounted = Mounted::new(&engine.store().layers().view(layers)?)?;
    let failed = |source| Error::Stream { action: "write the archive", source };
    let mut tar = LayerWriter::new(out, Compression::None).map_err(failed)?;
    let mut links = HashMap::new();
    let mut pending = vec![InnerPath::root()];
    while let Some(directory) = pending.pop() {
        let entries = mounted.root.entries(&directory).map_err(failed)?;
        let mut below = Vec::new();
        for (name, node) in entries {
            let path = directory.join(&name);
            append(&mut tar, &mounted.root, &path, &node, &mut links).map_err(failed)?;
            if node.is_directory() {
                below.push(path);
            }
        }
        pending.extend(below.into_iter().rev());
    }
    tar.finish().map(drop).map_err(failed)
}

fn append<W: Write>(
    tar: &mut LayerWriter<W>,
    root: &Root,
    path: &InnerPath,
    node: &Node,
    links: &mut HashMap<(u64, u64), (InnerPath, u64)>,
) -> io::Result<()> {
    let first = if node.links > 1 && node.kind == Kind::File { first_name(path, node, links) } else { None };
    let (major, minor) = (rustix::fs::major(node.device), rustix::fs::minor(node.device));
    let kind = match (first, node.kind) {
        (Some(first), _) => EntryKind::Hardlink { target: first.as_path().to_owned() },
        (None, Kind::Directory) => EntryKind::Directory,
        (None, Kind::File) => EntryKind::File { size: node.size },
        (None, Kind::Symlink) => {
            let target = node.target.as_deref().map(Path::new).unwrap_or(Path::new(""));
            EntryKind::Symlink { target: target.to_owned() }
        }
        (None, Kind::Fifo) => EntryKind::Fifo,
        (None, Kind::CharacterDevice) => EntryKind::CharDevice { major, minor },
        (None, Kind::BlockDevice) => EntryKind::BlockDevice { major, minor },
        (None, Kind::Socket) => return Ok(()),
    };
    let mut content: Box<dyn io::Read> = Box::new(io::empty());
    let mut xattrs = BTreeMap::new();
    if let EntryKind::File { .. } = kind {
        let file = fs::File::from(root.open_to_read(path)?);
        for (name, value) in Attributes::read(&file)?.iter() {
            let name = std::os::unix::ffi::OsStrExt::from_bytes(name.to_bytes());
            xattrs.insert(std::ffi::OsStr::to_owned(name), value.to_vec());
        }
        content = Box::new(file);
    }
    let entry = Entry {
        path: path.as_path().to_owned(),
        kind,
        mode: node.mode,
        uid: node.uid,
        gid: node.gid,
        mtime: Timestamp { seconds: node.mtime.seconds, nanoseconds: node.mtime.nanoseconds },
        xattrs,
    };
    tar.append(&Change::Upsert(entry), &mut content).map(drop)
}

/// The name that a file came under before, if it did; forgotten with its last name.
fn first_name(path: &InnerPath, node: &Node, links: &mut HashMap<(u64, u64), (InnerPath, u64)>) -> Option<InnerPath> {
    match links.entry((node.dev, node.ino)) {
        Known::Vacant(new) => {
            new.insert((path.clone(), node.links - 1));
            None
        }
        Known::Occupied(mut known) => {
            let left = &mut known.get_mut().1;
            *left = left.saturating_sub(1);
            Some(if *left == 0 { known.remove().0 } else { known.get().0.clone() })
        }
    }
}

/// Copies the root file system into a directory, which is made if need be.
pub(super) fn write_directory(engine: &Engine, layers: &[LayerId], dest: &Path) -> Result<(), Error> {
    let failed = || Error::file("write", dest);
    fs::create_dir_all(dest).map_err(failed())?;
    let mounted = Mounted::new(&engine.store().layers().view(layers)?)?;
    let target = Root::open(dest).map_err(failed())?;
    copy::mirror(&Selector::path(""), &mounted.root, &target).map_err(FilesError::from)?;
    Ok(())
}
