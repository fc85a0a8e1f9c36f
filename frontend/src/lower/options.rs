//! What decides, besides the file itself, what is built?

use std::collections::BTreeMap;
use std::future::Future;

use rbuild_core::{Digest, Platform, Span};
use rbuild_image::ImageConfig;
use rbuild_solver::graph::{GitOp, Graph, HttpOp, NetworkMode, Output};

use super::outline::Outline;
use crate::rule::{Reach, Rule};
use crate::{Diagnostic, IgnoreFile};

/// The answers of the command line.
#[derive(Clone, Debug)]
pub struct LowerOptions {
    /// `--build-arg`. Without a value (the client's environment has none either) an argument counts as not given.
    pub build_args: BTreeMap<String, Option<String>>,
    /// `--target`, in any case; the last stage if absent.
    pub target: Option<String>,
    /// What the image is for.
    pub platform: Platform,
    /// What builds it: `$BUILDPLATFORM`.
    pub build_platform: Platform,
    /// `--build-context`, by name.
    pub named_contexts: BTreeMap<String, NamedContext>,
    /// `--no-cache` and `--no-cache-filter`.
    pub cache: CacheUse,
    /// `--label`, applied to the target last of all.
    pub labels: BTreeMap<String, String>,
    /// `--add-host`: names and addresses.
    pub add_hosts: Vec<(String, String)>,
    /// What a `RUN` without `--network` sees.
    pub network: NetworkMode,
    /// `--allow`.
    pub entitlements: Entitlements,
    /// `--shm-size`.
    pub shm_size: Option<u64>,
    /// `SOURCE_DATE_EPOCH` of the client's environment; a build argument of that name wins.
    pub source_date_epoch: Option<i64>,
    /// What is left out of the build context, to warn of copies of it.
    pub ignored: IgnoreFile,
    /// Which stages are lowered.
    pub stages: StageUse,
    /// Whether the images are the real ones.
    pub bases: Bases,
}

impl LowerOptions {
    /// Nothing asked for but a platform, which is the builder's too.
    pub fn new(platform: Platform) -> Self {
        Self {
            build_args: BTreeMap::new(),
            target: None,
            build_platform: platform.clone(),
            platform,
            named_contexts: BTreeMap::new(),
            cache: CacheUse::default(),
            labels: BTreeMap::new(),
            add_hosts: Vec::new(),
            network: NetworkMode::default(),
            entitlements: Entitlements::default(),
            shm_size: None,
            source_date_epoch: None,
            ignored: IgnoreFile::default(),
            stages: StageUse::Needed,
            bases: Bases::Known,
        }
    }
}

/// What a `RUN` may ask for beyond the usual. Devices are the caller's to allow: they are known to the machine only.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Entitlements {
    /// `--network=host`.
    pub network_host: bool,
    /// `--security=insecure`.
    pub security_insecure: bool,
}

/// What a `--build-context` puts in the place of a stage or an image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NamedContext {
    /// A directory: vertices become [`LocalOp`](rbuild_solver::graph::LocalOp)s under the context's name.
    Local,
    /// An image; [`ResolveImage::resolve`] gets this text.
    Image(String),
    /// No files, as `scratch`.
    Nothing,
}

/// Which stages are lowered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StageUse {
    /// Those that the target needs.
    Needed,
    /// All, to find what is wrong with them.
    All,
}

/// What [`ResolveImage`] knows about images.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bases {
    /// Their configurations.
    Known,
    /// Nothing: what depends on them is neither a mistake nor worth a warning.
    Unknown,
}

/// Which cached results may be used.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum CacheUse {
    /// All.
    #[default]
    All,
    /// None.
    None,
    /// All but those of the listed stages, whose names are compared without case.
    AllBut(Vec<String>),
}

/// How lowering learns about images. It asks for each name and platform once, for several at a time.
pub trait ResolveImage: Sync {
    /// Why an image cannot be had.
    type Error: Send;

