//! Which disk does a test work on, if not the machine's?

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};
use tempfile::TempDir;

/// A file system of its own, mounted until the value is dropped. Needs root.
#[derive(Debug)]
#[must_use = "dropping a disk unmounts it"]
pub struct Disk {
    directory: TempDir,
}

impl Disk {
    /// An ext4 file system of this size (as `truncate` reads it), in a file: for what happens when it is full.
    pub fn small(size: &str) -> Result<Self> {
        let disk = Self::unmounted()?;
        let image = disk.directory.path().join("image");
        run(Command::new("truncate").args(["-s", size]).arg(&image))?;
        run(Command::new(tool("mkfs.ext4")?).arg("-q").arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(disk.path()))?;
        Ok(disk)
    }

    /// A file system in memory: for very many files, which other file systems take minutes to delete.
    pub fn in_memory() -> Result<Self> {
        let disk = Self::unmounted()?;
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=4g,nr_inodes=0", "tmpfs"]).arg(disk.path()))?;
        Ok(disk)
    }

    fn unmounted() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("rbuild-disk-").tempdir_in(crate::bench::place())?;
        fs::create_dir(directory.path().join("mounted"))?;
        Ok(Self { directory })
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Fails only if mounting did. Lazily: whatever a failed test left running must not keep it.
        drop(run(Command::new("umount").arg("-l").arg(self.path())));
    }
}

fn tool(name: &str) -> Result<PathBuf> {
    crate::probe::find(name).ok_or_else(|| anyhow::anyhow!("there is no program `{name}`"))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{Need, needs};

    #[test]
    fn disks_come_and_go() {
        needs!(Need::Root, Need::Overlay);
        let disk = Disk::in_memory().unwrap();
        let mounted = |path: &Path| fs::read_to_string("/proc/mounts").unwrap().contains(path.to_str().unwrap());
        let path = disk.path();
        assert!(mounted(&path));
        drop(disk);
        assert!(!mounted(&path));
    }
}
