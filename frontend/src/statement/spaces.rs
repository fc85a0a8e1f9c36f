//! Which spaces separate nothing, though they look as if they did?
//!
//! Editors for some languages type U+3000, web pages hand out U+00A0. Where the language or a shell splits at plain
//! blanks only, such a space is a letter like any other.

use crate::ast::Word;
use crate::diagnostic::Diagnostic;
use crate::findings::Findings;
use crate::fix;
use crate::rule::Rule;

/// Names the first space that is not a blank.
pub(super) fn odd_space(text: &str) -> String {
    let odd = text.chars().find(|letter| letter.is_whitespace() && !letter.is_ascii());
    match odd {
        Some('\u{3000}') => "a full-width space (U+3000)".to_owned(),
        Some('\u{A0}') => "a no-break space (U+00A0)".to_owned(),
        Some(other) => format!("the space U+{:04X}", u32::from(other)),
        None => "another kind of space".to_owned(),
    }
}

/// Warns of odd spaces in a word of a list.
pub(super) fn in_word(word: &Word, name: &str, sink: &mut Findings) {
    if word.text.contains(|letter: char| letter.is_whitespace()) {
        let message = format!("`{}` is one word of `{name}`", super::shorten(&word.text));
        sink.push(
            Diagnostic::warning(Rule::AmbiguousSpace, word.span, message)
                .hint(format!("only plain blanks separate words; here stands {}", odd_space(&word.text)))
                .fix_if(fix::mend_spaces(word)),
        );
    }
}

/// Warns of odd spaces in the one value of an instruction, unless quotes say that they are meant.
pub(super) fn in_value(value: &Word, name: &str, sink: &mut Findings) {
    if !value.text.contains(['"', '\'']) && value.text.contains(is_odd) {
        let message = format!("the value of `{name}` holds {}", odd_space(&value.text));
        sink.push(
            Diagnostic::warning(Rule::AmbiguousSpace, value.span, message)
                .hint("put the value in quotes if the space is meant"),
        );
    }
}

/// Warns of odd spaces between the words of a shell's command, where they do not separate. What they are to the shell
/// and its programs, a mistake or data, is not known well enough to repair them.
pub(super) fn in_command(line: &Word, name: &str, sink: &mut Findings) {
    if !line.text.contains(is_odd) || line.text.contains("<<") {
        return;
    }
    let (mut quote, mut after_escape) = (None, false);
    for (at, letter) in line.text.char_indices() {
        if is_odd(letter) && quote.is_none() {
            let end = at + letter.len_utf8();
            let message = format!("{} separates no words of a shell's command", odd_space(&line.text[at..end]));
            sink.push(
                Diagnostic::warning(Rule::AmbiguousSpace, line.part(at, end), message)
                    .hint(format!("put a plain blank between the words of `{name}`, or quotes around the space")),
            );
            return;
        }
        if !after_escape {
            quote = match (quote, letter) {
                (None, '"' | '\'') => Some(letter),
                (Some(open), _) if open == letter => None,
                (quote, _) => quote,
            };
        }
        after_escape = letter == '\\' && !after_escape && quote != Some('\'');
    }
}

fn is_odd(letter: char) -> bool {
    letter.is_whitespace() && !letter.is_ascii()
}
