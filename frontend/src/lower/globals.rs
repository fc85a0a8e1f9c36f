//! Which variables does a `FROM` see?
//!
//! The predefined platform arguments, then the `ARG`s before the first `FROM`, each with its build argument if there is
//! one. A stage sees none of them until it declares them itself.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use rbuild_core::Platform;

use super::control::CONTROLS;
use super::environment::Environment;
use super::notes::Notes;
use super::options::LowerOptions;
use crate::ast::{Arg, Declaration, Dockerfile, Kind, Spanned, Word};
use crate::expand::{Expanded, Expander};
use crate::rule::Rule;
use crate::suggest::did_you_mean;
use crate::{Diagnostic, Span};

/// Arguments that configure the builder and are never in the environment of a `RUN`.
pub(super) const NOT_IN_ENVIRONMENT: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

pub(super) const EPOCH: &str = "SOURCE_DATE_EPOCH";
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// What all words of `FROM` lines and of the `ARG`s before them may become together: each can repeat one that is long.
const LONGEST: usize = 128 << 20;

/// The scope of `FROM` lines.
#[derive(Debug)]
pub(super) struct Globals {
    pub(super) values: Environment,
    /// Names that were declared, with or without a value.
    pub(super) declared: HashSet<String>,
    pub(super) epoch: Option<i64>,
    /// What `SOURCE_DATE_EPOCH` says if it is no number: whose time is to be taken.
    pub(super) epoch_of: Option<Spanned<String>>,
    /// How many bytes words have become.
    expanded: AtomicUsize,
}

/// The value of a build argument, if it has one.
pub(super) fn build_arg<'options>(options: &'options LowerOptions, name: &str) -> Option<Cow<'options, str>> {
    match options.build_args.get(name) {
        Some(Some(value)) => Some(Cow::Borrowed(value)),
        _ if name == EPOCH => options.source_date_epoch.map(|seconds| Cow::Owned(seconds.to_string())),
        _ => None,
    }
}

impl Globals {
    pub(super) fn new(file: &Dockerfile, options: &LowerOptions, notes: &mut Notes<'_>) -> Self {
        let mut globals = Self {
            values: predefined(file, options),
            declared: HashSet::new(),
            epoch: None,
            epoch_of: None,
            expanded: AtomicUsize::new(0),
        };
        let mut epoch_span = Span::default();
        for instruction in &file.global_args {
            let Kind::Arg(Arg { declarations }) = &instruction.kind else { continue };
            for declaration in declarations {
                if let Some(EPOCH) = globals.declare(file, options, declaration, notes).as_deref() {
                    epoch_span = declaration.span;
                }
            }
        }
        let epoch = build_arg(options, EPOCH).map(Cow::into_owned);
        if let Some(text) =
            epoch.or_else(|| globals.values.value(EPOCH).map(str::to_owned)).filter(|text| !text.is_empty())
        {
            match text.parse() {
                Ok(seconds) => globals.epoch = Some(seconds),
                Err(_) => globals.epoch_of = Some(Spanned { value: text, span: epoch_span }),
            }
        }
        globals
    }

    fn declare(
        &mut self,
        file: &Dockerfile,
        options: &LowerOptions,
        declaration: &Declaration,
        notes: &mut Notes<'_>,
    ) -> Option<String> {
        let escape = file.directives.escape;
        let name = notes.take(self.expand(escape, &declaration.name))?.value;
        let value = match (build_arg(options, &name), &declaration.default) {
            (Some(given), _) => Some(given.into_owned()),
            (None, Some(default)) => Some(notes.take(self.expand(escape, default))?.value),
            (None, None) => None,
        };
        if let Some(value) = value {
            self.values.set(&name, value);
        }
        self.declared.insert(name.clone());
        Some(name)
    }

