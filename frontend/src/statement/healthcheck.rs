//! What does a `HEALTHCHECK` say?

use std::time::Duration;

use super::{Arguments, Flags, Walker};
use crate::ast::{Command, Healthcheck, Probe, Spanned};
use crate::diagnostic::Diagnostic;
use crate::duration;
use crate::suggest::did_you_mean;

impl Walker<'_> {
    pub(super) fn healthcheck(&mut self, flags: &mut Flags, arguments: Arguments) -> Option<Healthcheck> {
        let interval = self.duration(flags, "interval");
        let timeout = self.duration(flags, "timeout");
        let start_period = self.duration(flags, "start-period");
        let start_interval = self.duration(flags, "start-interval");
        let retries = self.retries(flags);
        let sound = flags.finish(self.sink);
        let Arguments::Probe(kind, arguments) = arguments else {
            return self.fail(
                Diagnostic::error(self.span, "`HEALTHCHECK` requires at least one argument")
                    .hint("write `HEALTHCHECK CMD command` or `HEALTHCHECK NONE`"),
            );
        };
        if kind.text.eq_ignore_ascii_case("none") {
            return match *arguments {
                Arguments::None => sound.then_some(Healthcheck::None),
                _ => self.fail(
                    Diagnostic::error(self.span, "`HEALTHCHECK NONE` takes no arguments")
                        .hint("write `HEALTHCHECK NONE` and nothing else"),
                ),
            };
        }
        if !kind.text.eq_ignore_ascii_case("cmd") {
            let known = did_you_mean(&kind.text, ["CMD", "NONE"]);
            return self
                .fail(Diagnostic::error(kind.span, format!("unknown type `{}` in `HEALTHCHECK`", kind.text)).hint(
                    known.unwrap_or_else(|| "write `HEALTHCHECK CMD command` or `HEALTHCHECK NONE`".to_owned()),
                ));
        }
        let command = self.command(*arguments, "HEALTHCHECK")?;
        let empty = match &command {
            Command::Shell(line) => line.text.is_empty(),
            Command::Exec(words) => words.is_empty(),
        };
        if empty {
            return self.fail(
                Diagnostic::error(kind.span, "missing command after `HEALTHCHECK CMD`")
                    .hint("write `HEALTHCHECK CMD command`"),
            );
        }
        let probe = Probe { interval, timeout, start_period, start_interval, retries, command };
        sound.then_some(Healthcheck::Command(Box::new(probe)))
    }

    /// Zero means unset, as for those who run the image.
    fn duration(&mut self, flags: &mut Flags, name: &'static str) -> Option<Spanned<Duration>> {
        let word = flags.word(name, self.sink)?;
        match duration::parse(&word.text) {
            Some(value) if value.is_zero() || value >= Duration::from_millis(1) => {
                Some(Spanned { value, span: word.span })
            }
            Some(_) => {
                flags.spoil();
                self.fail(
                    Diagnostic::error(word.span, format!("`--{name}` cannot be less than 1ms"))
                        .hint("write `0s` for the default"),
                )
            }
            None => {
                flags.spoil();
                let number = word.text.bytes().all(|byte| byte.is_ascii_digit()) && word.text.len() < 10;
                let example = if number { &word.text } else { "30" };
                self.fail(
                    Diagnostic::error(
                        word.span,
                        format!("invalid duration `{}` for `HEALTHCHECK --{name}`", word.text),
                    )
                    .hint(format!("write a number and a unit: `{example}s`, `1m30s`, `500ms`")),
                )
            }
        }
    }

    fn retries(&mut self, flags: &mut Flags) -> Option<Spanned<u32>> {
        let word = flags.word("retries", self.sink)?;
        match word.text.trim_start_matches('+').parse::<u32>().ok().filter(|count| i32::try_from(*count).is_ok()) {
            Some(value) => Some(Spanned { value, span: word.span }),
            None => {
                flags.spoil();
                let message = format!("invalid number `{}` for `HEALTHCHECK --retries`", word.text);
                self.fail(Diagnostic::error(word.span, message).hint("write a number from 0 on"))
            }
        }
    }
}
