//! What does an `ONBUILD` leave for those who build on the image?

use super::{Place, Walker, logical};
use crate::ast::{Header, Instruction, Onbuild, Word};
use crate::diagnostic::Diagnostic;
use crate::grammar::{Pair, Rule as Syntax};
use rbuild_core::Span;

impl Walker<'_> {
    pub(super) fn onbuild(&mut self, trigger: Option<Pair<'_>>) -> Option<Onbuild> {
        let Some(line) = trigger else {
            return self.missing("`ONBUILD` requires at least one argument".to_owned(), "ONBUILD");
        };
        let text = format!("{}{}", self.escape, line.as_str());
        let base = self.place.base + line.as_span().start() - self.place.prefix;
        let span = self.place.span(&line);
        let pair = logical(&text, span, self.sink)??;
        let place = Place { base, ..self.place };
        let heredocs = std::mem::take(&mut self.heredocs);
        let mut raw = line.as_str().to_owned();
        for heredoc in &heredocs {
            raw.extend(["\n", &heredoc.body, &heredoc.name]);
        }
        let end = heredocs.last().map_or(span.end, |last| last.terminator_span.end);
        let mut walker = Walker { place, escape: self.escape, span, heredocs, sink: self.sink };
        let keyword = walker.keyword(&pair);
        let refused = match pair.as_rule() {
            Syntax::onbuild => Some((
                "chaining `ONBUILD ONBUILD` is not allowed",
                "write `ONBUILD` once: a trigger runs in images built on this one",
            )),
            Syntax::from => Some((
                "`FROM` is not allowed as an `ONBUILD` trigger",
                "remove the line: triggers run behind the `FROM` of whoever builds on this image",
            )),
            Syntax::maintainer => Some((
                "`MAINTAINER` is not allowed as an `ONBUILD` trigger",
                "write `ONBUILD LABEL org.opencontainers.image.authors=\"…\"`",
            )),
            _ => None,
        };
        if let Some((message, hint)) = refused {
            return walker.fail(Diagnostic::error(keyword.span, message).hint(hint));
        }
        let header =
            Header { span: Span::new(span.start, end), text: line.as_str().to_owned(), keyword, comments: Vec::new() };
        let kind = walker.checked(pair, &header)?;
        let trigger = Word { text: raw, span: header.span };
        Some(Onbuild { trigger, instruction: Box::new(Instruction { header, kind }) })
    }
}
