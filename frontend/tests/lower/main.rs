//! What graph and what configuration does a Dockerfile lead to?
//!
//! Configurations are compared with what BuildKit made of the same files (`testdata/lower`), graphs with snapshots that
//! were read before they were accepted, mistakes with a table.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt::Write;
use std::path::Path;
use std::sync::Mutex;

use rbuild_core::{Digest, Platform};
use rbuild_frontend::{
    CacheUse, DateSource, Diagnostic, Entitlements, LowerError, LowerOptions, Lowered, NamedContext, ResolveImage,
    Source, lower, parse,
};
use rbuild_image::{History, ImageConfig};
use rbuild_solver::graph::{CopySource, ExecMountKind, FileAction, Op};
use serde_json::{Map, Value, json};

mod rows;

/// Knows a few images and what it was asked for.
#[derive(Default)]
struct Registry {
    asked: Mutex<Vec<String>>,
}

#[derive(Debug, thiserror::Error)]
#[error("no such image")]
struct Unknown;

impl ResolveImage for Registry {
    type Error = Unknown;

    async fn resolve(&self, name: &str, platform: &Platform) -> Result<(Digest, ImageConfig), Unknown> {
        self.asked.lock().unwrap().push(format!("{name} {platform}"));
        let mut image = ImageConfig::scratch(platform);
        image.config.env = vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
        image.history = vec![History { created_by: Some("base".to_owned()), ..History::default() }];
        image.rootfs.diff_ids = vec![Digest::sha256([7; 32])];
        let short = name.trim_end_matches(":latest");
        match short.rsplit('/').next().unwrap() {
            "busybox" => image.config.cmd = Some(vec!["sh".to_owned()]),
            "debian:trixie" => image.config.cmd = Some(vec!["bash".to_owned()]),
            "triggers" => {
                image.config.on_build =
                    ["COPY . /app", "COPY --from=tools /tool /tool", "RUN make $UNSET"].map(str::to_owned).to_vec();
            }
            "broken" => image.config.on_build = vec!["CPOY a b".to_owned(), "WORKDIR".to_owned()],
            "windows" => {
                (image.os, image.architecture, image.variant) = ("windows".to_owned(), "amd64".to_owned(), None);
            }
            "empty" => image.rootfs.diff_ids.clear(),
            _ => return Err(Unknown),
        }
        Ok((Digest::sha256([u8::try_from(short.len()).unwrap(); 32]), image))
    }

    async fn date(&self, source: &DateSource) -> Result<Option<i64>, Unknown> {
        match source {
            DateSource::Context(name) if name == "context" => Ok(None),
            DateSource::Context(_) => Ok(Some(1)),
            DateSource::Http(http) if http.url.ends_with("gone") => Err(Unknown),
            DateSource::Http(_) => Ok(Some(2)),
            DateSource::Git(_) => Ok(Some(3)),
        }
    }
}

fn options() -> LowerOptions {
    LowerOptions::new("linux/amd64".parse().unwrap())
}

fn try_lower(text: &str, options: &LowerOptions) -> Result<Lowered, LowerError<Unknown>> {
    let file = parse(&Source::new("Dockerfile", text)).map_err(LowerError::Mistakes)?;
    run(lower(&file, options, &Registry::default()))
}

