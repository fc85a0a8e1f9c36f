//! What is the state directory, and who is using it?

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use rbuild_core::Digest;
use rustix::fs::{FlockOperation, IFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::aside::Aside;
use crate::error::{Context, Result, StoreError};
use crate::layers::{FileStamp, LayerForm, LayerId, Left, ReadErofs, Room};
use crate::meta::{Meta, Table};
use crate::{Builds, CacheMounts, Containers, Content, Images, Layers, Listings, Records, StatCache};

/// Directories of a new store. `meta-v1` is made last: where it is, all are.
const DIRECTORIES: [&str; 10] = [
    "blobs",
    "blobs/sha256",
    "layers-v1",
    "ingest",
    "trash",
    "locks",
    "cache-mounts",
    "containers",
    "stat-cache-v1",
    "meta-v1",
];
/// Directories whose children are spread over the disk (`chattr +T`): in a journal-less ext4, creating files beside
/// many just deleted ones costs a millisecond each.
const SPREAD: [&str; 3] = ["layers-v1", "ingest", "trash"];

/// When each row was used last, in seconds since 1970, by its table's letter and its key.
pub(crate) const USED: Table<u64> = Table::new(b'u', "last use");
/// How precise [`USED`] is. A build that only finds things rarely has to write.
const USED_STEP: u64 = 3600;

/// Under which names the kernel's overlay keeps its own extended attributes, such as "opaque".
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OverlayXattrs {
    /// `trusted.overlay.*`: the mounter is root on the host.
    #[default]
    Trusted,
    /// `user.overlay.*`: the mounter is root in a user namespace and mounts with the option `userxattr`.
    User,
}

impl OverlayXattrs {
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.",
            Self::User => "user.overlay.",
        }
    }
}

/// How a store is used by this process.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// How layers mark directories that hide the ones below them. The same for the whole life of a store.
    pub overlay_xattrs: OverlayXattrs,
    /// In which form new layers are made. Those that are there are used in the form they have.
    pub layers: LayerForm,
    /// How this process mounts layers that are files; without it they are unpacked before they are used.
    pub read_erofs: Option<ReadErofs>,
}

/// One state directory. Cheap to clone; any number of processes may have it open.
#[derive(Clone, Debug)]
pub struct Store(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) root: PathBuf,
    pub(crate) options: StoreOptions,
    pub(crate) meta: Arc<Meta>,
    pub(crate) aside: Aside,
    /// Whether this process has flushed older layers to disk, or is doing it.
    pub(crate) settling: AtomicBool,
    /// Whether this process can use layers that are files, once it was tried.
    pub(crate) erofs: OnceLock<std::result::Result<(), Arc<StoreError>>>,
    /// The files of layers whose metadata this process has compared.
    pub(crate) checked: Mutex<HashSet<(LayerId, FileStamp)>>,
    /// Layers to be, of this process.
    pub(crate) left: Left,
    /// Layers that this process made of steps that changed nothing, by identity.
    pub(crate) empty: Mutex<HashMap<Digest, LayerId>>,
    /// Where layers of many files are made.
    pub(crate) room: Arc<Room>,
    used: Mutex<HashSet<Vec<u8>>>,
}

impl Store {
    /// Opens the store in `root` with default options, making it if it is new.
    ///
    /// # Errors
    /// The directory cannot be made, or its database cannot be opened.
    pub fn open(root: &Path) -> Result<Self> {
        Self::open_with(root, StoreOptions::default())
    }

