//! How does an ordinary user become root of a namespace?
//!
//! [`enter`] moves the whole program into a user namespace in which user 0 is the caller and users 1 and up are its
//! subordinate ids (`/etc/subuid`, `/etc/subgid`), and into a mount namespace that belongs to it. From then on
//! everything else in rbuild works as it does for root.
//!
//! ```text
//!  rbuild (uid 1000) ── fork ──► helper, stays outside
//!     │ unshare(USER|MOUNT)        │ waits for a byte
//!     │ ── byte ─────────────────► │ newuidmap PID 0 1000 1  1 100000 65536
//!     │                            │ newgidmap PID 0 1000 1  1 100000 65536
//!     │ ◄───────────────── status ─┘
//!  rbuild (uid 0 in its namespace)
//! ```
//!
//! The two programs are set-user-ID and must run outside the new namespace, hence the helper, forked while this process
//! has a single thread: the kernel refuses `unshare(CLONE_NEWUSER)` to a process with more. Without subordinate ids, or
//! without the two programs, only user 0 is mapped, which every user may do alone.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::Command;

use rustix::process::{Pid, PidfdFlags, WaitOptions, getegid, geteuid, pidfd_open, waitpid};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces};

use crate::host::which;
use crate::sys;

/// A run of ids: the first inside the namespace, the first outside, how many.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IdRange {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// Number of ids.
    pub count: u32,
}

/// How ids inside the namespace relate to ids outside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mapping {
    /// User ids.
    pub users: Vec<IdRange>,
    /// Group ids.
    pub groups: Vec<IdRange>,
    /// Why there are no subordinate ids in it, if there are none: images whose files belong to several users cannot be
    /// unpacked, and `chown` fails.
    pub single: Option<String>,
}

/// Why the user namespace could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum UsernsError {
    /// The process has more than one thread, so the kernel would refuse.
    #[error("cannot enter a user namespace from a process with several threads")]
    Threads,
    /// The kernel, or a security module, does not let ordinary users make user namespaces.
    #[error("cannot create a user namespace")]
    Unshare(#[source] io::Error),
    /// The helper process could not be made or spoken to.
    #[error("cannot run the helper that maps ids")]
    Helper(#[source] io::Error),
    /// Another program's namespaces could not be joined.
    #[error("cannot join the namespaces of process {pid}")]
    Join {
        /// The process.
        pid: u32,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Not even the caller's own id could be mapped.
    #[error("cannot write `{file}`")]
    Map {
        /// The file in `/proc`.
        file: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

/// Enters a new user and mount namespace; see the module's description. To be called first thing in `main`.
///
/// # Errors
/// After an error other than [`UsernsError::Threads`] the process may already be in a namespace without a usable
/// mapping and should end.
pub fn enter() -> Result<Mapping, UsernsError> {
    sys::single_threaded().map_err(|_| UsernsError::Threads)?;
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let subordinate = Subordinate::of(uid, gid);
    let own = |id| IdRange { inside: 0, outside: id, count: 1 };
    let programs = which("newuidmap").zip(which("newgidmap"));
    let single = match (&programs, subordinate.users.is_empty(), subordinate.groups.is_empty()) {
        (_, true, _) => Some("no line for you in /etc/subuid".to_owned()),
        (_, _, true) => Some("no line for you in /etc/subgid".to_owned()),
        (None, ..) => Some("`newuidmap` and `newgidmap` are not installed".to_owned()),
        _ => None,
    };
    let (Some((newuidmap, newgidmap)), None) = (programs, &single) else {
        unshare()?;
        return map_single(own(uid), own(gid), single.unwrap_or_default());
    };
    let users: Vec<_> = [own(uid)].into_iter().chain(subordinate.users).collect();
    let groups: Vec<_> = [own(gid)].into_iter().chain(subordinate.groups).collect();

    let (mut go_reader, mut go_writer) = io::pipe().map_err(UsernsError::Helper)?;
    let (mut done_reader, mut done_writer) = io::pipe().map_err(UsernsError::Helper)?;
    let target = std::process::id().to_string();
    let Some(helper) = sys::fork().map_err(UsernsError::Helper)? else {
        drop((go_writer, done_reader));
        let mut byte = [0];
        if go_reader.read_exact(&mut byte).is_err() {
            sys::exit_now(1);
        }
        let outcome = run_map(&newuidmap, &target, &users).and_then(|()| run_map(&newgidmap, &target, &groups));
        let report = outcome.err().unwrap_or_default();
        // If nobody reads the report, rbuild is gone and nobody cares.
        drop(done_writer.write_all(report.as_bytes()));
        sys::exit_now(0);
    };
    drop((go_reader, done_writer));
    let outcome = unshare();
    if outcome.is_ok() {
        go_writer.write_all(&[1]).map_err(UsernsError::Helper)?;
    }
    drop(go_writer);
    let mut report = String::new();
    done_reader.read_to_string(&mut report).map_err(UsernsError::Helper)?;
    waitpid(Some(helper), WaitOptions::empty()).map_err(|error| UsernsError::Helper(error.into()))?;
    outcome?;
    if report.is_empty() {
        return Ok(Mapping { users, groups, single: None });
    }
    map_single(own(uid), own(gid), report)
}

/// Enters the user and mount namespace of a running program of the same user, as a program that wants to reach into
/// what that one has made. To be called instead of [`enter`], under the same conditions.
///
/// # Errors
/// [`UsernsError::Threads`], or [`UsernsError::Join`] when there is no such program or it belongs to somebody else.
pub fn join(pid: u32) -> Result<(), UsernsError> {
    sys::single_threaded().map_err(|_| UsernsError::Threads)?;
    let failed = |source: rustix::io::Errno| UsernsError::Join { pid, source: source.into() };
    let target = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| failed(rustix::io::Errno::SRCH))?;
    let target = pidfd_open(target, PidfdFlags::empty()).map_err(failed)?;
    move_into_thread_name_spaces(target.as_fd(), ThreadNameSpaceType::USER | ThreadNameSpaceType::MOUNT).map_err(failed)
}

fn unshare() -> Result<(), UsernsError> {
    sys::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS).map_err(|error| UsernsError::Unshare(error.into()))
}

/// The one mapping that needs no privilege. `setgroups` must be given up first.
fn map_single(user: IdRange, group: IdRange, why: String) -> Result<Mapping, UsernsError> {
    let write = |file, text: String| fs::write(file, text).map_err(|source| UsernsError::Map { file, source });
    let line = |range: IdRange| format!("{} {} {}\n", range.inside, range.outside, range.count);
    // A helper that failed half-way may have written the user map already; a map can be written only once.
    if fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| map.trim().is_empty()) {
        write("/proc/self/uid_map", line(user))?;
    }
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/gid_map", line(group))?;
    Ok(Mapping { users: vec![user], groups: vec![group], single: Some(why) })
}

fn run_map(program: &std::path::Path, target: &str, ranges: &[IdRange]) -> Result<(), String> {
    let numbers = ranges.iter().flat_map(|range| [range.inside, range.outside, range.count]);
    let output = Command::new(program)
        .arg(target)
        .args(numbers.map(|number| number.to_string()))
        .output()
        .map_err(|error| format!("cannot run `{}`: {error}", program.display()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("`{}` failed: {}", program.display(), String::from_utf8_lossy(&output.stderr).trim()))
}

/// The ids that `/etc/subuid` and `/etc/subgid` give a user, as a namespace maps them after its own.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Subordinate {
    pub(crate) users: Vec<IdRange>,
    pub(crate) groups: Vec<IdRange>,
}

impl Subordinate {
    pub(crate) fn of(uid: u32, _gid: u32) -> Self {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let name = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
        });
        // Both files are keyed by the user, also the one about groups.
        let read = |file| ranges(&fs::read_to_string(file).unwrap_or_default(), name.as_deref(), uid);
        Self { users: read("/etc/subuid"), groups: read("/etc/subgid") }
    }

    pub(crate) fn count(&self) -> u64 {
        self.users.iter().map(|range| u64::from(range.count)).sum()
    }
}

