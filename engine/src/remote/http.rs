//! How is a file at a URL downloaded, and how rarely?
//!
//! A file is one layer with one file, mode 0600. It is remembered by its URL, together with what the server said about
//! its age (`ETag`, `Last-Modified`), and by its content. With a checksum that is known nobody is asked. Otherwise the
//! server is asked whether it has something newer, and a 304 ends the matter.
//!
//! A broken transfer continues where it broke if the server can (`Range`, guarded by `If-Range`), else begins again. Not
//! every server heeds the guard: a part of something with another tag, time or size is thrown away with what there was.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use rbuild_cache::{ActiveSnapshot, LayerId, LayerKind, Record};
use rbuild_core::{Digest, Event, KeyHasher, Reporter, StepId};
use rbuild_registry::Web;
use rbuild_solver::graph::HttpOp;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Response, StatusCode, Url};
use serde::{Deserialize, Serialize};

use super::sink::Sink;
use super::{RemoteError, redacted, secret};
use crate::blocking::blocking;
use crate::engine::Engine;
use crate::error::Error;
use crate::lock::key_lock;
use crate::secret::Secrets;

/// So many bytes are collected before a thread writes them.
const WRITE: usize = 1 << 20;

/// A file from a URL, in the store. Usable while a lease is held.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Download {
    /// Holds the file and nothing else.
    pub(crate) layer: LayerId,
    /// What the file is called there.
    pub(crate) name: String,
    /// The sha256 of the content.
    pub(crate) digest: Digest,
    /// Bytes.
    pub(crate) size: u64,
    /// `Last-Modified`, in seconds since the epoch.
    pub(crate) modified: Option<i64>,
    etag: Option<String>,
    last_modified: Option<String>,
}

impl Download {
    /// Where the file lies.
    pub(crate) fn path(&self, engine: &Engine) -> Result<PathBuf, RemoteError> {
        Ok(engine.store().layers().directory(&self.layer)?.join(&self.name))
    }

    /// What a step sees of it: content, name, and time, as far as the server knew it.
    pub(crate) fn identity(&self) -> Digest {
        let mut hasher = KeyHasher::new("download/1");
        let time = self.modified.map(|time| time.to_string()).unwrap_or_default();
        hasher.digest(&self.digest).text(&self.name).text(&time);
        hasher.finish()
    }
}

impl Engine {
    /// The file that `op` names: from the store if it is there and still what the server has, else downloaded. Events
    /// go to `progress`.
    pub(crate) async fn download(
        &self,
        op: &HttpOp,
        secrets: &Secrets,
        progress: (&Reporter, StepId),
    ) -> Result<Download, Error> {
        if let Some(digest) = &op.checksum
            && let Some(known) = self.downloaded(&content_key(digest, &op.name))?
        {
            return Ok(known);
        }
        let key = url_key(op);
        let _lock = key_lock(self.store(), &key).await?;
        let known = self.downloaded(&key)?;
        let url = op.url.parse();
        let request = Request {
            web: self.web()?,
            url: url.map_err(|error| RemoteError::Url { url: redacted(&op.url), source: Box::new(error) })?,
            op,
            known: known.as_ref(),
            authorization: authorization(&op.url, secrets)?,
            progress,
        };
        let snapshot = self.store().layers().prepare(&[])?;
        let received = request.receive(&snapshot).await?;
        let found = match (&received, &known) {
            (Some(received), _) => received.digest,
            (None, Some(known)) => known.digest,
            (None, None) => unreachable!("only what is known can be unchanged"),
        };
        check(op, &found)?;
        match (received, known) {
            (Some(received), _) => Ok(self.keep(op, key, received, snapshot).await?),
            (None, known) => Ok(known.expect("only what is known can be unchanged")),
        }
    }

    fn downloaded(&self, key: &Digest) -> Result<Option<Download>, RemoteError> {
        let record = self.store().records().find(key)?;
        Ok(record.and_then(|record| serde_json::from_value(record.outputs).ok()))
    }

    /// Makes a layer of what was received, and remembers it.
    async fn keep(
        &self,
        op: &HttpOp,
        key: Digest,
        received: Received,
        snapshot: ActiveSnapshot,
    ) -> Result<Download, RemoteError> {
        let (store, op) = (self.store().clone(), op.clone());
        blocking(move || {
            let layer = snapshot.commit(LayerKind::Files)?;
            let download = Download {
                layer: layer.id.clone(),
                name: op.name.clone(),
                digest: received.digest,
                size: received.size,
                modified: received.validators.modified(),
                etag: received.validators.etag,
                last_modified: received.validators.last_modified,
            };
            let record = Record {
                listings: Vec::new(),
                layers: vec![layer.id],
                outputs: serde_json::to_value(&download).expect("it has only texts and numbers"),
                provenance: serde_json::Value::Null,
                title: format!("download of {}", redacted(&op.url)),
                created: layer.created,
                duration_ms: 0,
            };
            let content = content_key(&download.digest, &op.name);
            store.records().insert(&[key, content], &[], &record)?;
            Ok(download)
        })
        .await
    }
}

