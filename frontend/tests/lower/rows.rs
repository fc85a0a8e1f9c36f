//! Does each row of `docs/language.md` hold?
//!
//! A table per section. A line of a table is one fact: the row's id with what it claims, a Dockerfile, and everything
//! that follows from it ([`facts`]). A text that does not say its `FROM` stands behind `FROM scratch`, on line 2.

use super::*;
use rbuild_frontend::{Severity, check};
use rbuild_solver::graph::{ExecOp, LocalOp, Unpack};

mod elsewhere;
mod expansion;
mod forms;
mod heredocs;
mod instructions;
mod lexical;
mod stages;
mod variables;

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One fact: what it shows, the text, what follows from it.
type Row<'a> = (&'a str, &'a str, &'a [&'a str]);

fn table(rows: &[Row<'_>]) {
    table_with(&options(), rows);
}

/// Compares all rows before it fails. Warnings count where a row expects some or says `none of the warnings`.
fn table_with(options: &LowerOptions, rows: &[Row<'_>]) {
    let mut wrong = String::new();
    for (claim, text, expected) in rows {
        assert!(claim.starts_with('A') && claim.len() > 5, "{claim}: a row says which one it is and what it shows");
        let text = if has_from(text) { (*text).to_owned() } else { format!("FROM scratch\n{text}") };
        let mut found = facts(&text, options);
        if !expected.iter().any(|fact| fact.starts_with('?')) {
            found.retain(|fact| !fact.starts_with('?'));
        }
        let expected: Vec<_> = expected.iter().filter(|fact| **fact != NO_WARNINGS).copied().collect();
        if found != expected {
            writeln!(wrong, "{claim}\n{text}\n    found    {found:#?}\n    expected {expected:#?}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The expectation that there are no warnings.
const NO_WARNINGS: &str = "?";

fn has_from(text: &str) -> bool {
    text.is_empty()
        || text.lines().any(|line| line.trim_start().to_ascii_lowercase().starts_with("from"))
        || text.starts_with('!')
}

/// Everything a text leads to: `!line:column-column message [hint]` for mistakes, which then are all there is, otherwise a
/// line for each vertex, each part of the configuration that is not the default one, and each warning (`?`).
fn facts(text: &str, options: &LowerOptions) -> Vec<String> {
    let source = Source::new("Dockerfile", text.trim_start_matches('!'));
    let place = |diagnostic: &Diagnostic| {
        let (start, end) = (source.position(diagnostic.span().start), source.position(diagnostic.span().end));
        let line = if start.line == end.line { String::new() } else { format!("{}:", end.line) };
        format!("{}:{}-{line}{}", start.line, start.column, end.column)
    };
    let mistakes = |found: &[Diagnostic]| -> Vec<String> {
        let errors = found.iter().filter(|found| found.severity == Severity::Error);
        errors
            .map(|error| {
                let hint = error.hint.as_ref().map_or_else(String::new, |hint| format!(" [{hint}]"));
                format!("!{} {}{hint}", place(error), error.message)
            })
            .collect()
    };
    let file = match parse(&source) {
        Ok(file) => file,
        Err(found) => return mistakes(&found),
    };
    let lowered = match run(lower(&file, options, &Registry::default())) {
        Ok(lowered) => lowered,
        Err(LowerError::Mistakes(found)) => return mistakes(&found),
        Err(LowerError::Date { name, .. }) => return vec![format!("!no time {name}")],
        Err(LowerError::Image { name, platform, hint, .. }) => {
            return vec![format!(
                "!no image {name} for {platform}{}",
                hint.map_or_else(String::new, |hint| format!(" [{hint}]"))
            )];
        }
    };
    let mut facts: Vec<_> = lowered.graph.vertices().filter_map(|(_, vertex)| vertex_fact(&vertex.op)).collect();
    facts.extend(config_facts(&lowered.config));
    for warning in check(&file).iter().chain(&lowered.warnings) {
        facts.push(format!("?{} {}", warning.rule.map_or("", |rule| rule.name()), place(warning)));
    }
    facts
}

fn vertex_fact(op: &Op) -> Option<String> {
    match op {
        Op::Scratch => None,
        Op::Local(LocalOp { name, .. }) => (name != "context").then(|| format!("context {name}")),
        Op::Exec(exec) => Some(exec_fact(exec)),
        Op::File(file) => Some(file.actions.iter().map(action_fact).collect::<Vec<_>>().join("; ")),
        _ => Some(summary(op)),
    }
}

fn action_fact(action: &FileAction) -> String {
    let FileAction::Copy(copy) = action else { return super::action(action) };
    let mut fact = String::from(if copy.unpack == Unpack::Archives { "add" } else { "copy" });
    for source in &copy.sources {
        match source {
            CopySource::Path { path, .. } if path.contains(' ') => write!(fact, " {path:?}").unwrap(),
            CopySource::Path { path, .. } => write!(fact, " {path}").unwrap(),
            CopySource::Inline { name, data } => {
                write!(fact, " <<{name}={:?}", String::from_utf8_lossy(data)).unwrap();
            }
        }
    }
    let slash = if copy.into_directory && !copy.destination.ends_with('/') { "/" } else { "" };
    write!(fact, " -> {}{slash}", copy.destination).unwrap();
    if !copy.exclude.is_empty() {
        write!(fact, " without {}", copy.exclude.join(", ")).unwrap();
    }
    let owner = copy.owner.as_ref().map(|owner| format!("{owner:?}"));
    owner.into_iter().chain(copy.mode.as_ref().map(|mode| format!("{mode:?}"))).for_each(|part| {
        fact.push(' ');
        fact.push_str(&part);
    });
    fact
}

fn exec_fact(exec: &ExecOp) -> String {
    let mut fact = match &exec.args[..] {
        [shell, flag, script] if shell == "/bin/sh" && flag == "-c" => format!("sh: {script}"),
        args => format!("exec {args:?}"),
    };
    let env = exec.env.iter().filter(|(name, value)| format!("{name}={value}") != DEFAULT_PATH);
    env.for_each(|(name, value)| write!(fact, " {{{name}={value}}}").unwrap());
    if exec.cwd != "/" {
        write!(fact, " in {}", exec.cwd).unwrap();
    }
    if !exec.user.is_empty() {
        write!(fact, " as {}", exec.user).unwrap();
    }
    for mount in &exec.mounts {
        match &mount.kind {
            ExecMountKind::Inline { data, mode } => {
                write!(fact, "; {} {mode:o} {:?}", mount.target, String::from_utf8_lossy(data)).unwrap();
            }
            other => write!(fact, "; {} {other:?}", mount.target).unwrap(),
        }
    }
    fact
}

fn config_facts(image: &ImageConfig) -> Vec<String> {
    let config = &image.config;
    let mut facts = Vec::new();
    let mut fact = |name: &str, value: String| facts.push(format!("{name} {value}"));
    config.env.iter().filter(|pair| *pair != DEFAULT_PATH).for_each(|pair| fact("Env", pair.clone()));
    for (name, words) in [("Entrypoint", &config.entrypoint), ("Cmd", &config.cmd), ("Shell", &config.shell)] {
        words.iter().for_each(|words| fact(name, format!("{words:?}")));
    }
    config.labels.iter().for_each(|(name, value)| fact("Label", format!("{name}={value}")));
    config.exposed_ports.keys().for_each(|port| fact("Port", port.clone()));
    config.volumes.keys().for_each(|volume| fact("Volume", volume.clone()));
    for (name, value) in [("User", &config.user), ("Dir", &config.working_dir)] {
        if !matches!(value.as_str(), "" | "/") {
            fact(name, value.clone());
        }
    }
    config.stop_signal.iter().for_each(|signal| fact("Signal", signal.clone()));
    config.healthcheck.iter().for_each(|check| fact("Check", serde_json::to_string(check).unwrap()));
    config.on_build.iter().for_each(|trigger| fact("OnBuild", trigger.clone()));
    image.author.iter().for_each(|author| fact("Author", author.clone()));
    if (image.os.as_str(), image.architecture.as_str()) != ("linux", "amd64") {
        fact("For", image.platform().to_string());
    }
    facts
}
