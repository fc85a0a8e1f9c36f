//! How does a connection to a port of the host reach a sandbox?
//!
//! By a relay in this process: it listens on the host and opens, for each connection, another one from a socket that was
//! made inside the sandbox's network namespace. No privilege on the host is needed, no packet filter, and nothing stays
//! when the process ends. The service may listen on any address of the namespace: loopback is tried first (of both
//! families), then the namespace's own address.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};

use super::Namespace;

/// More connections than this at once are refused.
const MOST_CONNECTIONS: usize = 1024;
/// How long the service has to accept. Loopback answers at once, so this only bounds a packet filter's silence.
const PATIENCE: Duration = Duration::from_secs(10);

/// One published port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Forward {
    /// Address on the host; all addresses of both families if absent.
    pub address: Option<IpAddr>,
    /// Port on the host; any free one if 0.
    pub host_port: u16,
    /// Port in the sandbox.
    pub sandbox_port: u16,
}

/// A running relay for one TCP port. Dropping it stops listening; open connections end with the sandbox.
#[derive(Debug)]
#[must_use = "dropping a forward closes the port"]
pub struct PortForward {
    addresses: Vec<SocketAddr>,
    stop: Option<OwnedFd>,
    acceptor: Option<thread::JoinHandle<()>>,
}

impl PortForward {
    /// Listens on the host's side at once; connections before the service listens are closed, as Docker's are reset.
    ///
    /// # Errors
    /// If the port is taken or needs privileges, or the namespace cannot be entered.
    pub fn start(forward: Forward, namespace: &Namespace) -> io::Result<Self> {
        let listeners = listen(forward)?;
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?;
        let sockets = SocketMaker::start(namespace)?;
        let (stop, stopped) = {
            let (reader, writer) = io::pipe()?;
            (writer, reader)
        };
        let open = Arc::new(AtomicUsize::new(0));
        let acceptor = thread::Builder::new().name("port-forward".to_owned()).spawn(move || {
            while wait_for_one(&listeners, &stopped) {
                for listener in &listeners {
                    while let Ok((client, _)) = listener.accept() {
                        begin(client, forward.sandbox_port, &sockets, &open);
                    }
                }
            }
        })?;
        Ok(Self { addresses, stop: Some(stop.into()), acceptor: Some(acceptor) })
    }

    /// Where it listens, with the port that was chosen if any was asked for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

impl Drop for PortForward {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

fn listen(forward: Forward) -> io::Result<Vec<TcpListener>> {
    let Some(address) = forward.address else {
        let first = TcpListener::bind((Ipv4Addr::UNSPECIFIED, forward.host_port))?;
        let port = first.local_addr()?.port();
        let mut all = vec![first];
        // A host without IPv6 has one listener less. One socket for both would need an option std cannot set.
        all.extend(listen_on_v6_only(port).ok());
        all.iter().try_for_each(|listener| listener.set_nonblocking(true))?;
        return Ok(all);
    };
    let listener = TcpListener::bind((address, forward.host_port))?;
    listener.set_nonblocking(true)?;
    Ok(vec![listener])
}

fn listen_on_v6_only(port: u16) -> io::Result<TcpListener> {
    let socket = socket_with(AddressFamily::INET6, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
    rustix::net::listen(&socket, 128)?;
    Ok(TcpListener::from(socket))
}

/// Whether there is something to accept, as opposed to an end of it all.
fn wait_for_one(listeners: &[TcpListener], stopped: &io::PipeReader) -> bool {
    let mut fds = vec![PollFd::new(stopped, PollFlags::IN)];
    fds.extend(listeners.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
    loop {
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return fds[0].revents().is_empty(),
            Err(_) => return false,
        }
    }
}

fn begin(client: TcpStream, port: u16, sockets: &SocketMaker, open: &Arc<AtomicUsize>) {
    if open.fetch_add(1, Ordering::Relaxed) >= MOST_CONNECTIONS {
        open.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    let (sockets, counter) = (sockets.clone(), Arc::clone(open));
    let started = thread::Builder::new().stack_size(128 << 10).spawn(move || {
        if let Some(service) = sockets.connect(port) {
            relay(&client, &service);
        }
        counter.fetch_sub(1, Ordering::Relaxed);
    });
    if started.is_err() {
        open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Copies both ways until both sides have said all they had to say. An end in one direction is passed on as such: the
/// other may go on for long (`curl` posting to a server that answers at the end).
fn relay(client: &TcpStream, service: &TcpStream) {
    let broken = AtomicBool::new(false);
    thread::scope(|scope| {
        let back = thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, || copy(service, client, &broken));
        if back.is_err() {
            drop((client.shutdown(Shutdown::Both), service.shutdown(Shutdown::Both)));
            return;
        }
        copy(client, service, &broken);
    });
}

fn copy(mut from: &TcpStream, mut to: &TcpStream, broken: &AtomicBool) {
    let mut buffer = vec![0; 32 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) if to.write_all(&buffer[..length]).is_ok() => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => {
                broken.store(true, Ordering::Relaxed);
                break;
            }
        }
    }
    if broken.load(Ordering::Relaxed) {
        drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
    } else {
        drop(to.shutdown(Shutdown::Write));
    }
}

/// A thread that lives in the sandbox's namespace and makes sockets there; everybody else only uses them.
#[derive(Clone, Debug)]
struct SocketMaker {
    requests: SyncSender<(AddressFamily, SyncSender<io::Result<OwnedFd>>)>,
    namespace: Arc<Namespace>,
}

impl SocketMaker {
    fn start(namespace: &Namespace) -> io::Result<Self> {
        let namespace = Arc::new(namespace.try_clone()?);
        let own = Arc::clone(&namespace);
        type Requests = Receiver<(AddressFamily, SyncSender<io::Result<OwnedFd>>)>;
        let (requests, received): (_, Requests) = sync_channel(16);
        thread::Builder::new().name("port-sockets".to_owned()).stack_size(128 << 10).spawn(move || {
            // Ends when the last holder of `requests` is gone.
            let serve = || {
                for (family, answer) in received {
                    let made = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::TCP));
                    drop(answer.send(made.map_err(Into::into)));
                }
                Ok(())
            };
            drop(own.run(serve));
        })?;
        Ok(Self { requests, namespace })
    }

    fn connect(&self, port: u16) -> Option<TcpStream> {
        let local = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
        let connect = |address| self.connect_to(SocketAddr::from((address, port))).ok();
        // Looked up each time: the namespace may have been connected in the meantime.
        local.into_iter().find_map(connect).or_else(|| self.namespace.run(own_address).ok().flatten().and_then(connect))
    }

    fn connect_to(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let (answer, answered) = sync_channel(1);
        self.requests.send((family, answer)).map_err(io::Error::other)?;
        let socket = answered.recv().map_err(io::Error::other)??;
        rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Send, Some(PATIENCE))?;
        rustix::net::connect(&socket, &address)?;
        rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Send, None)?;
        Ok(TcpStream::from(socket))
    }
}

/// The address the namespace would use towards the world, if it has a way there. Nothing is sent.
fn own_address() -> io::Result<Option<IpAddr>> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    if socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).is_err() {
        return Ok(None);
    }
    Ok(Some(socket.local_addr()?.ip()))
}
