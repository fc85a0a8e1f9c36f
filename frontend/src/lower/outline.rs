//! What can be given to a build: which arguments, secrets, SSH agents and caches does it know?
//!
//! Only those that count for the stages that are built. A global argument counts if a `FROM` of theirs uses it, directly
//! or through another argument's default, or if one of them declares it again.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use rbuild_core::Span;

use super::globals::Globals;
use crate::ast::{Declaration, Dockerfile, Kind, Stage, Word};
use crate::expand::Expander;
use crate::mount::RunMount;

/// Everything a target can be given.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Outline {
    /// The stage's name, unless it has none.
    pub name: Option<String>,
    /// What the comment above the stage says.
    pub description: Option<String>,
    /// Build arguments, in the order of their declarations.
    pub args: Vec<OutlineArg>,
    /// Secrets that commands see, in the order of their first use.
    pub secrets: Vec<OutlineMount>,
    /// SSH agents that commands see, likewise.
    pub ssh: Vec<OutlineMount>,
    /// Caches that commands use, likewise.
    pub caches: Vec<OutlineMount>,
}

/// A build argument.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// What it is if nobody sets it, or what it was set to; empty if it is not set.
    pub value: String,
    /// What the comment above it says.
    pub description: Option<String>,
    /// Its last declaration.
    pub span: Span,
}

/// Something a command sees while it runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OutlineMount {
    /// What it is called.
    pub id: String,
    /// Whether the build fails without it.
    pub required: bool,
    /// The first mount of it.
    pub span: Span,
}

/// An [`Outline`] in the making.
#[derive(Debug, Default)]
pub(super) struct Sketch {
    args: HashMap<String, OutlineArg>,
    /// Names of global arguments that stages declare again.
    inherited: Vec<String>,
    secrets: BTreeMap<String, OutlineMount>,
    ssh: BTreeMap<String, OutlineMount>,
    caches: BTreeMap<String, OutlineMount>,
}

impl Sketch {
    /// An `ARG` of a stage; `own` says whether the value is not simply the global one.
    pub(super) fn arg(&mut self, declaration: &Declaration, name: &str, value: Option<&str>, own: bool) {
        if own {
            self.args.insert(name.to_owned(), arg(declaration, name, value));
        } else {
            self.inherited.push(name.to_owned());
        }
    }

    pub(super) fn mount(&mut self, mount: &RunMount, span: Span) {
        let (kind, id, required) = match mount {
            RunMount::Secret(secret) => (&mut self.secrets, secret.id.clone(), secret.required),
            RunMount::Ssh(ssh) => (&mut self.ssh, ssh.id.clone(), ssh.required),
            RunMount::Cache(cache) => {
                let id = cache.id.clone().unwrap_or_else(|| crate::ignore::clean(&cache.target));
                (&mut self.caches, id, false)
            }
            RunMount::Bind(_) | RunMount::Tmpfs(_) => return,
        };
        let new = OutlineMount { id: id.clone(), required, span };
        let known = kind.entry(id).or_insert(new);
        known.required |= required;
    }

    /// With the global arguments that the needed stages use.
    pub(super) fn finish(mut self, file: &Dockerfile, globals: &Globals, needed: &[bool], target: &Stage) -> Outline {
        let mut declared: HashMap<&str, Vec<&Declaration>> = HashMap::new();
        for declaration in global_declarations(file) {
            declared.entry(declaration.name.text.as_str()).or_default().push(declaration);
        }
        let escape = file.directives.escape;
        let mut pending = std::mem::take(&mut self.inherited);
        for (stage, _) in file.stages.iter().zip(needed).filter(|(_, needed)| **needed) {
            let words = stage.from.platform.iter().chain([&stage.from.image]);
            pending.extend(words.flat_map(|word| names(escape, globals, word)));
        }
        while let Some(name) = pending.pop() {
            let Some(declarations) = declared.remove(name.as_str()) else { continue };
            let defaults = declarations.iter().filter_map(|declaration| declaration.default.as_ref());
            pending.extend(defaults.flat_map(|word| names(escape, globals, word)));
            if let Some(last) = declarations.last() {
                let global = arg(last, &name, globals.values.value(&name));
                self.args.entry(name).or_insert(global);
            }
        }
        let in_order = |mounts: BTreeMap<String, OutlineMount>| {
            let mut mounts: Vec<_> = mounts.into_values().collect();
            mounts.sort_by_key(|mount| mount.span);
            mounts
        };
        let mut args: Vec<_> = self.args.into_values().collect();
        args.sort_by_key(|arg| arg.span);
        let name = target.from.name.as_ref();
        Outline {
            name: name.map(|name| name.name.clone()),
            description: name.and_then(|name| name.description.clone()),
            args,
            secrets: in_order(self.secrets),
            ssh: in_order(self.ssh),
            caches: in_order(self.caches),
        }
    }
}

fn arg(declaration: &Declaration, name: &str, value: Option<&str>) -> OutlineArg {
    OutlineArg {
        name: name.to_owned(),
        value: value.unwrap_or_default().to_owned(),
        description: declaration.description.clone(),
        span: declaration.span,
    }
}

fn global_declarations(file: &Dockerfile) -> impl Iterator<Item = &Declaration> {
    file.global_args.iter().flat_map(|instruction| match &instruction.kind {
        Kind::Arg(arg) => arg.declarations.as_slice(),
        _ => &[],
    })
}

/// The variables that a word looks at.
fn names(escape: char, globals: &Globals, word: &Word) -> Vec<String> {
    let names = RefCell::new(Vec::new());
    let lookup = |name: &str| {
        names.borrow_mut().push(name.to_owned());
        globals.values.value(name).map(str::to_owned)
    };
    // A mistake in it was reported where it counts.
    drop(Expander { escape, lookup: &lookup }.word(word));
    names.into_inner()
}
