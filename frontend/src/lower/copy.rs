//! What does a `COPY` or `ADD` copy, and where to?

use rbuild_core::Span;
use rbuild_solver::graph::{
    CopyAction, CopySource, FileAction, FileOp, LocalOp, Mode, Op, Origin, Output, Owner, Unpack,
};

use super::Lowering;
use super::history::LayerKind;
use super::mode::chmod;
use super::owner::{chown, is_numeric};
use super::plan::Provider;
use super::remote::{Item, RemoteFlags};
use super::stage::Site;
use super::state::State;
use super::title::upper_keyword;
use crate::Diagnostic;
use crate::ast::{self, Add, Copy, CopyFlags, Word};
use crate::ignore::{Glob, IgnoreFile, Stars, clean};
use crate::remote::{redacted, remote};
use crate::statement::COMMENT;

/// What `COPY` and `ADD` have in common.
pub(super) struct Request<'ast> {
    pub(super) keyword: &'static str,
    flags: &'ast CopyFlags,
    sources: &'ast [ast::CopySource],
    pub(super) destination: &'ast Word,
    provider: Provider,
    parents: bool,
    pub(super) unpack: Unpack,
    /// What is for remote sources.
    pub(super) remote: Option<RemoteFlags<'ast>>,
}

/// The flags with a meaning for both, expanded.
#[derive(Default)]
struct Flags {
    owner: Option<Owner>,
    mode: Option<Mode>,
    exclude: Vec<String>,
    /// As history entries have them.
    text: String,
}

/// The sources, expanded.
struct Sources {
    items: Vec<Item>,
    /// Every source as it is written in history entries.
    written: Vec<String>,
}

