//! What can be repaired without asking anybody?
//!
//! A [`Fix`] replaces pieces of the text and leaves every other byte alone. Most findings get theirs where they are made;
//! those that need more of the file than one instruction get it here ([`attach`]). [`repair`] carries fixes out until
//! there are none left, which takes a few rounds where two of them want the same place.
//!
//! What a fixed file means is what it meant before, but for the rules whose very point is another meaning: exec form
//! instead of shell form, a label instead of `MAINTAINER`, separate words where an odd space stood, comments that are
//! comments.

mod array;
mod comment;
mod rewrite;
mod spaces;
mod stage;

use std::collections::BTreeMap;

pub(crate) use self::array::{exec_form, mend as mend_array};
pub(crate) use self::comment::move_up as mend_comment;
pub(crate) use self::spaces::{mend as mend_spaces, mend_first as mend_first_space};
use rbuild_core::Span;

use crate::ast::{Dockerfile, Instruction, Kind, Stage};
use crate::diagnostic::{Diagnostic, Edit, Fix};
use crate::examine::Surroundings;
use crate::rule::Rule;
use crate::source::Source;
use crate::{check, parse_with};

/// More rounds than any file needs; bounds the work on what nobody thought of.
const ROUNDS: usize = 10;

/// What [`repair`] did.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// The text afterwards.
    pub source: Source,
    /// The messages of what was repaired, in the order it was done.
    pub done: Vec<Diagnostic>,
}

/// Gives the warnings of [`check`](crate::check()) their fixes, where there are any.
pub fn attach(source: &Source, file: &Dockerfile, found: &mut [Diagnostic]) {
    let mut names = None;
    let mut all = file.stages.iter().flat_map(|stage| &stage.instructions);
    let has_command = all.any(|instruction| match &instruction.kind {
        Kind::Cmd(_) => true,
        Kind::Onbuild(onbuild) => matches!(onbuild.instruction.kind, Kind::Cmd(_)),
        _ => false,
    });
    for diagnostic in found.iter_mut().filter(|diagnostic| diagnostic.fix.is_none()) {
        let fix = match (diagnostic.rule, file.node_at(diagnostic)) {
            (Some(Rule::StageNameCasing), Some(Node::Stage(stage))) => {
                let names = names.get_or_insert_with(|| stage::references(file));
                stage::lower_case(stage, names)
            }
            (Some(Rule::RedundantTargetPlatform), Some(Node::Stage(stage))) => rewrite::platform(source, stage),
            (Some(rule), Some(Node::Instruction(instruction))) => match (rule, &instruction.kind) {
                (Rule::JSONArgsRecommended, kind) => array::exec(kind, has_command, file.directives.escape),
                _ => of_instruction(source, file, rule, instruction, diagnostic.span()),
            },
            _ => None,
        };
        diagnostic.fix = fix.map(Box::new);
    }
}

fn of_instruction(
    source: &Source,
    file: &Dockerfile,
    rule: Rule,
    instruction: &Instruction,
    place: Span,
) -> Option<Fix> {
    let escape = file.directives.escape;
    match (rule, &instruction.kind) {
        (Rule::MaintainerDeprecated, Kind::Maintainer(author)) => {
            rewrite::maintainer(&instruction.header, author, escape)
        }
        (Rule::ExposeProtoCasing, Kind::Expose(words)) => {
            let at = words.binary_search_by_key(&place.start, |word| word.span.start).ok()?;
            rewrite::protocol(&words[at])
        }
        (Rule::LegacyKeyValueFormat, Kind::Env(pairs) | Kind::Label(pairs)) => {
            rewrite::legacy(source, &instruction.header, pairs.pairs.first()?, escape)
        }
        _ => None,
    }
}

/// What a finding is about.
enum Node<'file> {
    Stage(&'file Stage),
    Instruction(&'file Instruction),
}

impl Dockerfile {
    fn node_at(&self, diagnostic: &Diagnostic) -> Option<Node<'_>> {
        let place = diagnostic.span().start;
        let stage = self.stages.partition_point(|stage| stage.header.span.start <= place).checked_sub(1);
        let stage = &self.stages[stage?];
        let at = stage.instructions.partition_point(|instruction| instruction.header.span.start <= place);
        Some(match at.checked_sub(1) {
            Some(at) => Node::Instruction(&stage.instructions[at]),
            None => Node::Stage(stage),
        })
    }
}

/// Takes back the fixes that hold only without some build argument.
pub(crate) fn withhold(surroundings: &Surroundings, found: &mut [Diagnostic]) {
    if !matches!(surroundings.build_args.get("TARGETPLATFORM"), Some(Some(_))) {
        return;
    }
    for diagnostic in found.iter_mut().filter(|found| found.rule == Some(Rule::RedundantTargetPlatform)) {
        diagnostic.fix = None;
    }
}

/// Carries out the fixes of a file's mistakes and warnings. A file with mistakes that nobody can repair keeps them.
pub fn repair(source: &Source) -> Repaired {
    repair_with(source, &Surroundings::default())
}

/// The same, as far as the directives and build arguments a build is to have let it: what they silence is not repaired.
pub fn repair_with(source: &Source, surroundings: &Surroundings) -> Repaired {
    let mut repaired = Repaired { source: source.clone(), done: Vec::new() };
    for _ in 0..ROUNDS {
        let before = &repaired.source;
        let (found, sound) = match parse_with(before, &surroundings.overrides) {
            Ok(file) => {
                let mut found = check(&file);
                attach(before, &file, &mut found);
                withhold(surroundings, &mut found);
                (found, true)
            }
            Err(found) => (found, false),
        };
        let (edits, done) = choose(found);
        if done.is_empty() {
            break;
        }
        let after = before.edited(&edits);
        if sound && parse_with(&after, &surroundings.overrides).is_err() {
            // A fix that breaks a file is a mistake of ours; the file is better left as it is.
            break;
        }
        repaired.source = after;
        repaired.done.extend(done);
    }
    repaired
}

/// Fixes that do not get into each other's way, as one list of edits in order, and whose they are.
fn choose(found: Vec<Diagnostic>) -> (Vec<Edit>, Vec<Diagnostic>) {
    let mut found: Vec<_> = found.into_iter().filter(|diagnostic| diagnostic.fix.is_some()).collect();
    // A comment has to go before its text is made part of a value for good.
    found.sort_by_key(|diagnostic| diagnostic.rule != Some(Rule::TrailingComment));
    let mut taken = BTreeMap::new();
    let mut done = Vec::new();
    for diagnostic in found {
        let edits = diagnostic.fix.as_ref().map_or(&[][..], |fix| &fix.edits);
        if edits.iter().all(|edit| is_free(&taken, edit)) {
            taken.extend(edits.iter().map(|edit| (edit.span.start, edit.clone())));
            done.push(diagnostic);
        }
    }
    (taken.into_values().collect(), done)
}

/// Whether no edit touches the place of this one: of two that meet, it would matter which comes first.
fn is_free(taken: &BTreeMap<u32, Edit>, edit: &Edit) -> bool {
    let near = taken.range(..=edit.span.end).next_back();
    near.is_none_or(|(_, other)| other.span.end < edit.span.start)
}

#[cfg(test)]
mod tests;
