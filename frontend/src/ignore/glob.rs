//! Does a path match a pattern?
//!
//! The language of Go's `filepath.Match` (`*` and `?` within one path segment; `[a-z]` and `[^a]`, which may take a `/`,
//! too; `\x`), and with [`Stars::Deep`] also `**` as `.dockerignore` and `COPY --parents` have it:
//!
//! | pattern | matches |
//! |---|---|
//! | `**/x` | `x`, `a/x`, `a/b/x` |
//! | `x/**` | everything below `x`, not `x` itself |
//! | `a**b` | `ab`, and `a…/b` at any depth |
//! | `**x` | every path that ends in `x` (only if nothing else is special) |
//!
//! The pattern is a list of tokens and matching simulates the automaton they are, all states at once: time is at most
//! the product of both lengths, whatever the pattern. Paths are bytes; `?` and classes take one UTF-8 character of
//! them, or one byte where they are not UTF-8.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Whether `**` crosses directories.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stars {
    /// `**` is `*` twice: sources of `COPY` and `ADD`.
    Shallow,
    /// `**` stands for any number of segments: ignore files, `--exclude`, `--parents`.
    Deep,
}

/// A checked pattern.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Glob {
    shape: Shape,
}

/// What the pattern boils down to. The first three need no automaton; they are most patterns there are.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Shape {
    Exact(Vec<u8>),
    /// `**/name` and `**name`: the text after the stars.
    Suffix(Vec<u8>),
    Tokens(Box<Tokens>),
}

/// A pattern that takes the automaton, unless the path's ends say no already: for nearly all paths they do.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Tokens {
    list: Vec<Token>,
    /// The ASCII characters that the pattern begins with, and those that it ends with.
    prefix: Vec<u8>,
    suffix: Vec<u8>,
}

impl Tokens {
    fn new(list: Vec<Token>) -> Self {
        let plain = |token: &Token| match token {
            Token::Char(code) => u8::try_from(*code).ok().filter(u8::is_ascii),
            _ => None,
        };
        let prefix = list.iter().map_while(plain).collect();
        let mut suffix: Vec<u8> = list.iter().rev().map_while(plain).collect();
        suffix.reverse();
        Self { list, prefix, suffix }
    }

    fn matches(&self, path: &[u8]) -> bool {
        if !path.starts_with(&self.prefix) || !path.ends_with(&self.suffix) {
            return false;
        }
        let mut states = States::start(&self.list);
        states.run(&self.list, path) && states.has(self.list.len())
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Token {
    Char(u32),
    /// `?`
    One,
    /// `[…]`: any of the ranges, or none of them.
    Class {
        negated: bool,
        ranges: Vec<(u32, u32)>,
    },
    /// `*`
    Star,
    /// `**` before something else: nothing, or anything up to and with a `/`.
    Deep,
    /// `**` at the end: anything.
    Rest,
}

/// Why a text is not a pattern.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GlobError {
    /// `[` without its `]`.
    #[error("a `[` is not closed")]
    OpenClass,
    /// `[]`, `[a-]`, `[-a]`.
    #[error("a range in `[…]` is incomplete; write `\\-` and `\\]` for these characters themselves")]
    BadRange,
    /// A backslash with nothing after it.
    #[error("nothing follows the last `\\`")]
    OpenEscape,
}

impl Glob {
    /// Checks a pattern. It is taken as it is: not cleaned, not anchored anywhere but at both ends.
    ///
    /// # Errors
    /// If Go's `filepath.Match` calls it malformed.
    pub fn new(pattern: &str, stars: Stars) -> Result<Self, GlobError> {
        let tokens = tokens(pattern, stars)?;
        let literal = |tokens: &[Token]| {
            let mut text = String::with_capacity(tokens.len());
            for token in tokens {
                let Token::Char(code) = token else { return None };
                text.extend(char::from_u32(*code));
            }
            Some(text.into_bytes())
        };
        let shape = if let Some(text) = literal(&tokens) {
            Shape::Exact(text)
        } else if tokens == [Token::Rest] {
            Shape::Suffix(Vec::new())
        } else if let Some(text) = tokens.strip_prefix(&[Token::Deep]).and_then(literal) {
            let plain = |rest: &str| !rest.starts_with('/') && !rest.contains(['*', '?', '[', '\\']);
            let is_end = pattern.strip_prefix("**").is_some_and(plain);
            Shape::Suffix(if is_end { text } else { [b"/", text.as_slice()].concat() })
        } else {
            Shape::Tokens(Box::new(Tokens::new(tokens)))
        };
        Ok(Self { shape })
    }

    /// Whether the whole path matches. Paths are `/`-separated and have no leading `/`.
    pub fn matches(&self, path: &Path) -> bool {
        self.matches_bytes(path.as_os_str().as_bytes())
    }

    /// Whether something below `directory` could match: if not, a walk need not enter it.
    pub fn may_match_below(&self, directory: &Path) -> bool {
        let directory = directory.as_os_str().as_bytes();
        match &self.shape {
            _ if directory.is_empty() => true,
            Shape::Exact(text) => text.strip_prefix(directory).is_some_and(|rest| rest.len() > 1 && rest[0] == b'/'),
            Shape::Suffix(_) => true,
            Shape::Tokens(tokens) => {
                let tokens = &tokens.list;
                let mut states = States::start(tokens);
                states.run(tokens, directory) && states.run(tokens, b"/")
            }
        }
    }

    /// The path, if the pattern is one: nothing in it is special, escapes are resolved.
    pub fn literal(&self) -> Option<&str> {
        match &self.shape {
            Shape::Exact(text) => std::str::from_utf8(text).ok(),
            Shape::Suffix(_) | Shape::Tokens(_) => None,
        }
    }

