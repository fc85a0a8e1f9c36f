//! Which image does a name mean?
//!
//! The grammar of the distribution project's `reference` package with Docker's defaults: no registry means
//! `docker.io`, one path component there means `library/…`, no tag and no digest means `latest`.
//!
//! ```text
//! reference := [domain "/"] path [":" tag] ["@" digest]
//! domain    := (name | IPv4 | "[" IPv6 "]") [":" port]     the first component, if it has a `.`, a `:` or an
//!                                                          upper-case letter, or is `localhost`
//! path      := component ("/" component)*                  lower case only
//! ```
//!
//! `ghcr.io`, `docker.io` and so on are registry *names*; which host and port to call is `registry`'s business.

use std::fmt;
use std::str::FromStr;

use rbuild_core::{Algorithm, Digest, DigestError};
use serde::{Deserialize, Serialize};

/// The registry that a name without one belongs to.
pub const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_NAMESPACE: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const LONGEST_PATH: usize = 255;
const LONGEST_TAG: usize = 128;

/// A complete image reference: registry, repository, and a tag or a digest or both.
///
/// With both, the digest decides what is meant and the tag only tells people.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry's name as it was written, with its port: `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path within the registry: `library/alpine`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; absent only if there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The manifest's digest, always sha256.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and repository without tag and digest: `docker.io/library/alpine`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// What stands after `/manifests/` in the distribution API: the digest if there is one, else the tag.
    pub fn locator(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }

    /// The same repository at another tag, and without a digest.
    ///
    /// # Errors
    /// If `tag` is not a tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        check_tag(tag, tag)?;
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same name pinned to `digest`; a tag stays as decoration.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// The same name without the tag if it has a digest: the form that cannot change its meaning.
    #[must_use]
    pub fn canonical(&self) -> Self {
        match self.digest {
            Some(_) => Self { tag: None, ..self.clone() },
            None => self.clone(),
        }
    }

    /// The short form people write: `alpine:3` for `docker.io/library/alpine:3`.
    pub fn familiar(&self) -> String {
        let mut text = self.familiar_name();
        self.write_suffix(&mut text).expect("a String takes everything");
        text
    }

    /// The short form without tag and digest, as `rbuild images` lists it.
    pub fn familiar_name(&self) -> String {
        // Docker Hub can have a repository whose short form would be on another registry, or be an image ID.
        let is_elsewhere = self.repository.split_once('/').is_some_and(|(first, _)| names_host(first));
        if self.registry != DEFAULT_REGISTRY || is_elsewhere {
            return self.name();
        }
        match self.repository.strip_prefix(DEFAULT_NAMESPACE) {
            Some(rest) if !rest.contains('/') && !is_image_id(rest) => rest.to_owned(),
            _ => self.repository.clone(),
        }
    }

    fn write_suffix(&self, out: &mut impl fmt::Write) -> fmt::Result {
        if let Some(tag) = &self.tag {
            write!(out, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(out, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.registry, self.repository)?;
        self.write_suffix(formatter)
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Why a text is not a [`Reference`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing at all.
    #[error("an image name is empty")]
    Empty,
    /// The part before the first `/` is meant as a registry but is no host name.
    #[error("`{0}` does not begin with a valid registry host")]
    Registry(String),
    /// A repository may not contain upper-case letters.
    #[error("image name `{0}` must be lower case")]
    Uppercase(String),
    /// The repository does not follow the grammar.
    #[error("`{0}` is not an image name: expected [HOST[:PORT]/]NAME[:TAG][@DIGEST]")]
    Repository(String),
    /// The repository is longer than 255 characters.
    #[error("image name `{0}` is longer than 255 characters")]
    TooLong(String),
    /// 64 hexadecimal digits are an image ID, which no repository may look like.
    #[error("`{0}` looks like an image id, not an image name")]
    ImageId(String),
    /// The tag does not follow the grammar.
    #[error("image name `{0}` has an invalid tag: expected at most 128 letters, digits, `_`, `.` and `-`")]
    Tag(String),
    /// The digest is malformed.
    #[error("image name `{name}` has an invalid digest")]
    Digest {
        /// The whole text.
        name: String,
        /// What is wrong with it.
        #[source]
        source: DigestError,
    },
    /// Registries only know sha256 here.
    #[error("image name `{0}` has a digest that registries do not use: expected sha256")]
    DigestAlgorithm(String),
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(parse_digest(text, digest)?)),
            None => (text, None),
        };
        let (registry, rest) = split_registry(rest);
        if !is_host(registry) {
            return Err(ReferenceError::Registry(text.to_owned()));
        }
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        check_path(text, path)?;
        if let Some(tag) = tag {
            check_tag(text, tag)?;
        }
        if registry == DEFAULT_REGISTRY && is_image_id(path) {
            return Err(ReferenceError::ImageId(text.to_owned()));
        }
        let library = registry == DEFAULT_REGISTRY && !path.contains('/');
        let repository = if library { format!("{DEFAULT_NAMESPACE}{path}") } else { path.to_owned() };
        if repository.len() > LONGEST_PATH {
            return Err(ReferenceError::TooLong(text.to_owned()));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

fn parse_digest(text: &str, digest: &str) -> Result<Digest, ReferenceError> {
    let digest: Digest = digest.parse().map_err(|source| ReferenceError::Digest { name: text.to_owned(), source })?;
    if digest.algorithm() != Algorithm::Sha256 {
        return Err(ReferenceError::DigestAlgorithm(text.to_owned()));
    }
    Ok(digest)
}

fn split_registry(text: &str) -> (&str, &str) {
    let Some((first, rest)) = text.split_once('/') else {
        return (DEFAULT_REGISTRY, text);
    };
    match (names_host(first), first) {
        (false, _) => (DEFAULT_REGISTRY, text),
        (true, "index.docker.io") => (DEFAULT_REGISTRY, rest),
        (true, _) => (first, rest),
    }
}

/// Whether the first of several components is meant as a registry.
fn names_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else { return false };
            let valid = !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':');
            match (valid, after.strip_prefix(':')) {
                (false, _) => return false,
                (true, None) if !after.is_empty() => return false,
                (true, port) => (None, port),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        },
    };
    let valid_port = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    valid_port && host.is_none_or(|host| host.split('.').all(is_host_label))
}

