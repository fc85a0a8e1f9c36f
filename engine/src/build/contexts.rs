//! Which files does a build start from?

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rbuild_core::Reporter;
use rbuild_frontend::{IgnoreFile, NamedContext, Source};

use super::dockerfile::DockerfilePlace;
use super::outcome::BuildError;
use crate::context::{
    Context, Fetched, Fetcher, IGNORE_FILE, Layout, Look, Malformed, NamedSource, Opened, Place, STANDARD_INPUT,
};
use crate::error::Error;
use crate::request::{BuildRequest, ContextSource, RemoteIgnore};

/// The name that lowering gives to the build's own context.
pub(super) const MAIN: &str = "context";

/// The argument that decides whether a repository as context keeps its `.git`.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// All contexts of a build.
#[derive(Debug, Default)]
pub(super) struct Contexts {
    /// Files, by name.
    pub(super) files: BTreeMap<String, Arc<Context>>,
    /// What `--build-context` says, for lowering.
    pub(super) named: BTreeMap<String, NamedContext>,
    /// The images among them that lie in directories, by what lowering calls them.
    pub(super) layouts: BTreeMap<String, Layout>,
}

/// The build's own context, before its ignore file is read: which one it is depends on the Dockerfile.
#[derive(Debug)]
pub(super) struct Main {
    pub(super) place: Place,
    /// The Dockerfile, if the context came as nothing else.
    pub(super) text: Option<Vec<u8>>,
}

/// Opens or fetches the build's own context.
pub(super) async fn main(
    fetcher: Fetcher<'_>,
    request: &BuildRequest,
    reporter: &Reporter,
) -> Result<Main, BuildError> {
    let fetch = || fetcher.fetch_main(&request.context, keeps_git_dir(request), reporter);
    let (fetched, text) = match &request.context {
        ContextSource::Stream(input) => {
            Fetched::receive(fetcher.engine.store(), input.take(), STANDARD_INPUT.to_owned()).await?
        }
        ContextSource::Local(path) => match directory(path)? {
            Some(root) => return local(request, root),
            None => (fetch().await?, None),
        },
        _ => (fetch().await?, None),
    };
    let fetched = match &request.context_subdir {
        Some(subdir) => fetched.within(subdir)?,
        None => fetched,
    };
    Ok(Main { place: Place::Fetched(fetched), text })
}

/// As BuildKit, by an argument of the build.
fn keeps_git_dir(request: &BuildRequest) -> bool {
    let given = request.build_args.iter().rev().find(|(name, _)| name == KEEP_GIT_DIR);
    let value = given.and_then(|(name, value)| value.clone().or_else(|| std::env::var(name).ok()));
    // What Go's `strconv.ParseBool` takes for true.
    value.is_some_and(|value| ["1", "t", "T", "TRUE", "true", "True"].contains(&&*value))
}

fn local(request: &BuildRequest, root: PathBuf) -> Result<Main, BuildError> {
    if let Some(subdir) = &request.context_subdir {
        let what = format!("`--context-subdir {subdir}` of a local directory, which can be named itself");
        return Err(Error::Unsupported(what).into());
    }
    Ok(Main { place: Place::Local(root), text: None })
}

/// Reads the ignore files, and says what all names mean.
pub(super) fn all(request: &BuildRequest, main: Main, dockerfile: &DockerfilePlace) -> Result<Contexts, BuildError> {
    let mut contexts = Contexts::default();
    let ignore = main_ignore(request, &main.place, dockerfile)?.unwrap_or_default();
    contexts.put(MAIN, Context::new(Opened { place: main.place, ignore }));
    for (name, text) in &request.build_contexts {
        let named = match NamedSource::new(name, text, Path::exists).map_err(Error::from)? {
            NamedSource::Nothing => NamedContext::Nothing,
            NamedSource::Image(image) => NamedContext::Image(image),
            NamedSource::Layout(layout) => {
                contexts.layouts.insert(text.clone(), layout);
                NamedContext::Image(text.clone())
            }
            NamedSource::Files(source) => {
                contexts.put(name, named_files(request, source)?);
                NamedContext::Local
            }
        };
        contexts.named.insert(name.clone(), named);
    }
    Ok(contexts)
}

impl Contexts {
    fn put(&mut self, name: &str, context: Context) {
        self.files.insert(name.to_owned(), Arc::new(context));
    }
}

fn named_files(request: &BuildRequest, source: ContextSource) -> Result<Context, BuildError> {
    if let ContextSource::Local(path) = &source
        && let Some(root) = directory(path)?
    {
        let place = Place::Local(root);
        let ignore = rules(&place.look()?, IGNORE_FILE.as_ref())?.unwrap_or_default();
        return Ok(Context::new(Opened { place, ignore }));
    }
    Ok(Context::later(source, request.remote_ignore))
}

/// The directory at a path; none if it is a file, which may be an archive.
fn directory(path: &Path) -> Result<Option<PathBuf>, BuildError> {
    let failed = |source| BuildError::Context { path: path.to_owned(), source };
    let kind = fs::metadata(path).map_err(failed)?.file_type();
    if kind.is_dir() {
        return fs::canonicalize(path).map(Some).map_err(failed);
    }
    // A pipe is what `<(tar …)` of a shell is.
    if kind.is_file() || kind.is_fifo() { Ok(None) } else { Err(failed(io::ErrorKind::NotADirectory.into())) }
}

/// `<Dockerfile>.dockerignore` beside the Dockerfile, else `.dockerignore` of the context.
fn main_ignore(
    request: &BuildRequest,
    place: &Place,
    dockerfile: &DockerfilePlace,
) -> Result<Option<IgnoreFile>, BuildError> {
    if !place.is_kept() && request.remote_ignore == RemoteIgnore::Skip {
        return Ok(None);
    }
    let beside = match dockerfile {
        DockerfilePlace::Nowhere => None,
        DockerfilePlace::Host(path) => rules(&Look::Local(Path::new("")), &own_ignore_file(path))?,
        DockerfilePlace::Inside(path) => rules(&place.look()?, &own_ignore_file(path))?,
    };
    match beside {
        Some(rules) => Ok(Some(rules)),
        None => rules(&place.look()?, IGNORE_FILE.as_ref()),
    }
}

/// The ignore file that belongs to one Dockerfile.
fn own_ignore_file(dockerfile: &Path) -> PathBuf {
    let mut path = dockerfile.to_owned();
    path.as_mut_os_string().push(IGNORE_FILE);
    path
}

fn rules(look: &Look<'_>, path: &Path) -> Result<Option<IgnoreFile>, BuildError> {
    let found = look.rules(path).map_err(Error::file("read", look.name(path)))?;
    found.transpose().map_err(|Malformed { name, text, mistakes }| BuildError::Dockerfile {
        text: Arc::new(Source::new(name, text)),
        diagnostics: mistakes,
    })
}
