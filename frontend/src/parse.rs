//! What does a whole file say?
//!
//! Instructions are read one after the other, each with all its mistakes, and sorted into stages. A file with any error
//! has no tree.

use rbuild_core::Span;

use crate::ast::{Dockerfile, Header, Instruction, Kind, Stage};
use crate::check::check_each;
use crate::diagnostic::{Diagnostic, Severity};
use crate::directives::{self, Overrides};
use crate::findings::Findings;
use crate::lines::{Joined, Lines};
use crate::source::Source;
use crate::statement::{self, Statement};

/// Reads a Dockerfile.
///
/// # Errors
/// Every mistake of the file, and its warnings, in the order of their places.
pub fn parse(source: &Source) -> Result<Dockerfile, Vec<Diagnostic>> {
    parse_with(source, &Overrides::default())
}

/// Reads a Dockerfile for which the caller knows some directives better.
///
/// # Errors
/// As [`parse`].
pub fn parse_with(source: &Source, overrides: &Overrides) -> Result<Dockerfile, Vec<Diagnostic>> {
    let text = source.text();
    if u32::try_from(text.len()).is_err() {
        return Err(vec![Diagnostic::error(Span::default(), "the Dockerfile is larger than 4 GiB")]);
    }
    let mut found = Findings::default();
    let (directives, start) = directives::read(text, overrides, &mut found);
    if overrides.syntax.is_none() {
        directives::other_syntax(text, &mut found);
    }
    if found.is_foreign() {
        // A file in another language would be one long list of mistakes.
        return Err(found.finish().unwrap_or_else(|errors| errors));
    }
    let mut lines = Lines::new(text, start, directives.escape);
    let mut stages = Stages::default();
    while !found.is_full()
        && let Some(joined) = lines.next()
    {
        let about = About::of(&joined, directives.escape);
        let mark = found.mark();
        match statement::read(joined, &mut lines, source, &mut found) {
            Some(statement) => stages.add(statement, &mut found),
            None => stages.lost(&about, found.since(mark)),
        }
        stages.open_ended = about.open_ended;
    }
    stages.finish(text, &mut found);
    let mut file =
        Dockerfile { directives, global_args: stages.global_args, stages: stages.stages, warnings: Vec::new() };
    encoding::check(source, &file, &mut found);
    match found.finish() {
        Ok(warnings) => {
            file.warnings = warnings;
            Ok(file)
        }
        Err(found) => {
            // What is doubtful is worth knowing even of a file that is wrong.
            let (errors, warnings) = found.into_iter().partition(|found| found.severity == Severity::Error);
            file.warnings = warnings;
            let mut all = check_each(&file);
            all.extend::<Vec<_>>(errors);
            all.sort_by_key(|found| found.span().start);
            Err(all)
        }
    }
}

/// Reads the trigger a base image left for those who build on it, as [`Onbuild`](crate::ast::Onbuild) has it.
///
/// # Errors
/// Every mistake in it; `FROM`, `ONBUILD` and `MAINTAINER` are no triggers.
pub fn parse_trigger(source: &Source) -> Result<Instruction, Vec<Diagnostic>> {
    let text = source.text();
    let whole = Span::new(0, u32::try_from(text.len()).unwrap_or(u32::MAX));
    let mut found = Findings::default();
    let mut lines = Lines::new(text, 0, '\\');
    let mut only = None;
    let mut count = 0;
    while !found.is_full()
        && let Some(joined) = lines.next()
    {
        count += 1;
        only = statement::read(joined, &mut lines, source, &mut found);
    }
    if count != 1 {
        found.push(Diagnostic::error(whole, "an `ONBUILD` trigger must be a single instruction"));
    }
    let refused = match &only {
        Some(Statement::From(..)) => Some("FROM"),
        Some(Statement::Other(Instruction { kind: Kind::Onbuild(_), .. })) => Some("ONBUILD"),
        Some(Statement::Other(Instruction { kind: Kind::Maintainer(_), .. })) => Some("MAINTAINER"),
        _ => None,
    };
    if let Some(name) = refused {
        found.push(Diagnostic::error(whole, format!("`{name}` is not allowed as an `ONBUILD` trigger")));
    }
    found.finish()?;
    match only {
        Some(Statement::Other(instruction)) => Ok(instruction),
        _ => Err(vec![Diagnostic::error(whole, "an `ONBUILD` trigger must be a single instruction")]),
    }
}