impl Lowering<'_> {
    pub(super) fn copy_files(&mut self, state: &mut State, site: &Site<'_>, copy: &Copy) -> Result<(), Diagnostic> {
        let provider = match &copy.from {
            Some(from) => self.plan.provider(from, site.stage)?,
            None => Provider::Local("context".to_owned()),
        };
        let request = Request {
            keyword: "COPY",
            flags: &copy.flags,
            sources: &copy.sources,
            destination: &copy.destination,
            provider,
            parents: copy.parents.is_some_and(|parents| parents.value),
            unpack: Unpack::Never,
            remote: None,
        };
        self.files(state, site, &request)
    }

    pub(super) fn add_files(&mut self, state: &mut State, site: &Site<'_>, add: &Add) -> Result<(), Diagnostic> {
        let unpack = add.unpack.is_none_or(|unpack| unpack.value);
        let request = Request {
            keyword: "ADD",
            flags: &add.flags,
            sources: &add.sources,
            destination: &add.destination,
            provider: Provider::Local("context".to_owned()),
            parents: false,
            unpack: if unpack { Unpack::Archives } else { Unpack::Never },
            remote: Some(RemoteFlags::of(add)),
        };
        self.files(state, site, &request)
    }

    fn files(&mut self, state: &mut State, site: &Site<'_>, request: &Request<'_>) -> Result<(), Diagnostic> {
        let flags = self.flags(state, request)?;
        let checksum = self.checksum(state, request)?;
        let sources = self.sources(state, request)?;
        let (destination, into_directory) = self.destination(state, request, sources.written.len())?;
        let text = format!("{}{} {} {destination}", request.keyword, flags.text, sources.written.join(" "));
        let template = CopyAction {
            sources: Vec::new(),
            destination: state.absolute(&destination),
            into_directory,
            owner: flags.owner,
            mode: flags.mode,
            preserve_owner: matches!(request.provider, Provider::Stage(_) | Provider::Image(_)),
            unpack: request.unpack,
            parents: request.parents,
            exclude: flags.exclude,
            wildcards: true,
            mtime: self.globals.epoch,
        };
        let local = self.copied_from(request, &sources, &template.exclude, site.span);
        let link = request.flags.link.is_some_and(|link| link.value) && template.owner.as_ref().is_none_or(is_numeric);
        let (inputs, actions) = self.actions(request, checksum, sources.items, local, &template, site.span)?;
        let title = self.copy_title(state, &site.instruction.header.text);
        let origin = self.origin(state, site, &title);
        state.root = self.copied(state.root, inputs, actions, link, origin);
        state.record(text, LayerKind::Files);
        Ok(())
    }

    fn flags(&mut self, state: &State, request: &Request<'_>) -> Result<Flags, Diagnostic> {
        let mut flags = Flags { exclude: excludes(&request.flags.exclude)?, ..Flags::default() };
        if request.parents {
            flags.text.push_str(" --parents");
        }
        if let Some((text, span)) = self.optional(state, request.flags.chown.as_ref())? {
            flags.owner = chown(&text, span)?;
            flags.text.extend([" --chown=", &text]);
        }
        if let Some((text, span)) = self.optional(state, request.flags.chmod.as_ref())? {
            flags.mode = Some(chmod(&text, span)?);
            flags.text.extend([" --chmod=", &text]);
        }
        Ok(flags)
    }

    /// The destination as written, and whether that makes it a directory.
    fn destination(
        &mut self,
        state: &State,
        request: &Request<'_>,
        sources: usize,
    ) -> Result<(String, bool), Diagnostic> {
        let destination = self.expand(state, request.destination)?;
        let directory = matches!(destination.as_str(), "" | "." | "..")
            || ["/", "/.", "/.."].iter().any(|end| destination.ends_with(end));
        if sources > 1 && !directory {
            let message =
                format!("with several sources the destination is a directory: `{destination}` must end in `/`");
            let comment = |word: &Word| word.text.starts_with('#');
            let is_comment = |source: &ast::CopySource| matches!(source, ast::CopySource::Path(word) if comment(word));
            let comment = comment(request.destination) || request.sources.iter().any(is_comment);
            let hint = if comment { COMMENT.to_owned() } else { format!("write `{destination}/`") };
            return Err(Diagnostic::error(request.destination.span, message).hint(hint));
        }
        Ok((destination, directory))
    }

    /// The root with the files in it: `--link` puts them into a layer that does not depend on what is below.
    fn copied(
        &mut self,
        root: Output,
        inputs: Vec<Output>,
        actions: Vec<CopyAction>,
        link: bool,
        origin: Origin,
    ) -> Output {
        let below = if link { self.scratch() } else { root };
        let inputs: Vec<_> = [below].into_iter().chain(inputs).collect();
        let op = Op::File(FileOp { actions: actions.into_iter().map(FileAction::Copy).collect() });
        if !link {
            return self.add(op, &inputs, origin);
        }
        let merge = Origin { title: origin.title.replacen("] ", "] LINK ", 1), ..origin.clone() };
        let layer = self.add(op, &inputs, origin);
        self.add(Op::Merge, &[root, layer], merge)
    }

    /// The input that the paths are in, if there are paths.
    fn copied_from(
        &mut self,
        request: &Request<'_>,
        sources: &Sources,
        exclude: &[String],
        span: Span,
    ) -> Option<Output> {
        let paths = sources.items.iter().filter_map(|source| match source {
            Item::Local(CopySource::Path { path, .. }) => Some(path.clone()),
            Item::Local(CopySource::Inline { .. }) | Item::Remote { .. } => None,
        });
        let mut include: Vec<_> = paths.collect();
        if include.is_empty() {
            return None;
        }
        // The root selects everything, unless something is excluded: patterns count from each source's own root.
        if include.iter().any(String::is_empty) && (exclude.is_empty() || include.len() == 1) {
            include.clear();
        }
        let platform = self.options.platform.clone();
        let local =
            |name| LocalOp { name, include, wildcards: true, parents: request.parents, exclude: exclude.to_vec() };
        Some(self.provide(&request.provider, &platform, span, local))
    }

    fn sources(&mut self, state: &State, request: &Request<'_>) -> Result<Sources, Diagnostic> {
        let count = request.sources.len();
        let mut sources = Sources { items: Vec::with_capacity(count), written: Vec::with_capacity(count) };
        for source in request.sources {
            match source {
                ast::CopySource::Path(word) => {
                    let written = self.expand(state, word)?;
                    if request.provider == Provider::Local("context".to_owned()) {
                        self.ignored(request.keyword, word, &written);
                    }
                    sources.items.push(self.path_source(request, word, &written)?);
                    let written = redacted(&written);
                    sources.written.push(written);
                }
                ast::CopySource::Heredoc(heredoc) => {
                    let (name, data) = (heredoc.name.clone(), self.body(state, heredoc)?);
                    sources.items.push(Item::Local(CopySource::Inline { name, data }));
                    sources.written.push(format!("<<{}", heredoc.name));
                }
            }
        }
        Ok(sources)
    }

    fn path_source(&self, request: &Request<'_>, word: &Word, written: &str) -> Result<Item, Diagnostic> {
        if let Some(remote) = remote(written) {
            return self.remote_source(request.keyword, word, written, remote);
        }
        let stars = if request.parents { Stars::Deep } else { Stars::Shallow };
        let path = if request.parents { pivoted(written) } else { below_root(written) };
        if let Err(error) = Glob::new(&path, stars) {
            let hint = match word.text.get(..2) {
                Some("[\"") => "an array is written `[\"a\", \"b\"]`, with commas between the strings",
                Some("['") => "an array is written `[\"a\", \"b\"]`, with double quotes",
                _ => "write `[[]` for a bracket in a file name",
            };
            return Err(Diagnostic::error(word.span, format!("malformed pattern `{written}`: {error}")).hint(hint));
        }
        Ok(Item::Local(CopySource::Path { input: 1, path, written: written.to_owned() }))
    }

    pub(super) fn optional(
        &mut self,
        state: &State,
        word: Option<&Word>,
    ) -> Result<Option<(String, Span)>, Diagnostic> {
        let Some(word) = word else { return Ok(None) };
        let text = self.expand(state, word)?;
        Ok((!text.is_empty()).then_some((text, word.span)))
    }

    /// The instruction with its variables replaced, as far as that is possible.
    fn copy_title(&self, state: &State, text: &str) -> String {
        let title = upper_keyword(text);
        let word = Word { text: title.clone(), span: Span::default() };
        let title = super::globals::expand(self.escape, &state.env, &word).map_or(title, |expanded| expanded.value);
        title.split(' ').map(redacted).collect::<Vec<_>>().join(" ")
    }
}

