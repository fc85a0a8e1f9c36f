//! How are limits enforced?
//!
//! By one control group per sandbox and hierarchy, made by the supervisor and removed by it. On a unified host it is
//! `/rbuild/<pid>` below the root of the hierarchy, where controllers can be switched on whatever groups this process
//! is in; on version 1 hosts it is a child of the supervisor's own group in each hierarchy that has a wanted controller.
//! Groups whose supervisor was killed are empty, cost nothing, and are removed by the next sandbox that has limits.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, test_kill_process};

use crate::host::CgroupLayout;
use crate::spec::Limits;

/// Length of the period in which processor time is counted, in microseconds.
const PERIOD: u64 = 100_000;
/// First part of the name of every group of rbuild.
pub(crate) const PREFIX: &str = "rbuild-";

/// What is written to which file, in order.
#[derive(Debug, Eq, PartialEq)]
struct Setting {
    /// Version 1 hierarchies are found by this.
    controller: &'static str,
    file: &'static str,
    value: String,
    /// Whether a kernel without the file is good enough.
    optional: bool,
}

fn settings(limits: &Limits, unified: bool) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut add = |controller, v1, v2, value: String, optional| {
        settings.push(Setting { controller, file: if unified { v2 } else { v1 }, value, optional });
    };
    if let Some(memory) = limits.memory {
        add("memory", "memory.limit_in_bytes", "memory.max", memory.to_string(), false);
    }
    if let Some(total) = limits.memory_swap {
        // Version 1 counts both together and refuses less than the memory limit; version 2 counts swap alone.
        let swap = total.saturating_sub(limits.memory.unwrap_or(0));
        let value = if unified { swap } else { total };
        add("memory", "memory.memsw.limit_in_bytes", "memory.swap.max", value.to_string(), true);
    }
    if let Some(pids) = limits.pids {
        add("pids", "pids.max", "pids.max", pids.to_string(), false);
    }
    if let Some(milli) = limits.milli_cpus {
        let quota = (u64::from(milli) * PERIOD / 1000).max(1000);
        if unified {
            add("cpu", "", "cpu.max", format!("{quota} {PERIOD}"), false);
        } else {
            add("cpu", "cpu.cfs_period_us", "", PERIOD.to_string(), false);
            add("cpu", "cpu.cfs_quota_us", "", quota.to_string(), false);
        }
    }
    if let Some(shares) = limits.cpu_shares {
        // 2..262144 to 1..10000, as runc converts.
        let shares = shares.clamp(2, 262_144);
        let value = if unified { 1 + (shares - 2) * 9999 / 262_142 } else { shares };
        add("cpu", "cpu.shares", "cpu.weight", value.to_string(), false);
    }
    if let Some(cpus) = &limits.cpuset {
        add("cpuset", "cpuset.cpus", "cpuset.cpus", cpus.clone(), false);
    }
    settings
}

/// A sandbox's groups. Dropping removes them, which works once they are empty.
#[derive(Debug)]
pub(crate) struct Cgroup {
    groups: Vec<(&'static str, PathBuf)>,
    unified: bool,
}

impl Cgroup {
    /// Makes the groups that `limits` need.
    pub(crate) fn create(limits: &Limits, layout: &CgroupLayout) -> io::Result<Self> {
        let unified = layout.v1.is_empty();
        let mut made = Self { groups: Vec::new(), unified };
        for setting in settings(limits, unified) {
            let group = made.group(setting.controller, layout)?;
            match fs::write(group.join(setting.file), &setting.value) {
                Err(error) if !(setting.optional && error.kind() == io::ErrorKind::NotFound) => return Err(error),
                _ => {}
            }
        }
        Ok(made)
    }

