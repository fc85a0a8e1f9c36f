//! How is a web server reached that is no registry?
//!
//! With the same certificates and through the same proxies as a registry, and without its login: whoever asks brings
//! the headers. Redirects are followed, never from HTTPS to HTTP, and an `Authorization` header stays with its host; nor
//! is the target told who redirected, since the query of that address may be a token.

use std::net::IpAddr;

use reqwest::Url;
use reqwest::redirect::{Attempt, Policy};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::tls::{self, Trust};

const MOST_REDIRECTS: usize = 10;

/// Two HTTP clients: this machine is never asked through a proxy.
#[derive(Clone, Debug)]
pub struct Web {
    config: Config,
    outside: reqwest::Client,
    local: reqwest::Client,
}

impl Web {
    /// Reads the system's certificates; connects to nothing.
    ///
    /// # Errors
    /// If the clients cannot be set up.
    pub fn new(config: Config) -> Result<Self> {
        let client = |proxy: bool| {
            let builder = reqwest::Client::builder()
                .tls_backend_preconfigured(tls::client_config(&Trust::default())?)
                .redirect(Policy::custom(redirect))
                .referer(false)
                .user_agent(&config.user_agent)
                .connect_timeout(config.connect_timeout)
                .retry(reqwest::retry::never())
                .http1_only();
            let builder = if proxy { builder } else { builder.no_proxy() };
            builder.build().map_err(|error| Error::Setup(Box::new(error)))
        };
        Ok(Self { outside: client(true)?, local: client(false)?, config })
    }

    /// The client for an address.
    pub fn client(&self, url: &Url) -> &reqwest::Client {
        if is_local(url) { &self.local } else { &self.outside }
    }

    /// How patient to be, and how often to try.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let previous = attempt.previous();
    if previous.len() > MOST_REDIRECTS {
        return attempt.error("the server redirects in circles");
    }
    let was_protected = previous.last().is_some_and(|url| url.scheme() == "https");
    if was_protected && attempt.url().scheme() != "https" {
        return attempt.error("the server redirects to an unprotected connection");
    }
    attempt.follow()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_asked_without_a_proxy() {
        for (url, local) in [
            ("http://localhost:8080/a", true),
            ("http://127.0.0.1/a", true),
            ("http://[::1]:1/", true),
            ("https://localhost.example.com/", false),
            ("https://10.0.0.1/", false),
        ] {
            assert_eq!(is_local(&url.parse().unwrap()), local, "{url}");
        }
    }
}
