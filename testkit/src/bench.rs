//! Where does a test of the program work?
//!
//! In a directory of its own, with a state directory of its own, so that tests run next to each other and leave nothing:
//!
//! ```text
//! <temporary directory>/rbuild-bench-XXXX/
//! ├── rbuild      the program, where every user can read it
//! ├── state/      $RBUILD_ROOT
//! ├── home/       $HOME, unless an account has one
//! └── …           what the test writes with `file`; commands start here
//! ```

use std::env;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::account::Account;
use crate::image::Image;
use crate::{http, processes, rootfs};

/// A test that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(300);

/// Directories for tests are made here: `$RBUILD_TEST_DIR`, else the system's directory for temporary files.
pub fn place() -> PathBuf {
    env::var_os("RBUILD_TEST_DIR").map_or_else(env::temp_dir, PathBuf::from)
}

/// A directory, a state directory, and the program.
#[derive(Debug)]
#[must_use = "dropping a bench ends what runs on it and removes its files"]
pub struct Bench<'a> {
    directory: TempDir,
    state: PathBuf,
    account: Option<&'a Account>,
    variables: Vec<(String, String)>,
}

impl Bench<'static> {
    /// A bench for whoever runs the test. `program` is `env!("CARGO_BIN_EXE_rbuild")`.
    ///
    /// # Panics
    /// Like everything here, where a test could not do anything else about it.
    pub fn new(program: &str) -> Self {
        Self::make(program, &place(), None).expect("a bench can be made")
    }

    /// A bench in this directory.
    pub fn within(directory: &Path, program: &str) -> Self {
        Self::make(program, directory, None).expect("a bench can be made")
    }
}

impl<'a> Bench<'a> {
    /// A bench whose commands run as an ordinary user, who owns all of it.
    pub fn of(account: &'a Account, program: &str) -> Self {
        Self::make(program, &place(), Some(account)).expect("a bench can be made")
    }

    fn make(program: &str, place: &Path, account: Option<&'a Account>) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("rbuild-bench-").tempdir_in(place)?;
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
        let copy = directory.path().join("rbuild");
        // A link costs nothing, but is refused between file systems and below directories that nobody may enter.
        if account.is_some() || fs::hard_link(program, &copy).is_err() {
            fs::copy(program, &copy).with_context(|| format!("cannot copy `{program}`"))?;
        }
        fs::create_dir(directory.path().join("home"))?;
        let state = directory.path().join("state");
        let bench = Self { directory, state, account, variables: Vec::new() };
        bench.hand_over(bench.directory.path())?;
        bench.hand_over(&bench.path("home"))?;
        Ok(bench)
    }

    /// The same bench with another state directory than its own, such as one on a small disk or one shared by tests.
    pub fn with_state(mut self, state: &Path) -> Self {
        self.state = state.to_owned();
        self
    }

