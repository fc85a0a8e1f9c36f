//! How does one request reach one registry host?
//!
//! Finds out whether the host speaks HTTPS or HTTP, sends, follows redirects, authenticates when asked to, and turns
//! failures into [`Error`]s. Nothing is repeated here but the one request that a 401 answered.
//!
//! The `Authorization` header goes to the host itself only: a redirect to another host, or another port of it, is
//! followed without. No redirect leads from HTTPS to HTTP unless the registry was declared insecure.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Body, Method, Response, StatusCode, Url};
use tokio::sync::{Mutex, OnceCell, OwnedSemaphorePermit, Semaphore};

use crate::answer::{LONGEST_WORDS, read_limited, transport_error, words};
use crate::auth::{Auth, Scopes};
use crate::config::{Config, Security};
use crate::credentials::CredentialStore;
use crate::error::{Error, Result, Subject};
use crate::patience::Patience;
use crate::tls::{self, Trust};

const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";
const MOST_REDIRECTS: usize = 8;
/// How long a host may think about a request that only finds out which protocol it speaks.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// One registry host, and what we learned about it.
#[derive(Debug)]
pub(crate) struct Host {
    /// As in image names and in the Docker configuration.
    name: String,
    security: Security,
    trust: Trust,
    user_agent: String,
    connect_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    credentials: CredentialStore,
    base: OnceCell<Url>,
    plain: OnceCell<reqwest::Client>,
    secure: OnceCell<reqwest::Client>,
    /// For redirects to other hosts: shared by all of a client's hosts.
    outside: Arc<OnceCell<reqwest::Client>>,
    auth: Mutex<Option<Auth>>,
    transfers: Arc<Semaphore>,
}

/// A request that can be sent any number of times.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) place: Place,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
    pub(crate) redirects: Redirects,
    /// How much longer than the idle timeout an answer may take.
    pub(crate) allowance: Duration,
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// Below the registry's root: `v2/…`
    Path(String),
    /// An address that the registry gave us.
    Url(Url),
}

/// A body that can be sent only once.
pub(crate) struct Load {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// Watches it.
    pub(crate) patience: Patience,
}

/// What happens to an answer that points elsewhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Redirects {
    Follow,
    Return,
}

impl Ask {
    pub(crate) fn new(method: Method, path: String) -> Self {
        let redirects =
            if matches!(method, Method::GET | Method::HEAD) { Redirects::Follow } else { Redirects::Return };
        let headers = HeaderMap::new();
        Self { method, place: Place::Path(path), headers, body: None, redirects, allowance: Duration::ZERO }
    }
}

impl Host {
    pub(crate) fn new(name: &str, config: &Config, outside: Arc<OnceCell<reqwest::Client>>) -> Self {
        let own = config.hosts.get(name);
        let security = own.map_or(Security::default(), |host| host.security);
        let mut trust = Trust { anyone: security == Security::Insecure, ..Trust::default() };
        trust.roots = own.map(|host| host.roots.clone()).unwrap_or_default();
        trust.add_directories(&config.certificates, name);
        Self {
            name: name.to_owned(),
            security,
            trust,
            user_agent: config.user_agent.clone(),
            connect_timeout: config.connect_timeout,
            idle_timeout: config.idle_timeout,
            credentials: config.credentials.clone(),
            base: OnceCell::new(),
            plain: OnceCell::new(),
            secure: OnceCell::new(),
            outside,
            auth: Mutex::new(None),
            transfers: Arc::new(Semaphore::new(config.transfers_per_host.max(1))),
        }
    }

    /// Waits until another blob may be transferred from or to this host, which it may until this is dropped.
    pub(crate) async fn transfer(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.transfers).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Sends and authenticates. Every answer but 401 is returned, whatever its status.
    pub(crate) async fn ask(&self, subject: &Subject, scopes: &Scopes, ask: &Ask) -> Result<Response> {
        self.ask_as(subject, scopes, ask, &self.auth).await
    }

