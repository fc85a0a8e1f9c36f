//! How can anything be deleted when the disk is full?
//!
//! What goes is deleted from the metadata first, and a database that never overwrites a page needs new ones for that. So
//! a file without content keeps some room, and is given up for the prune that finds none.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

/// Bytes: the pages that a prune of some ten thousand rows writes.
const SIZE: u64 = 1 << 20;

fn path(root: &Path) -> PathBuf {
    root.join("meta-v1/reserve")
}

/// Takes the room, if there is some and it was not taken yet.
pub(crate) fn take(root: &Path) {
    let path = path(root);
    if path.exists() {
        return;
    }
    let taken =
        File::create(&path).and_then(|file| Ok(rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, SIZE)?));
    if let Err(error) = taken {
        tracing::debug!(path = %path.display(), %error, "no room is kept");
        // As good as nothing, and the next one tries again.
        drop(fs::remove_file(&path));
    }
}

/// Gives the room up, if there is some.
pub(crate) fn give_up(root: &Path) {
    drop(fs::remove_file(path(root)));
}