    /// Sets a variable for all commands.
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The absolute path of something on the bench.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(path)
    }

    /// A path on the bench, as an argument.
    pub fn argument(&self, path: impl AsRef<Path>) -> String {
        self.path(path).into_os_string().into_string().expect("benches have plain names")
    }

    /// Writes a file with its directories.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        self.directory_of(path);
        fs::write(self.path(path), content).expect("a file can be written on the bench");
        self.hand_over(&self.path(path)).expect("the account can own the file");
        self
    }

    /// Writes a file that can be executed.
    pub fn script(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        self.file(path, content);
        fs::set_permissions(self.path(path), Permissions::from_mode(0o755)).expect("a mode can be set on the bench");
        self
    }

    /// Reads a file.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("cannot read `{path}`: {error}"))
    }

    /// Reads a file that need not be text.
    pub fn read_bytes(&self, path: &str) -> Vec<u8> {
        fs::read(self.path(path)).unwrap_or_else(|error| panic!("cannot read `{path}`: {error}"))
    }

    /// Copies a directory of the repository's `testdata` onto the bench.
    pub fn copy(&self, from: &Path, to: &str) -> &Self {
        for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("cannot read `{}`: {error}", from.display())) {
            let entry = entry.expect("the directory can be read to its end");
            let target = format!("{to}/{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type().expect("the file has a kind");
            if kind.is_dir() {
                fs::create_dir_all(self.path(&target)).expect("a directory can be made on the bench");
                self.copy(&entry.path(), &target);
            } else {
                self.directory_of(&target);
                fs::copy(entry.path(), self.path(&target)).expect("a file can be copied onto the bench");
            }
        }
        if let Some(account) = self.account {
            account.give_all(&self.path(to)).expect("the account can own the copy");
        }
        self
    }

    /// Makes `busybox:latest` of Debian's busybox in the state directory.
    pub fn busybox(&self) -> &Self {
        let archive = rootfs::busybox().expect("the root file system can be written");
        let archive = archive.to_str().expect("temporary files have plain names");
        self.run(&["import", "--change", "CMD [\"sh\"]", archive, "busybox:latest"]).ok();
        self
    }

    /// The program with arguments, as the bench's user, with nothing of the caller's environment but what it needs.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("rbuild"));
        command.args(arguments).current_dir(self.directory.path()).stdin(Stdio::null());
        command
            .env_clear()
            .env("RBUILD_ROOT", &self.state)
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        // What a machine needs to get out, and what a developer wants to see.
        for (name, value) in env::vars_os() {
            let passed = ["SSL_CERT_FILE", "SSL_CERT_DIR", "TMPDIR", "RUST_BACKTRACE", "RBUILD_LOG", "RBUILD_LAYERS"]
                .map(OsStr::new);
            if passed.contains(&name.as_os_str()) || name.to_string_lossy().to_lowercase().ends_with("_proxy") {
                command.env(name, value);
            }
        }
        match self.account {
            Some(account) => {
                command.env("HOME", account.home()).env("USER", account.name()).uid(account.uid()).gid(account.gid());
            }
            None => {
                command.env("HOME", self.path("home"));
            }
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the program to its end.
    #[must_use = "whether it did what it should is known to who looks: `ok`, `fails`"]
    pub fn run(&self, arguments: &[&str]) -> Output {
        finish(self.command(arguments), b"")
    }

    /// Runs the program to its end, with something to read on its standard input.
    #[must_use = "whether it did what it should is known to who looks: `ok`, `fails`"]
    pub fn run_with_input(&self, arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped());
        finish(command, input.as_ref())
    }

    /// Builds with plain progress: `rbuild build --progress plain ARGUMENTS…`.
    #[must_use = "whether it did what it should is known to who looks: `ok`, `fails`"]
    pub fn build(&self, arguments: &[&str]) -> Output {
        self.run(&[&["build", "--progress", "plain"], arguments].concat())
    }

    /// Builds, exports as an OCI archive, and reads that.
    pub fn image(&self, arguments: &[&str]) -> Image {
        let archive = self.argument("bench-image.tar");
        let output = format!("type=oci,dest={archive}");
        self.build(&[&["-o", &output], arguments].concat()).ok();
        Image::read(Path::new(&archive)).unwrap_or_else(|error| panic!("the archive is no image: {error:#}"))
    }

    /// The lines of `rbuild images` after its header, as repository and tag.
    pub fn images(&self) -> Vec<String> {
        let output = self.run(&["images"]).ok();
        let name = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(":");
        output.stdout.lines().skip(1).map(name).collect()
    }

    /// Asks a port of this machine until there is an answer.
    pub fn fetch(&self, port: u16, path: &str) -> String {
        http::get(port, path).unwrap_or_else(|error| panic!("no answer on port {port}: {error:#}"))
    }

    /// What still runs or is mounted because of this bench.
    pub fn leftovers(&self) -> Vec<String> {
        processes::using(self.directory.path())
    }

    /// Waits for the last of [`Self::leftovers`] to end; they get a moment, since signals take one.
    pub fn assert_nothing_is_left(&self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let left = self.leftovers();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "still there:\n{}", left.join("\n"));
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn directory_of(&self, path: &str) {
        let mut above = Vec::new();
        let mut directory = Path::new(path).parent();
        while let Some(path) = directory.filter(|path| !self.path(path).exists()) {
            above.push(self.path(path));
            directory = path.parent();
        }
        for path in above.iter().rev() {
            fs::create_dir(path).expect("a directory can be made on the bench");
            self.hand_over(path).expect("the account can own the directory");
        }
    }

    fn hand_over(&self, path: &Path) -> Result<()> {
        self.account.map_or(Ok(()), |account| Ok(account.give(path)?))
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        // A test that failed half way may have left containers; they must not outlive their files.
        let directory = self.directory.path();
        if !processes::using(directory).is_empty() {
            processes::kill_all(directory);
        }
    }
}

