//! How is an image written to a registry?
//!
//! Blobs first, in any order, then the manifest that names them. Nothing is sent that is there already: each blob is
//! looked for, then mounted from a sibling repository if the caller knows one, and only then uploaded: one `POST`,
//! which says where to, and one `PUT` with all bytes. A blob that is not complete yet goes another way
//! ([`growing`](crate::growing)).

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use rbuild_image::{Descriptor, Reference, sha256};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Body, Method, Response, StatusCode, Url};

use crate::answer::check;
use crate::auth::Scopes;
use crate::client::{Client, Origin};
use crate::error::{Error, Result, Subject};
use crate::growing;
use crate::host::{Ask, Host, Load, Redirects};
use crate::patience::Patience;
use crate::retry::retry;

/// What became of something that should be in a registry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pushed {
    /// It was sent.
    Sent,
    /// It was there.
    Existed,
}

impl Client {
    /// Whether the repository has this blob.
    ///
    /// # Errors
    /// See [`Error`]; a blob that is missing is none.
    pub async fn has_blob(&self, name: &Reference, descriptor: &Descriptor) -> Result<bool> {
        let subject = Subject::new("look for", format!("blob `{}`", descriptor.digest), name);
        let origin = self.origin(name);
        let scopes = Scopes::push(&origin.repository);
        retry(&self.config().retry, || is_there(&subject, &origin, &scopes, descriptor)).await
    }

