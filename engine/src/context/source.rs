//! What does a context that somebody names on a command line mean?
//!
//! Tried in this order:
//!
//! | written | means |
//! |---|---|
//! | `-` | standard input: a tar, or a Dockerfile without any files |
//! | a path that exists | that directory, or the tar in that file |
//! | `github.com/…`, `git@…`, `git://…`, `ssh://…`, `http(s)://….git[?…][#…]` | a git repository |
//! | any other `http://…`, `https://…` | what is there: a tar, or a Dockerfile |
//! | anything else | a path that does not exist |
//!
//! A named context means an image as well: `docker-image://…`, `oci-layout://…`; those words come first.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::ContextError;
use crate::input::Input;
use crate::request::ContextSource;

impl ContextSource {
    /// What `text` means as the context of a build. `input` is what `-` stands for, `exists` says whether there is
    /// something at a path.
    pub fn new(text: &Path, input: &Input, exists: impl Fn(&Path) -> bool) -> Self {
        if text == OsStr::new("-") {
            return Self::Stream(input.clone());
        }
        if exists(text) {
            return Self::Local(text.to_owned());
        }
        text.to_str().and_then(Self::remote).unwrap_or_else(|| Self::Local(text.to_owned()))
    }

    /// A repository or another place on the network, if `text` names one.
    fn remote(text: &str) -> Option<Self> {
        let repository = ["github.com/", "git@", "git://", "ssh://"];
        if repository.iter().any(|prefix| text.starts_with(prefix)) {
            return Some(Self::Git(text.to_owned()));
        }
        let address = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"))?;
        let path = address.split(['#', '?']).next().unwrap_or_default();
        let is_repository = path.contains('/') && path.ends_with(".git");
        Some(if is_repository { Self::Git(text.to_owned()) } else { Self::Http(text.to_owned()) })
    }

    /// Whether it is a directory of the user's, or may be one.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }
}

/// What `--build-context` puts in the place of a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum NamedSource {
    /// No files: `docker-image://scratch`.
    Nothing,
    /// An image of the store or of a registry.
    Image(String),
    /// An image in a directory.
    Layout(Layout),
    /// Files.
    Files(ContextSource),
}

/// `oci-layout://PATH[:TAG][@DIGEST]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Layout {
    /// The directory.
    pub(crate) path: PathBuf,
    /// What the index calls the image; `latest` if nothing else is said.
    pub(crate) tag: Option<String>,
    /// The image's manifest or index.
    pub(crate) digest: Option<String>,
}

impl NamedSource {
    /// What the value of `--build-context NAME=…` means.
    pub(crate) fn new(name: &str, text: &str, exists: impl Fn(&Path) -> bool) -> Result<Self, ContextError> {
        let unsupported = |why| ContextError::Named { name: name.to_owned(), text: text.to_owned(), why };
        match &*name.to_ascii_lowercase() {
            "context" => return Err(unsupported("`context` is the main context, which has no other name")),
            "scratch" => return Err(unsupported("`scratch` is always empty")),
            _ => {}
        }
        match text.split_once("://") {
            Some(("docker-image", "scratch")) => return Ok(Self::Nothing),
            Some(("docker-image", image)) => return Ok(Self::Image(image.to_owned())),
            Some(("oci-layout", layout)) => return Ok(Self::Layout(Layout::new(layout))),
            _ => {}
        }
        if text == "-" {
            return Err(unsupported("standard input can only be the main context"));
        }
        match ContextSource::new(Path::new(text), &Input::default(), &exists) {
            ContextSource::Local(path) if !exists(&path) => {
                if ["target:", "input:"].iter().any(|prefix| text.starts_with(prefix)) {
                    return Err(unsupported("other targets of a bake file exist only in `docker buildx bake`"));
                }
                if text.contains("://") {
                    return Err(unsupported(
                        "a directory, a tar archive, docker-image://, oci-layout://, http:// or https://, or a git repository can be a context",
                    ));
                }
                Ok(Self::Files(ContextSource::Local(path)))
            }
            files => Ok(Self::Files(files)),
        }
    }
}

