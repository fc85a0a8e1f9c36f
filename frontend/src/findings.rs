//! Where do mistakes go while a file is read?
//!
//! Into one list with an end: a file that is no Dockerfile at all has a mistake on every line, and nobody reads past the
//! first few.

use rbuild_core::Span;

use crate::diagnostic::{Diagnostic, Severity};

/// So many errors are kept.
const ERRORS: usize = 200;

/// So many warnings are kept.
const WARNINGS: usize = 10_000;

/// Errors and warnings found so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    kept: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
    /// The first error that was not kept.
    dropped: Option<Span>,
    foreign: bool,
}

impl Findings {
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        let (count, most) = match diagnostic.severity {
            Severity::Error => (&mut self.errors, ERRORS),
            Severity::Warning => (&mut self.warnings, WARNINGS),
        };
        *count += 1;
        if *count <= most {
            self.kept.push(diagnostic);
        } else if diagnostic.severity == Severity::Error {
            self.dropped.get_or_insert(diagnostic.span());
        }
    }

    /// Errors so far, those that were not kept among them.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// Notes that the text is in another language.
    pub(crate) fn set_foreign(&mut self) {
        self.foreign = true;
    }

    /// Whether the text is in another language, of which nothing more can be said.
    pub(crate) fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// Whether reading on finds nothing that would be kept.
    pub(crate) fn is_full(&self) -> bool {
        self.dropped.is_some()
    }

    /// A place in the list, for [`Findings::since`].
    pub(crate) fn mark(&self) -> usize {
        self.kept.len()
    }

    /// What was kept since a mark.
    pub(crate) fn since(&mut self, mark: usize) -> &mut [Diagnostic] {
        &mut self.kept[mark..]
    }

    /// Everything in the order of places; `Err` if there are errors.
    pub(crate) fn finish(mut self) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        self.kept.sort_by_key(|diagnostic| diagnostic.span().start);
        if let Some(span) = self.dropped {
            let message = format!("there are more than {ERRORS} mistakes, the rest is not shown");
            self.kept.push(Diagnostic::error(span, message).hint("is this file a Dockerfile?"));
        }
        if self.errors > 0 { Err(self.kept) } else { Ok(self.kept) }
    }
}