    /// The image's ID, that is the digest of its configuration, and the configuration. `name` is as the Dockerfile has
    /// it, variables expanded: not normalised, possibly no reference at all.
    fn resolve(
        &self,
        name: &str,
        platform: &Platform,
    ) -> impl Future<Output = Result<(Digest, ImageConfig), Self::Error>> + Send;

    /// When something was last changed, in seconds since the epoch: asked for `SOURCE_DATE_EPOCH=NAME` only. `None` if
    /// it has no time.
    fn date(&self, _source: &DateSource) -> impl Future<Output = Result<Option<i64>, Self::Error>> + Send {
        std::future::ready(Ok(None))
    }
}

/// Whose time an image can have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DateSource {
    /// Of the context of this name; the build's own is called `context`.
    Context(String),
    /// `Last-Modified`, or the newest entry of an archive.
    Http(HttpOp),
    /// The time of the commit.
    Git(GitOp),
}

/// What a Dockerfile comes down to.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The result and what it needs.
    pub graph: Graph,
    /// The root file system of the target stage.
    pub result: Output,
    /// The configuration of the image but for `rootfs` and the times it was made at. Each history entry that does not
    /// say `empty_layer` stands for one layer: first those of the base image, then the result's own.
    pub config: ImageConfig,
    /// `SOURCE_DATE_EPOCH`, from wherever it was set.
    pub source_date_epoch: Option<i64>,
    /// Which stage is built, counted from 0.
    pub target: usize,
    /// Per stage of the file, whether the target needs it.
    pub needed: Vec<bool>,
    /// Lints that need values: undefined variables, relative working directories and the like.
    pub warnings: Vec<Diagnostic>,
    /// What the target can be given.
    pub outline: Outline,
    /// The stages that were not lowered, each with its instructions.
    pub(crate) unneeded: Vec<Span>,
    /// Places of shell forms that are as they should be, because the base image chose the shell.
    pub(crate) refuted: Vec<Span>,
}

impl Lowered {
    /// Takes out of the findings of [`check`](crate::check()) what images and target show to be beside the point.
    pub fn correct(&self, found: &mut Vec<Diagnostic>) {
        found.retain(|diagnostic| {
            let start = diagnostic.span().start;
            let rule = diagnostic.rule;
            let is_built = || {
                let near = self.unneeded.partition_point(|stage| stage.start <= start).checked_sub(1);
                near.is_none_or(|near| self.unneeded[near].end <= start)
            };
            (rule.is_none_or(|rule| rule.reach() == Reach::File) || is_built())
                && !(rule == Some(Rule::JSONArgsRecommended) && self.refuted.binary_search(&diagnostic.span()).is_ok())
        });
    }
}

/// Why there is no graph.
#[derive(Debug, thiserror::Error)]
pub enum LowerError<E: std::error::Error + 'static> {
    /// The Dockerfile, or what the command line says about it, is wrong. At least one, all of them errors.
    #[error("the Dockerfile has {} mistake{}", .0.len(), if .0.len() == 1 { "" } else { "s" })]
    Mistakes(Vec<Diagnostic>),
    /// A base image cannot be had.
    #[error("cannot resolve `{name}` for {platform}")]
    Image {
        /// What the Dockerfile calls it, variables expanded.
        name: String,
        /// For which platform it was wanted.
        platform: Box<Platform>,
        /// The `FROM`, `--from` or `from=` that wants it.
        span: Span,
        /// A stage that may have been meant.
        hint: Option<String>,
        /// What the resolver said.
        #[source]
        source: E,
    },
    /// The time of something cannot be had.
    #[error("cannot find the time of `{name}`")]
    Date {
        /// What `SOURCE_DATE_EPOCH` names.
        name: String,
        /// Where it does.
        span: Span,
        /// What the resolver said.
        #[source]
        source: E,
    },
}
