//! Why could something not be done?

use std::io;
use std::path::PathBuf;

use rbuild_cache::{ContainerError, ContentError, ImageError, LayerError, StoreError};
use rbuild_core::Digest;

/// A failure of anything but a build step; those are [`crate::BuildError`]s.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Blobs.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// Layers.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// Images.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Containers.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// A registry.
    #[error(transparent)]
    Registry(#[from] rbuild_registry::Error),
    /// Where passwords are kept.
    #[error(transparent)]
    Credential(#[from] rbuild_registry::CredentialError),
    /// Files of an image or a context.
    #[error(transparent)]
    Files(#[from] crate::files_error::FilesError),
    /// A file at a URL, a git repository.
    #[error(transparent)]
    Remote(#[from] crate::remote::RemoteError),
    /// A build context.
    #[error(transparent)]
    Context(#[from] crate::context::ContextError),
    /// A text that is no image reference.
    #[error("`{text}` is not an image reference")]
    Reference {
        /// The text.
        text: String,
        /// What is wrong with it.
        #[source]
        source: rbuild_image::ReferenceError,
    },
    /// No local image has this name or id.
    #[error("there is no image `{0}` in the store")]
    NoSuchImage(String),
    /// An image that several names or a container still need.
    #[error("image `{image}` is in use: {reason}")]
    ImageInUse {
        /// The image.
        image: String,
        /// By whom.
        reason: String,
    },
    /// A configuration or manifest that is not what it should be.
    #[error("the {what} of `{name}` cannot be understood")]
    Malformed {
        /// `configuration`, `manifest`, …
        what: &'static str,
        /// Whose.
        name: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The configuration and the manifest disagree.
    #[error("image `{name}` has {layers} layers but {diff_ids} diff IDs")]
    LayerCount {
        /// The image.
        name: String,
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
    /// An image for something else.
    #[error("image `{name}` is for {found}, not for {wanted}")]
    Platform {
        /// The image.
        name: String,
        /// What it is for.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// A layer that is neither here nor anywhere it could be pulled from.
    #[error("layer {0} is not in the store, and no registry is known to have it")]
    LayerGone(Digest),
    /// A layer that a record or an image names is gone.
    #[error("layer `{id}`{} was damaged or deleted", of_image(image))]
    LayerVanished {
        /// Which.
        id: rbuild_cache::LayerId,
        /// An image that needs it.
        image: Option<String>,
    },
    /// A file.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// `read`, `write`, …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// An archive that is read or written as a stream.
    #[error("cannot {action}")]
    Stream {
        /// What was being done.
        action: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Something asked for that rbuild does not do.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// A step that no instruction stands for.
    #[error("{message}")]
    Step {
        /// Which.
        message: String,
        /// Why.
        #[source]
        source: std::sync::Arc<crate::worker::WorkerError>,
    },
    /// A mount that is needed to look into an image.
    #[error(transparent)]
    Mount(#[from] rbuild_executor::mount::MountError),
}

fn of_image(image: &Option<String>) -> String {
    image.as_ref().map(|name| format!(" of image `{name}`")).unwrap_or_default()
}

impl Error {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    pub(crate) fn malformed(
        what: &'static str,
        name: impl ToString,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Malformed { what, name: name.to_string(), source: Box::new(source) }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Content(error) => error.hint(),
            Self::Layer(error) => error.hint(),
            Self::Image(error) => error.hint(),
            Self::Container(error) => error.hint(),
            Self::Registry(error) => error.hint(),
            Self::Files(error) => error.hint(),
            Self::Remote(error) => error.hint(),
            Self::Context(error) => error.hint(),
            Self::NoSuchImage(name) => {
                Some(format!("`rbuild images` lists what is there; `rbuild pull {name}` fetches it"))
            }
            Self::ImageInUse { .. } => Some("`rbuild rmi -f` removes it all the same".to_owned()),
            Self::LayerVanished { id, .. } => Some(id.how_to_get_back().to_owned()),
            Self::LayerGone(_) => Some("load, pull or build the image again".to_owned()),
            Self::Platform { .. } => Some("`--platform` chooses another one".to_owned()),
            Self::Step { source, .. } => source.hint(),
            Self::Malformed { what: crate::container::RECORD, name, .. } => {
                Some(format!("`rbuild rm {name}` removes the container; or use the version of rbuild that made it"))
            }
            Self::Credential(_)
            | Self::Reference { .. }
            | Self::Malformed { .. }
            | Self::LayerCount { .. }
            | Self::File { .. }
            | Self::Stream { .. }
            | Self::Unsupported(_)
            | Self::Mount(_) => None,
        }
    }
}
