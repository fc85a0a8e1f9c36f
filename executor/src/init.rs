//! What does `rbuild __init` do?
//!
//! It is this program, executed again by [`crate::Sandbox`] so as to have one thread: its standard input is the socket
//! to rbuild, over which the request and its descriptors arrive. It becomes the supervisor of one process and ends with
//! it. All output goes to that socket.
//!
//! ```text
//! rbuild ──spawn──► supervisor ──clone──► pid 1 ──exec──► the process
//! ```

mod devices;
mod inside;
mod join;
mod mounts;
mod process;
mod supervisor;

use std::io::{self, Read as _};
use std::os::fd::OwnedFd;

use crate::channel::{self, Request};
use crate::sys;

/// Standard input, output and error of the process-to-be.
#[derive(Debug)]
pub(crate) struct Descriptors {
    pub(crate) stdio: [OwnedFd; 3],
    /// The process to join, if one is to be joined.
    pub(crate) target: Option<OwnedFd>,
}

/// The body of `rbuild __init`. Must be called before the program starts threads or reads its standard input. Its exit
/// code means nothing: rbuild reads reports.
pub fn init() -> ! {
    let code = match read_request() {
        Ok((Request::Start(plan), descriptors)) => supervisor::start(&plan, descriptors),
        Ok((Request::Join(join), descriptors)) => join::join(join, descriptors),
        Err(_) => 1,
    };
    sys::exit_now(code)
}

fn read_request() -> io::Result<(Request, Descriptors)> {
    let broken = || io::Error::other("incomplete request");
    let (_, descriptors) = channel::receive::<()>(rustix::stdio::stdin())?.ok_or_else(broken)?;
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().ok_or_else(broken);
    let mut memory = std::fs::File::from(next()?);
    rustix::fs::seek(&memory, rustix::fs::SeekFrom::Start(0))?;
    let mut text = Vec::new();
    memory.read_to_end(&mut text)?;
    let stdio = [next()?, next()?, next()?];
    let request = serde_json::from_slice(&text)?;
    Ok((request, Descriptors { stdio, target: descriptors.next() }))
}
