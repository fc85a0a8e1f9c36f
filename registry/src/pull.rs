//! How is an image read from a registry?
//!
//! Mirrors are asked before the registry itself. Manifests are small, read whole and verified. Blobs are streams that
//! go on where they broke off; whoever stores one verifies its digest.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use rbuild_core::{Algorithm, Digest, Platform};
use rbuild_image::manifest::LARGEST_MANIFEST;
use rbuild_image::{Descriptor, Document, ManifestError, Reference, media, sha256};
use reqwest::header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};
use tokio::sync::OwnedSemaphorePermit;

use crate::answer::{check, read_limited, transport_error};
use crate::auth::Scopes;
use crate::client::{Client, Origin};
use crate::error::{Error, Result, Subject};
use crate::host::Ask;
use crate::retry::{pause, retry};

/// How deep indexes may be nested in indexes.
const DEEPEST_INDEX: usize = 3;

impl Client {
    /// What `name` points to at this moment, be it one image or an index of several. One `HEAD` request, which
    /// registries do not count against their limits.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn head(&self, name: &Reference) -> Result<Descriptor> {
        let subject = Subject::new("read", format!("manifest `{}`", name.locator()), name);
        let policy = self.config().retry;
        self.first_of(name, |origin| {
            let subject = &subject;
            async move { retry(&policy, || head(subject, &origin, name)).await }
        })
        .await
    }

    /// The manifest that `name` means on `platform`. If `name` is one image, that image, whatever it is for: only its
    /// configuration tells.
    ///
    /// # Errors
    /// [`Error::Platform`] if an index has nothing that runs on `platform`; see [`Error`].
    pub async fn resolve(&self, name: &Reference, platform: &Platform) -> Result<Descriptor> {
        let mut descriptor = self.head(name).await?;
        for _ in 0..DEEPEST_INDEX {
            if media::is_manifest(&descriptor.media_type) {
                return Ok(descriptor);
            }
            let subject = Subject::new("read", format!("manifest `{}`", descriptor.digest), name);
            let bytes = self.manifest(name, &descriptor).await?;
            let document = Document::parse(Some(&descriptor.media_type), &bytes);
            match document.map_err(|source| Error::Manifest { subject: subject.clone(), source })? {
                Document::Manifest(manifest) => {
                    // The server did not say what it is, but its content does.
                    if !manifest.media_type.is_empty() {
                        descriptor.media_type = manifest.media_type;
                    } else {
                        descriptor.media_type = media::OCI_MANIFEST.to_owned();
                    }
                    return Ok(descriptor);
                }
                Document::Index(index) => match index.select(platform) {
                    Some(entry) => descriptor = entry.clone(),
                    None => {
                        let offered = index.platforms().cloned().collect();
                        return Err(Error::Platform { subject, wanted: platform.clone(), offered });
                    }
                },
            }
        }
        let subject = Subject::new("read", format!("manifest `{}`", descriptor.digest), name);
        Err(Error::Protocol { subject, problem: "its index is nested too deeply".to_owned() })
    }

    /// The bytes that `descriptor` names, verified; a manifest, an index or anything else that is stored among them.
    ///
    /// # Errors
    /// [`Error::Digest`] if the registry sends something else; see [`Error`].
    pub async fn manifest(&self, name: &Reference, descriptor: &Descriptor) -> Result<Bytes> {
        let subject = Subject::new("read", format!("manifest `{}`", descriptor.digest), name);
        let policy = self.config().retry;
        let locator = descriptor.digest.to_string();
        self.first_of(name, |origin| {
            let (subject, locator) = (&subject, &locator);
            async move {
                retry(&policy, || async {
                    let (_, bytes) = fetch(subject, &origin, locator).await?;
                    verify(subject, &descriptor.digest, sha256(&bytes))?;
                    Ok(bytes)
                })
                .await
            }
        })
        .await
    }

    /// The bytes of a blob from offset `from` on. A broken connection is taken up again where it broke. The stream
    /// ends after exactly `descriptor.size` bytes or with an error; the digest is not checked.
    ///
    /// Only so many blobs are read from a host at once: a stream that is not read on keeps others waiting.
    ///
    /// # Errors
    /// Those of the first answer here, later ones in the stream; see [`Error`].
    pub async fn blob(
        &self,
        name: &Reference,
        descriptor: &Descriptor,
        from: u64,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + Unpin + use<>> {
        let subject = Subject::new("read", format!("blob `{}`", descriptor.digest), name);
        if from > descriptor.size {
            return Err(Error::Short { subject, at: descriptor.size, of: from });
        }
        let mut transfer = Transfer {
            client: self.clone(),
            name: name.clone(),
            descriptor: descriptor.clone(),
            subject,
            at: from,
            failures: 0,
            connection: None,
        };
        if from < descriptor.size {
            transfer.connect().await?;
        }
        let chunks = stream::try_unfold(transfer, async |mut transfer| {
            Ok(transfer.next().await?.map(|chunk| (chunk, transfer)))
        });
        Ok(Box::pin(chunks))
    }
}

