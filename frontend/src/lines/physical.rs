//! What is one line of the file: a comment, nothing, continued, or the last one of its instruction?
//!
//! The grammar's rule `physical` says so. Most lines need no grammar, though: where the first and the last characters
//! are ASCII, they tell it all ([`Physical::obvious`]); and a file has many times more lines than instructions.

use crate::grammar::{Grammar, Parser as _, Rule};

/// A line without its line end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Physical {
    /// The place of its text in the line.
    Comment(usize, usize),
    Nothing,
    /// The end of what counts.
    Continued(usize),
    Last,
}

impl Physical {
    pub(super) fn of(line: &str, escape: char) -> Self {
        Self::obvious(line, escape).unwrap_or_else(|| Self::parsed(line, escape))
    }

    /// What the grammar would say, where a look at both ends of the line is enough to know it.
    fn obvious(line: &str, escape: char) -> Option<Self> {
        const BLANKS: [char; 2] = [' ', '\t'];
        let end = |text: &str| text.bytes().next_back().filter(u8::is_ascii_graphic).map(char::from);
        let lead = line.len() - line.trim_start_matches(BLANKS).len();
        let text = &line[lead..];
        match text.bytes().next() {
            None => return Some(Self::Nothing),
            Some(b'#') => {
                let remark = text[1..].trim_start_matches(BLANKS);
                if remark.is_empty() {
                    return Some(Self::Comment(line.len(), line.len()));
                }
                end(remark).filter(|_| remark.as_bytes()[0].is_ascii_graphic())?;
                return Some(Self::Comment(line.len() - remark.len(), line.len()));
            }
            Some(first) if !first.is_ascii_graphic() => return None,
            Some(_) => {}
        }
        let text = text.trim_end_matches(BLANKS);
        if end(text)? != escape {
            return Some(Self::Last);
        }
        let content = &text[..text.len() - escape.len_utf8()];
        // Whether several escapes are one is for the grammar.
        (!content.ends_with(escape)).then(|| Self::Continued(lead + content.len()))
    }

    fn parsed(line: &str, escape: char) -> Self {
        let text = format!("{escape}{line}");
        let pair = Grammar::parse(Rule::physical, &text).ok().and_then(|mut pairs| pairs.next());
        let Some(pair) = pair.and_then(|pair| pair.into_inner().next()) else {
            return Self::Last;
        };
        match pair.as_rule() {
            Rule::comment => {
                let remark = pair.into_inner().next().map_or("", |remark| remark.as_str());
                let start = line.len() - remark.len();
                Self::Comment(start, start + remark.trim_end().len())
            }
            Rule::nothing => Self::Nothing,
            Rule::continued => {
                let content = pair.into_inner().next();
                Self::Continued(content.map_or(0, |content| content.as_span().end() - escape.len_utf8()))
            }
            _ => Self::Last,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_grammar_agrees_with_what_is_obvious(line in "[ \t#a\\\\`\u{b}\u{3000}é\r]{0,8}", backtick in any::<bool>()) {
            let escape = if backtick { '`' } else { '\\' };
            if let Some(obvious) = Physical::obvious(&line, escape) {
                prop_assert_eq!(obvious, Physical::parsed(&line, escape), "{:?}", line);
            }
        }
    }

    #[test]
    fn usual_lines_are_obvious() {
        for line in ["RUN a", "  b \\", "    && c \\  ", "# remark", "  #", "", " \t", "EOF", "RUN echo \"é\" \\"] {
            assert!(Physical::obvious(line, '\\').is_some(), "{line:?}");
        }
    }
}