fn excludes(words: &[Word]) -> Result<Vec<String>, Diagnostic> {
    IgnoreFile::new(words.iter().map(|word| word.text.as_str())).map_err(|(place, error)| {
        let word = &words[place];
        Diagnostic::error(word.span, format!("malformed pattern `{}`: {error}", word.text))
            .hint("write `[[]` for a bracket in a file name")
    })?;
    Ok(words.iter().map(|word| word.text.clone()).collect())
}

/// The path below the root of its input, which `..` cannot leave; empty is the root itself.
fn below_root(path: &str) -> String {
    clean(&format!("/{path}"))[1..].to_owned()
}

/// The same for `--parents`: the first `/./` stays, as the place from which directories are kept.
fn pivoted(path: &str) -> String {
    match path.split_once("/./") {
        None => below_root(path),
        Some((before, after)) => match below_root(before) {
            before if before.is_empty() => format!("./{}", below_root(after)),
            before => format!("{before}/./{}", below_root(after)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_stay_below_their_root() {
        for (path, expected) in [
            ("a", "a"),
            ("/a/", "a"),
            ("../a", "a"),
            ("d/../../../a", "a"),
            (".", ""),
            ("./*", "*"),
            ("/", ""),
            ("", ""),
        ] {
            assert_eq!(below_root(path), expected, "{path}");
        }
        for (path, expected) in
            [("x/y", "x/y"), ("./x", "x"), ("x/./y", "x/./y"), ("/./y/", "./y"), ("../x/./../y/./z", "x/./y/z")]
        {
            assert_eq!(pivoted(path), expected, "{path}");
        }
    }
}
