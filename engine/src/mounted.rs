//! How does our own code look into a root file system?

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use rbuild_core::Mount;

use crate::error::Error;
use crate::files::Root;

/// A root file system behind a descriptor: mounted in no namespace, seen by nobody else, gone when dropped or when
/// this process dies.
#[derive(Debug)]
pub(crate) struct Mounted {
    pub(crate) root: Root,
    _mount: OwnedFd,
}

impl Mounted {
    pub(crate) fn new(mount: &Mount) -> Result<Self, Error> {
        let descriptor = rbuild_executor::mount::detached(mount)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()));
        let root = Root::of_layers(&path).map_err(Error::file("open", &path))?;
        Ok(Self { root, _mount: descriptor })
    }
}
