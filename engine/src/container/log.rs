//! What did a container print, and when?
//!
//! Docker's `json-file` format: one object a line with `log`, `stream` and `time`. A line longer than [`LONGEST`] is
//! split, so that a process that never prints a line feed cannot fill memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use rbuild_core::Stream;
use serde::{Deserialize, Serialize};

/// Bytes after which an unfinished line is written all the same (Docker's own bound).
const LONGEST: usize = 16 * 1024;

/// One line.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LogLine {
    /// The text, with its line feed if it had one.
    pub log: String,
    /// `stdout` or `stderr`.
    pub stream: Stream,
    /// RFC 3339 time at which it was read.
    pub time: String,
}

/// Appends what a process prints.
pub(crate) struct LogWriter {
    file: File,
    pending: [Vec<u8>; 2],
}

impl LogWriter {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::options().create(true).append(true).read(true).open(path)?;
        let mut last = [b'\n'];
        if file.seek(SeekFrom::End(0))? > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        // A writer that was killed may have left half a line; it shall not take the next one with it.
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
        Ok(Self { file, pending: [Vec::new(), Vec::new()] })
    }

    /// Takes bytes as they come; whole lines are written at once.
    pub(crate) fn write(&mut self, stream: Stream, mut data: &[u8]) -> io::Result<()> {
        let slot = stream as usize;
        while !data.is_empty() {
            let room = LONGEST - self.pending[slot].len();
            let end = data.iter().take(room).position(|byte| *byte == b'\n').map_or(data.len().min(room), |at| at + 1);
            let (line, rest) = data.split_at(end);
            self.pending[slot].extend_from_slice(line);
            data = rest;
            if line.ends_with(b"\n") || self.pending[slot].len() >= LONGEST {
                self.flush(stream)?;
            }
        }
        Ok(())
    }

    /// Writes what was not ended by a line feed.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.flush(Stream::Stdout)?;
        self.flush(Stream::Stderr)
    }

    fn flush(&mut self, stream: Stream) -> io::Result<()> {
        let pending = std::mem::take(&mut self.pending[stream as usize]);
        if pending.is_empty() {
            return Ok(());
        }
        let line = LogLine {
            log: String::from_utf8_lossy(&pending).into_owned(),
            stream,
            time: jiff::Timestamp::now().to_string(),
        };
        let mut bytes = serde_json::to_vec(&line)?;
        bytes.push(b'\n');
        self.file.write_all(&bytes)
    }
}

/// Reads lines, and goes on where it stopped when more have been written.
#[derive(Debug)]
pub(crate) struct LogReader {
    file: BufReader<File>,
    partial: Vec<u8>,
}

impl LogReader {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: BufReader::new(File::open(path)?), partial: Vec::new() })
    }

    /// Skips to the last `lines` lines.
    pub(crate) fn skip_to_tail(&mut self, lines: usize) -> io::Result<()> {
        const BLOCK: u64 = 64 * 1024;
        let file = self.file.get_mut();
        let mut start = file.seek(SeekFrom::End(0))?;
        let (mut seen, mut block) = (0, Vec::new());
        let mut position = 0;
        'search: while start > 0 {
            let end = start;
            start = end.saturating_sub(BLOCK);
            block.clear();
            file.seek(SeekFrom::Start(start))?;
            file.take(end - start).read_to_end(&mut block)?;
            for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                // The line feed that ends the last line begins no line.
                if seen == lines {
                    position = start + index as u64 + 1;
                    break 'search;
                }
                seen += 1;
            }
        }
        self.file.seek(SeekFrom::Start(position))?;
        Ok(())
    }

    /// The next whole line; `None` if there is none yet. A damaged line is skipped.
    pub(crate) fn next(&mut self) -> io::Result<Option<LogLine>> {
        loop {
            if self.file.read_until(b'\n', &mut self.partial)? == 0 || !self.partial.ends_with(b"\n") {
                return Ok(None);
            }
            let line = serde_json::from_slice(&self.partial);
            self.partial.clear();
            if let Ok(line) = line {
                return Ok(Some(line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(reader: &mut LogReader) -> Vec<String> {
        std::iter::from_fn(|| reader.next().unwrap()).map(|line| line.log).collect()
    }

    #[test]
    fn lines_are_put_together_per_stream() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut writer = LogWriter::open(&path).unwrap();
        writer.write(Stream::Stdout, b"a\nb").unwrap();
        writer.write(Stream::Stderr, b"err\n").unwrap();
        writer.write(Stream::Stdout, b"c\n").unwrap();
        let mut reader = LogReader::open(&path).unwrap();
        assert_eq!(texts(&mut reader), ["a\n", "err\n", "bc\n"]);
        writer.write(Stream::Stdout, b"rest").unwrap();
        writer.finish().unwrap();
        assert_eq!(texts(&mut reader), ["rest"]);
    }

    #[test]
    fn half_a_line_of_a_killed_writer_is_skipped_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        LogWriter::open(&path).unwrap().write(Stream::Stdout, b"whole\n").unwrap();
        File::options().append(true).open(&path).unwrap().write_all(b"{\"log\":\"ha").unwrap();
        LogWriter::open(&path).unwrap().write(Stream::Stdout, b"next\n").unwrap();
        assert_eq!(texts(&mut LogReader::open(&path).unwrap()), ["whole\n", "next\n"]);
    }

    #[test]
    fn a_line_without_end_is_split() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut writer = LogWriter::open(&path).unwrap();
        writer.write(Stream::Stdout, &vec![b'x'; 3 * LONGEST]).unwrap();
        let lengths: Vec<_> = texts(&mut LogReader::open(&path).unwrap()).iter().map(String::len).collect();
        assert_eq!(lengths, [LONGEST; 3]);
    }

    #[test]
    fn the_tail_is_found_from_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut writer = LogWriter::open(&path).unwrap();
        for number in 0..5000 {
            writer.write(Stream::Stdout, format!("{number}\n").as_bytes()).unwrap();
        }
        for (lines, expected) in [(0, vec![]), (2, vec!["4998\n", "4999\n"])] {
            let mut reader = LogReader::open(&path).unwrap();
            reader.skip_to_tail(lines).unwrap();
            assert_eq!(texts(&mut reader), expected);
        }
        let mut reader = LogReader::open(&path).unwrap();
        reader.skip_to_tail(9999).unwrap();
        assert_eq!(texts(&mut reader).len(), 5000);
    }
}
