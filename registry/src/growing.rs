//! How is a blob sent whose digest nobody knows yet?
//!
//! ```text
//! POST   /v2/NAME/blobs/uploads/              202, Location: an upload
//! PATCH  the upload                           chunks, as they come into being; 202, Location: the same or another
//! PUT    that one, with ?digest=sha256:…      201
//! ```
//!
//! So pushed Docker ever since, so every registry takes it. It is tried once: what comes into being can be sent when it
//! is complete, too, by [`Client::push_blob`], which asks first whether that is still needed and repeats what fails.
//! A failure of the one attempt says whether that makes sense.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::{Either, select};
use rbuild_image::{Descriptor, Reference};
use reqwest::{Method, StatusCode, Url};

use crate::answer::check;
use crate::auth::Scopes;
use crate::client::{Client, Origin};
use crate::error::{Error, Result, Subject};
use crate::host::{Ask, Host, Place};
use crate::patience::allowance;
use crate::push::{Outgoing, expect, with_digest};

/// How long the registry may think about forgetting an upload.
const FORGETTING: Duration = Duration::from_secs(5);

/// What became of a blob that was sent while it came into being.
#[derive(Debug)]
pub enum Streamed {
    /// It was sent.
    Sent,
    /// `unneeded` ended first, and the upload was given up.
    Unneeded,
    /// The upload failed, or the blob did not become complete. If it does, sending it may succeed.
    Broken(Error),
}

impl Client {
    /// Sends a blob while it comes into being. `body` ends when it is complete, and `whole` says then what it is, or
    /// that it is nothing. If `unneeded` ends earlier, the rest is not sent.
    ///
    /// # Errors
    /// What makes another attempt futile: see [`Error`].
    pub async fn push_growing<S>(
        &self,
        name: &Reference,
        body: S,
        whole: impl Future<Output = Option<Descriptor>> + Send,
        unneeded: impl Future<Output = ()> + Send,
    ) -> Result<Streamed>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let subject = Subject::new("write", "a blob", name);
        let origin = self.origin(name);
        let _permit = origin.host.transfer().await;
        let scopes = Scopes::push(&origin.repository);
        let upload = match begin(&subject, &origin, &scopes).await {
            Ok(upload) => upload,
            Err(error) if error.is_transient() => return Ok(Streamed::Broken(error)),
            Err(error) => return Err(error),
        };
        let sending = Box::pin(send(&subject, &origin, &scopes, upload.clone(), body, whole));
        match select(sending, pin!(unneeded)).await {
            Either::Left((Ok(()), _)) => Ok(Streamed::Sent),
            Either::Left((Err(error @ Error::Denied { .. }), _)) => Err(error),
            Either::Left((Err(error), _)) => Ok(Streamed::Broken(error)),
            Either::Right(((), sending)) => {
                // Closes the connection in the middle of the body.
                drop(sending);
                forget(&subject, &origin, &scopes, upload).await;
                Ok(Streamed::Unneeded)
            }
        }
    }
}

/// Where to send to.
pub(crate) async fn begin(subject: &Subject, origin: &Origin, scopes: &Scopes) -> Result<Url> {
    let ask = Ask { body: Some(Bytes::new()), ..Ask::new(Method::POST, origin.path("blobs/uploads/")) };
    let response = origin.host.ask(subject, scopes, &ask).await?;
    Host::location(subject, &expect(subject, response, StatusCode::ACCEPTED).await?)
}

async fn send<S>(
    subject: &Subject,
    origin: &Origin,
    scopes: &Scopes,
    upload: Url,
    body: S,
    whole: impl Future<Output = Option<Descriptor>>,
) -> Result<()>
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    let answer = Outgoing::new(body).send(subject, origin, scopes, Method::PATCH, upload).await?;
    let upload = Host::location(subject, &check(subject, answer).await?)?;
    let Some(descriptor) = whole.await else {
        let source = io::Error::other("it did not become complete");
        return Err(Error::Body { subject: subject.clone(), source });
    };
    let place = Place::Url(with_digest(upload, &descriptor));
    // Without a body it can be repeated, and is, if the token has expired in the meantime.
    let allowance = allowance(descriptor.size);
    let ask = Ask { place, allowance, body: Some(Bytes::new()), ..Ask::new(Method::PUT, String::new()) };
    let response = origin.host.ask(subject, scopes, &ask).await?;
    check(subject, response).await.map(drop)
}

/// The registry forgets by itself, sooner or later: a failure is none of ours.
pub(crate) async fn forget(subject: &Subject, origin: &Origin, scopes: &Scopes, upload: Url) {
    let ask = Ask { place: Place::Url(upload), ..Ask::new(Method::DELETE, String::new()) };
    drop(tokio::time::timeout(FORGETTING, origin.host.ask(subject, scopes, &ask)).await);
}
