//! What must be built for a Dockerfile?
//!
//! The syntax tree, the options and what the base images say become a build graph. Nothing is read, run or fetched here
//! but image configurations, through [`ResolveImage`].
//!
//! ```text
//! globals ── variables of FROM lines                                        all stages
//! plan    ── what each stage starts from, what a --from means               all stages
//! images  ── which stages and images the target needs; ONBUILD triggers     from the target
//! stage   ── instruction after instruction over a State                     stages that are needed
//!            ├── run, copy      vertices
//!            └── metadata       configuration and history
//! ```
//!
//! All mistakes are reported, as far as one does not hide the next: those of `FROM` lines before any image is asked for,
//! those of instructions together once all images are known. Stages the target does not need are not looked at.
//!
//! Vertices depend on nothing but what their instruction says: each `COPY` has a selection of the context of its own.

mod bytes;
mod control;
mod copy;
mod date;
mod environment;
mod globals;
mod history;
mod ignored;
mod images;
mod metadata;
mod mode;
mod notes;
mod options;
mod outline;
mod owner;
mod permission;
mod plan;
mod remote;
mod run;
mod signal;
mod stage;
mod state;
mod title;

use std::collections::{HashMap, HashSet};

pub use options::{
    Bases, CacheUse, DateSource, Entitlements, LowerError, LowerOptions, Lowered, NamedContext, ResolveImage, StageUse,
};
pub use outline::{Outline, OutlineArg, OutlineMount};
use rbuild_core::{Platform, Span};
use rbuild_image::ImageConfig;
use rbuild_solver::graph::{Graph, Output};

use crate::Diagnostic;
use crate::ast::{Dockerfile, Kind};
use globals::Globals;
use images::Images;
use notes::Notes;
use outline::Sketch;
use plan::{Plan, Use};
use stage::Built;

/// Turns a Dockerfile into a build graph.
///
/// # Errors
/// If the file or the options are wrong, or an image cannot be resolved.
pub async fn lower<R: ResolveImage>(
    file: &Dockerfile,
    options: &LowerOptions,
    images: &R,
) -> Result<Lowered, LowerError<R::Error>>
where
    R::Error: std::error::Error + 'static,
{
    let mut notes = Notes::new(file);
    let mut globals = Globals::new(file, options, &mut notes);
    let dated = date::resolve(file, options, &mut globals, images, &mut notes).await?;
    let options = dated.as_ref().unwrap_or(options);
    let mut plan = Plan::new(file, options, &globals, &mut notes);
    let target = plan.target(options);
    let (Some(target), false) = (notes.take(target), notes.is_wrong()) else {
        return Err(LowerError::Mistakes(notes.finish().0));
    };
    let wanted = match options.stages {
        StageUse::Needed => vec![target],
        StageUse::All => (0..plan.stages.len()).collect(),
    };
    let needs = images::needs(&mut plan, wanted, &options.platform, images, &mut notes).await?;
    globals::unused(options, &declared(file, &globals), &mut notes);
    control::unsupported(options, &mut notes);
    let mut lowering = Lowering {
        options,
        escape: file.directives.escape,
        proxies: globals::proxies(options),
        hostname: control::hostname(options),
        cache_namespace: control::cache_namespace(options),
        globals: &globals,
        plan: &plan,
        images: &needs.images,
        notes,
        graph: Graph::new(),
        built: plan.stages.iter().map(|_| None).collect(),
        uses: plan.uses(target, &needs.stages),
        written: 0,
        image_vertices: HashMap::new(),
        scratch: None,
        refuted: Vec::new(),
        sketch: Sketch::default(),
        uncertain: false,
    };
    for (index, _) in needs.stages.iter().enumerate().filter(|(_, needed)| **needed) {
        lowering.stage(index);
    }
    let sketch = std::mem::take(&mut lowering.sketch);
    let mut lowered = lowering.finish(target, needs.stages).map_err(LowerError::Mistakes)?;
    lowered.outline = sketch.finish(file, &globals, &lowered.needed, plan.stages[target].stage);
    lowered.unneeded = unneeded(file, &lowered.needed);
    lowered.refuted.sort();
    Ok(lowered)
}

/// The work in progress.
struct Lowering<'a> {
    options: &'a LowerOptions,
    escape: char,
    globals: &'a Globals,
    plan: &'a Plan<'a>,
    images: &'a Images,
    proxies: Vec<(String, String)>,
    hostname: String,
    cache_namespace: Option<String>,
    notes: Notes<'a>,
    graph: Graph,
    built: Vec<Option<Built>>,
    uses: Vec<Use>,
    /// Bytes of history entries so far, kept or not.
    written: usize,
    image_vertices: HashMap<(String, Platform), Output>,
    scratch: Option<Output>,
    /// Places of shell forms whose shell the base image chose.
    refuted: Vec<Span>,
    sketch: Sketch,
    /// The instruction at hand depends on something that is not known: whether it is right cannot be told.
    uncertain: bool,
}

impl Lowering<'_> {
    fn finish(self, target: usize, needed: Vec<bool>) -> Result<Lowered, Vec<Diagnostic>> {
        let config = self.target_config(target);
        let result = self.built[target].as_ref().expect("the target needs itself").root;
        let wrong = self.notes.is_wrong();
        let (mistakes, warnings) = self.notes.finish();
        if wrong {
            return Err(mistakes);
        }
        let Self { graph, globals, refuted, .. } = self;
        Ok(Lowered {
            graph,
            result,
            config,
            source_date_epoch: globals.epoch,
            target,
            needed,
            warnings,
            unneeded: Vec::new(),
            refuted,
            outline: Outline::default(),
        })
    }

    fn target_config(&self, target: usize) -> ImageConfig {
        let mut config = self.image_config(target);
        config.config.labels.extend(self.options.labels.clone());
        // An image for another platform than it was asked for keeps saying so.
        let (stage, wanted) = (&self.plan.stages[target].platform, &self.options.platform);
        let same = (&config.os, &config.architecture) == (&wanted.os, &wanted.arch);
        if config.os.is_empty() || (&config.os, &config.architecture) == (&stage.os, &stage.arch) {
            config.os.clone_from(&wanted.os);
            config.architecture.clone_from(&wanted.arch);
            if wanted.variant.is_some() || !same {
                config.variant.clone_from(&wanted.variant);
            }
        }
        config
    }
}

/// From each stage that is not built to the next one.
fn unneeded(file: &Dockerfile, needed: &[bool]) -> Vec<Span> {
    let start = |index: usize| file.stages.get(index).map_or(u32::MAX, |stage| stage.header.span.start);
    let unneeded = (0..file.stages.len()).filter(|index| !needed[*index]);
    unneeded.map(|index| Span::new(start(index), start(index + 1))).collect()
}

/// All names that some `ARG` of the file declares.
fn declared(file: &Dockerfile, globals: &Globals) -> HashSet<String> {
    let instructions = file.stages.iter().flat_map(|stage| &stage.instructions);
    let declarations = instructions.filter_map(|instruction| match &instruction.kind {
        Kind::Arg(arg) => Some(&arg.declarations),
        _ => None,
    });
    let names = declarations.flatten().map(|declaration| declaration.name.text.clone());
    names.chain(globals.declared.iter().cloned()).collect()
}
