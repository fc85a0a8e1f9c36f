//! What do `COPY` and `ADD` say?

use rbuild_core::Span;

use super::{Arguments, Flags, Walker, arguments};
use crate::ast::{Add, Copy, CopyFlags, CopySource, Word};
use crate::diagnostic::Diagnostic;
use crate::mount::without_variables;

impl Walker<'_> {
    pub(super) fn copy(&mut self, flags: &mut Flags, arguments: Arguments) -> Option<Copy> {
        let from = flags.word("from", self.sink).and_then(|word| match without_variables(&word, "`COPY --from`") {
            Ok(word) => Some(word),
            Err(error) => {
                flags.spoil();
                self.fail(error)
            }
        });
        let parents = flags.boolean("parents", self.sink);
        let common = self.copy_flags(flags);
        let sound = flags.finish(self.sink);
        let (sources, destination) = self.sources(arguments, "COPY")?;
        if let Some(from) = &from
            && let Some(heredoc) = first_heredoc(&sources)
        {
            return self.fail(
                Diagnostic::error(heredoc, "`COPY --from` cannot take a here-document as its source")
                    .and(from.span, "files are to come from here")
                    .hint("give the here-document a `COPY` of its own, without `--from`"),
            );
        }
        let address = sources.iter().find_map(|source| match source {
            CopySource::Path(word) if is_url(&word.text) => Some(word),
            _ => None,
        });
        if let Some(word) = address {
            let message = format!("the source of `COPY` cannot be a URL: `{}`", word.text);
            return self.fail(Diagnostic::error(word.span, message).hint("`ADD` fetches URLs"));
        }
        sound.then_some(Copy { from, parents, flags: common, sources, destination })
    }

    pub(super) fn add(&mut self, flags: &mut Flags, arguments: Arguments) -> Option<Add> {
        let checksum = flags.word("checksum", self.sink);
        let keep_git_dir = flags.boolean("keep-git-dir", self.sink);
        let unpack = flags.boolean("unpack", self.sink);
        let common = self.copy_flags(flags);
        let sound = flags.finish(self.sink);
        let (sources, destination) = self.sources(arguments, "ADD")?;
        if let Some(checksum) = checksum.as_ref().filter(|_| sources.len() > 1) {
            return self.fail(
                Diagnostic::error(checksum.span, "`ADD --checksum` takes exactly one source")
                    .hint("give each source an `ADD` of its own"),
            );
        }
        sound.then_some(Add { checksum, keep_git_dir, unpack, flags: common, sources, destination })
    }

    fn copy_flags(&mut self, flags: &mut Flags) -> CopyFlags {
        let chown = flags.word("chown", self.sink);
        let chmod = flags.word("chmod", self.sink);
        if let Some(mode) = &chmod
            && mode.text.bytes().all(|byte| byte.is_ascii_digit())
            && !u32::from_str_radix(&mode.text, 8).is_ok_and(|mode| mode <= 0o7777)
        {
            let message = format!("invalid `--chmod={}`: an octal mode is between 0 and 07777", mode.text);
            self.sink.push(Diagnostic::error(mode.span, message).hint("write a mode such as `755`"));
            flags.spoil();
        }
        let link = flags.boolean("link", self.sink);
        CopyFlags { chown, chmod, link, exclude: flags.list("exclude", self.sink) }
    }

    /// All arguments but the last, and the last.
    fn sources(&mut self, arguments: Arguments, name: &str) -> Option<(Vec<CopySource>, Word)> {
        let (words, plain) = match arguments {
            Arguments::Array(words) => (words, false),
            Arguments::Words(words) => (words, true),
            Arguments::Broken => return None,
            _ => (Vec::new(), true),
        };
        if words.len() < 2 {
            let message = match words.len() {
                0 => format!("`{name}` requires at least two arguments: a source and a destination"),
                _ => format!(
                    "`{name}` requires at least two arguments, but only one was provided: the destination is missing"
                ),
            };
            let odd = words.iter().find(|word| word.text.contains(char::is_whitespace)).filter(|_| plain);
            let hint = match odd {
                Some(word) => {
                    format!("only plain blanks separate words; here stands {}", arguments::odd_space(&word.text))
                }
                None => format!("write `{name} source… destination`"),
            };
            return self.fail(Diagnostic::error(self.span, message).hint(hint));
        }
        if plain {
            arguments::word_list(&words, name, self.sink);
        }
        let mut heredocs = std::mem::take(&mut self.heredocs).into_iter().peekable();
        let mut sources = Vec::with_capacity(words.len());
        for word in words {
            match heredocs.next_if(|heredoc| plain && heredoc.span == word.span) {
                Some(heredoc) => sources.push(CopySource::Heredoc(Box::new(heredoc))),
                None => sources.push(CopySource::Path(word)),
            }
        }
        // An opener that is not one word (`<< EOF`) is no source.
        if let Some(heredoc) = heredocs.next() {
            let error = Diagnostic::error(heredoc.span, format!("`{name}` takes a here-document as one word only"));
            return self.fail(error.hint("write `<<NAME`, with no blanks after `<<` or in the name"));
        }
        match sources.pop()? {
            CopySource::Path(destination) => Some((sources, destination)),
            CopySource::Heredoc(heredoc) => {
                let message = format!("`{name}` cannot accept a heredoc as its destination");
                self.fail(
                    Diagnostic::error(heredoc.span, message).hint("the destination stands last, on the same line"),
                )
            }
        }
    }
}

fn first_heredoc(sources: &[CopySource]) -> Option<Span> {
    sources.iter().find_map(|source| match source {
        CopySource::Heredoc(heredoc) => Some(heredoc.span),
        CopySource::Path(_) => None,
    })
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}