fn manifest_ask(method: Method, origin: &Origin, locator: &str) -> Ask {
    let mut ask = Ask::new(method, origin.path(&format!("manifests/{locator}")));
    let accepted = [media::OCI_INDEX, media::DOCKER_INDEX, media::OCI_MANIFEST, media::DOCKER_MANIFEST].join(", ");
    ask.headers.insert(ACCEPT, HeaderValue::from_str(&accepted).expect("media types are ASCII"));
    ask
}

async fn head(subject: &Subject, origin: &Origin, name: &Reference) -> Result<Descriptor> {
    let locator = name.locator();
    let ask = manifest_ask(Method::HEAD, origin, &locator);
    let response = origin.host.ask(subject, &Scopes::pull(&origin.repository), &ask).await?;
    if response.status().is_success()
        && let Some(descriptor) = described(response.headers())
    {
        if let Some(expected) = name.digest() {
            verify(subject, expected, descriptor.digest)?;
        }
        refuse_schema1(subject, &descriptor.media_type)?;
        return Ok(descriptor);
    }
    // Some registries answer `HEAD` badly, or without a digest.
    match check(subject, response).await {
        Ok(_) | Err(Error::Status { .. }) => {}
        Err(error) => return Err(error),
    }
    let (media_type, bytes) = fetch(subject, origin, &locator).await?;
    let descriptor = Descriptor::of(media_type, &bytes);
    if let Some(expected) = name.digest() {
        verify(subject, expected, descriptor.digest)?;
    }
    Ok(descriptor)
}

/// The descriptor that an answer's headers give, if they are complete.
fn described(headers: &HeaderMap) -> Option<Descriptor> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let digest: Digest = text("docker-content-digest")?.parse().ok()?;
    let size = text("content-length")?.parse().ok().filter(|size| *size > 0)?;
    let sha256 = digest.algorithm() == Algorithm::Sha256;
    sha256.then(|| Descriptor::new(media_type(headers), digest, size))
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_owned()
}

fn refuse_schema1(subject: &Subject, media_type: &str) -> Result<()> {
    if media::is_schema1(media_type) {
        return Err(Error::Manifest { subject: subject.clone(), source: ManifestError::Schema1 });
    }
    Ok(())
}

/// A manifest's media type and bytes, not verified.
async fn fetch(subject: &Subject, origin: &Origin, locator: &str) -> Result<(String, Bytes)> {
    let ask = manifest_ask(Method::GET, origin, locator);
    let response = origin.host.ask(subject, &Scopes::pull(&origin.repository), &ask).await?;
    let response = check(subject, response).await?;
    let media_type = media_type(response.headers());
    refuse_schema1(subject, &media_type)?;
    let limit = usize::try_from(LARGEST_MANIFEST).unwrap_or(usize::MAX);
    let idle = origin.host.idle_timeout;
    let body = tokio::time::timeout(idle, read_limited(response, limit)).await;
    let body = body.map_err(|_| Error::Timeout { subject: subject.clone(), after: idle })?;
    let bytes = body.map_err(|error| match error {
        Some(error) => transport_error(subject, error),
        None => Error::Protocol { subject: subject.clone(), problem: "it is larger than 4 MiB".to_owned() },
    })?;
    Ok((media_type, bytes))
}

