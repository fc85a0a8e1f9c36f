//! What can go wrong with a registry, and what can be done about it?

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rbuild_core::{Digest, Platform};
use rbuild_image::{ManifestError, Reference};

use crate::credentials::CredentialError;

/// The result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What was being done to what: `read manifest `3` of `ghcr.io/a/b``.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subject(Arc<Parts>);

#[derive(Debug, Eq, PartialEq)]
struct Parts {
    verb: &'static str,
    item: String,
    registry: String,
    repository: String,
}

impl Subject {
    pub(crate) fn new(verb: &'static str, item: impl Into<String>, name: &Reference) -> Self {
        Self(Arc::new(Parts {
            verb,
            item: item.into(),
            registry: name.registry().to_owned(),
            repository: name.repository().to_owned(),
        }))
    }

    pub(crate) fn host(verb: &'static str, registry: &str) -> Self {
        let registry = registry.to_owned();
        Self(Arc::new(Parts { verb, item: String::new(), registry, repository: String::new() }))
    }

    /// The registry as it stands in image names.
    pub fn registry(&self) -> &str {
        &self.0.registry
    }

    /// The repository; empty for the registry as a whole.
    pub fn repository(&self) -> &str {
        &self.0.repository
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { verb, item, registry, repository } = &*self.0;
        match (item.is_empty(), repository.is_empty()) {
            (true, true) => write!(formatter, "{verb} `{registry}`"),
            (true, false) => write!(formatter, "{verb} `{registry}/{repository}`"),
            (false, _) => write!(formatter, "{verb} {item} of `{registry}/{repository}`"),
        }
    }
}

/// Why a registry did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "`subject` is what was being done; the other fields stand in the messages")]
pub enum Error {
    /// It wants to know who we are, or does not believe it.
    #[error("cannot {subject}: the registry {}{}", if *.known { "refused the login" } else { "requires a login" }, Said(.said))]
    Unauthorized { subject: Subject, known: bool, said: String },
    /// It knows who we are and does not allow it.
    #[error("cannot {subject}: access is denied{}", Said(.said))]
    Denied { subject: Subject, said: String },
    /// There is no such thing.
    #[error("cannot {subject}: not found{}", Said(.said))]
    NotFound { subject: Subject, said: String },
    /// An index without an image for the platform.
    #[error("cannot {subject}: there is no image for `{wanted}`, only for {}", List(.offered))]
    Platform { subject: Subject, wanted: Platform, offered: Vec<Platform> },
    /// The server's certificate is not accepted.
    #[error("cannot {subject}: the server's certificate is not trusted")]
    Certificate {
        subject: Subject,
        #[source]
        source: reqwest::Error,
    },
    /// The server does not speak TLS.
    #[error("cannot {subject}: the server speaks plain HTTP, not HTTPS")]
    PlainHttp {
        subject: Subject,
        #[source]
        source: reqwest::Error,
    },
    /// There is no connection.
    #[error("cannot {subject}: no connection to `{host}`")]
    Connect {
        subject: Subject,
        host: String,
        #[source]
        source: reqwest::Error,
    },
    /// The connection broke.
    #[error("cannot {subject}: the connection broke")]
    Transfer {
        subject: Subject,
        #[source]
        source: reqwest::Error,
    },
    /// The server fell silent.
    #[error("cannot {subject}: no answer from the server in {} s", .after.as_secs())]
    Timeout { subject: Subject, after: Duration },
    /// Fewer bytes than announced.
    #[error("cannot {subject}: the transfer ended at {at} of {of} bytes")]
    Short { subject: Subject, at: u64, of: u64 },
    /// It asks for less traffic.
    #[error("cannot {subject}: the registry limits the rate of requests{}", Said(.said))]
    RateLimit { subject: Subject, after: Option<Duration>, said: String },
    /// Any other answer than the one that was hoped for.
    #[error("cannot {subject}: the registry answered {status}{}", Said(.said))]
    Status { subject: Subject, status: u16, after: Option<Duration>, said: String },
    /// The answer does not follow the protocol.
    #[error("cannot {subject}: {problem}")]
    Protocol { subject: Subject, problem: String },
    /// Other bytes than were asked for.
    #[error("cannot {subject}: it has the digest `{actual}` instead of `{expected}`")]
    Digest { subject: Subject, expected: Digest, actual: Digest },
    /// A manifest that is none.
    #[error("cannot {subject}")]
    Manifest {
        subject: Subject,
        #[source]
        source: ManifestError,
    },
    /// What was to be sent could not be read.
    #[error("cannot {subject}: its content cannot be read")]
    Body {
        subject: Subject,
        #[source]
        source: std::io::Error,
    },
    /// The token service does not give a token.
    #[error("cannot {subject}: the token service `{realm}` {problem}")]
    Token { subject: Subject, realm: String, problem: String },
    /// The user's credentials cannot be read.
    #[error("cannot {subject}: the credentials cannot be read")]
    Credentials {
        subject: Subject,
        #[source]
        source: CredentialError,
    },
    /// A certificate file that is none.
    #[error("cannot use the certificates in `{}`", .path.display())]
    CertificateFile {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The HTTP client cannot be set up.
    #[error("cannot set up the HTTP client")]
    Setup(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// What the user might do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unauthorized { subject, known: false, .. } => Some(format!(
                "log in with `rbuild login {}`; an image that does not exist may look the same",
                subject.registry()
            )),
            Self::Unauthorized { subject, known: true, .. } => Some(format!(
                "check the user name and password with `rbuild login {}`; the image may also not exist",
                subject.registry()
            )),
            Self::Denied { subject, .. } => {
                Some(format!("check that your account may use `{}/{}`", subject.registry(), subject.repository()))
            }
            Self::NotFound { subject, .. } => {
                Some(format!("check the name and the tag; the registry asked was `{}`", subject.registry()))
            }
            Self::Platform { .. } => Some("choose one of the offered platforms with `--platform`".to_owned()),
            Self::Certificate { subject, .. } => Some(format!(
                "put the certificate of its authority into `/etc/docker/certs.d/{}/ca.crt`, or declare the registry \
                 insecure",
                subject.registry()
            )),
            Self::PlainHttp { subject, .. } => {
                Some(format!("if that is intended, declare `{}` an insecure registry", subject.registry()))
            }
            Self::RateLimit { subject, .. } => {
                Some(format!("wait, or log in with `rbuild login {}` for a higher limit", subject.registry()))
            }
            _ => None,
        }
    }

    /// Whether doing the same again may succeed.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Transfer { .. } | Self::Timeout { .. } | Self::Short { .. } | Self::RateLimit { .. } => true,
            Self::Connect { source, .. } => {
                source.is_timeout() || has_io_kind(source, std::io::ErrorKind::ConnectionReset)
            }
            Self::Status { status, .. } => matches!(status, 408 | 500 | 502..=504),
            _ => false,
        }
    }

    /// How long the server wants us to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimit { after, .. } | Self::Status { after, .. } => *after,
            _ => None,
        }
    }
}

