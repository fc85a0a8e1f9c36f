//! What no real registry does on demand: token services, broken connections, limits, redirects, lies.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use rbuild_image::{ManifestError, Reference, media};
use rbuild_registry::{Client, Config, Error, HostConfig, Mirror, Pushed};
use support::{FakeServer, Image, Reply, Request, credentials, pieces, quiet, read_blob};

fn name(server: &FakeServer, rest: &str) -> Reference {
    format!("{}/{rest}", server.address).parse().unwrap()
}

fn manifest_reply(image: &Image) -> Reply {
    Reply::new(200, image.manifest.clone())
        .header("content-type", media::OCI_MANIFEST)
        .header("docker-content-digest", image.descriptor.digest.to_string())
}

/// The blob, or the part of it that the request asks for.
fn blob_reply(request: &Request, bytes: &Bytes) -> Reply {
    let range: Option<usize> =
        request.header("range").and_then(|text| text.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    match range {
        None => Reply::new(200, bytes.clone()),
        Some(start) => {
            let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
            Reply::new(206, bytes.slice(start..)).header("content-range", range)
        }
    }
}

#[tokio::test]
async fn a_token_is_fetched_once_and_sent_to_the_registry_alone() {
    let image = Arc::new(Image::new(1));
    let blob = image.blobs[1].1.clone();
    let storage = FakeServer::start(move |request| blob_reply(request, &blob)).await;
    let elsewhere = format!("http://{}/signed?secret=1", storage.address);
    let served = image.clone();
    let server = FakeServer::start(move |request| {
        let host = request.header("host").unwrap();
        if request.path.starts_with("/token") {
            return Reply::new(200, r#"{"token":"t0ken","expires_in":300}"#);
        }
        if request.header("authorization") != Some("Bearer t0ken") {
            let challenge = format!(r#"Bearer realm="http://{host}/token",service="srv",scope="repository:a/b:pull""#);
            return Reply::new(401, "{}").header("www-authenticate", challenge);
        }
        if request.path.contains("/manifests/") {
            return manifest_reply(&served);
        }
        Reply::new(307, "").header("location", elsewhere.clone())
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let entry = r#"{"auth":"YWxpY2U6cHc="}"#;
    let config = Config { credentials: credentials(directory.path(), &server.address, entry), ..quiet() };
    let client = Client::new(config);
    let reference = name(&server, "a/b:1");
    let resolved = client.resolve(&reference, &"linux/amd64".parse().unwrap()).await.unwrap();
    assert_eq!(client.manifest(&reference, &resolved).await.unwrap(), image.manifest);
    let (descriptor, bytes) = &image.blobs[1];
    assert_eq!(read_blob(&client, &reference.to_string(), descriptor, 5).await.unwrap(), bytes[5..]);

    let digest = image.descriptor.digest;
    assert_eq!(
        server.lines(),
        [
            "HEAD /v2/a/b/manifests/1".to_owned(),
            "GET /token?service=srv&scope=repository%3Aa%2Fb%3Apull&account=alice".to_owned(),
            "HEAD /v2/a/b/manifests/1".to_owned(),
            format!("GET /v2/a/b/manifests/{digest}"),
            format!("GET /v2/a/b/blobs/{}", descriptor.digest),
        ]
    );
    assert_eq!(server.seen()[1].header("authorization"), Some("Basic YWxpY2U6cHc="));
    let redirected = storage.seen();
    assert_eq!(redirected.len(), 1);
    assert_eq!((redirected[0].header("authorization"), redirected[0].header("range")), (None, Some("bytes=5-")));
}

#[tokio::test]
async fn an_identity_token_is_exchanged_and_a_refused_token_is_renewed_once() {
    let count = Arc::new(AtomicUsize::new(0));
    let image = Arc::new(Image::new(2));
    let (served, counter) = (image.clone(), count.clone());
    let server = FakeServer::start(move |request| {
        let host = request.header("host").unwrap();
        if request.path == "/token" {
            let number = counter.fetch_add(1, Ordering::Relaxed) + 1;
            return Reply::new(200, format!(r#"{{"access_token":"t{number}"}}"#));
        }
        // Only the second token is good.
        match request.header("authorization") {
            Some("Bearer t2") => manifest_reply(&served),
            Some("Bearer t3") => Reply::new(401, ""),
            _ => Reply::new(401, "")
                .header("www-authenticate", format!(r#"Bearer realm="http://{host}/token",service="s""#)),
        }
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let store = credentials(directory.path(), &server.address, r#"{"identitytoken":"ref&resh"}"#);
    let client = Client::new(Config { credentials: store, ..quiet() });
    // The first token is refused at its first use: that is the end of this request, but not of the next.
    let error = client.head(&name(&server, "a:1")).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { known: true, .. }), "{error}");
    assert_eq!(client.head(&name(&server, "a:1")).await.unwrap().digest, image.descriptor.digest);
    assert_eq!(count.load(Ordering::Relaxed), 2);
    let question = &server.seen()[1];
    assert_eq!((question.method.as_str(), question.header("authorization")), ("POST", None));
    assert_eq!(
        String::from_utf8_lossy(&question.body),
        "grant_type=refresh_token&service=s&client_id=rbuild&scope=repository%3Aa%3Apull&refresh_token=ref%26resh"
    );
}

#[tokio::test]
async fn a_token_service_without_protection_never_sees_the_password() {
    let server = FakeServer::start(|_| {
        Reply::new(401, "").header("www-authenticate", r#"Bearer realm="ftp://127.0.0.1/token",service="s""#)
    })
    .await;
    let error = Client::new(quiet()).head(&name(&server, "a:1")).await.unwrap_err();
    assert!(matches!(error, Error::Token { .. }), "{error}");
}

#[tokio::test]
async fn a_broken_transfer_goes_on_where_it_broke() {
    for knows_ranges in [true, false] {
        let image = Image::new(3);
        let bytes = image.blobs[1].1.clone();
        let count = Arc::new(AtomicUsize::new(0));
        let server = FakeServer::start(move |request| {
            let reply = if knows_ranges { blob_reply(request, &bytes) } else { Reply::new(200, bytes.clone()) };
            // Each of the first connections carries a little more.
            match count.fetch_add(1, Ordering::Relaxed) {
                number @ 0..3 => reply.cut(20_000 * (number + 1)),
                _ => reply,
            }
        })
        .await;
        let (descriptor, bytes) = &image.blobs[1];
        let reference = name(&server, "a").to_string();
        assert_eq!(read_blob(&Client::new(quiet()), &reference, descriptor, 0).await.unwrap(), bytes[..]);
        let ranges: Vec<_> = server.seen().iter().map(|request| request.header("range").map(str::to_owned)).collect();
        assert_eq!(ranges.len(), 4);
        if knows_ranges {
            let expected = [None, Some("bytes=20000-"), Some("bytes=60000-"), Some("bytes=120000-")];
            assert_eq!(ranges, expected.map(|range| range.map(str::to_owned)));
        }
    }
}

#[tokio::test]
async fn a_transfer_that_never_gets_further_ends() {
    let bytes = Image::new(4).blobs[1].clone();
    let served = bytes.1.clone();
    let server = FakeServer::start(move |request| blob_reply(request, &served).cut(0)).await;
    let error = read_blob(&Client::new(quiet()), &name(&server, "a").to_string(), &bytes.0, 0).await.unwrap_err();
    assert!(matches!(error, Error::Transfer { .. } | Error::Short { .. }), "{error}");
    assert_eq!(server.seen().len(), 5);
}

#[tokio::test]
async fn a_blob_of_another_size_is_refused() {
    let image = Image::new(5);
    let server = FakeServer::start(|_| Reply::new(200, vec![0; 10])).await;
    let reference = name(&server, "a").to_string();
    let error = read_blob(&Client::new(quiet()), &reference, &image.blobs[1].0, 0).await.unwrap_err();
    assert!(error.to_string().ends_with("it has 10 bytes instead of 300000"), "{error}");
}

#[tokio::test]
async fn limits_and_hiccups_are_waited_out() {
    let count = Arc::new(AtomicUsize::new(0));
    let image = Arc::new(Image::new(6));
    let (served, counter) = (image.clone(), count.clone());
    let server = FakeServer::start(move |_| match counter.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::new(429, "").header("retry-after", "0"),
        1 => Reply::new(503, ""),
        2 => Reply::new(200, "").cut(0).header("content-length", "5"),
        _ => manifest_reply(&served),
    })
    .await;
    let client = Client::new(quiet());
    let reference = name(&server, "a:1");
    assert_eq!(client.manifest(&reference, &image.descriptor).await.unwrap(), image.manifest);
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn other_failures_are_not_repeated() {
    for (status, body) in [(403, r#"{"errors":[{"code":"DENIED","message":"no"}]}"#), (400, "")] {
        let server = FakeServer::start(move |_| Reply::new(status, body)).await;
        let image = Image::new(7);
        let error = Client::new(quiet()).manifest(&name(&server, "a"), &image.descriptor).await.unwrap_err();
        match status {
            403 => assert!(error.to_string().ends_with("access is denied (it says `no`)"), "{error}"),
            _ => assert!(matches!(error, Error::Status { status: 400, .. }), "{error}"),
        }
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = quiet();
    config.idle_timeout = Duration::from_millis(50);
    config.retry.attempts = 2;
    let address = listener.local_addr().unwrap().to_string();
    let plain = HostConfig { security: rbuild_registry::Security::PlainHttp, ..HostConfig::default() };
    config.hosts.insert(address.clone(), plain);
    let error = Client::new(config).head(&format!("{address}/a").parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn nobody_listening_is_said_at_once() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = Config { retry: rbuild_registry::Retry::default(), ..quiet() };
    let error = Client::new(config).head(&format!("{free}/a").parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
}

#[tokio::test]
async fn manifests_are_verified() {
    let image = Arc::new(Image::new(8));
    let other = Arc::new(Image::new(9));
    let served = other.clone();
    let server = FakeServer::start(move |_| manifest_reply(&served)).await;
    let client = Client::new(quiet());
    let error = client.manifest(&name(&server, "a"), &image.descriptor).await.unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
    let pinned = name(&server, "a").with_digest(image.descriptor.digest);
    assert!(matches!(client.head(&pinned).await.unwrap_err(), Error::Digest { .. }));
}

#[tokio::test]
async fn registries_that_answer_head_badly_are_asked_again() {
    let image = Arc::new(Image::new(10));
    let served = image.clone();
    let server = FakeServer::start(move |request| match request.method.as_str() {
        "HEAD" => Reply::new(405, ""),
        _ => Reply::new(200, served.manifest.clone()).header("content-type", "text/plain; charset=utf-8"),
    })
    .await;
    let resolved = Client::new(quiet()).resolve(&name(&server, "a"), &"linux/amd64".parse().unwrap()).await.unwrap();
    assert_eq!((resolved.digest, resolved.media_type.as_str()), (image.descriptor.digest, media::OCI_MANIFEST));
}

#[tokio::test]
async fn schema_1_is_refused() {
    let server = FakeServer::start(|_| {
        Reply::new(200, r#"{"schemaVersion":1}"#).header("content-type", media::DOCKER_SCHEMA1_SIGNED)
    })
    .await;
    let error = Client::new(quiet()).resolve(&name(&server, "a"), &"linux/amd64".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Manifest { source: ManifestError::Schema1, .. }), "{error}");
}

#[tokio::test]
async fn mirrors_are_asked_first_and_the_registry_last() {
    let image = Arc::new(Image::new(11));
    let served = image.clone();
    let empty = FakeServer::start(|_| Reply::new(404, "")).await;
    let mirror = FakeServer::start(move |_| manifest_reply(&served)).await;
    let origin = FakeServer::start(|_| Reply::new(500, "")).await;
    let mut config = quiet();
    config.retry.attempts = 1;
    let at = |server: &FakeServer, prefix: &str| Mirror { host: server.address.clone(), prefix: prefix.into() };
    let mirrors = vec![at(&empty, ""), at(&mirror, "/proxy/")];
    config.hosts.insert(origin.address.clone(), HostConfig { mirrors, ..HostConfig::default() });
    let client = Client::new(config);
    assert_eq!(client.head(&name(&origin, "a:1")).await.unwrap().digest, image.descriptor.digest);
    assert_eq!(empty.lines()[0], format!("HEAD /v2/a/manifests/1?ns={}", origin.address));
    assert_eq!(mirror.lines(), [format!("HEAD /v2/proxy/a/manifests/1?ns={}", origin.address)]);
    assert!(origin.lines().is_empty());
    // A push goes to the registry itself.
    assert!(client.has_blob(&name(&origin, "a:1"), &image.descriptor).await.is_err());
    assert_eq!(mirror.lines().len(), 1);
}

#[tokio::test]
async fn an_upload_is_repeated_from_its_beginning() {
    let image = Image::new(12);
    let (descriptor, bytes) = image.blobs[1].clone();
    let count = Arc::new(AtomicUsize::new(0));
    let server = FakeServer::start(move |request| match request.method.as_str() {
        "HEAD" => Reply::new(404, ""),
        "POST" => Reply::new(202, "").header("location", "/upload?state=x%2F"),
        _ if count.fetch_add(1, Ordering::Relaxed) == 0 => Reply::new(502, ""),
        _ => Reply::new(201, ""),
    })
    .await;
    let client = Client::new(quiet());
    let pushed = client.push_blob(&name(&server, "a"), &descriptor, pieces(&bytes)).await.unwrap();
    assert_eq!(pushed, Pushed::Sent);
    let puts: Vec<_> = server.seen().into_iter().filter(|request| request.method == "PUT").collect();
    assert_eq!(puts.len(), 2);
    let encoded = descriptor.digest.to_string().replace(':', "%3A");
    assert_eq!(puts[1].path, format!("/upload?state=x%2F&digest={encoded}"));
    assert_eq!((puts[1].body.as_slice(), puts[1].header("transfer-encoding")), (&bytes[..], None));
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_the_callers_failure() {
    let image = Image::new(13);
    let server = FakeServer::start(move |request| match request.method.as_str() {
        "HEAD" => Reply::new(307, "").header("location", "http://127.0.0.1:1/"),
        _ => Reply::new(202, "").header("location", "/upload"),
    })
    .await;
    let client = Client::new(quiet());
    let descriptor = &image.blobs[1].0;
    // A redirect answers whether the blob exists.
    assert!(client.has_blob(&name(&server, "a"), descriptor).await.unwrap());
    let server = FakeServer::start(move |request| match request.method.as_str() {
        "HEAD" => Reply::new(404, ""),
        _ => Reply::new(202, "").header("location", "/upload"),
    })
    .await;
    let broken = || stream::iter([Ok(Bytes::from_static(b"abc")), Err(std::io::Error::other("disk on fire"))]);
    let error = client.push_blob(&name(&server, "a"), descriptor, broken).await.unwrap_err();
    assert!(matches!(&error, Error::Body { source, .. } if source.to_string() == "disk on fire"), "{error:?}");
}

#[tokio::test]
async fn a_manifest_is_pushed_only_as_what_it_is() {
    let image = Image::new(14);
    let client = Client::new(quiet());
    let reference: Reference = "localhost:1/a".parse().unwrap();
    let error = client.push_manifest(&reference, &image.descriptor, Bytes::new()).await.unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
}
