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

/// One replacement in a source.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Edit {
    /// What goes; empty to insert something in front of its start.
    pub span: Span,
    /// What comes in its place.
    pub text: String,
}

/// A repair that needs no decision: all of its edits or none. They are in order and touch nothing twice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fix {
    /// At least one.
    pub edits: Vec<Edit>,
}

impl Fix {
    /// Puts one text in the place of another.
    pub fn replace(span: Span, text: impl Into<String>) -> Self {
        Self { edits: vec![Edit { span, text: text.into() }] }
    }

    /// Adds an edit behind the others.
    #[must_use]
    pub fn and(mut self, span: Span, text: impl Into<String>) -> Self {
        self.edits.push(Edit { span, text: text.into() });
        self
    }
}

/// One mistake, with everything needed to show it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The lint rule, by which `# check=skip=…` can silence a warning. Errors that have one are about the same thing.
    pub rule: Option<Rule>,
    /// One line, lower case, without a period; instructions and values in backticks.
    pub message: String,
    /// The place the message is about.
    pub primary: Label,
    /// Other places that matter, such as an earlier definition.
    pub secondary: Vec<Label>,
    /// What to write instead.
    pub hint: Option<String>,
    /// The same for machines, where that is beyond doubt. Boxed, as few have one.
    pub fix: Option<Box<Fix>>,
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
            fix: None,
        }
    }

    /// A lint under the name users know it by.
    pub fn warning(rule: Rule, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, rule: Some(rule), ..Self::error(span, message) }
    }

    /// Says which rule's subject an error is.
    #[must_use]
    pub(crate) fn about(mut self, rule: Rule) -> Self {
        self.rule = Some(rule);
        self
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

    /// Adds a repair if there is one.
    #[must_use]
    pub fn fix_if(mut self, fix: Option<Fix>) -> Self {
        self.fix = fix.map(Box::new).or(self.fix);
        self
    }

    /// Where the message is about.
    pub fn span(&self) -> Span {
        self.primary.span
    }
}
