//! What becomes of a blob that is sent while it comes into being?

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use rbuild_image::{Descriptor, Reference};
use rbuild_registry::{Client, Error, Pushed, Result, Streamed};
use support::{FakeServer, Image, RealRegistry, Reply, Request, pieces, quiet, read_blob};

fn name(server: &FakeServer) -> Reference {
    format!("{}/a/b:1", server.address).parse().unwrap()
}

fn blob() -> (Descriptor, Bytes) {
    Image::new(1).blobs[1].clone()
}

/// Sends all of it, as if it were just being made.
async fn push(client: &Client, name: &Reference) -> Result<Streamed> {
    let (descriptor, bytes) = blob();
    client.push_growing(name, pieces(&bytes)(), ready(Some(descriptor)), pending()).await
}

/// The answers of a registry that takes everything.
fn accept(request: &Request) -> Reply {
    match request.method.as_str() {
        "HEAD" => Reply::new(404, ""),
        "POST" => Reply::new(202, "").header("location", "/upload/1?state=x%2F"),
        "PATCH" => {
            let host = request.header("host").unwrap();
            Reply::new(202, "").header("location", format!("http://{host}/upload/2?state=y"))
        }
        _ => Reply::new(201, ""),
    }
}

#[tokio::test]
async fn chunks_go_to_where_the_registry_says_and_the_digest_ends_them() {
    let server = FakeServer::start(accept).await;
    let (descriptor, bytes) = blob();
    assert!(matches!(push(&Client::new(quiet()), &name(&server)).await.unwrap(), Streamed::Sent));
    let digest = descriptor.digest.to_string().replace(':', "%3A");
    assert_eq!(
        server.lines(),
        [
            "POST /v2/a/b/blobs/uploads/".to_owned(),
            "PATCH /upload/1?state=x%2F".to_owned(),
            format!("PUT /upload/2?state=y&digest={digest}"),
        ]
    );
    let patch = &server.seen()[1];
    assert_eq!((patch.header("transfer-encoding"), patch.header("content-length")), (Some("chunked"), None));
    assert_eq!(patch.body, bytes);
    assert!(server.seen()[2].body.is_empty());
}

#[tokio::test]
async fn what_breaks_in_the_middle_can_be_sent_whole() {
    // After so many bytes, this answer, or none; what is said of it; whether it may be tried again.
    type Row = (usize, Option<u16>, fn(&Error) -> bool, bool);
    let rows: [Row; 8] = [
        (100_000, None, |error| matches!(error, Error::Transfer { .. }), true),
        (0, None, |error| matches!(error, Error::Transfer { .. }), true),
        (100_000, Some(500), |error| matches!(error, Error::Status { .. } | Error::Transfer { .. }), true),
        (100_000, Some(413), |error| matches!(error, Error::Status { .. } | Error::Transfer { .. }), true),
        // Registries that take no chunks.
        (usize::MAX, Some(405), |error| matches!(error, Error::Status { status: 405, .. }), true),
        (usize::MAX, Some(411), |error| matches!(error, Error::Status { status: 411, .. }), true),
        (usize::MAX, Some(404), |error| matches!(error, Error::NotFound { .. }), true),
        (usize::MAX, Some(403), |error| matches!(error, Error::Denied { .. }), false),
    ];
    for (after, status, expected, again) in rows {
        let interrupted = move |request: &Request| {
            (request.method == "PATCH").then(|| (after, status.map(|status| Reply::new(status, ""))))
        };
        let server = FakeServer::impatient(accept, interrupted).await;
        let client = Client::new(quiet());
        let error = match push(&client, &name(&server)).await {
            Ok(Streamed::Broken(error)) if again => error,
            Err(error) if !again => error,
            other => panic!("{after} {status:?}: {other:?}"),
        };
        assert!(expected(&error), "{after} {status:?}: {error:?}");
        let (descriptor, bytes) = blob();
        assert_eq!(client.push_blob(&name(&server), &descriptor, pieces(&bytes)).await.unwrap(), Pushed::Sent);
        assert_eq!(server.seen().last().unwrap().body, bytes);
    }
}

