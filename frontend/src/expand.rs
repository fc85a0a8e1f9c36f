//! What does a word become when its variables have values?
//!
//! The grammar's `expansion` rule reads the word, this module walks what it found: quotes and escapes go away, variables
//! are replaced, `${name:-word}` and its like decide. Here-document bodies keep their quotes and always escape with a
//! backslash. Patterns know `*` and `?`, nothing else.
//!
//! Work is linear in the word, except that replacing costs what the result is long; nesting, result and pattern sizes are
//! bounded because words can come from anyone's base image.

use std::borrow::Cow;

use rbuild_core::Span;

use crate::ast::{Heredoc, Spanned, Word};
use crate::diagnostic::Diagnostic;
use crate::grammar::{Grammar, Pair, Parser as _, Rule};

mod output;
mod pattern;
mod simple;

use output::{Output, Split, Whole};
use simple::{Piece, Pieces, Quotes};

/// `${a:-${b:-…}}` may be this deep: the bound of the grammar's rule `deeper`.
const DEPTH: usize = 100;

/// Longest text one word may become; stops files that double a variable line by line.
const LONGEST: usize = 64 << 20;

/// Gives variables their values.
pub type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Expands words of one file in one place of it.
#[derive(Clone, Copy)]
pub struct Expander<'a> {
    /// The file's escape character, from [`Directives`](crate::ast::Directives).
    pub escape: char,
    /// The variables visible here.
    pub lookup: &'a Lookup<'a>,
}

/// An expanded word.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Expanded<T> {
    /// What it became.
    pub value: T,
    /// Variables without a value, in order. Those with a default (`${x:-y}`) are among them: where nothing declares the
    /// variable, nobody can ever set it.
    pub undefined: Vec<Spanned<String>>,
}

impl std::fmt::Debug for Expander<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Expander").field("escape", &self.escape).finish_non_exhaustive()
    }
}

