//! How is the same said in another form?
//!
//! What expands is compared with what it was before: a new form that does not say the same is no fix.

use rbuild_core::Span;

use crate::ast::{Header, Instruction, Kind, Pair, PairForm, Stage, Word};
use crate::diagnostic::Fix;
use crate::expand::Expander;
use crate::source::Source;
use crate::statement;

/// Takes `--platform=…` out of a `FROM`, with the blanks behind it.
pub(super) fn platform(source: &Source, stage: &Stage) -> Option<Fix> {
    let value = stage.from.platform.as_ref()?.span;
    let before = source.text().get(stage.header.span.start as usize..value.start as usize)?;
    let flag = "--platform=";
    let start = value.start - before.ends_with(flag).then_some(flag.len() as u32)?;
    let behind = source.text().get(value.range().end..)?;
    let blanks = behind.len() - behind.trim_start_matches([' ', '\t']).len();
    let span = Span::new(start, value.end + blanks as u32);
    (!source.slice(span).contains('\n')).then(|| Fix::replace(span, ""))
}

/// The protocol of a port in lower case.
pub(super) fn protocol(port: &Word) -> Option<Fix> {
    let at = port.text.rfind('/').filter(|_| is_plain(port))?;
    let protocol = port.text[at..].to_ascii_lowercase();
    Some(Fix::replace(port.part(at, port.text.len()), protocol))
}

/// `LABEL org.opencontainers.image.authors="…"` for `MAINTAINER …`.
pub(super) fn maintainer(header: &Header, author: &Word, escape: char) -> Option<Fix> {
    if !is_plain(author) {
        return None;
    }
    let span = header.keyword.span.to(author.span);
    let quoted = author.text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let name = quoted.filter(|text| !text.contains('"')).unwrap_or(&author.text);
    let mut value = String::new();
    for letter in name.chars() {
        if letter == '"' || letter == '$' || letter == escape {
            value.push(escape);
        }
        value.push(letter);
    }
    let keyword = if header.keyword.text == "maintainer" { "label" } else { "LABEL" };
    let text = format!("{keyword} org.opencontainers.image.authors=\"{value}\"");
    let pair = only_pair(&text, escape)?;
    let expanded = (Expander { escape, lookup: &|_| None }).word(&pair.value).ok()?;
    (expanded.value == name).then(|| Fix::replace(span, text))
}

/// `name=value` for `name value`.
pub(super) fn legacy(source: &Source, header: &Header, pair: &Pair, escape: char) -> Option<Fix> {
    let (name, value) = (&pair.name, &pair.value);
    let gap = Span::new(name.span.end, value.span.start);
    if source.slice(gap).contains('\n') || !is_plain(name) {
        return None;
    }
    let has_spaces = value.text.contains(char::is_whitespace);
    let (fix, text) = if !has_spaces {
        (Fix::replace(gap, "="), format!("={}", value.text))
    } else if !value.text.contains(['"', '\'', escape]) {
        let end = Span::new(value.span.end, value.span.end);
        (Fix::replace(gap, "=\"").and(end, "\""), format!("=\"{}\"", value.text))
    } else if is_plain(value) {
        escaped(gap, value, escape)
    } else {
        return None;
    };
    let found = only_pair(&format!("{} {}{text}", header.keyword.text, name.text), escape)?;
    let same = |before: &Word, after: &Word| {
        let unset = Expander { escape, lookup: &|_| None };
        let set = Expander { escape, lookup: &|name| Some(format!("{name} x")) };
        let value = |expander: &Expander<'_>, word: &Word| expander.word(word).ok().map(|expanded| expanded.value);
        [unset, set].iter().all(|expander| value(expander, before) == value(expander, after))
    };
    (same(name, &found.name) && same(value, &found.value)).then_some(fix)
}

/// An escape character in front of each space that no quotes protect.
fn escaped(gap: Span, value: &Word, escape: char) -> (Fix, String) {
    let mut fix = Fix::replace(gap, "=");
    let mut text = "=".to_owned();
    let (mut quote, mut after_escape) = (None, false);
    for (at, letter) in value.text.char_indices() {
        if letter.is_whitespace() && quote.is_none() && !after_escape {
            fix = fix.and(value.part(at, at), escape);
            text.push(escape);
        }
        let escapes = letter == escape && quote != Some('\'') && !after_escape;
        if !after_escape && (letter == '"' || letter == '\'') {
            quote = match quote {
                None => Some(letter),
                Some(open) if open == letter => None,
                open => open,
            };
        }
        after_escape = escapes;
        text.push(letter);
    }
    (fix, text)
}

/// The pair of an instruction that has only one, in the new form.
fn only_pair(text: &str, escape: char) -> Option<Pair> {
    let Instruction { kind: Kind::Env(pairs) | Kind::Label(pairs), .. } = statement::alone(text, escape)? else {
        return None;
    };
    let mut list = pairs.pairs.into_iter();
    list.next().filter(|_| pairs.form == PairForm::Equals && list.len() == 0)
}

fn is_plain(word: &Word) -> bool {
    word.span.range().len() == word.text.len()
}