fn is_host_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn check_path(text: &str, path: &str) -> Result<(), ReferenceError> {
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(ReferenceError::Uppercase(text.to_owned()));
    }
    if !path.split('/').all(is_component) {
        return Err(ReferenceError::Repository(text.to_owned()));
    }
    Ok(())
}

/// Alphanumeric runs joined by `.`, `_`, `__` or any number of `-`.
fn is_component(component: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends_well = bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric);
    ends_well
        && bytes
            .split(alphanumeric)
            .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-'))
}

fn check_tag(text: &str, tag: &str) -> Result<(), ReferenceError> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let valid = tag.len() <= LONGEST_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
    if valid { Ok(()) } else { Err(ReferenceError::Tag(text.to_owned())) }
}

fn is_image_id(path: &str) -> bool {
    path.len() == 64 && path.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_are_completed_as_docker_completes_them() {
        for (written, full, familiar) in [
            ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
            ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("index.docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("docker.io/library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("user/app", "docker.io/user/app:latest", "user/app:latest"),
            ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("ghcr.io/a/b:1", "ghcr.io/a/b:1", "ghcr.io/a/b:1"),
            ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
            ("localhost:5000/a:b", "localhost:5000/a:b", "localhost:5000/a:b"),
            ("Host/a", "Host/a:latest", "Host/a:latest"),
            ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
            ("[fe80::1]/a", "[fe80::1]/a:latest", "[fe80::1]/a:latest"),
            ("127.0.0.1/a", "127.0.0.1/a:latest", "127.0.0.1/a:latest"),
            ("a__b/c.d-e---f_g", "docker.io/a__b/c.d-e---f_g:latest", "a__b/c.d-e---f_g:latest"),
            ("x:_A.b-C", "docker.io/library/x:_A.b-C", "x:_A.b-C"),
            // Short forms that would mean something else.
            ("docker.io/localhost/a", "docker.io/localhost/a:latest", "docker.io/localhost/a:latest"),
            ("docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c:latest"),
            (&format!("library/{HEX}"), &format!("docker.io/library/{HEX}:latest"), &format!("library/{HEX}:latest")),
        ] {
            let reference: Reference = written.parse().unwrap_or_else(|error| panic!("{written}: {error}"));
            assert_eq!(reference.to_string(), full);
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(full.parse::<Reference>().unwrap(), reference);
            assert_eq!(familiar.parse::<Reference>().unwrap(), reference);
        }
    }

    #[test]
    fn digests_replace_the_default_tag_and_win_over_a_written_one() {
        let digest = format!("sha256:{HEX}");
        let pinned: Reference = format!("alpine@{digest}").parse().unwrap();
        assert_eq!(pinned.tag(), None);
        assert_eq!(pinned.to_string(), format!("docker.io/library/alpine@{digest}"));
        let both: Reference = format!("alpine:3@{digest}").parse().unwrap();
        assert_eq!((both.tag(), both.locator()), (Some("3"), digest));
        assert_eq!(both.canonical(), pinned);
    }

    #[test]
    fn malformed_names_are_refused_with_the_reason() {
        use ReferenceError as E;
        let long = format!("a/{}", "b".repeat(254));
        // It is `library/…` that must not be longer.
        let long_official = "b".repeat(248);
        let long_tag = format!("a:{}", "b".repeat(129));
        let id = HEX.to_owned();
        let short = "a@sha256:abc".to_owned();
        let other = format!("a@blake3:{HEX}");
        for (text, expected) in [
            ("", E::Empty),
            ("Alpine", E::Uppercase("Alpine".into())),
            ("ghcr.io/A", E::Uppercase("ghcr.io/A".into())),
            ("a//b", E::Repository("a//b".into())),
            ("/a", E::Repository("/a".into())),
            ("a/", E::Repository("a/".into())),
            ("a_.b", E::Repository("a_.b".into())),
            ("a...b", E::Repository("a...b".into())),
            ("-a", E::Repository("-a".into())),
            ("a b", E::Repository("a b".into())),
            ("a\u{e9}", E::Repository("a\u{e9}".into())),
            ("a:", E::Tag("a:".into())),
            ("a:-b", E::Tag("a:-b".into())),
            ("a:b:c", E::Tag("a:b:c".into())),
            (long_tag.as_str(), E::Tag(long_tag.clone())),
            ("a.-b/c", E::Registry("a.-b/c".into())),
            ("[::1/c", E::Registry("[::1/c".into())),
            ("[::g]/c", E::Registry("[::g]/c".into())),
            ("a:x/c", E::Registry("a:x/c".into())),
            (long.as_str(), E::TooLong(long.clone())),
            (long_official.as_str(), E::TooLong(long_official.clone())),
            (id.as_str(), E::ImageId(id.clone())),
            (short.as_str(), E::Digest { name: short.clone(), source: DigestError::Hex("sha256:abc".into()) }),
            (other.as_str(), E::DigestAlgorithm(other.clone())),
        ] {
            assert_eq!(text.parse::<Reference>(), Err(expected), "{text}");
        }
    }
}
