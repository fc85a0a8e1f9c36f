//! Which sources are not files of the context, and what do their addresses say?
//!
//! ```text
//! https://host/path/name[?query]                                      a file
//! https://host/path.git[?query][#ref[:subdir]]                        a repository
//! git://host/path, ssh://[user@]host/path, user@host:path             repositories, whatever their path ends in
//! ```
//!
//! The query of a repository has `ref`, `branch`, `tag`, `subdir`, `checksum` or `commit`, `keep-git-dir`, `submodules`,
//! `mtime` and `fetch-by-commit`. Everything is checked here that could be mistaken for an option of git.

mod query;

use rbuild_solver::graph::{GitOp, GitTime, HttpOp};

use self::query::{Query, decoded};

/// What a source is that is no path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Remote {
    /// A file. Its name is the last part of the URL's path, possibly empty.
    Http(HttpOp),
    /// A repository, and what its query says about `.git`, if it does.
    Git {
        /// What to check out.
        op: GitOp,
        /// `keep-git-dir`.
        keep_git_dir: Option<bool>,
    },
}

/// What is wrong with an address.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct AddressError {
    message: String,
    hint: Option<String>,
}

impl AddressError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What to write instead.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// What `text` stands for if it is not a path; `None` for paths.
pub fn remote(text: &str) -> Option<Result<Remote, AddressError>> {
    let address = Address::of(text)?;
    Some(match address.kind {
        Kind::File => file(&address),
        Kind::Repository => repository(&address),
    })
}

/// A URL for people: without a password, and without a token in the place of a user.
pub fn redacted(url: &str) -> String {
    let Some((scheme, userinfo, rest)) = with_userinfo(url) else { return url.to_owned() };
    match userinfo.split_once(':') {
        // Where the password says nothing, the name is the token.
        Some((_, "" | "x-oauth-basic")) => format!("{scheme}://xxxxx@{rest}"),
        Some((name, _)) => format!("{scheme}://{name}:xxxxx@{rest}"),
        None if is_http(scheme) && !userinfo.is_empty() => format!("{scheme}://xxxxx@{rest}"),
        None => url.to_owned(),
    }
}

/// Whom a server shall take the asker for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Login {
    /// Often a token, or what the server ignores.
    pub user: String,
    /// Possibly empty.
    pub password: String,
}

/// An address without the user and the password that an `http` or `https` address has, and these. Other addresses stay
/// as they are: the user of ssh is no secret.
pub fn split_login(url: &str) -> (String, Option<Login>) {
    let Some((scheme, userinfo, rest)) = with_userinfo(url).filter(|(scheme, ..)| is_http(scheme)) else {
        return (url.to_owned(), None);
    };
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let login = Login { user: decoded(user, false), password: decoded(password, false) };
    (format!("{scheme}://{rest}"), (!userinfo.is_empty()).then_some(login))
}

/// The scheme of a URL with an `@` in its authority, what stands before that, and what behind.
fn with_userinfo(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let at = rest[..end].rfind('@')?;
    Some((scheme, &rest[..at], &rest[at + 1..]))
}

fn is_http(scheme: &str) -> bool {
    ["http", "https"].iter().any(|name| scheme.eq_ignore_ascii_case(name))
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Kind {
    File,
    Repository,
}

/// An address in its parts.
struct Address<'a> {
    kind: Kind,
    /// Without query and fragment.
    remote: &'a str,
    host: &'a str,
    path: &'a str,
    query: &'a str,
    fragment: &'a str,
    is_url: bool,
}

impl<'a> Address<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (before, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (remote, query) = before.split_once('?').unwrap_or((before, ""));
        let Some((scheme, rest)) = remote.split_once("://") else {
            let (user, rest) = remote.split_once('@')?;
            let (host, path) = rest.split_once(':')?;
            let is_name = |text: &str, more: &[char]| {
                !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(&c))
            };
            let is_scp = is_name(user, &['-', '_']) && is_name(host, &['-', '.']);
            let kind = Kind::Repository;
            return is_scp.then_some(Self { kind, remote, host, path, query, fragment, is_url: false });
        };
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let kind = match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" if !path.ends_with(".git") => Kind::File,
            "http" | "https" | "git" | "ssh" => Kind::Repository,
            _ => return None,
        };
        Some(Self { kind, remote, host, path, query, fragment, is_url: true })
    }
}

fn file(address: &Address<'_>) -> Result<Remote, AddressError> {
    let url = match address.query {
        "" => address.remote.to_owned(),
        query => format!("{}?{query}", address.remote),
    };
    if address.host.is_empty() || url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(AddressError::new(format!("`{}` is not a URL", redacted(&url))));
    }
    let path = decoded(address.path, false);
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let is_name = !matches!(name, "." | "..") && name.len() <= 255 && !name.contains('\0');
    let name = if is_name { name.to_owned() } else { String::new() };
    Ok(Remote::Http(HttpOp { url, name, checksum: None, mtime: None }))
}

fn repository(address: &Address<'_>) -> Result<Remote, AddressError> {
    let remote = address.remote;
    let is_odd = |c: char| c.is_whitespace() || c.is_control();
    if remote.starts_with('-') || address.host.starts_with('-') || address.host.is_empty() || remote.contains(is_odd) {
        return Err(AddressError::new(format!("`{}` is not the address of a repository", redacted(remote))));
    }
    let fragment = if address.is_url { decoded(address.fragment, false) } else { address.fragment.to_owned() };
    let (reference, subdir) = fragment.split_once(':').unwrap_or((&fragment, ""));
    let mut query = Query::new(reference, subdir);
    query.read(address.query)?;
    let op = GitOp {
        remote: remote.to_owned(),
        reference: query.reference,
        checksum: None,
        subdir: crate::clean(&format!("/{}", query.subdir.unwrap_or_default()))[1..].to_owned(),
        keep_git_dir: query.keep_git_dir.unwrap_or(false),
        submodules: query.submodules.unwrap_or(true),
        mtime: query.mtime.unwrap_or(GitTime::Checkout),
        fetch_by_commit: query.fetch_by_commit.unwrap_or(false),
    };
    let op = match &query.checksum {
        Some(checksum) => with_checksum(op, checksum)?,
        None => op,
    };
    Ok(Remote::Git { op, keep_git_dir: query.keep_git_dir })
}

/// The source with the commit that it must be.
pub fn with_checksum(op: GitOp, checksum: &str) -> Result<GitOp, AddressError> {
    let checksum = checksum.to_ascii_lowercase();
    let is_commit = |text: &str| rbuild_solver::graph::is_commit(text);
    if checksum.is_empty() || checksum.len() > 64 || !checksum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(AddressError::new(format!("`{checksum}` is not a commit"))
            .hint("a repository's checksum is a commit in hexadecimal digits, or the beginning of one"));
    }
    match &op.checksum {
        Some(other) if *other != checksum => {
            return Err(AddressError::new(format!("two different commits are asked for: `{other}` and `{checksum}`")));
        }
        _ => {}
    }
    match &op.reference {
        Some(reference) if is_commit(reference) && !reference.starts_with(&checksum) => {
            Err(AddressError::new(format!("the commit `{reference}` does not begin with the checksum `{checksum}`")))
        }
        _ => Ok(GitOp { checksum: Some(checksum), ..op }),
    }
}

/// What only the whole of a source can be checked for.
pub fn complete(op: &GitOp) -> Result<(), AddressError> {
    if op.fetch_by_commit && op.commit().is_none() {
        return Err(AddressError::new("`fetch-by-commit` needs a whole commit")
            .hint("give it as `checksum=` or as the ref, with all its 40 digits"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
