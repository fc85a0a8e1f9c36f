//! What does a command line say?
//!
//! The language is Docker's, with two conveniences: `build` may be left out, and every command is also known under
//! its group (`image ls`, `container rm`). Both are undone by [`normalize`] before clap sees the words.

pub mod csv;
pub mod unsupported;
pub mod values;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Args, Command, Parser};

use crate::commands;
use crate::failure::{EXIT_CODES, Failure};

/// Build, run and share container images, without a daemon
#[derive(Debug, Parser)]
#[command(
    name = "rbuild",
    version,
    disable_version_flag = true,
    after_help = EXIT_CODES,
    override_usage = "rbuild [build] [OPTIONS] CONTEXT\n       rbuild COMMAND …",
    max_term_width = 100,
    subcommand_required = true
)]
pub struct CommandLine {
    /// Print version
    #[arg(short, long, short_alias = 'V', action = clap::ArgAction::Version)]
    version: Option<bool>,
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: commands::Command,
}

/// What every command takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Directory with all images, layers and results [default: $RBUILD_ROOT, else /var/lib/rbuild for root]
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// Registry that may be spoken to without TLS, or with a certificate nobody vouches for (repeatable)
    #[arg(long = "insecure-registry", global = true, value_name = "HOST[:PORT]")]
    pub insecure_registries: Vec<String>,
    /// What the store removes by itself: `off`, or a list such as max-used=50gb,min-free=20gb,reserved=5gb,unused=720h
    /// (1gb is 2^30 bytes)
    #[arg(
        long,
        global = true,
        env = "RBUILD_GC",
        value_name = "LIMITS",
        default_value = "",
        hide_default_value = true
    )]
    pub gc: rbuild_engine::prune::CollectLimits,
    /// Form of new layers: `auto`, `erofs` or `directory`
    #[arg(long, global = true, env = "RBUILD_LAYERS", value_name = "FORM", default_value = "auto", hide = true)]
    pub layers: rbuild_engine::LayerForm,
}

/// Docker's other names: group and name in it, and the command here.
const ALIASES: &[(&str, &str, &str)] = &[
    ("builder", "build", "build"),
    ("container", "create", "create"),
    ("container", "inspect", "inspect"),
    ("container", "kill", "kill"),
    ("container", "list", "ps"),
    ("container", "logs", "logs"),
    ("container", "ls", "ps"),
    ("container", "port", "port"),
    ("container", "ps", "ps"),
    ("container", "remove", "rm"),
    ("container", "restart", "restart"),
    ("container", "rm", "rm"),
    ("container", "run", "run"),
    ("container", "start", "start"),
    ("container", "stop", "stop"),
    ("container", "wait", "wait"),
    ("image", "build", "build"),
    ("image", "history", "history"),
    ("image", "import", "import"),
    ("image", "inspect", "inspect"),
    ("image", "list", "images"),
    ("image", "load", "load"),
    ("image", "ls", "images"),
    ("image", "pull", "pull"),
    ("image", "push", "push"),
    ("image", "remove", "rmi"),
    ("image", "rm", "rmi"),
    ("image", "save", "save"),
    ("image", "tag", "tag"),
    ("system", "df", "df"),
    ("system", "info", "info"),
    ("system", "prune", "prune"),
];

/// Docker's commands that are not done here. Without this list they would be taken for the context of a build.
const REFUSED: &[&str] = &[
    "attach", "bake", "buildx", "commit", "compose", "cp", "diff", "events", "exec", "export", "network", "pause",
    "rename", "search", "stats", "top", "unpause", "update", "volume",
];

/// What to say of a word of a group that is no command of it.
fn unknown_alias(group: &str, name: Option<&str>) -> String {
    let known: Vec<&str> = ALIASES.iter().filter(|(of, ..)| *of == group).map(|(_, name, _)| *name).collect();
    let what = match name {
        Some(name) => format!("`{group}` has no command `{name}`"),
        None => format!("`{group}` needs a command"),
    };
    format!("{what}: expected {}", known.join(", "))
}

