//! What does every operation need?

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rbuild_cache::{LayerForm, OverlayXattrs, Store, StoreOptions};
use rbuild_executor::Host;
use rbuild_image::Reference;

use crate::error::Error;
use crate::prune::CollectLimits;

/// How this process uses rbuild.
#[derive(Clone, Debug)]
pub struct Config {
    /// The state directory; made if it does not exist.
    pub root: PathBuf,
    /// Whether this process is root only within a user namespace.
    pub rootless: bool,
    /// Registries, as `host[:port]`, that may be spoken to without TLS or with an unknown certificate.
    pub insecure_registries: Vec<String>,
    /// What the store removes by itself.
    pub collect: CollectLimits,
    /// In which form it keeps new layers.
    pub layers: LayerForm,
}

/// Everything a user can do. Cheap to clone; all clones share one store and one registry client.
#[derive(Clone, Debug)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    config: Config,
    host: OnceLock<Host>,
    registry: OnceLock<rbuild_registry::Client>,
    web: OnceLock<rbuild_registry::Web>,
}

impl Engine {
    /// Opens the state directory. Looks at nothing else: the kernel is probed and certificates are read when first
    /// needed.
    ///
    /// # Errors
    /// If the store cannot be opened.
    pub fn open(config: Config) -> Result<Self, Error> {
        let overlay_xattrs = if config.rootless { OverlayXattrs::User } else { OverlayXattrs::Trusted };
        let read_erofs = |image: &Path, file: &Path| {
            rbuild_executor::mount::read_from_erofs_layer(image, file).map_err(std::io::Error::other)
        };
        let options = StoreOptions { overlay_xattrs, layers: config.layers, read_erofs: Some(read_erofs) };
        let store = Store::open_with(&config.root, options)?;
        let inner = Inner { store, config, host: OnceLock::new(), registry: OnceLock::new(), web: OnceLock::new() };
        Ok(Self(Arc::new(inner)))
    }

    /// `$RBUILD_ROOT`; else `/var/lib/rbuild` for root, `$XDG_DATA_HOME/rbuild` or `~/.local/share/rbuild` for others.
    pub fn default_root() -> PathBuf {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(root) = variable("RBUILD_ROOT") {
            return root;
        }
        if rustix::process::getuid().is_root() {
            return PathBuf::from("/var/lib/rbuild");
        }
        variable("XDG_DATA_HOME")
            .or_else(|| variable("HOME").map(|home| home.join(".local/share")))
            .unwrap_or_else(|| PathBuf::from("."))
            .join("rbuild")
    }

    /// How the engine was opened.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn host(&self) -> &Host {
        self.0.host.get_or_init(Host::probe)
    }

    pub(crate) fn registry(&self) -> &rbuild_registry::Client {
        self.0.registry.get_or_init(|| {
            let mut config = rbuild_registry::Config::default();
            for host in &self.0.config.insecure_registries {
                config.hosts.entry(host.clone()).or_default().security = rbuild_registry::Security::Insecure;
            }
            rbuild_registry::Client::new(config)
        })
    }
}

impl Engine {
    /// For what is at URLs and is no image.
    pub(crate) fn web(&self) -> Result<&rbuild_registry::Web, Error> {
        if let Some(web) = self.0.web.get() {
            return Ok(web);
        }
        let web = rbuild_registry::Web::new(rbuild_registry::Config::default())?;
        Ok(self.0.web.get_or_init(|| web))
    }
}

/// Reads an image reference and completes it: `busybox` is `docker.io/library/busybox:latest`.
pub(crate) fn reference(text: &str) -> Result<Reference, Error> {
    let parsed: Reference = text.parse().map_err(|source| Error::Reference { text: text.to_owned(), source })?;
    Ok(parsed.canonical())
}
