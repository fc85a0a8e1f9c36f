//! Does everything that says where it is, say so truly?
//!
//! The cli's renderer slices the source by these spans and panics if they are outside of it or cut a character.

use rbuild_frontend::{Diagnostic, Source, Span};

/// # Panics
/// If the span is not one of the text.
pub fn inside(source: &Source, span: Span, what: &dyn std::fmt::Debug) {
    assert!(span.start <= span.end, "{span:?} is backwards: {what:?}");
    assert!(source.text().get(span.range()).is_some(), "{span:?} is outside, or cuts a character: {what:?}");
    // What the renderer asks next.
    let (first, last) = source.lines(span);
    assert!(first <= last, "{span:?} is on the lines {first} to {last}: {what:?}");
    assert!(source.line(last).is_some() || source.text().is_empty(), "there is no line {last}: {what:?}");
}

/// # Panics
/// If a diagnostic cannot be drawn over this source.
pub fn drawable(source: &Source, diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        assert!(!diagnostic.message.is_empty(), "no message: {diagnostic:?}");
        for label in std::iter::once(&diagnostic.primary).chain(&diagnostic.secondary) {
            inside(source, label.span, diagnostic);
        }
    }
}
