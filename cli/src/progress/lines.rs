//! Which lines did a process write?
//!
//! Output arrives in pieces that know nothing of lines or characters. A line feed ends a line; a carriage return that
//! no line feed follows starts the same line over, as a terminal would show it, so that of a progress bar only its
//! last state remains. Bytes that are not UTF-8 become U+FFFD.

use std::mem;

/// A line longer than this is cut, so that output without line feeds cannot fill the memory.
const LONGEST: usize = 64 * 1024;

/// Makes lines of one stream's pieces.
#[derive(Debug, Default)]
pub struct Lines {
    /// The line so far, as it stands after the last carriage return.
    current: Vec<u8>,
    /// A carriage return was read and nothing after it.
    returned: bool,
}

impl Lines {
    /// Takes the next piece and gives every line that it completes to `each`.
    pub fn feed(&mut self, mut data: &[u8], mut each: impl FnMut(String)) {
        while let Some(&first) = data.first() {
            match first {
                b'\n' => {
                    each(self.take());
                    data = &data[1..];
                }
                b'\r' => {
                    self.returned = true;
                    data = &data[1..];
                }
                _ => {
                    if mem::take(&mut self.returned) {
                        self.current.clear();
                    }
                    if self.current.len() == LONGEST {
                        each(self.take());
                    }
                    let end = data.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(data.len());
                    let (piece, rest) = data.split_at(end.min(LONGEST - self.current.len()));
                    self.current.extend_from_slice(piece);
                    data = rest;
                }
            }
        }
    }

    /// What stands there without a line feed yet; nothing if that is empty.
    pub fn pending(&self) -> Option<String> {
        (!self.current.is_empty()).then(|| String::from_utf8_lossy(&self.current).into_owned())
    }

    /// Ends the last line if it has no line feed.
    pub fn finish(&mut self) -> Option<String> {
        (!self.current.is_empty()).then(|| self.take())
    }

    fn take(&mut self) -> String {
        self.returned = false;
        let line = String::from_utf8_lossy(&self.current).into_owned();
        self.current.clear();
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let mut found = Vec::new();
        let mut lines = Lines::default();
        for piece in pieces {
            lines.feed(piece, |line| found.push(line));
        }
        found.extend(lines.finish());
        found
    }

    #[test]
    fn pieces_become_lines() {
        let cases: [(&[&[u8]], &[&str]); 9] = [
            (&[b"one\ntwo\n"], &["one", "two"]),
            (&[b"on", b"e\nt", b"wo"], &["one", "two"]),
            (&[b"\n\n"], &["", ""]),
            (&[b"dos\r\n", b"split\r", b"\nx"], &["dos", "split", "x"]),
            (&[b"10%\r20%\r", b"100%\n"], &["100%"]),
            (&[b"20%\r"], &["20%"]),
            (&["é".as_bytes().split_at(1).0, "é".as_bytes().split_at(1).1, b"\n"], &["é"]),
            (&[b"\xff\n"], &["\u{fffd}"]),
            (&[b"\r\r\r"], &[]),
        ];
        for (pieces, expected) in cases {
            assert_eq!(lines(pieces), expected, "{pieces:?}");
        }
    }

    #[test]
    fn endless_line_is_cut() {
        let cut = lines(&[&vec![b'x'; 3 * LONGEST], b"\n"]);
        assert_eq!(cut.iter().map(String::len).collect::<Vec<_>>(), [LONGEST, LONGEST, LONGEST]);
    }
}
