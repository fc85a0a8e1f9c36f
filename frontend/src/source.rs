//! Which text is being read, and where are its lines?
//!
//! Everything else speaks of byte offsets ([`Span`]); only a reader of diagnostics wants lines and columns, so the
//! table of line starts is made on demand and looked up by bisection.
//!
//! Files are bytes. What is no UTF-8 in them reads as U+FFFD, one for each byte; the bytes themselves are remembered, so
//! that contents of files and repaired texts have them again.

use std::sync::OnceLock;

use rbuild_core::Span;

use crate::diagnostic::Edit;

/// One text with the name diagnostics call it by.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    text: String,
    lines: OnceLock<Vec<u32>>,
    /// Bytes that are no UTF-8, by the offset of the character in their place, ascending.
    odd: Vec<(u32, u8)>,
}

/// What stands in the text for a byte that is no UTF-8.
const STAND_IN: char = char::REPLACEMENT_CHARACTER;

/// May stand in front of the first line; editors show nothing of it.
const MARK: char = '\u{FEFF}';

/// A place as people count it: both numbers start at 1, columns are Unicode scalar values.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// Line number, from 1.
    pub line: usize,
    /// Column number in characters, from 1.
    pub column: usize,
}

impl Source {
    /// `name` is a path, or words like `trigger of busybox` for text that is in no file.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), lines: OnceLock::new(), odd: Vec::new() }
    }

    /// A text that may hold bytes of any kind.
    pub fn from_bytes(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        let bytes = match String::from_utf8(bytes) {
            Ok(text) => return Self::new(name, text),
            Err(error) => error.into_bytes(),
        };
        let mut source = Self::new(name, String::with_capacity(bytes.len()));
        for chunk in bytes.utf8_chunks() {
            source.text.push_str(chunk.valid());
            for byte in chunk.invalid() {
                source.odd.push((u32::try_from(source.text.len()).unwrap_or(u32::MAX), *byte));
                source.text.push(STAND_IN);
            }
        }
        source
    }

    /// What diagnostics print before the line number.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text, byte-order mark and line ends included: spans count in it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text under a span; empty if the span is not one of this source.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.range()).unwrap_or("")
    }

    /// The bytes under a span, as they were given.
    pub fn bytes(&self, span: Span) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut at = span.start;
        for (place, byte) in self.odd(span) {
            bytes.extend(self.slice(Span::new(at, *place)).bytes());
            bytes.push(*byte);
            at = place + STAND_IN.len_utf8() as u32;
        }
        bytes.extend(self.slice(Span::new(at, span.end)).bytes());
        bytes
    }

    /// All of the bytes, as they were given.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.bytes(self.whole())
    }

    /// The places of bytes that are no UTF-8, neighbours together.
    pub fn odd_places(&self) -> impl Iterator<Item = Span> + '_ {
        let width = STAND_IN.len_utf8() as u32;
        let runs = self.odd.chunk_by(move |(one, _), (next, _)| one + width == *next);
        runs.filter_map(move |run| Some(Span::new(run.first()?.0, run.last()?.0 + width)))
    }

    /// Whether there are bytes under a span that are no UTF-8.
    pub fn is_odd(&self, span: Span) -> bool {
        !self.odd(span).is_empty()
    }

    /// The text with some pieces replaced. The edits are in order and do not overlap; others are left out.
    #[must_use]
    pub fn edited(&self, edits: &[Edit]) -> Self {
        let mut bytes = Vec::with_capacity(self.text.len());
        let mut at = 0;
        for edit in edits.iter().filter(|edit| self.text.get(edit.span.range()).is_some()) {
            if edit.span.start >= at {
                bytes.extend(self.bytes(Span::new(at, edit.span.start)));
                bytes.extend(edit.text.bytes());
                at = edit.span.end;
            }
        }
        bytes.extend(self.bytes(Span::new(at, self.whole().end)));
        Self::from_bytes(self.name.clone(), bytes)
    }

    /// From the first byte to the last.
    pub fn whole(&self) -> Span {
        Span::new(0, u32::try_from(self.text.len()).unwrap_or(u32::MAX))
    }

    fn odd(&self, span: Span) -> &[(u32, u8)] {
        let place = |offset: u32| self.odd.partition_point(|(at, _)| *at < offset);
        self.odd.get(place(span.start)..place(span.end)).unwrap_or_default()
    }

    /// Line and column of a byte offset; offsets past the end mean the end.
    pub fn position(&self, offset: u32) -> Position {
        let mut offset = (offset as usize).min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        // In front of the first line is only a byte-order mark.
        let line = self.starts().partition_point(|start| *start as usize <= offset).max(1);
        let start = self.starts()[line - 1] as usize;
        Position { line, column: self.text[start..offset.max(start)].chars().count() + 1 }
    }

    /// First and last line a span touches. A span that ends just after a line feed does not touch the next line.
    pub fn lines(&self, span: Span) -> (usize, usize) {
        let last = span.end.saturating_sub(1).max(span.start);
        (self.position(span.start).line, self.position(last).line)
    }

    /// The span of a line without its line end and without a byte-order mark, if there is such a line.
    pub fn line(&self, number: usize) -> Option<Span> {
        let start = *self.starts().get(number.checked_sub(1)?)?;
        let end = self.starts().get(number).map_or(self.text.len(), |next| *next as usize - 1);
        let trimmed = self.text[start as usize..end].trim_end_matches('\r').len();
        Some(Span::new(start, start + trimmed as u32))
    }

    fn starts(&self) -> &[u32] {
        self.lines.get_or_init(|| {
            let after = |(at, _)| at as u32 + 1;
            let mark = if self.text.starts_with(MARK) { MARK.len_utf8() as u32 } else { 0 };
            std::iter::once(mark).chain(self.text.match_indices('\n').map(after)).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let source = Source::new("Dockerfile", "FROM x\r\nRUN é b\n");
        let cases = [(0, (1, 1)), (5, (1, 6)), (8, (2, 1)), (12, (2, 5)), (14, (2, 6)), (17, (3, 1)), (99, (3, 1))];
        for (offset, (line, column)) in cases {
            assert_eq!(source.position(offset), Position { line, column }, "offset {offset}");
        }
        assert_eq!(source.line(1), Some(Span::new(0, 6)));
        assert_eq!(source.line(2), Some(Span::new(8, 16)));
        assert_eq!(source.line(4), None);
        assert_eq!(source.line(0), None);
        assert_eq!(source.lines(Span::new(0, 8)), (1, 1));
        assert_eq!(source.lines(Span::new(0, 9)), (1, 2));
    }

    #[test]
    fn a001_a_byte_order_mark_is_no_column() {
        let source = Source::new("Dockerfile", "\u{FEFF}FROM x\nRUN b");
        let cases = [(0, (1, 1)), (2, (1, 1)), (3, (1, 1)), (8, (1, 6)), (10, (2, 1)), (14, (2, 5))];
        for (offset, (line, column)) in cases {
            assert_eq!(source.position(offset), Position { line, column }, "offset {offset}");
        }
        assert_eq!(source.line(1), Some(Span::new(3, 9)));
        assert_eq!(Source::new("Dockerfile", "\u{FEFF}").line(1), Some(Span::new(3, 3)));
    }

    #[test]
    fn a001_bytes_that_are_no_utf8_are_kept() {
        let bytes = b"FROM x\nLABEL a=\xff\xc3\xa9\xe9 b\n".to_vec();
        let source = Source::from_bytes("Dockerfile", bytes.clone());
        assert_eq!(source.text(), "FROM x\nLABEL a=\u{FFFD}\u{e9}\u{FFFD} b\n");
        assert_eq!(source.to_bytes(), bytes);
        let places: Vec<_> = source.odd_places().map(|span| source.bytes(span)).collect();
        assert_eq!(places, [b"\xff", b"\xe9"]);
        let edits = [(0, 4, "from"), (13, 14, "b"), (200, 300, "no")];
        let edits = edits.map(|(start, end, text)| Edit { span: Span::new(start, end), text: text.to_owned() });
        assert_eq!(source.edited(&edits).to_bytes(), b"from x\nLABEL b=\xff\xc3\xa9\xe9 b\n");
    }
}
