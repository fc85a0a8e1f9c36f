//! What does a registry want to see before it answers?
//!
//! Parses `WWW-Authenticate` (RFC 9110 §11.6.1). One header may hold several challenges, and a quoted value may hold
//! commas: `Bearer realm="https://a/token",service="a",scope="repository:x:pull,push", Basic realm="b"`.

/// One way to authenticate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Challenge {
    /// User name and password with each request.
    Basic,
    /// A token from a token service.
    Bearer {
        /// The token service's address.
        realm: String,
        /// What the registry calls itself there.
        service: String,
        /// What the token must allow.
        scope: String,
    },
}

/// The best challenge among all header values: a token rather than a password. Other schemes are ignored.
pub(crate) fn best<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let all: Vec<Challenge> = headers.flat_map(parse).collect();
    let bearer = all.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
    bearer.or(all.first()).cloned()
}

fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut rest = header.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let Some((scheme, after)) = token(rest) else { break };
        let (parameters, after) = parameters(after);
        let find = |wanted: &str| {
            let found = parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            challenges.push(Challenge::Basic);
        } else if let (true, Some(realm)) = (scheme.eq_ignore_ascii_case("bearer"), find("realm")) {
            let service = find("service").unwrap_or_default();
            challenges.push(Challenge::Bearer { realm, service, scope: find("scope").unwrap_or_default() });
        }
        let next = after.trim_start_matches([' ', '\t', ',']);
        if next.len() == rest.len() {
            break;
        }
        rest = next;
    }
    challenges
}

/// The parameters up to the next scheme, and what follows. A word without `=` after it is the next scheme.
fn parameters(mut rest: &str) -> (Vec<(&str, String)>, &str) {
    let mut list = Vec::new();
    loop {
        let start = rest.trim_start_matches([' ', '\t', ',']);
        let Some((name, after)) = token(start) else { return (list, start) };
        let Some(after) = after.trim_start().strip_prefix('=') else { return (list, start) };
        let Some((value, after)) = value(after.trim_start()) else { return (list, "") };
        list.push((name, value));
        rest = after;
    }
}

fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

fn token(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !"!#$%&'*+-.^_`|~".contains(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: &str, scope: &str) -> Option<Challenge> {
        Some(Challenge::Bearer { realm: realm.into(), service: service.into(), scope: scope.into() })
    }

    #[test]
    fn headers_of_real_registries_are_understood() {
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                bearer("https://auth.docker.io/token", "registry.docker.io", "repository:a/b:pull,push"),
            ),
            (r#"bearer service=x, realm = "r\"q""#, bearer("r\"q", "x", "")),
            (r#"Basic realm="Registry Realm""#, Some(Challenge::Basic)),
            ("Basic", Some(Challenge::Basic)),
            (r#"Basic realm="a, b", Bearer realm="r""#, bearer("r", "", "")),
            (r#"Negotiate, Basic realm="x""#, Some(Challenge::Basic)),
            (r#"Digest realm="x",nonce=y"#, None),
            (r#"Bearer service="no realm""#, None),
            (r#"Bearer realm="unclosed"#, None),
            ("", None),
            (",,= =\u{fc}", None),
        ] {
            assert_eq!(best([header].into_iter()), expected, "{header}");
        }
    }
}