#[tokio::test]
async fn answers_that_lead_nowhere_are_failures() {
    type Row = (&'static str, u16, fn(&Result<Streamed>) -> bool);
    let rows: [Row; 6] = [
        ("POST", 503, |result| matches!(result, Ok(Streamed::Broken(Error::Status { .. })))),
        ("POST", 404, |result| matches!(result, Err(Error::NotFound { .. }))),
        ("POST", 401, |result| matches!(result, Err(Error::Unauthorized { .. }))),
        ("POST", 202, |result| matches!(result, Err(Error::Protocol { .. }))),
        ("PATCH", 202, |result| matches!(result, Ok(Streamed::Broken(Error::Protocol { .. })))),
        ("PUT", 400, |result| matches!(result, Ok(Streamed::Broken(Error::Status { status: 400, .. })))),
    ];
    for (method, status, expected) in rows {
        // Without `Location`.
        let answer = move |request: &Request| match request.method == method {
            true => Reply::new(status, ""),
            false => accept(request),
        };
        let server = FakeServer::start(answer).await;
        let result = push(&Client::new(quiet()), &name(&server)).await;
        assert!(expected(&result), "{method} {status}: {result:?}");
    }
}

#[tokio::test]
async fn a_blob_that_does_not_become_complete_is_not_finished() {
    let (descriptor, bytes) = blob();
    let broken = [Ok(bytes.slice(..50_000)), Err(std::io::Error::other("disk on fire"))];
    for (body, whole) in [(stream::iter(broken).boxed(), Some(descriptor)), (pieces(&bytes)(), None)] {
        let server = FakeServer::start(accept).await;
        let result = Client::new(quiet()).push_growing(&name(&server), body, ready(whole), pending()).await;
        assert!(matches!(result, Ok(Streamed::Broken(Error::Body { .. }))), "{result:?}");
        assert!(server.seen().iter().all(|request| request.method != "PUT"));
    }
}

#[tokio::test]
async fn what_turns_out_to_be_unneeded_is_taken_back() {
    let server = FakeServer::start(accept).await;
    let (_, bytes) = blob();
    // More will come, some day.
    let body = pieces(&bytes)().chain(stream::pending());
    let unneeded = async {
        while server.lines().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let result = Client::new(quiet()).push_growing(&name(&server), body, pending(), unneeded).await;
    assert!(matches!(result, Ok(Streamed::Unneeded)), "{result:?}");
    assert!(server.lines().contains(&"DELETE /upload/1?state=x%2F".to_owned()), "{:?}", server.lines());
}

/// A registry whose tokens are good until the request that `expires` names comes: that one and what follows wants the
/// next token.
async fn expiring(expires: &'static str) -> FakeServer {
    let (tokens, good) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(1)));
    FakeServer::start(move |request| {
        let host = request.header("host").unwrap();
        if request.path.starts_with("/token") {
            let number = tokens.fetch_add(1, Ordering::Relaxed) + 1;
            return Reply::new(200, format!(r#"{{"token":"t{number}","expires_in":300}}"#));
        }
        if request.method == expires {
            good.store(2, Ordering::Relaxed);
        }
        if request.header("authorization") == Some(&format!("Bearer t{}", good.load(Ordering::Relaxed))) {
            return accept(request);
        }
        Reply::new(401, "").header("www-authenticate", format!(r#"Bearer realm="http://{host}/token",service="s""#))
    })
    .await
}

#[tokio::test]
async fn a_token_may_expire_between_any_two_requests() {
    let (descriptor, bytes) = blob();
    for (expires, streams) in [("PATCH", false), ("PUT", true)] {
        let server = expiring(expires).await;
        let client = Client::new(quiet());
        let result = push(&client, &name(&server)).await.unwrap();
        match result {
            Streamed::Sent => assert!(streams),
            Streamed::Broken(Error::Unauthorized { .. }) => assert!(!streams),
            other => panic!("{expires}: {other:?}"),
        }
        client.push_blob(&name(&server), &descriptor, pieces(&bytes)).await.unwrap();
    }
    let server = expiring("PUT").await;
    let sent = Client::new(quiet()).push_blob(&name(&server), &descriptor, pieces(&bytes)).await;
    assert_eq!(sent.unwrap(), Pushed::Sent);
    assert_eq!(server.seen().last().unwrap().body, bytes);
}

#[tokio::test]
async fn the_real_registry_takes_a_blob_that_grows() {
    let Some(registry) = RealRegistry::plain() else { return };
    let client = Client::new(quiet());
    let name = format!("{}/team/app", registry.address);
    let (descriptor, bytes) = blob();
    assert!(matches!(push(&client, &name.parse().unwrap()).await.unwrap(), Streamed::Sent));
    assert_eq!(read_blob(&client, &name, &descriptor, 0).await.unwrap(), bytes[..]);
    // Two at once do not disturb each other, and neither does one that is given up.
    let other: Reference = format!("{}/other", registry.address).parse().unwrap();
    let given_up = client.push_growing(&other, pieces(&bytes)().chain(stream::pending()), pending(), ready(()));
    let all = futures_util::future::join3(push(&client, &other), push(&client, &other), given_up).await;
    assert!(matches!(all, (Ok(Streamed::Sent), Ok(Streamed::Sent), Ok(Streamed::Unneeded))), "{all:?}");
    assert_eq!(read_blob(&client, &other.to_string(), &descriptor, 0).await.unwrap(), bytes[..]);
    // Other bytes than announced are refused.
    let wrong = Descriptor { digest: rbuild_image::sha256(b"other"), ..descriptor };
    let result = client.push_growing(&other, pieces(&bytes)(), ready(Some(wrong)), pending()).await;
    assert!(matches!(result, Ok(Streamed::Broken(Error::Status { status: 400, .. }))), "{result:?}");
}
