//! What is doubtful about a Dockerfile?
//!
//! The same way as a build, up to the point where the cache would be asked.

use std::sync::Arc;

use rbuild_core::Reporter;
use rbuild_frontend::{Diagnostic, Source};

use super::{BuildError, Prepared};
use crate::engine::Engine;
use crate::error::Error;
use crate::request::BuildRequest;

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
        let Prepared { source, warnings, .. } = self.prepare(request, &Reporter::silent()).await?;
        Ok(Checked { warnings, source })
    }
}
