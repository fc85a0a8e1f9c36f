//! When was something last changed that `SOURCE_DATE_EPOCH` names?

use std::fs::File;

use rbuild_core::{Reporter, StepId};
use rbuild_frontend::DateSource;
use rbuild_image::{Change, LayerReader, archive};

use crate::blocking::blocking;
use crate::engine::Engine;
use crate::error::Error;
use crate::secret::Secrets;

/// In seconds since the epoch; `None` for what has no time, such as a directory of this machine.
pub(super) async fn of(engine: &Engine, secrets: &Secrets, source: &DateSource) -> Result<Option<i64>, Error> {
    match source {
        DateSource::Context(_) => Ok(None),
        DateSource::Git(op) => {
            let commit = engine.resolve_commit(op, secrets).await?;
            Ok(Some(engine.check_out(op, &commit, secrets).await?.time))
        }
        DateSource::Http(op) => {
            let found = engine.download(op, secrets, (&Reporter::silent(), StepId(u32::MAX))).await?;
            if found.modified.is_some() {
                return Ok(found.modified);
            }
            let path = found.path(engine)?;
            blocking(move || {
                let file = File::open(&path).map_err(Error::file("open", &path))?;
                newest(file).map_err(Error::file("read", &path))
            })
            .await
        }
    }
}

/// The time of the newest entry of an archive.
fn newest(file: File) -> std::io::Result<Option<i64>> {
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
