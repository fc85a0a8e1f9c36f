//! Do instructions do what their author thinks?

use crate::ast::{Arg, Command, CopySource, Dockerfile, Header, Instruction, Kind, Pair, PairForm, Pairs, Stage, Word};
use crate::diagnostic::Diagnostic;
use crate::directives::comment_checks;
use crate::findings::Findings;
use crate::port;
use crate::rule::Rule;

/// Parts of names that hold secrets.
const SECRET: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];

/// Parts of names that hold none even so.
const HARMLESS: [&str; 3] = ["public", "file", "version"];

pub(super) fn check(file: &Dockerfile, parents: &[Option<usize>], found: &mut Findings) {
    let escape = file.directives.escape;
    let shells = super::inherited(file, parents, |instruction| matches!(instruction.kind, Kind::Shell(_)));
    let directories = super::inherited(file, parents, |instruction| matches!(instruction.kind, Kind::Workdir(_)));
    for (index, stage) in file.stages.iter().enumerate() {
        only_last(stage, found);
        let (mut shell, mut directory) = (shells[index], directories[index]);
        for instruction in &stage.instructions {
            let header = &instruction.header;
            match &instruction.kind {
                Kind::Shell(_) => shell = true,
                Kind::Cmd(Command::Shell(line)) | Kind::Entrypoint(Command::Shell(line)) if !shell => {
                    // Of what is almost an array the parser has warned.
                    if !line.text.starts_with('[') {
                        found.push(json_recommended(header, line, escape));
                    }
                }
                // The first one decides: with it right, all are.
                Kind::Workdir(path) if !std::mem::replace(&mut directory, true) && !maybe_absolute(path, escape) => {
                    let message = format!("relative `WORKDIR {}` depends on the base image", path.text);
                    found.push(
                        Diagnostic::warning(Rule::WorkdirRelativePath, path.span, message)
                            .hint("set an absolute `WORKDIR` first"),
                    );
                }
                _ => one(instruction, found),
            }
        }
    }
    globals(file, found);
}

/// What single instructions show of themselves.
pub(super) fn check_each(file: &Dockerfile, found: &mut Findings) {
    file.stages.iter().flat_map(|stage| &stage.instructions).for_each(|instruction| one(instruction, found));
    globals(file, found);
}

/// Global arguments are in no image, so their names are not looked at.
fn globals(file: &Dockerfile, found: &mut Findings) {
    for instruction in &file.global_args {
        if let Kind::Arg(arg) = &instruction.kind {
            described(&instruction.header, arg, found);
        }
    }
}

fn described(header: &Header, arg: &Arg, found: &mut Findings) {
    let names: Vec<_> = arg.declarations.iter().map(|declaration| declaration.name.text.as_str()).collect();
    description(&header.comments, &names, "ARG", found);
}

/// A variable may hold an absolute path; on Windows paths begin with a drive, or with a backslash where that is no escape.
fn maybe_absolute(path: &Word, escape: char) -> bool {
    let path = path.text.trim_start_matches(['"', '\'']);
    let on_drive = matches!(path.as_bytes(), [drive, b':', b'\\' | b'/', ..] if drive.is_ascii_alphabetic());
    path.starts_with(['/', '$']) || on_drive || escape == '`' && path.starts_with('\\')
}

fn json_recommended(header: &Header, line: &Word, escape: char) -> Diagnostic {
    let name = header.keyword.text.to_ascii_uppercase();
    let message = format!("JSON arguments recommended for `{name}`: a shell does not pass signals on");
    // An empty command takes the inherited one away.
    let hint = match crate::fix::exec_form(&line.text, escape) {
        _ if line.text.is_empty() => format!("write `{name} []`"),
        Some(array) => format!("write `{name} {array}`"),
        None => format!("write `{name} [\"program\", \"argument\"]`, or set `SHELL` to say that a shell is wanted"),
    };
    Diagnostic::warning(Rule::JSONArgsRecommended, line.span, message).hint(hint)
}

/// Only the last of these counts; the earlier ones are reported.
fn only_last(stage: &Stage, found: &mut Findings) {
    let name_of = |instruction: &Instruction| match &instruction.kind {
        Kind::Cmd(_) => Some("CMD"),
        Kind::Entrypoint(_) => Some("ENTRYPOINT"),
        Kind::Healthcheck(_) => Some("HEALTHCHECK"),
        _ => None,
    };
    for name in ["CMD", "ENTRYPOINT", "HEALTHCHECK"] {
        let all: Vec<_> = stage.instructions.iter().filter(|instruction| name_of(instruction) == Some(name)).collect();
        for pair in all.windows(2) {
            let message = format!("this `{name}` has no effect: only the last one of a stage counts");
            found.push(
                Diagnostic::warning(Rule::MultipleInstructionsDisallowed, pair[0].header.span, message)
                    .and(pair[1].header.span, "replaced here"),
            );
        }
    }
}

