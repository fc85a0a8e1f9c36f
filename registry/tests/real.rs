//! The client against the distribution project's own registry.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use bytes::Bytes;
use rbuild_image::{Family, Index, Reference};
use rbuild_registry::{Client, Config, Credential, Error, HostConfig, Pushed, Security};
use support::{Image, RealRegistry, credentials, pieces, quiet, read_blob, run};

async fn push(client: &Client, name: &str, image: &Image) -> Vec<Pushed> {
    let name: Reference = name.parse().unwrap();
    let mut outcomes = Vec::new();
    for (descriptor, bytes) in &image.blobs {
        outcomes.push(client.push_blob(&name, descriptor, pieces(bytes)).await.unwrap());
    }
    outcomes.push(client.push_manifest(&name, &image.descriptor, image.manifest.clone()).await.unwrap());
    outcomes
}

async fn assert_pulls(client: &Client, name: &str, image: &Image) {
    let reference: Reference = name.parse().unwrap();
    let resolved = client.resolve(&reference, &"linux/amd64".parse().unwrap()).await.unwrap();
    assert_eq!((resolved.digest, resolved.size), (image.descriptor.digest, image.descriptor.size));
    assert_eq!(client.manifest(&reference, &resolved).await.unwrap(), image.manifest);
    for (descriptor, bytes) in &image.blobs {
        assert_eq!(read_blob(client, name, descriptor, 0).await.unwrap(), bytes[..]);
        let half = descriptor.size / 2;
        assert_eq!(read_blob(client, name, descriptor, half).await.unwrap(), bytes[usize::try_from(half).unwrap()..]);
        assert!(read_blob(client, name, descriptor, descriptor.size).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_is_pushed_is_pulled_and_only_what_is_missing_is_pushed() {
    let Some(registry) = RealRegistry::plain() else { return };
    let client = Client::new(quiet());
    client.ping(&registry.address).await.unwrap();
    let image = Image::new(1);
    let name = format!("{}/team/app:1", registry.address);
    assert_eq!(push(&client, &name, &image).await, [Pushed::Sent; 3]);
    assert_pulls(&client, &name, &image).await;
    assert_pulls(&client, &format!("{}/team/app@{}", registry.address, image.descriptor.digest), &image).await;
    assert_eq!(push(&client, &name, &image).await, [Pushed::Existed; 3]);

    let mut sibling = Image::new(2);
    sibling.blobs[1] = image.blobs[1].clone();
    let (first, other): (Reference, Reference) =
        (name.parse().unwrap(), format!("{}/other:1", registry.address).parse().unwrap());
    assert!(!client.has_blob(&other, &image.blobs[1].0).await.unwrap());
    assert!(client.mount_blob(&other, &first, &image.blobs[1].0).await.unwrap());
    assert!(!client.mount_blob(&other, &first, &sibling.blobs[0].0).await.unwrap());
    assert_eq!(client.push_blob(&other, &image.blobs[1].0, pieces(&Bytes::new())).await.unwrap(), Pushed::Existed);
}

#[tokio::test]
async fn an_index_gives_the_image_of_the_platform() {
    let Some(registry) = RealRegistry::plain() else { return };
    let client = Client::new(quiet());
    let images = [Image::new(3), Image::new(4)];
    let at = |image: &Image| format!("{}/multi@{}", registry.address, image.descriptor.digest);
    for image in &images {
        push(&client, &at(image), image).await;
    }
    let entries = images.iter().zip(["linux/amd64", "linux/arm64/v8"]);
    let entries = entries.map(|(image, platform)| image.descriptor.clone().with_platform(platform.parse().unwrap()));
    let (bytes, descriptor) = Index::new(Family::Oci, entries.collect()).to_bytes();
    let name: Reference = format!("{}/multi:1", registry.address).parse().unwrap();
    client.push_manifest(&name, &descriptor, bytes.into()).await.unwrap();
    assert_eq!(client.head(&name).await.unwrap(), descriptor);
    let arm = client.resolve(&name, &"linux/arm64".parse().unwrap()).await.unwrap();
    assert_eq!(arm.digest, images[1].descriptor.digest);
    let error = client.resolve(&name, &"linux/s390x".parse().unwrap()).await.unwrap_err();
    assert!(
        error.to_string().ends_with("no image for `linux/s390x`, only for `linux/amd64`, `linux/arm64`"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let Some(registry) = RealRegistry::plain() else { return };
    let client = Client::new(quiet());
    let name: Reference = format!("{}/nothing:7", registry.address).parse().unwrap();
    let error = client.head(&name).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert!(error.to_string().contains("manifest `7`") && error.to_string().contains(&registry.address));
    let image = Image::new(5);
    let error = read_blob(&client, &name.to_string(), &image.blobs[1].0, 0).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    // A blob of the wrong digest is refused by the registry.
    let (descriptor, _) = &image.blobs[0];
    let wrong = Bytes::from(vec![0; usize::try_from(descriptor.size).unwrap()]);
    let error = client.push_blob(&name, descriptor, pieces(&wrong)).await.unwrap_err();
    assert!(matches!(error, Error::Status { status: 400, .. }), "{error}");
}

fn htpasswd() -> Option<RealRegistry> {
    let mut possible = false;
    let registry = RealRegistry::start(|directory| {
        possible = run(directory, "htpasswd", &["-Bbc", "users", "alice", "s3cr:et"]);
        let users = directory.join("users");
        (String::new(), format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", users.display()))
    });
    registry.filter(|_| possible)
}

#[tokio::test]
async fn basic_authentication_uses_the_docker_configuration() {
    let Some(registry) = htpasswd() else { return };
    let image = Image::new(6);
    let name = format!("{}/private:1", registry.address);
    let entry = r#"{"username":"alice","password":"s3cr:et"}"#;
    let known = Config { credentials: credentials(registry.directory.path(), &registry.address, entry), ..quiet() };
    let client = Client::new(known);
    assert_eq!(push(&client, &name, &image).await, [Pushed::Sent; 3]);
    assert_pulls(&client, &name, &image).await;

    let stranger = Client::new(quiet());
    let error = stranger.head(&name.parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { known: false, .. }), "{error}");
    assert!(error.hint().unwrap().contains("rbuild login"));
    let password = |text: &str| Credential::Password { username: "alice".into(), password: text.into() };
    stranger.check_login(&registry.address, &password("s3cr:et")).await.unwrap();
    let error = stranger.check_login(&registry.address, &password("wrong")).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { known: true, .. }), "{error}");
}

const EXTENSIONS: &str = "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n";

fn tls() -> Option<RealRegistry> {
    let mut possible = false;
    let registry = RealRegistry::start(|directory| {
        std::fs::write(directory.join("extensions"), EXTENSIONS).unwrap();
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let ca = ["req", "-x509", "-subj", "/CN=Test CA", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2"];
        let request = ["req", "-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "request.pem"];
        let sign = [
            "x509",
            "-req",
            "-in",
            "request.pem",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-set_serial",
            "7",
            "-days",
            "2",
            "-extfile",
            "extensions",
            "-out",
            "cert.pem",
        ];
        possible = run(directory, "openssl", &[&ca[..], &key].concat())
            && run(directory, "openssl", &[&request[..], &key].concat())
            && run(directory, "openssl", &sign);
        let path = directory.display();
        let tls = format!("  tls:\n    certificate: {path}/cert.pem\n    key: {path}/key.pem\n");
        (if possible { tls } else { String::new() }, String::new())
    });
    registry.filter(|_| possible)
}

#[tokio::test]
async fn tls_needs_a_known_authority_or_an_insecure_registry() {
    let Some(registry) = tls() else { return };
    let host = registry.address.clone();
    let name = format!("{host}/app:1");
    let image = Image::new(7);

    let error = Client::new(quiet()).head(&name.parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Certificate { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("certs.d"));

    let mut config = quiet();
    let roots = vec![registry.directory.path().join("ca.pem")];
    config.hosts.insert(host.clone(), HostConfig { roots, ..HostConfig::default() });
    let client = Client::new(config);
    assert_eq!(push(&client, &name, &image).await, [Pushed::Sent; 3]);
    assert_pulls(&client, &name, &image).await;

    let certificates = registry.directory.path().join("certs.d");
    std::fs::create_dir_all(certificates.join(&host)).unwrap();
    std::fs::copy(registry.directory.path().join("ca.pem"), certificates.join(&host).join("any.crt")).unwrap();
    assert_pulls(&Client::new(Config { certificates: vec![certificates], ..quiet() }), &name, &image).await;

    let mut config = quiet();
    config.hosts.insert(host.clone(), HostConfig { security: Security::Insecure, ..HostConfig::default() });
    assert_pulls(&Client::new(config), &name, &image).await;

    let mut config = quiet();
    config.hosts.insert(host.clone(), HostConfig { roots: vec!["/nonexistent".into()], ..HostConfig::default() });
    let error = Client::new(config).head(&name.parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::CertificateFile { .. }), "{error:?}");
}
