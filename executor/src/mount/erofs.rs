//! How is a layer that is a file mounted?
//!
//! The kernel reads the file itself, without a loop device. Two mounts of one file are two file systems with a page
//! cache each, and each takes as long as a layer takes otherwise in an overlay, so a process has one of each file for all
//! its overlays, and [lends](lend) it to the supervisors for theirs. Nothing of it outlasts the processes and the overlays.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rbuild_core::{Lower, MountKind};

use rustix::fs::{Advice, Mode, OFlags, fadvise};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen};
use rustix::process::{Resource, getrlimit};

use super::{Layers, MountError, OverlayOptions, bind, open_beneath, open_layer, tmpfs};

/// How many mounts are kept that no overlay may need any more: what some thirty chains of steps have, at 30 KB of kernel
/// memory each, and no more than a part of the files that this process may open.
const KEPT: usize = 1000;
const PART: u64 = 4;
/// The superblock, and where in it the metadata's first block is.
const SUPERBLOCK: usize = 1024;
const METADATA_BLOCK: usize = SUPERBLOCK + 40;
const BLOCK: u64 = 512;
/// The kernel reads ahead no more than this at a time, whatever it is asked for.
const AHEAD: u64 = 128 << 10;

/// The mounted file with this device, inode, and time of change.
type Key = (u64, u64, i64, i64);

/// Mounts of this process, the least recently used first.
static MOUNTED: Mutex<Vec<(Key, Arc<OwnedFd>)>> = Mutex::new(Vec::new());

/// The file system in a file, mounted at no place. All callers of a process get the same. A file that became a directory
/// after somebody was told of it is opened.
pub(super) fn shared(path: &Path) -> Result<Arc<OwnedFd>, MountError> {
    let (file, key) = open(path)?;
    if file.metadata().is_ok_and(|found| found.is_dir()) {
        return open_layer(path).map(Arc::new);
    }
    let files = getrlimit(Resource::Nofile).current.map_or(KEPT, |most| usize::try_from(most / PART).unwrap_or(KEPT));
    // Held while mounting, or two threads would mount the same file.
    let mut mounted = MOUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    let mount = match mounted.iter().position(|(known, _)| *known == key) {
        Some(index) => mounted.remove(index).1,
        None => Arc::new(mount(&file, path)?),
    };
    make_room(&mut mounted, files.min(KEPT));
    mounted.push((key, mount.clone()));
    Ok(mount)
}

/// Lets go of what was not used for longest until there is room for one more. What is just becoming part of an overlay
/// stays: to mount it again would cost more than to keep it.
fn make_room<T>(mounted: &mut Vec<(Key, Arc<T>)>, most: usize) {
    let mut surplus = (mounted.len() + 1).saturating_sub(most);
    mounted.retain(|(_, mount)| {
        let goes = surplus > 0 && Arc::strong_count(mount) == 1;
        surplus -= usize::from(goes);
        !goes
    });
}

/// Holds mounts that another process is to open.
#[derive(Debug, Default)]
#[must_use = "the mounts must be there until the sandbox has started"]
pub struct Loan {
    _mounts: Vec<Arc<OwnedFd>>,
}

/// Mounts what layers of overlays are files, and names the mounts in their place, for a supervisor: there are several,
/// and each would mount them all again. What cannot be mounted here is left to the supervisor, which tells why.
pub fn lend<'a>(kinds: impl IntoIterator<Item = &'a mut MountKind>) -> Loan {
    let mut mounts = Vec::new();
    let Some(descriptors) = descriptors() else { return Loan::default() };
    for kind in kinds {
        let MountKind::Overlay { lower, .. } = kind else { continue };
        for layer in lower {
            if let Lower::Erofs(path) = layer
                && let Ok(mount) = shared(path)
            {
                *layer = Lower::Mounted(descriptors.join(mount.as_raw_fd().to_string()));
                mounts.push(mount);
            }
        }
    }
    Loan { _mounts: mounts }
}

/// Where other processes find the descriptors of this one. Not by the number that it has for itself: `/proc` may be that
/// of another pid namespace.
fn descriptors() -> Option<&'static Path> {
    static DESCRIPTORS: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = || Some(Path::new("/proc").join(std::fs::read_link("/proc/self").ok()?).join("fd"));
    DESCRIPTORS.get_or_init(found).as_deref()
}

/// The same as a mount of its own, which may be attached and restricted.
pub(super) fn single(path: &Path) -> Result<OwnedFd, MountError> {
    match bind(shared(path)?.as_fd(), false) {
        // Before 6.15 only what lies in a mount namespace can be cloned.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => mount(&open(path)?.0, path),
        other => other.map_err(|error| failed(path, error)),
    }
}

