//! How does a process in a sandbox reach an agent?
//!
//! Through a socket that was made for its step alone: the user's own may belong to somebody the process is not, and would
//! let it do more than sign. The socket's file lies outside the layer, and nobody listens once the step has ended.

use std::convert::Infallible;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustix::fs::{Mode, OFlags};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::Agent;
use super::protocol::{self, LONGEST};

/// How many processes of a step may talk to the agent at once; others wait.
const CONNECTIONS: usize = 64;

/// Mode, owner and group of a socket.
pub(crate) type Access = (u32, u32, u32);

/// A socket behind which an agent answers, as long as [`AgentSocket::serve`] is polled.
#[derive(Debug)]
pub(crate) struct AgentSocket {
    listener: UnixListener,
    path: PathBuf,
    agent: Arc<Agent>,
}

impl AgentSocket {
    /// Makes the socket in an empty directory that nobody else writes to.
    pub(crate) fn open(directory: &Path, agent: Arc<Agent>, (mode, uid, gid): Access) -> io::Result<Self> {
        // A socket's address has room for 107 bytes, so it goes by a short name of the directory.
        let opened = rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let short = format!("/proc/self/fd/{}/agent", opened.as_raw_fd());
        let listener = std::os::unix::net::UnixListener::bind(short)?;
        listener.set_nonblocking(true)?;
        let path = directory.join("agent");
        chown(&path, Some(uid), Some(gid))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        Ok(Self { listener: UnixListener::from_std(listener)?, path, agent })
    }

    /// What is to be mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Answers until it is dropped.
    pub(crate) async fn serve(&self) -> Infallible {
        let mut open = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if open.len() < CONNECTIONS => match accepted {
                    Ok((client, _)) => open.push(converse(client, &self.agent)),
                    // Too many open files, most likely: they become less.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                },
                Some(ended) = open.next() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection to the SSH agent broke");
                    }
                }
            }
        }
    }
}

async fn converse(mut client: UnixStream, agent: &Agent) -> io::Result<()> {
    let mut upstream = match agent {
        Agent::Raw(path) => {
            let mut upstream = UnixStream::connect(path).await?;
            return tokio::io::copy_bidirectional(&mut client, &mut upstream).await.map(drop);
        }
        Agent::Socket(path) => Some(UnixStream::connect(path).await?),
        Agent::Keys(_) => None,
    };
    while let Some(request) = message(&mut client).await? {
        let answer = match (agent, &mut upstream) {
            (Agent::Keys(keys), _) => protocol::answer(keys, &request),
            (_, Some(upstream)) if protocol::is_allowed(&request) => {
                send(upstream, &request).await?;
                let Some(answer) = message(upstream).await? else { return Ok(()) };
                answer
            }
            _ => protocol::refusal(),
        };
        send(&mut client, &answer).await?;
    }
    Ok(())
}

/// The next message, without its length; nothing at the end.
async fn message(stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u32().await {
        Ok(length) => length as usize,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > LONGEST {
        return Err(io::Error::other("a message that is longer than any agent takes"));
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

async fn send(stream: &mut UnixStream, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], message].concat()).await
}
