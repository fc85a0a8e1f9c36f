//! Which text is the Dockerfile?
//!
//! What `--file` says: a path, a URL, or standard input. Without it, the first of `Dockerfile`, `dockerfile` and
//! `Containerfile` in the context's root; or the context itself, if it came as a single file.

use std::path::{Path, PathBuf};

use rbuild_core::Reporter;
use rbuild_frontend::Source;

use super::contexts::Main;
use super::outcome::BuildError;
use crate::context::{ContextError, Fetcher, Look, Place};
use crate::error::Error;
use crate::request::{BuildRequest, ContextSource, DockerfileSource};

/// BuildKit's names, and last the one that buildah prefers.
pub(super) const NAMES: [&str; 3] = ["Dockerfile", "dockerfile", "Containerfile"];

/// What messages call a Dockerfile that has no name.
const NAMELESS: &str = NAMES[0];

/// A Dockerfile and where it was.
#[derive(Debug)]
pub(super) struct Dockerfile {
    pub(super) source: Source,
    pub(super) place: DockerfilePlace,
}

/// Beside it may lie its own ignore file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum DockerfilePlace {
    /// In no directory.
    Nowhere,
    /// A path of this machine.
    Host(PathBuf),
    /// A path in a context that was sent or fetched.
    Inside(PathBuf),
}

/// Reads the Dockerfile.
pub(super) async fn read(
    fetcher: Fetcher<'_>,
    request: &BuildRequest,
    main: &mut Main,
    reporter: &Reporter,
) -> Result<Dockerfile, BuildError> {
    let text = match &main.place {
        Place::Fetched(fetched) if main.text.is_some() || fetched.single().is_some() => {
            single(request, fetched.what()).map_err(Error::from)?;
            main.text.take()
        }
        _ => None,
    };
    let (name, bytes, place) = match (&request.dockerfile, text) {
        (_, Some(text)) => (NAMELESS.to_owned(), text, DockerfilePlace::Nowhere),
        (Some(DockerfileSource::Text { name, text }), None) => (name.clone(), text.clone(), DockerfilePlace::Nowhere),
        (Some(DockerfileSource::Http(url)), None) => {
            (NAMELESS.to_owned(), fetcher.text(url, reporter).await?, DockerfilePlace::Nowhere)
        }
        (Some(DockerfileSource::Path(path)), None) => named(&main.place, path)?,
        (None, None) => default(request, &main.place)?,
    };
    Ok(Dockerfile { source: Source::from_bytes(name, bytes), place })
}

/// A context that is a Dockerfile allows no other; one at a URL can still be the only file for another's steps.
fn single(request: &BuildRequest, what: &str) -> Result<(), ContextError> {
    let file = match (&request.dockerfile, &request.context) {
        (Some(DockerfileSource::Path(path)), _) => path.display().to_string(),
        (Some(DockerfileSource::Http(url)), ContextSource::Stream(_)) => url.clone(),
        _ => return Ok(()),
    };
    Err(ContextError::TwoDockerfiles { what: what.to_owned(), file })
}

type Found = (String, Vec<u8>, DockerfilePlace);

/// The file that `--file` names.
fn named(place: &Place, path: &Path) -> Result<Found, BuildError> {
    let name = path.display().to_string();
    let (look, found) = match place {
        Place::Local(_) => (Look::Local(Path::new("")), DockerfilePlace::Host(path.to_owned())),
        Place::Fetched(_) => (place.look()?, DockerfilePlace::Inside(path.to_owned())),
    };
    Ok((name, must(&look, path)?, found))
}

/// The file in the context's root.
fn default(request: &BuildRequest, place: &Place) -> Result<Found, BuildError> {
    // Messages call a directory what the user calls it.
    let look = match &request.context {
        ContextSource::Local(path) if place.is_kept() => Look::Local(path),
        _ => place.look()?,
    };
    let single = match place {
        Place::Fetched(fetched) => fetched.single().map(|single| single.as_path()),
        Place::Local(_) => None,
    };
    if let Some(single) = single {
        return Ok((NAMELESS.to_owned(), must(&look, single)?, DockerfilePlace::Nowhere));
    }
    for name in NAMES {
        let path = Path::new(name);
        let bytes = look.read(path).map_err(|source| BuildError::Read { path: look.name(path), source })?;
        if let Some(bytes) = bytes {
            let found = match place {
                Place::Local(root) => DockerfilePlace::Host(root.join(path)),
                Place::Fetched(_) => DockerfilePlace::Inside(path.to_owned()),
            };
            return Ok((name.to_owned(), bytes, found));
        }
    }
    Err(absent(&look, Path::new(NAMES[0])))
}

fn must(look: &Look<'_>, path: &Path) -> Result<Vec<u8>, BuildError> {
    let failed = |source| BuildError::Read { path: look.name(path), source };
    look.read(path).map_err(failed)?.ok_or_else(|| absent(look, path))
}

fn absent(look: &Look<'_>, path: &Path) -> BuildError {
    BuildError::Read { path: look.name(path), source: rustix::io::Errno::NOENT.into() }
}
