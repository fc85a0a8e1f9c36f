//! Whose time does an image have, if `SOURCE_DATE_EPOCH` names something?
//!
//! `context`, a `--build-context`, or a stage that starts from `scratch` and has nothing but `ARG`s and one `ADD` of one
//! remote source. What it names is resolved before anything else, so that everything that sees `SOURCE_DATE_EPOCH` sees
//! the number; what has no time counts as not set.

use rbuild_core::{Algorithm, Digest};
use rbuild_solver::graph::HttpOp;

use super::environment::Environment;
use super::globals::{EPOCH, Globals, build_arg, expand};
use super::notes::Notes;
use super::options::{DateSource, LowerError, LowerOptions, ResolveImage};
use crate::Diagnostic;
use crate::ast::{Add, CopySource, Dockerfile, Kind, Spanned, Stage, Word};
use crate::remote::{Remote, remote, with_checksum};

/// Replaces what is named by its time. Returns the options with which to go on, if they are others.
pub(super) async fn resolve<R: ResolveImage>(
    file: &Dockerfile,
    options: &LowerOptions,
    globals: &mut Globals,
    resolver: &R,
    notes: &mut Notes<'_>,
) -> Result<Option<LowerOptions>, LowerError<R::Error>>
where
    R::Error: std::error::Error + 'static,
{
    let Some(named) = globals.epoch_of.take() else { return Ok(None) };
    let Some(source) = notes.take(find(file, options, globals, &named)) else { return Ok(None) };
    let Spanned { value: name, span } = named;
    globals.epoch = resolver.date(&source).await.map_err(|source| LowerError::Date { name, span, source })?;
    let text = globals.epoch.map(|seconds| seconds.to_string()).unwrap_or_default();
    globals.values.set(EPOCH, text.clone());
    let mut options = options.clone();
    options.build_args.insert(EPOCH.to_owned(), Some(text));
    Ok(Some(options))
}

fn find(
    file: &Dockerfile,
    options: &LowerOptions,
    globals: &Globals,
    named: &Spanned<String>,
) -> Result<DateSource, Diagnostic> {
    let name = &named.value;
    if name == "context" || options.named_contexts.contains_key(name) {
        return Ok(DateSource::Context(name.clone()));
    }
    let is_named = |stage: &&Stage| stage.from.name.as_ref().is_some_and(|other| other.name.eq_ignore_ascii_case(name));
    match file.stages.iter().find(is_named) {
        Some(stage) => of_stage(file, options, globals, stage),
        None => {
            let message = format!(
                "`SOURCE_DATE_EPOCH={name}` is neither a number of seconds nor the name of a stage or a context"
            );
            Err(Diagnostic::error(named.span, message).hint("`context` takes the time of the build's context"))
        }
    }
}

fn of_stage(
    file: &Dockerfile,
    options: &LowerOptions,
    globals: &Globals,
    stage: &Stage,
) -> Result<DateSource, Diagnostic> {
    let name = stage.from.name.as_ref().map_or("", |name| name.word.text.as_str());
    let wrong =
        |span, must: &str| Err(Diagnostic::error(span, format!("stage `{name}` gives `{EPOCH}`, so it must {must}")));
    let one = "have exactly one `ADD` of one remote source, and nothing else but `ARG`";
    let escape = file.directives.escape;
    if globals.expand(escape, &stage.from.image)?.value != "scratch" {
        return wrong(stage.from.image.span, "start `FROM scratch`");
    }
    let mut values = globals.values.clone();
    let mut found = None;
    for instruction in &stage.instructions {
        match &instruction.kind {
            Kind::Arg(arg) => {
                for declaration in &arg.declarations {
                    let name = expand(escape, &values, &declaration.name)?.value;
                    let value = match (build_arg(options, &name), &declaration.default) {
                        (Some(given), _) => given.into_owned(),
                        (None, Some(default)) => expand(escape, &values, default)?.value,
                        (None, None) => continue,
                    };
                    values.set(&name, value);
                }
            }
            Kind::Add(add) if found.is_none() => match add.sources.as_slice() {
                [CopySource::Path(word)] => found = of_add(escape, &values, add, word)?,
                _ => return wrong(instruction.header.span, one),
            },
            _ => return wrong(instruction.header.span, one),
        }
        if found.is_none() && matches!(instruction.kind, Kind::Add(_)) {
            return wrong(instruction.header.span, one);
        }
    }
    found.map_or_else(|| wrong(stage.header.span, one), Ok)
}

fn of_add(escape: char, values: &Environment, add: &Add, word: &Word) -> Result<Option<DateSource>, Diagnostic> {
    let text = expand(escape, values, word)?.value;
    let Some(source) = remote(&text) else { return Ok(None) };
    let wrong = |error: crate::remote::AddressError| Diagnostic::error(word.span, error.to_string());
    let checksum = add.checksum.as_ref().map(|word| expand(escape, values, word)).transpose()?;
    let checksum = checksum.map(|expanded| expanded.value).filter(|text| !text.is_empty());
    Ok(Some(match (source.map_err(wrong)?, checksum) {
        (Remote::Http(op), checksum) => {
            let checksum = checksum.and_then(|text| text.parse::<Digest>().ok());
            let checksum = checksum.filter(|digest| digest.algorithm() == Algorithm::Sha256);
            let name = if op.name.is_empty() { "file".to_owned() } else { op.name };
            DateSource::Http(HttpOp { name, checksum, ..op })
        }
        (Remote::Git { op, .. }, Some(checksum)) => DateSource::Git(with_checksum(op, &checksum).map_err(wrong)?),
        (Remote::Git { op, .. }, None) => DateSource::Git(op),
    }))
}
