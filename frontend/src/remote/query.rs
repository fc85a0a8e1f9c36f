//! What does the query of a repository's address say?

use rbuild_solver::graph::GitTime;

use super::AddressError;
use crate::suggest::did_you_mean;

const NAMES: [&str; 10] =
    ["ref", "branch", "tag", "subdir", "checksum", "commit", "keep-git-dir", "submodules", "mtime", "fetch-by-commit"];

/// What was said so far; the fragment comes first.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub(super) reference: Option<String>,
    pub(super) subdir: Option<String>,
    pub(super) checksum: Option<String>,
    pub(super) keep_git_dir: Option<bool>,
    pub(super) submodules: Option<bool>,
    pub(super) mtime: Option<GitTime>,
    pub(super) fetch_by_commit: Option<bool>,
    fragment: String,
}

impl Query {
    pub(super) fn new(reference: &str, subdir: &str) -> Self {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self { reference: some(reference), subdir: some(subdir), fragment: reference.to_owned(), ..Self::default() }
    }

    pub(super) fn read(&mut self, query: &str) -> Result<(), AddressError> {
        let mut seen = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (decoded(name, true), decoded(value, true));
            if seen.contains(&name) {
                return Err(AddressError::new(format!("`{name}=` stands twice in the query")));
            }
            self.set(&name, &value)?;
            seen.push(name);
        }
        if let Some(reference) = &self.reference {
            check_reference(reference)?;
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), AddressError> {
        let flag = matches!(name, "keep-git-dir" | "submodules" | "fetch-by-commit");
        if value.is_empty() && !flag && NAMES.contains(&name) {
            return Err(AddressError::new(format!("`{name}=` in the query has no value")));
        }
        match name {
            "ref" => self.refer(value.to_owned()),
            "branch" => self.refer(qualified("refs/heads/", value)),
            "tag" => self.refer(qualified("refs/tags/", value)),
            "subdir" => same(&mut self.subdir, value.to_owned(), "directories"),
            "checksum" | "commit" => same(&mut self.checksum, value.to_ascii_lowercase(), "commits"),
            "keep-git-dir" => boolean(name, value).map(|value| self.keep_git_dir = Some(value)),
            "submodules" => boolean(name, value).map(|value| self.submodules = Some(value)),
            "fetch-by-commit" => boolean(name, value).map(|value| self.fetch_by_commit = Some(value)),
            "mtime" => {
                self.mtime = Some(match value {
                    "checkout" => GitTime::Checkout,
                    "commit" => GitTime::Commit,
                    _ => {
                        return Err(AddressError::new(format!("`mtime={value}` is not known"))
                            .hint("it is `checkout` or `commit`"));
                    }
                });
                Ok(())
            }
            _ => {
                let hint = did_you_mean(name, NAMES).unwrap_or_else(|| format!("known are {}", list(&NAMES)));
                Err(AddressError::new(format!("the query of a repository has no `{name}`")).hint(hint))
            }
        }
    }

    /// A branch or tag may say again, with its kind, what the fragment says.
    fn refer(&mut self, reference: String) -> Result<(), AddressError> {
        if self.reference.as_deref() == Some(self.fragment.as_str())
            && reference.rsplit('/').next() == Some(self.fragment.as_str())
        {
            self.reference = None;
        }
        same(&mut self.reference, reference, "refs")
    }
}

fn same(known: &mut Option<String>, value: String, what: &str) -> Result<(), AddressError> {
    match known {
        Some(other) if *other != value => {
            Err(AddressError::new(format!("two different {what} are asked for: `{other}` and `{value}`")))
        }
        _ => {
            *known = Some(value);
            Ok(())
        }
    }
}

fn qualified(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

/// As Go's `strconv.ParseBool`; a bare name is true.
fn boolean(name: &str, value: &str) -> Result<bool, AddressError> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(AddressError::new(format!("`{name}={value}` is neither true nor false"))),
    }
}

/// The rules of `git check-ref-format`, as far as they keep a name from being something else than a name.
fn check_reference(name: &str) -> Result<(), AddressError> {
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c);
    let is_bad_part = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
    let wrong = name.starts_with('-')
        || name.contains(is_odd)
        || name.contains("..")
        || name.contains("@{")
        || name.ends_with('.')
        || name.split('/').any(is_bad_part);
    if wrong {
        Err(AddressError::new(format!("`{name}` is not the name of a branch, a tag or a commit")))
    } else {
        Ok(())
    }
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Resolves `%41`; what is no escape stays. In queries `+` is a blank.
pub(super) fn decoded(text: &str, is_query: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'%', [high, low, behind @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = behind;
                }
                _ => bytes.push(b'%'),
            },
            (b'+', _) if is_query => bytes.push(b' '),
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
