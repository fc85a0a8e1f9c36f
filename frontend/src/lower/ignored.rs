//! Is a file copied that is not part of the context?

use std::path::Path;

use super::Lowering;
use crate::Diagnostic;
use crate::ast::Word;
use crate::ignore::clean;
use crate::rule::Rule;

impl Lowering<'_> {
    /// Warns of a source in the build context that the ignore file leaves out. With exceptions in the file nobody can
    /// tell, short of looking at the files.
    pub(super) fn ignored(&mut self, keyword: &str, word: &Word, written: &str) {
        let ignored = &self.options.ignored;
        let is_remote = written.contains("://") || written.starts_with("git@");
        if ignored.is_empty() || is_remote || ignored.patterns().iter().any(|pattern| pattern.is_exception()) {
            return;
        }
        let path = clean(&format!("/{written}"));
        let pattern = match path.trim_start_matches('/') {
            // The root itself is there in any case; it is empty if everything in it is left out.
            "" => ignored.patterns().iter().find(|pattern| matches!(pattern.text(), "*" | "**" | "**/*")),
            path => ignored.excludes(Path::new(path)),
        };
        if let Some(pattern) = pattern {
            let message = format!("`{keyword} {written}`: the ignore file leaves this out of the context");
            let hint = format!("the pattern `{}` does; `!{}` below it takes the file back in", pattern.text(), written);
            self.notes.warn(Diagnostic::warning(Rule::CopyIgnoredFile, word.span, message).hint(hint));
        }
    }
}
