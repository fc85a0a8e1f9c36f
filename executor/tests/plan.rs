//! What is planned for which request on which host? Needs no privilege: planning touches nothing.

use std::path::PathBuf;

use rbuild_core::{Lower, Mount, MountKind, OverlayUpper};
use rbuild_executor::host::CgroupLayout;
use rbuild_executor::{
    Host, Limits, Network, PlanError, Privileges, Process, SandboxDevice, SandboxFile, SandboxSpec, Step,
};

fn root_host() -> Host {
    Host {
        kernel: (6, 1),
        release: "6.1.0".to_owned(),
        uid: 0,
        user_namespace: false,
        mapped_ids: 1 << 32,
        cgroup: CgroupLayout { v1: Vec::new(), v2: Some(PathBuf::from("/sys/fs/cgroup")) },
    }
}

fn rootless_host() -> Host {
    Host { user_namespace: true, mapped_ids: 1, ..root_host() }
}

fn hybrid_host() -> Host {
    let v1 = [("memory", "memory"), ("pids", "pids"), ("cpu,cpuacct", "cpu,cpuacct")];
    let v1 = v1.map(|(names, directory)| (names.to_owned(), PathBuf::from("/sys/fs/cgroup").join(directory)));
    let cgroup = CgroupLayout { v1: v1.to_vec(), v2: Some(PathBuf::from("/sys/fs/cgroup/unified")) };
    Host { cgroup, ..root_host() }
}

fn spec() -> SandboxSpec {
    let upper = OverlayUpper { upper: "/s/upper".into(), work: "/s/work".into() };
    let root = MountKind::Overlay {
        lower: vec![Lower::Directory("/s/two".into()), Lower::Directory("/s/one".into())],
        upper: Some(upper),
    };
    let args = ["/bin/sh", "-c", "make"].map(str::to_owned).to_vec();
    let mut spec = SandboxSpec::new(root, Process { args, cwd: "/src/./app/".into(), ..Process::default() });
    spec.stubs = Some("/s/stubs".into());
    spec.resolv_conf = Some("nameserver 192.0.2.1\n".to_owned());
    spec
}