    /// Opens the store in `root`, making it if it is new.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(root: &Path, options: StoreOptions) -> Result<Self> {
        if !root.join("meta-v1").is_dir() {
            create(root)?;
        }
        // Mounts and error messages need paths that do not depend on the working directory.
        let root = fs::canonicalize(root).context("find", root)?;
        let meta = Meta::open(&root.join("meta-v1"))?;
        let aside = Aside::new(&root);
        Ok(Self(Arc::new(Inner {
            root,
            options,
            meta,
            aside,
            settling: AtomicBool::new(false),
            erofs: OnceLock::new(),
            checked: Mutex::default(),
            left: Left::default(),
            empty: Mutex::default(),
            room: Arc::default(),
            used: Mutex::default(),
        })))
    }

    /// The state directory, absolute.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// Blobs by their sha256: manifests, configurations, layers as they travel.
    pub fn content(&self) -> Content<'_> {
        Content(self)
    }

    /// What root file systems are made of.
    pub fn layers(&self) -> Layers<'_> {
        Layers(self)
    }

    /// What build steps produced, by cache key.
    pub fn records(&self) -> Records<'_> {
        Records(self)
    }

    /// Images and their names.
    pub fn images(&self) -> Images<'_> {
        Images(self)
    }

    /// Containers that were run, and their directories.
    pub fn containers(&self) -> Containers<'_> {
        Containers(self)
    }

    /// `RUN --mount=type=cache` directories.
    pub fn cache_mounts(&self) -> CacheMounts<'_> {
        CacheMounts(self)
    }

    /// What is known about the files of build contexts.
    pub fn stat_cache(&self) -> StatCache<'_> {
        StatCache(self)
    }

    /// The files that steps were built from.
    pub fn listings(&self) -> Listings<'_> {
        Listings(self)
    }

    /// What the last builds did.
    pub fn builds(&self) -> Builds<'_> {
        Builds(self)
    }

    /// Cleans up after a build: what it discarded, what dead processes left, what prunes condemned while somebody might
    /// have needed it, readers that died. Cheap if there is nothing; never touches anything that is visible. Returns how
    /// many entries were deleted.
    ///
    /// # Errors
    /// The disk fails, or a row that keeps something alive cannot be read: the first of several. The rest is done all the
    /// same. What this process may not delete stays for one that may.
    pub fn reap(&self) -> Result<usize> {
        let readers = self.0.meta.clear_dead_readers().map(drop);
        let ingest = self.reap_ingest().map(drop);
        let swept = self.has_condemned().and_then(|has| if has { self.sweep().map(drop) } else { Ok(()) });
        let deleted = self.0.aside.empty_trash();
        // Last: writing may need the room that was just made.
        let flushed = self.flush_used();
        readers.and(ingest).and(swept).and(deleted).and_then(|deleted| flushed.map(|()| deleted))
    }

    /// Moves to the trash what dead processes left, except transfers that somebody may go on with.
    pub(crate) fn reap_ingest(&self) -> Result<usize> {
        let now = SystemTime::now();
        self.0.aside.reap_ingest(|name, metadata| {
            name.as_encoded_bytes().ends_with(crate::content::PARTIAL.as_bytes())
                && metadata.modified().is_ok_and(|at| now.duration_since(at).unwrap_or_default() < PARTIAL_LIFE)
        })
    }

    /// All metadata, one row after the other: the letter of its kind, its key, its JSON. For people who debug a store;
    /// `docs/storage.md` lists the letters.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub fn dump(&self) -> Result<Vec<(char, String, String)>> {
        self.0.meta.dump()
    }

    /// Remembers that the row of `key` in the table `letter` was used now.
    pub(crate) fn note_use(&self, letter: u8, key: &[u8], last: Option<u64>) {
        if last.is_none_or(|last| last + USED_STEP < now()) {
            self.0.used.lock().unwrap_or_else(PoisonError::into_inner).insert(used_key(letter, key));
        }
    }

    /// Writes what [`Store::note_use`] collected.
    pub(crate) fn flush_used(&self) -> Result<()> {
        let used = std::mem::take(&mut *self.0.used.lock().unwrap_or_else(PoisonError::into_inner));
        if used.is_empty() {
            return Ok(());
        }
        let now = now();
        self.0.meta.write(|writer| {
            for key in &used {
                // Unless it was pruned meanwhile.
                if writer.has(key)? {
                    writer.put(&USED, key, &now)?;
                }
            }
            Ok(())
        })
    }
}

/// A broken pull can be continued for this long.
const PARTIAL_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// What distinguishes this start of the machine from all others.
pub(crate) fn boot() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        text.trim().to_owned()
    })
}

pub(crate) fn used_key(letter: u8, key: &[u8]) -> Vec<u8> {
    let mut full = vec![letter];
    full.extend_from_slice(key);
    full
}

/// `flock`, again after a signal.
pub(crate) fn lock(file: &File, operation: FlockOperation) -> io::Result<()> {
    loop {
        match rustix::fs::flock(file, operation) {
            Err(Errno::INTR) => {}
            other => return other.map_err(Into::into),
        }
    }
}

/// Reads a whole small file; `None` if there is none.
pub(crate) fn read_if_exists(path: &Path) -> Result<Option<Vec<u8>>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("open", path),
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).context("read", path)?;
    Ok(Some(bytes))
}

fn create(root: &Path) -> Result<()> {
    fs::create_dir_all(root).context("create", root)?;
    // Set-user-id programs of images are below: nobody else may reach them.
    rustix::fs::chmod(root, Mode::from_raw_mode(0o700)).context("change the mode of", root)?;
    for name in DIRECTORIES {
        let path = root.join(name);
        match rustix::fs::mkdir(&path, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).context("create", &path),
        }
        if SPREAD.contains(&name) {
            spread(&path);
        }
        if name == "stat-cache-v1" {
            let path = root.join("oci-layout");
            fs::write(&path, r#"{"imageLayoutVersion":"1.0.0"}"#).context("write", &path)?;
        }
    }
    crate::reserve::take(root);
    Ok(())
}

/// Only ext4 knows the flag, and only speed depends on it.
fn spread(path: &Path) {
    let set = || {
        let directory = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let flags = rustix::fs::ioctl_getflags(&directory)?;
        rustix::fs::ioctl_setflags(&directory, flags | IFlags::TOPDIR)
    };
    if let Err(error) = set() {
        tracing::debug!(path = %path.display(), %error, "not spread");
    }
}
