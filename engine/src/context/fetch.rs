//! Where is a context fetched from that is no directory of the user's?

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use rbuild_core::{Event, Outcome, Reporter, StepId};
use rbuild_solver::graph::HttpOp;

use super::fetched::SINGLE;
use super::look::read_limited;
use crate::context::{ContextError, Fetched, STANDARD_INPUT};
use crate::engine::Engine;
use crate::error::{Error, chain};
use crate::remote::redacted;
use crate::request::ContextSource;
use crate::secret::Secrets;

/// The step that the main context's transfer belongs to: none of the graph.
const STEP: StepId = StepId(u32::MAX - 1);

/// Brings contexts to this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetcher<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) secrets: &'a Secrets,
}

impl Fetcher<'_> {
    /// As [`Fetcher::fetch`], as a step of its own.
    pub(crate) async fn fetch_main(
        self,
        source: &ContextSource,
        keep_git_dir: bool,
        reporter: &Reporter,
    ) -> Result<Fetched, Error> {
        let started = Instant::now();
        reporter.emit(Event::StepStarted { step: STEP, title: format!("[internal] load {}", title(source)) });
        let result = self.fetch(source, keep_git_dir, (reporter, STEP)).await;
        let outcome = match &result {
            Ok(_) => Outcome::Done,
            Err(error) => Outcome::Failed(chain(error)),
        };
        reporter.emit(Event::StepFinished { step: STEP, outcome, elapsed: started.elapsed() });
        result
    }

    /// Brings the files of a context here. What is no tar becomes the only file, except on a path: there it was meant
    /// as a directory.
    pub(crate) async fn fetch(
        self,
        source: &ContextSource,
        keep_git_dir: bool,
        progress: (&Reporter, StepId),
    ) -> Result<Fetched, Error> {
        let Self { engine, .. } = self;
        match source {
            ContextSource::Local(path) => Fetched::archive(engine.store(), path).await,
            ContextSource::Stream(input) => {
                let unpacked = Fetched::unpacked(engine.store(), input.take(), STANDARD_INPUT.to_owned()).await?;
                unpacked.ok_or_else(|| ContextError::NotAnArchive(STANDARD_INPUT.to_owned()).into())
            }
            ContextSource::Http(url) => self.download(url, progress).await,
            ContextSource::Git(url) => self.check_out(url, keep_git_dir).await,
            ContextSource::Empty => Fetched::nothing(engine.store()),
        }
    }

    /// A Dockerfile at a URL.
    pub(crate) async fn text(self, url: &str, reporter: &Reporter) -> Result<Vec<u8>, Error> {
        let download = self.engine.download(&file_at(url), self.secrets, (reporter, STEP)).await?;
        let path = download.path(self.engine)?;
        let bytes = read_limited(&path).map_err(Error::file("read", &path))?;
        bytes.ok_or_else(|| Error::file("read", path)(rustix::io::Errno::NOENT.into()))
    }

    async fn download(self, url: &str, progress: (&Reporter, StepId)) -> Result<Fetched, Error> {
        let download = self.engine.download(&file_at(url), self.secrets, progress).await?;
        let path = download.path(self.engine)?;
        let file = File::open(&path).map_err(Error::file("read", &path))?;
        let what = format!("`{}`", redacted(url));
        let unpacked = Fetched::unpacked(self.engine.store(), file, what.clone()).await?;
        let root = path.parent().unwrap_or(Path::new("/")).to_owned();
        Ok(unpacked.unwrap_or_else(|| Fetched::layer(what, root).only(SINGLE)))
    }
}

fn title(source: &ContextSource) -> String {
    match source {
        ContextSource::Http(url) | ContextSource::Git(url) => format!("build context from {}", redacted(url)),
        ContextSource::Local(path) => format!("build context from {}", path.display()),
        ContextSource::Stream(_) => format!("build context from {STANDARD_INPUT}"),
        ContextSource::Empty => "an empty build context".to_owned(),
    }
}

/// The file at a URL; a fragment is none of the server's business.
fn file_at(url: &str) -> HttpOp {
    let url = url.split('#').next().unwrap_or_default().to_owned();
    HttpOp { url, name: SINGLE.to_owned(), checksum: None, mtime: None }
}

impl Fetcher<'_> {
    async fn check_out(self, url: &str, _keep_git_dir: bool) -> Result<Fetched, Error> {
        Err(Error::Unsupported(format!("a git repository as a context: `{}`", redacted(url))))
    }
}
