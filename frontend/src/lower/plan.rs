//! Which stages are there, and what does each of them start from?
//!
//! Everything that can be said before an image has been looked at: `FROM` lines with their variables replaced, stage
//! names, named contexts, and what a `--from` means.
//!
//! A name means, in this order: an earlier stage, a `--build-context`, an image. `FROM` compares names as they are
//! written with the lower-case names of stages; everything else ignores case.

mod names;

use std::collections::HashMap;
use std::ops::Deref;

use rbuild_core::{Platform, Span};
use rbuild_image::Reference;

use self::names::{bounded, familiar, meant, platform};
use super::globals::Globals;
use super::notes::Notes;
use super::options::{Bases, LowerOptions, NamedContext};
use crate::Diagnostic;
use crate::ast::{Dockerfile, Instruction, Kind, Stage, Word};
use crate::expand::Expanded;
use crate::mount;
use crate::suggest::did_you_mean;

/// Up to how many stages a wrong order is looked into; a search per mistake takes quadratic time.
const CYCLE_SEARCH: usize = 100;

/// Where files come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Provider {
    /// Nowhere: `scratch`.
    Nothing,
    /// A stage of this file.
    Stage(usize),
    /// An image, by what the resolver is to be asked for.
    Image(String),
    /// A directory, by the name of its context.
    Local(String),
}

/// What a stage is lowered for, the lesser first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Use {
    /// Files are copied from it, if anything.
    Files,
    /// Stages that the target copies from start where it ends.
    Base,
    /// It becomes part of the image: it is the target, or the target starts where it ends.
    Image,
}

/// One instruction and how it came into its stage.
#[derive(Clone, Debug)]
pub(super) struct Step<'file> {
    pub(super) instruction: Text<'file>,
    pub(super) trigger: Trigger,
}

/// Where the instruction of a step stands.
#[derive(Clone, Debug)]
pub(super) enum Text<'file> {
    File(&'file Instruction),
    /// In the configuration of a base image.
    Image(Box<Instruction>),
}

impl Deref for Text<'_> {
    type Target = Instruction;

    fn deref(&self) -> &Instruction {
        match self {
            Self::File(instruction) => instruction,
            Self::Image(instruction) => instruction,
        }
    }
}

/// Whether an instruction is an `ONBUILD` trigger.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Trigger {
    No,
    /// Of another stage: its text is in the file.
    Stage,
    /// Of a base image: its spans count in a text nobody sees.
    Image,
}

#[derive(Debug)]
pub(super) struct PlannedStage<'file> {
    pub(super) stage: &'file Stage,
    pub(super) provider: Provider,
    /// That of the stage below; of an image, `--platform` or else the target's.
    pub(super) platform: Platform,
    /// Triggers, then the stage's own instructions; none of its own if a named context stands in for the stage.
    pub(super) steps: Vec<Step<'file>>,
    /// Whether a named context stands in for the whole stage.
    pub(super) replaced: bool,
}

