//! How does one `rbuild` tell another, which watches a container, what to do?
//!
//! Through a Unix datagram socket in the container's directory: one byte, the number of a signal for its process.
//! Being able to reach the socket is the permission: the directory is its owner's alone.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram as Sender;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixDatagram;

const NAME: &str = "control";

/// Waits for commands.
#[derive(Debug)]
pub(super) struct Control {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Control {
    /// Opens the socket in `directory`; the caller holds the container's lock, so one that is there is left over.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(NAME);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let (_open, short) = short(directory)?;
        Ok(Self { socket: UnixDatagram::bind(short)?, path })
    }

    /// The next signal somebody asks for. Dropping the future loses none: a datagram comes whole or not at all.
    pub(super) async fn next(&self) -> io::Result<i32> {
        let mut signal = [0];
        while self.socket.recv(&mut signal).await? == 0 {}
        Ok(i32::from(signal[0]))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "control socket stays");
        }
    }
}

/// Sends a signal's number to whoever watches the container of `directory`.
pub(super) fn send(directory: &Path, signal: i32) -> io::Result<()> {
    let (_open, short) = short(directory)?;
    let signal = u8::try_from(signal).map_err(io::Error::other)?;
    let socket = Sender::unbound()?;
    // A watcher that was stopped reads nothing.
    socket.set_write_timeout(Some(Duration::from_secs(1)))?;
    socket.send_to(&[signal], short).map(drop)
}

/// A name for the socket that fits into the 108 bytes of a socket address, however deep the store lies.
fn short(directory: &Path) -> io::Result<(File, PathBuf)> {
    let open = File::open(directory)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", open.as_raw_fd()));
    Ok((open, path))
}

/// The number of `SIGTERM`, `term` or `15`.
pub(super) fn signal_number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    // Numbers of x86-64 and arm64, which agree (signal(7)).
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    let position = NAMES.iter().position(|known| *known == name);
    if let Some(position) = position {
        return i32::try_from(position + 1).ok();
    }
    let offset = name.strip_prefix("RTMIN+")?.parse::<i32>().ok()?;
    (0..=30).contains(&offset).then_some(34 + offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        for (text, number) in [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("SIGRTMIN+1", Some(35)),
            ("SIGNOPE", None),
            ("0", None),
            ("65", None),
            ("", None),
        ] {
            assert_eq!(signal_number(text), number, "{text}");
        }
    }

    #[test]
    fn a_signal_reaches_the_watcher_in_a_deep_directory() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("x".repeat(100)).join("y".repeat(100));
        std::fs::create_dir_all(&deep).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let control = Control::open(&deep).unwrap();
            send(&deep, 15).unwrap();
            assert_eq!(control.next().await.unwrap(), 15);
        });
        assert!(send(&deep, 15).is_err(), "the socket goes with its watcher");
    }
}
