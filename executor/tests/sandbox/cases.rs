//! The promises, one function each.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as ChildStdio};
use std::time::{Duration, Instant, SystemTime};

use rbuild_core::{Mount, MountKind};
use rbuild_executor::net::{Forward, Namespace, PortForward};
use rbuild_executor::{
    Durability, Error, Input, Network, Privileges, Process, Sandbox, SandboxFile, SandboxMount, SandboxSpec, Stdio,
};

use crate::bench::{Bench, find, finish};

type Case = (&'static str, fn(&mut Bench));

/// All of them, cheap ones first.
pub(crate) const ALL: &[Case] = &[
    ("output_and_exit_code_come_back", output_and_exit_code_come_back),
    ("resources_are_those_of_all_processes", resources_are_those_of_all_processes),
    ("nothing_passes_from_one_sandbox_to_the_next", nothing_passes_from_one_sandbox_to_the_next),
    ("changes_can_be_used_at_once", changes_can_be_used_at_once),
    ("sandboxes_follow_one_another_in_one_supervisor", sandboxes_follow_one_another_in_one_supervisor),
    ("a_limit_on_the_size_of_files_kills_no_supervisor", a_limit_on_the_size_of_files_kills_no_supervisor),
    ("a_sandbox_takes_few_system_calls", a_sandbox_takes_few_system_calls),
    ("process_is_alone_in_its_namespaces", process_is_alone_in_its_namespaces),
    ("root_has_dockers_capabilities", root_has_dockers_capabilities),
    ("filter_is_active", filter_is_active),
    ("users_are_looked_up_in_the_image", users_are_looked_up_in_the_image),
    ("unknown_user_is_a_typed_error", unknown_user_is_a_typed_error),
    ("unmapped_user_gets_a_hint", unmapped_user_gets_a_hint),
    ("missing_commands_are_told_from_failing_ones", missing_commands_are_told_from_failing_ones),
    ("environment_is_exact_and_home_is_added", environment_is_exact_and_home_is_added),
    ("descriptors_and_signals_are_clean", descriptors_and_signals_are_clean),
    ("kernel_paths_are_masked", kernel_paths_are_masked),
    ("devices_are_dockers", devices_are_dockers),
    ("nothing_is_left_in_the_upper_directory", nothing_is_left_in_the_upper_directory),
    ("hidden_mountpoints_are_made_and_removed", hidden_mountpoints_are_made_and_removed),
    ("scratch_has_nothing_but_the_process", scratch_has_nothing_but_the_process),
    ("working_directory_is_created", working_directory_is_created),
    ("files_exist_only_in_memory", files_exist_only_in_memory),
    ("parts_of_sources_can_be_mounted", parts_of_sources_can_be_mounted),
    ("hundred_and_twenty_layers", hundred_and_twenty_layers),
    ("no_network_but_loopback", no_network_but_loopback),
    ("ports_are_forwarded_both_ways", ports_are_forwarded_both_ways),
    ("terminal_can_be_resized", terminal_can_be_resized),
    ("second_process_joins", second_process_joins),
    ("signal_is_reported", signal_is_reported),
    ("dropping_kills", dropping_kills),
    ("nothing_survives_the_death_of_the_parent", nothing_survives_the_death_of_the_parent),
    ("nothing_survives_the_death_of_the_supervisor", nothing_survives_the_death_of_the_supervisor),
    ("own_program_cannot_be_overwritten", own_program_cannot_be_overwritten),
    ("set_user_id_programs_work", set_user_id_programs_work),
    ("privileged_sandbox_is_not_confined", privileged_sandbox_is_not_confined),
    (
        "what_a_privileged_sandbox_wrote_is_not_there_for_the_next",
        what_a_privileged_sandbox_wrote_is_not_there_for_the_next,
    ),
    ("memory_limit_kills_and_says_so", memory_limit_kills_and_says_so),
    ("read_only_root_refuses_writes", read_only_root_refuses_writes),
];

fn output_and_exit_code_come_back(bench: &mut Bench) {
    let spec = bench.script("echo out; echo err >&2; exit 7");
    let outcome = bench.run(&spec).unwrap();
    assert_eq!((outcome.exit.code, outcome.exit.signal), (7, None));
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
}

fn resources_are_those_of_all_processes(bench: &mut Bench) {
    // A child that is waited for, and one that is left to pid 1 and dies with it, count as the process itself.
    let spin = "i=0; while test $i -lt 60000; do i=$((i+1)); done";
    let spec = bench.script(&format!(
        "sh -c '{spin}'; (sh -c '{spin}' &); x=$(head -c 30000000 /dev/zero | tr '\\0' x); {spin}; head -c 8000000 /dev/zero >/x"
    ));
    let busy = bench.run(&spec).unwrap().exit.resources;
    let spec = bench.script("true");
    let idle = bench.run(&spec).unwrap().exit.resources;
    assert!(busy.cpu() > 5 * idle.cpu() && busy.user > Duration::ZERO, "{busy:?} {idle:?}");
    assert!(busy.peak_memory > 30_000_000 && idle.peak_memory < 20_000_000, "{busy:?} {idle:?}");
    assert!(idle.peak_memory > 100_000 && idle.written < 1_000_000, "{idle:?}");
}

fn nothing_passes_from_one_sandbox_to_the_next(bench: &mut Bench) {
    let look =
        "ls -lA /dev | grep -v '^total' | sed 's/  */ /g' | cut -d' ' -f1-4,10-; ls -A /dev/shm /dev/pts /dev/mqueue";
    let seen = bench.output(look);
    for change in [
        "touch /dev/file",
        "mkdir /dev/net; mknod /dev/net/tun c 10 200",
        "rm /dev/fd",
        "ln -sf /tmp /dev/stdin",
        "mv /dev/core /dev/elsewhere",
        "chmod 700 /dev",
        "chown -h 7:7 /dev/stdout",
        "echo secret >/dev/shm/left",
        "chmod 755 /dev/shm",
        "chmod 600 /dev/ptmx /dev/pts/ptmx",
    ] {
        bench.output(&format!("{change}; true"));
        assert_eq!(bench.output(look), seen, "{change}");
    }
    // What names hosts is the sandbox's own where it can be written to.
    let mut spec = bench.script("echo changed >>/etc/hosts; cat /etc/hosts");
    spec.etc_read_only = false;
    let first = bench.run(&spec).unwrap();
    assert!(first.stdout.ends_with("changed\n"), "{first:?}");
    let mut spec = bench.script("cat /etc/hosts /etc/hostname");
    spec.etc_read_only = false;
    assert!(!bench.run(&spec).unwrap().stdout.contains("changed"));
    spec.hostname = "other".to_owned();
    assert!(bench.run(&spec).unwrap().stdout.ends_with("other\n"));
    assert!(!bench.output("cat /etc/hosts /etc/hostname").contains("other"));
    // Neither does what one process was given.
    let mut spec = bench.script("umask; trap");
    spec.process.user = "app".to_owned();
    if bench.can_map_users() {
        bench.run(&spec).unwrap();
    }
    assert_eq!(bench.output("umask; id -u; pwd; ls /proc/self/fd | wc -l"), "0022\n0\n/\n4");
}

/// The root may be unmounted a moment later.
fn changes_can_be_used_at_once(bench: &mut Bench) {
    for round in 0..40 {
        let mut spec =
            bench.script("head -c 300000 /dev/zero >/x; mkdir /d; echo y >/d/y; rm -r /home; chmod 700 /tmp");
        spec.durability = Durability::Volatile;
        let Some(upper) = upper_of(&spec) else { unreachable!("specs have one") };
        let outcome = bench.run(&spec).unwrap();
        assert!(outcome.exit.success());
        let moved = bench.path(&format!("moved-{round}"));
        fs::rename(&upper, &moved).unwrap();
        assert_eq!(fs::read(moved.join("x")).unwrap().len(), 300_000);
        assert_eq!(fs::read_to_string(moved.join("d/y")).unwrap(), "y\n");
        assert!(fs::symlink_metadata(moved.join("home")).is_ok_and(|found| !found.is_dir()), "a whiteout");
        // It can be the next one's lower directory, and be deleted under it.
        let spec = bench.spec_on(vec![moved.clone(), bench.path("base")], &["sh", "-c", "cat /d/y; ls /home"]);
        assert_eq!(bench.run(&spec).unwrap().stdout, "y\n");
        fs::remove_dir_all(&moved).unwrap();
    }
}

fn upper_of(spec: &SandboxSpec) -> Option<PathBuf> {
    let MountKind::Overlay { upper, .. } = &spec.root else { return None };
    Some(upper.as_ref()?.upper.clone())
}

fn sandboxes_follow_one_another_in_one_supervisor(bench: &mut Bench) {
    let mut supervisors = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let plan = bench.script("cat").plan(&bench.host).unwrap();
        bench.runtime.block_on(async {
            let (reader, writer) = std::io::pipe().unwrap();
            let stdio = Stdio { stdin: Input::Descriptor(reader.into()), ..Stdio::default() };
            let sandbox = Sandbox::start(plan, stdio).await.unwrap();
            supervisors.insert(parent_of(sandbox.pid()));
            drop(writer);
            assert!(finish(sandbox).await.unwrap().exit.success());
        });
    }
    assert_eq!(supervisors.len(), 1);
    // One that is killed without work is not missed.
    for supervisor in supervisors {
        let supervisor = rustix::process::Pid::from_raw(supervisor).unwrap();
        rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
    }
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(bench.output("echo here"), "here");
}

