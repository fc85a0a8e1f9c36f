mod git;
mod http;

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rbuild_core::{Digest, Reporter, StepId};
use rbuild_solver::graph::{GitOp, GitTime, HttpOp};
use rbuild_testkit::git::{Repository, TIME};
use rbuild_testkit::web::{Answer, Request, Server};
use rbuild_testkit::{Need, needs};

use super::*;
use crate::engine::{Config, Engine};
use crate::error::Error;
use crate::request::{SecretFrom, SecretSource};

struct Bench {
    directory: tempfile::TempDir,
    engine: Engine,
    runtime: tokio::runtime::Runtime,
    secrets: Secrets,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = Config {
            root: directory.path().join("store"),
            rootless: false,
            insecure_registries: Vec::new(),
            collect: Default::default(),
            layers: Default::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { engine: Engine::open(config).unwrap(), runtime, directory, secrets: Secrets::default() }
    }

    fn secret(&mut self, id: &str, value: &str) {
        let path = self.directory.path().join("secret");
        std::fs::write(&path, value).unwrap();
        self.secrets = Secrets::new(vec![SecretSource { id: id.to_owned(), from: SecretFrom::File(path) }]);
    }

    fn download(&self, op: &HttpOp) -> Result<Download, Error> {
        let silent = Reporter::silent();
        self.runtime.block_on(self.engine.download(op, &self.secrets, (&silent, StepId(0))))
    }

    fn content(&self, download: &Download) -> Vec<u8> {
        std::fs::read(download.path(&self.engine).unwrap()).unwrap()
    }

    fn check_out(&self, op: &GitOp) -> Result<(Commit, Checkout), RemoteError> {
        self.runtime.block_on(async {
            let commit = self.engine.resolve_commit(op, &self.secrets).await?;
            let checkout = self.engine.check_out(op, &commit, &self.secrets).await?;
            Ok((commit, checkout))
        })
    }

    /// The files of a commit, with their modes and contents, without those of `.git`.
    fn files(&self, op: &GitOp) -> Vec<String> {
        let (_, checkout) = self.check_out(op).unwrap();
        let root = checkout.path(&self.engine).unwrap();
        let mut lines = Vec::new();
        let mut waiting = vec![root.clone()];
        while let Some(directory) = waiting.pop() {
            for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
                let (path, metadata) = (entry.path(), entry.metadata().unwrap());
                let name = path.strip_prefix(&root).unwrap().display().to_string();
                if metadata.is_dir() && entry.file_name() != ".git" {
                    waiting.push(path);
                    continue;
                }
                let content = std::fs::read_to_string(&path).unwrap_or_default();
                lines.push(format!("{name} {:o} {content}", metadata.mode() & 0o7777).trim().to_owned());
            }
        }
        lines.sort();
        lines
    }

    /// What unfinished work left behind.
    fn left(&self) -> usize {
        self.engine.store().reap().unwrap();
        let count = |name: &str| std::fs::read_dir(self.directory.path().join("store").join(name)).unwrap().count();
        count("ingest") + count("layers-v1")
    }
}

fn http(url: String) -> HttpOp {
    HttpOp { url, name: "file".to_owned(), checksum: None, mtime: None }
}

fn git(remote: String) -> GitOp {
    GitOp {
        remote,
        reference: None,
        checksum: None,
        subdir: String::new(),
        keep_git_dir: false,
        submodules: true,
        mtime: GitTime::Checkout,
        fetch_by_commit: false,
    }
}

fn sha256(bytes: &[u8]) -> Digest {
    rbuild_image::sha256(bytes)
}
