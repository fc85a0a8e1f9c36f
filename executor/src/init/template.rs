//! Out of which mount namespace is pid 1 cloned?
//!
//! Out of one that the supervisor makes for itself, with almost nothing in it: to copy the host's mounts and to drop the
//! copies again costs more than to make the sandbox's own. What all sandboxes have alike is made there once, and the
//! copy that pid 1 gets of it is moved into its root:
//!
//! ```text
//! /               tmpfs
//! ├── dev         tmpfs: links, the host's devices, `pts`, `shm`; a place for `mqueue`
//! ├── names/0…    `/etc/hosts` and the like, read-only
//! ├── null        the host's, to mask files with
//! ├── empty       to mask directories with
//! ├── sys         a read-only one, of the host's network
//! └── proc        in a user namespace this and `sys` are the host's: the kernel shows new ones only where complete ones
//!                 are visible
//! ```
//!
//! The supervisor itself stays in the host's namespace, where sources of mounts are, and is here only for as long as it
//! takes to clone.
//!
//! A `/dev` that a sandbox has changed is made anew for the next, which never sees a trace of another. That is known from
//! inotify, whose queue is empty if nothing was made, removed or changed in `/dev`, `/dev/shm` and `/dev/pts`.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{CWD, Mode, OFlags, fchmod, fchown, mkdirat, openat, symlinkat};
use rustix::mount::{
    MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_change, move_mount,
    open_tree, unmount,
};
use rustix::process::{Gid, Uid, chdir, chroot, fchdir, pivot_root};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::mounts::{STRICT, host_path};
use super::sources::bind_device;
use crate::error::Failure;
use crate::mount::{bind, in_user_namespace, new_file_system, set_private_attributes, tmpfs};
use crate::plan::{Plan, Step};
use crate::spec::SandboxFile;
use crate::sys;

/// Where `/dev` is before it is moved.
pub(super) const DEV: &str = "/dev";
/// A read-only sysfs of the host's network namespace.
pub(super) const SYS: &str = "/sys";
/// What masks a file.
pub(super) const NULL: &str = "/null";
/// What masks a directory.
pub(super) const EMPTY: &str = "/empty";

/// Where the `index`th of the files of [`Step::Names`] is before it is moved.
pub(super) fn name_at(index: usize) -> String {
    format!("/names/{index}")
}

const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// What the contents of `/dev` depend on.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Dev {
    shm_size: u64,
    devices: Vec<String>,
    tty_group: bool,
}

/// The namespace, and what is in it.
pub(super) struct Template {
    namespace: OwnedFd,
    host: Place,
    dev: Option<Dev>,
    names: Vec<SandboxFile>,
    /// What was watched since `dev` was made.
    watch: Option<OwnedFd>,
}

/// Where a process is. Its current directory is the root.
struct Place {
    namespace: OwnedFd,
    root: OwnedFd,
}

impl Place {
    fn current() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { namespace: own_namespace()?, root: rustix::fs::open("/", flags, Mode::empty())? })
    }

    /// Joining a namespace leads to its root, which need not be that of this process.
    fn enter(&self) -> io::Result<()> {
        move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
        fchdir(&self.root)?;
        Ok(chroot(".")?)
    }
}

fn own_namespace() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/proc/self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

