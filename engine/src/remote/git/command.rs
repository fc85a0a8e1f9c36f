//! How is the program `git` run?
//!
//! With nothing of its surroundings but the way to the network: no configuration of the user or the system, no hooks,
//! no prompts, no helpers, only the protocols that a remote may have. A repository is somebody else's text; everything
//! of it that reaches a command line stands behind `--` or was checked.
//!
//! Credentials are handed over in the environment, where only this user sees them. Those in an address are taken off it:
//! git would write them into configurations and messages, and everybody sees command lines.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rbuild_frontend::remote::{Login, split_login};
use rbuild_solver::graph::GitOp;
use reqwest::Url;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::super::{RemoteError, redacted, secret};
use super::ssh;
use crate::blocking::event_loop;
use crate::secret::Secrets;

/// Variables that lead to the network, to its certificates and to the user's keys.
const INHERITED: &[&str] = &[
    "PATH",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "GIT_SSH_COMMAND",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    // Git prefers them to the settings below.
    "GIT_HTTP_LOW_SPEED_LIMIT",
    "GIT_HTTP_LOW_SPEED_TIME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
];

/// Settings that count before those of any repository.
const SETTINGS: &[(&str, &str)] = &[
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.logAllRefUpdates", "false"),
    ("core.attributesFile", "/dev/null"),
    ("credential.helper", ""),
    ("advice.detachedHead", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("init.defaultBranch", "main"),
    ("fetch.recurseSubmodules", "false"),
    // A server that says nothing for so long says nothing more. Git's own sends a sign of life every 5 s while it counts
    // objects (`uploadpack.keepAlive`), of so few bytes that it is hardly faster than the limit; others send none.
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "600"),
];

/// A listing of a million refs; of messages, more than anybody reads.
const LIMITS: Limits = Limits { output: 64 << 20, messages: 1 << 20 };

/// How many bytes git may print. One that prints more is killed.
#[derive(Clone, Copy, Debug)]
struct Limits {
    output: u64,
    messages: u64,
}

/// How to run `git` for one remote.
#[derive(Clone, Debug)]
pub(super) struct Git {
    url: String,
    /// The address for people.
    remote: String,
    protocols: &'static str,
    /// The settings that carry the credentials, and keep them where they belong.
    own: Vec<(String, String)>,
    limits: Limits,
}

impl Git {
    pub(super) fn new(op: &GitOp, secrets: &Secrets) -> Result<Self, RemoteError> {
        let protocols = if op.remote.starts_with("file://") { "http:https:ssh:git:file" } else { "http:https:ssh:git" };
        let (url, login) = split_login(&op.remote);
        let own = settings(&url, login.as_ref(), secrets)?;
        Ok(Self { remote: redacted(&url), url, protocols, own, limits: LIMITS })
    }

    /// The address that may stand in command lines and configurations.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// For a repository of our own on this machine: no network, no credentials.
    pub(super) fn local(&self) -> Self {
        Self { protocols: "file", own: Vec::new(), ..self.clone() }
    }

    /// Runs a command in `directory` and returns what it printed. Killed when the future is dropped.
    pub(super) async fn run(
        &self,
        action: &'static str,
        directory: &Path,
        arguments: &[&str],
    ) -> Result<String, RemoteError> {
        event_loop().await;
        let says = |said| RemoteError::Git { action, remote: self.remote.clone(), said };
        let (status, output, messages) =
            self.execute(directory, arguments).await.map_err(|error| match error.kind() {
                ErrorKind::NotFound if directory.is_dir() => RemoteError::NoGit { remote: self.remote.clone() },
                ErrorKind::FileTooLarge => says(error.to_string()),
                _ => RemoteError::file("run git in", directory)(error),
            })?;
        if status.success() { Ok(output) } else { Err(says(last_words(&messages))) }
    }

    async fn execute(&self, directory: &Path, arguments: &[&str]) -> io::Result<(ExitStatus, String, String)> {
        let mut child = self.command(directory, arguments).spawn()?;
        let group = Group(child.id());
        let output = read(child.stdout.take(), self.limits.output);
        let messages = read(child.stderr.take(), self.limits.messages);
        let (output, messages) = tokio::try_join!(output, messages)?;
        let status = child.wait().await?;
        group.done();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((status, text(&output), text(&messages)))
    }

