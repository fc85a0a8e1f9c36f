//! How does a `Mount` become a mount?
//!
//! Everything is made *detached*: a descriptor that holds a mount nobody can see, which dies with its last holder. The
//! sandbox attaches such mounts in its own mount namespace; the engine resolves paths in them with `openat2`.
//!
//! Overlay's difficulty is the length of its options: a hundred layers fit neither the 256 bytes of one `fsconfig` value
//! nor the 4096 of `mount`. All layers are therefore opened, and named by the links in `/proc/self/fd`:
//!
//! - Linux 6.7 and later take them one by one (`lowerdir+`), and the mount is detached from birth;
//! - older kernels take `lowerdir=5:6:7…`, relative to `/proc/self/fd`, from a short-lived thread with a mount namespace
//!   of its own, out of which the mount is then cloned.

use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rbuild_core::{Lower, Mount, MountKind, OverlayUpper};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, mount_change, open_tree, unmount,
};
use rustix::thread::UnshareFlags;

use crate::{sys, userns};

mod erofs;

pub use erofs::{Loan, lend, read_from_erofs_layer};

/// Why a mount could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A layer, an upper directory or the source of a bind cannot be opened.
    #[error("cannot open `{path}`")]
    Open {
        /// The host path.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The kernel refused the mount.
    #[error("cannot mount {kind}")]
    Mount {
        /// The file system type, with the number of layers of an overlay.
        kind: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

impl MountError {
    fn mount(kind: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Mount { kind: kind.into(), source: source.into() }
    }

    /// What failed and the system's reason, apart.
    pub(crate) fn into_parts(self) -> (String, io::Error) {
        match self {
            Self::Open { path, source } => (format!("open `{}`", path.display()), source),
            Self::Mount { kind, source } => (format!("mount {kind}"), source),
        }
    }
}

/// Makes `mount` without attaching it anywhere; its `target` is ignored. The descriptor is an `O_PATH` one of the
/// mount's root, good for `openat2` with `RESOLVE_IN_ROOT`, for `move_mount`, and for `/proc/self/fd/N` paths. Dropping
/// it unmounts. Overlay, bind and tmpfs can be had this way.
///
/// # Errors
/// Other kinds belong to a sandbox's namespaces and are refused with `Unsupported`.
pub fn detached(mount: &Mount) -> Result<OwnedFd, MountError> {
    let made = match &mount.kind {
        MountKind::Overlay { lower, upper } => overlay(lower, upper.as_ref(), OverlayOptions::default())?,
        MountKind::Bind { source, recursive } => {
            let source_fd = rustix::fs::open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                .map_err(|error| MountError::Open { path: source.clone(), source: error.into() })?;
            bind(source_fd.as_fd(), *recursive)
                .map_err(|error| MountError::mount(format!("`{}`", source.display()), error))?
        }
        MountKind::Tmpfs { size, mode } => tmpfs(*size, *mode)?,
        other @ (MountKind::Proc | MountKind::Sysfs | MountKind::Dev { .. } | MountKind::Cgroup) => {
            let unsupported = io::Error::new(io::ErrorKind::Unsupported, "it belongs to a sandbox");
            return Err(MountError::mount(format!("{other:?} outside a sandbox"), unsupported));
        }
    };
    if mount.read_only {
        set_attributes(made.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, true)
            .map_err(|error| MountError::mount("read-only", error))?;
    }
    Ok(made)
}

/// Opens a path beneath a mount, resolving symlinks as if `root` were `/`. The descriptor is an `O_PATH` one.
pub(crate) fn open_beneath(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    // openat2 takes an absolute path as relative to the root, but not an empty one.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    Ok(openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)?)
}

/// A detached copy of the mount at `source`. In a user namespace the mounts below it come along in any case, since the
/// kernel does not let an ordinary user uncover what they hide.
pub(crate) fn bind(source: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive || in_user_namespace() {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(source, "", flags)?)
}

/// A file system in memory with nothing in it.
pub(crate) fn tmpfs(size: Option<u64>, mode: u32) -> Result<OwnedFd, MountError> {
    let options = [("mode", Some(format!("{mode:o}"))), ("size", size.map(|size| size.to_string()))];
    let given: Vec<_> = options.iter().filter_map(|(key, value)| Some((*key, value.as_deref()?))).collect();
    new_file_system("tmpfs", &given, MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV)
}

/// A detached mount of a file system that needs no source.
pub(crate) fn new_file_system(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, MountError> {
    let make = || -> rustix::io::Result<OwnedFd> {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(context.as_fd(), "source", kind)?;
        for (key, value) in options {
            match *value {
                "" => fsconfig_set_flag(context.as_fd(), *key)?,
                value => fsconfig_set_string(context.as_fd(), *key, value)?,
            }
        }
        fsconfig_create(context.as_fd())?;
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    make().map_err(|error| MountError::mount(kind, error))
}

/// Adds flags such as `MOUNT_ATTR_RDONLY` to a mount.
pub(crate) fn set_attributes(mount: BorrowedFd<'_>, set: MountAttrFlags, recursive: bool) -> io::Result<()> {
    sys::set_mount_attributes(mount, u64::from(set.bits()), recursive)
}

/// The same, and what is mounted on the original from now on is not to be seen here, nor the other way round.
pub(crate) fn set_private_attributes(mount: BorrowedFd<'_>, set: MountAttrFlags, recursive: bool) -> io::Result<()> {
    sys::set_private_mount_attributes(mount, u64::from(set.bits()), recursive)
}

/// What is asked of overlay beyond its layers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OverlayOptions {
    /// Never sync. Ignored by kernels before 5.10 and without an upper directory.
    pub(crate) volatile: bool,
}

/// A detached overlay of `lower`, topmost first.
pub(crate) fn overlay(
    lower: &[Lower],
    upper: Option<&OverlayUpper>,
    options: OverlayOptions,
) -> Result<OwnedFd, MountError> {
    // Overlay wants two layers at least; with fewer the result is that one layer.
    match (lower, upper) {
        ([], None) => {
            let empty = tmpfs(Some(4096), 0o755)?;
            set_attributes(empty.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, false)
                .map_err(|error| MountError::mount("an empty root", error))?;
            return Ok(empty);
        }
        ([only], None) => {
            let made = match only {
                Lower::Directory(only) | Lower::Mounted(only) => bind(open_layer(only)?.as_fd(), false)
                    .map_err(|error| MountError::mount(format!("`{}`", only.display()), error))?,
                Lower::Erofs(file) => erofs::single(file)?,
            };
            set_attributes(made.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, true)
                .map_err(|error| MountError::mount("a single layer read-only", error))?;
            return Ok(made);
        }
        ([], Some(upper)) => {
            let source = open_layer(&upper.upper)?;
            return bind(source.as_fd(), false)
                .map_err(|error| MountError::mount(format!("`{}`", upper.upper.display()), error));
        }
        _ => {}
    }
    let failed = |error: Errno| MountError::mount(format!("overlay of {} layers", lower.len()), error);
    let made = Layers::open(lower, upper).and_then(|layers| match layers.mount_one_by_one(options) {
        // `lowerdir+` is unknown. Before 6.5 that shows only at the end: until then any option is collected.
        Err(Errno::INVAL) => layers_in_namespace(lower, upper, options),
        other => other.map_err(failed),
    });
    match made {
        // Kernels before 5.10, or an upper file system that cannot: the option is only about speed.
        Err(MountError::Mount { source, .. }) if options.volatile && source.raw_os_error() == Some(libc::EINVAL) => {
            overlay(lower, upper, OverlayOptions { volatile: false })
        }
        other => other,
    }
}

fn open_layer(path: &Path) -> Result<OwnedFd, MountError> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| MountError::Open { path: path.to_owned(), source: error.into() })
}

struct Layers {
    lower: Vec<Arc<OwnedFd>>,
    upper: Option<(OwnedFd, OwnedFd)>,
    has_erofs: bool,
}

impl Layers {
    fn open(lower: &[Lower], upper: Option<&OverlayUpper>) -> Result<Self, MountError> {
        let has_erofs = lower.iter().any(|lower| matches!(lower, Lower::Erofs(_) | Lower::Mounted(_)));
        let open = |lower: &Lower| match lower {
            Lower::Directory(path) | Lower::Mounted(path) => open_layer(path).map(Arc::new),
            Lower::Erofs(path) => erofs::shared(path),
        };
        let lower = lower.iter().map(open).collect::<Result<_, _>>()?;
        let upper = match upper {
            Some(upper) => Some((open_layer(&upper.upper)?, open_layer(&upper.work)?)),
            None => None,
        };
        Ok(Self { lower, upper, has_erofs })
    }

    /// The options that do not name a layer.
    fn flags(&self, options: OverlayOptions) -> Vec<(&'static str, &'static str)> {
        let mut flags = Vec::new();
        if in_user_namespace() {
            // `trusted.` attributes need the machine's own administrator. Redirects are off by themselves then.
            flags.push(("userxattr", ""));
        } else {
            // The upper directory is read as a list of changes afterwards. A redirect or a file without its data would
            // be a change that names another layer, whatever the kernel's configured default is.
            flags.extend([("redirect_dir", "off"), ("metacopy", "off"), ("index", "off")]);
        }
        if self.has_erofs {
            // Layers on different file systems. Without this, files of each layer have a device number of their own, and
            // `cp -x`, `du -x` or `tar --one-file-system` silently leave them out. The price: inode numbers of up to 63
            // bits, too large for 32-bit programs without large file support, and for JavaScript's numbers. Not `on`,
            // which does the same and makes every new directory opaque: a layer would depend on the form of others.
            flags.push(("xino", "auto"));
        }
        if options.volatile && self.upper.is_some() {
            flags.push(("volatile", ""));
        }
        flags
    }

    fn mount_one_by_one(&self, options: OverlayOptions) -> rustix::io::Result<OwnedFd> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let context = context.as_fd();
        fsconfig_set_string(context, "source", "overlay")?;
        let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
        for layer in &self.lower {
            fsconfig_set_string(context, "lowerdir+", name(layer.as_ref()))?;
        }
        if let Some((upper, work)) = &self.upper {
            fsconfig_set_string(context, "upperdir", name(upper))?;
            fsconfig_set_string(context, "workdir", name(work))?;
        }
        for (key, value) in self.flags(options) {
            if value.is_empty() {
                fsconfig_set_flag(context, key)?;
            } else {
                fsconfig_set_string(context, key, value)?;
            }
        }
        fsconfig_create(context)?;
        fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
    }

    /// The option string for `mount`, with the current directory at `/proc/self/fd`.
    fn option_string(&self, options: OverlayOptions) -> String {
        let mut text = String::new();
        for (key, value) in self.flags(options) {
            text.push_str(key);
            if !value.is_empty() {
                text.push('=');
                text.push_str(value);
            }
            text.push(',');
        }
        let names: Vec<_> = self.lower.iter().map(|layer| layer.as_raw_fd().to_string()).collect();
        text.push_str("lowerdir=");
        text.push_str(&names.join(":"));
        if let Some((upper, work)) = &self.upper {
            write!(text, ",upperdir={},workdir={}", upper.as_raw_fd(), work.as_raw_fd())
                .expect("writing to a string cannot fail");
        }
        text
    }
}

