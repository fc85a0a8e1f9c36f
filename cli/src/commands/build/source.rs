//! Where do the Dockerfile and the files of `COPY` come from?

use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;

use rbuild_engine::{ContextSource, DockerfileSource, Input};

use crate::failure::Failure;

/// What a Dockerfile that has no file is called.
const NAMELESS: &str = "Dockerfile";

/// The most bytes that a Dockerfile on standard input may have: it is kept in memory.
const LARGEST: u64 = 64 << 20;

/// What `CONTEXT` and `--file` mean. Reads `input` if the Dockerfile comes from there; a context is read later.
pub fn sources(
    context: &Path,
    file: Option<&Path>,
    input: &Input,
) -> Result<(ContextSource, Option<DockerfileSource>), Failure> {
    let dockerfile = match file {
        Some(file) if is_stdin(file) && is_stdin(context) => {
            return Err(Failure::usage("context and Dockerfile cannot both come from standard input"));
        }
        Some(file) if is_stdin(file) => Some(read_dockerfile(input)?),
        Some(file) => Some(match file.to_str().filter(|text| is_url(text)) {
            Some(url) => DockerfileSource::Http(url.to_owned()),
            None => DockerfileSource::Path(file.to_owned()),
        }),
        None => None,
    };
    Ok((ContextSource::new(context, input, Path::exists), dockerfile))
}

fn is_stdin(path: &Path) -> bool {
    path == OsStr::new("-")
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

fn read_dockerfile(input: &Input) -> Result<DockerfileSource, Failure> {
    let mut text = Vec::new();
    let read = input.take().take(LARGEST + 1).read_to_end(&mut text);
    match read {
        Err(error) => Err(Failure::io("cannot read standard input", error)),
        Ok(length) if length as u64 > LARGEST => {
            Err(Failure::message(format!("the Dockerfile on standard input has more than {LARGEST} bytes")))
        }
        Ok(_) => Ok(DockerfileSource::Text { name: NAMELESS.to_owned(), text }),
    }
}