    fn command(&self, directory: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(directory).env_clear().kill_on_drop(true).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in INHERITED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if std::env::var_os("GIT_SSH_COMMAND").is_none() {
            let home = std::env::var("HOME").unwrap_or_default();
            command.env("GIT_SSH_COMMAND", ssh::command(&home)).env("GIT_SSH_VARIANT", "ssh");
        }
        command.env("LC_ALL", "C").env("HOME", "/dev/null").env("GIT_TERMINAL_PROMPT", "0");
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_ATTR_NOSYSTEM", "1");
        command.env("GIT_ALLOW_PROTOCOL", self.protocols);
        // A repository of somebody above the store is not ours.
        command.env("GIT_CEILING_DIRECTORIES", directory.parent().unwrap_or(directory));
        let own = self.own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let settings = SETTINGS.iter().copied().chain(own);
        let mut count = 0;
        for (name, value) in settings {
            command.env(format!("GIT_CONFIG_KEY_{count}"), name).env(format!("GIT_CONFIG_VALUE_{count}"), value);
            count += 1;
        }
        command.env("GIT_CONFIG_COUNT", count.to_string());
        command
    }
}

/// All that comes. [`ErrorKind::FileTooLarge`] if that is more than `most` bytes.
async fn read(stream: Option<impl AsyncRead + Unpin>, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(most + 1).read_to_end(&mut bytes).await?;
    }
    if bytes.len() as u64 > most {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("more than {most} bytes")));
    }
    Ok(bytes)
}

/// A git and all that it started, which are killed together when this is dropped: a killed git alone leaves the others
/// at work.
struct Group(Option<u32>);