/// Lines `NAME-OR-UID:FIRST:COUNT`, mapped one after the other from id 1. The kernel takes at most 340 ranges.
fn ranges(text: &str, name: Option<&str>, uid: u32) -> Vec<IdRange> {
    let mut inside = 1u32;
    let mut found = Vec::new();
    for line in text.lines() {
        let mut fields = line.trim().split(':');
        let Some(owner) = fields.next() else { continue };
        if Some(owner) != name && owner.parse() != Ok(uid) {
            continue;
        }
        let mut number = || fields.next().and_then(|field| field.trim().parse::<u32>().ok());
        let (Some(outside), Some(count)) = (number(), number()) else { continue };
        let Some(next) = inside.checked_add(count).filter(|_| count > 0) else { continue };
        found.push(IdRange { inside, outside, count });
        inside = next;
        if found.len() == 339 {
            break;
        }
    }
    found
}

/// Whether a `/proc/self/uid_map` is not that of the machine's first user namespace.
pub(crate) fn is_nested(map: &str) -> bool {
    let numbers: Vec<&str> = map.split_whitespace().collect();
    !map.is_empty() && numbers != ["0", "0", "4294967295"]
}

/// How many ids a `/proc/self/uid_map` has.
pub(crate) fn mapped_ids(map: &str) -> u64 {
    map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ranges_are_found_by_name_and_by_number_and_laid_end_to_end() {
        let text = "root:1:2\nann:100000:65536\n1000:300000:10\nbob:5:5\nann:bad:1\nann:7:0\n";
        let expected = [(1, 100_000, 65_536), (65_537, 300_000, 10)];
        let found = ranges(text, Some("ann"), 1000);
        assert_eq!(found.iter().map(|range| (range.inside, range.outside, range.count)).collect::<Vec<_>>(), expected);
        assert!(ranges(text, None, 77).is_empty());
    }

    #[test]
    fn the_first_user_namespace_is_recognised() {
        assert!(!is_nested("         0          0 4294967295\n"));
        assert!(is_nested("         0       1000          1\n"));
        assert!(is_nested("0 1000 1\n1 100000 65536\n"));
        assert_eq!(mapped_ids("0 1000 1\n1 100000 65536\n"), 65_537);
    }
}
