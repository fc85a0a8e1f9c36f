//! What does an `ADD` of a URL or a repository fetch?

use rbuild_core::{Algorithm, Digest, Span};
use rbuild_solver::graph::{CopyAction, CopySource, GitOp, HttpOp, Op, Origin, Output, Unpack};

use super::Lowering;
use super::copy::Request;
use crate::Diagnostic;
use crate::ast::{Add, Spanned, Word};
use crate::remote::{AddressError, Remote, complete, redacted, with_checksum};

/// One source of a copy.
pub(super) enum Item {
    /// Of input 1, or a here-document.
    Local(CopySource),
    /// Of an input of its own.
    Remote { remote: Remote, span: Span, written: String },
}

/// The flags of `ADD` that are about what is fetched.
#[derive(Clone, Copy)]
pub(super) struct RemoteFlags<'ast> {
    checksum: Option<&'ast Word>,
    keep_git_dir: Option<Spanned<bool>>,
    unpack: bool,
}

impl<'ast> RemoteFlags<'ast> {
    pub(super) fn of(add: &'ast Add) -> Self {
        let unpack = add.unpack.is_some_and(|unpack| unpack.value);
        Self { checksum: add.checksum.as_ref(), keep_git_dir: add.keep_git_dir, unpack }
    }
}

impl Lowering<'_> {
    pub(super) fn remote_source(
        &self,
        keyword: &str,
        word: &Word,
        written: &str,
        remote: Result<Remote, AddressError>,
    ) -> Result<Item, Diagnostic> {
        let remote = remote.map_err(|error| wrong(word.span, &error))?;
        let written = redacted(written);
        if keyword != "ADD" {
            let kind = if matches!(remote, Remote::Http(_)) { "URL" } else { "git repository" };
            let message = format!("`{keyword}` cannot copy a {kind}: `{written}`");
            return Err(Diagnostic::error(word.span, message).hint("`ADD` is for remote sources"));
        }
        Ok(Item::Remote { remote, span: word.span, written })
    }

    /// The inputs besides the root, and what is copied from them. Neighbours that are treated alike share an action.
    pub(super) fn actions(
        &mut self,
        request: &Request<'_>,
        checksum: Option<(String, Span)>,
        items: Vec<Item>,
        local: Option<Output>,
        template: &CopyAction,
        span: Span,
    ) -> Result<(Vec<Output>, Vec<CopyAction>), Diagnostic> {
        self.check_flags(request, checksum.as_ref(), &items)?;
        let mut inputs: Vec<Output> = local.into_iter().collect();
        let mut actions: Vec<CopyAction> = Vec::new();
        for item in items {
            let (source, unpack, wildcards) = match item {
                Item::Local(source) => (source, template.unpack, true),
                Item::Remote { remote, span: at, written } => {
                    let (op, path) = self.fetched(request, checksum.as_ref(), remote, template, at)?;
                    let title = format!("[internal] load {written}");
                    inputs.push(self.add(op, &[], Origin { title, spans: vec![span], ignore_cache: false }));
                    let unpack = request.remote.is_some_and(|flags| flags.unpack);
                    let unpack = if unpack { Unpack::Archives } else { Unpack::Never };
                    (CopySource::Path { input: inputs.len(), path, written }, unpack, false)
                }
            };
            match actions.last_mut().filter(|last| (last.unpack, last.wildcards) == (unpack, wildcards)) {
                Some(last) => last.sources.push(source),
                None => actions.push(CopyAction { sources: vec![source], unpack, wildcards, ..template.clone() }),
            }
        }
        // There is one of each nearly always, and vectors begin with room for four.
        actions.iter_mut().for_each(|action| action.sources.shrink_to_fit());
        actions.shrink_to_fit();
        Ok((inputs, actions))
    }

    /// Flags that mean nothing for these sources.
    fn check_flags(
        &self,
        request: &Request<'_>,
        checksum: Option<&(String, Span)>,
        items: &[Item],
    ) -> Result<(), Diagnostic> {
        let Some(flags) = request.remote else { return Ok(()) };
        let is_remote = |item: &Item| matches!(item, Item::Remote { .. });
        let is_git = |item: &Item| matches!(item, Item::Remote { remote: Remote::Git { .. }, .. });
        if let Some((_, span)) = checksum
            && !items.iter().all(is_remote)
        {
            return Err(Diagnostic::error(*span, "`ADD --checksum` is for a URL or a git repository"));
        }
        match flags.keep_git_dir {
            Some(Spanned { value: true, span }) if !items.iter().any(is_git) => {
                Err(Diagnostic::error(span, "`ADD --keep-git-dir` is for a git repository"))
            }
            _ => Ok(()),
        }
    }

    /// The op, and the path of what is copied in its root.
    fn fetched(
        &self,
        request: &Request<'_>,
        checksum: Option<&(String, Span)>,
        remote: Remote,
        template: &CopyAction,
        span: Span,
    ) -> Result<(Op, String), Diagnostic> {
        match remote {
            Remote::Http(op) => {
                let checksum = checksum.map(|(text, span)| sha256(text, *span)).transpose()?;
                let name = file_name(&op, request, template, span)?;
                let op = HttpOp { name: name.clone(), checksum, mtime: self.globals.epoch, ..op };
                Ok((Op::Http(op), name))
            }
            Remote::Git { op, keep_git_dir } => {
                let op = match checksum {
                    Some((text, span)) => with_checksum(op, text).map_err(|error| wrong(*span, &error))?,
                    None => op,
                };
                complete(&op).map_err(|error| wrong(span, &error))?;
                let keep_git_dir = kept(request.remote.and_then(|flags| flags.keep_git_dir), keep_git_dir)?;
                Ok((Op::Git(GitOp { keep_git_dir, ..op }), String::new()))
            }
        }
    }

    pub(super) fn checksum(
        &mut self,
        state: &super::state::State,
        request: &Request<'_>,
    ) -> Result<Option<(String, Span)>, Diagnostic> {
        self.optional(state, request.remote.and_then(|flags| flags.checksum))
    }
}

