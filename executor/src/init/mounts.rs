//! How is something mounted in the tree that will be the root?
//!
//! Targets are resolved beneath the new root, symlinks included, and mounts are attached by descriptor: at no point is a
//! path of the image interpreted by this process's own root.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rbuild_core::MountKind;
use rustix::fs::{CWD, FileType, Mode, OFlags, fchmod, fchown, fstat, openat};
use rustix::mount::{MountAttrFlags, MoveMountFlags, UnmountFlags, move_mount, unmount};
use rustix::process::{chdir, fchdir};

use super::inside::attach_over_root;
use crate::error::Failure;
use crate::mount::{self, MountError, OverlayOptions, bind, new_file_system, open_beneath, set_attributes};
use crate::resolve::{self, Kind};
use crate::spec::{SandboxDevice, SandboxFile, SandboxMount};

const STRICT: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV).union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Attaches a detached mount to an opened place.
pub(super) fn attach(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", place, "", flags)
}

/// Mounts into one root.
pub(super) struct Mounter<'a> {
    root: BorrowedFd<'a>,
    /// Whether device nodes are of no use on what is mounted.
    no_devices: bool,
    /// An empty read-only directory, once one was needed.
    empty: Option<OwnedFd>,
}

impl<'a> Mounter<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, no_devices: bool) -> Self {
        Self { root, no_devices, empty: None }
    }

    pub(super) fn root(&self) -> BorrowedFd<'a> {
        self.root
    }

    /// Any mount of the plan.
    pub(super) fn mount(&self, wanted: &SandboxMount) -> Result<(), Failure> {
        let SandboxMount { mount, subpath } = wanted;
        let made = self.make(&mount.kind, subpath).map_err(|error| failed(&mount.target, error))?;
        let mut set = MountAttrFlags::empty();
        if mount.read_only {
            set |= MountAttrFlags::MOUNT_ATTR_RDONLY;
        }
        if self.no_devices && matches!(mount.kind, MountKind::Bind { .. } | MountKind::Overlay { .. }) {
            set |= MountAttrFlags::MOUNT_ATTR_NODEV;
        }
        if !set.is_empty() {
            set_attributes(made.as_fd(), set, true)
                .map_err(|error| Failure::step(format!("restrict `{}`", mount.target.display()), error))?;
        }
        self.place(made.as_fd(), &mount.target)
    }

    fn make(&self, kind: &MountKind, subpath: &Path) -> Result<OwnedFd, MountError> {
        match kind {
            MountKind::Proc => new_file_system("proc", &[], STRICT),
            MountKind::Sysfs => new_file_system("sysfs", &[], STRICT),
            MountKind::Bind { source, recursive } => {
                let open = || -> io::Result<OwnedFd> {
                    let whole = rustix::fs::open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
                    if subpath.as_os_str().is_empty() {
                        Ok(whole)
                    } else {
                        open_beneath(whole.as_fd(), subpath, OFlags::empty())
                    }
                };
                let part = open().map_err(|error| MountError::Open { path: source.join(subpath), source: error })?;
                let failed = |source| MountError::Mount { kind: "bind".to_owned(), source };
                bind(part.as_fd(), *recursive).map_err(failed)
            }
            MountKind::Overlay { lower, upper } => {
                let whole = mount::overlay(lower, upper.as_ref(), OverlayOptions { volatile: true })?;
                part_of(whole, subpath)
            }
            MountKind::Tmpfs { size, mode } => part_of(mount::tmpfs(*size, *mode)?, subpath),
            MountKind::Dev { .. } | MountKind::Cgroup => Err(MountError::Mount {
                kind: format!("{kind:?} at a place of its own"),
                source: io::ErrorKind::Unsupported.into(),
            }),
        }
    }

    /// A device is of use only where its mount allows it, so it keeps the flags of the host's.
    pub(super) fn device(&self, device: &SandboxDevice) -> Result<(), Failure> {
        let bound = || -> io::Result<OwnedFd> { bind(host_path(&device.source)?.as_fd(), false) };
        let bound =
            bound().map_err(|error| Failure::step(format!("bind the device `{}`", device.source.display()), error))?;
        self.place(bound.as_fd(), &device.target)
    }

    /// Attaches `made` at a path, which is created if it is missing.
    pub(super) fn place(&self, made: BorrowedFd<'_>, target: &Path) -> Result<(), Failure> {
        let attached = || -> io::Result<()> {
            let found = FileType::from_raw_mode(fstat(made)?.st_mode);
            let kind = if found == FileType::Directory { Kind::Directory } else { Kind::File };
            let place = resolve::open_or_create(self.root, target, kind, &mut Vec::new())?;
            Ok(attach(made, place.as_fd())?)
        };
        attached().map_err(|error| Failure::step(format!("mount at `{}`", target.display()), error))
    }

    /// Opens a path that need not exist.
    fn find(&self, path: &Path) -> Result<Option<OwnedFd>, Failure> {
        match open_beneath(self.root, path, OFlags::empty()) {
            Ok(found) => Ok(Some(found)),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
            Err(error) => Err(Failure::step(format!("look up `{}`", path.display()), error)),
        }
    }

    pub(super) fn mask(&mut self, path: &Path) -> Result<(), Failure> {
        let Some(place) = self.find(path)? else { return Ok(()) };
        let failed = |error: io::Error| Failure::step(format!("mask `{}`", path.display()), error);
        let directory = FileType::from_raw_mode(fstat(&place).map_err(|error| failed(error.into()))?.st_mode);
        let cover = match (directory, &self.empty) {
            (FileType::Directory, Some(empty)) => bind(empty.as_fd(), false).map_err(failed)?,
            (FileType::Directory, None) => {
                let empty = mount::tmpfs(Some(0), 0o755).map_err(|error| failed(error.into_parts().1))?;
                set_attributes(empty.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY | STRICT, false).map_err(failed)?;
                empty
            }
            _ => {
                let null = rustix::fs::open("/dev/null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
                bind(null.map_err(|error| failed(error.into()))?.as_fd(), false).map_err(failed)?
            }
        };
        attach(cover.as_fd(), place.as_fd()).map_err(|error| failed(error.into()))?;
        if directory == FileType::Directory && self.empty.is_none() {
            self.empty = Some(cover);
        }
        Ok(())
    }

    pub(super) fn read_only(&self, path: &Path) -> Result<(), Failure> {
        let Some(place) = self.find(path)? else { return Ok(()) };
        let make = || -> io::Result<()> {
            let cover = bind(place.as_fd(), true)?;
            set_attributes(cover.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY | STRICT, true)?;
            Ok(attach(cover.as_fd(), place.as_fd())?)
        };
        make().map_err(|error| Failure::step(format!("make `{}` read-only", path.display()), error))
    }

    /// Writes the files into one tmpfs, out of which each is then mounted at its place.
    pub(super) fn files(&self, files: &[SandboxFile]) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::step("make files in memory", error);
        let memory = mount::tmpfs(None, 0o700).map_err(|error| failed(error.into_parts().1))?;
        let make = || files.iter().enumerate().map(|(index, file)| file_in(memory.as_fd(), index, file)).collect();
        let made: Vec<OwnedFd> = while_attached(memory.as_fd(), make).map_err(failed)?;
        files.iter().zip(made).try_for_each(|(file, made)| self.place(made.as_fd(), &file.target))
    }

    /// `/sys/fs/cgroup`, of the sandbox's own control group namespace.
    pub(super) fn cgroup(&self, v1: &[(String, PathBuf)], read_only: bool) -> Result<(), Failure> {
        let top = Path::new("/sys/fs/cgroup");
        let flags = if read_only { STRICT | MountAttrFlags::MOUNT_ATTR_RDONLY } else { STRICT };
        if self.find(top)?.is_none() {
            return Ok(());
        }
        if v1.is_empty() {
            let made = new_file_system("cgroup2", &[], flags).map_err(|error| failed(top, error))?;
            return self.place(made.as_fd(), top);
        }
        let directory = mount::tmpfs(Some(64 << 10), 0o755).map_err(|error| failed(top, error))?;
        self.place(directory.as_fd(), top)?;
        for (controllers, point) in v1 {
            let Some(name) = point.file_name() else { continue };
            let mut options: Vec<(&str, &str)> = Vec::new();
            for part in controllers.split(',') {
                match part.split_once('=') {
                    Some((key, value)) => options.extend([("none", ""), (key, value)]),
                    None => options.push((part, "")),
                }
            }
            let target = top.join(name);
            let made = new_file_system("cgroup", &options, flags).map_err(|error| failed(&target, error))?;
            self.place(made.as_fd(), &target)?;
        }
        Ok(())
    }
}

