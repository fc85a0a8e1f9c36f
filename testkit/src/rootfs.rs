//! Which file system do test images start from?
//!
//! Debian's static busybox and a link for each of its commands: a root file system of one program, two megabytes. It is
//! written once and kept in the system's directory for temporary files, named by its content, for all tests of all runs.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::probe;

/// Users and groups every base image has.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
                      daemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
                      nobody:x:65534:65534:nobody:/home:/bin/false\n";
const GROUP: &str = "root:x:0:\ndaemon:x:1:\nnogroup:x:65534:\n";

/// Path of the tar archive with busybox's root file system.
pub fn busybox() -> Result<PathBuf> {
    let program = probe::find("busybox").context("there is no program `busybox`")?;
    let bytes = fs::read(&program)?;
    ensure!(!needs_loader(&bytes), "`{}` is not static: install busybox-static", program.display());
    let key: String = Sha256::digest(&bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let path = std::env::temp_dir().join(format!("rbuild-testkit-busybox-{key}.tar"));
    if path.exists() {
        return Ok(path);
    }
    let mut aside = tempfile::NamedTempFile::new_in(std::env::temp_dir())?;
    write(aside.as_file_mut(), &bytes, &applets(&program)?)?;
    fs::set_permissions(aside.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    aside.persist(&path)?;
    Ok(path)
}

fn applets(program: &Path) -> Result<Vec<String>> {
    let output = Command::new(program).arg("--list").output()?;
    ensure!(output.status.success(), "`busybox --list` failed");
    let names = String::from_utf8(output.stdout)?;
    Ok(names.lines().filter(|name| *name != "busybox").map(str::to_owned).collect())
}

fn write(out: &mut File, busybox: &[u8], applets: &[String]) -> io::Result<()> {
    let mut archive = Builder::new(io::BufWriter::new(out));
    for directory in ["bin/", "dev/", "etc/", "home/", "proc/", "run/", "sys/", "usr/", "usr/bin/", "usr/sbin/", "var/"]
    {
        entry(&mut archive, directory, EntryType::Directory, 0o755, &[])?;
    }
    entry(&mut archive, "root/", EntryType::Directory, 0o700, &[])?;
    for directory in ["tmp/", "var/tmp/"] {
        entry(&mut archive, directory, EntryType::Directory, 0o1777, &[])?;
    }
    entry(&mut archive, "bin/busybox", EntryType::Regular, 0o755, busybox)?;
    entry(&mut archive, "etc/passwd", EntryType::Regular, 0o644, PASSWD.as_bytes())?;
    entry(&mut archive, "etc/group", EntryType::Regular, 0o644, GROUP.as_bytes())?;
    for applet in applets {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        archive.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    archive.into_inner()?.flush()
}

fn entry(archive: &mut Builder<impl Write>, path: &str, kind: EntryType, mode: u32, data: &[u8]) -> io::Result<()> {
    archive.append_data(&mut header(kind, mode, data.len() as u64), path, data)
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(size);
    header
}

/// Whether a program asks for a dynamic loader: an ELF file with a segment of type `PT_INTERP`.
fn needs_loader(program: &[u8]) -> bool {
    let half = |at: usize| program.get(at..at + 2).map(|bytes| usize::from(u16::from_le_bytes([bytes[0], bytes[1]])));
    let table =
        program.get(0x20..0x28).and_then(|bytes| usize::try_from(u64::from_le_bytes(bytes.try_into().ok()?)).ok());
    let (Some(table), Some(size), Some(count)) = (table, half(0x36), half(0x38)) else { return true };
    (0..count).any(|index| program.get(table + index * size..).is_none_or(|entry| entry.starts_with(&[3, 0, 0, 0])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Need, needs};

    #[test]
    fn busybox_has_a_shell() {
        needs!(Need::Command("busybox"));
        assert!(needs_loader(&fs::read("/bin/ls").unwrap()));
        let path = busybox().unwrap();
        assert_eq!(path, busybox().unwrap());
        let mut archive = tar::Archive::new(File::open(path).unwrap());
        let shell =
            archive.entries().unwrap().map(Result::unwrap).find(|entry| entry.path().unwrap() == Path::new("bin/sh"));
        assert_eq!(shell.unwrap().link_name().unwrap().unwrap(), Path::new("busybox"));
    }
}
