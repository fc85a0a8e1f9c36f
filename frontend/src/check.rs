//! What in a file builds, but should be looked at?
//!
//! The rules that need nothing but the syntax tree; those that need values, images or the build context are reported by
//! [`lower`](crate::lower()) under the same names. `# check=skip=…` silences rules for a file, or, right above an
//! instruction, for that instruction.

use rbuild_core::Span;

use crate::ast::{Dockerfile, Header, Instruction, Stage};
use crate::diagnostic::Diagnostic;
use crate::directives::comment_checks;
use crate::rule::Rule;

mod casing;
mod from;
mod instructions;

/// All that the syntax tree has to say, the warnings of [`parse`](crate::parse()) included, in the order of places.
pub fn check(file: &Dockerfile) -> Vec<Diagnostic> {
    let mut found = file.warnings.clone();
    casing::check(file, &mut found);
    from::check(file, &mut found);
    instructions::check(file, &mut found);
    found.retain(|diagnostic| diagnostic.rule.is_none_or(|rule| file.wants(rule, diagnostic.span())));
    found.sort_by_key(|diagnostic| diagnostic.span().start);
    found
}

impl Dockerfile {
    /// Whether findings of a rule at a place are wanted: neither the file nor the instruction there skips the rule.
    pub fn wants(&self, rule: Rule, place: Span) -> bool {
        let comments = self.header_at(place).map_or(&[][..], |header| &header.comments);
        self.directives.check.wants(rule)
            && !comments.iter().filter_map(comment_checks).any(|options| options.skip.contains(rule))
    }

    /// The instruction that a place lies in.
    fn header_at(&self, place: Span) -> Option<&Header> {
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

/// The earlier stage that a `FROM` continues, found as builds find it: by its exact lower-case name.
fn parent(file: &Dockerfile, index: usize) -> Option<(usize, &Stage)> {
    let image = &file.stages[index].from.image.text;
    let named = |stage: &Stage| stage.from.name.as_ref().is_some_and(|name| name.name == *image);
    file.stages[..index].iter().enumerate().rev().find(|(_, stage)| named(stage))
}

/// Whether something holds at the start of each stage because an instruction of an earlier stage made it so.
fn inherited(file: &Dockerfile, makes: impl Fn(&Instruction) -> bool) -> Vec<bool> {
    let mut after: Vec<bool> = Vec::new();
    let mut before = Vec::new();
    for (index, stage) in file.stages.iter().enumerate() {
        let start = parent(file, index).is_some_and(|(parent, _)| after[parent]);
        before.push(start);
        after.push(start || stage.instructions.iter().any(&makes));
    }
    before
}

#[cfg(test)]
mod tests;