impl Group {
    fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let leader = self.0.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(leader) = leader {
            // It may have ended by itself.
            let _: Result<(), Errno> = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl RemoteError {
    /// Whether a server cannot give out parts of a past.
    pub(super) fn is_about_depth(&self) -> bool {
        matches!(self, Self::Git { said, .. } if said.contains("shallow") || said.contains("depth"))
    }

    /// Whether a server does not give out a commit by its name, or no longer has the ref.
    pub(super) fn is_about_commit(&self) -> bool {
        let texts = ["not our ref", "unadvertised object", "couldn't find remote ref", "no such remote ref"];
        self.is_about_depth() || matches!(self, Self::Git { said, .. } if texts.iter().any(|text| said.contains(text)))
    }
}

/// The settings that make git send the user's credentials to the remote's host, and to no other.
fn settings(remote: &str, login: Option<&Login>, secrets: &Secrets) -> Result<Vec<(String, String)>, RemoteError> {
    let Some(url) = remote.parse::<Url>().ok().filter(|url| matches!(url.scheme(), "http" | "https")) else {
        return Ok(Vec::new());
    };
    let Some(host) = url.host_str() else { return Ok(Vec::new()) };
    let Some(value) = authorization(host, secrets)?.or_else(|| login.and_then(basic)) else { return Ok(Vec::new()) };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let scope = format!("http.{}://{host}{port}/", url.scheme());
    // Git chooses the header once, by the first address, and sends it along to wherever the server redirects.
    let stay = (format!("{scope}.followRedirects"), "false".to_owned());
    Ok(vec![(format!("{scope}.extraheader"), format!("Authorization: {value}")), stay])
}

/// What the user's secrets say for a host.
fn authorization(host: &str, secrets: &Secrets) -> Result<Option<String>, RemoteError> {
    let ids = [
        format!("GIT_AUTH_HEADER.{host}"),
        format!("GIT_AUTH_TOKEN.{host}"),
        "GIT_AUTH_HEADER".to_owned(),
        "GIT_AUTH_TOKEN".to_owned(),
    ];
    let Some((place, value)) = secret(secrets, &ids)? else { return Ok(None) };
    if value.contains(|c: char| c.is_control()) {
        return Err(RemoteError::Header(ids[place].clone()));
    }
    let is_token = place % 2 == 1;
    Ok(Some(if is_token { format!("basic {}", STANDARD.encode(format!("x-access-token:{value}"))) } else { value }))
}

/// The `git@` that people carry over from ssh addresses is nobody: a server that is told of him refuses what it gives to
/// everybody.
fn basic(Login { user, password }: &Login) -> Option<String> {
    let is_nobody = user == "git" && password.is_empty();
    (!is_nobody).then(|| format!("basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

/// The lines in which git says what is wrong, made safe to print.
fn last_words(messages: &str) -> String {
    const LONGEST: usize = 500;
    let is_error = |line: &&str| ["fatal:", "error:", "ERROR:", "remote:"].iter().any(|start| line.starts_with(start));
    let lines: Vec<&str> = messages.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut chosen: Vec<&str> = lines.iter().copied().filter(is_error).collect();
    if chosen.is_empty() {
        chosen = lines.iter().rev().take(3).rev().copied().collect();
    } else {
        // What ssh says comes before git's own complaint.
        let ssh = ["Permission denied", "Host key verification", "ssh:"];
        let said = lines.iter().copied().filter(|line| ssh.iter().any(|text| line.contains(text)));
        chosen.extend(said.filter(|line| !is_error(line)).collect::<Vec<_>>());
    }
    let text = chosen.join("; ");
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use rbuild_testkit::{Need, needs};

    use super::*;
    use crate::request::{SecretFrom, SecretSource};

    fn said(git: &Git, arguments: &[&str]) -> Result<String, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let patience = Duration::from_secs(60);
        let directory = tempfile::tempdir().unwrap();
        let run = async { tokio::time::timeout(patience, git.run("ask", directory.path(), arguments)).await };
        runtime.block_on(run).expect("it is not endless").map_err(|error| error.to_string())
    }

    #[test]
    fn a_git_that_prints_without_end_is_killed() {
        needs!(Need::Command("git"));
        let (url, limits) = ("http://h/a.git".to_owned(), Limits { output: 1000, messages: 500 });
        let git = Git { remote: url.clone(), url, protocols: "http", own: Vec::new(), limits };
        let run = |script: &str| said(&git, &["-c", &format!("alias.x=!{script}"), "x"]);
        assert_eq!(run("printf %01000d 1").map(|output| output.len()), Ok(1000));
        assert_eq!(run("printf %0500d 1 >&2"), Ok(String::new()));
        let says = |said: &str| Err(format!("cannot ask `http://h/a.git`: git says `{said}`"));
        assert_eq!(run("printf %01001d 1"), says("more than 1000 bytes"));
        assert_eq!(run("yes"), says("more than 1000 bytes"));
        assert_eq!(run("yes >&2"), says("more than 500 bytes"));
        assert_eq!(run("echo fatal: no >&2; exit 1"), says("fatal: no"));
    }

    #[test]
    fn a_server_that_says_nothing_is_given_up() {
        needs!(Need::Command("git"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}/a.git", listener.local_addr().unwrap());
        let own = Vec::new();
        let mut git = Git { remote: url.clone(), url, protocols: "http", own, limits: LIMITS };
        let ten_minutes = "http.lowspeedlimit 1\nhttp.lowspeedtime 600\n";
        assert_eq!(said(&git, &["config", "--get-regexp", "^http\\.lowspeed"]).as_deref(), Ok(ten_minutes));
        git.own.push(("http.lowSpeedTime".to_owned(), "1".to_owned()));
        let error = said(&git, &["ls-remote", git.url()]).unwrap_err();
        assert!(error.contains("too slow"), "{error}");
    }

    #[test]
    fn a188_credentials_go_to_the_remotes_host_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "t0ken\n").unwrap();
        let given =
            |id: &str| Secrets::new(vec![SecretSource { id: id.to_owned(), from: SecretFrom::File(path.clone()) }]);
        let basic = "Authorization: basic eC1hY2Nlc3MtdG9rZW46dDBrZW4=";
        let user = "Authorization: basic dTpw";
        for (id, remote, expected) in [
            ("GIT_AUTH_TOKEN", "https://h/x.git", Some(("http.https://h/", basic))),
            ("GIT_AUTH_TOKEN.h", "https://h:81/x.git", Some(("http.https://h:81/", basic))),
            ("GIT_AUTH_HEADER.h", "http://h/x.git", Some(("http.http://h/", "Authorization: t0ken"))),
            ("GIT_AUTH_TOKEN.other", "https://h/x.git", None),
            ("GIT_AUTH_TOKEN", "git@h:x.git", None),
            ("GIT_AUTH_TOKEN", "ssh://h/x.git", None),
            ("GIT_AUTH_TOKEN", "https://u:p@h/x.git", Some(("http.https://h/", basic))),
            ("GIT_AUTH_TOKEN.other", "https://u:p@h/x.git", Some(("http.https://h/", user))),
            ("GIT_AUTH_TOKEN.other", "https://u@h/x.git", Some(("http.https://h/", "Authorization: basic dTo="))),
            ("GIT_AUTH_TOKEN.other", "https://git@h/x.git", None),
            ("GIT_AUTH_TOKEN.other", "ssh://u:p@h/x.git", None),
        ] {
            let expected: Vec<_> = expected.map_or_else(Vec::new, |(scope, value)| {
                let setting = |name: &str, value: &str| (format!("{scope}.{name}"), value.to_owned());
                vec![setting("extraheader", value), setting("followRedirects", "false")]
            });
            let (url, login) = split_login(remote);
            assert_eq!(settings(&url, login.as_ref(), &given(id)).unwrap(), expected, "{id} for {remote}");
        }
    }

    #[test]
    fn what_git_says_is_its_errors() {
        for (messages, said) in [
            ("Cloning\nfatal: nothing\u{1b}[1m there\n", "fatal: nothing [1m there"),
            ("one\ntwo\n", "one; two"),
            ("Permission denied (publickey).\nfatal: no\n", "fatal: no; Permission denied (publickey)."),
            ("", ""),
        ] {
            assert_eq!(last_words(messages), said);
        }
    }
}
