//! What is wrong with a text, where, and what would help?
//!
//! Data only: the `cli` crate draws it. Spans count in the [`Source`](crate::Source) that was parsed.

use rbuild_core::Span;

use crate::rule::Rule;

/// Whether a build can go on.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// The text has no meaning here; nothing is built.
    Error,
    /// The text has a meaning, but likely not the one its author wanted.
    Warning,
}

/// A remark on one place of a source.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// The remark; empty when marking the place says enough.
    pub text: String,
}

/// One mistake, with everything needed to show it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The lint rule, by which `# check=skip=…` can silence a warning.
    pub rule: Option<Rule>,
    /// One line, lower case, without a period; instructions and values in backticks.
    pub message: String,
    /// The place the message is about.
    pub primary: Label,
    /// Other places that matter, such as an earlier definition.
    pub secondary: Vec<Label>,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// A mistake that stops the build.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            rule: None,
            message: message.into(),
            primary: Label { span, text: String::new() },
            secondary: Vec::new(),
            hint: None,
        }
    }

    /// A lint under the name users know it by.
    pub fn warning(rule: Rule, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, rule: Some(rule), ..Self::error(span, message) }
    }

    /// Adds words at the primary place.
    #[must_use]
    pub fn label(mut self, text: impl Into<String>) -> Self {
        self.primary.text = text.into();
        self
    }

    /// Adds another place.
    #[must_use]
    pub fn and(mut self, span: Span, text: impl Into<String>) -> Self {
        self.secondary.push(Label { span, text: text.into() });
        self
    }

    /// Adds advice.
    #[must_use]
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        self.hint = Some(text.into());
        self
    }

    /// Adds advice if there is some.
    #[must_use]
    pub fn hint_if(mut self, text: Option<String>) -> Self {
        self.hint = text.or(self.hint);
        self
    }

    /// Where the message is about.
    pub fn span(&self) -> Span {
        self.primary.span
    }
}
