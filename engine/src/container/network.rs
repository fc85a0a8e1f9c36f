//! Which network does a container get?
//!
//! `bridge` is a network namespace of the container's own. Published ports lead into it through sockets of its watcher,
//! which works for root and ordinary users alike.

use rbuild_executor::Network;
use rbuild_executor::net::{Forward, Namespace, Outbound, PortForward};

use super::RunError;
use super::record::{Container, NetworkKind};
use crate::error::Error;

/// A network while it is in use; its forwards end with it.
#[derive(Debug)]
pub(super) enum ContainerNetwork {
    Host,
    None,
    Own { namespace: Namespace, _outbound: Option<Outbound>, _forwards: Vec<PortForward> },
}

impl ContainerNetwork {
    /// Opens the network of a container and listens on its published ports; those that had no number get one.
    pub(super) fn open(container: &mut Container) -> Result<Self, RunError> {
        match container.network {
            NetworkKind::Host => return Ok(Self::Host),
            NetworkKind::None => return Ok(Self::None),
            NetworkKind::Bridge => {}
        }
        let namespace =
            Namespace::create().map_err(|source| Error::Stream { action: "make a network namespace", source })?;
        // Without it the container still serves its published ports, which is all an ordinary user can have.
        let outbound = Outbound::connect(&namespace)
            .inspect_err(|error| tracing::info!(%error, "the container has no way out"))
            .ok();
        let mut forwards = Vec::with_capacity(container.ports.len());
        for port in &mut container.ports {
            let address = (!port.address.is_unspecified()).then_some(port.address);
            let forward = Forward { address, host_port: port.host, sandbox_port: port.container };
            let started = PortForward::start(forward, &namespace).map_err(|source| RunError::Listen {
                address: port.address,
                port: port.host,
                source,
            })?;
            port.host = started.addresses().first().map_or(port.host, std::net::SocketAddr::port);
            forwards.push(started);
        }
        Ok(Self::Own { namespace, _outbound: outbound, _forwards: forwards })
    }

    pub(super) fn of_sandbox(&self) -> Network {
        match self {
            Self::Host => Network::Host,
            Self::None => Network::None,
            Self::Own { namespace, .. } => Network::Join(namespace.path()),
        }
    }
}