/// The words with aliases replaced, `build` put in where no command is named, `--flag=true` as `--flag`, and `--` before
/// the image of `run`. `exists` says whether there is such a path, which then is the context of a build.
pub fn normalize(
    top: &Command,
    mut words: Vec<OsString>,
    exists: impl Fn(&OsStr) -> bool,
) -> Result<Vec<OsString>, Failure> {
    let Some(at) = first_word(top, &words) else { return Ok(words) };
    let first = words[at].to_string_lossy().into_owned();
    if ALIASES.iter().any(|(group, ..)| *group == first) {
        let name = words.get(at + 1).map(|name| name.to_string_lossy().into_owned());
        let found = ALIASES.iter().find(|(group, alias, _)| *group == first && Some(*alias) == name.as_deref());
        let Some((_, _, command)) = found else { return Err(Failure::usage(unknown_alias(&first, name.as_deref()))) };
        words.splice(at..=at + 1, [OsString::from(command)]);
    } else if REFUSED.contains(&first.as_str()) && !exists(&words[at]) {
        return Err(Failure::usage(format!("not supported: `rbuild {first}`")));
    } else if top.find_subcommand(&first).is_none() && first != "help" {
        words.insert(at, OsString::from("build"));
    }
    let rest = words.split_off(at + 1);
    let needed = words[at] == "run" || words[at] == "create" || rest.iter().any(|word| switch(word).is_some());
    let command = top.find_subcommand(&words[at]).filter(|_| needed).cloned();
    words.extend(match command {
        Some(mut command) => {
            command.build();
            plain_switches(top, &command, rest)
        }
        None => rest,
    });
    Ok(words)
}

/// The place of the first word that is no global flag; nothing if there is none, or help or the version is asked for.
fn first_word(top: &Command, words: &[OsString]) -> Option<usize> {
    let is_global = |name: &str| {
        top.get_arguments().any(|argument| argument.get_long() == Some(name) && argument.get_action().takes_values())
    };
    let mut at = 1;
    while let Some(word) = words.get(at) {
        let word = word.to_string_lossy();
        if ["-h", "--help", "-v", "-V", "--version"].contains(&&*word) {
            return None;
        }
        let Some(flag) = word.strip_prefix("--") else { return Some(at) };
        match flag.split_once('=') {
            Some((name, _)) if is_global(name) => at += 1,
            None if is_global(flag) => at += 2,
            _ => return Some(at),
        }
    }
    None
}

/// Docker takes `--flag=true` and `--flag=false` for every switch, clap only `--flag`.
fn plain_switches(top: &Command, command: &Command, words: Vec<OsString>) -> Vec<OsString> {
    let takes_value = |argument: &clap::Arg| argument.get_action().takes_values();
    let named = |argument: &&clap::Arg, name: &str| {
        argument.get_long() == Some(name) || argument.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
    };
    let long = |name: &str| top.get_arguments().chain(command.get_arguments()).find(|argument| named(argument, name));
    let short = |name| command.get_arguments().find(|argument| argument.get_short() == Some(name));
    let stops = command.get_positionals().any(clap::Arg::is_trailing_var_arg_set);
    let mut result = Vec::with_capacity(words.len());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let Some(text) = word.to_str().map(str::to_owned) else {
            result.push(word);
            continue;
        };
        if text == "--" {
            result.push(word);
            break;
        }
        if stops && (!text.starts_with('-') || text == "-") {
            // What follows the image is the container's, even where it looks like a flag of ours.
            result.extend([OsString::from("--"), word]);
            break;
        }
        let value_follows = if let Some(flag) = text.strip_prefix("--") {
            if let Some((name, wanted)) = switch(&word)
                && long(name).is_some_and(|argument| !takes_value(argument))
            {
                result.extend(wanted.then(|| OsString::from(format!("--{name}"))));
                continue;
            }
            long(flag).is_some_and(takes_value)
        } else if let Some(cluster) = text.strip_prefix('-') {
            let valued = cluster.char_indices().find(|(_, name)| short(*name).is_some_and(takes_value));
            valued.is_some_and(|(at, name)| at + name.len_utf8() == cluster.len())
        } else {
            false
        };
        result.push(word);
        if value_follows {
            result.extend(words.next());
        }
    }
    result.extend(words);
    result
}

/// Name and value of `--name=true` and its like.
fn switch(word: &OsStr) -> Option<(&str, bool)> {
    let (name, value) = word.to_str()?.strip_prefix("--")?.split_once('=')?;
    match value {
        "true" | "1" => Some((name, true)),
        "false" | "0" => Some((name, false)),
        _ => None,
    }
}

#[cfg(test)]
pub mod tests;
