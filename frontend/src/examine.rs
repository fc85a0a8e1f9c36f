//! What is wrong or doubtful about a file, as far as it can be told without its base images?
//!
//! Everything is lowered, all stages of it, over images of which nothing is known. What depends on them is given the
//! benefit of the doubt: a variable that no line declares may come from an image, and an instruction that uses it may
//! be right.

use std::collections::BTreeMap;
use std::convert::Infallible;

use futures_util::FutureExt;
use rbuild_core::{Digest, Platform};
use rbuild_image::ImageConfig;

use crate::ast::Dockerfile;
use crate::diagnostic::Diagnostic;
use crate::directives::Overrides;
use crate::ignore::IgnoreFile;
use crate::lower::{Bases, Entitlements, LowerError, LowerOptions, Outline, ResolveImage, StageUse, lower};
use crate::source::Source;
use crate::{check, fix, parse_with};

/// What is known besides the file.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// What the context's ignore file says.
    pub ignored: IgnoreFile,
    /// What stands in for directives of the file.
    pub overrides: Overrides,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, Option<String>>,
    /// `--target`; without one all stages are looked at.
    pub target: Option<String>,
}

/// Everything that is to be said about a file, in the order of places; warnings come with their fixes.
pub fn examine(source: &Source, surroundings: &Surroundings) -> Vec<Diagnostic> {
    let file = match parse_with(source, &surroundings.overrides) {
        Ok(file) => file,
        Err(found) => return found,
    };
    let mut found = check(&file);
    fix::attach(source, &file, &mut found);
    fix::withhold(surroundings, &mut found);
    lowered(&file, surroundings, &mut found);
    found.sort_by_key(|found| found.span().start);
    found
}

/// What a target can be given.
///
/// # Errors
/// The mistakes of the file.
pub fn outline(file: &Dockerfile, surroundings: &Surroundings) -> Result<Outline, Vec<Diagnostic>> {
    match lower(file, &options(surroundings, StageUse::Needed), &Nowhere).now_or_never() {
        Some(Ok(lowered)) => Ok(lowered.outline),
        Some(Err(LowerError::Mistakes(mistakes))) => Err(mistakes),
        Some(Err(LowerError::Image { source, .. } | LowerError::Date { source, .. })) => match source {},
        None => Ok(Outline::default()),
    }
}

fn options(surroundings: &Surroundings, stages: StageUse) -> LowerOptions {
    let mut options = LowerOptions::new(Platform::host());
    options.ignored = surroundings.ignored.clone();
    options.build_args = surroundings.build_args.clone();
    options.target = surroundings.target.clone();
    options.stages = stages;
    options.bases = Bases::Unknown;
    // Permissions are the builder's to give.
    options.entitlements = Entitlements { network_host: true, security_insecure: true };
    options
}

fn lowered(file: &Dockerfile, surroundings: &Surroundings, found: &mut Vec<Diagnostic>) {
    let stages = if surroundings.target.is_some() { StageUse::Needed } else { StageUse::All };
    let options = options(surroundings, stages);
    // Nothing in it waits.
    match lower(file, &options, &Nowhere).now_or_never() {
        Some(Ok(lowered)) => {
            lowered.correct(found);
            found.extend(lowered.warnings);
        }
        Some(Err(LowerError::Mistakes(mistakes))) => found.extend(mistakes),
        Some(Err(LowerError::Image { source, .. } | LowerError::Date { source, .. })) => match source {},
        None => {}
    }
}

/// Knows every image, and nothing about it.
struct Nowhere;

impl ResolveImage for Nowhere {
    type Error = Infallible;

    async fn resolve(&self, _: &str, platform: &Platform) -> Result<(Digest, ImageConfig), Infallible> {
        Ok((Digest::sha256([0; 32]), ImageConfig::scratch(platform)))
    }
}
