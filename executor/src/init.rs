//! What does `rbuild __init` do?
//!
//! It is this program, executed again by [`crate::Sandbox`] so as to have one thread: its standard input is the socket
//! to rbuild, over which requests and their descriptors arrive. It becomes the supervisor of one process at a time, one
//! after the other, and ends with the socket. All output goes to that socket.
//!
//! ```text
//! rbuild ──spawn──► supervisor ──clone──► pid 1 ──exec──► the process
//! ```

mod inside;
mod join;
mod mounts;
mod process;
mod sources;
mod supervisor;
mod template;

use std::io::{self, Read as _};
use std::os::fd::OwnedFd;

use rustix::fs::Mode;

use crate::channel::{self, Command, Request};
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
    sys::exit_now(i32::from(serve().is_err()))
}

/// Does what is asked, until nobody can ask any more.
fn serve() -> io::Result<()> {
    // Modes of what is made are meant as written; pid 1 sets the usual mask for the process.
    rustix::process::umask(Mode::empty());
    // All paths are absolute, and rbuild may have been started in a directory that is closed to its user.
    rustix::process::chdir("/")?;
    // Processes inherit what is ignored: once here instead of in each of them.
    sys::reset_signals();
    // Not so this one, which is a handler: it is for supervisors, and pid 1 until it is the process.
    sys::let_large_writes_fail();
    crate::mount::remember_user_namespace();
    let mut supervisor = supervisor::Supervisor::new()?;
    while let Some((command, descriptors)) = channel::receive::<Command>(rustix::stdio::stdin())? {
        if let Command::Request = command {
            match read_request(descriptors)? {
                (Request::Start(plan), descriptors) => supervisor.start(&plan, descriptors),
                // It is in the sandbox's namespaces afterwards.
                (Request::Join(join), descriptors) => return join::join(join, descriptors),
            }
        }
    }
    Ok(())
}

fn read_request(descriptors: Vec<OwnedFd>) -> io::Result<(Request, Descriptors)> {
    let broken = || io::Error::other("incomplete request");
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
