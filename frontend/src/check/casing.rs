//! Are keywords and names cased as they should be?

use crate::ast::{Dockerfile, Header};
use crate::diagnostic::Diagnostic;
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
            found.push(
                Diagnostic::warning(Rule::FromAsCasing, name.keyword.span, message)
                    .hint(if casing(keyword) == Casing::Lower { "write `as`" } else { "write `AS`" }),
            );
        }
    }
}

/// The majority decides; at a tie, upper case.
fn keywords(file: &Dockerfile, found: &mut Findings) {
    let all = || {
        file.stages.iter().flat_map(|stage| {
            std::iter::once(&stage.header).chain(stage.instructions.iter().map(|instruction| &instruction.header))
        })
    };
    let count = |wanted| all().filter(|header: &&Header| casing(&header.keyword.text) == wanted).count();
    let (wanted, name) = if count(Casing::Lower) > count(Casing::Upper) {
        (Casing::Lower, "lowercase")
    } else {
        (Casing::Upper, "uppercase")
    };
    for keyword in all().map(|header| &header.keyword).filter(|keyword| casing(&keyword.text) != wanted) {
        let message = format!("`{}` should match the case of most instructions ({name})", keyword.text);
        found.push(Diagnostic::warning(Rule::ConsistentInstructionCasing, keyword.span, message));
    }
}