/// Reads a file out of an EROFS file system that is a layer of an overlay: whoever can do this can have such layers.
///
/// # Errors
/// The kernel lacks EROFS, or is too old: EROFS mounts files since Linux 6.12, and overlay takes mounts that are attached
/// nowhere since 6.15 ("fs: allow detached mounts in `clone_private_mount()`"). The caller is not the machine's
/// administrator. The file lies on a file system, such as tmpfs, that EROFS cannot read from.
pub fn read_from_erofs_layer(image: &Path, file: &Path) -> Result<Vec<u8>, MountError> {
    let (opened, _) = open(image)?;
    // Not shared: the image is a file that nobody else uses.
    let layer = Arc::new(mount(&opened, image)?);
    let below = Arc::new(tmpfs(Some(4096), 0o755)?);
    let layers = Layers { lower: vec![layer, below], upper: None, has_erofs: true };
    let overlay =
        layers.mount_one_by_one(OverlayOptions::default()).map_err(|error| MountError::mount("overlay", error))?;
    let read = || -> io::Result<Vec<u8>> {
        let found = open_beneath(overlay.as_fd(), file, OFlags::empty())?;
        // Opened anew through the link: the descriptor only names the file.
        let mut bytes = Vec::new();
        File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))?.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|source| MountError::Open { path: file.to_owned(), source })
}

fn open(path: &Path) -> Result<(File, Key), MountError> {
    let failed = |source| MountError::Open { path: path.to_owned(), source };
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    let file = File::from(file.map_err(|error| failed(error.into()))?);
    let stat = rustix::fs::fstat(&file).map_err(|error| failed(error.into()))?;
    let key = (stat.st_dev, stat.st_ino, stat.st_ctime, stat.st_ctime_nsec.cast_signed());
    Ok((file, key))
}

fn mount(file: &File, path: &Path) -> Result<OwnedFd, MountError> {
    let make = || -> io::Result<OwnedFd> {
        read_ahead(file)?;
        let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(context.as_fd(), "source", format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        fsconfig_create(context.as_fd())?;
        Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?)
    };
    make().map_err(|error| failed(path, error))
}

/// Has the metadata read in long stretches before the kernel asks for it block by block. On ext4 the latter also goes
/// through a path that a kernel with `CONFIG_EXT4_DEBUG` warns about.
fn read_ahead(file: &File) -> io::Result<()> {
    let mut head = [0; METADATA_BLOCK + 4];
    file.read_exact_at(&mut head, 0)?;
    let block = u32::from_le_bytes(head[METADATA_BLOCK..].try_into().expect("four bytes"));
    let (mut at, end) = (u64::from(block) * BLOCK, file.metadata()?.len());
    while at < end {
        fadvise(file, at, std::num::NonZeroU64::new(AHEAD), Advice::WillNeed)?;
        at += AHEAD;
    }
    Ok(())
}

fn failed(path: &Path, error: io::Error) -> MountError {
    MountError::mount(format!("the file `{}` as erofs", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_stays_and_the_oldest_goes() {
        let mut mounted = Vec::new();
        let mut held = Vec::new();
        for round in 0..2 {
            for number in 0..10 {
                let key = (number, 0, 0, 0);
                let known = mounted.iter().position(|(known, _)| *known == key);
                assert_eq!(
                    known.is_some(),
                    round == 1,
                    "an overlay of more layers than are kept finds all of them again"
                );
                let mount = known.map_or_else(|| Arc::new(()), |known| mounted.remove(known).1);
                make_room(&mut mounted, 4);
                held.push(mount.clone());
                mounted.push((key, mount));
            }
        }
        held.clear();
        make_room(&mut mounted, 4);
        let left: Vec<_> = mounted.iter().map(|((number, ..), _)| *number).collect();
        assert_eq!(left, [7, 8, 9]);
    }

    #[test]
    fn a_file_that_became_a_directory_is_a_layer() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("file"), "").unwrap();
        let opened = shared(directory.path()).unwrap();
        assert!(rustix::fs::statat(&opened, "file", rustix::fs::AtFlags::empty()).is_ok());
    }

    #[test]
    fn what_cannot_be_lent_is_left_to_the_supervisor() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir(path("layer")).unwrap();
        std::fs::write(path("layer/file"), "").unwrap();
        std::fs::write(path("damaged"), [0; 4096]).unwrap();
        let erofs = |name: &str| Lower::Erofs(path(name));
        let lower = vec![erofs("missing"), erofs("layer"), Lower::Directory(path("layer")), erofs("damaged")];
        let mut kinds = [MountKind::Overlay { lower: lower.clone(), upper: None }, MountKind::Proc];
        let loan = lend(&mut kinds);
        let [MountKind::Overlay { lower: lent, .. }, _] = &kinds else { panic!("{kinds:?}") };
        let (Lower::Mounted(mount), [first, _, rest @ ..]) = (&lent[1], &lent[..]) else { panic!("{lent:?}") };
        assert_eq!((first, rest), (&lower[0], &lower[2..]));
        let descriptors = format!("/proc/{}/fd", std::process::id());
        assert_eq!(mount.parent(), Some(Path::new(&descriptors)), "other processes find it");
        assert!(std::fs::metadata(mount.join("file")).unwrap().is_file());
        drop(loan);
    }
}
