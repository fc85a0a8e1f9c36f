//! When was something last changed that `SOURCE_DATE_EPOCH` names?

use std::fs::File;
use std::path::{Path, PathBuf};

use rbuild_core::{Reporter, StepId};
use rbuild_frontend::DateSource;
use rbuild_image::{Change, LayerReader, archive};
use rbuild_solver::graph::{GitOp, HttpOp};

use crate::blocking::blocking;
use crate::context::{Fetcher, NamedSource, file_at, repository_at};
use crate::error::Error;
use crate::request::{BuildRequest, ContextSource};

/// In seconds since the epoch; `None` for what has no time, such as a directory of this machine.
pub(super) async fn of(
    fetcher: Fetcher<'_>,
    request: &BuildRequest,
    source: &DateSource,
) -> Result<Option<i64>, Error> {
    match source {
        DateSource::Context(name) if name == "context" => of_context(fetcher, &request.context).await,
        DateSource::Context(name) => match named(request, name)? {
            Some(source) => of_context(fetcher, &source).await,
            None => Ok(None),
        },
        DateSource::Git(op) => of_commit(fetcher, op).await.map(Some),
        DateSource::Http(op) => of_file(fetcher, op).await,
    }
}

/// The files behind a `--build-context`, if it is files.
fn named(request: &BuildRequest, name: &str) -> Result<Option<ContextSource>, Error> {
    let Some((name, text)) = request.build_contexts.iter().rev().find(|(other, _)| other == name) else {
        return Ok(None);
    };
    match NamedSource::new(name, text, Path::exists)? {
        NamedSource::Files(source) => Ok(Some(source)),
        NamedSource::Nothing | NamedSource::Image(_) | NamedSource::Layout(_) => Ok(None),
    }
}

async fn of_context(fetcher: Fetcher<'_>, source: &ContextSource) -> Result<Option<i64>, Error> {
    match source {
        ContextSource::Http(url) => of_file(fetcher, &file_at(url)?).await,
        ContextSource::Git(url) => of_commit(fetcher, &repository_at(url, false)?).await.map(Some),
        ContextSource::Local(path) if path.is_file() => newest(path.clone()).await,
        // Directories have no time, and what is sent is gone by now.
        ContextSource::Local(_) | ContextSource::Stream(_) | ContextSource::Empty => Ok(None),
    }
}

async fn of_commit(Fetcher { engine, secrets }: Fetcher<'_>, op: &GitOp) -> Result<i64, Error> {
    let commit = engine.resolve_commit(op, secrets).await?;
    Ok(engine.check_out(op, &commit, secrets).await?.time)
}

async fn of_file(Fetcher { engine, secrets }: Fetcher<'_>, op: &HttpOp) -> Result<Option<i64>, Error> {
    let found = engine.download(op, secrets, (&Reporter::silent(), StepId(u32::MAX))).await?;
    match found.modified {
        Some(time) => Ok(Some(time)),
        None => newest(found.path(engine)?).await,
    }
}

/// The time of the newest entry of an archive.
async fn newest(path: PathBuf) -> Result<Option<i64>, Error> {
    blocking(move || {
        let file = File::open(&path).map_err(Error::file("open", &path))?;
        newest_entry(file).map_err(Error::file("read", &path))
    })
    .await
}

fn newest_entry(file: File) -> std::io::Result<Option<i64>> {
    let Some(archive) = archive::open(file)? else { return Ok(None) };
    let mut reader = LayerReader::literal(archive);
    let mut newest = None;
    while let Some((change, _)) = reader.next().map_err(std::io::Error::other)? {
        if let Change::Upsert(entry) = change {
            newest = newest.max(Some(entry.mtime.seconds));
        }
    }
    Ok(newest)
}
