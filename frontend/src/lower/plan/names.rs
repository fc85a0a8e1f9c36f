//! What do the texts of a `FROM` name, once their variables have values?

use rbuild_core::Platform;
use rbuild_image::Reference;

use super::super::globals::Globals;
use super::super::options::{Bases, LowerOptions};
use crate::Diagnostic;
use crate::ast::{Arg, Dockerfile, Kind, Pairs, Spanned, Word};
use crate::expand::Expanded;
use crate::suggest::nearest;

/// Longer than any reference with a registry and a digest, or any URL of a context.
const LONGEST_NAME: usize = 16 << 10;

/// What `--platform` can name without an operating system.
const ARCHITECTURES: [&str; 14] = [
    "386", "aarch64", "amd64", "arm", "arm64", "armel", "armhf", "i386", "loong64", "mips64le", "ppc64le", "riscv64",
    "s390x", "x86_64",
];

/// For so many mistakes the file is searched for what was meant.
const MEANT: usize = 20;

/// Refuses what is longer than any name: it would be repeated, compared and shown.
pub(super) fn bounded(word: &Word, text: &str) -> Result<(), Diagnostic> {
    if text.len() <= LONGEST_NAME {
        return Ok(());
    }
    let message = format!("this names neither an image nor a platform: it is {} bytes long", text.len());
    Err(Diagnostic::error(word.span, message))
}

pub(super) fn platform(
    file: &Dockerfile,
    options: &LowerOptions,
    globals: &Globals,
    word: &Word,
    mistakes: usize,
) -> Result<Platform, Diagnostic> {
    let Expanded { value: text, undefined } = globals.expand(file.directives.escape, word)?;
    bounded(word, &text)?;
    if options.bases == Bases::Unknown && word.text.contains('$') {
        return Ok(text.parse().unwrap_or_else(|_| options.platform.clone()));
    }
    if text.is_empty() {
        return Err(Diagnostic::error(word.span, format!("`--platform={}` expands to nothing", word.text))
            .hint("give the argument a default; predefined are `$BUILDPLATFORM` and `$TARGETPLATFORM`")
            .hint_if(meant(file, globals, &undefined, mistakes)));
    }
    match text.as_str() {
        "local" => Ok(options.build_platform.clone()),
        // One part names the other with it, as for containerd: `arm64` is `linux/arm64`.
        os @ ("linux" | "windows") => {
            Ok(Platform { os: os.to_owned(), variant: None, ..options.build_platform.clone() })
        }
        arch if ARCHITECTURES.contains(&arch) => {
            format!("linux/{arch}").parse().map_err(|error| Diagnostic::error(word.span, format!("{error}")))
        }
        text => text
            .parse()
            .map_err(|error| Diagnostic::error(word.span, format!("{error}")).hint("write it like `linux/amd64`")),
    }
}

/// What the author of a `FROM` may have meant by a variable that has no value there. Asked for the first mistakes only:
/// each question looks through the file.
pub(super) fn meant(
    file: &Dockerfile,
    globals: &Globals,
    undefined: &[Spanned<String>],
    mistakes: usize,
) -> Option<String> {
    let name = undefined.first().map(|variable| variable.value.as_str()).filter(|_| mistakes < MEANT)?;
    if globals.has(name) {
        return None;
    }
    let below = file.stages.iter().flat_map(|stage| &stage.instructions).find_map(|instruction| {
        let declares = |arg: &Arg| arg.declarations.iter().any(|declaration| declaration.name.text == name);
        let sets = |pairs: &Pairs| pairs.pairs.iter().any(|pair| pair.name.text == name);
        match &instruction.kind {
            Kind::Arg(arg) if declares(arg) => Some("ARG"),
            Kind::Env(pairs) if sets(pairs) => Some("ENV"),
            _ => None,
        }
    });
    match below {
        Some("ARG") => Some(format!("`FROM` sees only `ARG`s above the first `FROM`: move `ARG {name}` there")),
        Some(_) => Some(format!("`FROM` sees no `ENV`: write `ARG {name}=…` above the first `FROM`")),
        None => nearest(name, globals.names()).map(|near| format!("did you mean `${near}`?")),
    }
}

/// The name under which a context is looked up: `docker.io/library/busybox:latest` is `busybox`.
pub(super) fn familiar(name: &str) -> String {
    let (name, platform) = match name.split_once("::") {
        Some((name, platform)) => (name, Some(platform)),
        None => (name, None),
    };
    let mut familiar = match name.parse::<Reference>() {
        Ok(reference) => {
            let familiar = reference.familiar();
            familiar.strip_suffix(":latest").map_or(familiar.clone(), str::to_owned)
        }
        Err(_) => name.to_lowercase(),
    };
    if let Some(platform) = platform {
        let normal = platform.parse::<Platform>().map_or_else(|_| platform.to_owned(), |platform| platform.to_string());
        familiar = format!("{familiar}::{normal}");
    }
    familiar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_found_under_every_spelling_of_an_image() {
        for (name, expected) in [
            ("busybox", "busybox"),
            ("busybox:latest", "busybox"),
            ("docker.io/library/busybox:latest", "busybox"),
            ("docker.io/some/thing:1", "some/thing:1"),
            ("localhost:5000/a", "localhost:5000/a"),
            ("alpine::linux/aarch64", "alpine::linux/arm64"),
            ("Base", "base"),
        ] {
            assert_eq!(familiar(name), expected);
        }
    }
}
