//! What does a build do that finds everything?

use std::collections::BTreeSet;

use rbuild_testkit::{Account, Bench, Need, needs};

/// A call as `strace` writes it: its name and the rest of the line.
struct Call {
    name: String,
    rest: String,
}

/// The system calls of a command of `user`, in their order. All processes and threads it starts are part of it.
fn calls(bench: &Bench<'_>, user: &str, arguments: &[&str]) -> Vec<Call> {
    let log = bench.argument("calls");
    let program = bench.command(arguments);
    let mut traced = std::process::Command::new("strace");
    traced.args(["-f", "-qq", "-u", user, "-o", &log]).arg(program.get_program()).args(program.get_args());
    if let Some(directory) = program.get_current_dir() {
        traced.current_dir(directory);
    }
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    let output = traced.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = bench.read("calls");
    let call = |line: &str| {
        // `123 openat(AT_FDCWD, "x", O_RDONLY) = 3`
        let (_, call) = line.split_once(' ')?;
        let (name, rest) = call.trim_start().split_once('(')?;
        Some(Call { name: name.to_owned(), rest: rest.to_owned() })
    };
    text.lines().filter_map(call).collect()
}

/// Whether `strace` may trace here.
fn can_trace() -> bool {
    let traced = std::process::Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    traced.is_ok_and(|output| output.status.success())
}

macro_rules! traced_bench {
    () => {{
        needs!(Need::Command("strace"));
        if !can_trace() {
            println!("skipped: this process may not trace others");
            return;
        }
        busybox_bench!()
    }};
}

fn project(bench: &Bench<'_>) {
    bench.file(
        "app/Dockerfile",
        "FROM busybox AS tool\nRUN echo tool > /tool\n\
         FROM busybox\nCOPY . /app\nCOPY --from=tool /tool /tool\nWORKDIR /app\nRUN cat * > /all\nCMD [\"cat\", \"/all\"]\n",
    );
    for number in 0..20 {
        bench.file(&format!("app/{number}"), number.to_string());
    }
    bench.file("app/.dockerignore", "Dockerfile\nout\n").file("app/out/secret", "not looked at");
    // Files that are younger than the scan that reads them are read once more.
    std::thread::sleep(std::time::Duration::from_millis(50));
    bench.build(&["-t", "found", "app"]).ok();
    bench.build(&["-t", "found", "app"]).ok();
}

#[test]
fn it_starts_nothing_and_writes_nothing() {
    let bench = traced_bench!();
    project(&bench);
    let calls = calls(&bench, "root", &["build", "--progress=plain", "-t", "found", "app"]);
    let names: BTreeSet<&str> = calls.iter().map(|call| call.name.as_str()).collect();
    let forbidden = [
        // Threads, processes, namespaces.
        "clone",
        "clone3",
        "fork",
        "vfork",
        "execveat",
        "unshare",
        "setns",
        // An event loop, a network.
        "epoll_create1",
        "epoll_wait",
        "eventfd2",
        "socket",
        "socketpair",
        // Changes, and waiting for the disk.
        "mkdir",
        "mkdirat",
        "rename",
        "renameat",
        "renameat2",
        "unlink",
        "unlinkat",
        "link",
        "linkat",
        "symlink",
        "symlinkat",
        "mount",
        "fsmount",
        "fsync",
        "fdatasync",
        "sync",
        "syncfs",
        "msync",
        "pwrite64",
        "pwritev",
        "fallocate",
        "ftruncate",
        "chmod",
        "fchmod",
        "fchmodat",
        "chown",
        "fchownat",
        "utimensat",
        "setxattr",
    ];
    let found: Vec<_> = forbidden.iter().filter(|name| names.contains(*name)).collect();
    assert_eq!(found, [&""; 0], "{}", lines(&calls, |call| found.iter().any(|name| **name == call.name)));
    let written =
        lines(&calls, |call| call.name == "write" && !call.rest.starts_with("1,") && !call.rest.starts_with("2,"));
    assert_eq!(written, "");
}

#[test]
fn an_ordinary_user_needs_no_namespace_for_it() {
    needs!(
        Need::Root,
        Need::Overlay,
        Need::UserNamespaces,
        Need::Command("busybox"),
        Need::Command("strace"),
        Need::Command("useradd"),
        Need::Command("newuidmap")
    );
    if !can_trace() {
        println!("skipped: this process may not trace others");
        return;
    }
    let account = Account::create().unwrap();
    let bench = Bench::of(&account, crate::PROGRAM);
    bench.busybox();
    project(&bench);
    let calls = calls(&bench, account.name(), &["build", "-q", "-t", "found", "app"]);
    let started = ["clone", "clone3", "fork", "vfork", "unshare", "setns"];
    assert_eq!(lines(&calls, |call| started.contains(&call.name.as_str())), "");
    // And gets one for what it does not find.
    bench.file("app/3", "other");
    bench.build(&["-t", "found", "app"]).ok();
}

#[test]
fn it_opens_one_database_and_looks_at_each_file_once() {
    let bench = traced_bench!();
    project(&bench);
    let calls = calls(&bench, "root", &["build", "-q", "-t", "found", "app"]);
    let opened =
        |part: &str| calls.iter().filter(|call| call.name.starts_with("open") && call.rest.contains(part)).count();
    assert_eq!(opened("lock.mdb"), 1, "{}", lines(&calls, |call| call.rest.contains(".mdb")));
    assert_eq!(opened("stat-cache-v1"), 1);
    for number in 0..20 {
        let name = format!("\"{number}\"");
        let looks = calls.iter().filter(|call| call.rest.contains(&name)).count();
        assert_eq!(looks, 1, "{}", lines(&calls, |call| call.rest.contains(&name)));
    }
    // What is ignored is not even looked at, what is in the store's other directories neither.
    for unseen in ["secret", "\"out\"", "/trash", "/ingest", "/layers-v1", "/proc/self/cgroup"] {
        assert_eq!(lines(&calls, |call| call.rest.contains(unseen)), "", "{unseen}");
    }
}

fn lines(calls: &[Call], wanted: impl Fn(&Call) -> bool) -> String {
    let line = |call: &Call| format!("{}({}\n", call.name, call.rest);
    calls.iter().filter(|call| wanted(call)).map(line).collect()
}
