//! Where do the bytes of a download go?

use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rbuild_core::Digest;
use sha2::Digest as _;

use super::RemoteError;

/// A file that is hashed while it is written. Its calls block; those that change it give it back.
#[derive(Debug)]
pub(super) struct Sink {
    file: File,
    path: PathBuf,
    hasher: sha2::Sha256,
    written: u64,
}

impl Sink {
    /// A new file that only its owner may read: BuildKit's mode for downloads.
    pub(super) fn create(path: PathBuf) -> Result<Self, RemoteError> {
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(RemoteError::file("create", &path))?;
        Ok(Self { file, path, hasher: sha2::Sha256::new(), written: 0 })
    }

    /// How many bytes there are.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    pub(super) fn write(mut self, chunks: &[Bytes]) -> Result<Self, RemoteError> {
        for chunk in chunks {
            self.file.write_all(chunk).map_err(RemoteError::file("write", &self.path))?;
            self.hasher.update(chunk);
            self.written += chunk.len() as u64;
        }
        Ok(self)
    }

    /// Forgets what was written.
    pub(super) fn rewind(mut self) -> Result<Self, RemoteError> {
        let rewound = self.file.set_len(0).and_then(|()| self.file.rewind());
        rewound.map_err(RemoteError::file("write", &self.path))?;
        Ok(Self { hasher: sha2::Sha256::new(), written: 0, ..self })
    }

    /// Gives the file its time, in seconds since the epoch; returns the sha256 and the size.
    pub(super) fn finish(self, time: Option<i64>) -> Result<(Digest, u64), RemoteError> {
        if let Some(time) = time.and_then(system_time) {
            self.file.set_modified(time).map_err(RemoteError::file("set the time of", &self.path))?;
        }
        Ok((Digest::sha256(self.hasher.finalize().into()), self.written))
    }
}

/// `None` for what no clock can show.
pub(super) fn system_time(seconds: i64) -> Option<SystemTime> {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    }
}
