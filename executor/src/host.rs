//! What can this machine do?
//!
//! [`Host::probe`] reads what planning needs: a few small files and `uname`. Whatever costs more is only looked at by
//! [`Host::report`], which `rbuild doctor` draws.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{getgid, getuid};
use serde::{Deserialize, Serialize};

use crate::userns;

/// What planning a sandbox depends on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Host {
    /// Major and minor version of the kernel.
    pub kernel: (u32, u32),
    /// The kernel's full release text.
    pub release: String,
    /// The effective user, as seen from inside the current user namespace.
    pub uid: u32,
    /// Whether this process is in a user namespace other than the machine's first: device nodes cannot be made, some
    /// file systems cannot be mounted, and overlay keeps its marks in `user.` attributes.
    pub user_namespace: bool,
    /// How many user ids the current user namespace maps; 1 when there are no subordinate ids.
    pub mapped_ids: u64,
    /// How control groups are laid out.
    pub cgroup: CgroupLayout,
}

/// Which control group hierarchies are mounted, and where.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct CgroupLayout {
    /// Mount points of version 1 hierarchies with their controllers, such as `cpu,cpuacct` or `name=systemd`.
    pub v1: Vec<(String, PathBuf)>,
    /// Mount point of the unified hierarchy.
    pub v2: Option<PathBuf>,
}

impl CgroupLayout {
    /// `v1`, `v2`, `hybrid` or `none`.
    pub fn kind(&self) -> &'static str {
        match (self.v1.is_empty(), self.v2.is_some()) {
            (true, true) => "v2",
            (false, true) => "hybrid",
            (false, false) => "v1",
            (true, false) => "none",
        }
    }

    /// The version 1 hierarchy that has `controller`.
    pub fn v1_hierarchy(&self, controller: &str) -> Option<&Path> {
        let (_, path) = self.v1.iter().find(|(names, _)| names.split(',').any(|name| name == controller))?;
        Some(path)
    }

    fn parse(mountinfo: &str) -> Self {
        let mut layout = Self::default();
        for line in mountinfo.lines() {
            // … ROOT MOUNTPOINT OPTIONS [tags] - TYPE SOURCE SUPER_OPTIONS
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(point) = left.split(' ').nth(4) else { continue };
            let mut right = right.split(' ');
            match right.next() {
                Some("cgroup2") if layout.v2.is_none() => layout.v2 = Some(PathBuf::from(point)),
                Some("cgroup") => {
                    let options = right.nth(1).unwrap_or_default();
                    let names: Vec<_> =
                        options.split(',').filter(|name| !matches!(*name, "rw" | "ro" | "xattr")).collect();
                    layout.v1.push((names.join(","), PathBuf::from(point)));
                }
                _ => {}
            }
        }
        layout
    }
}