impl PlannedStage<'_> {
    /// The place and name of the `FROM`'s image.
    pub(super) fn base_span(&self) -> Span {
        self.stage.from.image.span
    }

    /// The stage it starts from.
    fn base(&self) -> Option<usize> {
        match self.provider {
            Provider::Stage(index) => Some(index),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Plan<'file> {
    pub(super) stages: Vec<PlannedStage<'file>>,
    /// Lower-case names to indices, ascending.
    names: HashMap<&'file str, Vec<usize>>,
    contexts: HashMap<String, (&'file str, &'file NamedContext)>,
}

impl<'file> Plan<'file> {
    pub(super) fn new(
        file: &'file Dockerfile,
        options: &'file LowerOptions,
        globals: &Globals,
        notes: &mut Notes<'_>,
    ) -> Self {
        let contexts = &options.named_contexts;
        let mut plan = Self {
            stages: Vec::with_capacity(file.stages.len()),
            names: HashMap::new(),
            contexts: contexts.iter().map(|(name, context)| (familiar(name), (name.as_str(), context))).collect(),
        };
        for (index, stage) in file.stages.iter().enumerate() {
            let planned = plan.stage(file, options, globals, stage, notes);
            plan.stages.push(planned);
            if let Some(name) = &stage.from.name {
                plan.names.entry(&name.name).or_default().push(index);
            }
        }
        plan
    }

    /// The stage to build.
    pub(super) fn target(&self, options: &LowerOptions) -> Result<usize, Diagnostic> {
        let Some(target) = options.target.as_deref().filter(|target| !target.is_empty()) else {
            return Ok(self.stages.len() - 1);
        };
        let found = self.names.get(target.to_lowercase().as_str()).and_then(|indices| indices.last().copied());
        found.ok_or_else(|| {
            let span = self.stages.last().map_or_else(Span::default, |stage| stage.stage.header.span);
            Diagnostic::error(span, format!("target stage `{target}` does not exist"))
                .hint_if(self.suggest(target).or_else(|| self.list_stages()))
        })
    }

    /// What a `--from` or `from=` of stage `current` means.
    pub(super) fn provider(&self, from: &Word, current: usize) -> Result<Provider, Diagnostic> {
        if let Ok(number) = from.text.parse::<usize>() {
            if number >= self.stages.len() {
                let count = self.stages.len();
                let message = format!("stage {number} does not exist: there are {count}, counted from 0");
                return Err(Diagnostic::error(from.span, message).hint(format!("the last one is {}", count - 1)));
            }
            return self.earlier(number, from, current);
        }
        let lower = from.text.to_lowercase();
        if let Some(indices) = self.names.get(lower.as_str()) {
            let before = indices.partition_point(|index| *index < current);
            let best = before.checked_sub(1).unwrap_or(before);
            return self.earlier(indices[best], from, current);
        }
        if let Some(provider) = self.context(&from.text, None) {
            return Ok(provider);
        }
        if lower == "scratch" {
            return Ok(Provider::Nothing);
        }
        match from.text.parse::<Reference>() {
            Ok(_) => Ok(Provider::Image(from.text.clone())),
            Err(error) => {
                Err(Diagnostic::error(from.span, format!("`{}` is no stage and no image: {error}", from.text))
                    .hint_if(self.suggest(&from.text).or_else(|| self.list_stages())))
            }
        }
    }

    /// What may have been meant by an image that is not there.
    pub(super) fn suggest_for_image(&self, name: &str, span: Span) -> Option<String> {
        if name.split([':', '@']).next() == Some("scratch") {
            return Some("write `FROM scratch`: it is no image and has no tags".to_owned());
        }
        let below = self.names.get(name.to_lowercase().as_str()).and_then(|indices| indices.first());
        let below = below.filter(|index| self.stages[**index].stage.header.span.start > span.start);
        match below {
            Some(_) => Some(format!("the stage `{name}` is defined below: move it above this line")),
            None => self.suggest(name),
        }
    }

    /// A stage name that may have been meant.
    pub(super) fn suggest(&self, name: &str) -> Option<String> {
        let lower = name.to_lowercase();
        let Some(indices) = self.names.get(lower.as_str()) else {
            return did_you_mean(name, self.names.keys().copied());
        };
        let stage = indices.first().and_then(|index| self.stages.get(*index))?;
        let written = stage.stage.from.name.as_ref().map_or("", |name| name.word.text.as_str());
        (lower != name).then(|| format!("to build on the stage `{written}` write its name in lower case: `{lower}`"))
    }

    fn list_stages(&self) -> Option<String> {
        let names: Vec<_> = self.stages.iter().filter_map(|stage| stage.stage.from.name.as_ref()).collect();
        let shown: Vec<_> = names.iter().take(8).map(|name| format!("`{}`", name.name)).collect();
        let more = if names.len() > shown.len() { ", …" } else { "" };
        (!shown.is_empty()).then(|| format!("the stages are {}{more}", shown.join(", ")))
    }

    fn earlier(&self, found: usize, from: &Word, current: usize) -> Result<Provider, Diagnostic> {
        if found < current {
            return Ok(Provider::Stage(found));
        }
        let defined = self.stages[found].stage.header.span;
        let name = &from.text;
        let (message, hint) = if found == current {
            (
                format!("circular dependency: the stage copies from itself as `{name}`"),
                "files of this stage are there already: `RUN cp` copies them",
            )
        } else if self.stages.len() <= CYCLE_SEARCH && self.needs(found, current) {
            (
                format!("circular dependency: stage `{name}` needs this stage itself"),
                "take one of the two dependencies away, or put what both need into a stage of its own",
            )
        } else {
            (
                format!("stage `{name}` is defined later, only earlier stages can be used"),
                "move the stage above the one that uses it",
            )
        };
        Err(Diagnostic::error(from.span, message).and(defined, "defined here").hint(hint))
    }

    /// Whether stage `start` needs stage `wanted`, directly or through others.
    fn needs(&self, start: usize, wanted: usize) -> bool {
        let mut seen = vec![false; self.stages.len()];
        let mut pending = vec![start];
        while let Some(index) = pending.pop() {
            if index == wanted {
                return true;
            }
            if std::mem::replace(&mut seen[index], true) {
                continue;
            }
            let stage = &self.stages[index];
            if let Provider::Stage(base) = stage.provider {
                pending.push(base);
            }
            for from in stage.steps.iter().flat_map(|step| froms(&step.instruction)) {
                let number = from.text.parse::<usize>().ok().filter(|number| *number < self.stages.len());
                pending.extend(number);
                pending.extend(self.names.get(from.text.to_lowercase().as_str()).into_iter().flatten());
            }
        }
        false
    }

    fn stage(
        &self,
        file: &'file Dockerfile,
        options: &'file LowerOptions,
        globals: &Globals,
        stage: &'file Stage,
        notes: &mut Notes<'_>,
    ) -> PlannedStage<'file> {
        let asked = stage.from.platform.as_ref();
        let asked = asked.and_then(|word| notes.take(platform(file, options, globals, word, notes.mistakes())));
        let wanted = asked.unwrap_or_else(|| options.platform.clone());
        let replacement = stage.from.name.as_ref().and_then(|name| self.context(&name.name, Some(&wanted)));
        if let Some(provider) = replacement {
            return PlannedStage { stage, provider, platform: wanted, steps: Vec::new(), replaced: true };
        }
        let base = self.base(file, options, globals, stage, &wanted, notes.mistakes());
        let provider = notes.take(base).unwrap_or(Provider::Nothing);
        let below = match provider {
            Provider::Stage(index) => Some(self.stages[index].platform.clone()),
            _ => None,
        };
        let steps = stage.instructions.iter();
        let steps = steps.map(|instruction| Step { instruction: Text::File(instruction), trigger: Trigger::No });
        // As in BuildKit, a stage is for what the stage below it is for, whatever it asks for.
        let platform = below.unwrap_or(wanted);
        PlannedStage { stage, provider, platform, steps: steps.collect(), replaced: false }
    }

    fn base(
        &self,
        file: &Dockerfile,
        options: &LowerOptions,
        globals: &Globals,
        stage: &Stage,
        platform: &Platform,
        mistakes: usize,
    ) -> Result<Provider, Diagnostic> {
        let word = &stage.from.image;
        let Expanded { value: text, undefined } = globals.expand(file.directives.escape, word)?;
        bounded(word, &text)?;
        // A build argument may be all that is missing.
        let is_unknown = options.bases == Bases::Unknown && word.text.contains('$');
        if is_unknown && text.is_empty() {
            return Ok(Provider::Image(word.text.clone()));
        }
        let meant = || meant(file, globals, &undefined, mistakes);
        if text.is_empty() {
            return Err(Diagnostic::error(word.span, format!("`{}` names no image: it expands to nothing", word.text))
                .hint("give the argument a default, or a value with `--build-arg`")
                .hint_if(meant()));
        }
        if text == "scratch" {
            return Ok(Provider::Nothing);
        }
        if let Some(index) = self.names.get(text.as_str()).and_then(|indices| indices.last()) {
            return Ok(Provider::Stage(*index));
        }
        if let Some(provider) = self.context(&text, Some(platform)) {
            return Ok(provider);
        }
        match text.parse::<Reference>() {
            Ok(_) => Ok(Provider::Image(text)),
            Err(_) if is_unknown => Ok(Provider::Image(text)),
            Err(error) => {
                let hint = meant().or_else(|| self.suggest(&text));
                Err(Diagnostic::error(word.span, format!("invalid image name: {error}"))
                    .hint("write it like `name`, `name:tag` or `registry.example/name:tag`")
                    .hint_if(hint))
            }
        }
    }

    /// For each stage, what the target `target` and what it needs will ask of it.
    pub(super) fn uses(&self, target: usize, needed: &[bool]) -> Vec<Use> {
        let mut uses = vec![Use::Files; self.stages.len()];
        let bases = self.stages.iter().zip(needed).filter(|(_, needed)| **needed);
        for base in bases.filter_map(|(stage, _)| stage.base()) {
            uses[base] = Use::Base;
        }
        let mut above = Some(target);
        while let Some(stage) = above {
            uses[stage] = Use::Image;
            above = self.stages[stage].base();
        }
        uses
    }

    /// What a named context puts in the place of `name`, for one platform or for all.
    fn context(&self, name: &str, platform: Option<&Platform>) -> Option<Provider> {
        if self.contexts.is_empty() || ["scratch", "context"].contains(&name.to_lowercase().as_str()) {
            return None;
        }
        let name = familiar(name);
        let special = platform.and_then(|platform| self.contexts.get(&format!("{name}::{platform}")));
        let (key, context) = special.or_else(|| self.contexts.get(&name))?;
        Some(match context {
            NamedContext::Local => Provider::Local((*key).to_owned()),
            NamedContext::Image(reference) => Provider::Image(reference.clone()),
            NamedContext::Nothing => Provider::Nothing,
        })
    }
}

/// The values of all `--from` and `from=` of an instruction.
pub(super) fn froms(instruction: &Instruction) -> Vec<Word> {
    match &instruction.kind {
        Kind::Copy(copy) => copy.from.iter().cloned().collect(),
        Kind::Run(run) => run.mounts.iter().filter_map(mount::from).collect(),
        _ => Vec::new(),
    }
}