    /// Puts a blob into the repository unless it is there. `open` gives its bytes from the beginning, and is called
    /// again for each attempt; there must be exactly `descriptor.size` of them.
    ///
    /// # Errors
    /// [`Error::Body`] if `open`'s stream fails; see [`Error`].
    pub async fn push_blob<S>(
        &self,
        name: &Reference,
        descriptor: &Descriptor,
        open: impl Fn() -> S + Send + Sync,
    ) -> Result<Pushed>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        if self.has_blob(name, descriptor).await? {
            return Ok(Pushed::Existed);
        }
        let subject = Subject::new("write", format!("blob `{}`", descriptor.digest), name);
        let origin = self.origin(name);
        let _permit = origin.host.transfer().await;
        let scopes = Scopes::push(&origin.repository);
        let began = AtomicBool::new(false);
        let attempt = || async {
            let url = with_digest(growing::begin(&subject, &origin, &scopes).await?, descriptor);
            let body = Outgoing::of_length(open(), descriptor.size);
            began.store(true, Ordering::Relaxed);
            let answer = body.send(&subject, &origin, &scopes, Method::PUT, url).await?;
            check(&subject, answer).await.map(drop)
        };
        retry(&self.config().retry, || async {
            // What got no answer may have arrived all the same.
            if began.load(Ordering::Relaxed) && is_there(&subject, &origin, &scopes, descriptor).await? {
                return Ok(());
            }
            match attempt().await {
                // The token expired since the `POST`, which makes the next one fetch another.
                Err(Error::Unauthorized { .. }) => attempt().await,
                other => other,
            }
        })
        .await?;
        Ok(Pushed::Sent)
    }

    /// Makes a blob of the repository `from` appear in `to` without sending it. Returns whether that worked; it does
    /// not between registries, or if the registry does not know the blob or does not let us.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn mount_blob(&self, to: &Reference, from: &Reference, descriptor: &Descriptor) -> Result<bool> {
        if to.registry() != from.registry() || to.repository() == from.repository() {
            return Ok(false);
        }
        let subject = Subject::new("mount", format!("blob `{}`", descriptor.digest), to);
        let origin = self.origin(to);
        let path = origin.path(&format!("blobs/uploads/?mount={}&from={}", descriptor.digest, from.repository()));
        let ask = Ask { body: Some(Bytes::new()), ..Ask::new(Method::POST, path) };
        let scopes = Scopes::push(to.repository()).with(&format!("repository:{}:pull", from.repository()));
        let answer = retry(&self.config().retry, || async {
            let response = origin.host.ask(&subject, &scopes, &ask).await?;
            check(&subject, response).await
        });
        match answer.await {
            Ok(response) if response.status() == StatusCode::CREATED => Ok(true),
            Ok(response) => {
                // The registry began an upload instead, which nobody will finish.
                if let Ok(url) = Host::location(&subject, &response) {
                    growing::forget(&subject, &origin, &scopes, url).await;
                }
                Ok(false)
            }
            Err(Error::Unauthorized { .. } | Error::Denied { .. } | Error::NotFound { .. }) => Ok(false),
            Err(Error::Status { status: 400..=499, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Puts a manifest or an index into the repository, under the tag of `name` if it has one. What it names must be
    /// there already.
    ///
    /// # Errors
    /// [`Error::Digest`] if `raw` is not what `descriptor` says; see [`Error`].
    pub async fn push_manifest(&self, name: &Reference, descriptor: &Descriptor, raw: Bytes) -> Result<Pushed> {
        let locator = name.tag().map_or_else(|| descriptor.digest.to_string(), str::to_owned);
        let subject = Subject::new("write", format!("manifest `{locator}`"), name);
        let actual = sha256(&raw);
        if actual != descriptor.digest {
            return Err(Error::Digest { subject, expected: descriptor.digest, actual });
        }
        let origin = self.origin(name);
        let scopes = Scopes::push(&origin.repository);
        let path = origin.path(&format!("manifests/{locator}"));
        let media_type = HeaderValue::from_str(&descriptor.media_type).map_err(|_| Error::Protocol {
            subject: subject.clone(),
            problem: format!("`{}` is not a media type", descriptor.media_type),
        })?;
        let mut look = Ask::new(Method::HEAD, path.clone());
        look.headers.insert(reqwest::header::ACCEPT, media_type.clone());
        let mut put = Ask { body: Some(raw), ..Ask::new(Method::PUT, path) };
        put.headers.insert(CONTENT_TYPE, media_type);
        retry(&self.config().retry, || async {
            let there = origin.host.ask(&subject, &scopes, &look).await?;
            if there.status().is_success() && stated_digest(&there).as_deref() == Some(&descriptor.digest.to_string()) {
                return Ok(Pushed::Existed);
            }
            let response = origin.host.ask(&subject, &scopes, &put).await?;
            check(&subject, response).await?;
            Ok(Pushed::Sent)
        })
        .await
    }
}

/// Asks once.
async fn is_there(subject: &Subject, origin: &Origin, scopes: &Scopes, descriptor: &Descriptor) -> Result<bool> {
    let mut ask = Ask::new(Method::HEAD, origin.path(&format!("blobs/{}", descriptor.digest)));
    // To point elsewhere is to have it; a signed address may not be good for `HEAD`.
    ask.redirects = Redirects::Return;
    let response = origin.host.ask(subject, scopes, &ask).await?;
    if response.status().is_redirection() {
        return Ok(true);
    }
    match check(subject, response).await {
        Ok(_) => Ok(true),
        Err(Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn stated_digest(response: &Response) -> Option<String> {
    response.headers().get("docker-content-digest")?.to_str().ok().map(str::to_owned)
}

/// An upload's address, for the request that ends it.
pub(crate) fn with_digest(mut url: Url, descriptor: &Descriptor) -> Url {
    url.query_pairs_mut().append_pair("digest", &descriptor.digest.to_string());
    url
}

/// The bytes of a blob on their way out, once.
pub(crate) struct Outgoing {
    load: Load,
    failure: Arc<Mutex<Option<io::Error>>>,
}

impl Outgoing {
    /// As many as there will be, in chunks.
    pub(crate) fn new<S>(bytes: S) -> Self
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        Self::watched(bytes, None)
    }

    fn watched<S>(bytes: S, length: Option<u64>) -> Self
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        // An error of the body reaches us only as a broken connection, so it is put aside on its way.
        let failure = Arc::new(Mutex::new(None));
        let aside = Arc::clone(&failure);
        let patience = Patience::new(length);
        let body = patience.watch(bytes).map_err(move |error| {
            let kind = error.kind();
            *aside.lock().expect("nothing panics while it holds this lock") = Some(error);
            io::Error::from(kind)
        });
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        Self { load: Load { headers, body: Body::wrap_stream(body), patience }, failure }
    }

    /// So many.
    fn of_length<S>(bytes: S, length: u64) -> Self
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let mut this = Self::watched(bytes, Some(length));
        this.load.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        if length == 0 {
            this.load.body = Body::from(Bytes::new());
        }
        this
    }

    pub(crate) async fn send(
        self,
        subject: &Subject,
        origin: &Origin,
        scopes: &Scopes,
        method: Method,
        url: Url,
    ) -> Result<Response> {
        let answer = origin.host.send_body(subject, scopes, method, url, self.load).await;
        if let Some(source) = self.failure.lock().expect("nothing panics while it holds this lock").take() {
            return Err(Error::Body { subject: subject.clone(), source });
        }
        answer
    }
}

pub(crate) async fn expect(subject: &Subject, response: Response, status: StatusCode) -> Result<Response> {
    let response = check(subject, response).await?;
    if response.status() == status {
        return Ok(response);
    }
    Err(Error::Protocol {
        subject: subject.clone(),
        problem: format!("the registry answered {} instead of {}", response.status().as_u16(), status.as_u16()),
    })
}