    /// The same as somebody else.
    pub(crate) async fn ask_as(
        &self,
        subject: &Subject,
        scopes: &Scopes,
        ask: &Ask,
        auth: &Mutex<Option<Auth>>,
    ) -> Result<Response> {
        let base = self.base(subject).await?;
        let url = match &ask.place {
            Place::Path(path) => join(subject, base, path)?,
            Place::Url(url) => url.clone(),
        };
        let mut header = self.authorization(subject, base, scopes, auth).await?;
        for _ in 0..2 {
            let (response, at_home) = self.follow(subject, base, &url, ask, header.as_ref()).await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return Ok(response);
            }
            let mut guard = auth.lock().await;
            let state = guard.as_mut().expect("loaded by `authorization`");
            let next = if at_home {
                state.challenged(subject, self, base, scopes, response.headers(), header.as_ref()).await?
            } else {
                None
            };
            if next.is_none() {
                let known = state.is_known();
                drop(guard);
                let said = words(response).await;
                return Err(Error::Unauthorized { subject: subject.clone(), known, said });
            }
            header = next;
        }
        let known = auth.lock().await.as_ref().is_some_and(Auth::is_known);
        Err(Error::Unauthorized { subject: subject.clone(), known, said: String::new() })
    }

    /// Sends to an address that the registry gave us.
    pub(crate) async fn send_body(
        &self,
        subject: &Subject,
        scopes: &Scopes,
        method: Method,
        url: Url,
        load: Load,
    ) -> Result<Response> {
        let Load { headers, body, patience } = load;
        let base = self.base(subject).await?;
        self.check_target(subject, base, &url)?;
        let mut request = self.client_for(base, &url).await?.request(method, url.clone()).headers(headers);
        if same_origin(base, &url)
            && let Some(header) = self.authorization(subject, base, scopes, &self.auth).await?
        {
            request = request.header(AUTHORIZATION, header);
        }
        let answer = pin!(request.body(body).send());
        match select(answer, pin!(patience.exhausted(self.idle_timeout))).await {
            Either::Left((answer, _)) => answer.map_err(|error| transport_error(subject, error)),
            Either::Right((after, _)) => Err(Error::Timeout { subject: subject.clone(), after }),
        }
    }

    /// The address that a `Location` header names.
    pub(crate) fn location(subject: &Subject, response: &Response) -> Result<Url> {
        let header = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let url = header.and_then(|text| response.url().join(text).ok());
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        url.ok_or_else(|| Error::Protocol {
            subject: subject.clone(),
            problem: "the registry answered without a valid `Location`".to_owned(),
        })
    }

    async fn authorization(
        &self,
        subject: &Subject,
        base: &Url,
        scopes: &Scopes,
        auth: &Mutex<Option<Auth>>,
    ) -> Result<Option<HeaderValue>> {
        let mut guard = auth.lock().await;
        if guard.is_none() {
            *guard = Some(Auth::load(subject, &self.credentials, &self.name).await?);
        }
        let state = guard.as_mut().expect("it was just loaded");
        state.header(subject, self, base, scopes).await
    }

    /// The final answer, and whether the registry itself gave it.
    async fn follow(
        &self,
        subject: &Subject,
        base: &Url,
        start: &Url,
        ask: &Ask,
        header: Option<&HeaderValue>,
    ) -> Result<(Response, bool)> {
        let mut url = start.clone();
        for _ in 0..MOST_REDIRECTS {
            self.check_target(subject, base, &url)?;
            let at_home = same_origin(base, &url);
            let http = self.client_for(base, &url).await?;
            let mut request = http.request(ask.method.clone(), url.clone()).headers(ask.headers.clone());
            if let Some(header) = header.filter(|_| at_home) {
                request = request.header(AUTHORIZATION, header);
            }
            if let Some(body) = &ask.body {
                request = request.body(body.clone());
            }
            let after = self.idle_timeout + ask.allowance;
            let answer = tokio::time::timeout(after, request.send()).await;
            let answer = answer.map_err(|_| Error::Timeout { subject: subject.clone(), after })?;
            let response = answer.map_err(|error| transport_error(subject, error))?;
            let moved = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if !moved || ask.redirects == Redirects::Return {
                return Ok((response, at_home));
            }
            url = Self::location(subject, &response)?;
        }
        Err(Error::Protocol { subject: subject.clone(), problem: "the registry redirects in circles".to_owned() })
    }

    fn check_target(&self, subject: &Subject, base: &Url, url: &Url) -> Result<()> {
        if base.scheme() == "https" && url.scheme() != "https" && self.security == Security::Verified {
            let host = url.host_str().unwrap_or_default();
            let problem = format!("the registry points to `{host}` over an unprotected connection");
            return Err(Error::Protocol { subject: subject.clone(), problem });
        }
        Ok(())
    }

    /// The client for an address that the registry sent us to. What was decided about the registry's certificates says
    /// nothing about other hosts.
    pub(crate) async fn client_for(&self, base: &Url, url: &Url) -> Result<&reqwest::Client> {
        if url.host_str() == base.host_str() {
            return self.client(url).await;
        }
        self.outside.get_or_try_init(async || self.build(&Trust::default(), Proxy::Environment)).await
    }

    async fn client(&self, url: &Url) -> Result<&reqwest::Client> {
        let proxy = if self.is_local() { Proxy::Never } else { Proxy::Environment };
        if url.scheme() == "https" {
            self.secure.get_or_try_init(async || self.build(&self.trust, proxy)).await
        } else {
            // Certificates are not even read.
            let nobody = Trust { anyone: true, ..Trust::default() };
            self.plain.get_or_try_init(async || self.build(&nobody, proxy)).await
        }
    }

    fn build(&self, trust: &Trust, proxy: Proxy) -> Result<reqwest::Client> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::client_config(trust)?)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(&self.user_agent)
            .connect_timeout(self.connect_timeout)
            .retry(reqwest::retry::never())
            // Several connections carry more than several streams of one.
            .http1_only();
        if proxy == Proxy::Never {
            builder = builder.no_proxy();
        }
        builder.build().map_err(|error| Error::Setup(Box::new(error)))
    }

    fn authority(&self) -> &str {
        if self.name == DOCKER_HUB { DOCKER_HUB_HOST } else { &self.name }
    }

    fn is_local(&self) -> bool {
        let host = match self.name.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => &self.name,
        };
        host == "localhost"
            || host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
            || host == "[::1]"
    }

    /// The root of the registry's addresses, with the protocol it was found to speak.
    pub(crate) async fn base(&self, subject: &Subject) -> Result<&Url> {
        self.base.get_or_try_init(|| self.find_base(subject)).await
    }

    async fn find_base(&self, subject: &Subject) -> Result<Url> {
        let at = |scheme: &str| {
            Url::parse(&format!("{scheme}://{}/", self.authority())).map_err(|error| Error::Setup(Box::new(error)))
        };
        let (https, http) = (at("https")?, at("http")?);
        match self.security {
            Security::PlainHttp => return Ok(http),
            Security::Verified if !self.is_local() => return Ok(https),
            Security::Verified | Security::Insecure => {}
        }
        // A TLS server answers a request in plain text at once, with an error. An HTTP server may wait forever for the
        // end of what it takes for a request line. So on a port of its own plain text is tried first.
        let has_port = https.port().is_some();
        let first = if has_port { &http } else { &https };
        let probe = self.client(first).await?.get(join(subject, first, "v2/")?).timeout(PROBE_TIMEOUT);
        match (probe.send().await, has_port) {
            (Ok(response), true) if response.status() == StatusCode::BAD_REQUEST => {
                let body = read_limited(response, LONGEST_WORDS).await.unwrap_or_default();
                let wants_tls = body.windows(5).any(|window| window == b"HTTPS");
                Ok(if wants_tls { https } else { http })
            }
            (Ok(_), true) => Ok(http),
            (Ok(_), false) => Ok(https),
            (Err(error), true) if error.is_connect() => Err(transport_error(subject, error)),
            (Err(_), true) => Ok(https),
            (Err(error), false) => match transport_error(subject, error) {
                error @ (Error::Certificate { .. } | Error::Timeout { .. }) => Err(error),
                _ => Ok(http),
            },
        }
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Proxy {
    Environment,
    Never,
}

fn same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

fn join(subject: &Subject, base: &Url, path: &str) -> Result<Url> {
    base.join(path).map_err(|_| Error::Protocol {
        subject: subject.clone(),
        problem: format!("`{path}` cannot stand in an address"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_local_host_may_speak_plain_http_unasked() {
        for (name, local) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:80", true),
            ("[::1]:5000", true),
            ("[::1]", true),
            ("localhost.example.com", false),
            ("10.0.0.1", false),
            ("docker.io", false),
        ] {
            assert_eq!(Host::new(name, &Config::default(), Arc::default()).is_local(), local, "{name}");
        }
    }
}
