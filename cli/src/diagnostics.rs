//! How is a mistake shown?
//!
//! A mistake in a Dockerfile is shown with the lines it is on, everything else as a chain of causes:
//!
//! ```text
//! error: `COPY --from=biulder` names no stage      error: cannot open the store `/var/lib/rbuild`
//!  --> Dockerfile:7:13                             caused by: Permission denied (os error 13)
//!   |                                              hint: choose another directory with `--root`
//! 7 | COPY --from=biulder /out /out
//!   |             ^^^^^^^
//! ```

use std::error::Error;
use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use rbuild_core::Span;
use rbuild_frontend::{Diagnostic, Label, Severity, Source};

/// After this many of a kind the rest is only counted: what comes of a file that is no Dockerfile is of no use.
const MOST: usize = 50;

/// Whether colours are wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Colour {
    /// Escape sequences for colours.
    Ansi,
    /// Nothing but text.
    Plain,
}

impl Colour {
    /// What a stream and the environment (`NO_COLOR`, `CLICOLOR_FORCE`) want.
    pub fn of(stream: &impl anstream::stream::RawStream) -> Self {
        match anstream::AutoStream::choice(stream) {
            anstream::ColorChoice::Never => Self::Plain,
            _ => Self::Ansi,
        }
    }
}

/// Every diagnostic with the lines it is about, errors last: there the reader looks first. Ends with a count where there are several.
pub fn render(source: &Source, diagnostics: &[Diagnostic], colour: Colour) -> String {
    let of = |severity| diagnostics.iter().filter(move |diagnostic| diagnostic.severity == severity);
    let mut text = String::new();
    for (severity, what) in [(Severity::Warning, "warning"), (Severity::Error, "error")] {
        for diagnostic in of(severity).take(MOST) {
            text.push_str(&one(source, diagnostic, colour));
            text.push_str("\n\n");
        }
        let count = of(severity).count();
        if count > 1 {
            let omitted = if count > MOST { format!(", {} of them not shown", count - MOST) } else { String::new() };
            text.push_str(&format!("{count} {what}s found{omitted}\n"));
        }
    }
    text
}

fn one(source: &Source, diagnostic: &Diagnostic, colour: Colour) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut title = level.primary_title(&diagnostic.message);
    if let Some(rule) = diagnostic.rule {
        title = title.id(rule.name());
    }
    let mut group = Group::with_title(title);
    // Only the lines from the first place to the last are handed over, so that many diagnostics on a long file do not
    // take quadratic time.
    let spans = || diagnostic.secondary.iter().chain([&diagnostic.primary]).map(|label| label.span);
    let excerpt = Excerpt::around(source, spans());
    let mut snippet = Snippet::source(excerpt.text).line_start(excerpt.first_line).path(source.name());
    snippet = snippet.annotation(excerpt.annotation(AnnotationKind::Primary, &diagnostic.primary));
    for label in &diagnostic.secondary {
        snippet = snippet.annotation(excerpt.annotation(AnnotationKind::Context, label));
    }
    group = group.element(snippet);
    let hint = diagnostic.hint.as_deref().map(|hint| Level::HELP.with_name("hint").message(hint));
    if let Some(hint) = hint {
        group = group.element(hint);
    }
    let renderer = match colour {
        Colour::Ansi => Renderer::styled(),
        Colour::Plain => Renderer::plain(),
    };
    renderer.render(&[group])
}

/// Whole lines of a source.
struct Excerpt<'a> {
    text: &'a str,
    start: usize,
    first_line: usize,
}

impl<'a> Excerpt<'a> {
    fn around(source: &'a Source, spans: impl Iterator<Item = Span>) -> Self {
        let span = spans.reduce(Span::to).unwrap_or_default();
        let (first_line, last_line) = source.lines(span);
        let line = |number| source.line(number).unwrap_or_default().range();
        let (start, end) = (line(first_line).start, line(last_line).end);
        Self { text: source.text().get(start..end).unwrap_or(""), start, first_line }
    }

