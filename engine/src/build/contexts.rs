//! Which files does a build start from?

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rbuild_frontend::{IgnoreFile, NamedContext, Source};

use super::outcome::BuildError;
use crate::context::Context;
use crate::error::Error;
use crate::request::{BuildRequest, ContextSource, DockerfileSource};

/// The name that lowering gives to the build's own context.
const MAIN: &str = "context";

/// All contexts of a build.
pub(super) struct Contexts {
    /// Directories, by name.
    pub(super) local: BTreeMap<String, Arc<Context>>,
    /// What `--build-context` says, for lowering.
    pub(super) named: BTreeMap<String, NamedContext>,
}

/// Reads the Dockerfile.
pub(super) fn dockerfile(request: &BuildRequest) -> Result<Source, BuildError> {
    let (name, bytes) = match &request.dockerfile {
        Some(DockerfileSource::Text { name, text }) => (name.clone(), text.clone()),
        Some(DockerfileSource::Path(path)) => (path.display().to_string(), read(path)?),
        None => {
            let path = default_dockerfile(request);
            (path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()), read(&path)?)
        }
    };
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    };
    Ok(Source::new(name, text))
}

/// Opens the context directories and reads their ignore files.
pub(super) fn open(request: &BuildRequest) -> Result<Contexts, BuildError> {
    let mut contexts = Contexts { local: BTreeMap::new(), named: BTreeMap::new() };
    let main = match &request.context {
        ContextSource::Directory(path) => {
            let root = directory(path)?;
            let ignore = main_ignore(request, &root)?.unwrap_or_default();
            Context::new(root, ignore)
        }
        ContextSource::Empty => Context::empty()?,
    };
    contexts.local.insert(MAIN.to_owned(), Arc::new(main));
    for (name, source) in &request.build_contexts {
        let named = match source.split_once("://") {
            Some(("docker-image", image)) => NamedContext::Image(image.to_owned()),
            Some((scheme, _)) => {
                let what = format!(
                    "`--build-context {name}={source}` (directories and docker-image:// are, {scheme}:// is not)"
                );
                return Err(Error::Unsupported(what).into());
            }
            None => {
                let root = directory(Path::new(source))?;
                let ignore = ignore_file(&root.join(".dockerignore"))?.unwrap_or_default();
                contexts.local.insert(name.clone(), Arc::new(Context::new(root, ignore)));
                NamedContext::Local
            }
        };
        contexts.named.insert(name.clone(), named);
    }
    Ok(contexts)
}

fn default_dockerfile(request: &BuildRequest) -> PathBuf {
    let root = match &request.context {
        ContextSource::Directory(path) => path.clone(),
        ContextSource::Empty => PathBuf::new(),
    };
    let usual = root.join("Dockerfile");
    let lower = root.join("dockerfile");
    if !usual.exists() && lower.exists() { lower } else { usual }
}

fn directory(path: &Path) -> Result<PathBuf, BuildError> {
    let failed = |source| BuildError::Context { path: path.to_owned(), source };
    let root = fs::canonicalize(path).map_err(failed)?;
    if !root.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    Ok(root)
}

/// `<Dockerfile>.dockerignore` beside the Dockerfile, else `.dockerignore` of the context.
fn main_ignore(request: &BuildRequest, root: &Path) -> Result<Option<IgnoreFile>, BuildError> {
    let beside = match &request.dockerfile {
        Some(DockerfileSource::Path(path)) => Some(path.clone()),
        Some(DockerfileSource::Text { .. }) => None,
        None => Some(default_dockerfile(request)),
    };
    if let Some(mut own) = beside {
        own.as_mut_os_string().push(".dockerignore");
        if let Some(ignore) = ignore_file(&own)? {
            return Ok(Some(ignore));
        }
    }
    ignore_file(&root.join(".dockerignore"))
}

fn ignore_file(path: &Path) -> Result<Option<IgnoreFile>, BuildError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::file("read", path)(error).into()),
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    IgnoreFile::parse(&text).map(Some).map_err(|diagnostics| {
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        BuildError::Dockerfile { text: Arc::new(Source::new(name, text)), diagnostics }
    })
}

fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    fs::read(path).map_err(|source| BuildError::Read { path: path.to_owned(), source })
}
