//! Which registry do tests push to?
//!
//! Debian's `docker-registry`, started on a port that the kernel chooses and stopped with its value. It keeps its blobs in
//! a temporary directory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::probe::find;

/// The one user a registry with passwords knows.
pub const USER: &str = "alice";
/// That user's password. It has a character that URLs and headers treat specially.
pub const PASSWORD: &str = "wonder:land/1";

/// Whom a registry lets in, and how.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// Everybody, over HTTP.
    Anonymous,
    /// [`USER`] with [`PASSWORD`], over HTTP.
    Password,
    /// Everybody, over HTTPS with a certificate of an authority made for this registry.
    Tls,
}

/// A registry, as long as the value lives.
#[derive(Debug)]
#[must_use = "dropping a registry stops it"]
pub struct Registry {
    process: Child,
    directory: TempDir,
    address: String,
}

impl Registry {
    /// Starts one and waits until it listens. Needs `docker-registry`, and `htpasswd` or `openssl`.
    pub fn start(access: Access) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("rbuild-registry-").tempdir()?;
        let mut configuration = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n",
            directory.path().join("data").display()
        );
        match access {
            Access::Anonymous => configuration += "http: {addr: '127.0.0.1:0'}\n",
            Access::Password => {
                let file = htpasswd(directory.path())?;
                configuration += "http: {addr: '127.0.0.1:0'}\n";
                configuration += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", file.display());
            }
            Access::Tls => {
                certificates(directory.path())?;
                let file = |name| directory.path().join(name).display().to_string();
                let (certificate, key) = (file("server.crt"), file("server.key"));
                configuration +=
                    &format!("http: {{addr: '127.0.0.1:0', tls: {{certificate: {certificate}, key: {key}}}}}\n");
            }
        }
        let path = directory.path().join("config.yml");
        fs::write(&path, configuration)?;
        let log = directory.path().join("log");
        let program = find("docker-registry").context("there is no program `docker-registry`")?;
        let process = Command::new(program)
            .arg("serve")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()?;
        let mut registry = Self { process, directory, address: String::new() };
        registry.address = registry.wait(&log)?;
        Ok(registry)
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A name for an image in this registry.
    pub fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.address)
    }

    /// The authority that a client of a registry with TLS has to trust, as PEM.
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// The registry says which port it got.
    fn wait(&mut self, log: &Path) -> Result<String> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let text = fs::read_to_string(log)?;
            if let Some((_, rest)) = text.split_once("listening on ") {
                let address: String =
                    rest.chars().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':')).collect();
                if !address.is_empty() {
                    return Ok(address);
                }
            }
            if self.process.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("`docker-registry` does not listen:\n{text}");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn htpasswd(directory: &Path) -> Result<PathBuf> {
    let program = find("htpasswd").context("there is no program `htpasswd`")?;
    let output = Command::new(program).args(["-B", "-b", "-n", USER, PASSWORD]).output()?;
    if !output.status.success() {
        bail!("`htpasswd` failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let path = directory.join("htpasswd");
    fs::write(&path, output.stdout)?;
    Ok(path)
}

/// An authority and a certificate of it for this machine's loopback address.
fn certificates(directory: &Path) -> Result<()> {
    fs::write(directory.join("server.ext"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n")?;
    let openssl = find("openssl").context("there is no program `openssl`")?;
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let authority =
        ["req", "-x509", "-days", "2", "-subj", "/CN=rbuild test authority", "-keyout", "ca.key", "-out", "ca.crt"];
    let request = ["req", "-subj", "/CN=127.0.0.1", "-keyout", "server.key", "-out", "server.csr"];
    let sign = ["x509", "-req", "-days", "2", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key"];
    let signed = ["-CAcreateserial", "-extfile", "server.ext", "-out", "server.crt"];
    for arguments in
        [[&authority[..], &curve[..]].concat(), [&request[..], &curve[..]].concat(), [&sign[..], &signed[..]].concat()]
    {
        let output = Command::new(&openssl).args(&arguments).current_dir(directory).output()?;
        if !output.status.success() {
            bail!("`openssl {}` failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Need, http, needs};

    #[test]
    fn registries_start_and_stop() {
        needs!(Need::Command("docker-registry"));
        let registry = Registry::start(Access::Anonymous).unwrap();
        let port = registry.address().rsplit_once(':').unwrap().1.parse().unwrap();
        http::get(port, "/v2/").unwrap();
        drop(registry);
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    }

    #[test]
    fn registries_with_secrets_start() {
        needs!(Need::Command("docker-registry"), Need::Command("htpasswd"), Need::Command("openssl"));
        for access in [Access::Password, Access::Tls] {
            let registry = Registry::start(access).unwrap();
            assert!(registry.address().starts_with("127.0.0.1:"), "{access:?}");
        }
    }
}
