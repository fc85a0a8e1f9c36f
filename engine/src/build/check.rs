//! What is doubtful about a Dockerfile?
//!
//! The same way as a build, up to the point where the cache would be asked; and how a build reads it, too.

use std::sync::Arc;

use rbuild_core::Reporter;
use rbuild_frontend::{Diagnostic, Dockerfile, Lowered, Source, fix};

use super::arguments::{self, Arguments};
use super::contexts::{self, Main};
use super::dockerfile::{self, DockerfilePlace};
use super::{BuildError, Prepared};
use crate::context::Fetcher;
use crate::engine::Engine;
use crate::error::Error;
use crate::request::{BuildRequest, Entitlement};
use crate::secret::Secrets;

/// A Dockerfile without mistakes.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What is legal but likely wrong.
    pub warnings: Vec<Diagnostic>,
    /// The Dockerfile, to draw the warnings with.
    pub source: Arc<Source>,
}

impl Engine {
    /// Reads, checks and lowers a Dockerfile without building it.
    ///
    /// # Errors
    /// As [`Engine::build`], except for failed steps.
    pub async fn check(&self, request: &BuildRequest) -> Result<Checked, BuildError> {
        let _lease = self.store().lease("check").map_err(Error::from)?;
        // What a build may do and whom it may ask is no matter of the file.
        let allow = vec![Entitlement::NetworkHost, Entitlement::SecurityInsecure];
        let request = BuildRequest { allow, ssh: Vec::new(), ..request.clone() };
        let Prepared { source, warnings, .. } = self.prepare(&request, Purpose::Check, &Reporter::silent()).await?;
        Ok(Checked { warnings, source })
    }

    /// Reads and parses the Dockerfile of a request, and nothing more.
    ///
    /// # Errors
    /// If it cannot be read or has mistakes.
    pub async fn read_dockerfile(&self, request: &BuildRequest) -> Result<(Arc<Source>, Dockerfile), BuildError> {
        let _lease = self.store().lease("read").map_err(Error::from)?;
        let secrets = Secrets::new(request.secrets.clone());
        let fetcher = Fetcher { engine: self, secrets: &secrets };
        let read = read(fetcher, request, &Reporter::silent()).await?;
        Ok((read.source, read.file))
    }
}

/// What a Dockerfile is read for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    /// Its target is built; warnings may be meant to stop that.
    Build,
    /// All that is to be said about it, in all of its stages unless one is asked for.
    Check,
}

/// A Dockerfile without mistakes, and what was learnt on the way to it.
pub(super) struct Read {
    pub(super) source: Arc<Source>,
    pub(super) file: Dockerfile,
    pub(super) arguments: Arguments,
    pub(super) main: Main,
    pub(super) place: DockerfilePlace,
}

/// Finds and parses the Dockerfile, as the build arguments that speak to the builder want it read.
pub(super) async fn read(
    fetcher: Fetcher<'_>,
    request: &BuildRequest,
    reporter: &Reporter,
) -> Result<Read, BuildError> {
    let mut main = contexts::main(fetcher, request, reporter).await?;
    let dockerfile::Dockerfile { source, place } = dockerfile::read(fetcher, request, &mut main, reporter).await?;
    let source = Arc::new(source);
    let arguments = arguments::arguments(request)?;
    let overrides = arguments::overrides(&arguments);
    let file = rbuild_frontend::parse_with(&source, &overrides)
        .map_err(|diagnostics| BuildError::Dockerfile { text: source.clone(), diagnostics })?;
    Ok(Read { source, file, arguments, main, place })
}

/// All warnings, in the order of places, with their fixes.
pub(super) fn warnings(source: &Source, file: &Dockerfile, lowered: &Lowered) -> Vec<Diagnostic> {
    let mut found = rbuild_frontend::check(file);
    lowered.correct(&mut found);
    fix::attach(source, file, &mut found);
    found.extend(lowered.warnings.iter().cloned());
    found.sort_by_key(|found| found.span().start);
    found
}

/// Mistakes, after what was doubtful without them.
pub(super) fn with_warnings(file: &Dockerfile, error: BuildError) -> BuildError {
    match error {
        BuildError::Dockerfile { text, diagnostics } => {
            let mut found = rbuild_frontend::check(file);
            fix::attach(&text, file, &mut found);
            found.extend(diagnostics);
            BuildError::Dockerfile { text, diagnostics: found }
        }
        other => other,
    }
}
