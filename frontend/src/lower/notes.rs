//! What was found wrong on the way?

use rbuild_core::Span;

use crate::Diagnostic;
use crate::ast::{Dockerfile, Instruction};
use crate::rule::Rule;

const SUGGESTIONS: usize = 50;

/// Mistakes and warnings in the order they were found.
#[derive(Debug)]
pub(super) struct Notes<'file> {
    file: &'file Dockerfile,
    trigger: Option<Place>,
    mistakes: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

/// Stands in for places in text that is not in the file: triggers of a base image.
#[derive(Clone, Debug)]
struct Place {
    span: Span,
    trigger: String,
}

impl<'file> Notes<'file> {
    pub(super) fn new(file: &'file Dockerfile) -> Self {
        Self { file, trigger: None, mistakes: Vec::new(), warnings: Vec::new() }
    }

    /// From now on everything is about `trigger`, which `span` brought in; until [`Notes::leave_trigger`].
    pub(super) fn enter_trigger(&mut self, span: Span, trigger: &Instruction) {
        self.trigger = Some(Place { span, trigger: trigger.header.text.clone() });
    }

    pub(super) fn leave_trigger(&mut self) {
        self.trigger = None;
    }

    pub(super) fn mistake(&mut self, mistake: Diagnostic) {
        let mistake = self.placed(mistake);
        self.mistakes.push(mistake);
    }

    /// Notes a failure and goes on without its result.
    pub(super) fn take<T>(&mut self, result: Result<T, Diagnostic>) -> Option<T> {
        result.map_err(|mistake| self.mistake(mistake)).ok()
    }

    /// Notes a warning, unless the file or the instruction silences its rule.
    pub(super) fn warn(&mut self, warning: Diagnostic) {
        let warning = self.placed(warning);
        if warning.rule.is_none_or(|rule| self.file.wants(rule, warning.span())) {
            self.warnings.push(warning);
        }
    }

    /// A place in the warnings, for [`Notes::only_undefined`].
    pub(super) fn mark(&self) -> usize {
        self.warnings.len()
    }

    /// Of the warnings since a mark keeps those about variables: the others depend on them.
    pub(super) fn only_undefined(&mut self, mark: usize) {
        let since = self.warnings.split_off(mark);
        self.warnings.extend(since.into_iter().filter(|warning| warning.rule == Some(Rule::UndefinedVar)));
    }

    /// Whether so much was found that suggestions, which compare with every known name, are no longer worth their time.
    pub(super) fn is_long(&self) -> bool {
        self.warnings.len() >= SUGGESTIONS
    }

    /// How many mistakes there are so far.
    pub(super) fn mistakes(&self) -> usize {
        self.mistakes.len()
    }

    pub(super) fn is_wrong(&self) -> bool {
        !self.mistakes.is_empty()
    }

    /// Mistakes and warnings, each in the order of the file.
    pub(super) fn finish(mut self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        self.mistakes.sort_by_key(Diagnostic::span);
        self.warnings.sort_by_key(Diagnostic::span);
        (self.mistakes, self.warnings)
    }

    fn placed(&self, mut diagnostic: Diagnostic) -> Diagnostic {
        if let Some(place) = &self.trigger {
            diagnostic.primary.span = place.span;
            diagnostic.secondary.clear();
            diagnostic.primary.text = format!("the base image brings in `{}`", place.trigger);
        }
        diagnostic
    }
}