/// One line per step.
fn lines(steps: &[Step]) -> String {
    let line = |step: &Step| match step {
        Step::Mount(mount) => {
            let target = mount.mount.target.display();
            format!("Mount {target} {:?}{}", mount.mount.kind, if mount.mount.read_only { " read-only" } else { "" })
        }
        Step::Names(files) | Step::Files(files) => {
            let names: Vec<_> = files.iter().map(|file| file.target.display().to_string()).collect();
            let what = if matches!(step, Step::Names(_)) { "Names" } else { "Files" };
            format!("{what} {}", names.join(" "))
        }
        Step::Mask(path) => format!("Mask {}", path.display()),
        Step::ReadOnly(path) => format!("ReadOnly {}", path.display()),
        other => format!("{other:?}"),
    };
    steps.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn run_as_root_on_a_unified_host() {
    let mut spec = spec();
    let bind = MountKind::Bind { source: "/host/cache".into(), recursive: false };
    spec.mounts = vec![Mount { target: "/root//.cache/".into(), kind: bind, read_only: false }.into()];
    spec.files = vec![SandboxFile {
        target: "/run/secrets/token".into(),
        content: b"secret".to_vec(),
        mode: 0o400,
        uid: 0,
        gid: 0,
        read_only: true,
    }];
    let plan = spec.plan(&root_host()).unwrap();
    insta::assert_snapshot!(lines(&plan.steps), @r#"
    Hostname("buildkitsandbox")
    Mount /proc Proc
    Mount /sys Sysfs read-only
    Cgroup { v1: [], read_only: true }
    Dev { shm_size: 67108864, devices: ["null", "zero", "full", "random", "urandom", "tty"], optional: [], tty_group: true }
    Names /etc/hosts /etc/hostname /etc/resolv.conf
    Mask /proc/acpi
    Mask /proc/asound
    Mask /proc/kcore
    Mask /proc/keys
    Mask /proc/latency_stats
    Mask /proc/timer_list
    Mask /proc/timer_stats
    Mask /proc/sched_debug
    Mask /proc/scsi
    Mask /sys/firmware
    Mask /sys/devices/virtual/powercap
    ReadOnly /proc/bus
    ReadOnly /proc/fs
    ReadOnly /proc/irq
    ReadOnly /proc/sys
    ReadOnly /proc/sysrq-trigger
    Mount /root/.cache Bind { source: "/host/cache", recursive: false }
    Files /run/secrets/token
    Pivot
    WorkingDirectory("/src/app")
    "#);
    insta::assert_debug_snapshot!(plan.root, @r#"
    RootPlan {
        kind: Overlay {
            lower: [
                Directory(
                    "/s/two",
                ),
                Directory(
                    "/s/one",
                ),
                Directory(
                    "/s/stubs",
                ),
            ],
            upper: Some(
                OverlayUpper {
                    upper: "/s/upper",
                    work: "/s/work",
                },
            ),
        },
        volatile: false,
        stubs: Some(
            "/s/stubs",
        ),
        mountpoints: [
            Mountpoint {
                path: "/dev",
                kind: Directory,
            },
            Mountpoint {
                path: "/etc/hostname",
                kind: File,
            },
            Mountpoint {
                path: "/etc/hosts",
                kind: File,
            },
            Mountpoint {
                path: "/etc/resolv.conf",
                kind: File,
            },
            Mountpoint {
                path: "/proc",
                kind: Directory,
            },
            Mountpoint {
                path: "/root/.cache",
                kind: Like(
                    "/host/cache",
                    "",
                ),
            },
            Mountpoint {
                path: "/run/secrets/token",
                kind: File,
            },
            Mountpoint {
                path: "/sys",
                kind: Directory,
            },
        ],
        devices: false,
    }
    "#);
    assert_eq!((plan.capabilities, plan.filter, plan.cgroup), (Some(0xa804_25fb), true, None));
}

#[test]
fn ordinary_users_borrow_sysfs_and_have_no_terminal_group() {
    let plan = spec().plan(&rootless_host()).unwrap();
    let steps: Vec<_> =
        plan.steps.into_iter().filter(|step| !matches!(step, Step::Mask(_) | Step::ReadOnly(_))).collect();
    insta::assert_snapshot!(lines(&steps), @r#"
    Hostname("buildkitsandbox")
    Mount /proc Proc
    Mount /sys Bind { source: "/sys", recursive: true } read-only
    Cgroup { v1: [], read_only: true }
    Dev { shm_size: 67108864, devices: ["null", "zero", "full", "random", "urandom", "tty"], optional: [], tty_group: false }
    Names /etc/hosts /etc/hostname /etc/resolv.conf
    Pivot
    WorkingDirectory("/src/app")
    "#);
}

#[test]
fn an_own_network_brings_loopback_and_a_sysfs_of_its_own() {
    let spec = SandboxSpec { network: Network::None, ..spec() };
    let plan = spec.plan(&rootless_host()).unwrap();
    insta::assert_snapshot!(lines(&plan.steps[..4]), @r#"
    Hostname("buildkitsandbox")
    Loopback
    Mount /proc Proc
    Mount /sys Sysfs read-only
    "#);
}

#[test]
fn privileged_means_all_devices_and_no_masks() {
    let spec = SandboxSpec { privileges: Privileges::All, root_read_only: true, ..spec() };
    let plan = spec.plan(&root_host()).unwrap();
    insta::assert_snapshot!(lines(&plan.steps), @r#"
    Hostname("buildkitsandbox")
    Mount /proc Proc
    Mount /sys Sysfs
    Cgroup { v1: [], read_only: false }
    Dev { shm_size: 67108864, devices: ["null", "zero", "full", "random", "urandom", "tty"], optional: ["kmsg", "fuse", "cuse", "kvm", "net/tun", "vhost-net", "loop-control", "loop0", "loop1", "loop2", "loop3", "loop4", "loop5", "loop6", "loop7"], tty_group: true }
    Names /etc/hosts /etc/hostname /etc/resolv.conf
    Pivot
    WorkingDirectory("/src/app")
    ReadOnlyRoot
    "#);
    assert_eq!((plan.capabilities, plan.filter, plan.root.devices), (None, false, true));
}

#[test]
fn limits_show_their_groups_on_a_hybrid_host() {
    let limits = Limits { memory: Some(1 << 20), ..Limits::default() };
    let plan = SandboxSpec { limits, ..spec() }.plan(&hybrid_host()).unwrap();
    let view = plan.steps.iter().filter(|step| matches!(step, Step::Cgroup { .. })).cloned().collect::<Vec<_>>();
    insta::assert_snapshot!(lines(&view), @r#"Cgroup { v1: [("memory", "/sys/fs/cgroup/memory"), ("pids", "/sys/fs/cgroup/pids"), ("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct")], read_only: true }"#);
    assert!(plan.cgroup.is_some());
    let plain = spec().plan(&hybrid_host()).unwrap();
    assert!(!plain.steps.iter().any(|step| matches!(step, Step::Cgroup { .. })));
}

#[test]
fn a_plan_survives_its_journey() {
    let plan = spec().plan(&root_host()).unwrap();
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<rbuild_executor::Plan>(&text).unwrap(), plan);
}

#[test]
fn contradictory_requests_are_refused() {
    let with = |change: &dyn Fn(&mut SandboxSpec)| {
        let mut spec = spec();
        change(&mut spec);
        spec.plan(&hybrid_host()).unwrap_err().to_string()
    };
    let tmpfs = |target: &str| {
        let kind = MountKind::Tmpfs { size: None, mode: 0o755 };
        vec![Mount { target: target.into(), kind, read_only: false }.into()]
    };
    for (message, expected) in [
        (with(&|spec| spec.process.args.clear()), "there is no command to run"),
        (with(&|spec| spec.process.args[0].clear()), "there is no command to run"),
        (with(&|spec| spec.mounts = tmpfs("a")), "`a` is not an absolute path without `..`"),
        (with(&|spec| spec.mounts = tmpfs("/a/../../b")), "`/a/../../b` is not an absolute path without `..`"),
        (with(&|spec| spec.mounts = tmpfs("/./")), "nothing can be mounted on `/`"),
        (with(&|spec| spec.process.cwd = "src".into()), "`src` is not an absolute path without `..`"),
        (with(&|spec| spec.process.env = vec![("A=B".into(), String::new())]), "`A=B` cannot be passed to a process"),
        // The value may be a secret.
        (with(&|spec| spec.process.env = vec![("A".into(), "b\0".into())]), "`A` cannot be passed to a process"),
        (with(&|spec| spec.process.args.push("a\0b".into())), "`a\\0b` cannot be passed to a process"),
        (with(&|spec| spec.root = MountKind::Proc), "Proc cannot be a root file system"),
        (with(&|spec| spec.limits.rlimits = vec![("files".into(), 1, 1)]), "`files` is not a resource limit"),
        (
            with(&|spec| spec.limits.cpuset = Some("0".into())),
            "cannot limit processors: this host has no control group for it",
        ),
    ] {
        assert_eq!(message, expected);
    }
    assert_eq!(spec().plan(&root_host()).map(drop), Ok::<(), PlanError>(()));
}

#[test]
fn a106_devices_are_bound_after_the_callers_mounts() {
    let device = |target: &str| SandboxDevice { source: "/dev/null".into(), target: target.into() };
    let mut spec = SandboxSpec { devices: vec![device("/dev/x/./y"), device("/sinks/1")], ..spec() };
    let plan = spec.plan(&root_host()).unwrap();
    let lines = lines(&plan.steps);
    let devices: Vec<_> = lines.lines().filter(|line| line.starts_with("Device")).collect();
    assert_eq!(
        devices,
        [
            r#"Device(SandboxDevice { source: "/dev/null", target: "/dev/x/y" })"#,
            r#"Device(SandboxDevice { source: "/dev/null", target: "/sinks/1" })"#
        ]
    );
    let points: Vec<_> = plan.mountpoints().iter().map(|point| point.path.display().to_string()).collect();
    assert!(points.contains(&"/sinks/1".to_owned()) && !points.contains(&"/dev/x/y".to_owned()), "{points:?}");
    spec.devices = vec![device("relative")];
    assert_eq!(spec.plan(&root_host()), Err(PlanError::Path("relative".into())));
}
