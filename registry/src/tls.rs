//! Whom do we believe to be a registry?
//!
//! Roots are the system's bundle (`SSL_CERT_FILE`, `SSL_CERT_DIR`, else the usual places), or Mozilla's list compiled
//! in if a system has none, such as an empty container; additional ones come from the configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::{Error, Result};

const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What is special about one host's certificates.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Trust {
    /// Files with additional roots.
    pub(crate) roots: Vec<PathBuf>,
    /// Our own certificate and its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// Whether any certificate will do.
    pub(crate) anyone: bool,
}

impl Trust {
    /// Adds what the certificate directories say about `host`. Unreadable directories count as empty.
    pub(crate) fn add_directories(&mut self, directories: &[PathBuf], host: &str) {
        for directory in directories {
            let Ok(listing) = std::fs::read_dir(directory.join(host)) else { continue };
            let mut files: Vec<PathBuf> = listing.filter_map(|entry| Some(entry.ok()?.path())).collect();
            files.sort();
            for file in files {
                match file.extension().and_then(|extension| extension.to_str()) {
                    Some("crt") => self.roots.push(file),
                    Some("cert") if self.identity.is_none() => {
                        let key = file.with_extension("key");
                        self.identity = Some((file, key));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The TLS side of an HTTP client.
pub(crate) fn client_config(trust: &Trust) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let setup = |error: rustls::Error| Error::Setup(Box::new(error));
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().map_err(setup)?;
    let builder = if trust.anyone {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
    } else {
        let mut roots = system_roots();
        for path in &trust.roots {
            let certificates = certificates(path)?;
            if roots.add_parsable_certificates(certificates).0 == 0 {
                return Err(Error::CertificateFile { path: path.clone(), source: "it has no certificate".into() });
            }
        }
        builder.with_root_certificates(roots)
    };
    match &trust.identity {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let file = |path: &Path, source: Box<dyn std::error::Error + Send + Sync>| Error::CertificateFile {
                path: path.to_owned(),
                source,
            };
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| file(key, Box::new(error)))?;
            let chain = certificates(certificate)?;
            builder.with_client_auth_cert(chain, private).map_err(|error| file(certificate, Box::new(error)))
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let list = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    list.map_err(|source| Error::CertificateFile { path: path.to_owned(), source: Box::new(source) })
}

/// Unreadable files and certificates that rustls refuses are passed over: a bundle usually has some.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let mut add = |path: &Path| {
        if let Ok(list) = CertificateDer::pem_file_iter(path) {
            roots.add_parsable_certificates(list.filter_map(Result::ok)).0 > 0
        } else {
            false
        }
    };
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let mut found = named.is_some_and(|path| add(&path));
    for directory in std::env::var_os("SSL_CERT_DIR").iter().flat_map(std::env::split_paths) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            found |= add(&entry.path());
        }
    }
    if !found && !BUNDLES.iter().any(|path| add(Path::new(path))) {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// Accepts every certificate, for registries that the user declared insecure. Signatures are still checked, so that
/// whoever answers has at least the key of what it shows.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
