//! Who is the ordinary user that a rootless test runs as?
//!
//! A user of the machine, made for the test and removed with everything it owns. Made with the system's own tools, so
//! that `newuidmap` believes in it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

/// How many identifiers each user gets, as `useradd` does it.
const COUNT: u32 = 65536;

/// Taken while the system's user files change: `useradd` gives up where it would have to wait.
const LOCK: &str = "/tmp/.rbuild-testkit-accounts";

/// An ordinary user with subordinate identifiers, as long as the value lives.
#[derive(Debug)]
#[must_use = "dropping an account removes the user"]
pub struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: PathBuf,
}

impl Account {
    /// Makes a user. Needs root, `useradd` and `newuidmap`.
    pub fn create() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("rbt{}-{}", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let home = tempfile::Builder::new().prefix(&name).tempdir_in("/tmp")?.keep();
        let lock = lock()?;
        run(Command::new(tool("useradd")?)
            .args(["--no-create-home", "--user-group", "--shell", "/bin/sh"])
            .arg("-d")
            .arg(&home)
            .arg(&name))?;
        let (uid, gid) = ids(&name)?;
        let account = Self { name, uid, gid, home };
        chown(&account.home, Some(uid), Some(gid))?;
        for file in ["/etc/subuid", "/etc/subgid"] {
            account.grant(Path::new(file)).with_context(|| format!("cannot grant identifiers in `{file}`"))?;
        }
        drop(lock);
        Ok(account)
    }

    /// The login name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The user's number.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The number of the user's group.
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// The home directory, which is empty at first.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Makes a file or an empty directory the user's.
    pub fn give(&self, path: &Path) -> io::Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
    }

    /// Makes everything below a directory the user's, and the directory too.
    pub fn give_all(&self, path: &Path) -> io::Result<()> {
        std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid))?;
        if fs::symlink_metadata(path)?.is_dir() {
            for entry in fs::read_dir(path)? {
                self.give_all(&entry?.path())?;
            }
        }
        Ok(())
    }

    /// Adds a line with identifiers that nobody else has, unless `useradd` did.
    fn grant(&self, file: &Path) -> Result<()> {
        let text = fs::read_to_string(file).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(String::new()),
            _ => Err(error),
        })?;
        if text.lines().any(|line| line.split(':').next() == Some(&self.name)) {
            return Ok(());
        }
        let mut out = OpenOptions::new().append(true).create(true).open(file)?;
        writeln!(out, "{}:{}:{COUNT}", self.name, next_free(&text))?;
        Ok(())
    }

    fn remove(&self) -> Result<()> {
        let _lock = lock()?;
        for file in ["/etc/subuid", "/etc/subgid"] {
            let text = fs::read_to_string(file)?;
            let others = text.lines().filter(|line| line.split(':').next() != Some(&self.name));
            // In one step: others read it meanwhile.
            let aside = format!("{file}.rbuild-testkit");
            fs::write(&aside, others.map(|line| format!("{line}\n")).collect::<String>())?;
            fs::rename(&aside, file)?;
        }
        run(Command::new(tool("userdel")?).arg("--force").arg(&self.name))?;
        fs::remove_dir_all(&self.home)?;
        Ok(())
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let removed = self.remove();
        // A second panic would hide the first.
        if !std::thread::panicking() {
            removed.unwrap_or_else(|error| panic!("cannot remove the user `{}`: {error:#}", self.name));
        }
    }
}

/// The first number above every range of a subordinate identifier file.
fn next_free(text: &str) -> u32 {
    let end = |line: &str| {
        let mut fields = line.split(':').skip(1).map(|field| field.trim().parse::<u32>().ok());
        Some(fields.next()??.saturating_add(fields.next()??))
    };
    text.lines().filter_map(end).max().unwrap_or(0).max(100_000)
}

fn ids(name: &str) -> Result<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name));
    let mut fields = line.with_context(|| format!("`useradd` did not add `{name}`"))?.split(':').skip(2);
    let mut number = || fields.next().unwrap_or_default().parse::<u32>().context("malformed line in `/etc/passwd`");
    Ok((number()?, number()?))
}

fn lock() -> Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(LOCK)?;
    flock(&file, FlockOperation::LockExclusive)?;
    let metadata = file.metadata()?;
    anyhow::ensure!(metadata.uid() == 0, "`{LOCK}` is not root's");
    Ok(file)
}

fn tool(name: &str) -> Result<PathBuf> {
    crate::probe::find(name).with_context(|| format!("there is no program `{name}`"))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Need, needs};

    #[test]
    fn ranges_do_not_overlap() {
        for (text, expected) in [
            ("", 100_000),
            ("a:100000:65536\n", 165_536),
            ("a:300000:65536\nb:100000:65536\n", 365_536),
            ("broken\n", 100_000),
        ] {
            assert_eq!(next_free(text), expected, "{text:?}");
        }
    }

    #[test]
    fn accounts_come_and_go() {
        needs!(Need::Root, Need::Command("useradd"));
        let account = Account::create().unwrap();
        let name = account.name().to_owned();
        let known = |file: &str| fs::read_to_string(file).unwrap().contains(&format!("{name}:"));
        assert!(known("/etc/passwd") && known("/etc/subuid") && known("/etc/subgid"));
        drop(account);
        assert!(!known("/etc/passwd") && !known("/etc/subuid") && !known("/etc/subgid"));
    }
}