fn verify(subject: &Subject, expected: &Digest, actual: Digest) -> Result<()> {
    if *expected == actual {
        return Ok(());
    }
    Err(Error::Digest { subject: subject.clone(), expected: *expected, actual })
}

/// A blob on its way.
struct Transfer {
    client: Client,
    name: Reference,
    descriptor: Descriptor,
    subject: Subject,
    /// How much of the blob was handed out, or lies before where we were asked to begin.
    at: u64,
    /// Since bytes arrived last.
    failures: u32,
    connection: Option<Connection>,
}

struct Connection {
    response: Response,
    /// Bytes to drop, because the server does not know ranges.
    skip: u64,
    idle_timeout: Duration,
    _permit: OwnedSemaphorePermit,
}

impl Transfer {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while self.at < self.descriptor.size {
            match self.chunk().await {
                Ok(chunk) if chunk.is_empty() => {}
                Ok(chunk) => {
                    self.failures = 0;
                    self.at += chunk.len() as u64;
                    if self.at > self.descriptor.size {
                        let problem = format!("it is longer than the {} bytes it should have", self.descriptor.size);
                        return Err(Error::Protocol { subject: self.subject.clone(), problem });
                    }
                    return Ok(Some(chunk));
                }
                Err(error) => {
                    self.connection = None;
                    let policy = self.client.config().retry;
                    self.failures += 1;
                    if !error.is_transient() || self.failures >= policy.attempts {
                        return Err(error);
                    }
                    tokio::time::sleep(pause(&policy, self.failures - 1, error.retry_after())).await;
                }
            }
        }
        self.connection = None;
        Ok(None)
    }

    /// Some bytes; none if they were all to be skipped.
    async fn chunk(&mut self) -> Result<Bytes> {
        let Some(connection) = &mut self.connection else {
            self.connect().await?;
            return Ok(Bytes::new());
        };
        let idle = connection.idle_timeout;
        let chunk = tokio::time::timeout(idle, connection.response.chunk()).await;
        let chunk = chunk.map_err(|_| Error::Timeout { subject: self.subject.clone(), after: idle })?;
        match chunk.map_err(|error| transport_error(&self.subject, error))? {
            Some(mut chunk) => {
                let skipped = connection.skip.min(chunk.len() as u64);
                connection.skip -= skipped;
                Ok(chunk.split_off(usize::try_from(skipped).expect("not above the chunk's length")))
            }
            None => Err(Error::Short { subject: self.subject.clone(), at: self.at, of: self.descriptor.size }),
        }
    }

    async fn connect(&mut self) -> Result<()> {
        let policy = self.client.config().retry;
        let this = &*self;
        let connected = self
            .client
            .first_of(&self.name, |origin| async move { retry(&policy, || this.open(&origin)).await })
            .await?;
        self.connection = Some(connected);
        Ok(())
    }

    async fn open(&self, origin: &Origin) -> Result<Connection> {
        let permit = origin.host.transfer().await;
        let mut ask = Ask::new(Method::GET, origin.path(&format!("blobs/{}", self.descriptor.digest)));
        if self.at > 0 {
            let range = format!("bytes={}-", self.at);
            ask.headers.insert(RANGE, HeaderValue::from_str(&range).expect("digits are ASCII"));
        }
        let response = origin.host.ask(&self.subject, &Scopes::pull(&origin.repository), &ask).await?;
        let response = check(&self.subject, response).await?;
        let protocol = |problem: String| Error::Protocol { subject: self.subject.clone(), problem };
        let skip = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
                let start = range.and_then(|text| text.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
                if start != Some(self.at) {
                    return Err(protocol(format!("the registry sent another range than from byte {}", self.at)));
                }
                0
            }
            _ => self.at,
        };
        let announced = response.content_length().map(|length| self.at - skip + length);
        if announced.is_some_and(|announced| announced != self.descriptor.size) {
            let problem = format!("it has {} bytes instead of {}", announced.unwrap_or_default(), self.descriptor.size);
            return Err(protocol(problem));
        }
        Ok(Connection { response, skip, idle_timeout: origin.host.idle_timeout, _permit: permit })
    }
}
