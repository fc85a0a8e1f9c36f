//! Which text is being read, and where are its lines?
//!
//! Everything else speaks of byte offsets ([`Span`]); only a reader of diagnostics wants lines and columns, so the
//! table of line starts is made on demand and looked up by bisection.

use std::sync::OnceLock;

use rbuild_core::Span;

/// One text with the name diagnostics call it by.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    text: String,
    lines: OnceLock<Vec<u32>>,
}

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
        Self { name: name.into(), text: text.into(), lines: OnceLock::new() }
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

    /// Line and column of a byte offset; offsets past the end mean the end.
    pub fn position(&self, offset: u32) -> Position {
        let mut offset = (offset as usize).min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.starts().partition_point(|start| *start as usize <= offset);
        let start = self.starts()[line - 1] as usize;
        Position { line, column: self.text[start..offset].chars().count() + 1 }
    }

    /// First and last line a span touches. A span that ends just after a line feed does not touch the next line.
    pub fn lines(&self, span: Span) -> (usize, usize) {
        let last = span.end.saturating_sub(1).max(span.start);
        (self.position(span.start).line, self.position(last).line)
    }

    /// The span of a line without its line end, if there is such a line.
    pub fn line(&self, number: usize) -> Option<Span> {
        let start = *self.starts().get(number.checked_sub(1)?)?;
        let end = self.starts().get(number).map_or(self.text.len(), |next| *next as usize - 1);
        let trimmed = self.text[start as usize..end].trim_end_matches('\r').len();
        Some(Span::new(start, start + trimmed as u32))
    }

    fn starts(&self) -> &[u32] {
        self.lines.get_or_init(|| {
            let after = |(at, _)| at as u32 + 1;
            std::iter::once(0).chain(self.text.match_indices('\n').map(after)).collect()
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
}
