//! What is known about a file without reading it?

use std::ffi::OsStr;

use rustix::fs::{FileType, Statx, makedev};

/// What a name in a directory stands for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A file with content.
    File,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A socket, which is never copied.
    Socket,
}

impl Kind {
    /// The kind in the type bits of a `st_mode`. What the kernel may add one day counts as a socket: not copied.
    fn of_mode(mode: u32) -> Self {
        match FileType::from_raw_mode(mode) {
            FileType::Directory => Self::Directory,
            FileType::RegularFile => Self::File,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::CharacterDevice => Self::CharacterDevice,
            FileType::BlockDevice => Self::BlockDevice,
            _ => Self::Socket,
        }
    }

    /// A letter for hashes and messages, as `ls -l` has it.
    pub fn letter(self) -> u8 {
        match self {
            Self::Directory => b'd',
            Self::File => b'-',
            Self::Symlink => b'l',
            Self::Fifo => b'p',
            Self::CharacterDevice => b'c',
            Self::BlockDevice => b'b',
            Self::Socket => b's',
        }
    }
}

/// Seconds since the epoch and nanoseconds.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp {
    /// Whole seconds; negative before 1970.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// A time of whole seconds.
    pub fn seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }

    /// Nanoseconds since the epoch; ends in 1677 and 2262.
    pub(crate) fn total_nanoseconds(self) -> i64 {
        self.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(self.nanoseconds))
    }
}

/// A file's metadata as `lstat` shows it, and where a link points.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-id and sticky bits: 0 to 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length of a file's content in bytes.
    pub size: u64,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of anything.
    pub ctime: Timestamp,
    /// The file system it is on.
    pub dev: u64,
    /// Its number there.
    pub ino: u64,
    /// How many names it has.
    pub links: u64,
    /// What a device file stands for.
    pub device: u64,
    /// Where a symbolic link points.
    pub target: Option<Box<OsStr>>,
}

impl Node {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// Whether two looks at a path saw the same, unchanged file.
    pub(crate) fn same_version(&self, other: &Self) -> bool {
        (self.kind, self.mode, self.size, self.mtime, self.ctime, self.dev, self.ino)
            == (other.kind, other.mode, other.size, other.mtime, other.ctime, other.dev, other.ino)
    }

    /// Whether two looks at a path saw the same content, as far as metadata tells. Numbers do not count: some file
    /// systems give out new ones each time.
    pub(crate) fn same_content(&self, other: &Self) -> bool {
        (self.kind, self.size, self.mtime) == (other.kind, other.size, other.mtime)
    }

    pub(crate) fn from_statx(stat: &Statx, target: Option<Box<OsStr>>) -> Self {
        Self {
            kind: Kind::of_mode(u32::from(stat.stx_mode)),
            mode: u32::from(stat.stx_mode) & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            size: stat.stx_size,
            mtime: Timestamp { seconds: stat.stx_mtime.tv_sec, nanoseconds: stat.stx_mtime.tv_nsec },
            ctime: Timestamp { seconds: stat.stx_ctime.tv_sec, nanoseconds: stat.stx_ctime.tv_nsec },
            dev: makedev(stat.stx_dev_major, stat.stx_dev_minor),
            ino: stat.stx_ino,
            links: u64::from(stat.stx_nlink),
            device: makedev(stat.stx_rdev_major, stat.stx_rdev_minor),
            target,
        }
    }
}
