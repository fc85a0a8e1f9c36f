//! Are there bytes in the instructions that are no text?

use rbuild_core::Span;

use crate::ast::Dockerfile;
use crate::diagnostic::Diagnostic;
use crate::findings::Findings;
use crate::rule::Rule;
use crate::source::Source;

/// A file that is not text at all has them everywhere.
const MOST: usize = 20;

pub(super) fn check(source: &Source, file: &Dockerfile, found: &mut Findings) {
    for span in source.odd_places().filter(|span| file.header_at(*span).is_some()).take(MOST) {
        let bytes: Vec<_> = source.bytes(span).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let message = format!("bytes that are no UTF-8: {}", bytes.join(" "));
        found.push(
            Diagnostic::warning(Rule::InvalidUtf8, span, message)
                .hint("save the Dockerfile as UTF-8; only files made of here-documents keep such bytes"),
        );
    }
    for (at, nul) in source.text().match_indices('\0').take(MOST) {
        let span = Span::new(at as u32, (at + nul.len()) as u32);
        if file.header_at(span).is_some() {
            let message = "a NUL byte ends texts early: no command line and no variable can hold it";
            found.push(Diagnostic::warning(Rule::NulByte, span, message).hint("was the Dockerfile saved as UTF-16?"));
        }
    }
}
