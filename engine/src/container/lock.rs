//! Who may start or remove a container?
//!
//! Whoever holds the lock in its directory: its watcher as long as the process runs, or whoever removes it. Looking
//! whether it is held takes it as a reader for a moment, which keeps nobody from having it.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Takes the lock until the file is closed, by whatever way; `None` if somebody else has it.
///
/// # Errors
/// `NotFound` if the container's directory is gone.
pub(super) fn take(path: &Path) -> io::Result<Option<File>> {
    let file = File::options().create(true).append(true).open(path)?;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error.into()),
        }
        // Those who only look let each other in.
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => flock(&file, FlockOperation::Unlock)?,
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Whether somebody has taken the lock.
pub(super) fn is_taken(path: &Path) -> bool {
    let Ok(file) = File::options().read(true).write(true).open(path) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_keeps_nobody_from_taking() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        drop(take(&path).unwrap().unwrap());
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    is_taken(&path);
                }
            });
            let taken = (0..2000).filter(|_| take(&path).unwrap().is_some()).count();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(taken, 2000);
        });
    }

    #[test]
    fn one_has_it_until_it_lets_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        assert!(!is_taken(&path));
        let first = take(&path).unwrap().unwrap();
        assert!(is_taken(&path) && take(&path).unwrap().is_none());
        drop(first);
        assert!(!is_taken(&path) && take(&path).unwrap().is_some());
        assert_eq!(take(&path.join("gone/lock")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }
}
