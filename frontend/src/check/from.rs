//! Do stages have good names and sensible bases?

use std::cell::RefCell;
use std::collections::HashMap;
use std::str::FromStr as _;

use rbuild_core::{Platform, Span};

use crate::ast::{Declaration, Dockerfile, Kind, Stage, Word};
use crate::diagnostic::Diagnostic;
use crate::expand::Expander;
use crate::findings::Findings;
use crate::rule::Rule;
use crate::statement::shorten;
use crate::suggest::nearest;

/// Variables every `FROM` can use without an `ARG`.
const PLATFORM_ARGS: [&str; 11] = [
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDOSVERSION",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETOSVERSION",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETSTAGE",
];

/// So many findings are worth looking for the name that was meant.
const SUGGESTIONS: usize = 200;

pub(super) fn check(file: &Dockerfile, parents: &[Option<usize>], found: &mut Findings) {
    names(file, found);
    let globals = globals(file);
    for (stage, parent) in file.stages.iter().zip(parents) {
        for word in std::iter::once(&stage.from.image).chain(&stage.from.platform) {
            undefined(file, word, &globals, found);
        }
        if let Some(platform) = &stage.from.platform {
            self::platform(file, stage, platform, &globals, found);
        }
        if parent.is_none() {
            default_base(file, &stage.from.image, &globals, found);
        }
    }
    descriptions(file, found);
}

pub(super) fn descriptions(file: &Dockerfile, found: &mut Findings) {
    for stage in &file.stages {
        if let Some(name) = &stage.from.name {
            super::instructions::description(&stage.header.comments, &[&name.name], "FROM", found);
        }
    }
}

fn names(file: &Dockerfile, found: &mut Findings) {
    let mut seen: HashMap<&str, Span> = HashMap::new();
    for name in file.stages.iter().filter_map(|stage| stage.from.name.as_ref()) {
        if matches!(name.name.as_str(), "scratch" | "context") {
            let message = format!("`{}` is a reserved name and should not name a stage", name.name);
            found.push(Diagnostic::warning(Rule::ReservedStageName, name.word.span, message));
        }
        if let Some(first) = seen.insert(&name.name, name.word.span) {
            let message = format!("duplicate stage name `{}`: later uses mean this stage", name.name);
            found.push(
                Diagnostic::warning(Rule::DuplicateStageName, name.word.span, message).and(first, "already used here"),
            );
        }
    }
}

/// What is known of a global argument.
struct Global {
    /// What it is if nobody sets it.
    value: Option<String>,
    /// Its first declaration, and whether one gives it a default.
    span: Span,
    has_default: bool,
}

/// Global arguments by their names.
fn globals(file: &Dockerfile) -> HashMap<String, Global> {
    let mut globals: HashMap<String, Global> = HashMap::new();
    for declaration in declarations(file) {
        let expand = |word: &Word| {
            let lookup =
                |name: &str| globals.get(name).and_then(|global| global.value.clone()).or_else(|| stand_in(name));
            let expander = Expander { escape: file.directives.escape, lookup: &lookup };
            expander.word(word).map(|word| word.value).ok()
        };
        let value = declaration.default.as_ref().and_then(expand);
        let Some(name) = expand(&declaration.name) else { continue };
        let global = globals.entry(name).or_insert(Global { value: None, span: declaration.span, has_default: false });
        global.has_default |= declaration.default.is_some();
        // Without a default it stays what it is.
        global.value = value.or(global.value.take());
    }
    globals
}

fn declarations(file: &Dockerfile) -> impl Iterator<Item = &Declaration> {
    file.global_args.iter().flat_map(|instruction| match &instruction.kind {
        Kind::Arg(arg) => &arg.declarations[..],
        _ => &[],
    })
}

/// Some value for what the builder defines; which one does not matter here.
fn stand_in(name: &str) -> Option<String> {
    PLATFORM_ARGS.contains(&name).then(|| "linux".to_owned())
}

