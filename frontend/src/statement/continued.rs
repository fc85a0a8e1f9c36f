//! Does an instruction end where its author thinks it does?
//!
//! An escape left at the end of a command's last line makes the next instruction a part of the command. That is no
//! mistake for the parser, and often none for the shell, which then looks for a program called `CMD`.

use super::KEYWORDS;
use crate::diagnostic::Diagnostic;
use crate::findings::Findings;
use crate::lines::Map;
use crate::rule::Rule;

/// Warns of the first line that continues another one and looks like an instruction of its own: it is not indented, not
/// within quotes, and begins with a keyword in capital letters.
pub(super) fn check(text: &str, map: &Map, sink: &mut Findings) {
    let mut quotes = Quotes::default();
    let mut seen = 0;
    for start in map.line_starts().skip(1) {
        let (Some(before), Some(line)) = (text.get(seen..start), text.get(start..)) else { return };
        quotes.read(before);
        let seen_before = std::mem::replace(&mut seen, start);
        let is_keyword = |word: &&&str| line.strip_prefix(**word).is_some_and(|rest| rest.starts_with([' ', '\t']));
        if quotes.are_closed()
            && let Some(word) = KEYWORDS.iter().find(is_keyword)
        {
            let place = map.span(start, start + word.len());
            sink.push(
                Diagnostic::warning(
                    Rule::SwallowedInstruction,
                    place,
                    format!("this `{word}` continues the line above"),
                )
                .and(map.span(seen_before, start), "because this one ends with an escape character")
                .hint("take the escape off the end of the line above; or indent this one if it belongs there"),
            );
            return;
        }
    }
}

/// Which quotes of a shell are open.
#[derive(Default)]
struct Quotes {
    open: Option<char>,
}

impl Quotes {
    fn read(&mut self, text: &str) {
        for letter in text.chars().filter(|letter| matches!(letter, '"' | '\'')) {
            match self.open {
                None => self.open = Some(letter),
                Some(quote) if quote == letter => self.open = None,
                Some(_) => {}
            }
        }
    }

    fn are_closed(&self) -> bool {
        self.open.is_none()
    }
}
