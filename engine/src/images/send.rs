//! How does one layer get to a registry?
//!
//! ```text
//! in a form that is known    look for it ── mount it ── send it from the store
//! in none yet                compress it into the store, and send it meanwhile
//! ```
//!
//! What is sent before it is complete could turn out to be there already, since only its digest would show that. So
//! that is asked as soon as the digest is known, if much is left to be sent then. With a slow network it is, and what is
//! small is never sent before it is complete.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use futures_util::TryStreamExt;
use futures_util::future::try_join;
use rbuild_cache::LayerId;
use rbuild_core::{Event, Reporter, StepId};
use rbuild_image::{Compression, Descriptor, Reference};
use rbuild_registry::Streamed;
use tokio::sync::Semaphore;

use super::blobs::{Wanted, fitting};
use super::growing::{Follow, Growing, beyond, whole};
use super::push::PushedLayer;
use crate::engine::{Engine, reference};
use crate::error::Error;

/// With less to send, it is first asked whether it must be sent.
const MUCH: u64 = 4 << 20;

/// Sends the layers of one image to one place.
pub(super) struct Sender<'a> {
    pub(super) engine: &'a Engine,
    pub(super) target: &'a Reference,
    /// One layer is compressed after the other: each takes all processors, and memory for each of them.
    pub(super) compressor: &'a Semaphore,
    pub(super) reporter: &'a Reporter,
}

