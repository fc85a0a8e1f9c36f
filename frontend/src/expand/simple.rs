//! Which words need no grammar to be expanded?
//!
//! Nearly all: text, `$name` and `${name}`, with quotes around them or not. [`Pieces`] cuts them as the rules `expansion`
//! and `body` would. At anything else it stops and says so: an escape, an operator, a special parameter, a name that is
//! not ASCII, a quote or a brace that is never closed. What it reads to its end has no mistakes, whatever the values.

/// Whether quotes are there to be taken off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Quotes {
    /// They keep together what is in them, and vanish.
    Resolve,
    /// They are text, as in here-documents.
    Keep,
}

/// A part of a word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Piece<'text> {
    /// Stands for itself.
    Text(&'text str),
    /// A variable, by its name and the place a missing value is reported at.
    Variable { name: &'text str, start: usize, end: usize },
}

/// The pieces of a word, each with whether quotes are around it.
#[derive(Clone, Debug)]
pub(super) struct Pieces<'text> {
    text: &'text str,
    at: usize,
    escape: u8,
    quotes: Quotes,
    /// The open quote.
    quote: Option<u8>,
    simple: bool,
}

/// Whether the word is all simple.
pub(super) fn is_simple(text: &str, escape: char, quotes: Quotes) -> bool {
    let mut pieces = Pieces::new(text, escape, quotes);
    pieces.by_ref().for_each(drop);
    pieces.simple
}

impl<'text> Pieces<'text> {
    pub(super) fn new(text: &'text str, escape: char, quotes: Quotes) -> Self {
        let byte = u8::try_from(escape).ok();
        Self { text, at: 0, escape: byte.unwrap_or_default(), quotes, quote: None, simple: byte.is_some() }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    /// Gives up.
    fn stop<T>(&mut self) -> Option<T> {
        self.simple = false;
        None
    }

    /// Text up to what is special here.
    fn text(&mut self) -> &'text str {
        let start = self.at;
        let rest = &self.text.as_bytes()[start..];
        let (escape, quote) = (self.escape, self.quote);
        let length = match (self.quotes, quote) {
            (_, Some(b'\'')) => rest.iter().position(|byte| *byte == b'\''),
            (Quotes::Keep, _) => rest.iter().position(|byte| *byte == b'$' || *byte == escape),
            _ => rest
                .iter()
                .position(|byte| matches!(byte, b'$' | b'"') || *byte == escape || *byte == b'\'' && quote.is_none()),
        };
        self.at += length.unwrap_or(rest.len());
        &self.text[start..self.at]
    }

    /// What a `$` begins.
    fn dollar(&mut self) -> Option<Piece<'text>> {
        let braced = self.byte(self.at + 1) == Some(b'{');
        let name = self.at + if braced { 2 } else { 1 };
        let length =
            self.text.as_bytes()[name..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_');
        let end = name + length.count();
        let next = self.byte(end);
        match self.byte(name) {
            Some(first) if first.is_ascii_alphabetic() || first == b'_' => {
                // A letter of another script would go on with the name.
                let ends = if braced { next == Some(b'}') } else { next.is_none_or(|next| next.is_ascii()) };
                if !ends {
                    return self.stop();
                }
                let start = if braced { name } else { self.at };
                self.at = end + usize::from(braced);
                Some(Piece::Variable { name: &self.text[name..end], start, end })
            }
            first if !braced && first.is_none_or(|first| b" \t\n\r\"'(),./:;=[]\\`|".contains(&first)) => {
                self.at = name;
                Some(Piece::Text("$"))
            }
            _ => self.stop(),
        }
    }
}

impl<'text> Iterator for Pieces<'text> {
    type Item = (Piece<'text>, bool);

    fn next(&mut self) -> Option<Self::Item> {
        while self.simple {
            let text = self.text();
            if !text.is_empty() {
                return Some((Piece::Text(text), self.quote.is_some()));
            }
            match self.byte(self.at) {
                None if self.quote.is_none() => return None,
                None => return self.stop(),
                Some(b'$') => return self.dollar().map(|piece| (piece, self.quote.is_some())),
                Some(quote @ (b'"' | b'\'')) => {
                    self.quote = if self.quote.is_none() { Some(quote) } else { None };
                    self.at += 1;
                }
                Some(_) => return self.stop(),
            }
        }
        None
    }
}