fn lowered(text: &str, options: &LowerOptions) -> Lowered {
    try_lower(text, options).unwrap_or_else(|error| panic!("{error:#?}"))
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

#[test]
fn configurations_are_those_of_buildkit() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/lower"));
    let mut seen = 0;
    let mut wrong = String::new();
    let mut directories: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    directories.sort();
    for directory in directories.iter().filter(|path| path.is_dir()) {
        let name = directory.file_name().unwrap().to_string_lossy();
        let text = std::fs::read_to_string(directory.join("Dockerfile")).unwrap();
        let case: Value = serde_json::from_slice(&std::fs::read(directory.join("expected.json")).unwrap()).unwrap();
        match try_lower(&text, &case_options(&case)) {
            Ok(lowered) => {
                // BuildKit leaves doubled slashes in an absolute path alone, we do not.
                let mut expected = case["config"].clone();
                if let Some(Value::String(directory)) = expected.get_mut("WorkingDir") {
                    *directory = rbuild_frontend::clean(directory);
                }
                let config = shape(&lowered.config);
                if config != expected {
                    writeln!(wrong, "{name}: {config}\n   expected {expected}").unwrap();
                }
                let history = history(&lowered.config);
                if history != case["history"] {
                    writeln!(wrong, "{name}: {history}\n   expected {}", case["history"]).unwrap();
                }
            }
            Err(error) => writeln!(wrong, "{name}: {error:?}").unwrap(),
        }
        seen += 1;
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(seen > 80, "only {seen} cases");
}

fn case_options(case: &Value) -> LowerOptions {
    let mut options = options();
    for (name, value) in case["args"].as_object().unwrap_or(&Map::new()) {
        options.build_args.insert(name.clone(), Some(value.as_str().unwrap().to_owned()));
    }
    options.target = case["target"].as_str().map(str::to_owned);
    for (name, source) in case["contexts"].as_object().unwrap_or(&Map::new()) {
        let context = match source.as_str().unwrap().split_once(':').unwrap() {
            ("dir", _) => NamedContext::Local,
            (_, image) => NamedContext::Image(image.to_owned()),
        };
        options.named_contexts.insert(name.clone(), context);
    }
    options
}

/// The configuration as the cases have it: without empty values, sets as lists.
fn shape(config: &ImageConfig) -> Value {
    let runtime = serde_json::to_value(&config.config).unwrap();
    let mut out = Map::new();
    for (name, value) in [("architecture", json!(config.architecture)), ("os", json!(config.os))] {
        out.insert(name.to_owned(), value);
    }
    out.extend(config.author.clone().map(|author| ("author".to_owned(), json!(author))));
    for (name, value) in runtime.as_object().unwrap() {
        let value = match name.as_str() {
            "ExposedPorts" | "Volumes" => json!(value.as_object().unwrap().keys().collect::<Vec<_>>()),
            _ => value.clone(),
        };
        out.insert(name.clone(), value);
    }
    Value::Object(out)
}

fn history(config: &ImageConfig) -> Value {
    config.history.iter().map(|entry| if entry.empty_layer { "empty" } else { "layer" }).collect()
}

/// Every vertex with its title, its inputs and what it does.
fn plan(lowered: &Lowered) -> String {
    let mut out = String::new();
    for (id, vertex) in lowered.graph.vertices() {
        let inputs: Vec<_> = vertex.inputs().iter().map(|input| input.vertex.index().to_string()).collect();
        let fresh = if vertex.origin.ignore_cache { " !" } else { "" };
        writeln!(out, "{} <{}> {}{fresh}", id.index(), inputs.join(" "), vertex.origin.title).unwrap();
        writeln!(out, "    {}", summary(&vertex.op)).unwrap();
    }
    writeln!(out, "-> {}", lowered.result.vertex.index()).unwrap();
    out
}

fn summary(op: &Op) -> String {
    match op {
        Op::Scratch => "scratch".to_owned(),
        Op::Merge => "merge".to_owned(),
        Op::Http(http) => {
            let checksum = http.checksum.map_or_else(String::new, |digest| format!(" is {}", digest.short()));
            let mtime = http.mtime.map_or_else(String::new, |mtime| format!(" at {mtime}"));
            format!("http {} as {}{checksum}{mtime}", http.url, http.name)
        }
        Op::Git(git) => format!("{git:?}"),
        Op::Image(image) => format!("image {} {}", image.name, image.platform),
        Op::Local(local) => {
            let parents = if local.parents { " parents" } else { "" };
            format!("local {} {:?} without {:?}{parents}", local.name, local.include, local.exclude)
        }
        Op::Exec(exec) => {
            let env: Vec<_> = exec.env.iter().filter(|(name, _)| *name != "PATH").collect();
            let mut text = format!("exec {:?} env {env:?} in {} as {:?}", exec.args, exec.cwd, exec.user);
            for mount in &exec.mounts {
                let kind = match &mount.kind {
                    ExecMountKind::Inline { data, mode } => {
                        format!("{:?} {mode:o}", String::from_utf8_lossy(data))
                    }
                    other => format!("{other:?}"),
                };
                write!(text, "\n    {} {kind}", mount.target).unwrap();
            }
            text
        }
        Op::File(file) => file.actions.iter().map(action).collect::<Vec<_>>().join("; "),
    }
}

fn action(action: &FileAction) -> String {
    let copy = match action {
        FileAction::Copy(copy) => copy,
        FileAction::MakeDirectory { path, owner, mtime } => {
            return format!("mkdir {path} {owner:?} {mtime:?}");
        }
    };
    let sources: Vec<_> = copy
        .sources
        .iter()
        .map(|source| match source {
            CopySource::Path { input, path, written } => format!("{input}:{path} ({written})"),
            CopySource::Inline { name, data } => format!("{name}={:?}", String::from_utf8_lossy(data)),
        })
        .collect();
    let directory = if copy.into_directory { "/" } else { "" };
    let mut text = format!("copy {sources:?} -> {}{directory}", copy.destination);
    for (name, set) in [
        (" keep-owner", copy.preserve_owner),
        (" parents", copy.parents),
        (" unpack", copy.unpack == rbuild_solver::graph::Unpack::Archives),
    ] {
        text.push_str(if set { name } else { "" });
    }
    for part in
        [copy.owner.as_ref().map(|owner| format!("{owner:?}")), copy.mode.as_ref().map(|mode| format!("{mode:?}"))]
    {
        text.extend(part.map(|part| format!(" {part}")));
    }
    text.extend(copy.mtime.map(|mtime| format!(" at {mtime}")));
    text
}

fn created_by(lowered: &Lowered) -> Vec<&str> {
    lowered.config.history.iter().filter_map(|entry| entry.created_by.as_deref()).collect()
}

/// What is wrong, as `line: message`, warnings of the parser left out.
fn mistakes(text: &str, options: &LowerOptions) -> Vec<String> {
    let source = Source::new("Dockerfile", text);
    let shown = |mistakes: Vec<Diagnostic>| {
        let of = |mistake: &Diagnostic| {
            let hint = mistake.hint.as_ref().map_or_else(String::new, |hint| format!(" [{hint}]"));
            format!("{}: {}{hint}", source.position(mistake.span().start).line, mistake.message)
        };
        mistakes.iter().map(of).collect()
    };
    match try_lower(text, options) {
        Ok(_) => Vec::new(),
        Err(LowerError::Mistakes(mistakes)) => shown(mistakes),
        Err(LowerError::Date { name, span, .. }) => vec![format!("{}: {name}", source.position(span.start).line)],
        Err(LowerError::Image { name, span, hint, .. }) => {
            vec![format!("{}: {name} {hint:?}", source.position(span.start).line)]
        }
    }
}

fn warnings(text: &str, options: &LowerOptions) -> Vec<String> {
    let source = Source::new("Dockerfile", text);
    let found = lowered(text, options).warnings;
    let shown = |warning: &Diagnostic| {
        let rule = warning.rule.map_or("", |rule| rule.name());
        let hint = warning.hint.as_ref().map_or_else(String::new, |hint| format!(" [{hint}]"));
        format!("{}: {rule}: {}{hint}", source.position(warning.span().start).line, warning.message)
    };
    found.iter().map(shown).collect()
}

mod cases;
mod errors;
mod lints;
mod remote;
mod run;