fn undefined(file: &Dockerfile, word: &Word, declared: &HashMap<String, Global>, found: &mut Findings) {
    let lookup = |name: &str| (declared.contains_key(name) || PLATFORM_ARGS.contains(&name)).then(String::new);
    let expander = Expander { escape: file.directives.escape, lookup: &lookup };
    let Ok(expanded) = expander.word(word) else { return };
    for name in expanded.undefined {
        let known = declared.keys().map(String::as_str).chain(PLATFORM_ARGS);
        let near = if found.mark() < SUGGESTIONS { nearest(&name.value, known) } else { None };
        let hint = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("declare it above the first `FROM`: `ARG {}=…`", name.value),
        };
        let message = format!("`FROM` argument `{}` is not declared", name.value);
        found.push(Diagnostic::warning(Rule::UndefinedArgInFrom, name.span, message).hint(hint));
    }
}

fn platform(
    file: &Dockerfile,
    stage: &Stage,
    platform: &Word,
    declared: &HashMap<String, Global>,
    found: &mut Findings,
) {
    let used = RefCell::new(Vec::new());
    let lookup = |name: &str| {
        used.borrow_mut().push(name.to_owned());
        // No platform has such a name, so that only the variable itself can lead to it.
        let known = declared.contains_key(name) || PLATFORM_ARGS.contains(&name);
        known.then(|| format!("\0{name}"))
    };
    let Ok(expanded) = (Expander { escape: file.directives.escape, lookup: &lookup }).word(platform) else { return };
    let used = used.into_inner();
    if used.iter().all(|name| name == "TARGETPLATFORM") && expanded.value == "\0TARGETPLATFORM" {
        // With a default of the file's own it is another platform.
        if declared.get("TARGETPLATFORM").is_some_and(|global| global.has_default) {
            return;
        }
        let message = format!("`--platform={}` is what `FROM` does anyway", platform.text);
        found.push(Diagnostic::warning(Rule::RedundantTargetPlatform, platform.span, message).hint("leave it out"));
    } else if used.is_empty()
        && let Ok(constant) = Platform::from_str(&expanded.value)
    {
        // A stage called `build-arm64` is meant for one platform.
        let name = stage.from.name.as_ref().map_or("", |name| &name.name);
        if !name.contains(&constant.os) && !name.contains(&constant.arch) {
            let message = format!("`FROM --platform` should not be the constant `{}`", platform.text);
            found.push(
                Diagnostic::warning(Rule::FromPlatformFlagConstDisallowed, platform.span, message)
                    .hint("use `$BUILDPLATFORM` or `$TARGETPLATFORM`, or name the platform in the stage's name"),
            );
        }
    }
}

fn default_base(file: &Dockerfile, image: &Word, globals: &HashMap<String, Global>, found: &mut Findings) {
    if !image.text.contains('$') {
        return;
    }
    let bare = RefCell::new(Vec::new());
    let lookup = |name: &str| match globals.get(name) {
        Some(global) => {
            if !global.has_default {
                bare.borrow_mut().push(global.span);
            }
            global.value.clone()
        }
        None => stand_in(name),
    };
    let expander = Expander { escape: file.directives.escape, lookup: &lookup };
    let Ok(expanded) = expander.word(image) else { return };
    if rbuild_image::Reference::from_str(&expanded.value).is_err() {
        let (image_text, value) = (shorten(&image.text), shorten(&expanded.value));
        let message = format!("the defaults of arguments in `{image_text}` make no image name: `{value}`");
        let mut bare = bare.take();
        bare.sort_unstable_by_key(|span| span.start);
        bare.dedup();
        let warning = Diagnostic::warning(Rule::InvalidDefaultArgInFrom, image.span, message);
        found.push(bare.into_iter().fold(warning, |warning, declaration| warning.and(declaration, "has no default")));
    }
}
