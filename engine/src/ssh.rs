//! Which SSH agents may a build use?
//!
//! A step never sees the user's own socket. It gets one of ours, with the owner and mode its mount asks for, and what
//! comes in there is answered by keys we read from files, or passed on to the user's agent as far as it asks for
//! signatures:
//!
//! ```text
//! process ── /run/buildkit/ssh_agent.0 ── AgentSocket ─┬─ keys of `--ssh ID=FILE`
//!            (bind mount)                              └─ $SSH_AUTH_SOCK or `--ssh ID=SOCKET`
//! ```
//!
//! Nothing of an agent but its id enters a cache key.

mod key;
mod protocol;
mod socket;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::key::KeyError;
use self::key::PrivateKey;
pub(crate) use self::socket::AgentSocket;
use crate::request::SshSource;

/// What tells where the user's agent listens.
const VARIABLE: &str = "SSH_AUTH_SOCK";

/// Why an agent cannot be handed to a build.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// Neither a socket nor a key was named, and the user has no agent.
    #[error("there is no SSH agent for `{0}`: `SSH_AUTH_SOCK` is not set")]
    NoAgent(String),
    /// Two agents of one name.
    #[error("there are two SSH agents `{0}`")]
    Duplicate(String),
    /// A socket, and something else.
    #[error("SSH agent `{0}` is either one socket or any number of keys")]
    Mixed(String),
    /// Only a socket can be passed on as it is.
    #[error("SSH agent `{0}` cannot be `raw`: it is no socket")]
    Raw(String),
    /// A socket or key that cannot be looked at.
    #[error("cannot use `{}` as an SSH agent or key", path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file that is no key.
    #[error("cannot use the SSH key `{}`", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: KeyError,
    },
}

impl SshError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoAgent(id) => {
                Some(format!("start one with `eval $(ssh-agent)`, or name a key: `--ssh {id}=$HOME/.ssh/id_ed25519`"))
            }
            Self::Key { source: KeyError::Passphrase, .. } => {
                Some("add it to an agent with `ssh-add`, and pass that on: `--ssh default`".to_owned())
            }
            _ => None,
        }
    }
}

/// Who answers.
#[derive(Debug)]
pub(crate) enum Agent {
    /// The program behind a socket, as far as it is asked for signatures.
    Socket(PathBuf),
    /// The program behind a socket, whatever it speaks.
    Raw(PathBuf),
    /// We.
    Keys(Vec<PrivateKey>),
}

/// The agents of a build, by id.
#[derive(Debug, Default)]
pub(crate) struct Agents(BTreeMap<String, Arc<Agent>>);

impl Agents {
    /// Looks at everything once, so that a build does not get far without what it needs.
    pub(crate) fn open(sources: &[SshSource]) -> Result<Self, SshError> {
        let mut agents = BTreeMap::new();
        for source in sources {
            let agent = Arc::new(open(source)?);
            if agents.insert(source.id.clone(), agent).is_some() {
                return Err(SshError::Duplicate(source.id.clone()));
            }
        }
        Ok(Self(agents))
    }

    pub(crate) fn find(&self, id: &str) -> Option<&Arc<Agent>> {
        self.0.get(id)
    }
}

fn open(source: &SshSource) -> Result<Agent, SshError> {
    let mut paths = source.paths.clone();
    if paths.is_empty() {
        let variable = std::env::var_os(VARIABLE).filter(|value| !value.is_empty());
        paths.push(variable.map(PathBuf::from).ok_or_else(|| SshError::NoAgent(source.id.clone()))?);
    }
    let mut keys = Vec::new();
    let mut socket = None;
    for path in &paths {
        if is_socket(path)? {
            socket = Some(path);
        } else if source.raw {
            return Err(SshError::Raw(source.id.clone()));
        } else {
            keys.push(PrivateKey::read(path).map_err(|source| SshError::Key { path: path.clone(), source })?);
        }
    }
    match socket {
        None => Ok(Agent::Keys(keys)),
        Some(_) if paths.len() > 1 => Err(SshError::Mixed(source.id.clone())),
        Some(path) if source.raw => Ok(Agent::Raw(path.clone())),
        Some(path) => Ok(Agent::Socket(path.clone())),
    }
}

fn is_socket(path: &Path) -> Result<bool, SshError> {
    let failed = |source| SshError::Open { path: path.to_owned(), source };
    Ok(std::fs::metadata(path).map_err(failed)?.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(id: &str, paths: &[&Path]) -> SshSource {
        SshSource { id: id.to_owned(), paths: paths.iter().map(PathBuf::from).collect(), raw: false }
    }

    #[test]
    fn a125_agents_are_one_socket_or_keys() {
        let directory = tempfile::tempdir().unwrap();
        let (socket, file) = (directory.path().join("socket"), directory.path().join("file"));
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::fs::write(&file, "no key").unwrap();
        let open = |sources: &[SshSource]| Agents::open(sources).map_err(|error| error.to_string());
        assert!(matches!(*open(&[source("a", &[&socket])]).unwrap().0["a"], Agent::Socket(_)));
        let raw = SshSource { raw: true, ..source("a", &[&socket]) };
        assert!(matches!(*open(&[raw]).unwrap().0["a"], Agent::Raw(_)));
        let refused = [
            (vec![source("a", &[&socket]), source("a", &[&socket])], "there are two SSH agents `a`"),
            (vec![source("a", &[&socket, &socket])], "SSH agent `a` is either one socket or any number of keys"),
            (vec![SshSource { raw: true, ..source("a", &[&file]) }], "SSH agent `a` cannot be `raw`: it is no socket"),
        ];
        for (sources, expected) in refused {
            assert_eq!(open(&sources).unwrap_err(), expected);
        }
        let missing = Agents::open(&[source("a", &[&directory.path().join("missing")])]);
        assert!(matches!(missing, Err(SshError::Open { .. })), "{missing:?}");
        let wrong = Agents::open(&[source("a", &[&file])]);
        assert!(matches!(wrong, Err(SshError::Key { source: KeyError::NoKey, .. })), "{wrong:?}");
    }
}
