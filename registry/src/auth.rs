//! Which `Authorization` does a request carry?
//!
//! Nothing until the registry asks (401). Then user name and password, or a token: asked for at the token service
//! with all scopes that are needed at once, kept until shortly before it expires, and thrown away when the registry
//! refuses it. An identity token is exchanged with OAuth 2 (POST); a password, or nobody's, with Docker's GET.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use crate::answer::{read_limited, server_words, transport_error};
use crate::challenge::{self, Challenge};
use crate::credentials::{Credential, CredentialStore};
use crate::error::{Error, Result, Subject};
use crate::host::Host;

/// How long a token lasts if its service does not say, by the specification.
const SHORTEST_LIFE: u64 = 60;
const LONGEST_ANSWER: usize = 1 << 20;

/// What a token must allow: resource (`repository:a/b`) → actions.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Scopes(BTreeMap<String, BTreeSet<String>>);

impl Scopes {
    /// Reading a repository.
    pub(crate) fn pull(repository: &str) -> Self {
        Self::default().with(&format!("repository:{repository}:pull"))
    }

    /// Reading and writing a repository.
    pub(crate) fn push(repository: &str) -> Self {
        Self::default().with(&format!("repository:{repository}:pull,push"))
    }

    /// These and those of a space-separated text.
    pub(crate) fn with(mut self, text: &str) -> Self {
        for scope in text.split_whitespace() {
            if let Some((resource, actions)) = scope.rsplit_once(':') {
                let entry = self.0.entry(resource.to_owned()).or_default();
                entry.extend(actions.split(',').filter(|action| !action.is_empty()).map(str::to_owned));
            }
        }
        self
    }

    fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|(resource, actions)| self.0.get(resource).is_some_and(|ours| ours.is_superset(actions)))
    }

    fn to_list(&self) -> Vec<String> {
        let join = |actions: &BTreeSet<String>| actions.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        self.0.iter().map(|(resource, actions)| format!("{resource}:{}", join(actions))).collect()
    }
}

/// What one registry host has taught us about authentication.
#[derive(Debug)]
pub(crate) struct Auth {
    credential: Option<Credential>,
    challenge: Option<Challenge>,
    tokens: Vec<Token>,
}

#[derive(Debug)]
struct Token {
    scopes: Scopes,
    header: HeaderValue,
    until: Instant,
}

impl Auth {
    /// Nothing learned yet; the credential is looked up at once.
    pub(crate) async fn load(subject: &Subject, store: &CredentialStore, registry: &str) -> Result<Self> {
        let found = store.find(registry).await;
        let credential = found.map_err(|source| Error::Credentials { subject: subject.clone(), source })?;
        Ok(Self::new(credential))
    }

    /// With this credential, wherever it comes from.
    pub(crate) fn new(credential: Option<Credential>) -> Self {
        Self { credential, challenge: None, tokens: Vec::new() }
    }

    /// Whether a refused request was refused although we said who we are.
    pub(crate) fn is_known(&self) -> bool {
        self.credential.is_some()
    }

    /// The header to send without having been asked, as far as we know what will be asked for.
    pub(crate) async fn header(
        &mut self,
        subject: &Subject,
        host: &Host,
        base: &Url,
        scopes: &Scopes,
    ) -> Result<Option<HeaderValue>> {
        if let Some(Credential::Registry(token)) = &self.credential {
            return Ok(secret(&format!("Bearer {token}")));
        }
        match &self.challenge {
            None => Ok(None),
            Some(Challenge::Basic) => Ok(self.basic()),
            Some(Challenge::Bearer { .. }) => {
                let now = Instant::now();
                self.tokens.retain(|token| token.until > now);
                match self.tokens.iter().find(|token| token.scopes.covers(scopes)) {
                    Some(token) => Ok(Some(token.header.clone())),
                    None => self.fetch(subject, host, base, scopes.clone()).await.map(Some),
                }
            }
        }
    }

