//! What does `--chmod` ask for?

use rbuild_core::Span;
use rbuild_solver::graph::Mode;

use crate::Diagnostic;

/// Octal permission bits, or clauses of chmod(1): `[ugoa…]` then one or more of `+`, `-`, `=` each with `rwxXst…` or one
/// of `u`, `g`, `o` to copy from.
pub(super) fn chmod(text: &str, span: Span) -> Result<Mode, Diagnostic> {
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        let bits = u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o7777);
        return bits.map(Mode::Octal).ok_or_else(|| {
            Diagnostic::error(span, format!("invalid mode `{text}` in `--chmod`"))
                .hint("an octal mode is between 0 and 07777")
        });
    }
    if !text.is_empty() && text.split(',').all(is_clause) {
        return Ok(Mode::Symbolic(text.to_owned()));
    }
    Err(Diagnostic::error(span, format!("invalid mode `{text}` in `--chmod`"))
        .hint("expected an octal mode as `0755` or a symbolic one as `u=rwX,go=rX`"))
}

fn is_clause(clause: &str) -> bool {
    let mut actions = clause.trim_start_matches(['u', 'g', 'o', 'a']);
    if actions.is_empty() {
        return false;
    }
    while let Some(rest) = actions.strip_prefix(['+', '-', '=']) {
        actions = match rest.strip_prefix(['u', 'g', 'o']) {
            Some(after) => after,
            None => rest.trim_start_matches(['r', 'w', 'x', 'X', 's', 't']),
        };
    }
    actions.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_or_symbolic() {
        let octal = |bits| Some(Mode::Octal(bits));
        let symbolic = |text: &str| Some(Mode::Symbolic(text.to_owned()));
        for (text, expected) in [
            ("644", octal(0o644)),
            ("0750", octal(0o750)),
            ("7777", octal(0o7777)),
            ("0", octal(0)),
            ("10000", None),
            ("99999", None),
            ("0o755", None),
            ("-1", None),
            ("+x", symbolic("+x")),
            ("u=rwX,go=rX", symbolic("u=rwX,go=rX")),
            ("g=u", symbolic("g=u")),
            ("a=r,u+w", symbolic("a=r,u+w")),
            ("go-rwx", symbolic("go-rwx")),
            ("u+w-x", symbolic("u+w-x")),
            ("a=", symbolic("a=")),
            ("", None),
            ("u", None),
            ("u+z", None),
            ("u=r,", None),
            ("rwx", None),
            ("g=uo", None),
        ] {
            assert_eq!(chmod(text, Span::default()).ok(), expected, "{text}");
        }
    }
}
