//! How are images read from and written to a registry?
//!
//! A client of the OCI distribution API. It streams and never stores; it verifies manifests, and leaves the digest of
//! a blob to whoever stores it.
//!
//! ```text
//! Client ─► pull, push          what to ask for, in which order; mirrors before the origin for reading
//!           └► retry            transient failures, Retry-After
//!              └► host          one registry host: http or https, redirects, which bytes may see credentials
//!                 ├► auth       challenges and tokens
//!                 │  └► credentials   ~/.docker/config.json and its helpers
//!                 └► tls        certificates
//! ```
//!
//! [`Web`] is for everything else that is at a URL: `ADD https://…`, contexts.
//!
//! Credentials go to the host they were configured for and to the token service it names, never to where it redirects.

mod answer;
mod auth;
mod challenge;
mod client;
mod config;
mod credentials;
mod error;
mod growing;
mod host;
mod patience;
mod pull;
mod push;
mod retry;
mod tls;
mod web;

pub use client::Client;
pub use config::{Config, HostConfig, Mirror, Retry, Security};
pub use credentials::{Credential, CredentialError, CredentialStore};
pub use error::{Error, Result, Subject};
pub use growing::Streamed;
pub use push::Pushed;
pub use web::Web;
