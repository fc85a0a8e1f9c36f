//! What does a sandbox cost, beside what its process does?
//!
//! A chain of sandboxes on one layer with a static busybox, each with an upper directory of its own, as the `RUN`s of a
//! Dockerfile have them. Needs root; [`Chain::new`] says why there is none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rbuild_core::{Lower, MountKind, OverlayUpper};
use rbuild_executor::{Durability, Exit, Host, Output, Process, Sandbox, SandboxSpec, Stdio};
use tokio::runtime::Runtime;

/// Where a static program may be found that says nothing and succeeds.
const BUSYBOX: [&str; 3] = ["/bin/busybox", "/usr/bin/busybox", "/usr/sbin/busybox"];

/// What is needed to start one sandbox after the other.
#[derive(Debug)]
pub struct Chain {
    directory: PathBuf,
    program: Vec<String>,
    host: Host,
    runtime: Runtime,
    next: usize,
}

impl Chain {
    /// Prepares a root file system in `directory`, whose process will be `program`, or `busybox true`.
    ///
    /// # Errors
    /// Text that says why there can be no sandboxes here.
    pub fn new(directory: &Path, program: Option<&Path>) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("sandboxes are measured as root".to_owned());
        }
        let busybox = || BUSYBOX.iter().map(Path::new).find(|path| path.exists());
        let source = program.or_else(busybox).ok_or("`busybox` is not installed")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let chain = Self {
            directory: directory.to_owned(),
            program: ["/bin/busybox", "true"].map(str::to_owned).to_vec(),
            host: Host::probe(),
            runtime: runtime.map_err(|error| error.to_string())?,
            next: 0,
        };
        chain.make_base(source).map_err(|error| format!("cannot make a root file system: {error}"))?;
        Ok(chain)
    }

    fn make_base(&self, program: &Path) -> io::Result<()> {
        let base = self.directory.join("base");
        for name in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
            fs::create_dir_all(base.join(name))?;
        }
        fs::copy(program, base.join("bin/busybox"))?;
        fs::create_dir_all(self.directory.join("stubs"))
    }

    /// A sandbox with directories of its own, which are made here.
    ///
    /// # Errors
    /// If the directories cannot be made.
    pub fn spec(&mut self) -> io::Result<SandboxSpec> {
        let own = self.directory.join(self.next.to_string());
        self.next += 1;
        let upper = OverlayUpper { upper: own.join("upper"), work: own.join("work") };
        fs::create_dir_all(&upper.upper)?;
        fs::create_dir(&upper.work)?;
        let process = Process { args: self.program.clone(), ..Process::default() };
        let root =
            MountKind::Overlay { lower: vec![Lower::Directory(self.directory.join("base"))], upper: Some(upper) };
        let mut spec = SandboxSpec::new(root, process);
        spec.stubs = Some(self.directory.join("stubs"));
        spec.durability = Durability::Volatile;
        spec.resolv_conf = Some("nameserver 127.0.0.1\n".to_owned());
        Ok(spec)
    }

    /// From the wish to the end.
    ///
    /// # Errors
    /// If the process did not come to run.
    pub fn run(&self, spec: &SandboxSpec) -> Result<Exit, rbuild_executor::Error> {
        let plan = spec.plan(&self.host).expect("nothing unusual is asked for");
        let stdio = Stdio { stdout: Output::Null, stderr: Output::Null, ..Stdio::default() };
        self.runtime.block_on(async { Sandbox::start(plan, stdio).await?.wait().await })
    }
}
