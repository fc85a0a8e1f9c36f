//! Where does EROFS keep what?
//!
//! All numbers are little endian.

/// Where the caller's file has the tar.
pub const TAR_OFFSET: u64 = 4096;
/// Where it has the superblock.
pub const SUPERBLOCK_OFFSET: u64 = 1024;
/// How long that is.
pub const SUPERBLOCK_LENGTH: usize = 128;
/// The metadata begin and end at multiples of this.
pub const METADATA_ALIGNMENT: u64 = 4096;

pub(super) const BLOCK: u64 = 512;
pub(super) const MAGIC: u32 = 0xe0f5_e1e2;
/// Number 0 is no inode to C libraries, and the root's must fit 16 bits: the first inode, the root's, has this one.
pub(super) const FIRST_NID: u64 = BLOCK / SLOT;
/// Inodes are numbered by their place.
pub(super) const SLOT: u64 = 32;
/// An extended inode.
pub(super) const INODE: u64 = 64;
/// Before the first attribute of an inode.
pub(super) const XATTR_HEADER: u64 = 12;
/// One entry of a directory, without its name.
pub(super) const DIRENT: u64 = 12;

/// The kernel's limit, also on the target of a symbolic link.
pub(super) const LONGEST_PATH: usize = 4095;

/// The content lies in blocks of its own.
pub(super) const FLAT_PLAIN: u16 = 0;
/// The content follows the inode.
pub(super) const FLAT_INLINE: u16 = 2;
/// The bit of the format that says: an extended inode.
pub(super) const EXTENDED: u16 = 1;

pub(super) const S_IFMT: u16 = 0o170_000;
pub(super) const S_IFIFO: u16 = 0o010_000;
pub(super) const S_IFCHR: u16 = 0o020_000;
pub(super) const S_IFDIR: u16 = 0o040_000;
pub(super) const S_IFBLK: u16 = 0o060_000;
pub(super) const S_IFREG: u16 = 0o100_000;
pub(super) const S_IFLNK: u16 = 0o120_000;

/// The type in a directory's entry for a file of this mode.
pub(super) fn entry_type(mode: u16) -> u8 {
    match mode & S_IFMT {
        S_IFREG => 1,
        S_IFDIR => 2,
        S_IFCHR => 3,
        S_IFBLK => 4,
        S_IFIFO => 5,
        S_IFLNK => 7,
        _ => 0,
    }
}

/// A device number as inodes hold it; `None` if it has no place.
pub(super) fn encode_device(major: u32, minor: u32) -> Option<u32> {
    let fits = major < 1 << 12 && minor < 1 << 20;
    fits.then_some(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}

/// Major and minor number.
pub(super) fn decode_device(device: u32) -> (u32, u32) {
    ((device & 0xf_ff00) >> 8, device & 0xff | (device >> 12) & !0xff)
}

/// Where the metadata of a tar of this length begin in the file.
pub fn metadata_offset(tar_length: u64) -> u64 {
    TAR_OFFSET.saturating_add(tar_length).next_multiple_of(METADATA_ALIGNMENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive() {
        for (major, minor) in [(0, 0), (1, 3), (8, 255), (8, 256), (4095, 0xf_ffff), (259, 0x1_2345)] {
            assert_eq!(decode_device(encode_device(major, minor).unwrap()), (major, minor));
        }
        assert_eq!(encode_device(5, 1), Some(0x501));
        assert_eq!(encode_device(4096, 0), None);
        assert_eq!(encode_device(0, 1 << 20), None);
    }
}