/// The same for kernels before 6.7, which mount overlay only by `mount`, and only at a place.
fn layers_in_namespace(
    lower: &[Lower],
    upper: Option<&OverlayUpper>,
    options: OverlayOptions,
) -> Result<OwnedFd, MountError> {
    let work = || -> Result<OwnedFd, MountError> {
        let failed = |error: Errno| MountError::mount(format!("overlay of {} layers", lower.len()), error);
        sys::unshare(UnshareFlags::FS | UnshareFlags::NEWNS).map_err(failed)?;
        // Without this, the mount would spread into the host's namespace through shared propagation.
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).map_err(failed)?;
        // Overlay takes layers from its own mount namespace only, so they are opened again, in this one.
        let layers = Layers::open(lower, upper)?;
        let place = "/proc";
        rustix::process::chdir("/proc/thread-self/fd").map_err(failed)?;
        let text = std::ffi::CString::new(layers.option_string(options)).expect("option strings have no NUL");
        mount("overlay", place, "overlay", MountFlags::empty(), Some(text.as_c_str())).map_err(failed)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let made = open_tree(CWD, place, flags).map_err(failed)?;
        unmount(place, UnmountFlags::DETACH).map_err(failed)?;
        Ok(made)
    };
    std::thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|_| Err(MountError::mount("overlay", io::Error::other("the mounting thread panicked"))))
}

