//! Which flags does an instruction have?
//!
//! Each is asked for by name and type; what nobody asked for is unknown.

use rbuild_core::Span;

use super::Place;
use crate::ast::{Spanned, Word};
use crate::diagnostic::Diagnostic;
use crate::elsewhere;
use crate::findings::Findings;
use crate::grammar::{Pair, Rule as Syntax};
use crate::suggest::did_you_mean;

/// The flags of one instruction, in order.
#[derive(Debug)]
pub(super) struct Flags {
    instruction: &'static str,
    flags: Vec<Flag>,
    known: Vec<&'static str>,
    sound: bool,
}

#[derive(Debug)]
struct Flag {
    name: String,
    value: Option<Word>,
    span: Span,
}

impl Flags {
    pub(super) fn new(instruction: &'static str) -> Self {
        Self { instruction, flags: Vec::new(), known: Vec::new(), sound: true }
    }

    pub(super) fn add(&mut self, pair: Pair<'_>, place: Place<'_>, sink: &mut Findings) {
        let span = place.span(&pair);
        let mut parts = pair.into_inner();
        let name = parts.next().map_or_else(String::new, |name| name.as_str().to_owned());
        let mut value = None;
        if let Some(pair) = parts.next() {
            let mut word = Word { text: String::new(), span: place.span(&pair) };
            if let Some(quote) = resolve(pair, &mut word.text) {
                self.sound = false;
                let message = format!("a quote in the value of `--{name}` is never closed");
                sink.push(Diagnostic::error(word.span, message).hint(format!("close it with `{quote}`")));
                return;
            }
            value = Some(word);
        }
        self.flags.push(Flag { name, value, span });
    }

    /// Takes all flags of a name.
    pub(super) fn list(&mut self, name: &'static str, sink: &mut Findings) -> Vec<Word> {
        let flags = self.take(name);
        let mut words = Vec::with_capacity(flags.len());
        for flag in flags {
            match flag.value {
                Some(value) => words.push(value),
                None => {
                    self.sound = false;
                    sink.push(
                        Diagnostic::error(flag.span, format!("missing a value on flag `--{name}`"))
                            .hint(format!("write `--{name}=…`, without a blank around the `=`")),
                    );
                }
            }
        }
        words
    }

    /// Takes a flag that has a value and may stand once; an empty value is as good as no flag.
    pub(super) fn word(&mut self, name: &'static str, sink: &mut Findings) -> Option<Word> {
        self.once(name, sink);
        self.list(name, sink).into_iter().next().filter(|word| !word.text.is_empty())
    }

    /// Takes a flag that is on, or off if it says so.
    pub(super) fn boolean(&mut self, name: &'static str, sink: &mut Findings) -> Option<Spanned<bool>> {
        self.once(name, sink);
        let flag = self.take(name).into_iter().next()?;
        let value = match flag.value.as_ref().map(|value| value.text.to_ascii_lowercase()).as_deref() {
            None | Some("true") => true,
            Some("false") => false,
            Some(other) => {
                self.sound = false;
                let message = format!("expecting a boolean value for flag `--{name}`, not `{other}`");
                sink.push(Diagnostic::error(flag.span, message).hint("the value is `true` or `false`"));
                return None;
            }
        };
        Some(Spanned { value, span: flag.span })
    }

    /// Takes a flag with one of some values.
    pub(super) fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&str, T)],
        sink: &mut Findings,
    ) -> Option<Spanned<T>> {
        let word = self.word(name, sink)?;
        let found = choices.iter().find(|(choice, _)| choice.eq_ignore_ascii_case(&word.text));
        if let Some((_, value)) = found {
            return Some(Spanned { value: *value, span: word.span });
        }
        self.sound = false;
        let known: Vec<_> = choices.iter().map(|(choice, _)| format!("`{choice}`")).collect();
        let hint = did_you_mean(&word.text, choices.iter().map(|(choice, _)| *choice));
        let variable = if word.text.contains('$') { "; variables are not replaced here" } else { "" };
        sink.push(
            Diagnostic::error(word.span, format!("unsupported value `{}` for flag `--{name}`", word.text))
                .hint(hint.unwrap_or_else(|| format!("the value is one of {}{variable}", known.join(", ")))),
        );
        None
    }

    /// Reports what was not asked for; whether all flags were fine.
    pub(super) fn finish(&mut self, sink: &mut Findings) -> bool {
        for flag in std::mem::take(&mut self.flags) {
            self.sound = false;
            let known: Vec<_> = self.known.iter().map(|known| format!("`--{known}`")).collect();
            let fallback = match known.len() {
                0 => format!(
                    "`{}` has no flags; to begin the arguments with `--`, put `--` before them",
                    self.instruction
                ),
                _ => format!("`{}` knows {}", self.instruction, known.join(", ")),
            };
            let hint = did_you_mean(&flag.name, self.known.iter().copied());
            let hint = hint.map(|hint| hint.replacen('`', "`--", 1)).unwrap_or(fallback);
            let hint = elsewhere::flag(self.instruction, &flag.name).map_or(hint, str::to_owned);
            sink.push(
                Diagnostic::error(flag.span, format!("unknown flag of `{}`: `--{}`", self.instruction, flag.name))
                    .hint(hint),
            );
        }
        self.sound
    }

    /// Notes that something about a flag was wrong.
    pub(super) fn spoil(&mut self) {
        self.sound = false;
    }

    fn take(&mut self, name: &'static str) -> Vec<Flag> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        self.flags.extract_if(.., |flag| flag.name == name).collect()
    }

    fn once(&mut self, name: &'static str, sink: &mut Findings) {
        let spans: Vec<_> = self.flags.iter().filter(|flag| flag.name == name).map(|flag| flag.span).collect();
        for again in spans.iter().skip(1) {
            self.sound = false;
            sink.push(
                Diagnostic::error(*again, format!("duplicate flag specified: `--{name}`"))
                    .and(spans[0], "it is already set here")
                    .hint("remove one of the two"),
            );
        }
    }
}

/// Takes quotes and escapes off; the quote that is open, if one is.
fn resolve(pair: Pair<'_>, text: &mut String) -> Option<char> {
    let mut open = None;
    let quote = pair.as_str().chars().next();
    for part in pair.into_inner() {
        match part.as_rule() {
            Syntax::flag_double | Syntax::flag_single => open = open.or(resolve(part, text)),
            Syntax::escaped => text.push_str(part.into_inner().next().map_or("", |one| one.as_str())),
            Syntax::unclosed => open = quote,
            _ => text.push_str(part.as_str()),
        }
    }
    open
}
