//! Does a command wait for another one that does not come?

use crate::ast::{Command, Dockerfile, Instruction, Kind, Word};
use crate::diagnostic::Diagnostic;
use crate::findings::Findings;
use crate::rule::Rule;

/// Warns of shell lines that end with an operator: whatever follows in the file is not their second half.
pub(super) fn check(file: &Dockerfile, found: &mut Findings) {
    for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
        let Some(line) = line(instruction) else { continue };
        let operator = ["&&", "||", "|"].into_iter().find(|operator| line.text.ends_with(operator));
        // What stands in a comment of the shell is not an operator, and one behind an escape is a word.
        let plain = |before: &str| !before.contains('#') && !before.ends_with('\\');
        if let Some(operator) = operator.filter(|operator| plain(&line.text[..line.text.len() - operator.len()])) {
            let place = line.part(line.text.len() - operator.len(), line.text.len());
            let message = format!("nothing follows this `{operator}`");
            found.push(
                Diagnostic::warning(Rule::UnfinishedCommand, place, message)
                    .hint(format!("take it away, or go on in the next line: `{operator} \\`")),
            );
        }
    }
}

/// What the shell gets, if it gets nothing but this line.
fn line(instruction: &Instruction) -> Option<&Word> {
    match &instruction.kind {
        Kind::Run(run) if run.heredocs.is_empty() => match &run.command {
            Command::Shell(line) => Some(line),
            Command::Exec(_) => None,
        },
        Kind::Cmd(Command::Shell(line)) | Kind::Entrypoint(Command::Shell(line)) => Some(line),
        _ => None,
    }
}
