//! Which stages and images does the target need?
//!
//! Stages are followed from the target; images are asked for when the first stage that needs them turns up, all of one
//! round at a time. An image can bring in triggers, and triggers can need more stages and images: hence rounds.

use std::collections::{HashMap, HashSet};

use futures_util::future::join_all;
use rbuild_core::{Digest, Platform, Span};
use rbuild_image::ImageConfig;

use super::notes::Notes;
use super::options::{LowerError, ResolveImage};
use super::plan::{Plan, Provider, Step, Text, Trigger, froms};
use crate::ast::Kind;
use crate::{Diagnostic, Source, parse_trigger};

/// A resolved image.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) id: Digest,
    pub(super) config: ImageConfig,
}

/// All images that are needed, by the name they were asked for and their platform.
#[derive(Debug, Default)]
pub(super) struct Images {
    found: HashMap<(String, Platform), Image>,
}

impl Images {
    /// The image, unless it was never asked for.
    pub(super) fn find(&self, name: &str, platform: &Platform) -> Option<&Image> {
        self.found.get(&(name.to_owned(), platform.clone()))
    }

    /// Asks for all images that were not asked for before, at once.
    async fn resolve<R: ResolveImage>(
        &mut self,
        plan: &Plan<'_>,
        mut wanted: Vec<Wanted>,
        resolver: &R,
    ) -> Result<(), LowerError<R::Error>>
    where
        R::Error: std::error::Error + 'static,
    {
        let mut seen = HashSet::new();
        wanted.sort_by_key(|wanted| wanted.span);
        wanted.retain(|wanted| {
            let key = (wanted.name.clone(), wanted.platform.clone());
            !self.found.contains_key(&key) && seen.insert(key)
        });
        let answers = join_all(wanted.iter().map(|wanted| resolver.resolve(&wanted.name, &wanted.platform))).await;
        for (wanted, answer) in wanted.into_iter().zip(answers) {
            let Wanted { name, platform, span } = wanted;
            match answer {
                Ok((id, config)) => self.found.insert((name, platform), Image { id, config }),
                Err(source) => {
                    let hint = plan.suggest_for_image(&name, span);
                    return Err(LowerError::Image { name, platform: Box::new(platform), span, hint, source });
                }
            };
        }
        Ok(())
    }
}

/// An image to ask for, and the word that wants it.
struct Wanted {
    name: String,
    platform: Platform,
    span: Span,
}

/// What was found out about needs.
#[derive(Debug)]
pub(super) struct Needs {
    pub(super) images: Images,
    /// Per stage, whether the target needs it.
    pub(super) stages: Vec<bool>,
}

/// Follows the needs of the pending stages, resolves images, and puts triggers in front of the instructions of their stages.
pub(super) async fn needs<R: ResolveImage>(
    plan: &mut Plan<'_>,
    pending: Vec<usize>,
    target_platform: &Platform,
    resolver: &R,
    notes: &mut Notes<'_>,
) -> Result<Needs, LowerError<R::Error>>
where
    R::Error: std::error::Error + 'static,
{
    let mut walk = Walk { needs: vec![false; plan.stages.len()], pending, wanted: Vec::new() };
    let mut images = Images::default();
    loop {
        let new = walk.follow(plan, target_platform);
        images.resolve(plan, std::mem::take(&mut walk.wanted), resolver).await?;
        for index in new {
            let triggers = triggers(plan, index, &images, notes);
            for step in &triggers {
                walk.providers(plan, index, step, target_platform);
            }
            plan.stages[index].steps.splice(0..0, triggers);
        }
        if walk.pending.is_empty() && walk.wanted.is_empty() {
            return Ok(Needs { images, stages: walk.needs });
        }
    }
}

struct Walk {
    needs: Vec<bool>,
    pending: Vec<usize>,
    wanted: Vec<Wanted>,
}

impl Walk {
    /// Follows all pending stages and says which were new.
    fn follow(&mut self, plan: &Plan<'_>, target_platform: &Platform) -> Vec<usize> {
        let mut new = Vec::new();
        while let Some(index) = self.pending.pop() {
            if std::mem::replace(&mut self.needs[index], true) {
                continue;
            }
            new.push(index);
            let stage = &plan.stages[index];
            self.add(stage.provider.clone(), &stage.platform, stage.base_span());
            for step in &stage.steps {
                self.providers(plan, index, step, target_platform);
            }
        }
        new
    }

    fn providers(&mut self, plan: &Plan<'_>, index: usize, step: &Step<'_>, platform: &Platform) {
        for from in froms(&step.instruction) {
            let from_image = step.trigger == Trigger::Image;
            let span = if from_image { plan.stages[index].base_span() } else { from.span };
            // The mistake, if there is one, is noted when the instruction is lowered.
            if let Ok(provider) = plan.provider(&from, index) {
                self.add(provider, platform, span);
            }
        }
    }

    fn add(&mut self, provider: Provider, platform: &Platform, span: Span) {
        match provider {
            Provider::Stage(index) => self.pending.push(index),
            Provider::Image(name) => self.wanted.push(Wanted { name, platform: platform.clone(), span }),
            Provider::Nothing | Provider::Local(_) => {}
        }
    }
}

/// The triggers that run at the start of a stage: those of the image or of the stage it builds on.
fn triggers<'file>(plan: &Plan<'file>, index: usize, images: &Images, notes: &mut Notes<'_>) -> Vec<Step<'file>> {
    let stage = &plan.stages[index];
    if stage.replaced {
        return Vec::new();
    }
    match &stage.provider {
        Provider::Stage(base) if plan.stages[*base].replaced => Vec::new(),
        Provider::Stage(base) => {
            let instructions = plan.stages[*base].stage.instructions.iter();
            let triggers = instructions.filter_map(|instruction| match &instruction.kind {
                Kind::Onbuild(onbuild) => Some(&*onbuild.instruction),
                _ => None,
            });
            triggers.map(|trigger| Step { instruction: Text::File(trigger), trigger: Trigger::Stage }).collect()
        }
        Provider::Image(name) => {
            let texts = images.find(name, &stage.platform).map_or(&[][..], |image| &image.config.config.on_build);
            let mut steps = Vec::with_capacity(texts.len());
            for text in texts {
                match parse_trigger(&Source::new("trigger", text.as_str())) {
                    Ok(instruction) => {
                        let instruction = Text::Image(Box::new(instruction));
                        steps.push(Step { instruction, trigger: Trigger::Image });
                    }
                    Err(mistakes) => {
                        for mistake in mistakes {
                            let message = format!("trigger `{text}` of the base image: {}", mistake.message);
                            notes.mistake(Diagnostic::error(stage.base_span(), message).hint_if(mistake.hint));
                        }
                    }
                }
            }
            steps
        }
        Provider::Nothing | Provider::Local(_) => Vec::new(),
    }
}
