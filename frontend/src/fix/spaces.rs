//! Where does a space stand that separates nothing?

use rbuild_core::Span;

use crate::ast::Word;
use crate::diagnostic::{Edit, Fix};

/// Plain blanks for all odd spaces of a word, unless one of them is quoted or escaped and so meant.
pub(crate) fn mend(word: &Word) -> Option<Fix> {
    let edits = runs(word).collect::<Option<Vec<_>>>()?;
    (!edits.is_empty()).then_some(Fix { edits })
}

/// A plain blank for the first odd space of a word.
pub(crate) fn mend_first(word: &Word) -> Option<Fix> {
    runs(word).next()?.map(|edit| Fix { edits: vec![edit] })
}

/// A blank for each run of odd spaces, `None` for one that is meant; nothing if the word does not stand in the source as
/// it is.
fn runs(word: &Word) -> impl Iterator<Item = Option<Edit>> + '_ {
    let text = if word.span.range().len() == word.text.len() { word.text.as_str() } else { "" };
    let is_odd = |letter: char| letter.is_whitespace() && !letter.is_ascii();
    let quoted = text.find(['"', '\'']).unwrap_or(text.len());
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + text[at..].find(is_odd)?;
        let length = text[start..].find(|letter| !is_odd(letter)).unwrap_or(text.len() - start);
        at = start + length;
        let place = |offset: usize| word.span.start + offset as u32;
        // Which of the two escapes in this file makes no difference: the other one is rarer still.
        let meant = quoted < start || text[..start].ends_with(['\\', '`']);
        Some((!meant).then(|| Edit { span: Span::new(place(start), place(at)), text: " ".to_owned() }))
    })
}