impl Template {
    /// Makes the namespace. This process stays where it is.
    pub(super) fn new() -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::step("make namespaces", error);
        let host = Place::current().map_err(failed)?;
        let made = make_namespace();
        host.enter().map_err(failed)?;
        let namespace = made.map_err(failed)?;
        Ok(Self { namespace, host, dev: None, names: Vec::new(), watch: None })
    }

    /// Has everything there that the plan wants. Called in the host's namespace, in which it ends too.
    pub(super) fn prepare(&mut self, plan: &Plan) -> Result<(), Failure> {
        for step in &plan.steps {
            match step {
                Step::Dev { shm_size, devices, tty_group, .. } => {
                    let wanted = Dev { shm_size: *shm_size, devices: devices.clone(), tty_group: *tty_group };
                    self.prepare_dev(wanted)?;
                }
                Step::Names(files) if self.names != *files => {
                    let written = self.inside(|| write_names(files));
                    self.names = if written.is_ok() && files.iter().all(|file| file.read_only) {
                        files.clone()
                    } else {
                        // What can be written to is one sandbox's.
                        Vec::new()
                    };
                    written.map_err(|error| Failure::step("make files in memory", error))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn prepare_dev(&mut self, wanted: Dev) -> Result<(), Failure> {
        if self.dev.as_ref() == Some(&wanted) && self.watch.as_ref().is_some_and(is_quiet) {
            return Ok(());
        }
        let old = self.dev.take().is_some();
        self.watch = None;
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: io::Error| Failure::step(format!("make `/dev/{what}`"), error)
        };
        let open = |name: &String| bind_device(&Path::new(DEV).join(name)).map_err(failed(name));
        let devices: Vec<_> = wanted.devices.iter().map(open).collect::<Result<_, Failure>>()?;
        self.inside(|| {
            if old {
                unmount(DEV, UnmountFlags::DETACH)?;
            }
            Ok(())
        })
        .map_err(failed(""))?;
        let mut watch = None;
        self.inside(|| {
            let top = tmpfs(Some(64 << 20), 0o755).map_err(|error| error.into_parts().1)?;
            attach_at(&top, DEV)?;
            for (name, target) in LINKS {
                symlinkat(target, &top, name)?;
            }
            for (name, device) in wanted.devices.iter().zip(&devices) {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
                drop(openat(&top, name.as_str(), flags, Mode::from_raw_mode(0o666))?);
                attach_at(device, &format!("{DEV}/{name}"))?;
            }
            make_file_systems(&top, &wanted)?;
            watch = watch_dev().ok();
            Ok(())
        })
        .map_err(failed(""))?;
        self.dev = Some(wanted);
        self.watch = watch;
        Ok(())
    }

    /// Does something in the namespace.
    pub(super) fn inside<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
        let outcome = work();
        self.host.enter()?;
        outcome
    }
}

fn make_namespace() -> io::Result<OwnedFd> {
    sys::unshare(UnshareFlags::NEWNS)?;
    let namespace = own_namespace()?;
    // Nothing done here may spread to the host through shared propagation.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let null = bind_device(Path::new("/dev/null"))?;
    let mut shown = Vec::new();
    if in_user_namespace() {
        for path in ["/proc", "/sys"] {
            shown.push((path, bind(host_path(Path::new(path))?.as_fd(), true)?));
        }
    } else {
        let read_only = STRICT | MountAttrFlags::MOUNT_ATTR_RDONLY;
        shown.push((SYS, new_file_system("sysfs", &[], read_only).map_err(|error| error.into_parts().1)?));
    }
    let fresh = |mode| tmpfs(None, mode).map_err(|error| error.into_parts().1);
    let top = fresh(0o755)?;
    for name in ["dev", "names", "empty", "proc", "sys"] {
        mkdirat(&top, name, Mode::from_raw_mode(0o755))?;
    }
    drop(openat(&top, "null", OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC, Mode::from_raw_mode(0o644))?);
    let empty = tmpfs(Some(0), 0o755).map_err(|error| error.into_parts().1)?;
    set_private_attributes(empty.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY | STRICT, false)?;
    super::inside::attach_over_root(top.as_fd())?;
    fchdir(&top)?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")?;
    attach_at(&null, NULL)?;
    attach_at(&empty, EMPTY)?;
    for (path, mount) in shown {
        attach_at(&mount, path)?;
    }
    Ok(namespace)
}

/// Attaches to a path of the template, of which this process knows that no link is in it.
pub(super) fn attach_at(mount: &OwnedFd, path: &str) -> io::Result<()> {
    Ok(move_mount(mount, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

fn make_file_systems(top: &OwnedFd, dev: &Dev) -> io::Result<()> {
    let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mut terminals = vec![("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")];
    if dev.tty_group {
        terminals.push(("gid", "5"));
    }
    let size = dev.shm_size.to_string();
    for name in ["pts", "shm", "mqueue"] {
        mkdirat(top, name, Mode::from_raw_mode(0o755))?;
    }
    let memory = [("mode", "1777"), ("size", size.as_str())];
    for (name, kind, options, attributes) in
        [("pts", "devpts", terminals.as_slice(), quiet), ("shm", "tmpfs", &memory, STRICT)]
    {
        let made = new_file_system(kind, options, attributes).map_err(|error| error.into_parts().1)?;
        attach_at(&made, &format!("{DEV}/{name}"))?;
    }
    Ok(())
}

/// Starts to watch for changes; a machine on which that is impossible has a new `/dev` for each sandbox.
fn watch_dev() -> io::Result<OwnedFd> {
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let changes = WatchFlags::ATTRIB
        | WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MODIFY
        | WatchFlags::MOVE
        | WatchFlags::MOVE_SELF;
    for path in ["/dev", "/dev/shm", "/dev/pts"] {
        inotify::add_watch(&watch, path, changes)?;
    }
    Ok(watch)
}

/// Whether nothing has happened.
fn is_quiet(watch: &OwnedFd) -> bool {
    let mut buffer = [0_u8; 512];
    matches!(rustix::io::read(watch, &mut buffer), Err(rustix::io::Errno::AGAIN))
}

/// Writes the files and gives each a mount of its own.
fn write_names(files: &[SandboxFile]) -> io::Result<()> {
    for (index, file) in files.iter().enumerate() {
        let path = name_at(index);
        // The first of its number is not mounted, and need not be there.
        for removed in [unmount(&path, UnmountFlags::DETACH), rustix::fs::unlink(&path)] {
            match removed {
                Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        write_file(CWD, &path, file)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount = open_tree(CWD, &path, flags)?;
        if file.read_only {
            set_private_attributes(mount.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, false)?;
        }
        attach_at(&mount, &path)?;
    }
    Ok(())
}

/// Makes a file of what a sandbox is to see.
pub(super) fn write_file(directory: BorrowedFd<'_>, name: &str, file: &SandboxFile) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let created = openat(directory, name, flags, Mode::from_raw_mode(0o600))?;
    let mut rest = file.content.as_slice();
    while !rest.is_empty() {
        rest = &rest[rustix::io::write(&created, rest)?..];
    }
    if (file.uid, file.gid) != (0, 0) {
        fchown(&created, Some(Uid::from_raw(file.uid)), Some(Gid::from_raw(file.gid)))?;
    }
    Ok(fchmod(&created, Mode::from_raw_mode(file.mode))?)
}
