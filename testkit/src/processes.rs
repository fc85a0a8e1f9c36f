//! What still runs or is mounted because of a test?
//!
//! Found from outside, in `/proc`: a process belongs to a directory if it was started with it in its environment or
//! its command line, if it works there, or if it sees a mount made of it. The last finds processes of containers, whose
//! own environment says nothing.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// The processes that have something to do with a directory, each with the reason; and the mounts of our own namespace.
pub fn using(directory: &Path) -> Vec<String> {
    let mut found: Vec<String> = pids(directory).into_iter().map(|(pid, why)| describe(pid, why)).collect();
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let of_directory = |line: &&[u8]| mentions(line, directory);
    let mounts = mounts.split(|byte| *byte == b'\n').filter(of_directory);
    found.extend(mounts.map(|line| format!("mount {}", String::from_utf8_lossy(line))));
    found
}

/// Processes whose command line contains a text.
pub fn saying(text: &str) -> Vec<String> {
    let says = |pid: &i32| mentions(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default(), Path::new(text));
    all().into_iter().filter(says).map(|pid| describe(pid, "command line")).collect()
}

/// Ends every process that has something to do with a directory.
pub fn kill_all(directory: &Path) {
    for (pid, _) in pids(directory) {
        if let Some(pid) = Pid::from_raw(pid) {
            // Whoever is gone already is what we want.
            kill_process(pid, Signal::KILL).ok();
        }
    }
}

fn pids(directory: &Path) -> Vec<(i32, &'static str)> {
    let ours = fs::read_link("/proc/self/ns/mnt").ok();
    let mut found = Vec::new();
    for pid in all() {
        let proc = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let lives_in = || fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(directory));
        // Mounts of a namespace that many share say nothing about one process.
        let elsewhere = || fs::read_link(format!("/proc/{pid}/ns/mnt")).ok() != ours;
        let why = if mentions(&proc("cmdline"), directory) {
            "command line"
        } else if mentions(&proc("environ"), directory) {
            "environment"
        } else if lives_in() {
            "working directory"
        } else if elsewhere() && mentions(&proc("mountinfo"), directory) {
            "mounts"
        } else {
            continue;
        };
        found.push((pid, why));
    }
    found
}

/// Every process but this one and zombies.
fn all() -> Vec<i32> {
    let own = std::process::id().cast_signed();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != own && !is_zombie(*pid)).collect()
}

fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

fn describe(pid: i32, why: &str) -> String {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = command.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    format!("process {pid} ({why}): {}", words.join(" ").trim_end())
}

fn mentions(bytes: &[u8], path: &Path) -> bool {
    let path = path.as_os_str().as_bytes();
    bytes.windows(path.len()).any(|window| window == path)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn processes_are_found_by_their_directory() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(using(directory.path()), [""; 0]);
        let mut child =
            Command::new("sleep").arg("60").current_dir(directory.path()).stdin(Stdio::null()).spawn().unwrap();
        // It is there before it is `sleep`.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !using(directory.path()).iter().any(|line| line.contains("sleep 60")) {
            assert!(std::time::Instant::now() < deadline, "{:?}", using(directory.path()));
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(using(directory.path()).len(), 1);
        kill_all(directory.path());
        child.wait().unwrap();
        assert_eq!(using(directory.path()), [""; 0]);
    }
}
