//! How is something mounted in the tree that will be the root?
//!
//! Targets are resolved beneath the new root, symlinks included, and mounts are attached by descriptor: at no point is a
//! path of the image interpreted by this process's own root.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rbuild_core::MountKind;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::mount::{MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};
use rustix::process::{chdir, fchdir};

use super::inside::attach_over_root;
use super::template;
use crate::error::Failure;
use crate::mount::{self, MountError, bind, new_file_system, open_beneath, set_attributes};
use crate::resolve::{self, Kind};
use crate::spec::{SandboxDevice, SandboxFile, SandboxMount};

pub(super) const STRICT: MountAttrFlags =
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
}

impl<'a> Mounter<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, no_devices: bool) -> Self {
        Self { root, no_devices }
    }

    pub(super) fn root(&self) -> BorrowedFd<'a> {
        self.root
    }

    /// Any mount of the plan; `source` is what [`super::sources`] made of it.
    pub(super) fn mount(&self, wanted: &SandboxMount, source: Option<&OwnedFd>) -> Result<(), Failure> {
        let SandboxMount { mount, subpath } = wanted;
        let made = match source {
            Some(source) => part(source, &mount.kind, subpath),
            None => make(&mount.kind, subpath).map(Made::Own),
        };
        let made = made.map_err(|error| failed(&mount.target, error))?;
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

    /// A device is of use only where its mount allows it, so it keeps the flags of the host's.
    pub(super) fn device(&self, device: &SandboxDevice, source: Option<&OwnedFd>) -> Result<(), Failure> {
        let missing =
            || Failure::step(format!("bind the device `{}`", device.source.display()), io::ErrorKind::NotFound);
        self.place(source.ok_or_else(missing)?.as_fd(), &device.target)
    }

    /// `/dev` of the template, with what it lacks.
    pub(super) fn dev(&self, devices: &[(String, OwnedFd)]) -> Result<(), Failure> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: io::Error| Failure::step(format!("make `/dev/{what}`"), error)
        };
        let messages =
            new_file_system("mqueue", &[], STRICT).map_err(|error| failed("mqueue")(error.into_parts().1))?;
        template::attach_at(&messages, "/dev/mqueue").map_err(failed("mqueue"))?;
        for (name, device) in devices {
            add_device(name, device).map_err(failed(name))?;
        }
        self.move_from(template::DEV, Path::new("/dev"), Kind::Directory)
    }

    /// The read-only `/sys` of the template.
    pub(super) fn sysfs(&self) -> Result<(), Failure> {
        self.move_from(template::SYS, Path::new("/sys"), Kind::Directory)
    }

    /// The files of the template that name hosts.
    pub(super) fn names(&self, files: &[SandboxFile]) -> Result<(), Failure> {
        let mut files = files.iter().enumerate();
        files.try_for_each(|(index, file)| self.move_from(&template::name_at(index), &file.target, Kind::File))
    }

    /// Moves a mount of the template to where it belongs.
    fn move_from(&self, path: &str, target: &Path, kind: Kind) -> Result<(), Failure> {
        let moved = || -> io::Result<()> {
            let place = resolve::open_or_create(self.root, target, kind, &mut Vec::new())?;
            Ok(move_mount(CWD, path, place, "", MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH)?)
        };
        moved().map_err(|error| Failure::step(format!("mount at `{}`", target.display()), error))
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

    pub(super) fn mask(&self, path: &Path) -> Result<(), Failure> {
        let Some(place) = self.find(path)? else { return Ok(()) };
        let make = || -> io::Result<()> {
            let directory = FileType::from_raw_mode(fstat(&place)?.st_mode) == FileType::Directory;
            let cover = if directory { template::EMPTY } else { template::NULL };
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            Ok(attach(open_tree(CWD, cover, flags)?.as_fd(), place.as_fd())?)
        };
        make().map_err(|error| Failure::step(format!("mask `{}`", path.display()), error))
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

/// What has no source on the host.
fn make(kind: &MountKind, subpath: &Path) -> Result<OwnedFd, MountError> {
    match kind {
        MountKind::Proc => new_file_system("proc", &[], STRICT),
        MountKind::Sysfs => new_file_system("sysfs", &[], STRICT),
        MountKind::Tmpfs { size, mode } => {
            let whole = mount::tmpfs(*size, *mode)?;
            if subpath.as_os_str().is_empty() { Ok(whole) } else { part_of(&whole, subpath) }
        }
        MountKind::Bind { .. } | MountKind::Overlay { .. } | MountKind::Dev { .. } | MountKind::Cgroup => {
            Err(MountError::Mount {
                kind: format!("{kind:?} at a place of its own"),
                source: io::ErrorKind::Unsupported.into(),
            })
        }
    }
}

/// What is to be attached of a source.
fn part<'a>(source: &'a OwnedFd, kind: &MountKind, subpath: &Path) -> Result<Made<'a>, MountError> {
    match kind {
        MountKind::Overlay { .. } if !subpath.as_os_str().is_empty() => part_of(source, subpath).map(Made::Own),
        _ => Ok(Made::Source(source)),
    }
}

/// A mount to be attached.
enum Made<'a> {
    /// The supervisor's, which goes on using the descriptor.
    Source(&'a OwnedFd),
    Own(OwnedFd),
}

impl AsFd for Made<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Source(source) => source.as_fd(),
            Self::Own(own) => own.as_fd(),
        }
    }
}

/// Binds one device of the host in the template's `/dev`; `name` may have a directory before it.
fn add_device(name: &str, device: &OwnedFd) -> io::Result<()> {
    let path = format!("{}/{name}", template::DEV);
    if let Some((directory, _)) = path.rsplit_once('/') {
        match rustix::fs::mkdir(directory, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    drop(rustix::fs::open(&path, flags, Mode::from_raw_mode(0o666))?);
    template::attach_at(device, &path)
}

/// Writes one file into the tmpfs and gives it a mount of its own.
fn file_in(memory: BorrowedFd<'_>, index: usize, file: &SandboxFile) -> io::Result<OwnedFd> {
    let name = index.to_string();
    template::write_file(memory, &name, file)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(memory, &name, flags)?;
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
fn part_of(whole: &OwnedFd, subpath: &Path) -> Result<OwnedFd, MountError> {
    let open = || -> io::Result<OwnedFd> {
        let part = open_beneath(whole.as_fd(), subpath, OFlags::empty())?;
        bind(part.as_fd(), false)
    };
    while_attached(whole.as_fd(), open).map_err(|source| MountError::Open { path: subpath.to_owned(), source })
}

pub(super) fn failed(target: &Path, error: MountError) -> Failure {
    let (what, source) = error.into_parts();
    Failure::step(format!("{what} at `{}`", target.display()), source)
}

/// The host's own file at an absolute path, to be bound.
pub(super) fn host_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}
