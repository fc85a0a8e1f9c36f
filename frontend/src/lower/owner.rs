//! Whose are the files?

use rbuild_core::Span;
use rbuild_solver::graph::{Owner, Principal};

use crate::Diagnostic;

/// Reads `user[:group]` of `--chown` or `USER`. An empty user before a colon is root, as in Docker; an empty text is
/// nobody in particular.
pub(super) fn owner(text: &str) -> Option<Owner> {
    if text.is_empty() {
        return None;
    }
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let user = if user.is_empty() { Principal::Id(0) } else { principal(user) };
    Some(Owner { user, group: group.filter(|group| !group.is_empty()).map(principal) })
}

/// The owner of `--chown`.
pub(super) fn chown(text: &str, span: Span) -> Result<Option<Owner>, Diagnostic> {
    // The largest number is the kernel's word for "leave it".
    let is_id = |part: &str| part.parse::<u32>().is_ok_and(|id| id != u32::MAX);
    let too_large = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) && !is_id(part);
    if text.matches(':').count() > 1 || text.split(':').any(too_large) {
        return Err(Diagnostic::error(span, format!("invalid owner `{text}`"))
            .hint("expected `user`, `user:group` or `:group`, each a name or a number below 4294967295"));
    }
    Ok(owner(text))
}

/// Whether the owner can be known without a look at `/etc/passwd` and `/etc/group`.
pub(super) fn is_numeric(owner: &Owner) -> bool {
    matches!(owner.user, Principal::Id(_)) && !matches!(owner.group, Some(Principal::Name(_)))
}

/// `root` is 0 everywhere, so that it also works where there is no `/etc/passwd`.
fn principal(text: &str) -> Principal {
    match text.parse() {
        Ok(id) if text.bytes().all(|byte| byte.is_ascii_digit()) => Principal::Id(id),
        _ if text == "root" => Principal::Id(0),
        _ => Principal::Name(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_names_or_numbers() {
        let name = |text: &str| Principal::Name(text.to_owned());
        let cases = [
            ("", None),
            ("app", Some((name("app"), None))),
            ("5", Some((Principal::Id(5), None))),
            ("5:app", Some((Principal::Id(5), Some(name("app"))))),
            (":app", Some((Principal::Id(0), Some(name("app"))))),
            ("app:", Some((name("app"), None))),
            ("root:root", Some((Principal::Id(0), Some(Principal::Id(0))))),
            ("+5", Some((name("+5"), None))),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|(user, group)| Owner { user, group });
            assert_eq!(chown(text, Span::default()), Ok(expected), "{text}");
        }
        for text in ["a:b:c", "4294967295", "1:4294967296", "1:99999999999"] {
            assert!(chown(text, Span::default()).is_err(), "{text}");
        }
    }
}
