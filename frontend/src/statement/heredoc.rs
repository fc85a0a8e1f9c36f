//! Which here-documents does a line open?

use rbuild_core::Span;

use super::Place;
use crate::ast::Heredoc;
use crate::diagnostic::Diagnostic;
use crate::grammar::{Grammar, Pair, Parser as _, Rule as Syntax};
use crate::lines::Body;
use crate::source::Source;

/// `<<NAME` and its variants.
#[derive(Debug)]
pub(super) struct Opener {
    pub(super) name: String,
    pub(super) strip_tabs: bool,
    pub(super) span: Span,
    /// Whether blanks stand between `<<` and the name.
    blank: bool,
    descriptor: Option<u32>,
    expand: bool,
}

impl Opener {
    pub(super) fn with_body(self, found: Body, source: &Source) -> Heredoc {
        Heredoc {
            name: self.name,
            descriptor: self.descriptor,
            expand: self.expand,
            strip_tabs: self.strip_tabs,
            body: source.slice(found.body).to_owned(),
            raw: source.is_odd(found.body).then(|| source.bytes(found.body)),
            span: self.span,
            body_span: found.body,
            terminator_span: found.terminator,
        }
    }
}

impl Opener {
    /// The mistake of having no end, with the line that may have been meant to be it.
    pub(super) fn unterminated(&self, near: Option<Span>) -> Diagnostic {
        let name = &self.name;
        let error = Diagnostic::error(self.span, format!("unterminated heredoc `{name}`"))
            .label(format!("no line below is `{name}` and nothing else"));
        match near {
            Some(near) => error
                .and(near, "this line has more than the name on it")
                .hint("the line that ends a here-document has no blanks before or after the name"),
            None if self.blank => error.hint("where `<<` opens no here-document, write it without blanks around it"),
            None => error.hint(format!("put `{name}` on a line of its own below the text")),
        }
    }
}

/// The openers of a line in order; `None` if a quote in it is open, and so nothing can be told.
pub(super) fn openers(text: &str, place: Place<'_>) -> Option<Vec<Opener>> {
    // This rule gets its text without the escape character in front.
    let place = Place { prefix: 0, ..place };
    let heredocs = Grammar::parse(Syntax::heredocs, text).ok()?.next()?;
    let openers = heredocs.into_inner().filter(|pair| pair.as_rule() == Syntax::opener);
    Some(openers.filter_map(|pair| opener(pair, place)).collect())
}

fn opener(pair: Pair<'_>, place: Place<'_>) -> Option<Opener> {
    let span = place.span(&pair);
    let blank = pair.as_str().contains([' ', '\t', '\r']);
    let mut opener = Opener { name: String::new(), strip_tabs: false, blank, span, descriptor: None, expand: true };
    for part in pair.into_inner() {
        match part.as_rule() {
            Syntax::descriptor => opener.descriptor = part.as_str().parse().ok(),
            Syntax::strip => opener.strip_tabs = true,
            _ => {
                for piece in part.into_inner() {
                    let text = piece.as_str();
                    match piece.as_rule() {
                        Syntax::delimiter_double | Syntax::delimiter_single => {
                            opener.expand = false;
                            opener.name.push_str(&text[1..text.len() - 1]);
                        }
                        _ => opener.name.push_str(text),
                    }
                }
            }
        }
    }
    (!opener.name.is_empty()).then_some(opener)
}