fn a_limit_on_the_size_of_files_kills_no_supervisor(bench: &mut Bench) {
    // The supervisor writes names, pid 1 what only this sandbox has.
    let mut named = bench.script("true");
    named.hostname = "another".to_owned();
    let mut given = bench.script("true");
    given.files = vec![SandboxFile {
        target: "/run/secrets/token".into(),
        content: b"s3cret\n".to_vec(),
        mode: 0o440,
        uid: 0,
        gid: 0,
        read_only: true,
    }];
    for spec in [named, given] {
        let plan = bench.script("cat").plan(&bench.host).unwrap();
        bench.runtime.block_on(async {
            let (reader, writer) = std::io::pipe().unwrap();
            let stdio = Stdio { stdin: Input::Descriptor(reader.into()), ..Stdio::default() };
            let sandbox = Sandbox::start(plan, stdio).await.unwrap();
            let supervisor = rustix::process::Pid::from_raw(parent_of(sandbox.pid()));
            let resource = rustix::process::Resource::Fsize;
            let limit = rustix::process::Rlimit { current: Some(1), ..rustix::process::getrlimit(resource) };
            rustix::process::prlimit(supervisor, resource, limit).unwrap();
            drop(writer);
            assert!(finish(sandbox).await.unwrap().exit.success());
        });
        // The same supervisor makes it.
        let error = bench.run(&spec).unwrap_err();
        let said = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
        let said: Vec<String> = said.map(ToString::to_string).collect();
        assert!(said.iter().any(|text| text.contains("File too large")), "{said:?}");
    }
}

