//! Which lines make up an instruction, and where did each of its bytes stand?
//!
//! The driver around the grammar's `physical` rule: it cuts the text at line feeds, joins continued lines with nothing in
//! between, drops comments and empty lines among them, and finds the end of here-documents by comparing whole lines. A
//! joined line keeps a [`Map`] back to the source, so that every span points into the file.
//!
//! ```text
//! RUN a \        joined: `RUN a   b`
//! # comment      map:    0 → 0, 6 → 18
//!   b
//! ```

use rbuild_core::Span;

use crate::ast::Word;

mod physical;

use physical::Physical;

/// So many comments above an instruction are kept, the nearest ones.
const COMMENTS: usize = 64;

/// One instruction's lines, joined.
#[derive(Debug)]
pub(crate) struct Joined {
    /// The escape character, then the text without spaces at either end.
    pub(crate) text: String,
    /// From the text, without the escape character, to the source.
    pub(crate) map: Map,
    /// From the first to the last byte that counts.
    pub(crate) span: Span,
    /// Comments above.
    pub(crate) comments: Vec<Word>,
    /// Empty lines within.
    pub(crate) empty: Vec<Span>,
}

/// Where the bytes of a joined text stand in the source.
#[derive(Debug, Default)]
pub(crate) struct Map {
    /// Start in the text and start in the source of each piece, ascending.
    pieces: Vec<(usize, usize)>,
}

impl Map {
    /// The place of `start..end`; a range over several pieces covers all between them.
    pub(crate) fn span(&self, start: usize, end: usize) -> Span {
        let first = match start.checked_sub(1) {
            // An empty range after the last byte of a piece belongs to that piece.
            Some(before) if start == end => self.source(before) + 1,
            _ => self.source(start),
        };
        let last = if start < end { self.source(end - 1) + 1 } else { first };
        Span::new(first as u32, last as u32)
    }

    /// Where in the text the lines begin.
    pub(crate) fn line_starts(&self) -> impl Iterator<Item = usize> {
        self.pieces.iter().map(|(start, _)| *start)
    }

    fn source(&self, offset: usize) -> usize {
        let piece = self.pieces.partition_point(|(start, _)| *start <= offset).checked_sub(1);
        piece.map_or(offset, |piece| {
            let (text, source) = self.pieces[piece];
            source + offset - text
        })
    }
}

/// Where a here-document's body ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Body {
    pub(crate) body: Span,
    pub(crate) terminator: Span,
}

/// A here-document whose terminator is missing: the line that comes nearest to it, if one does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unterminated {
    pub(crate) near: Option<Span>,
}

/// Reads a text instruction by instruction.
#[derive(Debug)]
pub(crate) struct Lines<'text> {
    text: &'text str,
    at: usize,
    escape: char,
    comments: Vec<Word>,
    resumed: bool,
}

impl<'text> Lines<'text> {
    /// Starts at a byte offset, behind byte-order mark and directives.
    pub(crate) fn new(text: &'text str, at: usize, escape: char) -> Self {
        Self { text, at, escape, comments: Vec::new(), resumed: false }
    }

    pub(crate) fn escape(&self) -> char {
        self.escape
    }

    /// Where the next line begins.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Goes on elsewhere.
    pub(crate) fn seek(&mut self, position: usize) {
        self.at = position;
    }

    /// Goes on behind a line that was found to end a here-document after all. Only once: a file full of such mistakes
    /// would be read over and over.
    pub(crate) fn resume_after(&mut self, line: Span) {
        if !std::mem::replace(&mut self.resumed, true) {
            let end = line.end as usize;
            self.at = self.text[end..].find('\n').map_or(self.text.len(), |feed| end + feed + 1);
        }
    }

    /// The next instruction.
    pub(crate) fn next(&mut self) -> Option<Joined> {
        loop {
            let (start, line) = self.line()?;
            match Physical::of(line, self.escape) {
                // A comment without text ends those above it.
                Physical::Comment(from, to) if from == to => self.comments.clear(),
                Physical::Comment(from, to) => {
                    let span = Span::new((start + from) as u32, (start + to) as u32);
                    if self.comments.len() == COMMENTS {
                        self.comments.remove(0);
                    }
                    self.comments.push(Word { text: line[from..to].to_owned(), span });
                }
                Physical::Nothing => {}
                Physical::Continued(end) => return Some(self.join(start, line, end, true)),
                Physical::Last => return Some(self.join(start, line, line.len(), false)),
            }
        }
    }

    fn join(&mut self, start: usize, line: &str, end: usize, mut continued: bool) -> Joined {
        let lead = line.len() - line.trim_start().len();
        let lead = lead.min(end);
        let prefix = self.escape.len_utf8();
        let mut text = String::with_capacity(prefix + line.len());
        text.push(self.escape);
        let mut map = Map { pieces: vec![(0, start + lead)] };
        let mut empty = Vec::new();
        text.push_str(&line[lead..end]);
        while continued && let Some((start, line)) = self.line() {
            let end = match Physical::of(line, self.escape) {
                Physical::Comment(..) => continue,
                Physical::Nothing => {
                    empty.push(Span::new(start as u32, (start + line.len()) as u32));
                    continue;
                }
                Physical::Continued(end) => end,
                Physical::Last => {
                    continued = false;
                    line.len()
                }
            };
            map.pieces.push((text.len() - prefix, start));
            text.push_str(&line[..end]);
        }
        let spaces = text[prefix..].len() - text[prefix..].trim_start().len();
        if spaces > 0 {
            // The first line can hold nothing but a continuation; then the next one's indentation comes first.
            text.replace_range(prefix..prefix + spaces, "");
            for (at, source) in &mut map.pieces {
                *source += spaces.saturating_sub(*at);
                *at = at.saturating_sub(spaces);
            }
            let kept = map.pieces.partition_point(|(at, _)| *at == 0).saturating_sub(1);
            map.pieces.drain(..kept);
        }
        text.truncate(prefix + text[prefix..].trim_end().len());
        let span = match text.len() - prefix {
            0 => Span::new((start + lead) as u32, (start + line.len()) as u32),
            length => map.span(0, length),
        };
        let mut comments = std::mem::take(&mut self.comments);
        comments.shrink_to_fit();
        Joined { text, map, span, comments, empty }
    }

