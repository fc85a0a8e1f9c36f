//! Do instructions do what their author thinks?

use crate::ast::{Command, CopySource, Dockerfile, Header, Instruction, Kind, PairForm, Stage, Word};
use crate::diagnostic::Diagnostic;
use crate::findings::Findings;
use crate::port;
use crate::rule::Rule;

/// Parts of names that hold secrets.
const SECRET: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];

/// Parts of names that hold none even so.
const HARMLESS: [&str; 3] = ["public", "file", "version"];

pub(super) fn check(file: &Dockerfile, parents: &[Option<usize>], found: &mut Findings) {
    let shells = super::inherited(file, parents, |instruction| matches!(instruction.kind, Kind::Shell(_)));
    let directories = super::inherited(file, parents, |instruction| match &instruction.kind {
        Kind::Workdir(path) => maybe_absolute(path),
        _ => false,
    });
    for (index, stage) in file.stages.iter().enumerate() {
        only_last(stage, found);
        let (mut shell, mut directory) = (shells[index], directories[index]);
        for instruction in &stage.instructions {
            let header = &instruction.header;
            match &instruction.kind {
                Kind::Shell(_) => shell = true,
                Kind::Cmd(Command::Shell(line)) | Kind::Entrypoint(Command::Shell(line)) if !shell => {
                    // Of what is almost an array the parser has warned.
                    if !line.text.is_empty() && !line.text.starts_with('[') {
                        found.push(json_recommended(header, line));
                    }
                }
                Kind::Workdir(path) if !directory && !maybe_absolute(path) => {
                    let message = format!("relative `WORKDIR {}` depends on the base image", path.text);
                    found.push(
                        Diagnostic::warning(Rule::WorkdirRelativePath, path.span, message)
                            .hint("set an absolute `WORKDIR` first"),
                    );
                }
                Kind::Workdir(_) => directory = true,
                _ => one(instruction, found),
            }
        }
    }
    for instruction in &file.global_args {
        one(instruction, found);
    }
}

/// A variable may hold an absolute path.
fn maybe_absolute(path: &Word) -> bool {
    path.text.trim_start_matches(['"', '\'']).starts_with(['/', '$'])
}

fn json_recommended(header: &Header, line: &Word) -> Diagnostic {
    let name = header.keyword.text.to_ascii_uppercase();
    let message = format!("JSON arguments recommended for `{name}`: a shell does not pass signals on");
    let words: Vec<_> = line.text.split_whitespace().map(|word| format!("{word:?}")).collect();
    let plain = !line.text.contains(['$', '"', '\'', '&', '|', ';', '<', '>', '`', '(', '*', '\\', '[']);
    let hint = if plain {
        format!("write `{name} [{}]`", words.join(", "))
    } else {
        format!("write `{name} [\"program\", \"argument\"]`, or set `SHELL` to say that a shell is wanted")
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
                let key = pairs.pairs.first().map_or("name", |pair| &pair.name.text);
                let message = format!("`{name} key=value` should be used instead of `{name} key value`");
                found.push(
                    Diagnostic::warning(Rule::LegacyKeyValueFormat, header.span, message)
                        .hint(format!("write `{name} {key}=…`, with quotes if the value has blanks")),
                );
            }
            if matches!(instruction.kind, Kind::Env(_)) {
                for pair in &pairs.pairs {
                    secret(&pair.name, "ENV", found);
                }
            }
        }
        Kind::Arg(arg) => {
            let names: Vec<_> = arg.declarations.iter().map(|declaration| declaration.name.text.as_str()).collect();
            for declaration in &arg.declarations {
                secret(&declaration.name, "ARG", found);
            }
            description(&header.comments, &names, "ARG", found);
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
    let Some(last) = comments.last() else { return };
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
