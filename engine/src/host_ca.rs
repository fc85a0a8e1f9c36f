//! Which certificates does a process need behind a TLS-inspecting proxy?
//!
//! The host's own bundle, mounted read-only where no image has anything, and the variables that the usual clients
//! look at. It enters no key, no layer and no configuration: it says something about where the build runs, not about
//! what is built.

use std::path::{Path, PathBuf};

use rbuild_core::{Mount, MountKind};

/// Where the bundle appears inside a sandbox.
const TARGET: &str = "/run/rbuild-host-ca.crt";

/// Variables that name a file of certificates: OpenSSL and Go, curl, Node.js, pip, requests, git, the AWS clients,
/// cargo, npm and gRPC.
const VARIABLES: [&str; 10] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "npm_config_cafile",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
];

/// Where distributions keep the bundle: Debian, Fedora, openSUSE, Alpine.
const USUAL: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A bundle that was found on the host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct HostCa {
    bundle: PathBuf,
}

impl HostCa {
    /// Looks at `$SSL_CERT_FILE`, then at the usual places.
    pub(crate) fn find() -> Option<Self> {
        std::env::var_os("SSL_CERT_FILE")
            .map(PathBuf::from)
            .into_iter()
            .chain(USUAL.iter().map(PathBuf::from))
            .find(|path| path.is_file())
            .map(|bundle| Self { bundle })
    }

    /// The mount that shows it.
    pub(crate) fn mount(&self) -> Mount {
        Mount {
            target: Path::new(TARGET).to_owned(),
            kind: MountKind::Bind { source: self.bundle.clone(), recursive: false },
            read_only: true,
        }
    }

    /// The variables that point to it, except those that `environment` already sets.
    pub(crate) fn variables<'a>(
        &self,
        environment: &'a [(String, String)],
    ) -> impl Iterator<Item = (String, String)> + use<'a> {
        VARIABLES
            .iter()
            .filter(|name| !environment.iter().any(|(set, _)| set == *name))
            .map(|name| ((*name).to_owned(), TARGET.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_the_image_win() {
        let ca = HostCa { bundle: "/x".into() };
        let set = [("PIP_CERT".to_owned(), "/mine".to_owned())];
        let names: Vec<_> = ca.variables(&set).map(|(name, _)| name).collect();
        assert_eq!(names.len(), VARIABLES.len() - 1);
        assert!(!names.contains(&"PIP_CERT".to_owned()));
    }
}