/// Whether the machine's own administrator is somebody else. `userns::enter` changes the answer.
pub(crate) fn in_user_namespace() -> bool {
    let read = || std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| userns::is_nested(&map));
    USER_NAMESPACE.get().copied().unwrap_or_else(read)
}

/// Asks for the last time: for a process that stays where it is, and a dozen mounts need the answer.
pub(crate) fn remember_user_namespace() {
    USER_NAMESPACE.get_or_init(in_user_namespace);
}

static USER_NAMESPACE: OnceLock<bool> = OnceLock::new();

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Layers with one file each, topmost first, and an upper directory.
    fn layers(directory: &Path, count: usize) -> (Vec<Lower>, OverlayUpper) {
        let lower = (0..count).map(|number| {
            let layer = directory.join(format!("layer-{number:0100}"));
            fs::create_dir(&layer).unwrap();
            fs::write(layer.join(format!("file-{number}")), "").unwrap();
            Lower::Directory(layer)
        });
        let lower = lower.collect();
        let upper = OverlayUpper { upper: directory.join("upper"), work: directory.join("work") };
        fs::create_dir(&upper.upper).unwrap();
        fs::create_dir(&upper.work).unwrap();
        (lower, upper)
    }

    fn count(mount: &OwnedFd) -> usize {
        let directory = rustix::fs::openat(mount, ".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let names = rustix::fs::Dir::new(directory).unwrap().map(|entry| entry.unwrap().file_name().to_owned());
        names.filter(|name| !matches!(name.to_bytes(), b"." | b"..")).count()
    }

    fn is_root() -> bool {
        let root = rustix::process::geteuid().is_root();
        if !root {
            println!("skipped: mounting needs root");
        }
        root
    }

    #[test]
    fn both_ways_of_mounting_many_layers_show_the_same() {
        if !is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let (lower, upper) = layers(directory.path(), 150);
        let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
        for options in [OverlayOptions { volatile: false }, OverlayOptions { volatile: true }] {
            let new = overlay(&lower, Some(&upper), options).unwrap();
            assert_eq!(count(&new), 150);
            drop(new);
            // A volatile mount leaves a mark that forbids the next.
            drop(fs::remove_dir_all(upper.work.join("work")));
            let old = layers_in_namespace(&lower, Some(&upper), options).unwrap();
            assert_eq!(count(&old), 150);
            let opened = open_beneath(old.as_fd(), Path::new("/file-149"), OFlags::empty());
            assert!(opened.is_ok());
            drop(old);
            drop(fs::remove_dir_all(upper.work.join("work")));
        }
        assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    }

    #[test]
    fn few_layers_are_no_overlay() {
        if !is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let (lower, upper) = layers(directory.path(), 1);
        let none = overlay(&[], None, OverlayOptions::default()).unwrap();
        assert_eq!(count(&none), 0);
        let one = overlay(&lower, None, OverlayOptions::default()).unwrap();
        assert_eq!(count(&one), 1);
        let refused = rustix::fs::mkdirat(&one, "x", Mode::from_raw_mode(0o755));
        assert_eq!(refused, Err(Errno::ROFS));
        let only_upper = overlay(&[], Some(&upper), OverlayOptions::default()).unwrap();
        rustix::fs::mkdirat(&only_upper, "x", Mode::from_raw_mode(0o755)).unwrap();
        assert!(upper.upper.join("x").is_dir());
    }

    #[test]
    fn errors_name_what_was_wrong() {
        let missing = Mount {
            target: PathBuf::from("/"),
            kind: MountKind::Bind { source: PathBuf::from("/no/such/place"), recursive: false },
            read_only: false,
        };
        assert_eq!(detached(&missing).unwrap_err().to_string(), "cannot open `/no/such/place`");
        let proc = Mount { target: PathBuf::from("/"), kind: MountKind::Proc, read_only: false };
        assert_eq!(detached(&proc).unwrap_err().to_string(), "cannot mount Proc outside a sandbox");
    }
}