    pub(super) fn matches_bytes(&self, path: &[u8]) -> bool {
        match &self.shape {
            Shape::Exact(text) => path == text,
            Shape::Suffix(text) => path.ends_with(text) || text.strip_prefix(b"/").is_some_and(|text| path == text),
            Shape::Tokens(tokens) => tokens.matches(path),
        }
    }
}

/// The automaton's live states, as bits: state `i` has matched the first `i` tokens.
struct States {
    now: Vec<u64>,
    next: Vec<u64>,
}

impl States {
    fn start(tokens: &[Token]) -> Self {
        let words = tokens.len() / 64 + 1;
        let mut states = Self { now: vec![0; words], next: vec![0; words] };
        enter(&mut states.now, tokens, 0);
        states
    }

    fn has(&self, state: usize) -> bool {
        self.now[state / 64] >> (state % 64) & 1 == 1
    }

    /// Consumes `path`; false as soon as no state is left.
    fn run(&mut self, tokens: &[Token], mut path: &[u8]) -> bool {
        while !path.is_empty() {
            let (code, length) = decode(path);
            path = &path[length..];
            self.next.fill(0);
            for word in 0..self.now.len() {
                let mut bits = self.now[word];
                while bits != 0 {
                    let state = word * 64 + bits.trailing_zeros() as usize;
                    bits &= bits - 1;
                    if let Some(token) = tokens.get(state) {
                        step(&mut self.next, tokens, state, token, code);
                    }
                }
            }
            std::mem::swap(&mut self.now, &mut self.next);
            if self.now.iter().all(|word| *word == 0) {
                return false;
            }
        }
        true
    }
}

fn step(next: &mut [u64], tokens: &[Token], state: usize, token: &Token, code: u32) {
    let slash = code == u32::from(b'/');
    match token {
        Token::Char(expected) if *expected == code => enter(next, tokens, state + 1),
        Token::One if !slash => enter(next, tokens, state + 1),
        // Also a `/`: Docker 26.1.5 takes `a[^x]b` for `a/b`, in ignore files and in sources of COPY.
        Token::Class { negated, ranges } => {
            if ranges.iter().any(|(low, high)| (*low..=*high).contains(&code)) != *negated {
                enter(next, tokens, state + 1);
            }
        }
        Token::Star if !slash => enter(next, tokens, state),
        // Only leaving through a `/` counts, so a live `Deep` is set without its way around.
        Token::Deep => {
            set(next, state);
            if slash {
                enter(next, tokens, state + 1);
            }
        }
        Token::Rest => set(next, state),
        Token::Char(_) | Token::One | Token::Star => {}
    }
    if matches!(token, Token::Rest) {
        set(next, state + 1);
    }
}

/// Adds a state and those reachable from it without input. A state that is present has had this done already, except
/// after [`Token::Deep`], whose bit alone says nothing about the next one.
fn enter(states: &mut [u64], tokens: &[Token], mut state: usize) {
    loop {
        let present = states[state / 64] >> (state % 64) & 1 == 1;
        set(states, state);
        match tokens.get(state) {
            Some(Token::Star | Token::Rest) if !present => state += 1,
            Some(Token::Deep) => state += 1,
            _ => return,
        }
    }
}

fn set(states: &mut [u64], state: usize) {
    states[state / 64] |= 1 << (state % 64);
}

/// The first character and its length. Bytes that are not UTF-8 count one by one, above every code point.
fn decode(path: &[u8]) -> (u32, usize) {
    let first = path[0];
    let length = match first {
        0..0x80 => return (u32::from(first), 1),
        0xc2..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0..0xf5 => 4,
        _ => 0,
    };
    path.get(..length)
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .and_then(|text| text.chars().next())
        .map_or((0x11_0000 + u32::from(first), 1), |character| (u32::from(character), length))
}

fn tokens(pattern: &str, stars: Stars) -> Result<Vec<Token>, GlobError> {
    let mut tokens = Vec::with_capacity(pattern.len());
    let mut rest = pattern.chars();
    while let Some(character) = rest.next() {
        let token = match character {
            '*' if stars == Stars::Deep && rest.as_str().starts_with('*') => {
                rest.next();
                if rest.as_str().starts_with('/') {
                    rest.next();
                }
                if rest.as_str().is_empty() { Token::Rest } else { Token::Deep }
            }
            '*' => Token::Star,
            '?' => Token::One,
            '[' => class(&mut rest)?,
            '\\' => Token::Char(u32::from(rest.next().ok_or(GlobError::OpenEscape)?)),
            other => Token::Char(u32::from(other)),
        };
        // Several in a row are one. `enter` relies on it: it may not meet a long chain of them.
        if !(matches!(token, Token::Star | Token::Deep) && tokens.last() == Some(&token)) {
            tokens.push(token);
        }
    }
    Ok(tokens)
}

fn class(rest: &mut std::str::Chars<'_>) -> Result<Token, GlobError> {
    let negated = rest.as_str().starts_with('^');
    if negated {
        rest.next();
    }
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && rest.as_str().starts_with(']') {
            rest.next();
            return Ok(Token::Class { negated, ranges });
        }
        let low = class_character(rest)?;
        let high = if rest.as_str().starts_with('-') {
            rest.next();
            class_character(rest)?
        } else {
            low
        };
        ranges.push((u32::from(low), u32::from(high)));
    }
}

fn class_character(rest: &mut std::str::Chars<'_>) -> Result<char, GlobError> {
    match rest.next().ok_or(GlobError::OpenClass)? {
        '-' | ']' => Err(GlobError::BadRange),
        '\\' => rest.next().ok_or(GlobError::OpenEscape),
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests;
