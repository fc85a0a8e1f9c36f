//! What is in a sandbox's `/dev`?
//!
//! Docker's default devices, bound from the host instead of made: an ordinary user cannot make any, and root's sandbox,
//! which may (`CAP_MKNOD` is among the defaults), must not be able to open what it makes. So every file system of the
//! sandbox is mounted `nodev`, this one too, and the bound devices keep the flags of the host's `/dev`.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, mkdirat, openat, symlinkat};
use rustix::mount::MountAttrFlags;

use super::mounts::{Mounter, attach, host_path};
use crate::error::Failure;
use crate::mount::{bind, new_file_system, tmpfs};

const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Makes `/dev` and mounts it.
pub(super) fn make(
    mounter: &Mounter<'_>,
    shm_size: u64,
    devices: &[String],
    optional: &[String],
    tty_group: bool,
) -> Result<(), Failure> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| Failure::step(format!("make `/dev/{what}`"), error)
    };
    let top = tmpfs(Some(64 << 20), 0o755).map_err(|error| failed("")(error.into_parts().1))?;
    mounter.place(top.as_fd(), Path::new("/dev"))?;
    for (name, target) in LINKS {
        symlinkat(target, &top, name).map_err(|error| failed(name)(error.into()))?;
    }
    for name in devices {
        device(&top, name).map_err(failed(name))?;
    }
    for name in optional {
        match device(&top, name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(name)(error)),
            _ => {}
        }
    }
    let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let strict = quiet | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mut terminals = vec![("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")];
    if tty_group {
        terminals.push(("gid", "5"));
    }
    let size = shm_size.to_string();
    for (name, kind, options, attributes) in [
        ("pts", "devpts", terminals.as_slice(), quiet),
        ("shm", "tmpfs", &[("mode", "1777"), ("size", size.as_str())], strict),
        ("mqueue", "mqueue", &[], strict),
    ] {
        let made = new_file_system(kind, options, attributes).map_err(|error| failed(name)(error.into_parts().1))?;
        let place = || -> io::Result<()> {
            mkdirat(&top, name, Mode::from_raw_mode(0o755))?;
            let place = openat(&top, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            Ok(attach(made.as_fd(), place.as_fd())?)
        };
        place().map_err(failed(name))?;
    }
    Ok(())
}

/// Binds one device of the host; `name` may have a directory before it.
fn device(top: &OwnedFd, name: &str) -> io::Result<()> {
    let source = host_path(&Path::new("/dev").join(name))?;
    let bound = bind(source.as_fd(), false)?;
    if let Some((directory, _)) = name.rsplit_once('/') {
        match mkdirat(top, directory, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    drop(openat(top, name, flags, Mode::from_raw_mode(0o666))?);
    let place = openat(top, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    Ok(attach(bound.as_fd(), place.as_fd())?)
}
