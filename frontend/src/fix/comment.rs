//! Where does a comment go that is none where it stands?

use rbuild_core::Span;

use crate::diagnostic::Fix;
use crate::directives;
use crate::source::Source;

/// Moves a comment at the end of an instruction of one line to a line of its own above it.
pub(crate) fn move_up(source: &Source, instruction: Span, comment: Span) -> Option<Fix> {
    let text = source.text();
    let line_start = text.get(..instruction.range().start)?.rfind('\n').map_or(0, |feed| feed + 1);
    let indent = text.get(line_start..instruction.range().start)?;
    let line = text.get(line_start..comment.range().end)?;
    let words = source.slice(comment).strip_prefix('#')?;
    let begins_line = indent.trim_start_matches('\u{FEFF}').trim().is_empty() && !indent.contains('\u{FEFF}');
    // At the top it could become a directive, and anywhere a wish about checks.
    if line.contains('\n') || !begins_line || directives::is_directive(words) {
        return None;
    }
    let before = text.get(..comment.range().start)?;
    let blanks = before.len() - before.trim_end_matches([' ', '\t']).len();
    let end = if text.get(comment.range().end..)?.starts_with('\r') { "\r\n" } else { "\n" };
    let start = Span::new(line_start as u32, line_start as u32);
    let gone = Span::new(comment.start - blanks as u32, comment.end);
    Some(Fix::replace(start, format!("{indent}{}{end}", source.slice(comment))).and(gone, ""))
}
