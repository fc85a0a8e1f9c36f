//! Where is a context fetched from that is no directory of the user's?

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use rbuild_core::{Event, Outcome, Reporter, StepId, with_causes};
use rbuild_frontend::remote::{self, Remote, redacted};
use rbuild_solver::graph::{GitOp, HttpOp};

use super::fetched::SINGLE;
use super::look::read_limited;
use crate::context::{ContextError, Fetched, STANDARD_INPUT};
use crate::engine::Engine;
use crate::error::Error;
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
            Err(error) => Outcome::Failed(with_causes(error)),
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
        let download = self.engine.download(&file_at(url)?, self.secrets, (reporter, STEP)).await?;
        let path = download.path(self.engine)?;
        let bytes = read_limited(&path).map_err(Error::file("read", &path))?;
        bytes.ok_or_else(|| Error::file("read", path)(rustix::io::Errno::NOENT.into()))
    }

    async fn download(self, url: &str, progress: (&Reporter, StepId)) -> Result<Fetched, Error> {
        let download = self.engine.download(&file_at(url)?, self.secrets, progress).await?;
        let path = download.path(self.engine)?;
        let file = File::open(&path).map_err(Error::file("read", &path))?;
        let what = format!("`{}`", redacted(url));
        let unpacked = Fetched::unpacked(self.engine.store(), file, what.clone()).await?;
        let root = path.parent().unwrap_or(Path::new("/")).to_owned();
        Ok(unpacked.unwrap_or_else(|| Fetched::layer(what, root).only(SINGLE)))
    }

    async fn check_out(self, url: &str, keep_git_dir: bool) -> Result<Fetched, Error> {
        let op = repository_at(url, keep_git_dir)?;
        let commit = self.engine.resolve_commit(&op, self.secrets).await?;
        let checkout = self.engine.check_out(&op, &commit, self.secrets).await?;
        Ok(Fetched::layer(format!("`{}`", redacted(url)), checkout.path(self.engine)?))
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
pub(crate) fn file_at(url: &str) -> Result<HttpOp, ContextError> {
    match address(url)? {
        Remote::Http(op) => Ok(HttpOp { name: SINGLE.to_owned(), ..op }),
        Remote::Git { .. } => Err(ContextError::NotAUrl(redacted(url))),
    }
}

/// The commit that the address of a repository means.
pub(crate) fn repository_at(url: &str, keep_git_dir: bool) -> Result<GitOp, ContextError> {
    // The way to write it without `https://` and `.git`.
    let full = url.strip_prefix("github.com/").map(|rest| {
        let (path, more) = rest.find(['#', '?']).map_or((rest, ""), |at| rest.split_at(at));
        let path = path.trim_end_matches('/').trim_end_matches(".git");
        format!("https://github.com/{path}.git{more}")
    });
    match address(full.as_deref().unwrap_or(url))? {
        Remote::Git { op, keep_git_dir: written } => {
            let op = GitOp { keep_git_dir: keep_git_dir || written == Some(true), ..op };
            remote::complete(&op).map_err(|source| ContextError::Address { text: redacted(url), source })?;
            Ok(op)
        }
        Remote::Http(_) => Err(ContextError::NotAUrl(redacted(url))),
    }
}

fn address(url: &str) -> Result<Remote, ContextError> {
    let address = remote::remote(url).ok_or_else(|| ContextError::NotAUrl(redacted(url)))?;
    address.map_err(|source| ContextError::Address { text: redacted(url), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a192_a194_addresses_of_repositories_say_which_files_of_which_commit() {
        for (url, expected) in [
            ("github.com/moby/buildkit", "https://github.com/moby/buildkit.git HEAD ''"),
            ("github.com/moby/buildkit.git#v1:docs", "https://github.com/moby/buildkit.git v1 'docs'"),
            ("github.com/moby/buildkit/?ref=v2", "https://github.com/moby/buildkit.git v2 ''"),
            ("https://h/a.git#:sub/../dir/", "https://h/a.git HEAD 'dir'"),
            ("git@h:a/b#main", "git@h:a/b main ''"),
            ("ssh://git@h:22/a#refs/pull/1/head", "ssh://git@h:22/a refs/pull/1/head ''"),
            ("git@h", "`git@h` is not the address of a repository or a file"),
            ("git://-h/a", "cannot use `git://-h/a` as a build context"),
        ] {
            let found = match repository_at(url, false) {
                Ok(op) => format!("{} {} '{}'", op.remote, op.reference.as_deref().unwrap_or("HEAD"), op.subdir),
                Err(error) => error.to_string(),
            };
            assert_eq!(found, expected, "{url}");
        }
        assert_eq!(file_at("https://h/a/b.tar?x=1#y").unwrap().url, "https://h/a/b.tar?x=1");
        for (url, given, expected) in
            [("git://h/a", true, true), ("git://h/a?keep-git-dir=true", false, true), ("git://h/a", false, false)]
        {
            assert_eq!(repository_at(url, given).unwrap().keep_git_dir, expected, "{url}");
        }
    }
}
