//! What becomes of a transfer when the other side falls silent and stays connected?

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use rbuild_image::{Descriptor, Reference};
use rbuild_registry::{Client, Config, Error, Pushed, Streamed};
use support::{FakeServer, Image, Reply, Request, pieces, quiet, read_blob};

const IDLE: Duration = Duration::from_millis(200);

fn hasty() -> Config {
    let mut config = Config { idle_timeout: IDLE, ..quiet() };
    config.retry.attempts = 2;
    config
}

fn name(server: &FakeServer) -> Reference {
    format!("{}/a/b:1", server.address).parse().unwrap()
}

fn blob() -> (Descriptor, Bytes) {
    Image::new(1).blobs[1].clone()
}

/// More than what fits between two processes: a receiver's buffer grows to 32 MiB on large machines.
fn large_blob() -> (Descriptor, Bytes) {
    let bytes = Bytes::from(vec![7; 80 << 20]);
    (Descriptor::of("application/octet-stream", &bytes), bytes)
}

fn accept(request: &Request) -> Reply {
    match request.method.as_str() {
        "HEAD" => Reply::new(404, ""),
        "POST" | "PATCH" => Reply::new(202, "").header("location", "/upload/1"),
        _ => Reply::new(201, ""),
    }
}

/// A registry that takes so many bytes of this request's body and says no more.
async fn silent_on(method: &'static str, after: usize) -> FakeServer {
    let interrupt =
        move |request: &Request| (request.method == method).then(|| (after, Some(Reply::default().silent())));
    FakeServer::impatient(accept, interrupt).await
}

#[tokio::test]
async fn a_registry_that_takes_a_blob_and_never_answers_is_given_up() {
    for (after, (descriptor, bytes)) in [(usize::MAX, blob()), (1000, large_blob())] {
        let server = silent_on("PUT", after).await;
        let start = Instant::now();
        let error = Client::new(hasty()).push_blob(&name(&server), &descriptor, pieces(&bytes)).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        assert_eq!(server.seen().iter().filter(|request| request.method == "POST").count(), 2, "it is tried again");
    }
}

#[tokio::test]
async fn a_blob_that_arrived_without_an_answer_is_not_sent_again() {
    let put = Arc::new(AtomicBool::new(false));
    let arrived = Arc::clone(&put);
    let respond = move |request: &Request| match request.method.as_str() {
        "HEAD" if put.load(Ordering::Relaxed) => Reply::new(200, ""),
        _ => accept(request),
    };
    let interrupt = move |request: &Request| {
        let is_put = request.method == "PUT";
        arrived.fetch_or(is_put, Ordering::Relaxed);
        is_put.then(|| (usize::MAX, Some(Reply::default().silent())))
    };
    let server = FakeServer::impatient(respond, interrupt).await;
    let (descriptor, bytes) = blob();
    let pushed = Client::new(hasty()).push_blob(&name(&server), &descriptor, pieces(&bytes)).await;
    assert_eq!(pushed.unwrap(), Pushed::Sent);
    assert_eq!(server.seen().iter().filter(|request| request.method == "POST").count(), 1);
}

#[tokio::test]
async fn a_registry_that_falls_silent_over_a_growing_blob_is_given_up() {
    for (method, after) in [("PATCH", usize::MAX), ("PATCH", 1000), ("PUT", usize::MAX)] {
        let (descriptor, bytes) = if after == 1000 { large_blob() } else { blob() };
        let server = silent_on(method, after).await;
        let result = Client::new(hasty())
            .push_growing(&name(&server), pieces(&bytes)(), ready(Some(descriptor)), pending())
            .await;
        assert!(matches!(result, Ok(Streamed::Broken(Error::Timeout { .. }))), "{method}: {result:?}");
    }
}

#[tokio::test]
async fn our_own_slowness_is_not_counted() {
    // Long enough for a busy machine, on which the registry's turns take their time.
    const IDLE: Duration = Duration::from_secs(2);
    let server = FakeServer::start(accept).await;
    let (descriptor, bytes) = blob();
    let slow = || {
        let (first, rest) = (bytes.slice(..1000), bytes.slice(1000..));
        let later = async move {
            tokio::time::sleep(IDLE + Duration::from_secs(1)).await;
            Ok(rest)
        };
        stream::once(ready(Ok(first))).chain(stream::once(later)).boxed()
    };
    let client = Client::new(Config { idle_timeout: IDLE, ..hasty() });
    assert_eq!(client.push_blob(&name(&server), &descriptor, slow).await.unwrap(), Pushed::Sent);
    let grown = client.push_growing(&name(&server), slow(), ready(Some(descriptor)), pending()).await;
    assert!(matches!(grown, Ok(Streamed::Sent)), "{grown:?}");
}

#[tokio::test]
async fn a_body_that_stalls_is_taken_up_again_and_then_given_up() {
    let (descriptor, bytes) = blob();
    let served = bytes.clone();
    let server = FakeServer::start(move |request| match request.header("range") {
        None => Reply::new(200, served.clone()).cut(100_000).silent(),
        Some(_) => {
            let range = format!("bytes 100000-{}/{}", served.len() - 1, served.len());
            Reply::new(206, served.slice(100_000..)).header("content-range", range)
        }
    })
    .await;
    let client = Client::new(hasty());
    assert_eq!(read_blob(&client, &name(&server).to_string(), &descriptor, 0).await.unwrap(), bytes[..]);

    let served = bytes.clone();
    let server = FakeServer::start(move |_| Reply::new(200, served.clone()).cut(10).silent()).await;
    let error = read_blob(&Client::new(hasty()), &name(&server).to_string(), &descriptor, 0).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn a_token_service_that_stalls_is_given_up() {
    // Before its answer, and in the middle of it.
    for answer in [Reply::default().silent(), Reply::new(200, r#"{"token":"t"}"#).cut(5).silent()] {
        let server = FakeServer::start(move |request| {
            if request.path.starts_with("/token") {
                return answer.clone();
            }
            let host = request.header("host").unwrap();
            Reply::new(401, "").header("www-authenticate", format!(r#"Bearer realm="http://{host}/token",service="s""#))
        })
        .await;
        let error = Client::new(hasty()).head(&name(&server)).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn manifests_that_stall_are_given_up() {
    let manifest = |request: &Request| match request.method.as_str() {
        "HEAD" => Reply::new(500, ""),
        _ => Reply::new(200, "{}  ").cut(2).silent(),
    };
    let server = FakeServer::start(manifest).await;
    let error = Client::new(hasty()).head(&name(&server)).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
}