impl Layout {
    fn new(text: &str) -> Self {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_owned())),
            None => (text, None),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag.to_owned())),
            _ => (rest, None),
        };
        Self { path: path.into(), tag, digest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There are `here`, `x.tar` and a directory that looks like a repository.
    fn exists(path: &Path) -> bool {
        ["here", "x.tar", "github.com/here", "-"].iter().any(|there| path == Path::new(there))
    }

    #[test]
    fn a192_an_argument_means_one_kind_of_context() {
        for (text, expected) in [
            ("-", "Stream(Input)"),
            ("./-", "Local(\"./-\")"),
            ("here", "Local(\"here\")"),
            ("x.tar", "Local(\"x.tar\")"),
            ("nowhere", "Local(\"nowhere\")"),
            ("", "Local(\"\")"),
            ("github.com/here", "Local(\"github.com/here\")"),
            ("github.com/moby/buildkit", "Git(\"github.com/moby/buildkit\")"),
            ("github.company/x", "Local(\"github.company/x\")"),
            ("git@host:a/b.git#v1:sub", "Git(\"git@host:a/b.git#v1:sub\")"),
            ("git://host/a", "Git(\"git://host/a\")"),
            ("ssh://git@host:22/a", "Git(\"ssh://git@host:22/a\")"),
            ("https://host/a.git", "Git(\"https://host/a.git\")"),
            ("http://host/a.git#main:sub/dir", "Git(\"http://host/a.git#main:sub/dir\")"),
            ("https://host/a.git?ref=v1&subdir=d", "Git(\"https://host/a.git?ref=v1&subdir=d\")"),
            ("https://host/a.tar.gz", "Http(\"https://host/a.tar.gz\")"),
            ("https://host/a.tar.gz#b.git", "Http(\"https://host/a.tar.gz#b.git\")"),
            ("https://host.git", "Http(\"https://host.git\")"),
            ("https://host/a.git/b", "Http(\"https://host/a.git/b\")"),
            ("ftp://host/a.tar", "Local(\"ftp://host/a.tar\")"),
            ("HTTP://host/a", "Local(\"HTTP://host/a\")"),
        ] {
            let found =
                ContextSource::new(Path::new(text), &Input::default(), |path| path != Path::new("-") && exists(path));
            assert_eq!(format!("{found:?}"), expected, "{text}");
        }
    }

    #[test]
    fn a094_the_value_of_a_named_context_means_an_image_or_files() {
        let layout = |path: &str, tag: Option<&str>, digest: Option<&str>| {
            let (tag, digest) = (tag.map(str::to_owned), digest.map(str::to_owned));
            NamedSource::Layout(Layout { path: path.into(), tag, digest })
        };
        let files = |path: &str| NamedSource::Files(ContextSource::Local(path.into()));
        for (text, expected) in [
            ("docker-image://alpine:3", NamedSource::Image("alpine:3".to_owned())),
            ("docker-image://scratch", NamedSource::Nothing),
            ("oci-layout://dir", layout("dir", None, None)),
            ("oci-layout:///abs/dir:v1", layout("/abs/dir", Some("v1"), None)),
            ("oci-layout://dir@sha256:ab", layout("dir", None, Some("sha256:ab"))),
            ("oci-layout://a:b/dir:v1@sha256:ab", layout("a:b/dir", Some("v1"), Some("sha256:ab"))),
            ("oci-layout://a:b/dir", layout("a:b/dir", None, None)),
            ("here", files("here")),
            ("nowhere", files("nowhere")),
            ("https://host/a.git", NamedSource::Files(ContextSource::Git("https://host/a.git".to_owned()))),
            ("https://host/a", NamedSource::Files(ContextSource::Http("https://host/a".to_owned()))),
        ] {
            assert_eq!(NamedSource::new("x", text, exists).unwrap(), expected, "{text}");
        }
        for (text, expected) in [
            ("-", "standard input"),
            ("target:base", "buildx bake"),
            ("input:base", "buildx bake"),
            ("s3://bucket/x", "oci-layout://"),
        ] {
            let error = NamedSource::new("x", text, exists).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(&format!("x={text}")), "{error}");
        }
    }
}