    /// Expands a word of a `FROM` line. Undefined variables are [`check`](crate::check())'s business.
    pub(super) fn expand(&self, escape: char, word: &Word) -> Result<Expanded<String>, Diagnostic> {
        // Asked before as well: what will be refused need not be made.
        let enough = || self.expanded.load(Ordering::Relaxed) > LONGEST;
        let expanded = if enough() { None } else { Some(expand(escape, &self.values, word)?) };
        self.expanded.fetch_add(expanded.as_ref().map_or(0, |one| one.value.len()), Ordering::Relaxed);
        let message = || format!("what the lines up to here expand to is longer than {} MiB", LONGEST >> 20);
        expanded.filter(|_| !enough()).ok_or_else(|| Diagnostic::error(word.span, message()))
    }

    /// All names that can be used, with a value or without.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.names().chain(self.declared.iter().map(String::as_str))
    }

    /// Whether a stage can import it.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values.has(name) || self.declared.contains(name)
    }
}

/// A word with the variables of one environment.
pub(super) fn expand(escape: char, environment: &Environment, word: &Word) -> Result<Expanded<String>, Diagnostic> {
    if !word.text.contains(['$', '\'', '"', escape]) {
        return Ok(Expanded { value: word.text.clone(), undefined: Vec::new() });
    }
    let lookup = |name: &str| environment.value(name).map(str::to_owned);
    Expander { escape, lookup: &lookup }.word(word)
}

/// Proxy variables for every `RUN`, in both spellings: programs differ in which one they read.
pub(super) fn proxies(options: &LowerOptions) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for name in PROXIES {
        let lower = name.to_ascii_lowercase();
        let values = [build_arg(options, name), build_arg(options, &lower)];
        if let Some(any) = values.iter().flatten().next() {
            for (name, value) in [name.to_owned(), lower].into_iter().zip(&values) {
                found.push((name, value.as_ref().unwrap_or(any).to_string()));
            }
        }
    }
    found.retain(|(_, value)| !value.is_empty());
    found
}

/// Build arguments no `ARG` of the file asks for, and that mean nothing by themselves.
pub(super) fn unused(options: &LowerOptions, declared: &HashSet<String>, notes: &mut Notes<'_>) {
    let predefined: Vec<_> = platform_args("TARGET", &options.platform).into_iter().map(|(name, _)| name).collect();
    for name in options.build_args.keys() {
        let known = declared.contains(name)
            || name == EPOCH
            || CONTROLS.contains(&name.as_str())
            || PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
            || predefined.iter().any(|predefined| predefined == name || predefined.replace("TARGET", "BUILD") == *name);
        if !known {
            let message = format!("build argument `{name}` is not used: no `ARG` declares it");
            notes.warn(
                Diagnostic::warning(Rule::UnusedBuildArg, Span::default(), message)
                    .hint_if(did_you_mean(name, declared.iter().map(String::as_str).chain(CONTROLS))),
            );
        }
    }
}

fn predefined(file: &Dockerfile, options: &LowerOptions) -> Environment {
    let last = file.stages.last().and_then(|stage| stage.from.name.as_ref()).map(|name| name.name.as_str());
    let stage = options.target.as_deref().filter(|target| !target.is_empty()).or(last).unwrap_or("default");
    let mut environment = Environment::default();
    let platforms = platform_args("BUILD", &options.build_platform).into_iter();
    let all = platforms.chain(platform_args("TARGET", &options.platform));
    for (name, value) in all.chain([("TARGETSTAGE".to_owned(), stage.to_owned())]) {
        let value = build_arg(options, &name).map_or(value, Cow::into_owned);
        environment.set(&name, value);
    }
    environment
}

fn platform_args(prefix: &str, platform: &Platform) -> Vec<(String, String)> {
    [
        ("PLATFORM", platform.to_string()),
        ("OS", platform.os.clone()),
        ("OSVERSION", String::new()),
        ("ARCH", platform.arch.clone()),
        ("VARIANT", platform.variant.clone().unwrap_or_default()),
    ]
    .into_iter()
    .map(|(suffix, value)| (format!("{prefix}{suffix}"), value))
    .collect()
}