/// What an instruction shows by itself.
fn one(instruction: &Instruction, found: &mut Findings) {
    let header = &instruction.header;
    match &instruction.kind {
        Kind::Maintainer(_) => found.push(
            Diagnostic::warning(Rule::MaintainerDeprecated, header.span, "`MAINTAINER` is deprecated")
                .hint("write `LABEL org.opencontainers.image.authors=\"…\"`"),
        ),
        Kind::Env(pairs) | Kind::Label(pairs) => {
            let name = header.keyword.text.to_ascii_uppercase();
            if pairs.form == PairForm::Legacy {
                let (message, hint) = legacy(pairs, &name);
                found.push(Diagnostic::warning(Rule::LegacyKeyValueFormat, header.span, message).hint(hint));
            }
            if matches!(instruction.kind, Kind::Env(_)) {
                for pair in &pairs.pairs {
                    secret(&pair.name, "ENV", found);
                }
            }
        }
        Kind::Arg(arg) => {
            for declaration in &arg.declarations {
                secret(&declaration.name, "ARG", found);
            }
            described(header, arg, found);
        }
        Kind::Expose(words) => words.iter().for_each(|word| expose(word, found)),
        Kind::Copy(copy) => carriage_returns(&copy.sources, found),
        Kind::Add(add) => carriage_returns(&add.sources, found),
        Kind::Run(run) => {
            run.heredocs.iter().for_each(|heredoc| carriage_return(&heredoc.body, heredoc.span, found));
        }
        _ => {}
    }
}

/// What to say of `name value`, and of `name = value`, which is one, too.
fn legacy(pairs: &Pairs, name: &str) -> (String, String) {
    let Some(Pair { name: key, value }) = pairs.pairs.first() else { return (String::new(), String::new()) };
    match value.text.strip_prefix('=') {
        Some(meant) => (
            format!("the `=` is a part of the value: `{}` becomes `{}`", key.text, value.text),
            format!("write `{name} {}={}`, without blanks around the `=`", key.text, meant.trim_start()),
        ),
        None => (
            format!("`{name} key=value` should be used instead of `{name} key value`"),
            format!("write `{name} {}=…`, with quotes if the value has blanks", key.text),
        ),
    }
}

fn secret(name: &Word, instruction: &str, found: &mut Findings) {
    let has = |words: &[&str]| name.text.split('_').any(|part| words.contains(&part.to_ascii_lowercase().as_str()));
    if has(&SECRET) && !has(&HARMLESS) {
        let message = format!("`{instruction} {}` keeps sensitive data in the image", name.text);
        found.push(
            Diagnostic::warning(Rule::SecretsUsedInArgOrEnv, name.span, message)
                .hint("pass it to the step that needs it: `RUN --mount=type=secret,id=…`"),
        );
    }
}

fn expose(word: &Word, found: &mut Findings) {
    let Ok(ports) = port::parse(&word.text) else { return };
    if ports.odd_protocol {
        let message = format!("the protocol in `{}` should be lowercase", word.text);
        found.push(
            Diagnostic::warning(Rule::ExposeProtoCasing, word.span, message)
                .hint(format!("write `{}`", word.text.to_ascii_lowercase())),
        );
    }
    if ports.published.is_some() {
        let message = format!("`EXPOSE` has no effect on addresses or ports of the host: `{}`", word.text);
        found.push(
            Diagnostic::warning(Rule::ExposeInvalidFormat, word.span, message)
                .hint(format!("write `EXPOSE {}`; `run --publish` maps it", ports.first)),
        );
    }
}

fn carriage_returns(sources: &[CopySource], found: &mut Findings) {
    for source in sources {
        if let CopySource::Heredoc(heredoc) = source {
            carriage_return(&heredoc.body, heredoc.span, found);
        }
    }
}

fn carriage_return(body: &str, span: rbuild_core::Span, found: &mut Findings) {
    if body.contains("\r\n") {
        found.push(
            Diagnostic::warning(
                Rule::CarriageReturnInHeredoc,
                span,
                "lines of this here-document end with a carriage return",
            )
            .hint("save the Dockerfile with Unix line ends"),
        );
    }
}

/// The last comment above should begin with a name that is defined.
pub(super) fn description(comments: &[Word], names: &[&str], instruction: &str, found: &mut Findings) {
    // Comments for the checks describe nothing.
    let Some(last) = comments.iter().rfind(|comment| comment_checks(comment).is_none()) else { return };
    if names.is_empty() || names.contains(&last.text.split(' ').next().unwrap_or("")) {
        return;
    }
    let name = if names.len() > 1 { "<name>" } else { names[0] };
    let message = format!("the comment above `{instruction}` does not describe it");
    found.push(
        Diagnostic::warning(Rule::InvalidDefinitionDescription, last.span, message)
            .hint(format!("write `# {name} description`, or leave an empty comment between")),
    );
}
