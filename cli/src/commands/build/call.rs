//! `--call`: what can be asked of a Dockerfile instead of building it?
//!
//! Answers have the form that `docker buildx build --call` gives them, as text and as JSON.

use std::io;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rbuild_engine::{BuildError, BuildRequest, Checked, Engine};
use rbuild_frontend::{Dockerfile, Outline, Source, Span, Surroundings, outline};
use serde_json::{Map, Value, json};

use crate::diagnostics::Colour;
use crate::failure::Failure;
use crate::report::{self, ReportFormat, location, pretty};
use crate::session::print;

/// `METHOD[,format=text|json|sarif][,ignorestatus=true]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Call {
    /// What is asked.
    pub method: Method,
    /// In which form the answer is wanted.
    pub format: ReportFormat,
    /// Whether findings are no failure.
    pub ignore_status: bool,
}

/// What is done with the Dockerfile.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// What it is for.
    Build,
    /// Says what is doubtful.
    Check,
    /// Says what the target can be given.
    Outline,
    /// Says which stages there are.
    Targets,
}

impl Call {
    /// `--check`.
    pub const CHECK: Self = Self { method: Method::Check, format: ReportFormat::Text, ignore_status: false };
}

impl FromStr for Call {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut call = Self { method: Method::Build, format: ReportFormat::Text, ignore_status: false };
        for (at, field) in text.split(',').enumerate() {
            match (at, field.split_once('=')) {
                (_, Some(("format", "text"))) => call.format = ReportFormat::Text,
                (_, Some(("format", "json"))) => call.format = ReportFormat::Json,
                (_, Some(("format", "sarif"))) => call.format = ReportFormat::Sarif,
                (_, Some(("format", _))) => return Err("`format` is text, json or sarif".to_owned()),
                (_, Some(("ignorestatus", "true" | "1" | "t"))) => call.ignore_status = true,
                (_, Some(("ignorestatus", "false" | "0" | "f"))) => call.ignore_status = false,
                (0, None) => call.method = method(field)?,
                _ => return Err(format!("`{field}` means nothing in `--call`")),
            }
        }
        if call.format == ReportFormat::Sarif && call.method != Method::Check {
            return Err("only `check` has `format=sarif`".to_owned());
        }
        Ok(call)
    }
}

fn method(name: &str) -> Result<Method, String> {
    match name {
        "build" => Ok(Method::Build),
        "check" | "lint" => Ok(Method::Check),
        "outline" => Ok(Method::Outline),
        "targets" => Ok(Method::Targets),
        other => Err(format!("not supported: {other} (build, check, outline and targets are)")),
    }
}

/// Warnings are what was asked for, and so are data. Mistakes are in the same report where a program reads it.
pub async fn check(engine: &Engine, request: &BuildRequest, call: Call) -> Result<(), Failure> {
    let (source, found) = match engine.check(request).await {
        Ok(Checked { warnings, source }) => (source, warnings),
        Err(BuildError::Dockerfile { text, diagnostics }) if call.format != ReportFormat::Text => (text, diagnostics),
        Err(error) => return Err(error.into()),
    };
    print(&report::write(call.format, &source, &found, Colour::of(&io::stdout())))?;
    if found.is_empty() || call.ignore_status { Ok(()) } else { Err(Failure::Code(1)) }
}

/// `--call=outline` and `--call=targets`, for which no image is needed.
pub async fn describe(engine: &Engine, request: &BuildRequest, call: Call) -> Result<(), Failure> {
    let (source, file) = engine.read_dockerfile(request).await?;
    if call.method == Method::Targets {
        return print(&match call.format {
            ReportFormat::Json => pretty(&targets_json(&source, &file)),
            _ => targets_text(&file),
        });
    }
    let value =
        |(name, value): &(String, Option<String>)| (name.clone(), value.clone().or_else(|| std::env::var(name).ok()));
    let surroundings = Surroundings {
        build_args: request.build_args.iter().map(value).collect(),
        target: request.target.clone(),
        ..Surroundings::default()
    };
    let outline = outline(&file, &surroundings)
        .map_err(|diagnostics| Failure::Dockerfile { source: Arc::clone(&source), diagnostics })?;
    print(&match call.format {
        ReportFormat::Json => pretty(&outline_json(&source, &outline)),
        _ => outline_text(&outline),
    })
}

