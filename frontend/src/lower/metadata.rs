//! What do instructions that only describe the image change?

use std::time::Duration;

use rbuild_core::Span;
use rbuild_image::Healthcheck;
use rbuild_image::config::Empty;

use super::Lowering;
use super::globals::{NOT_IN_ENVIRONMENT, build_arg};
use super::history::{self, LayerKind};
use super::signal;
use super::stage::Site;
use super::state::State;
use crate::Diagnostic;
use crate::ast::{self, Arg, Command, Instruction, Kind, Pairs, Spanned, Word};
use crate::expand::Expander;
use crate::port;
use crate::rule::Rule;

const VALUE: &str = "give the variable a value with `ARG` or `ENV` above this line";

/// Carries out an instruction that has no variables.
pub(super) fn record(state: &mut State, instruction: &Instruction) {
    let text = match &instruction.kind {
        Kind::Cmd(command) => {
            let args = arguments(state, command);
            let text = format!("CMD {}", history::quoted_list(&args));
            state.own_command = true;
            state.config().cmd = Some(args).filter(|args| !args.is_empty());
            state.config().args_escaped = true;
            text
        }
        Kind::Entrypoint(command) => {
            let args = arguments(state, command);
            let text = format!("ENTRYPOINT {}", history::quoted_list(&args));
            state.config().entrypoint = Some(args).filter(|args| !args.is_empty());
            if !state.own_command {
                state.config().cmd = None;
            }
            text
        }
        Kind::Healthcheck(healthcheck) => {
            let check = check(healthcheck);
            let text = format!("HEALTHCHECK {}", history::healthcheck(&check));
            state.config().healthcheck = Some(check);
            text
        }
        Kind::Maintainer(author) => {
            state.image.author = Some(author.text.clone());
            format!("MAINTAINER {}", author.text)
        }
        Kind::Shell(words) => {
            let shell: Vec<_> = words.iter().map(|word| word.text.clone()).collect();
            let text = format!("SHELL {}", history::plain_list(&shell));
            state.config().shell = Some(shell);
            text
        }
        Kind::Onbuild(onbuild) => {
            state.config().on_build.push(onbuild.trigger.text.clone());
            return;
        }
        _ => return,
    };
    state.record(text, LayerKind::None);
}

