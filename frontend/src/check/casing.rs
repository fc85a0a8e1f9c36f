//! Are keywords and names cased as they should be?

use crate::ast::{Dockerfile, Header, Word};
use crate::diagnostic::{Diagnostic, Fix};
use crate::findings::Findings;
use crate::rule::Rule;

#[derive(Clone, Copy, Eq, PartialEq)]
enum Casing {
    Lower,
    Upper,
    Mixed,
}

fn casing(word: &str) -> Casing {
    if word.bytes().all(|byte| byte.is_ascii_lowercase()) {
        Casing::Lower
    } else if word.bytes().all(|byte| byte.is_ascii_uppercase()) {
        Casing::Upper
    } else {
        Casing::Mixed
    }
}

pub(super) fn check(file: &Dockerfile, found: &mut Findings) {
    keywords(file, found);
    names(file, found);
}

/// Names of stages and the `AS` in front of them.
pub(super) fn names(file: &Dockerfile, found: &mut Findings) {
    for name in file.stages.iter().filter_map(|stage| stage.from.name.as_ref()) {
        if name.word.text != name.name {
            let message = format!("stage name `{}` should be lowercase", name.word.text);
            found.push(
                Diagnostic::warning(Rule::StageNameCasing, name.word.span, message)
                    .hint(format!("write `{}`", name.name)),
            );
        }
    }
    for stage in &file.stages {
        let keyword = &stage.header.keyword.text;
        if let Some(name) = &stage.from.name
            && casing(keyword) != Casing::Mixed
            && casing(&name.keyword.text) != casing(keyword)
        {
            let message = format!("casing of `{}` and `{keyword}` does not match", name.keyword.text);
            let text = if casing(keyword) == Casing::Lower { "as" } else { "AS" };
            found.push(
                Diagnostic::warning(Rule::FromAsCasing, name.keyword.span, message)
                    .hint(format!("write `{text}`"))
                    .fix_if(Some(Fix::replace(name.keyword.span, text)).filter(|_| is_plain(&name.keyword))),
            );
        }
    }
}

/// Whether the word stands in the source as it is, with no continuation in it.
fn is_plain(word: &Word) -> bool {
    word.span.range().len() == word.text.len()
}

/// The majority decides; at a tie, upper case.
fn keywords(file: &Dockerfile, found: &mut Findings) {
    let all = || {
        file.stages.iter().flat_map(|stage| {
            std::iter::once(&stage.header).chain(stage.instructions.iter().map(|instruction| &instruction.header))
        })
    };
    let count = |wanted| all().filter(|header: &&Header| casing(&header.keyword.text) == wanted).count();
    let lower = count(Casing::Lower) > count(Casing::Upper);
    let (wanted, name) = if lower { (Casing::Lower, "lowercase") } else { (Casing::Upper, "uppercase") };
    for keyword in all().map(|header| &header.keyword).filter(|keyword| casing(&keyword.text) != wanted) {
        let message = format!("`{}` should match the case of most instructions ({name})", keyword.text);
        let text = if lower { keyword.text.to_ascii_lowercase() } else { keyword.text.to_ascii_uppercase() };
        found.push(
            Diagnostic::warning(Rule::ConsistentInstructionCasing, keyword.span, message)
                .hint(format!("write `{text}`"))
                .fix_if(
                    Some(Fix::replace(keyword.span, text)).filter(|_| keyword.span.range().len() == keyword.text.len()),
                ),
        );
    }
}
