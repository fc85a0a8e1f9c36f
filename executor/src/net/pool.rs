//! How do many short sandboxes get a network each without paying for it each time?
//!
//! Making a connected namespace costs one to three milliseconds, as much as the rest of a sandbox. A pool hands out one
//! that an earlier sandbox has left: nobody is in it any more, and a confined process could not have changed it, lacking
//! `CAP_NET_ADMIN`. Two sandboxes never share one at the same time, so each has all ports to itself.

use std::sync::{Mutex, PoisonError};

use super::{Namespace, Outbound, OutboundError};

/// Connected namespaces that are free.
#[derive(Debug, Default)]
pub struct Pool(Mutex<Vec<Connected>>);

/// A namespace with a way out. Field order matters: the way out closes first.
#[derive(Debug)]
struct Connected {
    outbound: Outbound,
    namespace: Namespace,
}

/// A namespace taken from a [`Pool`], to which it goes back when this is dropped.
#[derive(Debug)]
pub struct Lease<'a> {
    pool: &'a Pool,
    connected: Option<Connected>,
}

impl Pool {
    /// An empty pool. Everything in it vanishes with it.
    pub fn new() -> Self {
        Self::default()
    }

    /// A free namespace, or a new one. Must not be used for privileged sandboxes, which could leave it changed.
    ///
    /// # Errors
    /// When there is none and none can be made; see [`Outbound::connect`].
    pub fn take(&self) -> Result<Lease<'_>, OutboundError> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connected = match free {
            Some(connected) => connected,
            None => {
                let namespace = Namespace::create().map_err(OutboundError::namespace)?;
                Connected { outbound: Outbound::connect(&namespace)?, namespace }
            }
        };
        Ok(Lease { pool: self, connected: Some(connected) })
    }
}

impl Lease<'_> {
    fn connected(&self) -> &Connected {
        self.connected.as_ref().expect("only taken out by drop")
    }

    /// The namespace, for [`crate::Network::Join`].
    pub fn namespace(&self) -> &Namespace {
        &self.connected().namespace
    }

    /// Its way out.
    pub fn outbound(&self) -> &Outbound {
        &self.connected().outbound
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut free = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        free.extend(self.connected.take());
    }
}