/// What a command did.
#[derive(Debug)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// How long it took.
    pub elapsed: Duration,
    /// The most memory the program itself had in use, in KiB, as far as could be seen from outside.
    pub peak: u64,
}

impl Output {
    /// The exit code; 128 and the signal's number for a process that was killed, as shells have it.
    pub fn code(&self) -> i32 {
        let signal = || std::os::unix::process::ExitStatusExt::signal(&self.status).map_or(-1, |signal| 128 + signal);
        self.status.code().unwrap_or_else(signal)
    }

    /// It must have succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "`{}` failed with {}\n{}", self.command, self.code(), self.both());
        self
    }

    /// It must have ended with this exit code, without a panic.
    #[track_caller]
    pub fn fails(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "exit code of `{}`\n{}", self.command, self.both());
        assert!(
            !self.both().contains("panicked at") && !self.both().contains("mistake in rbuild"),
            "panic:\n{}",
            self.both()
        );
        self
    }

    /// Its output must contain each of these texts.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.both().contains(text), "`{}` did not say `{text}`:\n{}", self.command, self.both());
        }
        self
    }

    /// Its output must contain none of these texts.
    #[track_caller]
    pub fn never_says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(!self.both().contains(text), "`{}` said `{text}`:\n{}", self.command, self.both());
        }
        self
    }

    /// Standard error and then standard output.
    pub fn both(&self) -> String {
        format!("{}{}", self.stderr, self.stdout)
    }

    /// The titles of steps that `--progress plain` shows as cached, such as `[2/3] RUN make`.
    pub fn cached(&self) -> Vec<&str> {
        self.steps("CACHED")
    }

    /// The titles of steps that `--progress plain` shows as done.
    pub fn done(&self) -> Vec<&str> {
        self.steps("DONE")
    }

    /// Titles whose last line is `#N WORD…`.
    fn steps(&self, word: &str) -> Vec<&str> {
        let lines = || self.stderr.lines().filter_map(|line| line.strip_prefix('#')?.split_once(' '));
        let title = |number: &str| lines().find(|(other, _)| *other == number).map(|(_, title)| title);
        let ended = lines().filter(|(_, rest)| rest.split(' ').next() == Some(word));
        ended.filter_map(|(number, _)| title(number)).filter(|title| title.starts_with('[')).collect()
    }
}

/// Runs a command to its end, with something to read if its standard input is a pipe.
///
/// # Panics
/// If it cannot be started, or hangs.
#[must_use = "whether it did what it should is known to who looks: `ok`, `fails`"]
pub fn finish(mut command: Command, input: &[u8]) -> Output {
    let line = format!("{command:?}");
    let started = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {line}: {error}"));
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let sender = child.stdin.take().map(|mut pipe| {
        let input = input.to_owned();
        // Who does not read to the end is free not to.
        thread::spawn(move || drop(pipe.write_all(&input)))
    });
    let (status, peak) = watch(&mut child, &line, started);
    if let Some(sender) = sender {
        sender.join().expect("the thread only writes");
    }
    let elapsed = started.elapsed();
    let text = |thread: thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&thread.join().expect("the thread only reads")).into_owned()
    };
    Output { command: line, status, stdout: text(stdout), stderr: text(stderr), elapsed, peak }
}

/// Waits for a child and notes how much memory it had: the kernel keeps the peak for as long as the process lives.
fn watch(child: &mut Child, line: &str, started: Instant) -> (ExitStatus, u64) {
    let path = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        if let Some(status) = child.try_wait().expect("our own child can be waited for") {
            return (status, peak);
        }
        peak = peak.max(fs::read_to_string(&path).ok().as_deref().and_then(high_water).unwrap_or(0));
        if started.elapsed() > PATIENCE {
            drop(child.kill());
            panic!("{line} hangs: no end after {PATIENCE:?}");
        }
        let short = started.elapsed() < Duration::from_millis(100);
        thread::sleep(Duration::from_millis(if short { 1 } else { 5 }));
    }
}

fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What could be read before an error is what there is to show.
        drop(pipe.map(|mut pipe| pipe.read_to_end(&mut bytes)));
        bytes
    })
}