/// Of rbuild, the supervisor and pid 1 together, with those of `true` and of a test that makes directories. They do not
/// depend on how fast the machine is; some on what it has (masked paths), a few on how its processors are shared.
fn a_sandbox_takes_few_system_calls(bench: &mut Bench) {
    const MOST: u64 = 345;
    let Some(strace) = find("strace") else {
        println!("skipped: `strace` is not installed");
        return;
    };
    if bench.host.user_namespace {
        return println!("nothing to see here: they are counted for root");
    }
    let own = std::env::current_exe().unwrap();
    let count = |times: &str| {
        let summary = bench.path("summary");
        let mut traced = Command::new(&strace);
        traced.args(["-f", "-qq", "-c", "-o"]).arg(&summary).arg(&own).args(["__chain", times]);
        let output = traced.output().unwrap();
        if !output.status.success() {
            println!("skipped: {}", String::from_utf8_lossy(&output.stderr).trim());
            return None;
        }
        let summary = fs::read_to_string(&summary).unwrap();
        // % time, seconds, µs per call, calls, perhaps errors, name.
        let calls = |name: &str| -> u64 {
            let line = summary.lines().find(|line| line.split_whitespace().next_back() == Some(name));
            line.map_or(0, |line| line.split_whitespace().nth(3).unwrap().parse().unwrap())
        };
        // Without optimisation the standard library asks `fcntl` about every descriptor it closes.
        Some(calls("total") - calls("fcntl"))
    };
    let (Some(few), Some(many)) = (count("2"), count("22")) else { return };
    let each = (many - few) / 20;
    println!("{each} system calls");
    assert!(each <= MOST, "{each} system calls for a sandbox");
}

/// The body of `__chain TIMES`.
pub(crate) fn be_a_chain(times: &str) {
    let mut bench = Bench::new();
    for _ in 0..times.parse::<u32>().unwrap() {
        let mut spec = bench.spec(&["true"]);
        spec.durability = Durability::Volatile;
        assert!(bench.run(&spec).unwrap().exit.success());
    }
}

fn process_is_alone_in_its_namespaces(bench: &mut Bench) {
    assert_eq!(
        bench.output("echo $$; hostname; ls -d /proc/[0-9]*; cat /etc/hostname"),
        "1\nbuildkitsandbox\n/proc/1\nbuildkitsandbox"
    );
    let own = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
    for name in ["mnt", "pid", "uts", "ipc", "cgroup"] {
        assert_ne!(bench.output(&format!("readlink /proc/self/ns/{name}")), own(name).display().to_string());
    }
    assert_eq!(bench.output("readlink /proc/self/ns/net"), own("net").display().to_string());
}

fn status(bench: &mut Bench, user: &str) -> String {
    let mut spec = bench.script("cat /proc/self/status");
    spec.process.user = user.to_owned();
    bench.run(&spec).unwrap().stdout
}

fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name}")).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn root_has_dockers_capabilities(bench: &mut Bench) {
    let root = status(bench, "");
    for name in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(field(&root, name), "00000000a80425fb", "{name}");
    }
    for name in ["CapInh", "CapAmb"] {
        assert_eq!(field(&root, name), "0000000000000000", "{name}");
    }
    if !bench.can_map_users() {
        return println!("nothing to see here: other users need more than one id");
    }
    let app = status(bench, "app");
    assert_eq!(field(&app, "CapBnd"), "00000000a80425fb");
    for name in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(field(&app, name), "0000000000000000", "{name}");
    }
}

fn filter_is_active(bench: &mut Bench) {
    let status = status(bench, "");
    assert_eq!(field(&status, "Seccomp"), "2");
    assert_eq!(field(&status, "NoNewPrivs"), "0");
    let outcome =
        bench.output("unshare -U true 2>&1 || echo refused; mount -t tmpfs x /tmp 2>/dev/null || echo refused");
    assert!(outcome.contains("Operation not permitted") && outcome.ends_with("refused\nrefused"), "{outcome}");
}

fn users_are_looked_up_in_the_image(bench: &mut Bench) {
    if !bench.can_map_users() {
        return println!("nothing to see here: other users need more than one id");
    }
    for (user, ids, home) in [
        ("", "0 0 0", "/root"),
        ("app", "1000 1000 1000 10", "/home/app"),
        ("1000:5", "1000 5 5", "/home/app"),
        ("77", "77 0 0", "/"),
    ] {
        let mut spec = bench.script("echo $(id -u) $(id -g) $(id -G); echo $HOME; touch /tmp/new");
        spec.process.user = user.to_owned();
        let outcome = bench.run(&spec).unwrap();
        assert_eq!(outcome.stdout, format!("{ids}\n{home}\n"), "{user} {}", outcome.stderr);
    }
    let mut spec = bench.script("echo again > /dev/stdout; echo again > /proc/self/fd/2");
    spec.process.user = "app".to_owned();
    let outcome = bench.run(&spec).unwrap();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("again\n", "again\n"));
}