    fn annotation(&self, kind: AnnotationKind, label: &'a Label) -> Annotation<'a> {
        let annotation = kind.span(self.clamp(label.span));
        if label.text.is_empty() { annotation } else { annotation.label(label.text.as_str()) }
    }

    /// The part of a span that is text of the excerpt, so that no span can make the renderer panic.
    fn clamp(&self, span: Span) -> Range<usize> {
        let inside = |offset: usize| {
            let offset = offset.saturating_sub(self.start).min(self.text.len());
            (0..=offset).rev().find(|at| self.text.is_char_boundary(*at)).unwrap_or(0)
        };
        let Range { start, end } = span.range();
        inside(start)..inside(end.max(start))
    }
}

/// An error, its causes and what can be done about it. Causes that say what the line above said already are left out.
pub fn chain(error: &dyn Error, hint: Option<&str>, colour: Colour) -> String {
    let (red, cyan, off) = match colour {
        Colour::Ansi => ("\x1b[1;31m", "\x1b[1;36m", "\x1b[0m"),
        Colour::Plain => ("", "", ""),
    };
    let mut last = error.to_string();
    let mut text = format!("{red}error{off}: {last}\n");
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !last.ends_with(&message) {
            text.push_str(&format!("caused by: {message}\n"));
            last = message;
        }
        cause = error.source();
    }
    if let Some(hint) = hint {
        text.push_str(&format!("{cyan}hint{off}: {hint}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use rbuild_frontend::rule::Rule;

    use super::*;

    fn span(source: &Source, text: &str) -> Span {
        let start = source.text().find(text).unwrap();
        Span::new(start as u32, (start + text.len()) as u32)
    }

    #[test]
    fn a015_diagnostics_show_their_lines() {
        let text = "FROM debian AS builder\nRUN make\n\nFROM debian\nCOPY --from=biulder /out /out\nCMD start\n";
        let source = Source::new("docker/Dockerfile", text);
        let error = Diagnostic::error(span(&source, "biulder"), "`COPY --from=biulder` names no stage")
            .and(span(&source, "builder"), "a stage with a similar name")
            .hint("did you mean `builder`?");
        let warning = Diagnostic::warning(
            Rule::JSONArgsRecommended,
            span(&source, "CMD start"),
            "`CMD` in shell form does not pass signals on",
        );
        insta::assert_snapshot!(render(&source, &[error, warning], Colour::Plain), @"
        warning[JSONArgsRecommended]: `CMD` in shell form does not pass signals on
         --> docker/Dockerfile:6:1
          |
        6 | CMD start
          | ^^^^^^^^^

        error: `COPY --from=biulder` names no stage
         --> docker/Dockerfile:5:13
          |
        1 | FROM debian AS builder
          |                ------- a stage with a similar name
        ...
        5 | COPY --from=biulder /out /out
          |             ^^^^^^^
          |
          = hint: did you mean `builder`?
        ");
    }

    #[test]
    fn spans_may_be_empty_reversed_or_outside() {
        let source = Source::new("Dockerfile", "FROM é\n");
        for (start, end) in [(0, 0), (6, 6), (6, 7), (8, 8), (7, 3), (99, 100), (0, u32::MAX), (u32::MAX, 0)] {
            let text = one(&source, &Diagnostic::error(Span::new(start, end), "wrong"), Colour::Plain);
            assert!(text.contains("--> Dockerfile:"), "{text}");
        }
        let empty = Source::new("Dockerfile", "");
        let text = render(&empty, &[Diagnostic::error(Span::new(0, 0), "there is no instruction")], Colour::Plain);
        insta::assert_snapshot!(text, @"
        error: there is no instruction
         --> Dockerfile:1:1
          |
        1 |
          | ^
        ");
    }

    #[test]
    fn more_errors_than_anyone_reads_are_counted() {
        let source = Source::new("Dockerfile", "x\n".repeat(1000));
        let errors: Vec<_> =
            (0..1000).map(|line| Diagnostic::error(Span::new(line * 2, line * 2 + 1), "wrong")).collect();
        let text = render(&source, &errors, Colour::Plain);
        assert_eq!(text.matches("error: wrong").count(), MOST);
        assert!(text.ends_with("1000 errors found, 950 of them not shown\n"), "{text}");
    }

    #[test]
    fn causes_are_chained() {
        let error = anyhow::anyhow!("permission denied")
            .context("cannot read `x`: permission denied")
            .context("cannot open the store");
        insta::assert_snapshot!(chain(error.as_ref(), Some("choose another directory with `--root`"), Colour::Plain), @"
        error: cannot open the store
        caused by: cannot read `x`: permission denied
        hint: choose another directory with `--root`
        ");
    }
}