fn check(op: &HttpOp, found: &Digest) -> Result<(), RemoteError> {
    match op.checksum {
        Some(expected) if expected != *found => {
            Err(RemoteError::Checksum { url: redacted(&op.url), expected, found: *found })
        }
        _ => Ok(()),
    }
}

fn url_key(op: &HttpOp) -> Digest {
    let mut hasher = KeyHasher::new("download-url/1");
    hasher.text(&op.url).text(&op.name);
    hasher.finish()
}

fn content_key(digest: &Digest, name: &str) -> Digest {
    let mut hasher = KeyHasher::new("download-content/1");
    hasher.digest(digest).text(name);
    hasher.finish()
}

/// The `Authorization` header that the user gave for this host, as BuildKit names the secrets.
fn authorization(url: &str, secrets: &Secrets) -> Result<Option<HeaderValue>, RemoteError> {
    let Some(host) = url.parse::<Url>().ok().and_then(|url| url.host_str().map(str::to_owned)) else { return Ok(None) };
    let ids = [format!("HTTP_AUTH_TOKEN_{host}"), format!("HTTP_AUTH_HEADER_{host}")];
    let Some((place, value)) = secret(secrets, &ids)? else { return Ok(None) };
    let text = if place == 0 { format!("Bearer {value}") } else { value };
    let mut value = HeaderValue::from_str(&text).map_err(|_| RemoteError::Header(ids[place].clone()))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// What a server says about the age of a file, and how large all of it is.
#[derive(Clone, Debug, Default)]
struct Validators {
    etag: Option<String>,
    last_modified: Option<String>,
    size: Option<u64>,
}

impl Validators {
    fn of(headers: &HeaderMap, size: Option<u64>) -> Self {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self { etag: text(header::ETAG), last_modified: text(header::LAST_MODIFIED), size }
    }

    /// Whether nothing that both know tells two files apart.
    fn may_be(&self, other: &Self) -> bool {
        fn agree<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> bool {
            one.is_none() || other.is_none() || one == other
        }
        agree(self.etag.as_ref(), other.etag.as_ref())
            && agree(self.last_modified.as_ref(), other.last_modified.as_ref())
            && agree(self.size.as_ref(), other.size.as_ref())
    }

    fn modified(&self) -> Option<i64> {
        let parser = jiff::fmt::rfc2822::DateTimeParser::new();
        parser.parse_timestamp(self.last_modified.as_deref()?).ok().map(jiff::Timestamp::as_second)
    }

    /// What makes a range request safe; a weak tag does not.
    fn for_range(&self) -> Option<&str> {
        let strong = self.etag.as_deref().filter(|tag| !tag.starts_with("W/"));
        strong.or(self.last_modified.as_deref())
    }
}

/// A finished transfer.
struct Received {
    digest: Digest,
    size: u64,
    validators: Validators,
}

/// How one answer ended.
enum Outcome {
    Unchanged,
    Complete,
}

struct Request<'a> {
    web: &'a Web,
    url: Url,
    op: &'a HttpOp,
    known: Option<&'a Download>,
    authorization: Option<HeaderValue>,
    progress: (&'a Reporter, StepId),
}

impl Request<'_> {
    /// Downloads into the snapshot; `None` if what is known is still right.
    async fn receive(&self, snapshot: &ActiveSnapshot) -> Result<Option<Received>, RemoteError> {
        let mut sink = Some(Sink::create(snapshot.upper().join(&self.op.name))?);
        let mut validators = Validators::default();
        let (mut failures, mut furthest) = (0, 0);
        let retry = self.web.config().retry;
        loop {
            let error = match self.attempt(&mut sink, &mut validators).await {
                Ok(Outcome::Unchanged) => return Ok(None),
                Ok(Outcome::Complete) => break,
                Err(error) => error,
            };
            let Some(sink) = &sink else { return Err(error) };
            // Only new bytes are progress: a server that always breaks off at the same place is given up.
            if sink.written() > furthest {
                (failures, furthest) = (0, sink.written());
            }
            failures += 1;
            if !error.is_transient() || failures >= retry.attempts {
                return Err(error);
            }
            let wish = if let RemoteError::Status { after, .. } = &error { *after } else { None };
            tokio::time::sleep(retry.pause(failures, wish)).await;
        }
        let sink = sink.expect("it comes back from each write that succeeds");
        let time = validators.modified().or(self.op.mtime);
        let (digest, size) = blocking(move || sink.finish(time)).await?;
        Ok(Some(Received { digest, size, validators }))
    }

    async fn attempt(&self, place: &mut Option<Sink>, validators: &mut Validators) -> Result<Outcome, RemoteError> {
        let at = written(place);
        let mut response = self.ask(at, validators).await?;
        let status = response.status();
        if status == StatusCode::NOT_MODIFIED && self.known.is_some() {
            return Ok(Outcome::Unchanged);
        }
        let url = || redacted(&self.op.url);
        if status == StatusCode::RANGE_NOT_SATISFIABLE && at > 0 {
            return Err(self.begin_again(place).await?);
        }
        if !status.is_success() {
            let after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            return Err(RemoteError::Status {
                url: url(),
                status: status.as_u16(),
                after: after.map(Duration::from_secs),
            });
        }
        let continues = status == StatusCode::PARTIAL_CONTENT;
        let range = continues.then(|| ContentRange::of(response.headers())).flatten();
        let size = if continues { range.and_then(|range| range.size) } else { response.content_length() };
        let said = Validators::of(response.headers(), size);
        // Some servers never answer 304, but name the same entity.
        if at == 0 && self.known.is_some_and(|known| known.etag.is_some() && known.etag == said.etag) {
            return Ok(Outcome::Unchanged);
        }
        if continues && !(at > 0 && range.is_some_and(|range| range.start == at) && said.may_be(validators)) {
            return Err(self.begin_again(place).await?);
        }
        if !continues {
            *validators = said;
            rewind(place).await?;
        }
        let start = if continues { at } else { 0 };
        let total = validators.size.or(size).or_else(|| response.content_length().map(|length| start + length));
        self.copy(&mut response, place, total).await?;
        match total {
            Some(of) if written(place) < of => Err(RemoteError::Short { url: url(), at: written(place), of }),
            _ => Ok(Outcome::Complete),
        }
    }

    /// Throws away what there is, since the server does not continue it; the next attempt is for the whole file.
    async fn begin_again(&self, place: &mut Option<Sink>) -> Result<RemoteError, RemoteError> {
        rewind(place).await?;
        Ok(RemoteError::Range { url: redacted(&self.op.url) })
    }

    async fn ask(&self, at: u64, validators: &Validators) -> Result<Response, RemoteError> {
        let mut headers = HeaderMap::new();
        let mut set = |name: HeaderName, text: &str| {
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(name, value);
            }
        };
        if at > 0 {
            if let Some(guard) = validators.for_range() {
                set(header::RANGE, &format!("bytes={at}-"));
                set(header::IF_RANGE, guard);
            }
        } else if let Some(known) = self.known {
            if let Some(etag) = &known.etag {
                set(header::IF_NONE_MATCH, etag);
            } else if let Some(time) = &known.last_modified {
                set(header::IF_MODIFIED_SINCE, time);
            }
        }
        if let Some(value) = &self.authorization {
            headers.insert(header::AUTHORIZATION, value.clone());
        }
        let request = self.web.client(&self.url).get(self.url.clone()).headers(headers);
        self.in_time(request.send()).await
    }

    /// Writes the body as it comes, in large pieces. What came before a connection broke is kept.
    async fn copy(
        &self,
        response: &mut Response,
        place: &mut Option<Sink>,
        total: Option<u64>,
    ) -> Result<(), RemoteError> {
        let mut waiting: Vec<Bytes> = Vec::new();
        let mut amount = 0;
        loop {
            let chunk = self.in_time(response.chunk()).await;
            let mut end = None;
            match chunk {
                Ok(Some(bytes)) => {
                    amount += bytes.len();
                    waiting.push(bytes);
                }
                Ok(None) => end = Some(Ok(())),
                Err(error) => end = Some(Err(error)),
            }
            if amount >= WRITE || end.is_some() && amount > 0 {
                let sink = place.take().expect("it comes back from each write that succeeds");
                let chunks = std::mem::take(&mut waiting);
                let sink = blocking(move || sink.write(&chunks)).await?;
                amount = 0;
                self.report(sink.written(), total);
                *place = Some(sink);
            }
            if let Some(end) = end {
                return end;
            }
        }
    }

    fn report(&self, current: u64, total: Option<u64>) {
        let (reporter, step) = self.progress;
        let item = self.op.name.clone();
        reporter.emit(Event::Transfer { step, item, current, total, action: "downloading" });
    }

    async fn in_time<T>(&self, work: impl Future<Output = reqwest::Result<T>>) -> Result<T, RemoteError> {
        let after = self.web.config().idle_timeout;
        let url = || redacted(&self.op.url);
        let answer = tokio::time::timeout(after, work).await.map_err(|_| RemoteError::Timeout { url: url(), after })?;
        answer.map_err(|error| RemoteError::Transfer { url: url(), source: error.without_url() })
    }
}

fn written(place: &Option<Sink>) -> u64 {
    place.as_ref().map_or(0, Sink::written)
}

async fn rewind(place: &mut Option<Sink>) -> Result<(), RemoteError> {
    if written(place) > 0 {
        let sink = place.take().expect("it comes back from each write that succeeds");
        *place = Some(blocking(move || sink.rewind()).await?);
    }
    Ok(())
}

/// Which part of a file an answer is.
#[derive(Clone, Copy)]
struct ContentRange {
    start: u64,
    /// Of the whole file, if the server says.
    size: Option<u64>,
}

impl ContentRange {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
        let (range, size) = text.split_once('/')?;
        Some(Self { start: range.split('-').next()?.trim().parse().ok()?, size: size.trim().parse().ok() })
    }
}