fn unknown_user_is_a_typed_error(bench: &mut Bench) {
    let mut spec = bench.script("true");
    spec.process.user = "nobody-here:wheel".to_owned();
    match bench.run(&spec) {
        Err(Error::UnknownUser { kind, name, file }) => {
            assert_eq!((kind.as_str(), name.as_str(), file.as_str()), ("user", "nobody-here", "/etc/passwd"));
        }
        other => panic!("{other:?}"),
    }
}

fn unmapped_user_gets_a_hint(bench: &mut Bench) {
    if bench.can_map_users() {
        return println!("nothing to see here: every user is mapped");
    }
    let mut spec = bench.script("true");
    spec.process.user = "app".to_owned();
    let error = bench.run(&spec).unwrap_err();
    assert!(error.to_string().starts_with("cannot become group 1000"), "{error}");
    assert!(error.hint().unwrap().contains("/etc/subuid"));
}

fn missing_commands_are_told_from_failing_ones(bench: &mut Bench) {
    fs::write(bench.path("base/bin/text"), "not a program").unwrap();
    fs::write(bench.path("base/bin/interpreted"), "#!/no/such/thing\n").unwrap();
    fs::set_permissions(bench.path("base/bin/interpreted"), fs::Permissions::from_mode(0o755)).unwrap();
    for (command, code) in [
        ("nowhere", 127),
        ("/bin/nowhere", 127),
        ("text", 126),
        ("/bin/text", 126),
        ("/etc", 126),
        ("interpreted", 126),
    ] {
        let spec = bench.spec(&[command]);
        let error = bench.run(&spec).unwrap_err();
        assert_eq!(error.exit_code(), code, "{command}: {error}");
    }
    let spec = bench.script("nowhere");
    assert_eq!(bench.run(&spec).unwrap().exit.code, 127);
}

fn environment_is_exact_and_home_is_added(bench: &mut Bench) {
    let mut spec = bench.spec(&["env"]);
    let long = "x".repeat(100_000);
    for (name, value) in [("A", "1"), ("B", ""), ("A", "2"), ("LONG", &long)] {
        spec.process.env.push((name.to_owned(), value.to_owned()));
    }
    let outcome = bench.run(&spec).unwrap();
    assert_eq!(outcome.stdout, format!("PATH=/bin\nA=2\nB=\nLONG={long}\nHOME=/root\n"));
}

fn descriptors_and_signals_are_clean(bench: &mut Bench) {
    // Descriptor 3 is the directory that `ls` reads.
    assert_eq!(bench.output("ls /proc/self/fd"), "0\n1\n2\n3");
    let spec = bench.spec(&["cat", "/proc/self/status"]);
    let status = bench.run(&spec).unwrap().stdout;
    for name in ["SigIgn", "SigBlk", "SigCgt"] {
        assert_eq!(field(&status, name), "0000000000000000", "{name}");
    }
    assert_eq!(field(&status, "Umask"), "0022");
    assert_eq!(bench.output("cat; readlink /proc/1/fd/0"), "/dev/null");
    assert_eq!(bench.output("cut -d ' ' -f 6 /proc/1/stat"), "1", "it leads a session");
}

fn kernel_paths_are_masked(bench: &mut Bench) {
    let sizes = bench.output("for f in kcore keys timer_list; do [ -e /proc/$f ] && wc -c < /proc/$f; done; true");
    assert!(!sizes.is_empty() && sizes.lines().all(|size| size == "0"), "{sizes}");
    assert_eq!(bench.output("ls /sys/firmware /proc/acpi /proc/scsi 2>/dev/null | grep -v : ; true"), "");
    for path in ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/sys/kernel/mm/ksm/run", "/proc/irq/x"] {
        let shown = bench.output(&format!("(echo 1 > {path}) 2>&1; true"));
        assert!(shown.contains("Read-only file system") || shown.contains("nonexistent"), "{path}: {shown}");
    }
}

fn devices_are_dockers(bench: &mut Bench) {
    let listed = bench.output("ls /dev");
    let names: Vec<&str> = listed.lines().collect();
    let expected = "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
    assert_eq!(names.join(" "), expected);
    assert_eq!(
        bench.output("echo x > /dev/null; head -c 3 /dev/zero | wc -c; stat -c %a /dev/shm; stat -c %a /dev"),
        "3\n1777\n755"
    );
    // The nodes are the host's.
    let shown = bench.output("chmod 600 /dev/full 2>&1 || chown 7 /dev/null 2>&1; echo x > /dev/null && echo fine");
    assert!(shown.contains("Read-only file system") && shown.ends_with("fine"), "{shown}");
    assert_eq!(bench.output("df -k /dev/shm | tail -n 1 | grep -c ' 65536 '"), "1");
    assert_eq!(bench.output("grep -c ' /dev/mqueue mqueue ' /proc/mounts"), "1");
    if !bench.host.user_namespace {
        // Making is allowed, opening is not.
        let shown =
            bench.output("mknod /tmp/null c 1 3; cat /tmp/null 2>&1; mknod /dev/x c 1 5; head -c1 /dev/x 2>&1; true");
        assert_eq!(shown.matches("Permission denied").count(), 2, "{shown}");
    }
}