impl Sender<'_> {
    /// Sends a layer in the form that `known` names, if it still can be had, else in any form that fits.
    pub(super) async fn send(
        &self,
        id: &LayerId,
        known: Option<&Descriptor>,
        compression: Compression,
        step: StepId,
    ) -> Result<(Descriptor, PushedLayer), Error> {
        let store = self.engine.store();
        let layer = store.layers().find(id)?.ok_or_else(|| self.engine.vanished(id))?;
        if let Some(blob) = known.or_else(|| fitting(&layer, compression).next()) {
            if let Some(how) = self.find(id, blob, step).await? {
                return Ok((blob.clone(), how));
            }
            if store.content().contains(&blob.digest) {
                self.send_bytes(blob, step).await?;
                self.remember(id)?;
                return Ok((blob.clone(), PushedLayer::Pushed));
            }
        }
        let wanted = Wanted::Any(compression);
        let (blob, how) = match self.engine.known_blob(id, wanted, self.reporter).await? {
            Some(blob) => (blob.descriptor, None),
            None => {
                // Its own name comes with its end.
                let item = layer.diff_id.unwrap_or(layer.identity).short();
                self.send_growing(id, wanted, step, item).await?
            }
        };
        let how = match how {
            Some(how) => how,
            None => match self.find(id, &blob, step).await? {
                Some(how) => how,
                None => {
                    self.send_bytes(&blob, step).await?;
                    PushedLayer::Pushed
                }
            },
        };
        self.remember(id)?;
        Ok((blob, how))
    }

    /// Whether the registry has the blob, possibly in another of its repositories.
    async fn find(&self, id: &LayerId, blob: &Descriptor, step: StepId) -> Result<Option<PushedLayer>, Error> {
        let (store, client) = (self.engine.store(), self.engine.registry());
        if client.has_blob(self.target, blob).await? {
            self.remember(id)?;
            self.tell(step, blob, "exists");
            return Ok(Some(PushedLayer::Exists));
        }
        let layer = store.layers().find(id)?.ok_or_else(|| self.engine.vanished(id))?;
        for source in &layer.sources {
            let source = reference(source)?;
            if source.registry() == self.target.registry() && client.mount_blob(self.target, &source, blob).await? {
                self.remember(id)?;
                self.tell(step, blob, "mounted");
                return Ok(Some(PushedLayer::Mounted));
            }
        }
        Ok(None)
    }

    /// From now on other repositories of this registry can be given the layer without sending it.
    fn remember(&self, id: &LayerId) -> Result<(), Error> {
        Ok(self.engine.store().layers().add_source(id, &self.target.name())?)
    }

    /// Sends a blob that is in the store, unless it is there.
    pub(super) async fn send_bytes(&self, blob: &Descriptor, step: StepId) -> Result<(), Error> {
        let store = self.engine.store().clone();
        let item = blob.digest.short();
        let open = || {
            let found = store.content().open(&blob.digest).map_err(io::Error::other).and_then(|found| {
                let missing = || io::Error::new(io::ErrorKind::NotFound, "the blob is no longer in the store");
                found.ok_or_else(missing)
            });
            let chunks = found.map(|found| Follow::whole(found.into_file(), blob).chunks());
            let chunks = futures_util::stream::once(async { chunks }).try_flatten();
            let (item, reporter, total, mut current) = (item.clone(), self.reporter.clone(), Some(blob.size), 0);
            chunks.inspect_ok(move |chunk| {
                current += chunk.len() as u64;
                reporter.emit(Event::Transfer { step, item: item.clone(), current, total, action: "pushing" });
            })
        };
        self.engine.registry().push_blob(self.target, blob, open).await?;
        self.tell(step, blob, "done");
        Ok(())
    }

    /// Compresses a layer, and sends it meanwhile if it is large. Without a second value the blob has yet to be sent.
    async fn send_growing(
        &self,
        id: &LayerId,
        wanted: Wanted,
        step: StepId,
        item: String,
    ) -> Result<(Descriptor, Option<PushedLayer>), Error> {
        let Growing { made, follow } = self.engine.grow_blob(id, wanted)?;
        // Keeps its maker going, also when the upload has failed.
        let growth = follow.growth();
        let making = async {
            let _turn = self.compressor.acquire().await.expect("it is never closed");
            made.await
        };
        let found = OnceLock::new();
        let (blob, streamed) = try_join(making, Box::pin(self.stream(id, follow, &found, step, item.clone()))).await?;
        drop(growth);
        let blob = blob.descriptor;
        if streamed.is_some() {
            // Under this name. What follows is told of by the blob's digest.
            let (current, total) = (blob.size, Some(blob.size));
            let action = if matches!(streamed, Some(Streamed::Unneeded)) { "exists" } else { "done" };
            self.reporter.emit(Event::Transfer { step, item, current, total, action });
        }
        let how = match streamed {
            Some(Streamed::Sent) => Some(PushedLayer::Pushed),
            Some(Streamed::Unneeded) => found.into_inner(),
            Some(Streamed::Broken(error)) => {
                tracing::debug!(%error, layer = %id, "sent again");
                None
            }
            None => None,
        };
        Ok((blob, how))
    }

    /// Sends what is being made; `None` if that was soon complete. `found` is how the registry got it in another way.
    async fn stream(
        &self,
        id: &LayerId,
        follow: Follow,
        found: &OnceLock<PushedLayer>,
        step: StepId,
        item: String,
    ) -> Result<Option<Streamed>, Error> {
        let growth = follow.growth();
        if beyond(growth.clone(), MUCH).await.is_some() {
            return Ok(None);
        }
        let sent = Arc::new(AtomicU64::new(0));
        let (counter, reporter) = (Arc::clone(&sent), self.reporter.clone());
        let body = follow.chunks().inspect_ok(move |chunk| {
            let length = chunk.len() as u64;
            let current = counter.fetch_add(length, Ordering::Relaxed) + length;
            reporter.emit(Event::Transfer { step, item: item.clone(), current, total: None, action: "pushing" });
        });
        let unneeded = async {
            if let Some(blob) = whole(growth.clone()).await
                && blob.size - sent.load(Ordering::Relaxed) > MUCH
                // If that cannot be found out it is sent.
                && let Ok(Some(how)) = self.find(id, &blob, step).await
            {
                found.get_or_init(|| how);
                return;
            }
            std::future::pending::<()>().await;
        };
        let client = self.engine.registry();
        Ok(Some(client.push_growing(self.target, body, whole(growth.clone()), unneeded).await?))
    }

    fn tell(&self, step: StepId, blob: &Descriptor, action: &'static str) {
        let item = blob.digest.short();
        self.reporter.emit(Event::Transfer { step, item, current: blob.size, total: Some(blob.size), action });
    }
}
