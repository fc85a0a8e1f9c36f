//! Where do the Dockerfile and the files of `COPY` come from?

use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;

use rbuild_engine::{ContextSource, DockerfileSource};

use crate::failure::Failure;

/// What a Dockerfile that has no file is called.
const NAMELESS: &str = "Dockerfile";

/// What `CONTEXT` and `--file` mean. Reads `input` if one of them is `-`.
pub fn sources(
    context: &Path,
    file: Option<&Path>,
    input: &mut dyn Read,
) -> Result<(ContextSource, Option<DockerfileSource>), Failure> {
    let is_stdin = |path: &Path| path == OsStr::new("-");
    let dockerfile = match file {
        Some(file) if is_stdin(file) && is_stdin(context) => {
            return Err(Failure::usage("context and Dockerfile cannot both come from standard input"));
        }
        Some(file) if is_url(file) => return Err(not_supported("a Dockerfile at a URL", file)),
        Some(file) if is_stdin(file) => Some(read_dockerfile(input)?),
        Some(file) if is_stdin(context) => {
            return Err(not_supported("a Dockerfile within a context on standard input", file));
        }
        Some(file) => Some(DockerfileSource::Path(file.to_owned())),
        None if is_stdin(context) => Some(read_dockerfile(input)?),
        None => None,
    };
    if is_url(context) {
        return Err(not_supported("a context at a URL", context));
    }
    let context = if is_stdin(context) { ContextSource::Empty } else { ContextSource::Directory(context.to_owned()) };
    Ok((context, dockerfile))
}

fn read_dockerfile(input: &mut dyn Read) -> Result<DockerfileSource, Failure> {
    let mut text = Vec::new();
    input.read_to_end(&mut text).map_err(|error| Failure::io("cannot read standard input", error))?;
    // A tar archive has `ustar` in its first block; compressed ones begin with their own signature.
    let is_archive = text.get(257..262) == Some(b"ustar")
        || [&b"\x1f\x8b"[..], b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"].iter().any(|magic| text.starts_with(magic));
    if is_archive {
        return Err(Failure::usage("not supported: a tar archive on standard input as the context"));
    }
    Ok(DockerfileSource::Text { name: NAMELESS.to_owned(), text })
}

fn not_supported(what: &str, value: &Path) -> Failure {
    Failure::usage(format!("not supported: {what}: `{}`", value.display()))
}

fn is_url(path: &Path) -> bool {
    const PREFIXES: [&str; 6] = ["http://", "https://", "git://", "ssh://", "git@", "github.com/"];
    path.to_str().is_some_and(|path| PREFIXES.iter().any(|prefix| path.starts_with(prefix)))
}