/// What is known of an instruction even if it makes no sense.
struct About {
    /// It ends as if more was to come.
    open_ended: bool,
    /// It could be a `FROM`.
    stage: bool,
    /// Its keyword is not known.
    unknown: bool,
    /// It begins as the rest of a command.
    goes_on: bool,
    /// It begins like a command rather than like an instruction: not with capital letters.
    command: bool,
}

impl About {
    fn of(joined: &Joined, escape: char) -> Self {
        let text = joined.text.strip_prefix(escape).unwrap_or(&joined.text);
        let known = statement::keyword(text);
        let open = ["&&", "||", "|", ",", "(", "\\", "`"];
        Self {
            open_ended: open.iter().any(|end| text.ends_with(end)),
            stage: known == Some("FROM"),
            unknown: known.is_none(),
            goes_on: ["&&", "||", "|", ";", "-"].iter().any(|start| text.starts_with(start)),
            command: !text.chars().take(2).all(char::is_uppercase),
        }
    }
}

#[derive(Default)]
struct Stages {
    global_args: Vec<Instruction>,
    stages: Vec<Stage>,
    /// A `FROM` or something that may have been one had mistakes.
    uncertain: bool,
    /// An instruction before the first `FROM` was reported.
    reported: bool,
    /// The instruction before ended as if more was to come.
    open_ended: bool,
    any: bool,
}

impl Stages {
    fn add(&mut self, statement: Statement, found: &mut Findings) {
        self.any = true;
        let instruction = match statement {
            Statement::From(header, from) => {
                // It has all it will have; growing left room for as much again.
                if let Some(stage) = self.stages.last_mut() {
                    stage.instructions.shrink_to_fit();
                }
                self.stages.push(Stage { header, from, instructions: Vec::new() });
                return;
            }
            Statement::Other(instruction) => instruction,
        };
        if let Some(stage) = self.stages.last_mut() {
            stage.instructions.push(instruction);
        } else if matches!(instruction.kind, Kind::Arg(_)) {
            self.global_args.push(instruction);
        } else if !self.uncertain && !std::mem::replace(&mut self.reported, true) {
            let Header { keyword, .. } = &instruction.header;
            let name = keyword.text.to_ascii_uppercase();
            found.push(
                Diagnostic::error(
                    keyword.span,
                    format!("no build stage in current context: `{name}` before any `FROM`"),
                )
                .hint("a Dockerfile begins with `FROM image`; only `ARG` may stand before it"),
            );
        }
    }

    fn lost(&mut self, about: &About, found: &mut [Diagnostic]) {
        self.any = true;
        self.uncertain |= about.stage || about.unknown;
        if about.unknown
            && let Some(error) =
                found.iter_mut().find(|found| found.severity == Severity::Error && found.hint.is_none())
        {
            let hint = match (self.open_ended || about.goes_on, about.command) {
                (true, _) => "to continue the instruction above, end its line with `\\`".to_owned(),
                (false, true) => {
                    "commands are run by `RUN`; a line that another one continues ends with `\\`".to_owned()
                }
                (false, false) => format!("the instructions are {}", statement::KEYWORDS.join(", ")),
            };
            error.hint = Some(hint);
        }
    }

    fn finish(&self, text: &str, found: &mut Findings) {
        let whole = Span::new(0, text.len() as u32);
        if text.trim().is_empty() {
            found.push(Diagnostic::error(whole, "the Dockerfile cannot be empty").hint("it begins with `FROM image`"));
        } else if !self.any {
            found.push(
                Diagnostic::error(whole, "the Dockerfile has no instructions, only comments")
                    .hint("it begins with `FROM image`"),
            );
        } else if self.stages.is_empty() && !self.uncertain && !self.reported {
            found.push(
                Diagnostic::error(whole, "the Dockerfile has no build stage: `FROM` is missing")
                    .hint("write `FROM image` below the `ARG`s; `FROM scratch` starts from nothing"),
            );
        }
    }
}

mod encoding;
#[cfg(test)]
mod tests;