impl Expander<'_> {
    /// One word becomes one text.
    ///
    /// # Errors
    /// Open quotes and braces, operators that do not exist, `${name?message}` of a variable without a value, and what is
    /// too deep or too long.
    pub fn word(&self, word: &Word) -> Result<Expanded<String>, Diagnostic> {
        let (output, undefined) = self.walk(Rule::expansion, self.escape, word, Whole::new())?;
        Ok(Expanded { value: output.0, undefined })
    }

    /// One word becomes any number of words: what is not quoted splits at spaces once variables are replaced.
    ///
    /// # Errors
    /// As [`Expander::word`].
    pub fn words(&self, word: &Word) -> Result<Expanded<Vec<String>>, Diagnostic> {
        let (output, undefined) = self.walk(Rule::expansion, self.escape, word, Split::default())?;
        Ok(Expanded { value: output.finish(), undefined })
    }

    /// The content of a here-document of `COPY` or `ADD`, with its tabs taken off if it says so; expanded unless its
    /// delimiter is quoted.
    ///
    /// # Errors
    /// As [`Expander::word`].
    pub fn body(&self, heredoc: &Heredoc) -> Result<Expanded<String>, Diagnostic> {
        let text = heredoc.content();
        if !heredoc.expand {
            return Ok(Expanded { value: text, undefined: Vec::new() });
        }
        let word = Word { text, span: heredoc.body_span };
        let (output, undefined) = self.walk(Rule::body, '\\', &word, Whole::new())?;
        Ok(Expanded { value: output.0, undefined })
    }

    /// Reports what is malformed, whatever the values of variables.
    ///
    /// # Errors
    /// As [`Expander::word`], with what [`Expander::lookup`] answers.
    pub(crate) fn check(&self, word: &Word) -> Result<(), Diagnostic> {
        if simple::is_simple(&word.text, self.escape, Quotes::Resolve) { Ok(()) } else { self.word(word).map(drop) }
    }

    /// The same for the content of a here-document.
    ///
    /// # Errors
    /// As [`Expander::word`], with what [`Expander::lookup`] answers.
    pub(crate) fn check_body(&self, heredoc: &Heredoc) -> Result<(), Diagnostic> {
        // Tabs at the beginnings of lines, which `<<-` takes off, are text in any case.
        let fine = !heredoc.expand || simple::is_simple(&heredoc.body, '\\', Quotes::Keep);
        if fine { Ok(()) } else { self.body(heredoc).map(drop) }
    }

    fn walk<O: Output>(
        &self,
        rule: Rule,
        escape: char,
        word: &Word,
        output: O,
    ) -> Result<(O, Vec<Spanned<String>>), Diagnostic> {
        let quotes = if rule == Rule::body { Quotes::Keep } else { Quotes::Resolve };
        if simple::is_simple(&word.text, escape, quotes) {
            return self.simple(Pieces::new(&word.text, escape, quotes), word, output);
        }
        self.parsed(rule, escape, word, output)
    }

    /// What [`Expander::parsed`] does, for words that need no grammar.
    fn simple<O: Output>(
        &self,
        pieces: Pieces<'_>,
        word: &Word,
        mut output: O,
    ) -> Result<(O, Vec<Spanned<String>>), Diagnostic> {
        let mut undefined = Vec::new();
        for (piece, quoted) in pieces {
            let value;
            let text = match piece {
                Piece::Text(text) => text,
                Piece::Variable { name, start, end, other } => {
                    let found = (self.lookup)(name);
                    if found.is_none() {
                        undefined.push(Spanned { value: name.to_owned(), span: word.part(start, end) });
                    }
                    value = match other {
                        Some(other) => other.choose(found),
                        None => found.unwrap_or_default(),
                    };
                    &value
                }
            };
            if quoted {
                output.fixed(text);
            } else {
                output.loose(text);
            }
            if output.size() > LONGEST {
                return Err(too_long(word.span));
            }
        }
        Ok((output, undefined))
    }

    fn parsed<O: Output>(
        &self,
        rule: Rule,
        escape: char,
        word: &Word,
        mut output: O,
    ) -> Result<(O, Vec<Spanned<String>>), Diagnostic> {
        let text = format!("{escape}{}", word.text);
        // The rules accept every text; only the parser's own stack limit makes them fail.
        let pair = Grammar::parse(rule, &text).ok().and_then(|mut pairs| pairs.next());
        let pair = pair.ok_or_else(|| too_deep(word.span))?;
        let mut walker = Walker { lookup: self.lookup, word, escape, undefined: Vec::new() };
        walker.pieces(pair, Escapes::Resolve, &mut output)?;
        Ok((output, walker.undefined))
    }
}

/// What becomes of escape characters: patterns keep them, to read them as their own.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Escapes {
    Resolve,
    Keep,
}

/// A substitution and the name in it.
struct Places {
    whole: Span,
    name: Span,
}

struct Walker<'a> {
    lookup: &'a Lookup<'a>,
    word: &'a Word,
    escape: char,
    undefined: Vec<Spanned<String>>,
}

