//! What network does a sandbox see?
//!
//! A [`Namespace`] is a network of its own that lives as long as the value (and the sandboxes in it), so that nothing has
//! to be cleaned up; [`crate::Network::Join`] puts a sandbox into it. [`PortForward`] brings connections to the host's
//! ports into one; [`Outbound`] gives one a way to the world. [`resolv_conf`] says which name servers a sandbox can reach.

mod forward;
mod masquerade;
mod netlink;
mod outbound;
mod pool;
mod resolv;

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

pub use forward::{Forward, PortForward};
pub use outbound::{Outbound, OutboundError};
pub use pool::{Lease, Pool};
pub use resolv::resolv_conf;

use crate::sys;

/// A network namespace, held open.
#[derive(Debug)]
pub struct Namespace(OwnedFd);

impl Namespace {
    /// A new one, in which only loopback is up.
    ///
    /// # Errors
    /// If this process may not make namespaces.
    pub fn create() -> io::Result<Self> {
        on_own_thread(|| {
            sys::unshare(UnshareFlags::NEWNET)?;
            netlink::set_up(1)?;
            Self::open("/proc/thread-self/ns/net")
        })
    }

    /// The one a process is in.
    ///
    /// # Errors
    /// If there is no such process, or it belongs to somebody else.
    pub fn of(pid: u32) -> io::Result<Self> {
        Self::open(&format!("/proc/{pid}/ns/net"))
    }

    fn open(path: &str) -> io::Result<Self> {
        Ok(Self(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// A path by which other processes can open it, as long as this value lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()))
    }

    /// Calls `work` on a thread of its own inside the namespace: sockets it makes belong there for good.
    ///
    /// # Errors
    /// If the namespace cannot be entered, or `work` fails.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        on_own_thread(|| {
            move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        })
    }

    /// Another handle of the same namespace.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|_| Err(io::Error::other("the thread in another network namespace panicked")))
}

/// Brings loopback up in the current namespace.
pub(crate) fn loopback_up() -> io::Result<()> {
    netlink::set_up(1)
}