impl Lowering<'_> {
    /// Later declarations of a line see earlier ones.
    pub(super) fn arg(&mut self, state: &mut State, site: &Site<'_>, arg: &Arg) -> Result<(), Diagnostic> {
        let mut texts = vec!["ARG".to_owned()];
        for declaration in &arg.declarations {
            let name = self.expand(state, &declaration.name)?;
            let given = build_arg(self.options, &name).map(std::borrow::Cow::into_owned);
            let own = given.is_some() || declaration.default.is_some() || !self.globals.has(&name);
            let value = match (given, &declaration.default) {
                (Some(given), _) => Some(given),
                (None, Some(default)) => Some(self.expand(state, default)?),
                (None, None) => self.globals.values.value(&name).map(str::to_owned),
            };
            let value = value.as_deref();
            self.sketch.arg(declaration, &name, value, own);
            if value.is_some() && state.image_env.has(&name) && !site.is_trigger {
                state.hidden.insert(name.clone(), hides(&name, declaration.span));
            }
            if let Some(value) = value.filter(|_| !NOT_IN_ENVIRONMENT.contains(&name.as_str())) {
                state.env.set(&name, value);
            }
            state.args.set(&name, value.unwrap_or_default());
            texts.push(value.map_or_else(|| name.clone(), |value| format!("{name}={value}")));
        }
        state.record(texts.join(" "), LayerKind::None);
        Ok(())
    }

    pub(super) fn env(&mut self, state: &mut State, pairs: &Pairs) -> Result<(), Diagnostic> {
        let pairs = self.pairs(state, pairs, "ENV")?;
        state.record(pairs_text("ENV", &pairs), LayerKind::None);
        for (name, value) in pairs {
            state.hidden.remove(&name);
            state.image_env.set(&name, value.as_str());
            state.env.set(&name, value);
        }
        Ok(())
    }

    pub(super) fn label(&mut self, state: &mut State, pairs: &Pairs) -> Result<(), Diagnostic> {
        let pairs = self.pairs(state, pairs, "LABEL")?;
        state.record(pairs_text("LABEL", &pairs), LayerKind::None);
        state.config().labels.extend(pairs);
        Ok(())
    }

    pub(super) fn expose(&mut self, state: &mut State, words: &[Word]) -> Result<(), Diagnostic> {
        let mut all = Vec::new();
        for word in words {
            let lookup = |name: &str| state.env.value(name).map(str::to_owned);
            let expanded = Expander { escape: self.escape, lookup: &lookup }.words(word);
            let expanded = self.judged(expanded)?;
            self.undefined(state, &expanded.undefined);
            for text in expanded.value {
                all.extend(self.ports(word, &text)?);
            }
        }
        state.record(format!("EXPOSE {}", history::plain_list(&all)), LayerKind::None);
        state.config().exposed_ports.extend(all.into_iter().map(|port| (port, Empty {})));
        Ok(())
    }

    fn ports(&mut self, word: &Word, text: &str) -> Result<Vec<String>, Diagnostic> {
        let ports =
            port::parse(text).map_err(|error| Diagnostic::error(word.span, error.to_string()).hint_if(error.hint()))?;
        // `check` sees what is constant.
        let has_values = word.text.contains('$');
        if ports.published.is_some() && has_values {
            let message = format!("`EXPOSE {text}` publishes nothing: an image only says which ports it listens on");
            self.notes.warn(Diagnostic::warning(Rule::ExposeInvalidFormat, word.span, message));
        }
        if ports.odd_protocol && has_values {
            let message = format!("the protocol in `EXPOSE {text}` should be lower case");
            self.notes.warn(Diagnostic::warning(Rule::ExposeProtoCasing, word.span, message));
        }
        Ok(ports.each().collect())
    }

    pub(super) fn stopsignal(&mut self, state: &mut State, word: &Word) -> Result<(), Diagnostic> {
        let signal = self.expand(state, word)?;
        if !signal::is_signal(&signal) {
            let hint = signal::nearest(&signal).map(|near| format!("did you mean `{near}`?"));
            return Err(Diagnostic::error(word.span, format!("`{signal}` is not a signal"))
                .hint(hint.unwrap_or_else(|| "write a name such as `SIGTERM`, or a number".to_owned())));
        }
        state.record(format!("STOPSIGNAL {signal}"), LayerKind::None);
        state.config().stop_signal = Some(signal);
        Ok(())
    }

    pub(super) fn user(&mut self, state: &mut State, word: &Word) -> Result<(), Diagnostic> {
        let user = self.expand(state, word)?;
        state.record(format!("USER {user}"), LayerKind::None);
        state.config().user = user;
        Ok(())
    }

    pub(super) fn volume(&mut self, state: &mut State, words: &[Word]) -> Result<(), Diagnostic> {
        let mut volumes = Vec::with_capacity(words.len());
        for word in words {
            let volume = self.expand(state, word)?;
            if volume.is_empty() {
                let message = format!("`VOLUME` needs a path, `{}` expands to nothing", word.text);
                return Err(Diagnostic::error(word.span, message).hint(VALUE));
            }
            volumes.push(volume);
        }
        state.record(format!("VOLUME {}", history::plain_list(&volumes)), LayerKind::None);
        state.config().volumes.extend(volumes.into_iter().map(|volume| (volume, Empty {})));
        Ok(())
    }

    /// All pairs of a line see the environment before the line.
    fn pairs(&mut self, state: &State, pairs: &Pairs, keyword: &str) -> Result<Vec<(String, String)>, Diagnostic> {
        let mut expanded = Vec::with_capacity(pairs.pairs.len());
        for pair in &pairs.pairs {
            let name = self.expand(state, &pair.name)?;
            if name.is_empty() {
                let message = format!("`{keyword}` needs a name, `{}` expands to nothing", pair.name.text);
                return Err(Diagnostic::error(pair.name.span, message).hint(VALUE));
            }
            expanded.push((name, self.expand(state, &pair.value)?));
        }
        Ok(expanded)
    }
}

fn hides(name: &str, span: Span) -> Diagnostic {
    let message = format!("`ARG {name}` hides `ENV {name}` from `RUN`, but the image keeps the value of `ENV`");
    Diagnostic::warning(Rule::ArgOverridesEnv, span, message)
        .hint(format!("`ENV {name}=${name}` below it takes the argument over; else give it another name"))
}

fn pairs_text(keyword: &str, pairs: &[(String, String)]) -> String {
    let mut text = keyword.to_owned();
    for (name, value) in pairs {
        text.extend([" ", name, "=", value]);
    }
    text
}

fn arguments(state: &State, command: &Command) -> Vec<String> {
    match command {
        Command::Shell(word) => state.in_shell(word.text.clone()),
        Command::Exec(words) => words.iter().map(|word| word.text.clone()).collect(),
    }
}

fn check(healthcheck: &ast::Healthcheck) -> Healthcheck {
    let ast::Healthcheck::Command(probe) = healthcheck else {
        return Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() };
    };
    let test = match &probe.command {
        Command::Shell(word) => vec!["CMD-SHELL".to_owned(), word.text.clone()],
        Command::Exec(words) => {
            let words = words.iter().map(|word| word.text.clone());
            std::iter::once("CMD".to_owned()).chain(words).collect()
        }
    };
    let nanoseconds = |duration: &Option<Spanned<Duration>>| {
        duration.map_or(0, |duration| i64::try_from(duration.value.as_nanos()).unwrap_or(i64::MAX))
    };
    Healthcheck {
        test,
        interval: nanoseconds(&probe.interval),
        timeout: nanoseconds(&probe.timeout),
        start_period: nanoseconds(&probe.start_period),
        start_interval: nanoseconds(&probe.start_interval),
        retries: probe.retries.map_or(0, |retries| i64::from(retries.value)),
    }
}