    fn group(&mut self, controller: &'static str, layout: &CgroupLayout) -> io::Result<PathBuf> {
        if let Some((_, path)) = self.groups.iter().find(|(name, _)| *name == controller) {
            return Ok(path.clone());
        }
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no control group has `{controller}`"));
        let parent = if self.unified {
            let top = layout.v2.as_deref().ok_or_else(missing)?;
            enable(top, controller)?;
            let parent = top.join("rbuild");
            create_directory(&parent)?;
            enable(&parent, controller)?;
            parent
        } else {
            let hierarchy = layout.v1_hierarchy(controller).ok_or_else(missing)?;
            let own = fs::read_to_string("/proc/self/cgroup")?;
            let own = own_group(&own, controller).ok_or_else(missing)?;
            hierarchy.join(own.trim_start_matches('/'))
        };
        remove_stale(&parent);
        let path = parent.join(format!("{PREFIX}{}", std::process::id()));
        if !self.groups.iter().any(|(_, other)| *other == path) {
            create_directory(&path)?;
        }
        self.groups.push((controller, path.clone()));
        if controller == "cpuset" && !self.unified {
            // A new version 1 group has no processors and no memory nodes, and takes no process without.
            fs::write(path.join("cpuset.mems"), fs::read(parent.join("cpuset.mems"))?)?;
        }
        Ok(path)
    }

    /// Where a process that writes `0` enters the groups.
    pub(crate) fn doors(&self) -> io::Result<Vec<OwnedFd>> {
        let open = |(_, path): &(&str, PathBuf)| {
            let file = fs::OpenOptions::new().write(true).open(path.join("cgroup.procs"))?;
            Ok(file.into())
        };
        self.groups.iter().map(open).collect()
    }

    /// Whether the kernel killed a member for want of memory.
    pub(crate) fn out_of_memory(&self) -> bool {
        let file = if self.unified { "memory.events" } else { "memory.oom_control" };
        let Some((_, path)) = self.groups.iter().find(|(name, _)| *name == "memory") else { return false };
        let events = fs::read_to_string(path.join(file)).unwrap_or_default();
        let count = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.is_some_and(|count| count.trim() != "0")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for (_, path) in &self.groups {
            // The last members have been reaped, but leave the group only a moment later.
            for _ in 0..100 {
                match fs::remove_dir(path) {
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    _ => break,
                }
            }
        }
    }
}

fn create_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn enable(group: &Path, controller: &str) -> io::Result<()> {
    let file = group.join("cgroup.subtree_control");
    if fs::read_to_string(&file)?.split_whitespace().any(|name| name == controller) {
        return Ok(());
    }
    fs::write(file, format!("+{controller}"))
}

fn own_group<'a>(text: &'a str, controller: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        parts.next()?.split(',').any(|name| name == controller).then(|| parts.next()).flatten()
    })
}

fn remove_stale(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok());
        let dead =
            pid.and_then(Pid::from_raw).is_some_and(|pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH));
        if dead {
            // Fails while somebody is still inside, and then that somebody still needs it.
            drop(fs::remove_dir(entry.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_the_files_of_each_version() {
        let limits = Limits {
            memory: Some(64 << 20),
            memory_swap: Some(96 << 20),
            pids: Some(50),
            milli_cpus: Some(1500),
            cpu_shares: Some(1024),
            cpuset: Some("0-1".to_owned()),
            rlimits: Vec::new(),
        };
        let lines = |unified| {
            let lines =
                settings(&limits, unified).into_iter().map(|setting| format!("{}={}", setting.file, setting.value));
            lines.collect::<Vec<_>>().join("\n")
        };
        insta::assert_snapshot!(lines(false), @"
        memory.limit_in_bytes=67108864
        memory.memsw.limit_in_bytes=100663296
        pids.max=50
        cpu.cfs_period_us=100000
        cpu.cfs_quota_us=150000
        cpu.shares=1024
        cpuset.cpus=0-1
        ");
        insta::assert_snapshot!(lines(true), @"
        memory.max=67108864
        memory.swap.max=33554432
        pids.max=50
        cpu.max=150000 100000
        cpu.weight=39
        cpuset.cpus=0-1
        ");
    }

    #[test]
    fn the_own_group_is_found_by_controller() {
        let text = "4:memory:/a/b\n3:cpu,cpuacct:/\n1:name=systemd:/x\n0::/u\n";
        assert_eq!(own_group(text, "memory"), Some("/a/b"));
        assert_eq!(own_group(text, "cpuacct"), Some("/"));
        assert_eq!(own_group(text, "pids"), None);
    }
}
