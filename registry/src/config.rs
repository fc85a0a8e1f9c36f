//! What may a user decide about registries?

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::credentials::CredentialStore;

/// Everything a [`crate::Client`] is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where user names and passwords come from.
    pub credentials: CredentialStore,
    /// Exceptions, by registry as it stands in image names: `docker.io`, `localhost:5000`.
    pub hosts: BTreeMap<String, HostConfig>,
    /// Directories laid out like `/etc/docker/certs.d`: below each, `HOST[:PORT]/*.crt` are additional roots, and
    /// `*.cert` with `*.key` the client's certificate.
    pub certificates: Vec<PathBuf>,
    /// What the `User-Agent` header says.
    pub user_agent: String,
    /// What happens after transient failures.
    pub retry: Retry,
    /// How long one host may take to accept a connection.
    pub connect_timeout: Duration,
    /// How long a host may be silent while it owes us an answer.
    pub idle_timeout: Duration,
    /// How many blobs are transferred from or to one host at once.
    pub transfers_per_host: usize,
}

impl Default for Config {
    /// The user's Docker configuration, the usual certificate directories, no exceptions.
    fn default() -> Self {
        let system = ["/etc/docker/certs.d", "/etc/containers/certs.d"].map(PathBuf::from);
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let own = home.map(|home| home.join(".config/containers/certs.d"));
        Self {
            credentials: CredentialStore::from_environment(),
            hosts: BTreeMap::new(),
            certificates: system.into_iter().chain(own).collect(),
            user_agent: concat!("rbuild/", env!("CARGO_PKG_VERSION")).to_owned(),
            retry: Retry::default(),
            connect_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            transfers_per_host: 4,
        }
    }
}

/// What is different about one registry.
#[derive(Clone, Debug, Default)]
pub struct HostConfig {
    /// How far its connections are protected.
    pub security: Security,
    /// Where its images are looked for first, in order.
    pub mirrors: Vec<Mirror>,
    /// Files with additional root certificates, PEM.
    pub roots: Vec<PathBuf>,
}

/// How far a registry's connections are protected.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Security {
    /// Verified TLS. On the local host (`localhost`, `127.*`, `[::1]`) plain HTTP is accepted too.
    #[default]
    Verified,
    /// TLS with any certificate, or plain HTTP if the host does not speak TLS.
    Insecure,
    /// Plain HTTP.
    PlainHttp,
}

/// A registry that has copies of another one's images.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mirror {
    /// Its host, with a port if need be.
    pub host: String,
    /// What stands before the repository in its paths: `proxy` for `/v2/proxy/library/alpine/…`. Usually empty.
    pub prefix: String,
}

/// What happens after transient failures.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// How often something is tried in all.
    pub attempts: u32,
    /// The pause after the first failure; it doubles each time.
    pub first_pause: Duration,
    /// The longest pause, also if the server asks for a longer one.
    pub longest_pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 5, first_pause: Duration::from_secs(1), longest_pause: Duration::from_secs(60) }
    }
}

impl Retry {
    /// How long to wait after that many failures in a row. The server's wish is followed up to a limit.
    pub fn pause(&self, failures: u32, wish: Option<Duration>) -> Duration {
        let doubled =
            self.first_pause.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
        wish.unwrap_or(doubled).min(self.longest_pause)
    }
}