fn has_io_kind(error: &reqwest::Error, kind: std::io::ErrorKind) -> bool {
    causes(error).any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == kind))
}

/// An error and everything below it. An `io::Error` skips what it wraps when asked for its source, so that is looked
/// into.
pub(crate) fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        wrapped.map(|wrapped| wrapped as &(dyn std::error::Error + 'static)).or_else(|| error.source())
    })
}

/// The server's own words, if it had any.
struct Said<'a>(&'a str);

impl fmt::Display for Said<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(formatter, " (it says `{}`)", self.0) }
    }
}

struct List<'a>(&'a [Platform]);

impl fmt::Display for List<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|platform| format!("`{platform}`")).collect();
        formatter.write_str(if names.is_empty() { "none" } else { "" })?;
        formatter.write_str(&names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_registry_repository_and_what_failed() {
        let name: Reference = "ghcr.io/a/b:3".parse().unwrap();
        let subject = Subject::new("read", "manifest `3`", &name);
        let error = Error::Unauthorized { subject: subject.clone(), known: false, said: "go away".into() };
        assert_eq!(
            error.to_string(),
            "cannot read manifest `3` of `ghcr.io/a/b`: the registry requires a login (it says `go away`)"
        );
        assert!(error.hint().unwrap().contains("rbuild login ghcr.io"));
        let offered = vec!["linux/arm64".parse().unwrap(), "windows/amd64".parse().unwrap()];
        let error = Error::Platform { subject, wanted: "linux/amd64".parse().unwrap(), offered };
        assert_eq!(
            error.to_string(),
            "cannot read manifest `3` of `ghcr.io/a/b`: there is no image for `linux/amd64`, only for `linux/arm64`, \
             `windows/amd64`"
        );
        assert_eq!(Subject::host("log in to", "ghcr.io").to_string(), "log in to `ghcr.io`");
    }
}
