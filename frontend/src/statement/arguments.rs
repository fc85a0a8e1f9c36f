//! What stands behind the keyword and its flags?
//!
//! And the remarks on it that hold for several instructions: comments at the end of a line, spaces that do not separate,
//! arrays that are almost JSON.

use rbuild_core::Span;

use super::Place;
use crate::ast::Word;
use crate::diagnostic::Diagnostic;
use crate::findings::Findings;
use crate::grammar::{Pair, Rule as Syntax};
use crate::rule::Rule;

pub(super) use super::spaces::odd_space;

pub(crate) const COMMENT: &str = "put the comment on a line of its own: within a line `#` begins no comment";

/// Arguments in the form the grammar found them in.
#[derive(Debug)]
pub(super) enum Arguments {
    /// There are none.
    None,
    /// A JSON array of strings.
    Array(Vec<Word>),
    /// Split at blanks.
    Words(Vec<Word>),
    /// Split at spaces outside of quotes.
    Tokens(Vec<Word>),
    /// A name and the rest of the line.
    Legacy(Word, Word),
    /// A name without a value.
    Lonely(Word),
    /// All of the line.
    Line(Word),
    /// The type of a health check and what follows.
    Probe(Word, Box<Self>),
    /// Something was wrong and has been reported.
    Broken,
}

pub(super) fn read<'text>(
    mut pairs: impl Iterator<Item = Pair<'text>>,
    place: Place<'_>,
    sink: &mut Findings,
) -> Arguments {
    let Some(first) = pairs.next() else { return Arguments::None };
    let word = place.word(&first);
    match first.as_rule() {
        Syntax::array => array(first, place, sink),
        Syntax::word => Arguments::Words(std::iter::once(word).chain(pairs.map(|pair| place.word(&pair))).collect()),
        Syntax::token => Arguments::Tokens(std::iter::once(word).chain(pairs.map(|pair| place.word(&pair))).collect()),
        Syntax::lonely => Arguments::Lonely(word),
        Syntax::probe => Arguments::Probe(word, Box::new(read(pairs, place, sink))),
        Syntax::legacy => {
            let mut parts = first.into_inner().map(|pair| place.word(&pair));
            match (parts.next(), parts.next()) {
                (Some(name), Some(value)) => Arguments::Legacy(name, value),
                _ => Arguments::Lonely(word),
            }
        }
        _ => Arguments::Line(word),
    }
}

fn array(array: Pair<'_>, place: Place<'_>, sink: &mut Findings) -> Arguments {
    let mut words = Vec::new();
    let mut sound = true;
    for element in array.into_inner() {
        match element.as_rule() {
            Syntax::json_string => words.push(string(element, place)),
            Syntax::json_other => {
                let error = Diagnostic::error(place.span(&element), "a JSON array here must hold strings only");
                sink.push(error.hint(format!("write `\"{}\"`", element.as_str().replace('"', "\\\""))));
                sound = false;
            }
            _ => {}
        }
    }
    if sound { Arguments::Array(words) } else { Arguments::Broken }
}

/// Decodes a string; halves of surrogate pairs become U+FFFD, as Go's decoder has it.
fn string(pair: Pair<'_>, place: Place<'_>) -> Word {
    let outer = place.span(&pair);
    let span = Span::new(outer.start + 1, outer.end - 1);
    let mut text = String::new();
    let mut units: Vec<u16> = Vec::new();
    let flush = |text: &mut String, units: &mut Vec<u16>| {
        text.extend(char::decode_utf16(units.drain(..)).map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)));
    };
    for part in pair.into_inner() {
        if part.as_rule() == Syntax::json_code {
            units.extend(u16::from_str_radix(&part.as_str()[2..], 16));
            continue;
        }
        flush(&mut text, &mut units);
        match (part.as_rule(), part.as_str()) {
            (Syntax::json_escape, "\\b") => text.push('\u{8}'),
            (Syntax::json_escape, "\\f") => text.push('\u{c}'),
            (Syntax::json_escape, "\\n") => text.push('\n'),
            (Syntax::json_escape, "\\r") => text.push('\r'),
            (Syntax::json_escape, "\\t") => text.push('\t'),
            (Syntax::json_escape, other) => text.push_str(&other[1..]),
            (_, plain) => text.push_str(plain),
        }
    }
    flush(&mut text, &mut units);
    Word { text, span }
}

/// Cuts at the first `=`, wherever it stands.
pub(super) fn split(token: &Word) -> Option<(Word, Word)> {
    let at = token.text.find('=')?;
    let part =
        |start: usize, end: usize| Word { text: token.text[start..end].to_owned(), span: token.part(start, end) };
    Some((part(0, at), part(at + 1, token.text.len())))
}

/// Warns of what is part of a word list, but was hardly meant to be.
pub(super) fn word_list(words: &[Word], name: &str, sink: &mut Findings) {
    if let (Some(first), Some(last)) = (words.first(), words.last()) {
        if first.text.starts_with('[') {
            let whole: Vec<_> = words.iter().map(|word| word.text.as_str()).collect();
            looks_like_json(&Word { text: whole.join(" "), span: first.span.to(last.span) }, name, sink);
        } else if let Some(comment) = words.iter().enumerate().find_map(|(at, word)| {
            // The first two could be files called so.
            (at > 0 && word.text == "#" || at > 1 && word.text.starts_with('#')).then_some(word)
        }) {
            comment_warning(comment.span.to(last.span), name, sink);
        }
    }
    words.iter().for_each(|word| super::spaces::in_word(word, name, sink));
}

/// Warns of a `# comment` that is part of a value.
pub(super) fn trailing_comment(line: &Word, name: &str, sink: &mut Findings) {
    let comment = line.text.match_indices('#').find(|(at, _)| {
        let before = line.text[..*at].chars().next_back();
        let after = line.text[at + 1..].chars().next();
        before.is_some_and(char::is_whitespace) && after.is_none_or(char::is_whitespace)
    });
    let quoted = line.text.contains(['"', '\'']);
    if let Some((at, _)) = comment.filter(|_| !quoted) {
        comment_warning(line.part(at, line.text.len()), name, sink);
    }
}

fn comment_warning(span: Span, name: &str, sink: &mut Findings) {
    let message = format!("this comment is part of the arguments of `{name}`");
    sink.push(Diagnostic::warning(Rule::TrailingComment, span, message).hint(COMMENT));
}

/// Warns of text in brackets that was meant as an array.
pub(super) fn looks_like_json(line: &Word, name: &str, sink: &mut Findings) {
    let text = line.text.as_str();
    // `[ -f x ]` is a command of the shell, and `[ab]*.txt` a pattern.
    let other_sense = matches!(name, "RUN" | "COPY" | "ADD");
    let likely = text.starts_with("[\"")
        || text.starts_with("['")
        || text.starts_with("[\u{201C}")
        || text.starts_with('[') && (!other_sense || text.contains("\",") || text.contains("',"));
    if !likely {
        return;
    }
    let message = format!("the arguments of `{name}` are not a JSON array and are read as plain text");
    let hint = if text.contains("] #") {
        COMMENT
    } else if text.starts_with("['") || !text.contains('"') {
        "strings in JSON have double quotes: `[\"a\", \"b\"]`"
    } else {
        "an array is written `[\"a\", \"b\"]`, with commas between the strings and `\\\\` for a backslash"
    };
    sink.push(
        Diagnostic::warning(Rule::InvalidJsonForm, line.span, message).hint(hint).fix_if(crate::fix::mend_array(line)),
    );
}