/// What a download is called: the last part of the URL's path, or of the destination where that names a file.
fn file_name(op: &HttpOp, request: &Request<'_>, template: &CopyAction, span: Span) -> Result<String, Diagnostic> {
    if !op.name.is_empty() {
        return Ok(op.name.clone());
    }
    let last = template.destination.rsplit('/').next().filter(|name| !name.is_empty() && !template.into_directory);
    last.map(str::to_owned).ok_or_else(|| {
        let message = format!("`{}` has no file name, and the destination is a directory", redacted(&op.url));
        let destination = request.destination.text.trim_end_matches('/');
        Diagnostic::error(span, message).hint(format!("name the file: `{destination}/NAME`"))
    })
}

fn kept(flag: Option<Spanned<bool>>, query: Option<bool>) -> Result<bool, Diagnostic> {
    match (flag, query) {
        (Some(Spanned { value, span }), Some(query)) if value != query => {
            let message = format!("`--keep-git-dir={value}` contradicts `keep-git-dir={query}` in the address");
            Err(Diagnostic::error(span, message))
        }
        (Some(Spanned { value, .. }), _) => Ok(value),
        (None, query) => Ok(query.unwrap_or(false)),
    }
}

fn sha256(text: &str, span: Span) -> Result<Digest, Diagnostic> {
    let hint = "the checksum of a file is `sha256:` and 64 hexadecimal digits";
    match text.parse::<Digest>() {
        Ok(digest) if digest.algorithm() == Algorithm::Sha256 => Ok(digest),
        _ => Err(Diagnostic::error(span, format!("invalid checksum `{text}`")).hint(hint)),
    }
}

fn wrong(span: Span, error: &AddressError) -> Diagnostic {
    Diagnostic::error(span, error.to_string()).hint_if(error.advice().map(str::to_owned))
}