/// Writes one file into the tmpfs and gives it a mount of its own.
fn file_in(memory: BorrowedFd<'_>, index: usize, file: &SandboxFile) -> io::Result<OwnedFd> {
    let name = index.to_string();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let created = openat(memory, &name, flags, Mode::from_raw_mode(0o600))?;
    let mut rest = file.content.as_slice();
    while !rest.is_empty() {
        rest = &rest[rustix::io::write(&created, rest)?..];
    }
    if (file.uid, file.gid) != (0, 0) {
        fchown(
            &created,
            Some(rustix::process::Uid::from_raw(file.uid)),
            Some(rustix::process::Gid::from_raw(file.gid)),
        )?;
    }
    fchmod(&created, Mode::from_raw_mode(file.mode))?;
    let place = openat(memory, &name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let mount = bind(place.as_fd(), false)?;
    if file.read_only {
        set_attributes(mount.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, false)?;
    }
    Ok(mount)
}

/// Does something that the kernel allows only with mounts of the own namespace, such as cloning a part of one. Meanwhile
/// the mount lies on top of `/`, where no path leads to it.
fn while_attached<T>(mount: BorrowedFd<'_>, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    attach_over_root(mount)?;
    let outcome = work();
    fchdir(mount)?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")?;
    outcome
}

/// A part of a mount that is in no namespace yet, for which it has to be put into this one.
fn part_of(whole: OwnedFd, subpath: &Path) -> Result<OwnedFd, MountError> {
    if subpath.as_os_str().is_empty() {
        return Ok(whole);
    }
    let open = || -> io::Result<OwnedFd> {
        let part = open_beneath(whole.as_fd(), subpath, OFlags::empty())?;
        bind(part.as_fd(), false)
    };
    while_attached(whole.as_fd(), open).map_err(|source| MountError::Open { path: subpath.to_owned(), source })
}

fn failed(target: &Path, error: MountError) -> Failure {
    let (what, source) = error.into_parts();
    Failure::step(format!("{what} at `{}`", target.display()), source)
}

/// The host's own file at an absolute path, to be bound.
pub(super) fn host_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}
