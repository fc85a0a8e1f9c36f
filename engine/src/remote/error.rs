//! Why could something at a URL not be had?

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rbuild_cache::{LayerError, StoreError};
use rbuild_core::Digest;

use crate::secret::SecretError;

/// Why something at a URL could not be had. Addresses are shown without passwords.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "`url` and `remote` are the addresses; the other fields stand in the messages")]
pub enum RemoteError {
    /// A text that is no URL.
    #[error("`{url}` is not a URL that can be downloaded")]
    Url {
        url: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server said no.
    #[error("cannot download `{url}`: the server answered {status}")]
    Status { url: String, status: u16, after: Option<Duration> },
    /// No connection, or a broken one.
    #[error("cannot download `{url}`")]
    Transfer {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    /// The server fell silent.
    #[error("cannot download `{url}`: no answer from the server in {} s", after.as_secs())]
    Timeout { url: String, after: Duration },
    /// Fewer bytes than announced.
    #[error("cannot download `{url}`: the transfer ended at {at} of {of} bytes")]
    Short { url: String, at: u64, of: u64 },
    /// Another range than was asked for.
    #[error("cannot download `{url}`: the server sent another part than it was asked for")]
    Range { url: String },
    /// Other content than was asked for.
    #[error("`{url}` has the digest `{found}` instead of `{expected}`")]
    Checksum { url: String, expected: Digest, found: Digest },
    /// There is no `git`.
    #[error("cannot fetch `{remote}`: the program `git` is not installed")]
    NoGit { remote: String },
    /// `git` failed; `said` is the end of its messages.
    #[error("cannot {action} `{remote}`: git says `{said}`")]
    Git { action: &'static str, remote: String, said: String },
    /// The repository has no such branch or tag.
    #[error("`{remote}` has no branch or tag `{reference}`")]
    Reference { remote: String, reference: String },
    /// The ref is another commit than was asked for.
    #[error("`{reference}` of `{remote}` is the commit `{found}`, not `{expected}`")]
    Commit { remote: String, reference: String, expected: String, found: String },
    /// The commit has no such directory.
    #[error("there is no directory `{subdir}` in the commit `{commit}` of `{remote}`")]
    Subdirectory { remote: String, commit: String, subdir: String },
    /// Credentials could not be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A credential that cannot stand in a header.
    #[error("secret `{0}` has characters that no HTTP header can have")]
    Header(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The layer could not be made.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A file.
    #[error("cannot {action} `{}`", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl RemoteError {
    pub(super) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Checksum { found, .. } => Some(format!("if this is the right content, write `--checksum={found}`")),
            Self::Commit { found, .. } => Some(format!("if this is the right commit, write `{found}`")),
            Self::Status { url, status: 401 | 403, .. } => {
                host(url).map(|host| format!("give a token with `--secret id=HTTP_AUTH_TOKEN_{host},env=NAME`"))
            }
            Self::NoGit { .. } => Some("install git: rbuild leaves repositories to it".to_owned()),
            Self::Git { said, remote, .. } => git_hint(said, remote),
            Self::Store(error) => error.hint(),
            Self::Layer(error) => error.hint(),
            _ => None,
        }
    }

    /// Whether doing the same again may succeed.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Transfer { source, .. } => !source.is_builder() && !source.is_redirect() && !is_refusal(source),
            Self::Timeout { .. } | Self::Short { .. } | Self::Range { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502..=504),
            _ => false,
        }
    }
}

fn git_hint(said: &str, remote: &str) -> Option<String> {
    let says = |texts: &[&str]| texts.iter().any(|text| said.contains(text));
    if says(&["terminal prompts disabled", "Authentication failed"]) {
        let suffix = host(remote).map(|host| format!(".{host}")).unwrap_or_default();
        return Some(format!("give a token with `--secret id=GIT_AUTH_TOKEN{suffix},env=NAME`"));
    }
    // With credentials no redirect is followed; git then reports its status.
    if says(&["returned error: 30"]) {
        return Some(
            "the server redirects, and credentials do not go along: write the address that it redirects to".to_owned(),
        );
    }
    if says(&["Permission denied (publickey"]) {
        return Some("start an ssh agent that has the key: `SSH_AUTH_SOCK` leads to it".to_owned());
    }
    says(&["Host key verification failed"])
        .then(|| "connect once with `ssh`, so that the host is in `~/.ssh/known_hosts`".to_owned())
}

/// A connection that was refused stays refused; one that broke or timed out may not.
fn is_refusal(error: &reqwest::Error) -> bool {
    if !error.is_connect() || error.is_timeout() {
        return false;
    }
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(inner) = inner.downcast_ref::<io::Error>() {
            return !matches!(inner.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::TimedOut);
        }
        cause = inner.source();
    }
    true
}

fn host(url: &str) -> Option<String> {
    url.parse::<reqwest::Url>().ok()?.host_str().map(str::to_owned)
}
