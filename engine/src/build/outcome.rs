//! How did a build end?

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rbuild_core::{Digest, with_causes};
use rbuild_frontend::{Diagnostic, Source};
use rbuild_image::Descriptor;
use rbuild_solver::SolveError;
use rbuild_solver::graph::VertexId;

use super::history::PastBuild;
use crate::cdi::DeviceError;
use crate::error::Error;
use crate::ssh::SshError;
use crate::worker::WorkerError;

/// A finished build.
#[derive(Clone, Debug)]
pub struct BuildOutcome {
    /// The image ID.
    pub id: Digest,
    /// The manifest, if one was written for an archive or a registry.
    pub manifest: Option<Descriptor>,
    /// The complete names it got.
    pub names: Vec<String>,
    /// What is legal but likely wrong.
    pub warnings: Vec<Diagnostic>,
    /// The Dockerfile, to draw the warnings with.
    pub source: Arc<Source>,
    /// What was done and why, if the request wanted that told or something was made.
    pub account: Option<PastBuild>,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Mistakes in the Dockerfile or the ignore file.
    #[error("`{}` has mistakes", text.name())]
    Dockerfile {
        /// The text.
        text: Arc<Source>,
        /// All of them.
        diagnostics: Vec<Diagnostic>,
    },
    /// A step failed.
    #[error("{}", diagnostic.message)]
    Step {
        /// The text.
        text: Arc<Source>,
        /// What happened, at the step's instruction. Boxed, or every result of this module would be as large.
        diagnostic: Box<Diagnostic>,
        /// What was doubtful before.
        warnings: Vec<Diagnostic>,
        /// Where in the build's graph.
        vertex: Option<VertexId>,
    },
    /// The Dockerfile cannot be read.
    #[error("cannot read the Dockerfile `{}`", path.display())]
    Read {
        /// Where it was looked for.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The context is no directory that can be read.
    #[error("cannot use `{}` as the build context", path.display())]
    Context {
        /// The path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// `--host-ca` without certificates on the host.
    #[error("no certificate bundle was found on this host")]
    NoHostCa,
    /// `--platform`.
    #[error(transparent)]
    Platform(rbuild_core::PlatformError),
    /// `--ssh`.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// Specifications of devices.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Everything else.
    #[error(transparent)]
    Other(#[from] Error),
}

impl BuildError {
    pub(super) fn step(source: &Arc<Source>, error: SolveError<WorkerError>) -> Self {
        let vertex = Some(error.vertex());
        let (title, spans, cause) = match error {
            SolveError::Vertex { title, spans, source, .. } | SolveError::Key { title, spans, source, .. } => {
                (title, spans, source)
            }
            error @ SolveError::Outputs { .. } => unreachable!("every op of ours has one output: {error}"),
        };
        let message = match &*cause {
            // Names the command itself.
            error @ WorkerError::Exit { .. } => error.to_string(),
            error => format!("{title}: {}", with_causes(error)),
        };
        let Some(first) = spans.first() else {
            let message = format!("step `{title}` failed");
            return Self::Other(Error::Step { message, source: cause });
        };
        let span = spans.iter().fold(*first, |all, span| all.to(*span));
        let diagnostic = Diagnostic::error(span, message).hint_if(cause.hint());
        Self::Step { text: source.clone(), diagnostic: Box::new(diagnostic), warnings: Vec::new(), vertex }
    }

    /// What the user can do about it; mistakes carry their own advice.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoHostCa => Some("set SSL_CERT_FILE to a file of certificates in PEM form".to_owned()),
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("`-f` names another Dockerfile".to_owned())
            }
            Self::Ssh(error) => error.hint(),
            Self::Other(error) => error.hint(),
            _ => None,
        }
    }
}