impl Walker<'_> {
    fn pieces(&mut self, parent: Pair<'_>, escapes: Escapes, output: &mut impl Output) -> Result<(), Diagnostic> {
        for pair in parent.into_inner() {
            match pair.as_rule() {
                Rule::variable => {
                    let value = self.variable(&pair);
                    output.loose(&value);
                }
                Rule::substitution | Rule::body_substitution => {
                    let value = self.substitution(pair)?;
                    output.loose(&value);
                }
                Rule::single => self.single(pair, output)?,
                Rule::double => self.double(pair, escapes, output)?,
                Rule::escaped => {
                    let kept = if escapes == Escapes::Keep { pair.as_str() } else { inner_text(pair) };
                    output.fixed(kept);
                }
                Rule::EOI => {}
                _ => output.loose(pair.as_str()),
            }
            if output.size() > LONGEST {
                return Err(too_long(self.word.span));
            }
        }
        Ok(())
    }

    fn single(&self, pair: Pair<'_>, output: &mut impl Output) -> Result<(), Diagnostic> {
        let span = self.place(&pair);
        for inner in pair.into_inner() {
            match inner.as_rule() {
                Rule::unclosed => return Err(self.open_quote(span, "single", '\'')),
                _ => output.fixed(inner.as_str()),
            }
        }
        Ok(())
    }

    fn double(&mut self, pair: Pair<'_>, escapes: Escapes, output: &mut impl Output) -> Result<(), Diagnostic> {
        let span = self.place(&pair);
        for inner in pair.into_inner() {
            match inner.as_rule() {
                Rule::unclosed => return Err(self.open_quote(span, "double", '"')),
                Rule::variable => output.fixed(&self.variable(&inner)),
                Rule::substitution => output.fixed(&self.substitution(inner)?),
                Rule::double_escaped => {
                    let special = inner.into_inner().next();
                    // Before anything else an escape is text; in a pattern that text must be escaped in turn.
                    if special.is_none() || escapes == Escapes::Keep {
                        output.fixed(self.escape.encode_utf8(&mut [0; 4]));
                    }
                    match special {
                        Some(special) => output.fixed(special.as_str()),
                        None if escapes == Escapes::Keep => output.fixed(self.escape.encode_utf8(&mut [0; 4])),
                        None => {}
                    }
                }
                _ => output.fixed(inner.as_str()),
            }
            if output.size() > LONGEST {
                return Err(too_long(self.word.span));
            }
        }
        Ok(())
    }

    fn variable(&mut self, pair: &Pair<'_>) -> String {
        let name = pair.as_str().trim_start_matches('$');
        // `$$` names the special parameter `$`.
        let name = if name.is_empty() { "$" } else { name };
        let span = self.place(pair);
        self.value(name, span)
    }

    fn value(&mut self, name: &str, span: Span) -> String {
        (self.lookup)(name).unwrap_or_else(|| {
            self.undefined.push(Spanned { value: name.to_owned(), span });
            String::new()
        })
    }

    fn substitution(&mut self, pair: Pair<'_>) -> Result<String, Diagnostic> {
        let span = self.place(&pair);
        let whole = pair.as_str();
        if pair.clone().into_inner().any(|inner| matches!(inner.as_rule(), Rule::unclosed | Rule::too_deep)) {
            // What is nested too deeply takes the rest of the text, so that no level around it is closed.
            if pair.into_inner().flatten().any(|inner| inner.as_rule() == Rule::too_deep) {
                return Err(too_deep(span));
            }
            return Err(self.open_brace(span));
        }
        let mut inner = pair.into_inner().peekable();
        let Some(name) = inner.next_if(|pair| pair.as_rule() == Rule::name) else {
            return Err(self.nameless(span, whole));
        };
        let name_span = self.place(&name);
        let name = name.as_str();
        let Some(operation) = inner.next() else {
            return Ok(self.value(name, name_span));
        };
        let rule = operation.as_rule();
        let mut parts = operation.into_inner();
        let operator = parts.next().map_or("", |operator| operator.as_str());
        match rule {
            Rule::conditional | Rule::body_conditional => {
                let word = self.inner(parts.next(), Escapes::Resolve)?;
                self.condition(name, Places { whole: span, name: name_span }, operator, word)
            }
            Rule::trim | Rule::body_trim => {
                let glob = self.inner(parts.next(), Escapes::Keep)?;
                let value = self.value(name, name_span);
                pattern::trim(&value, operator, &glob).map_err(|error| error.at(span))
            }
            Rule::replace | Rule::body_replace => {
                let glob = self.inner(parts.next(), Escapes::Keep)?;
                let Some(replacement) = parts.next() else {
                    return Err(no_replacement(span, whole));
                };
                let replacement = self.inner(Some(replacement), Escapes::Keep)?;
                let value = self.value(name, name_span);
                let all = if operator == "//" { pattern::Which::All } else { pattern::Which::First };
                pattern::replace(&value, &glob, &replacement, all, LONGEST).map_err(|error| error.at(span))
            }
            _ => Err(unsupported(span, operator, whole)),
        }
    }

    fn condition(&mut self, name: &str, places: Places, operator: &str, word: String) -> Result<String, Diagnostic> {
        let value = (self.lookup)(name);
        if value.is_none() {
            self.undefined.push(Spanned { value: name.to_owned(), span: places.name });
        }
        let empty_counts = operator.starts_with(':');
        let present = value.as_ref().is_some_and(|value| !(empty_counts && value.is_empty()));
        match (operator.trim_start_matches(':'), present) {
            ("-", false) | ("+", true) => Ok(word),
            ("+", false) => Ok(String::new()),
            ("?", false) => {
                let state = if value.is_some() { "empty" } else { "unset" };
                let message = if word.is_empty() { format!("must not be {state}") } else { word };
                Err(Diagnostic::error(places.whole, format!("`{name}`: {message}")).label(format!("`{name}` is {state}")).hint(
                    format!("set it: with `ARG {name}=…`, `ENV {name}=…`, or `--build-arg {name}=…` where an `ARG {name}` declares it"),
                ))
            }
            _ => Ok(value.unwrap_or_default()),
        }
    }

    fn inner(&mut self, pair: Option<Pair<'_>>, escapes: Escapes) -> Result<String, Diagnostic> {
        let mut output = Whole::new();
        if let Some(pair) = pair {
            self.pieces(pair, escapes, &mut output)?;
        }
        Ok(output.0)
    }

    fn place(&self, pair: &Pair<'_>) -> Span {
        let span = pair.as_span();
        let shift = self.escape.len_utf8();
        self.word.part(span.start() - shift, span.end() - shift)
    }

    fn open_brace(&self, span: Span) -> Diagnostic {
        Diagnostic::error(span, "syntax error: missing `}`")
            .label("this brace is never closed")
            .hint(format!("close it with `}}`, or write `{}$` for a plain dollar sign", self.escape))
    }

    fn nameless(&self, span: Span, whole: &str) -> Diagnostic {
        Diagnostic::error(span, format!("syntax error: bad substitution `{}`", excerpt(whole)))
            .label("a variable name is missing")
            .hint(format!("write `${{name}}`, or `{}$` for a plain dollar sign", self.escape))
    }

    fn open_quote(&self, span: Span, kind: &str, quote: char) -> Diagnostic {
        Diagnostic::error(span, format!("unterminated {kind} quote"))
            .label(format!("no `{quote}` ends this"))
            .hint(format!("write `{}{quote}` for a plain quote", self.escape))
    }
}

// Substitutions nest on the stack: their mistakes are written down elsewhere.

fn no_replacement(span: Span, whole: &str) -> Diagnostic {
    Diagnostic::error(span, format!("syntax error: missing `/` in `{}`", excerpt(whole)))
        .hint("a replacement is written `${name/pattern/replacement}`")
}

fn unsupported(span: Span, operator: &str, whole: &str) -> Diagnostic {
    let known = "`:-` `-` `:+` `+` `:?` `?` `#` `##` `%` `%%` `/` `//`";
    Diagnostic::error(span, format!("unsupported modifier `{operator}` in `{}`", excerpt(whole)))
        .hint(format!("after the name may follow one of {known}"))
}

fn inner_text(pair: Pair<'_>) -> &str {
    pair.into_inner().next().map_or("", |one| one.as_str())
}

fn excerpt(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(60) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

fn too_deep(span: Span) -> Diagnostic {
    Diagnostic::error(span, format!("substitutions are nested too deeply: at most {DEPTH} levels"))
}

fn too_long(span: Span) -> Diagnostic {
    Diagnostic::error(span, format!("the expanded text is longer than {} MiB", LONGEST >> 20))
}

#[cfg(test)]
mod tests;