fn nothing_is_left_in_the_upper_directory(bench: &mut Bench) {
    let past = SystemTime::now() - Duration::from_secs(1000);
    fs::File::open(bench.path("base/etc")).unwrap().set_modified(past).unwrap();
    let source = bench.directory("source");
    let mut spec = bench.script("cat /etc/hosts /etc/resolv.conf; stat -c %Y /etc");
    spec.resolv_conf = Some("nameserver 192.0.2.1\n".to_owned());
    spec.hosts = vec![("db".to_owned(), "10.1.2.3".to_owned())];
    spec.mounts = vec![
        Mount { target: "/a/b/c".into(), kind: MountKind::Bind { source, recursive: false }, read_only: true }.into(),
        Mount { target: "/etc/x".into(), kind: MountKind::Tmpfs { size: None, mode: 0o700 }, read_only: false }.into(),
    ];
    let outcome = bench.run(&spec).unwrap();
    assert!(outcome.stdout.contains("127.0.0.1\tlocalhost buildkitsandbox\n"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("10.1.2.3\tdb\n") && outcome.stdout.contains("nameserver 192.0.2.1\n"));
    let seconds = past.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!(outcome.stdout.ends_with(&format!("{seconds}\n")), "{}", outcome.stdout);
    assert_eq!(bench.changes(), Vec::<String>::new());
}

fn hidden_mountpoints_are_made_and_removed(bench: &mut Bench) {
    // A layer on top of the base replaces /etc by an empty one, as `RUN rm -rf /etc && mkdir /etc` leaves it, /run by a
    // link that leads nowhere, and /dev by nothing.
    let layer = bench.directory("layer");
    fs::create_dir(layer.join("etc")).unwrap();
    let mark = if bench.host.user_namespace { "user.overlay.opaque" } else { "trusted.overlay.opaque" };
    rustix::fs::setxattr(layer.join("etc"), mark, b"y", rustix::fs::XattrFlags::empty()).unwrap();
    symlink("/elsewhere/deep", layer.join("run")).unwrap();
    let past = SystemTime::now() - Duration::from_secs(1000);
    fs::File::open(layer.join("etc")).unwrap().set_modified(past).unwrap();
    let lower = vec![layer.clone(), bench.path("base")];
    let mut spec = bench.spec_on(lower, &["sh", "-c", "ls /etc; cat /run/secret; echo > /etc/own"]);
    spec.files = vec![SandboxFile {
        target: "/run/secret".into(),
        content: b"hush\n".to_vec(),
        mode: 0o400,
        uid: 0,
        gid: 0,
        read_only: true,
    }];
    let outcome = bench.run(&spec).unwrap();
    assert_eq!(outcome.stdout, "hostname\nhosts\nhush\n", "{}", outcome.stderr);
    assert_eq!(bench.changes(), ["etc", "etc/own"]);

    let lower = vec![layer, bench.path("base")];
    let spec = bench.spec_on(lower, &["true"]);
    bench.run(&spec).unwrap();
    assert_eq!(bench.changes(), ["etc"], "copied up to hold the mountpoints");
    let (upper, lower) =
        (fs::metadata(bench.path("upper-2/etc")).unwrap(), fs::metadata(bench.path("layer/etc")).unwrap());
    assert_eq!((upper.mtime(), upper.mtime_nsec()), (lower.mtime(), lower.mtime_nsec()));
}

fn scratch_has_nothing_but_the_process(bench: &mut Bench) {
    let mut spec = bench.spec_on(Vec::new(), &["/busybox", "ls", "/"]);
    fs::copy(bench.path("base/bin/busybox"), bench.path("upper-1/busybox")).unwrap();
    spec.process.env.clear();
    assert_eq!(bench.run(&spec).unwrap().stdout, "busybox\ndev\netc\nproc\nsys\n");
    // BuildKit leaves these three behind too.
    assert_eq!(bench.changes(), ["busybox", "dev", "proc", "sys"]);
    let nothing = bench.spec_on(Vec::new(), &["/bin/sh"]);
    assert!(matches!(bench.run(&nothing), Err(Error::CommandNotFound(_))));
}

fn working_directory_is_created(bench: &mut Bench) {
    let mut spec = bench.script("pwd");
    spec.process.cwd = PathBuf::from("/srv/app");
    if bench.can_map_users() {
        spec.process.user = "app".to_owned();
    }
    assert_eq!(bench.run(&spec).unwrap().stdout, "/srv/app\n");
    assert_eq!(bench.changes(), ["srv", "srv/app"]);
    let made = fs::metadata(bench.path("upper-1/srv/app")).unwrap();
    assert_eq!((made.uid(), made.mode() & 0o7777), (0, 0o755));
}

fn files_exist_only_in_memory(bench: &mut Bench) {
    let mut spec =
        bench.script("cat /run/secrets/token; stat -c '%a %u:%g' /run/secrets/token; (echo > /run/secrets/token) 2>&1");
    let owner = if bench.can_map_users() { 1000 } else { 0 };
    spec.files = vec![SandboxFile {
        target: "/run/secrets/token".into(),
        content: b"s3cret\n".to_vec(),
        mode: 0o440,
        uid: owner,
        gid: 0,
        read_only: true,
    }];
    let outcome = bench.run(&spec).unwrap();
    assert!(outcome.stdout.starts_with(&format!("s3cret\n440 {owner}:0\n")), "{outcome:?}");
    assert!(outcome.stdout.contains("Read-only file system"), "{outcome:?}");
    assert_eq!(bench.changes(), Vec::<String>::new());
    assert!(!format!("{:?}", spec.files).contains("s3cret"));
}

fn parts_of_sources_can_be_mounted(bench: &mut Bench) {
    let (one, two) = (bench.directory("one"), bench.directory("two"));
    for (directory, name) in [(&one, "a"), (&two, "b")] {
        fs::create_dir_all(directory.join("sub/dir")).unwrap();
        fs::write(directory.join("sub/dir").join(name), name).unwrap();
    }
    symlink("/sub", one.join("link")).unwrap();
    symlink("/etc/passwd", one.join("outside")).unwrap();
    let part = |target: &str, kind, subpath: &str| SandboxMount {
        mount: Mount { target: target.into(), kind, read_only: true },
        subpath: subpath.into(),
    };
    let layers = MountKind::Overlay { lower: vec![one.clone().into(), two.into()], upper: None };
    let bind = MountKind::Bind { source: one, recursive: false };
    let mut spec = bench.script("ls /m/all /m/bound; cat /m/file; (echo x > /m/bound/a) 2>&1; true");
    spec.mounts = vec![
        part("/m/all", layers.clone(), "link/dir"),
        part("/m/file", layers, "sub/dir/b"),
        part("/m/bound", bind.clone(), "link/dir"),
    ];
    let outcome = bench.run(&spec).unwrap();
    assert!(outcome.stdout.starts_with("/m/all:\na\nb\n\n/m/bound:\na\nb"), "{outcome:?}");
    assert!(outcome.stdout.contains("Read-only file system"), "{outcome:?}");

    let mut spec = bench.script("true");
    spec.mounts = vec![part("/x", bind, "outside")];
    assert!(matches!(bench.run(&spec), Err(Error::Step { .. })), "links stay inside their source");
}

fn hundred_and_twenty_layers(bench: &mut Bench) {
    let mut lower: Vec<PathBuf> = (0..120)
        .map(|number| {
            let layer = bench.directory(&format!("layers/with-a-name-that-is-not-short-{number:060}"));
            fs::write(layer.join(format!("file-{number}")), "").unwrap();
            layer
        })
        .collect();
    lower.push(bench.path("base"));
    let mut spec = bench.spec_on(lower, &["sh", "-c", "ls / | grep -c file-"]);
    spec.durability = Durability::Volatile;
    assert_eq!(bench.run(&spec).unwrap().stdout, "120\n");
}

fn no_network_but_loopback(bench: &mut Bench) {
    let mut spec = bench.script("tail -n +3 /proc/net/dev | cut -d : -f 1; ifconfig lo | grep -c UP");
    spec.network = Network::None;
    let outcome = bench.run(&spec).unwrap();
    let lines: Vec<&str> = outcome.stdout.lines().map(str::trim).filter(|line| !line.starts_with("sit0")).collect();
    assert_eq!(lines, ["lo", "1"], "{outcome:?}");
}

fn ports_are_forwarded_both_ways(bench: &mut Bench) {
    use std::io::{Read as _, Write as _};
    let namespace = Namespace::create().unwrap();
    let mut spec = bench.script("nc -l -p 3000 -e sh -c 'cat; echo done'");
    spec.network = Network::Join(namespace.path());
    let plan = spec.plan(&bench.host).unwrap();
    let sandbox = bench.runtime.block_on(Sandbox::start(plan, Stdio::default())).unwrap();
    let forward = Forward { address: None, host_port: 0, sandbox_port: 3000 };
    let forward = PortForward::start(forward, &namespace).unwrap();
    let port = forward.addresses()[0].port();
    let mut answer = String::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        // The first end of file is ours; the answer comes after it.
        let asked = stream.write_all(b"question\n").and_then(|()| stream.shutdown(std::net::Shutdown::Write));
        if asked.and_then(|()| stream.read_to_string(&mut answer)).is_ok() && !answer.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(answer, "question\ndone\n");
    drop(sandbox);
    drop(forward);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

fn terminal_can_be_resized(bench: &mut Bench) {
    use std::io::{Read as _, Write as _};
    let mut spec = bench.script("tty; readlink /proc/self/fd/1; read line; stty size; echo got $line; echo x > /dev/console; stat -c %F /dev/console");
    spec.process.terminal = true;
    let plan = spec.plan(&bench.host).unwrap();
    bench.runtime.block_on(async {
        let mut sandbox = Sandbox::start(plan, Stdio::default()).await.unwrap();
        let terminal = sandbox.terminal.as_ref().unwrap();
        terminal.resize(33, 77).unwrap();
        let mut file = fs::File::from(terminal.descriptor().unwrap());
        file.write_all(b"typed\n").unwrap();
        let mut shown = Vec::new();
        // Ends with EIO.
        drop(file.read_to_end(&mut shown));
        let shown = String::from_utf8(shown).unwrap();
        for part in ["/dev/pts/0\r\n", "33 77\r\n", "got typed\r\n", "character special file\r\n"] {
            assert!(shown.contains(part), "{part:?} in {shown:?}");
        }
        assert!(sandbox.wait().await.unwrap().success());
    });
    assert_eq!(bench.changes(), Vec::<String>::new());
}

fn second_process_joins(bench: &mut Bench) {
    let spec = bench.script("echo here > /tmp/mark; exec sleep 1000");
    let plan = spec.plan(&bench.host).unwrap();
    let limits = "/proc/self/status";
    bench.runtime.block_on(async {
        let mut sandbox = Sandbox::start(plan, Stdio::default()).await.unwrap();
        let process = |script: &str| Process {
            args: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec![("PATH".to_owned(), "/bin".to_owned())],
            ..Process::default()
        };
        let script = format!("while ! [ -e /tmp/mark ]; do sleep 0.01; done; cat /tmp/mark; hostname; grep -e CapEff -e '^Seccomp:' {limits}; exit 3");
        let outcome = finish(sandbox.exec(&process(&script), Stdio::default()).await.unwrap()).await.unwrap();
        assert_eq!(outcome.stdout, "here\nbuildkitsandbox\nCapEff:\t00000000a80425fb\nSeccomp:\t2\n", "{outcome:?}");
        assert_eq!(outcome.exit.code, 3);
        let another = process("cat /tmp/mark");
        let by_pid = Sandbox::exec_in(sandbox.pid(), Privileges::Default, &another, Stdio::default());
        assert_eq!(finish(by_pid.await.unwrap()).await.unwrap().stdout, "here\n");

        let mut lasting = sandbox.exec(&process("exec sleep 1000"), Stdio::default()).await.unwrap();
        sandbox.signal(9).unwrap();
        assert_eq!(sandbox.wait().await.unwrap().signal, Some(9));
        assert_eq!(lasting.wait().await.unwrap().signal, Some(9), "it ends with the sandbox");
        assert!(sandbox.exec(&process("true"), Stdio::default()).await.is_err());
    });
}

fn signal_is_reported(bench: &mut Bench) {
    let spec = bench.script("trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done");
    let plan = spec.plan(&bench.host).unwrap();
    bench.runtime.block_on(async {
        let mut sandbox = Sandbox::start(plan, Stdio::default()).await.unwrap();
        let mut ready = [0; 6];
        tokio::io::AsyncReadExt::read_exact(sandbox.stdout.as_mut().unwrap(), &mut ready).await.unwrap();
        sandbox.signal(15).unwrap();
        assert_eq!(sandbox.wait().await.unwrap().code, 5);
        assert!(sandbox.signal(15).is_err());
    });
    let spec = bench.script("sleep 1000");
    let plan = spec.plan(&bench.host).unwrap();
    bench.runtime.block_on(async {
        let mut sandbox = Sandbox::start(plan, Stdio::default()).await.unwrap();
        sandbox.signal(9).unwrap();
        let exit = sandbox.wait().await.unwrap();
        assert_eq!((exit.code, exit.signal), (137, Some(9)));
    });
}

fn own_program_cannot_be_overwritten(bench: &mut Bench) {
    let spec = bench.spec(&["sleep", "1000"]);
    let plan = spec.plan(&bench.host).unwrap();
    let sandbox = bench.runtime.block_on(Sandbox::start(plan, Stdio::default())).unwrap();
    let program = format!("/proc/{}/exe", parent_of(sandbox.pid()));
    let allowed = rustix::fs::access(program, rustix::fs::Access::WRITE_OK);
    // An ordinary user does not own this copy of the test to begin with.
    let expected = if bench.host.user_namespace { rustix::io::Errno::ACCESS } else { rustix::io::Errno::ROFS };
    assert_eq!(allowed, Err(expected));
}

fn parent_of(pid: u32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Whether a process with this argument exists.
fn is_running(marker: &str) -> bool {
    let lines = fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    lines.into_iter().any(|line| String::from_utf8_lossy(&line).contains(marker))
}

/// A process that has been started shows its arguments a moment later.
fn await_command(marker: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_running(marker) {
        assert!(Instant::now() < deadline, "`{marker}` does not run");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn await_end(marker: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while is_running(marker) {
        assert!(Instant::now() < deadline, "`{marker}` survives");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn dropping_kills(bench: &mut Bench) {
    let marker = format!("77{}.1", std::process::id());
    let spec = bench.script(&format!("sleep {marker} & sleep {marker}; true"));
    let plan = spec.plan(&bench.host).unwrap();
    let sandbox = bench.runtime.block_on(Sandbox::start(plan.clone(), Stdio::default())).unwrap();
    await_command(&marker);
    drop(sandbox);
    await_end(&marker);
    // Cancelled in the middle of its start, at whatever point.
    for delay in [0, 1, 3, 10] {
        bench.runtime.block_on(async {
            let start = Sandbox::start(plan.clone(), Stdio::default());
            drop(tokio::time::timeout(Duration::from_millis(delay), start).await);
        });
        await_end(&marker);
    }
}

fn nothing_survives_the_death_of_the_supervisor(bench: &mut Bench) {
    let marker = format!("99{}.1", std::process::id());
    let spec = bench.script(&format!("sleep {marker} & sleep {marker}; true"));
    let plan = spec.plan(&bench.host).unwrap();
    bench.runtime.block_on(async {
        let mut sandbox = Sandbox::start(plan, Stdio::default()).await.unwrap();
        let parent = parent_of(sandbox.pid());
        let parent = rustix::process::Pid::from_raw(parent).unwrap();
        rustix::process::kill_process(parent, rustix::process::Signal::KILL).unwrap();
        assert!(matches!(sandbox.wait().await, Err(Error::Lost)));
    });
    await_end(&marker);
}

/// The body of `__victim MARKER`: starts a sandbox and waits to be killed.
pub(crate) fn be_the_victim() -> ! {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let mut bench = Bench::new();
    let spec = bench.script(&format!("sleep {0} & sleep {0}; true", arguments[0]));
    let plan = spec.plan(&bench.host).unwrap();
    bench.runtime.block_on(async {
        let mut sandbox = Sandbox::start(plan, Stdio::default()).await.unwrap();
        println!("started");
        drop(sandbox.wait().await);
    });
    unreachable!("the sandbox outlives its parent")
}

fn nothing_survives_the_death_of_the_parent(_: &mut Bench) {
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    for delay in [None, Some(0), Some(5), Some(10), Some(15), Some(20), Some(30)] {
        let marker = format!("88{}.{}", std::process::id(), delay.unwrap_or(999));
        let mut victim =
            Command::new("/proc/self/exe").args(["__victim", &marker]).stdout(ChildStdio::piped()).spawn().unwrap();
        match delay {
            Some(delay) => std::thread::sleep(Duration::from_millis(delay)),
            None => {
                use std::io::Read as _;
                victim.stdout.take().unwrap().read_exact(&mut [0; 7]).unwrap();
                await_command(&marker);
            }
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
        await_end(&marker);
    }
    assert_eq!(mounts(), before);
}

fn set_user_id_programs_work(bench: &mut Bench) {
    if !bench.can_map_users() {
        return println!("nothing to see here: other users need more than one id");
    }
    let mut spec = bench.script("id -u; /bin/su root -c 'id -u'");
    fs::remove_file(bench.path("base/bin/su")).unwrap();
    fs::copy(bench.path("base/bin/busybox"), bench.path("base/bin/su")).unwrap();
    fs::set_permissions(bench.path("base/bin/su"), fs::Permissions::from_mode(0o4755)).unwrap();
    spec.process.user = "app".to_owned();
    let outcome = bench.run(&spec).unwrap();
    assert_eq!(outcome.stdout, "1000\n0\n", "{}", outcome.stderr);
}

fn privileged_sandbox_is_not_confined(bench: &mut Bench) {
    let mut spec = bench.script("cat /proc/self/status; mount -t tmpfs x /tmp && echo mounted");
    spec.privileges = Privileges::All;
    let outcome = bench.run(&spec).unwrap();
    assert_eq!(field(&outcome.stdout, "Seccomp"), "0");
    assert!(outcome.stdout.ends_with("mounted\n"), "{}", outcome.stderr);
    let own = fs::read_to_string("/proc/self/status").unwrap();
    assert_eq!(field(&outcome.stdout, "CapEff"), field(&own, "CapEff"));
}

fn what_a_privileged_sandbox_wrote_is_not_there_for_the_next(bench: &mut Bench) {
    if bench.host.user_namespace {
        return println!("nothing to see here: its mounts stay read-only");
    }
    let plain = bench.output("cat /etc/hosts");
    let mut spec =
        bench.script("mount -o remount,bind,rw /etc/hosts && echo 6.6.6.6 evil > /etc/hosts; cat /etc/hosts");
    spec.privileges = Privileges::All;
    let outcome = bench.run(&spec).unwrap();
    assert_eq!(bench.output("cat /etc/hosts"), plain, "{} {}", outcome.stdout, outcome.stderr);
}

fn memory_limit_kills_and_says_so(bench: &mut Bench) {
    let hierarchy = bench.host.cgroup.v1_hierarchy("memory").or(bench.host.cgroup.v2.as_deref()).map(Path::to_owned);
    let writable = |path: &PathBuf| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
    if bench.host.user_namespace || !hierarchy.as_ref().is_some_and(writable) {
        // An ordinary user has none to make it in; root does, and a machine where it does not has not been tested.
        let word = if bench.host.user_namespace { "nothing to see here" } else { "skipped" };
        return println!("{word}: no control group can be made");
    }
    let mut spec = bench.script(
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; tail /dev/zero",
    );
    spec.limits.memory = Some(32 << 20);
    spec.limits.pids = Some(50);
    let outcome = bench.run(&spec).unwrap();
    assert!(outcome.exit.oom && outcome.exit.code == 137, "{outcome:?}");
    assert_eq!(outcome.stdout, "33554432\n");
    let left = Command::new("find").arg(hierarchy.unwrap()).args(["-name", "rbuild-*"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "the group is gone");
}

fn read_only_root_refuses_writes(bench: &mut Bench) {
    let mut spec = bench.script("touch /tmp/x 2>&1; touch /dev/shm/x && echo fine");
    spec.root_read_only = true;
    let outcome = bench.run(&spec).unwrap();
    assert!(outcome.stdout.contains("Read-only file system") && outcome.stdout.ends_with("fine\n"), "{outcome:?}");
}