    /// The header to try after a 401 with these headers; `None` if there is nothing better than `refused`.
    pub(crate) async fn challenged(
        &mut self,
        subject: &Subject,
        host: &Host,
        base: &Url,
        scopes: &Scopes,
        answer: &HeaderMap,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>> {
        let headers = answer.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let Some(challenge) = challenge::best(headers) else { return Ok(None) };
        if let Some(refused) = refused {
            self.tokens.retain(|token| token.header != refused);
        }
        let scopes = match &challenge {
            Challenge::Bearer { scope, .. } => scopes.clone().with(scope),
            Challenge::Basic => scopes.clone(),
        };
        self.challenge = Some(challenge);
        let header = self.header(subject, host, base, &scopes).await?;
        Ok(header.filter(|header| Some(header) != refused))
    }

    fn basic(&self) -> Option<HeaderValue> {
        match &self.credential {
            Some(Credential::Password { username, password }) => {
                secret(&format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
            }
            _ => None,
        }
    }

    async fn fetch(&mut self, subject: &Subject, host: &Host, base: &Url, scopes: Scopes) -> Result<HeaderValue> {
        let Some(Challenge::Bearer { realm, service, .. }) = &self.challenge else {
            unreachable!("only called for a token challenge")
        };
        let failed = |problem: String| Error::Token { subject: subject.clone(), realm: realm.clone(), problem };
        let url = Url::parse(realm).ok().filter(|url| url.has_host() && matches!(url.scheme(), "https" | "http"));
        let url = url.ok_or_else(|| failed("has an invalid address".to_owned()))?;
        if base.scheme() == "https" && url.scheme() != "https" {
            return Err(failed("would see the password over an unprotected connection".to_owned()));
        }
        let asked = Instant::now();
        // Not the registry's own client: that one may accept certificates that nobody vouches for.
        let http = host.client_for(base, &url).await?;
        let request = match &self.credential {
            Some(Credential::Identity(token)) => http
                .post(url)
                .body(form(service, &scopes, token))
                .header(reqwest::header::CONTENT_TYPE, "application/x-www-form-urlencoded"),
            _ => {
                let basic = self.basic();
                let request = http.get(with_query(url, service, &scopes, self.credential.as_ref()));
                match basic {
                    Some(basic) => request.header(AUTHORIZATION, basic),
                    None => request,
                }
            }
        };
        let after = host.idle_timeout;
        let broken = |error: reqwest::Error| match error.is_timeout() && !error.is_connect() {
            true => Error::Timeout { subject: subject.clone(), after },
            false => transport_error(subject, error),
        };
        let response = request.timeout(after).send().await.map_err(broken)?;
        let status = response.status();
        // One that is too long is one that cannot be understood.
        let body = match read_limited(response, LONGEST_ANSWER).await {
            Err(Some(error)) => return Err(broken(error)),
            other => other.unwrap_or_default(),
        };
        match status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
                let said = server_words(&body);
                return Err(Error::Unauthorized { subject: subject.clone(), known: self.is_known(), said });
            }
            StatusCode::TOO_MANY_REQUESTS => {
                return Err(Error::RateLimit { subject: subject.clone(), after: None, said: server_words(&body) });
            }
            other if other.is_server_error() => {
                let (subject, status) = (subject.clone(), other.as_u16());
                return Err(Error::Status { subject, status, after: None, said: server_words(&body) });
            }
            other => return Err(failed(format!("answered {}", other.as_u16()))),
        }
        let answer: Answer = serde_json::from_slice(&body).map_err(|_| failed("gave a malformed answer".to_owned()))?;
        let text = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
        let header = text.and_then(|token| secret(&format!("Bearer {token}")));
        let header = header.ok_or_else(|| failed("gave no token".to_owned()))?;
        // A little early, so that a token does not expire on its way.
        let life = answer.expires_in.unwrap_or(0).clamp(SHORTEST_LIFE, 86_400) * 9 / 10;
        self.tokens.push(Token { scopes, header: header.clone(), until: asked + Duration::from_secs(life) });
        Ok(header)
    }
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

fn with_query(mut url: Url, service: &str, scopes: &Scopes, credential: Option<&Credential>) -> Url {
    {
        let mut query = url.query_pairs_mut();
        if !service.is_empty() {
            query.append_pair("service", service);
        }
        for scope in scopes.to_list() {
            query.append_pair("scope", &scope);
        }
        if let Some(Credential::Password { username, .. }) = credential {
            query.append_pair("account", username);
        }
    }
    url
}

fn form(service: &str, scopes: &Scopes, token: &str) -> String {
    // A query is written like a form.
    let mut url = Url::parse("form:").expect("a constant address");
    url.query_pairs_mut()
        .append_pair("grant_type", "refresh_token")
        .append_pair("service", service)
        .append_pair("client_id", "rbuild")
        .append_pair("scope", &scopes.to_list().join(" "))
        .append_pair("refresh_token", token);
    url.query().unwrap_or_default().to_owned()
}

/// A header value that is never printed; `None` if the text cannot be one.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_merged_and_compared() {
        let both = Scopes::push("a/b").with("repository:c:pull registry:catalog:* junk");
        assert_eq!(both.to_list(), ["registry:catalog:*", "repository:a/b:pull,push", "repository:c:pull"]);
        assert!(both.covers(&Scopes::pull("a/b")) && both.covers(&Scopes::default()));
        assert!(!Scopes::pull("a/b").covers(&Scopes::push("a/b")) && !both.covers(&Scopes::push("c")));
    }

    #[test]
    fn questions_to_the_token_service_are_encoded() {
        let url = Url::parse("https://a.b/token?x=1").unwrap();
        let user = Credential::Password { username: "u&v".into(), password: "p".into() };
        let url = with_query(url, "reg istry", &Scopes::pull("a/b"), Some(&user));
        assert_eq!(
            url.as_str(),
            "https://a.b/token?x=1&service=reg+istry&scope=repository%3Aa%2Fb%3Apull&account=u%26v"
        );
        assert_eq!(
            form("s", &Scopes::pull("a"), "t&u"),
            "grant_type=refresh_token&service=s&client_id=rbuild&scope=repository%3Aa%3Apull&refresh_token=t%26u"
        );
    }
}
