//! Can this machine run a test?
//!
//! [`needs!`] at the top of a test ends it where something is missing, and prints `skipped: ` and the reason. That line
//! is a contract: `.ci/run` reads it, and fails where a test of `.ci/must-run` printed it.

use std::env;
use std::fmt;
use std::fs;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::bench;

/// What a test cannot do without.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Need<'a> {
    /// Running as root, outside of a user namespace that only looks like it.
    Root,
    /// Mounting an overlay whose upper directory lies where benches are made.
    Overlay,
    /// User namespaces for ordinary users.
    UserNamespaces,
    /// A program on `$PATH` or in one of the directories that `$PATH` lacks for ordinary users.
    Command(&'a str),
    /// A TCP connection to a host, given as `NAME:PORT`.
    Host(&'a str),
    /// An environment variable that names what the caller of the tests prepared.
    Prepared(&'a str),
}

impl Need<'_> {
    /// Whether it is there.
    pub fn is_met(self) -> bool {
        match self {
            Self::Root => rustix::process::geteuid().is_root() && maps_everybody(),
            Self::Overlay => overlay(),
            Self::UserNamespaces => user_namespaces(),
            Self::Command(name) => find(name).is_some(),
            Self::Host(address) => reachable(address),
            Self::Prepared(variable) => env::var_os(variable).is_some_and(|path| Path::new(&path).exists()),
        }
    }
}

impl fmt::Display for Need<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => formatter.write_str("needs root"),
            Self::Overlay => write!(formatter, "cannot mount an overlay below `{}`", bench::place().display()),
            Self::UserNamespaces => formatter.write_str("ordinary users cannot make user namespaces"),
            Self::Command(name) => write!(formatter, "there is no program `{name}`"),
            Self::Host(address) => write!(formatter, "cannot reach `{address}`"),
            Self::Prepared(variable) => write!(formatter, "`${variable}` does not name what was prepared"),
        }
    }
}

/// The first of several needs that is not met.
pub fn missing<'a>(needs: &[Need<'a>]) -> Option<Need<'a>> {
    needs.iter().copied().find(|need| !need.is_met())
}

/// Ends the test that it stands in unless everything is there, and says what is not.
///
/// ```no_run
/// # use rbuild_testkit::{needs, Need};
/// needs!(Need::Root, Need::Command("skopeo"));
/// ```
#[macro_export]
macro_rules! needs {
    ($($need:expr),+ $(,)?) => {
        if let Some(missing) = $crate::probe::missing(&[$($need),+]) {
            println!("skipped: {missing}");
            return;
        }
    };
}

/// Where a program is, also looking where only root's `$PATH` leads.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let others = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(others).map(|directory| directory.join(name)).find(|program| program.is_file())
}

/// Whether user identifiers mean here what they mean outside.
fn maps_everybody() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

fn overlay() -> bool {
    let Ok(directory) = tempfile::tempdir_in(bench::place()) else { return false };
    for name in ["lower", "upper", "work", "merged"] {
        if fs::create_dir(directory.path().join(name)).is_err() {
            return false;
        }
    }
    // The namespace takes the mount with it.
    let script =
        "cd \"$1\" && mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged && echo >merged/x";
    succeeds(Command::new("unshare").args(["-m", "sh", "-c", script, "sh"]).arg(directory.path()))
}

fn user_namespaces() -> bool {
    let mut command = Command::new("unshare");
    command.args(["-U", "true"]);
    if rustix::process::geteuid().is_root() {
        // What root may do says nothing about the others; `nobody` is one of them on every Debian.
        std::os::unix::process::CommandExt::uid(&mut command, 65534);
    }
    succeeds(&mut command)
}

fn reachable(address: &str) -> bool {
    let wait = Duration::from_secs(5);
    let proxy = ["https_proxy", "HTTPS_PROXY"].iter().find_map(|name| env::var(name).ok());
    // Behind a proxy nothing can be reached directly, and names may not even resolve.
    let proxy = proxy.and_then(|url| Some(url.split_once("//")?.1.trim_end_matches('/').to_owned()));
    let address = proxy.as_deref().unwrap_or(address);
    let Ok(addresses) = address.to_socket_addrs() else { return false };
    addresses.into_iter().any(|address| TcpStream::connect_timeout(&address, wait).is_ok())
}

fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(missing(&[Need::Command("sh")]), None);
        let missing = missing(&[Need::Command("sh"), Need::Command("no-such-program")]).unwrap();
        assert_eq!(missing.to_string(), "there is no program `no-such-program`");
        assert_eq!(Need::Host("127.0.0.1:1").to_string(), "cannot reach `127.0.0.1:1`");
    }
}
