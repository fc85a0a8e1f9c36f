//! What does a test of a sandbox start from?

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rbuild_core::{MountKind, OverlayUpper};
use rbuild_executor::{Error, Exit, Host, Process, Sandbox, SandboxSpec, Stdio};
use tokio::io::AsyncReadExt as _;

const APPLETS: &[&str] = &[
    "sh", "cat", "cut", "id", "ls", "sleep", "true", "false", "hostname", "mknod", "mkdir", "rm", "touch", "echo",
    "env", "stat", "tty", "stty", "nc", "ip", "ifconfig", "tail", "dd", "su", "head", "wc", "chown", "grep",
    "readlink", "kill", "mv", "mount", "df", "test", "unshare", "chmod", "date", "find", "od", "ln",
];

const PASSWD: &str = "root::0:0:root:/root:/bin/sh\napp:x:1000:1000:App:/home/app:/bin/sh\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nwheel:x:10:app\napp:x:1000:\n";

/// Where a program is.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
        .iter()
        .map(|place| Path::new(place).join(program))
        .find(|path| path.exists())
}

/// Why there can be no sandboxes here.
pub(crate) fn unusable() -> Option<String> {
    if find("busybox").is_none() {
        return Some("`busybox` is not installed".to_owned());
    }
    if rustix::process::geteuid().as_raw() != 0 {
        return Some("not root; run the tests with sudo, which also covers ordinary users".to_owned());
    }
    None
}

/// What a finished process left.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A base layer, an upper directory and a runtime.
pub(crate) struct Bench {
    directory: tempfile::TempDir,
    pub(crate) host: Host,
    pub(crate) runtime: tokio::runtime::Runtime,
    rounds: u32,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let base = directory.path().join("base");
        for name in ["bin", "dev", "etc", "proc", "root", "sys", "tmp", "home/app"] {
            fs::create_dir_all(base.join(name)).unwrap();
        }
        fs::set_permissions(base.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::copy(find("busybox").unwrap(), base.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", base.join("bin").join(applet)).unwrap();
        }
        fs::write(base.join("etc/passwd"), PASSWD).unwrap();
        fs::write(base.join("etc/group"), GROUP).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { directory, host: Host::probe(), runtime, rounds: 0 }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A new empty directory.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub(crate) fn can_map_users(&self) -> bool {
        self.host.mapped_ids > 1000
    }

    /// A sandbox on the base layer with an upper directory of its own, `upper-N` for the Nth.
    pub(crate) fn spec(&mut self, args: &[&str]) -> SandboxSpec {
        let base = self.path("base");
        self.spec_on(vec![base], args)
    }

    pub(crate) fn spec_on(&mut self, lower: Vec<PathBuf>, args: &[&str]) -> SandboxSpec {
        self.rounds += 1;
        let round = self.rounds;
        let upper = OverlayUpper {
            upper: self.directory(&format!("upper-{round}")),
            work: self.directory(&format!("work-{round}")),
        };
        let process = Process {
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            env: vec![("PATH".to_owned(), "/bin".to_owned())],
            ..Process::default()
        };
        let lower = lower.into_iter().map(Into::into).collect();
        let mut spec = SandboxSpec::new(MountKind::Overlay { lower, upper: Some(upper) }, process);
        spec.stubs = Some(self.directory(&format!("stubs-{round}")));
        spec
    }

    /// A shell script in such a sandbox.
    pub(crate) fn script(&mut self, script: &str) -> SandboxSpec {
        self.spec(&["sh", "-c", script])
    }

    /// What the last sandbox changed.
    pub(crate) fn changes(&self) -> Vec<String> {
        let upper = self.path(&format!("upper-{}", self.rounds));
        let mut found = Vec::new();
        walk(&upper, &upper, &mut found);
        found.sort();
        found
    }

    pub(crate) fn run(&self, spec: &SandboxSpec) -> Result<Outcome, Error> {
        let plan = spec.plan(&self.host).unwrap();
        self.runtime.block_on(async {
            let limit = Duration::from_secs(30);
            tokio::time::timeout(limit, finish(Sandbox::start(plan, Stdio::default()).await?)).await.expect("no hang")
        })
    }

    /// Runs a script that must succeed, and returns its trimmed output.
    pub(crate) fn output(&mut self, script: &str) -> String {
        let spec = self.script(script);
        let outcome = self.run(&spec).unwrap();
        assert!(outcome.exit.success(), "{script}: {outcome:?}");
        outcome.stdout.trim().to_owned()
    }
}

/// Waits, and collects what was written.
pub(crate) async fn finish(mut sandbox: Sandbox) -> Result<Outcome, Error> {
    let (mut stdout, mut stderr) = (String::new(), String::new());
    let (mut out, mut err) = (sandbox.stdout.take().unwrap(), sandbox.stderr.take().unwrap());
    tokio::try_join!(out.read_to_string(&mut stdout), err.read_to_string(&mut stderr)).unwrap();
    Ok(Outcome { exit: sandbox.wait().await?, stdout, stderr })
}

fn walk(top: &Path, directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        found.push(path.strip_prefix(top).unwrap().display().to_string());
        if path.symlink_metadata().unwrap().is_dir() {
            walk(top, &path, found);
        }
    }
}