    /// Takes the lines up to the one that is `name`.
    pub(crate) fn body(&mut self, name: &str, strip_tabs: bool) -> Result<Body, Unterminated> {
        let first = self.at;
        let mut near = None;
        while let Some((start, line)) = self.line() {
            let stripped = if strip_tabs { line.trim_start_matches('\t') } else { line };
            let span = Span::new(start as u32, (start + line.len()) as u32);
            if stripped == name {
                return Ok(Body { body: Span::new(first as u32, start as u32), terminator: span });
            }
            if near.is_none() && line.trim() == name {
                near = Some(span);
            }
        }
        Err(Unterminated { near })
    }

    /// The next line and where it starts; its line end is not part of it.
    fn line(&mut self) -> Option<(usize, &'text str)> {
        let start = self.at;
        let rest = self.text.get(start..).filter(|rest| !rest.is_empty())?;
        let length = rest.find('\n').unwrap_or(rest.len());
        self.at = start + (length + 1).min(rest.len());
        Some((start, rest[..length].trim_end_matches('\r')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(text: &str) -> Vec<String> {
        let mut lines = Lines::new(text, 0, '\\');
        std::iter::from_fn(|| lines.next().map(|joined| joined.text[1..].to_owned())).collect()
    }

    #[test]
    fn a008_a009_lines_join_with_nothing_between() {
        let cases: [(&str, &[&str]); 18] = [
            ("A `x` \\\n`b`\nC `\nD", &["A `x` `b`", "C `", "D"]),
            ("", &[]),
            ("\n \n# c\n", &[]),
            ("A b", &["A b"]),
            ("  A b \r\nC\n", &["A b", "C"]),
            ("A ec\\\nho", &["A echo"]),
            ("A \\  \t\n  b", &["A   b"]),
            ("A \\\\\nB", &["A \\\\", "B"]),
            ("A \\\\\\\nB", &["A \\\\\\", "B"]),
            ("A x\\\\ \\\nB", &["A x\\\\ B"]),
            ("A \\\n# c \\\n  # d\n b\nC", &["A  b", "C"]),
            ("A \\\n\n \t\n b", &["A  b"]),
            ("A \\", &["A"]),
            ("\\\n  A b", &["A b"]),
            ("\\", &[""]),
            ("A \\ x\nB", &["A \\ x", "B"]),
            ("\u{3000}A\u{3000}\n", &["A"]),
            ("A \\\r\n b\r\n", &["A  b"]),
        ];
        for (text, expected) in cases {
            assert_eq!(joined(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a008_a_backtick_can_continue_lines() {
        let text = "A c:\\ `\n b\\\nC ``\nD\\ `x";
        let mut lines = Lines::new(text, 0, '`');
        let joined: Vec<_> = std::iter::from_fn(|| lines.next().map(|joined| joined.text[1..].to_owned())).collect();
        assert_eq!(joined, ["A c:\\  b\\", "C ``", "D\\ `x"]);
    }

    #[test]
    fn every_byte_maps_to_its_source() {
        let text = "# c\n  RUN ec\\\n# x\nho é \\\n\n  y  \nA";
        let mut lines = Lines::new(text, 0, '\\');
        let first = lines.next().unwrap();
        assert_eq!(&first.text[1..], "RUN echo é   y");
        for (at, letter) in first.text[1..].char_indices() {
            let span = first.map.span(at, at + letter.len_utf8());
            assert_eq!(&text[span.range()], letter.to_string(), "{at}");
        }
        assert_eq!(&text[first.span.range()], "RUN ec\\\n# x\nho é \\\n\n  y");
        assert_eq!(first.empty, [Span::new(26, 26)]);
        assert_eq!(first.comments[0].text, "c");
        assert_eq!(first.map.span(4, 8), Span::new(10, 20));
        assert_eq!(first.map.span(6, 6), Span::new(12, 12));
    }

    #[test]
    fn bodies_end_at_their_name() {
        let text = "a\n\tEOF\nEOF \nEOF\r\nrest";
        let mut lines = Lines::new(text, 0, '\\');
        let body = lines.body("EOF", false).unwrap();
        assert_eq!(&text[body.body.range()], "a\n\tEOF\nEOF \n");
        assert_eq!(&text[lines.position()..], "rest");
        lines.seek(0);
        assert_eq!(&text[lines.body("EOF", true).unwrap().body.range()], "a\n");
        lines.seek(0);
        assert!(lines.body("E", false).unwrap_err().near.is_none());
    }
}
