//! Which git repositories do tests fetch from?
//!
//! Made with the program `git`, in a temporary directory, with fixed names and times, so that equal content is an equal
//! commit; served by `git daemon` on this machine.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::http::free_port;

/// When every commit of a [`Repository`] was made, in seconds since 1970.
pub const TIME: i64 = 1_234_567_890;

/// A repository with a work tree.
#[derive(Debug)]
pub struct Repository {
    directory: TempDir,
    name: String,
}

impl Repository {
    /// An empty one whose address will end in `NAME.git`.
    pub fn new(name: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("rbuild-git-").tempdir().expect("there is room for tests");
        let repository = Self { directory, name: format!("{name}.git") };
        repository.git(&["init", "--quiet", "--initial-branch=main", "."]);
        repository
    }

    /// The work tree.
    pub fn path(&self) -> PathBuf {
        let path = self.directory.path().join(&self.name);
        fs::create_dir_all(&path).expect("there is room for tests");
        path
    }

    /// Writes a file of the work tree.
    pub fn file(&self, path: &str, content: &str) -> &Self {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("it is below the work tree")).expect("there is room for tests");
        fs::write(path, content).expect("there is room for tests");
        self
    }

    /// Commits everything, and returns the commit's name.
    pub fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
        self.git(&["update-server-info"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Runs any git command in the work tree.
    ///
    /// # Panics
    /// If it fails.
    pub fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(self.path());
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "Ada").env(format!("GIT_{who}_EMAIL"), "ada@example.com");
            command.env(format!("GIT_{who}_DATE"), format!("{TIME} +0000"));
        }
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        command.env("GIT_ALLOW_PROTOCOL", "file:http:git");
        let output = command.output().expect("git is installed where this is called");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The directory that holds the work tree, for a server.
    pub fn parent(&self) -> &Path {
        self.directory.path()
    }

    /// Serves it.
    pub fn serve(&self) -> Daemon {
        Daemon::start(self.parent())
    }
}

/// `git daemon`, as long as the value lives.
#[derive(Debug)]
#[must_use = "dropping a server stops it"]
pub struct Daemon {
    process: Child,
    port: u16,
}

impl Daemon {
    /// Serves every repository below a directory.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn start(directory: &Path) -> Self {
        let port = free_port();
        // Not through `git`, which would start it as another process than the one that is killed in the end.
        let place = Command::new("git").arg("--exec-path").output().expect("git is installed where this is called");
        let program = Path::new(String::from_utf8_lossy(&place.stdout).trim()).join("git-daemon");
        let mut command = Command::new(program);
        command.args(["--export-all", "--reuseaddr", "--listen=127.0.0.1"]);
        command.arg(format!("--port={port}")).arg(format!("--base-path={}", directory.display()));
        command.arg(directory);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("git is installed where this is called");
        let daemon = Self { process, port };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "git daemon does not come up");
            thread::sleep(Duration::from_millis(10));
        }
        daemon
    }

    /// The address of a repository.
    pub fn url(&self, name: &str) -> String {
        format!("git://127.0.0.1:{}/{name}.git", self.port)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
