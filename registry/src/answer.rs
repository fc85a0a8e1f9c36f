//! What does an answer mean, and what does none?

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode, Url};

use crate::error::{Error, Result, Subject, causes};

/// How much is read of what a host says about an error, and for how long it may say it.
pub(crate) const LONGEST_WORDS: usize = 64 << 10;
const LONGEST_SPEECH: Duration = Duration::from_secs(10);

/// What it means that a request got no answer. Addresses are dropped: redirects carry signatures.
pub(crate) fn transport_error(subject: &Subject, error: reqwest::Error) -> Error {
    let subject = subject.clone();
    let host = error.url().and_then(Url::host_str).unwrap_or_default().to_owned();
    let tls = causes(&error).find_map(|cause| cause.downcast_ref::<rustls::Error>());
    let kind = tls.map(|tls| match tls {
        rustls::Error::InvalidCertificate(_) => "certificate",
        rustls::Error::InvalidMessage(_) => "plain",
        _ => "other",
    });
    let connect = error.is_connect();
    let source = error.without_url();
    match kind {
        Some("certificate") => Error::Certificate { subject, source },
        Some("plain") => Error::PlainHttp { subject, source },
        _ if connect => Error::Connect { subject, host, source },
        _ => Error::Transfer { subject, source },
    }
}

/// The response, if its status is a success; else what its status means.
pub(crate) async fn check(subject: &Subject, response: Response) -> Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let subject = subject.clone();
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let after = seconds.map(Duration::from_secs);
    let said = words(response).await;
    Err(match status {
        StatusCode::UNAUTHORIZED => Error::Unauthorized { subject, known: true, said },
        StatusCode::FORBIDDEN => Error::Denied { subject, said },
        StatusCode::NOT_FOUND => Error::NotFound { subject, said },
        StatusCode::TOO_MANY_REQUESTS => Error::RateLimit { subject, after, said },
        _ => Error::Status { subject, status: status.as_u16(), after, said },
    })
}

pub(crate) async fn words(response: Response) -> String {
    let body = tokio::time::timeout(LONGEST_SPEECH, read_limited(response, LONGEST_WORDS)).await;
    server_words(&body.ok().and_then(Result::ok).unwrap_or_default())
}

/// At most `limit` bytes of a body; a longer one is an error of its own.
pub(crate) async fn read_limited(mut response: Response, limit: usize) -> Result<Bytes, Option<reqwest::Error>> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(Some)? {
        if body.len() + chunk.len() > limit {
            return Err(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The first message in an error document of the distribution API or of a token service, made safe to print.
pub(crate) fn server_words(body: &[u8]) -> String {
    const LONGEST: usize = 300;
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) else { return String::new() };
    let first = &value["errors"][0];
    let candidates = [&first["message"], &first["code"], &value["details"], &value["message"], &value["error"]];
    let text = candidates.iter().find_map(|value| value.as_str().filter(|text| !text.is_empty())).unwrap_or_default();
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_words_are_found_and_made_harmless() {
        for (body, expected) in [
            (r#"{"errors":[{"code":"DENIED","message":"not \u001b[31myours"}]}"#, "not  [31myours"),
            (r#"{"errors":[{"code":"DENIED"}]}"#, "DENIED"),
            (r#"{"details":"incorrect username or password"}"#, "incorrect username or password"),
            ("<html>", ""),
            ("[]", ""),
        ] {
            assert_eq!(server_words(body.as_bytes()), expected);
        }
    }
}
