//! Are quotes and substitutions well formed in the words that will be expanded?
//!
//! Expansion would tell, but only once values are known, and only in stages that are built; their form can be judged now.

use std::iter::once;

use crate::ast::{Arg, CopyFlags, CopySource, From, Kind, Pairs, Word};
use crate::expand::Expander;
use crate::findings::Findings;

/// Reports every malformed word of an instruction; whether there was none.
pub(super) fn check(kind: &Kind, escape: char, sink: &mut Findings) -> bool {
    let before = sink.errors();
    let expander = Expander { escape, lookup: &any };
    for word in words(kind) {
        one(&expander, word, sink);
    }
    for source in sources(kind) {
        if let CopySource::Heredoc(heredoc) = source
            && let Err(error) = expander.check_body(heredoc)
        {
            sink.push(error);
        }
    }
    sink.errors() == before
}

/// The same for `FROM`.
pub(super) fn check_from(from: &From, escape: char, sink: &mut Findings) -> bool {
    let before = sink.errors();
    let expander = Expander { escape, lookup: &any };
    once(&from.image).chain(&from.platform).for_each(|word| one(&expander, word, sink));
    sink.errors() == before
}

/// Every variable has a value, so that none is missed.
fn any(_: &str) -> Option<String> {
    Some("x".to_owned())
}

fn one(expander: &Expander<'_>, word: &Word, sink: &mut Findings) {
    if word.text.contains(['$', '"', '\''])
        && let Err(error) = expander.check(word)
    {
        sink.push(error);
    }
}

/// The words that expand.
fn words(kind: &Kind) -> Vec<&Word> {
    match kind {
        Kind::Add(add) => copied(&add.flags, &add.sources, &add.destination).chain(&add.checksum).collect(),
        Kind::Copy(copy) => copied(&copy.flags, &copy.sources, &copy.destination).collect(),
        Kind::Arg(Arg { declarations }) => {
            declarations.iter().flat_map(|declaration| once(&declaration.name).chain(&declaration.default)).collect()
        }
        Kind::Env(Pairs { pairs, .. }) | Kind::Label(Pairs { pairs, .. }) => {
            pairs.iter().flat_map(|pair| [&pair.name, &pair.value]).collect()
        }
        Kind::Expose(words) | Kind::Volume(words) => words.iter().collect(),
        Kind::Stopsignal(word) | Kind::User(word) | Kind::Workdir(word) => vec![word],
        _ => Vec::new(),
    }
}

fn copied<'a>(
    flags: &'a CopyFlags,
    sources: &'a [CopySource],
    destination: &'a Word,
) -> impl Iterator<Item = &'a Word> {
    let paths = sources.iter().filter_map(|source| match source {
        CopySource::Path(word) => Some(word),
        CopySource::Heredoc(_) => None,
    });
    flags.chown.iter().chain(&flags.chmod).chain(paths).chain(once(destination))
}

fn sources(kind: &Kind) -> &[CopySource] {
    match kind {
        Kind::Add(add) => &add.sources,
        Kind::Copy(copy) => &copy.sources,
        _ => &[],
    }
}
