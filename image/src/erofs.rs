//! How does a plain tar become a file system that the kernel mounts, without being unpacked?
//!
//! By metadata in EROFS's format (blocks of 512 bytes, as a tar has them) that point into it:
//!
//! ```text
//! 0        1024                4096                              a multiple of 4096
//! ├ caller's │ superblock, NULs │ the tar, byte for byte, NULs    │ inodes │ directories, long symlinks, NULs ┤
//! ```
//!
//! [`ErofsTree`] collects what a tar's entries say, in whatever order they come, and writes the metadata after it;
//! [`ErofsImage`] reads them back without a kernel. What a [`Change`](crate::Change) means to a tree is the same as for
//! a layer that is unpacked; a tar that means something which no such file system can show (a path through a symbolic
//! link, say) is [`Undescribable`], and has to be unpacked.
//!
//! Whiteouts and opaque directories are written as the kernel's overlay wants them in a lower layer: a character device
//! 0/0, the attribute `trusted.overlay.opaque`.
//!
//! The format: <https://docs.kernel.org/filesystems/erofs.html>, `fs/erofs/erofs_fs.h`. Only what every kernel that
//! mounts EROFS from a file knows is used: extended inodes, flat data, attributes beside their inode.

mod attributes;
mod format;
mod image;
mod tree;
mod write;

pub use attributes::{holds_attribute, holds_attributes};
pub use format::{METADATA_ALIGNMENT, SUPERBLOCK_LENGTH, SUPERBLOCK_OFFSET, TAR_OFFSET, metadata_offset};
pub use image::{ErofsBytes, ErofsImage, ErofsNode, ErofsNodes, MalformedErofs};
pub use tree::{ErofsTree, Undescribable};
pub use write::ErofsMetadata;
