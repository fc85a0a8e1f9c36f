//! Who is using the store, and since when?
//!
//! Whoever looks something up holds a [`Lease`]. A lease stops no prune, and no prune takes away what a lease may have
//! seen: it only *condemns* (`prune/condemned.rs`), and time does the rest. Time is counted in generations, a number in
//! the metadata that each prune increases, and a lease is a shared lock on the file of the generation it began in. What
//! was condemned in one generation goes when no lease of that or an earlier one is left.
//!
//! ```text
//! generation        7            8
//! lease A      ├────────────────────────────┤       has looked at layer X
//! prune                     ├┤                      condemns X in 7, begins 8
//! lease B                      ├──────────────      cannot find X any more
//! sweep                           no          yes   A has ended: X goes
//! ```

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::cache_mounts::is_same;
use crate::error::{Context, Result};
use crate::meta::{Table, Writer};
use crate::store::{Store, lock};

/// The present generation, in the only row of its table.
const GENERATION: Table<u64> = Table::new(b'g', "generation");
/// How often the kernel's list of locks is read before nobody is said to hold one.
const READS: usize = 5;
/// How the names of lease files begin; the generation follows.
const PREFIX: &str = "lease-";

impl Store {
    /// Keeps everything that is looked up from now on usable until the lease is dropped. `why` is for traces.
    ///
    /// # Errors
    /// The lock file cannot be opened, or the metadata not be read.
    pub fn lease(&self, why: &str) -> Result<Lease> {
        loop {
            let generation = self.0.meta.read(|reader| reader.find(&GENERATION, b""))?.unwrap_or(0);
            let path = self.lease_path(generation);
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).context("open", &path)?);
            lock(&file, FlockOperation::LockShared).context("lock", &path)?;
            // The file goes when a sweep finds that nobody has it; a lock on a removed one protects nothing.
            if is_same(&file, &path) {
                tracing::debug!(why, generation, "lease taken");
                return Ok(Lease { store: self.clone(), file });
            }
        }
    }

    /// The generation of the oldest lease there is.
    pub(crate) fn oldest_lease(&self) -> Result<Option<u64>> {
        for generation in self.lease_generations()? {
            let path = self.lease_path(generation);
            let file = match rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
                Ok(file) => File::from(file),
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error).context("open", &path),
            };
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // Another sweep may have removed it, and a lease made it anew.
                Ok(()) if is_same(&file, &path) => {
                    fs::remove_file(&path).context("remove", &path)?;
                }
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(Some(generation)),
                Err(error) => return Err(error).context("lock", &path),
            }
        }
        Ok(None)
    }

    /// The processes that hold leases, as far as this one can see them.
    ///
    /// # Errors
    /// `/proc/locks` or the lock files cannot be read.
    pub fn lease_holders(&self) -> Result<Vec<Holder>> {
        let files = self.lease_generations()?.into_iter().filter_map(|generation| {
            let inode = fs::metadata(self.lease_path(generation)).ok()?;
            let device = inode.dev();
            Some(format!("{:02x}:{:02x}:{}", rustix::fs::major(device), rustix::fs::minor(device), inode.ino()))
        });
        let wanted: Vec<String> = files.collect();
        let holder = |line: &str| {
            let mut words = line.split_whitespace().skip(1);
            let kind = words.next()?;
            let pid = words.nth(2)?.parse().ok()?;
            let file = words.next()?;
            (kind == "FLOCK" && wanted.iter().any(|wanted| wanted == file)).then(|| Holder::of(pid))
        };
        let mut holders: Vec<Holder> = Vec::new();
        // The list is read piece by piece, and while others lock and unlock a piece can miss a line.
        for _ in 0..READS {
            // The kernel's own list, so a lease costs its holder no file: `1: FLOCK ADVISORY READ 123 fd:01:4567 0 EOF`.
            let locks = fs::read_to_string("/proc/locks").context("read", "/proc/locks")?;
            holders = locks.lines().filter_map(holder).collect();
            if !holders.is_empty() {
                break;
            }
        }
        holders.sort_by_key(|holder| holder.pid);
        holders.dedup();
        Ok(holders)
    }

    /// The generations that have a lease file, in ascending order.
    fn lease_generations(&self) -> Result<Vec<u64>> {
        let directory = self.root().join("locks");
        let mut generations = Vec::new();
        for entry in fs::read_dir(&directory).context("read", &directory)? {
            let name = entry.context("read", &directory)?.file_name();
            generations.extend(name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u64>().ok()));
        }
        generations.sort_unstable();
        Ok(generations)
    }

    fn lease_path(&self, generation: u64) -> PathBuf {
        self.root().join("locks").join(format!("{PREFIX}{generation}"))
    }
}

/// Ends the present generation, which is returned: leases that begin after `writer` has committed belong to the next.
pub(crate) fn end_generation(writer: &mut Writer<'_>) -> Result<u64> {
    let generation = writer.find(&GENERATION, b"")?.unwrap_or(0);
    writer.put(&GENERATION, b"", &(generation + 1))?;
    Ok(generation)
}

/// Keeps what its holder has seen, see [`Store::lease`]. Dies with its process.
#[derive(Debug)]
#[must_use = "dropping a lease allows to remove what was looked up"]
pub struct Lease {
    store: Store,
    #[expect(dead_code, reason = "its lock is what counts")]
    file: File,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Err(error) = self.store.flush_used() {
            // Only makes things look older than they are.
            tracing::debug!(%error, "uses not recorded");
        }
    }
}

/// A process that holds a lease.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Holder {
    /// Its number in this process's pid namespace; 0 if it is not visible from here.
    pub pid: u32,
    /// Its command line, if it can be read.
    pub command: Option<String>,
}

impl Holder {
    fn of(pid: u32) -> Self {
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok().map(|bytes| {
            let words: Vec<_> = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
            words.join(" ").trim_end().to_owned()
        });
        Self { pid, command }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.command {
            Some(command) => write!(formatter, "{command} (process {})", self.pid),
            None => write!(formatter, "process {}", self.pid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_of_leases_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        assert_eq!(store.oldest_lease().unwrap(), None);
        let end = || store.0.meta.write(end_generation).unwrap();
        let old = store.lease("old").unwrap();
        assert_eq!(end(), 0);
        let new = store.lease("new").unwrap();
        assert_eq!(store.oldest_lease().unwrap(), Some(0));
        let also_old = store.lease_holders().unwrap();
        assert_eq!(also_old.iter().map(|holder| holder.pid).collect::<Vec<_>>(), [std::process::id()]);
        drop(old);
        assert_eq!(store.oldest_lease().unwrap(), Some(1));
        drop(new);
        assert_eq!(store.oldest_lease().unwrap(), None);
        assert!(store.lease_generations().unwrap().is_empty(), "no file stays behind");
        assert_eq!(store.lease_holders().unwrap(), []);
    }

    #[test]
    fn leases_and_sweeps_can_meet_at_any_moment() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let lease = store.lease("test").unwrap();
                        assert!(store.oldest_lease().unwrap().is_some(), "its own at least");
                        drop(lease);
                    }
                });
            }
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        store.0.meta.write(end_generation).unwrap();
                        store.oldest_lease().unwrap();
                    }
                });
            }
        });
        assert_eq!(store.oldest_lease().unwrap(), None);
    }
}
