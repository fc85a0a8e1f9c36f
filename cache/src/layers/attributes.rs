//! How do unpacked files get their owner, mode, attributes and time?
//!
//! In this order: changing the owner clears set-id bits and capabilities, writing changes the time.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

use rbuild_image::{Entry, EntryKind, Timestamp};
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::{LayerError, Result, tree};
use crate::error::StoreError;
use crate::store::OverlayXattrs;

/// If the attributes of one file take more bytes than this, a disk without room for them need not be full.
const A_LOT: usize = 3000;

/// A new, empty file with what belongs into it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) file: File,
    pub(super) bytes: Vec<u8>,
    pub(super) entry: Entry,
}

/// What the attributes of a layer's files depend on besides their entries.
#[derive(Clone, Debug)]
pub(super) struct Attributes {
    /// The layer's directory, for messages.
    pub(super) root: PathBuf,
    pub(super) overlay: OverlayXattrs,
}

impl Attributes {
    /// Carries out jobs until no more can come, or one fails.
    pub(super) fn finish_files(&self, jobs: &Receiver<Job>) -> Result<()> {
        jobs.iter().try_for_each(|Job { file, bytes, entry }| {
            (&file).write_all(&bytes).map_err(|error| self.failed("write", &entry.path, error))?;
            self.apply_to_file(&file, &entry)
        })
    }

    /// Everything about a regular file whose content is complete.
    pub(super) fn apply_to_file(&self, file: &File, entry: &Entry) -> Result<()> {
        let path = &entry.path;
        self.apply_owner(file, entry)?;
        self.apply_xattrs(file.as_fd(), path, &entry.xattrs)?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode & 0o7777))
            .map_err(|error| self.failed("change the mode of", path, error))?;
        rustix::fs::futimens(file, &times(entry.mtime)).map_err(|error| self.failed("change the time of", path, error))
    }

    /// Owner, mode and time of what cannot be opened without side effects.
    pub(super) fn apply_unopened(&self, at: BorrowedFd<'_>, name: &OsStr, entry: &Entry) -> Result<()> {
        let path = &entry.path;
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        rustix::fs::chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| self.failed("change the owner of", path, error))?;
        if !matches!(entry.kind, EntryKind::Symlink { .. }) {
            rustix::fs::chmodat(at, name, Mode::from_raw_mode(entry.mode & 0o7777), AtFlags::empty())
                .map_err(|error| self.failed("change the mode of", path, error))?;
        }
        rustix::fs::utimensat(at, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| self.failed("change the time of", path, error))
    }

    /// The owner of an open file or directory.
    pub(super) fn apply_owner(&self, file: impl AsFd, entry: &Entry) -> Result<()> {
        rustix::fs::fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
            .map_err(|error| self.failed("change the owner of", &entry.path, error))
    }

    /// The extended attributes of an open file or directory, without those that the overlay would believe.
    pub(super) fn apply_xattrs(
        &self,
        file: BorrowedFd<'_>,
        path: &Path,
        xattrs: &BTreeMap<OsString, Vec<u8>>,
    ) -> Result<()> {
        for (name, value) in xattrs {
            let bytes = name.as_bytes();
            // What the overlay would believe.
            if bytes.starts_with(b"trusted.overlay.") || bytes.starts_with(b"user.overlay.") {
                continue;
            }
            match rustix::fs::fsetxattr(file, name.as_os_str(), value, XattrFlags::empty()) {
                Ok(()) => {}
                // The file system has no such attributes, or the namespace no right to this kind.
                Err(Errno::NOTSUP) => {}
                Err(Errno::PERM) if !tree::is_kept(bytes) || self.overlay == OverlayXattrs::User => {}
                // What ext4 says if there are too many for its one block.
                Err(Errno::NOSPC) if length(xattrs) > A_LOT => {
                    let error = io::Error::other("the file system has no room for so long attributes of one file");
                    return Err(self.failed("set an attribute of", path, error));
                }
                Err(error) => return Err(self.failed("set an attribute of", path, error)),
            }
        }
        Ok(())
    }

    /// An error about an entry.
    pub(super) fn failed(&self, action: &'static str, path: &Path, error: impl Into<io::Error>) -> LayerError {
        StoreError::io(action, self.root.join(path), error).into()
    }
}

fn length(xattrs: &BTreeMap<OsString, Vec<u8>>) -> usize {
    xattrs.iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// Both times of a file.
pub(super) fn times(mtime: Timestamp) -> Timestamps {
    let mtime = mtime.clamped();
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}
