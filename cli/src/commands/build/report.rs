//! What does a build say when it is done?

use std::io::{self, Write};
use std::path::Path;

use rbuild_engine::BuildOutcome;
use serde_json::json;

use crate::diagnostics::{self, Colour};
use crate::failure::Failure;
use crate::progress::ProgressMode;

/// Tells what came of it, and what could be better.
pub(super) fn report(outcome: &BuildOutcome, mode: ProgressMode) {
    let colour = Colour::of(&io::stderr());
    let mut text = diagnostics::render(&outcome.source, &outcome.warnings, colour);
    if mode != ProgressMode::Json {
        text.push_str(&format!("image {}\n", outcome.id));
        outcome.names.iter().for_each(|name| text.push_str(&format!("named {name}\n")));
    }
    // Whoever closed standard error does not want to know.
    drop(io::stderr().write_all(text.as_bytes()));
}

/// What `--metadata-file` says, under the names that `docker buildx build` gives it.
pub(super) fn metadata(outcome: &BuildOutcome) -> serde_json::Value {
    let mut metadata = serde_json::Map::new();
    metadata.insert("containerimage.config.digest".to_owned(), json!(outcome.id));
    if let Some(manifest) = &outcome.manifest {
        metadata.insert("containerimage.digest".to_owned(), json!(manifest.digest));
        metadata.insert("containerimage.descriptor".to_owned(), json!(manifest));
    }
    if !outcome.names.is_empty() {
        metadata.insert("image.name".to_owned(), json!(outcome.names.join(",")));
    }
    // As with buildx, only where it was asked for.
    if std::env::var("BUILDX_METADATA_WARNINGS").is_ok_and(|wanted| matches!(wanted.as_str(), "1" | "true")) {
        let warnings = crate::report::build_warnings(&outcome.source, &outcome.warnings);
        metadata.insert("buildx.build.warnings".to_owned(), warnings);
    }
    metadata.into()
}

pub(super) fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| Failure::io(format!("cannot write `{}`", path.display()), error))
}
