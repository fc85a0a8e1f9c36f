//! What would `.dockerignore` mean if nobody cared for speed?
//!
//! Written from the description of the language, by backtracking over characters, without looking at the real one:
//! cleaning, matching and "which pattern decides" are all a second implementation.

use rbuild_frontend::GlobError;

/// One line, as it counts.
#[derive(Debug)]
pub struct Line {
    exception: bool,
    pieces: Vec<Piece>,
    /// `**x`, with nothing special in `x`: any path that ends so.
    ending: Option<String>,
}

#[derive(Clone, Debug)]
enum Piece {
    Is(char),
    Any,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    Star,
    /// `**` and the slash after it.
    Segments,
    Everything,
}

/// What an ignore file says about a path: the last of the lines that cover it or a directory above it, and whether that
/// one leaves it out.
pub fn decide(lines: &[Line], path: &str) -> Option<(usize, bool)> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    let above: Vec<&str> = ends.map(|end| &path[..end]).collect();
    let covering = lines.iter().enumerate().rev().find(|(_, line)| above.iter().any(|path| line.matches(path)));
    covering.map(|(index, line)| (index, !line.exception))
}

impl Line {
    /// Reads one pattern, without blanks around it and without its `!`.
    ///
    /// # Errors
    /// As the real one.
    pub fn new(pattern: &str, exception: bool) -> Result<Self, GlobError> {
        let cleaned = clean(pattern);
        let text = if cleaned.len() > 1 { cleaned.strip_prefix('/').unwrap_or(&cleaned) } else { &cleaned };
        let rest = text.strip_prefix("**").filter(|rest| !rest.is_empty());
        let ending = rest.filter(|rest| !rest.starts_with('/') && !rest.contains(['*', '?', '[', '\\']));
        Ok(Self { exception, pieces: pieces(text)?, ending: ending.map(str::to_owned) })
    }

    fn matches(&self, path: &str) -> bool {
        if let Some(ending) = &self.ending {
            return path.ends_with(ending);
        }
        let path: Vec<char> = path.chars().collect();
        let mut failed = vec![vec![false; path.len() + 1]; self.pieces.len() + 1];
        matches(&self.pieces, &path, &mut failed)
    }
}

/// Backtracking, but never twice from the same place.
fn matches(pieces: &[Piece], path: &[char], failed: &mut [Vec<bool>]) -> bool {
    let Some((first, rest)) = pieces.split_first() else { return path.is_empty() };
    if failed[pieces.len()][path.len()] {
        return false;
    }
    let one = |accepts: bool, failed: &mut [Vec<bool>]| accepts && matches(rest, &path[1..], failed);
    let next = path.first().copied();
    let found = match first {
        Piece::Is(wanted) => one(next == Some(*wanted), failed),
        Piece::Any => one(next.is_some_and(|char| char != '/'), failed),
        Piece::Class { negated, ranges } => {
            let within = |char: char| ranges.iter().any(|(low, high)| (*low..=*high).contains(&char));
            one(next.is_some_and(|char| within(char) != *negated), failed)
        }
        Piece::Star => {
            matches(rest, path, failed) || next.is_some_and(|char| char != '/') && matches(pieces, &path[1..], failed)
        }
        Piece::Segments => {
            let after = (0..path.len()).filter(|at| path[*at] == '/').map(|at| at + 1);
            std::iter::once(0).chain(after).any(|at| matches(rest, &path[at..], failed))
        }
        Piece::Everything => true,
    };
    failed[pieces.len()][path.len()] = !found;
    found
}

fn pieces(text: &str) -> Result<Vec<Piece>, GlobError> {
    let mut chars = text.chars().peekable();
    let mut pieces = Vec::new();
    while let Some(char) = chars.next() {
        pieces.push(match char {
            '*' if chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                if chars.peek().is_some() { Piece::Segments } else { Piece::Everything }
            }
            '*' => Piece::Star,
            '?' => Piece::Any,
            '[' => {
                let negated = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                loop {
                    if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
                        break Piece::Class { negated, ranges };
                    }
                    let low = bound(&mut chars)?;
                    let high = if chars.next_if_eq(&'-').is_some() { bound(&mut chars)? } else { low };
                    ranges.push((low, high));
                }
            }
            '\\' => Piece::Is(chars.next().ok_or(GlobError::OpenEscape)?),
            other => Piece::Is(other),
        });
    }
    Ok(pieces)
}

fn bound(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<char, GlobError> {
    match chars.next() {
        None => Err(GlobError::OpenClass),
        Some('-' | ']') => Err(GlobError::BadRange),
        Some('\\') => chars.next().ok_or(GlobError::OpenEscape),
        Some(other) => Ok(other),
    }
}

/// The shortest path that means the same.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if kept.last().is_some_and(|last| *last != "..") => _ = kept.pop(),
            ".." if rooted => {}
            other => kept.push(other),
        }
    }
    match (rooted, kept.join("/")) {
        (true, joined) => format!("/{joined}"),
        (false, joined) if joined.is_empty() => ".".to_owned(),
        (false, joined) => joined,
    }
}
