//! What in a file builds, but should be looked at?
//!
//! The rules that need nothing but the syntax tree; those that need values, images or the build context are reported by
//! [`lower`](crate::lower()) under the same names. `# check=skip=…` silences rules for a file, or, right above an
//! instruction, for that instruction.

use std::collections::HashMap;

use rbuild_core::Span;

use crate::ast::{Dockerfile, Header, Instruction};
use crate::diagnostic::Diagnostic;
use crate::directives::{comment_checks, comment_remarks};
use crate::findings::Findings;
use crate::rule::Rule;

mod casing;
mod from;
mod instructions;
mod unfinished;

/// All that the syntax tree has to say, the warnings of [`parse`](crate::parse()) included, in the order of places.
pub fn check(file: &Dockerfile) -> Vec<Diagnostic> {
    let mut found = Findings::default();
    file.warnings.iter().for_each(|warning| found.push(warning.clone()));
    let parents = parents(file);
    casing::check(file, &mut found);
    from::check(file, &parents, &mut found);
    instructions::check(file, &parents, &mut found);
    unfinished::check(file, &mut found);
    let globals = file.global_args.iter().map(|instruction| &instruction.header);
    let stages = file.stages.iter().flat_map(|stage| {
        std::iter::once(&stage.header).chain(stage.instructions.iter().map(|instruction| &instruction.header))
    });
    for comment in globals.chain(stages).flat_map(|header| &header.comments) {
        comment_remarks(comment, &mut found);
    }
    finish(file, found)
}

/// The same of a file with mistakes: only what one instruction shows by itself, as others may be missing.
pub(crate) fn check_each(file: &Dockerfile) -> Vec<Diagnostic> {
    let mut found = Findings::default();
    file.warnings.iter().for_each(|warning| found.push(warning.clone()));
    casing::names(file, &mut found);
    from::descriptions(file, &mut found);
    instructions::check_each(file, &mut found);
    finish(file, found)
}

fn finish(file: &Dockerfile, found: Findings) -> Vec<Diagnostic> {
    let mut found = found.finish().unwrap_or_else(|warnings| warnings);
    found.retain(|diagnostic| diagnostic.rule.is_none_or(|rule| file.wants(rule, diagnostic.span())));
    found
}

impl Dockerfile {
    /// Whether findings of a rule at a place are wanted, by what the file and the comments above the instruction say.
    pub fn wants(&self, rule: Rule, place: Span) -> bool {
        let comments =
            self.header_at(place).or_else(|| self.header_below(place)).map_or(&[][..], |header| &header.comments);
        let mut wanted = self.directives.check.wants(rule);
        for options in comments.iter().filter_map(comment_checks) {
            if rule.is_experimental() {
                wanted |= options.experimental.contains(rule);
            }
            wanted &= options.wants_besides(rule);
        }
        wanted
    }

    /// The instruction whose comments a place lies in.
    fn header_below(&self, place: Span) -> Option<&Header> {
        let stage = self.stages.partition_point(|stage| stage.header.span.start <= place.start);
        let instructions = match stage.checked_sub(1) {
            Some(stage) => &self.stages[stage].instructions,
            None => &self.global_args,
        };
        let at = instructions.partition_point(|instruction| instruction.header.span.start <= place.start);
        let below = instructions.get(at).map(|instruction| &instruction.header);
        let below = below.or_else(|| self.stages.get(stage).map(|stage| &stage.header))?;
        below.comments.first().is_some_and(|first| first.span.start <= place.start).then_some(below)
    }

    /// The instruction that a place lies in.
    pub(crate) fn header_at(&self, place: Span) -> Option<&Header> {
        let stage = self.stages.partition_point(|stage| stage.header.span.start <= place.start).checked_sub(1);
        let (first, instructions) = match stage.map(|stage| &self.stages[stage]) {
            Some(stage) => (Some(&stage.header), &stage.instructions),
            None => (None, &self.global_args),
        };
        let at = instructions.partition_point(|instruction| instruction.header.span.start <= place.start);
        let header = at.checked_sub(1).map(|at| &instructions[at].header).or(first)?;
        (place.start <= header.span.end).then_some(header)
    }
}

/// For each stage the earlier one its `FROM` continues, found as builds find it: by its exact lower-case name.
fn parents(file: &Dockerfile) -> Vec<Option<usize>> {
    let mut named: HashMap<&str, usize> = HashMap::new();
    let mut parents = Vec::new();
    for (index, stage) in file.stages.iter().enumerate() {
        parents.push(named.get(stage.from.image.text.as_str()).copied());
        if let Some(name) = &stage.from.name {
            named.insert(&name.name, index);
        }
    }
    parents
}

/// Whether something holds at the start of each stage because an instruction of an earlier stage made it so.
fn inherited(file: &Dockerfile, parents: &[Option<usize>], makes: impl Fn(&Instruction) -> bool) -> Vec<bool> {
    let mut after: Vec<bool> = Vec::new();
    let mut before = Vec::new();
    for (stage, parent) in file.stages.iter().zip(parents) {
        let start = parent.is_some_and(|parent| after[parent]);
        before.push(start);
        after.push(start || stage.instructions.iter().any(&makes));
    }
    before
}

#[cfg(test)]
mod tests;