/// One line of `rbuild doctor`.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub what: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Host {
    /// Looks at the machine and at this process.
    pub fn probe() -> Self {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        Self {
            kernel: kernel_version(&release),
            release,
            uid: getuid().as_raw(),
            user_namespace: userns::is_nested(&map),
            mapped_ids: userns::mapped_ids(&map),
            cgroup: CgroupLayout::parse(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()),
        }
    }

    /// Whether the kernel is at least this version.
    pub fn kernel_at_least(&self, major: u32, minor: u32) -> bool {
        self.kernel >= (major, minor)
    }

    /// Everything a build depends on, for people.
    pub fn report(&self) -> Vec<Check> {
        let mut checks = vec![
            Check {
                what: "kernel",
                ok: self.kernel_at_least(5, 12),
                detail: self.release.clone(),
                hint: (!self.kernel_at_least(5, 12)).then(|| "rbuild needs Linux 5.12 or newer".to_owned()),
            },
            self.overlay(),
            self.seccomp(),
            self.cgroups(),
        ];
        if self.uid != 0 || self.user_namespace {
            checks.extend(self.rootless());
        }
        checks
    }

    fn overlay(&self) -> Check {
        let known = fs::read_to_string("/proc/filesystems")
            .is_ok_and(|text| text.lines().any(|line| line.trim_start_matches("nodev").trim() == "overlay"));
        let module = Path::new("/lib/modules").join(&self.release).join("kernel/fs/overlayfs").exists();
        Check {
            what: "overlay",
            ok: known || module,
            detail: match (known, module, self.user_namespace || self.uid != 0) {
                (true, _, true) => "available, with user attributes".to_owned(),
                (true, _, false) => "available".to_owned(),
                (false, true, _) => "a module that is not loaded".to_owned(),
                (false, false, _) => "not in this kernel".to_owned(),
            },
            hint: (!known).then(|| "load it with `modprobe overlay`".to_owned()),
        }
    }

    fn seccomp(&self) -> Check {
        let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
        let ok = actions.split_whitespace().any(|action| action == "errno");
        Check {
            what: "seccomp",
            ok,
            detail: if ok { "filters are available" } else { "no filters in this kernel" }.to_owned(),
            hint: (!ok).then(|| "processes run without a system call filter".to_owned()),
        }
    }

    fn cgroups(&self) -> Check {
        let kind = self.cgroup.kind();
        Check {
            what: "control groups",
            ok: kind != "none",
            detail: kind.to_owned(),
            hint: (kind == "none").then(|| "memory, process and processor limits cannot be set".to_owned()),
        }
    }

    fn rootless(&self) -> Vec<Check> {
        let limit = fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
        let allowed = limit.trim() != "0"
            && fs::read_to_string("/proc/sys/kernel/unprivileged_userns_clone").map_or(true, |text| text.trim() != "0");
        let restricted = fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
            .is_ok_and(|text| text.trim() == "1");
        let namespaces = Check {
            what: "user namespaces",
            ok: self.user_namespace || (allowed && !restricted),
            detail: match (self.user_namespace, allowed, restricted) {
                (true, ..) => "in use".to_owned(),
                (false, true, false) => "available".to_owned(),
                (false, true, true) => "restricted by AppArmor".to_owned(),
                (false, false, _) => "switched off".to_owned(),
            },
            hint: match (self.user_namespace, allowed, restricted) {
                (true, ..) | (_, true, false) => None,
                (_, true, true) => Some("sysctl kernel.apparmor_restrict_unprivileged_userns=0".to_owned()),
                (_, false, _) => Some("sysctl user.max_user_namespaces=10000".to_owned()),
            },
        };
        let ids = userns::Subordinate::of(getuid().as_raw(), getgid().as_raw());
        let count = if self.user_namespace { self.mapped_ids.saturating_sub(1) } else { ids.count() };
        let helper = which("newuidmap").is_some() && which("newgidmap").is_some();
        let ids = Check {
            what: "subordinate ids",
            ok: count > 0 && (helper || self.user_namespace),
            detail: match (count, helper) {
                (0, _) => "none: files can only belong to you".to_owned(),
                (count, true) => format!("{count} besides your own"),
                (count, false) => format!("{count}, but `newuidmap` is not installed"),
            },
            hint: match (count, helper) {
                (0, _) => Some("add lines like `NAME:100000:65536` to /etc/subuid and /etc/subgid".to_owned()),
                (_, false) => Some("install the package `uidmap` (or `shadow-utils`)".to_owned()),
                _ => None,
            },
        };
        vec![namespaces, ids]
    }
}

/// Where a program is, looked up in `PATH` and the usual directories of the administrator.
pub(crate) fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    std::env::split_paths(&path)
        .chain(usual.iter().map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

fn kernel_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_read() {
        for (release, version) in
            [("6.18.44-fc-v657", (6, 18)), ("5.11.0-1.el9", (5, 11)), ("6.1", (6, 1)), ("weird", (0, 0)), ("", (0, 0))]
        {
            assert_eq!(kernel_version(release), version, "{release}");
        }
    }

    #[test]
    fn cgroup_layouts_are_told_apart() {
        let v1 = "36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n";
        let v2 = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(CgroupLayout::parse("").kind(), "none");
        assert_eq!(CgroupLayout::parse(v1).kind(), "v1");
        assert_eq!(CgroupLayout::parse(v2).kind(), "v2");
        let hybrid = CgroupLayout::parse(&format!("{v1}{v2}"));
        assert_eq!(hybrid.kind(), "hybrid");
        assert_eq!(hybrid.v1_hierarchy("cpuacct"), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(hybrid.v1_hierarchy("memory"), None);
    }
}
