//! Which of Docker's flags are known here, but not done?
//!
//! A flag that is ignored gives an image other than the one asked for, and one that is unknown looks like a typing
//! mistake. These flags are accepted by the parser and then refused by name.

use std::marker::PhantomData;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

use crate::failure::Failure;

/// One of Docker's flags.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its long name, without dashes.
    pub name: &'static str,
    /// Its one-letter name.
    pub short: Option<char>,
    /// Whether a value follows.
    pub takes_value: bool,
    /// A value which asks for what is done anyway, and so is allowed.
    pub harmless: Option<&'static str>,
    /// What to do without it.
    pub instead: Option<&'static str>,
}

impl Flag {
    /// A flag with a value.
    pub const fn value(name: &'static str) -> Self {
        Self { name, short: None, takes_value: true, harmless: None, instead: None }
    }

    /// A flag without a value.
    pub const fn switch(name: &'static str) -> Self {
        Self { name, short: None, takes_value: false, harmless: None, instead: None }
    }

    /// The same with a one-letter name.
    pub const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    /// The same, but allowed with this value.
    pub const fn except(self, value: &'static str) -> Self {
        Self { harmless: Some(value), ..self }
    }

    /// The same with a hint at what to do without it.
    pub const fn instead(self, hint: &'static str) -> Self {
        Self { instead: Some(hint), ..self }
    }
}

/// Says which flags a command refuses.
pub trait Refuses {
    /// The flags.
    const FLAGS: &'static [Flag];
}

/// To be flattened into a command's arguments; [`Unsupported::check`] says whether one was given.
#[derive(Clone, Debug)]
pub struct Unsupported<T> {
    given: Option<(String, Option<&'static str>)>,
    command: PhantomData<T>,
}

impl<T> Unsupported<T> {
    /// Fails if one of the flags was given.
    pub fn check(&self) -> Result<(), Failure> {
        let Some((flag, instead)) = &self.given else { return Ok(()) };
        Err(Failure::Usage { message: format!("not supported: {flag}"), hint: instead.map(str::to_owned) })
    }
}

impl<T: Refuses> Args for Unsupported<T> {
    fn augment_args(command: Command) -> Command {
        T::FLAGS.iter().fold(command, |command, flag| {
            let action = if flag.takes_value { ArgAction::Append } else { ArgAction::SetTrue };
            let mut argument = Arg::new(flag.name).long(flag.name).action(action).hide(true);
            if let Some(short) = flag.short {
                argument = argument.short(short);
            }
            if flag.takes_value {
                argument = argument.value_parser(ValueParser::string()).allow_hyphen_values(true);
            }
            command.arg(argument)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<T: Refuses> FromArgMatches for Unsupported<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = T::FLAGS.iter().find_map(|flag| {
            let name = flag.name;
            let text = if flag.takes_value {
                let mut values = matches.get_many::<String>(name).into_iter().flatten();
                let value = values.find(|value| flag.harmless != Some(value.as_str()))?;
                format!("--{name} {value}")
            } else {
                matches.get_flag(name).then(|| format!("--{name}"))?
            };
            Some((text, flag.instead))
        });
        Ok(Self { given, command: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
