//! Which words need no grammar to be expanded?
//!
//! Nearly all: text, `$name`, `${name}`, and `${name:-word}` with `-` or `+` and a word of which nothing is special, with
//! quotes around them or not. [`Pieces`] cuts them as the rules `expansion` and `body` would. At anything else it stops and
//! says so: an escape, another operator, a special parameter, a name that is not ASCII, a quote or a brace that is never
//! closed. What it reads to its end has no mistakes, whatever the values.

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
    Variable { name: &'text str, start: usize, end: usize, other: Option<Other<'text>> },
}

/// A word that may stand for a variable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Other<'text> {
    text: &'text str,
    /// With a colon, an empty value is as good as none.
    colon: bool,
    when: When,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum When {
    /// `-`
    Absent,
    /// `+`
    Present,
}

impl Other<'_> {
    /// What stands for a variable with this value.
    pub(super) fn choose(self, value: Option<String>) -> String {
        let present = value.as_ref().is_some_and(|value| !(self.colon && value.is_empty()));
        match (self.when, present) {
            (When::Absent, false) | (When::Present, true) => self.text.to_owned(),
            (When::Absent, true) => value.unwrap_or_default(),
            (When::Present, false) => String::new(),
        }
    }
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
                let other = if braced && next != Some(b'}') { Some(self.other(end)) } else { None };
                // A letter of another script would go on with the name.
                if other == Some(None) || !braced && next.is_some_and(|next| !next.is_ascii()) {
                    return self.stop();
                }
                let start = if braced { name } else { self.at };
                self.at = other.flatten().map_or(end, |(_, end)| end) + usize::from(braced);
                let other = other.flatten().map(|(other, _)| other);
                Some(Piece::Variable { name: &self.text[name..end], start, end, other })
            }
            first if !braced && first.is_none_or(|first| b" \t\n\r\"'(),./:;=[]\\`|".contains(&first)) => {
                self.at = name;
                Some(Piece::Text("$"))
            }
            _ => self.stop(),
        }
    }
}

impl<'text> Pieces<'text> {
    /// An operator and its word, and where the brace behind them is.
    fn other(&self, at: usize) -> Option<(Other<'text>, usize)> {
        let colon = self.byte(at) == Some(b':');
        let operator = at + usize::from(colon);
        let when = match self.byte(operator)? {
            b'-' => When::Absent,
            b'+' => When::Present,
            _ => return None,
        };
        let rest = &self.text.as_bytes()[operator + 1..];
        let is_plain = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_.,:/@%+=-".contains(byte);
        let end = operator + 1 + rest.iter().take_while(is_plain).count();
        let other = Other { text: &self.text[operator + 1..end], colon, when };
        (self.byte(end) == Some(b'}')).then_some((other, end))
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