fn targets_text(file: &Dockerfile) -> String {
    let mut rows = vec![["TARGET", "DESCRIPTION"].map(str::to_owned)];
    for (at, stage) in file.stages.iter().enumerate() {
        let name = stage.from.name.as_ref();
        let written = name.map_or("", |name| name.name.as_str());
        let default = at + 1 == file.stages.len();
        let title = match (written, default) {
            ("", true) => "(default)".to_owned(),
            (name, true) => format!("{name} (default)"),
            (name, false) => name.to_owned(),
        };
        rows.push([title, name.and_then(|name| name.description.clone()).unwrap_or_default()]);
    }
    columns(&rows, 1)
}

fn targets_json(source: &Source, file: &Dockerfile) -> Value {
    let targets = file.stages.iter().enumerate().map(|(at, stage)| {
        let name = stage.from.name.as_ref();
        let mut target = Map::new();
        put(&mut target, "name", name.map(|name| name.name.as_str()));
        if at + 1 == file.stages.len() {
            target.insert("default".to_owned(), true.into());
        }
        put(&mut target, "description", name.and_then(|name| name.description.as_deref()));
        put(&mut target, "base", Some(stage.from.image.text.as_str()));
        put(&mut target, "platform", stage.from.platform.as_ref().map(|platform| platform.text.as_str()));
        target.insert("location".to_owned(), location(source, stage.header.span));
        Value::from(target)
    });
    json!({"targets": targets.collect::<Vec<_>>(), "sources": [STANDARD.encode(source.to_bytes())]})
}

fn outline_text(outline: &Outline) -> String {
    let mut text = String::new();
    if outline.name.is_some() || outline.description.is_some() {
        let mut rows = vec![["TARGET:".to_owned(), outline.name.clone().unwrap_or_else(|| "(default)".to_owned())]];
        rows.extend(outline.description.clone().map(|description| ["DESCRIPTION:".to_owned(), description]));
        text.push_str(&columns(&rows, 1));
        text.push('\n');
    }
    if !outline.args.is_empty() {
        let mut rows = vec![["BUILD ARG", "VALUE", "DESCRIPTION"].map(str::to_owned)];
        for arg in &outline.args {
            rows.push([arg.name.clone(), arg.value.clone(), arg.description.clone().unwrap_or_default()]);
        }
        text.push_str(&columns(&rows, 3));
        text.push('\n');
    }
    for (title, mounts) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if !mounts.is_empty() {
            let mut rows = vec![[title, "REQUIRED"].map(str::to_owned)];
            let required = |required: bool| if required { "true".to_owned() } else { String::new() };
            rows.extend(mounts.iter().map(|mount| [mount.id.clone(), required(mount.required)]));
            text.push_str(&columns(&rows, 3));
            text.push('\n');
        }
    }
    if !outline.caches.is_empty() {
        text.push_str("CACHE\n");
        outline.caches.iter().for_each(|cache| text.extend([&cache.id, "\n"]));
        text.push('\n');
    }
    text
}

fn outline_json(source: &Source, outline: &Outline) -> Value {
    let mut object = Map::new();
    put(&mut object, "name", outline.name.as_deref());
    put(&mut object, "description", outline.description.as_deref());
    let located = |mut entry: Map<String, Value>, span: Span| {
        entry.insert("location".to_owned(), location(source, span));
        Value::from(entry)
    };
    let args = outline.args.iter().map(|arg| {
        let mut entry = Map::new();
        put(&mut entry, "name", Some(&arg.name));
        put(&mut entry, "description", arg.description.as_deref());
        put(&mut entry, "value", Some(&arg.value));
        located(entry, arg.span)
    });
    let mut lists = vec![("args", args.collect::<Vec<_>>())];
    for (key, id, mounts) in
        [("secrets", "name", &outline.secrets), ("ssh", "name", &outline.ssh), ("cache", "ID", &outline.caches)]
    {
        let entries = mounts.iter().map(|mount| {
            let mut entry = Map::new();
            put(&mut entry, id, Some(&mount.id));
            if mount.required {
                entry.insert("required".to_owned(), true.into());
            }
            located(entry, mount.span)
        });
        lists.push((key, entries.collect()));
    }
    lists.push(("sources", vec![STANDARD.encode(source.to_bytes()).into()]));
    let filled = lists.into_iter().filter(|(_, list)| !list.is_empty());
    object.extend(filled.map(|(key, list)| (key.to_owned(), Value::from(list))));
    object.into()
}

/// What is empty is left out, as Go does it.
fn put(object: &mut Map<String, Value>, key: &str, value: Option<&str>) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        object.insert(key.to_owned(), value.into());
    }
}

/// Every cell but the last of a line is as wide as the widest of its column.
fn columns<const N: usize>(rows: &[[String; N]], gap: usize) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < N {
                text.extend(std::iter::repeat_n(' ', widths[column] + gap - cell.chars().count()));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;
