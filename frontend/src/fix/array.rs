//! Which array was meant?

use rbuild_core::Span;

use crate::ast::{Command, Kind, Word};
use crate::diagnostic::Fix;

/// Commands that are no programs, only a shell knows them.
const OF_THE_SHELL: [&str; 69] = [
    ".", ":", "alias", "bg", "bind", "break", "builtin", "caller", "case", "cd", "command", "compgen", "complete",
    "compopt", "continue", "coproc", "declare", "dirs", "disown", "do", "done", "elif", "else", "enable", "esac",
    "eval", "exec", "exit", "export", "fc", "fg", "fi", "for", "function", "getopts", "hash", "help", "history", "if",
    "in", "jobs", "let", "local", "logout", "mapfile", "popd", "pushd", "read", "readonly", "return", "select", "set",
    "shift", "shopt", "source", "suspend", "then", "time", "times", "trap", "type", "typeset", "ulimit", "umask",
    "unalias", "unset", "until", "wait", "while",
];

/// One more, whose length would spread the list over a line for each.
const READARRAY: &str = "readarray";

/// The shell form as an array, if a shell would do nothing with it but split it at blanks. In files that escape with a
/// backtick the shell is one of Windows, of which nothing is known here.
pub(crate) fn exec_form(text: &str, escape: char) -> Option<String> {
    let plain = |letter: char| escape != '`' && (letter.is_alphanumeric() || "-_./:@+,= \t".contains(letter));
    let first = text.split([' ', '\t']).find(|word| !word.is_empty())?;
    if !text.chars().all(plain) || first.contains('=') || OF_THE_SHELL.contains(&first) || first == READARRAY {
        return None;
    }
    let words: Vec<_> =
        text.split([' ', '\t']).filter(|word| !word.is_empty()).map(|word| format!("\"{word}\"")).collect();
    Some(format!("[{}]", words.join(", ")))
}

/// The fix of a shell form; `has_command` says whether the file has a `CMD` anywhere.
pub(super) fn exec(kind: &Kind, has_command: bool, escape: char) -> Option<Fix> {
    let (Kind::Cmd(Command::Shell(line)) | Kind::Entrypoint(Command::Shell(line))) = kind else { return None };
    // In exec form an ENTRYPOINT gets the CMD as arguments; in shell form it ignored it.
    if matches!(kind, Kind::Entrypoint(_)) && has_command {
        return None;
    }
    (line.span.range().len() == line.text.len())
        .then(|| exec_form(&line.text, escape))?
        .map(|array| Fix::replace(line.span, array))
}

/// Commas and quotes for what is nearly a JSON array of strings, if it is clear where each string begins and ends.
pub(crate) fn mend(line: &Word) -> Option<Fix> {
    if line.span.range().len() != line.text.len() {
        return None;
    }
    let text = line.text.as_str();
    let place = |start: usize, end: usize| Span::new(line.span.start + start as u32, line.span.start + end as u32);
    let mut fix = Fix { edits: Vec::new() };
    let mut at = text.strip_prefix('[').map(|_| 1)?;
    // The end of the string before, and the place of the comma behind it.
    let (mut last, mut comma): (Option<usize>, Option<usize>) = (None, None);
    loop {
        at += text[at..].len() - text[at..].trim_start().len();
        let next = text[at..].chars().next()?;
        match next {
            ']' => break,
            ',' if last.is_some() && comma.is_none() => {
                comma = Some(at);
                at += 1;
            }
            '"' | '\'' | '\u{201C}' | '\u{201D}' | '\u{201E}' | '\u{2018}' | '\u{2019}' => {
                let end = at + string_end(&text[at..], next)?;
                if let (Some(last), None) = (last, comma) {
                    // Strings that touch could be one.
                    if last == at {
                        return None;
                    }
                    fix = fix.and(place(last, last), ",");
                }
                if next != '"' {
                    let inside = &text[at + next.len_utf8()..];
                    let inside =
                        &inside[..inside.len() - (text.len() - end) - text[..end].chars().next_back()?.len_utf8()];
                    if inside.contains(['"', '\\']) || inside.chars().any(char::is_control) {
                        return None;
                    }
                    fix = fix.and(place(at, end), format!("\"{inside}\""));
                }
                (at, last, comma) = (end, Some(end), None);
            }
            _ => return None,
        }
    }
    if let Some(comma) = comma {
        fix = fix.and(place(comma, comma + 1), "");
    }
    (text[at..].trim_end() == "]" && !fix.edits.is_empty()).then_some(fix)
}

/// The end of a string that begins with a quote.
fn string_end(text: &str, quote: char) -> Option<usize> {
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        let closes = match quote {
            '"' | '\'' => letter == quote,
            '\u{2018}' | '\u{2019}' => letter == '\u{2019}' || letter == '\u{2018}',
            _ => matches!(letter, '\u{201C}' | '\u{201D}'),
        };
        if closes {
            return Some(at + letter.len_utf8());
        }
        if letter == '\\' && quote == '"' {
            let (_, escaped) = letters.next()?;
            // A backslash that JSON does not know may stand for itself, or not.
            if !"\"\\/bfnrt".contains(escaped) {
                return None;
            }
        } else if letter.is_control() {
            return None;
        }
    }
    None
}
