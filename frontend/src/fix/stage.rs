//! Where is a stage called by its name?

use std::collections::HashMap;

use rbuild_core::Span;

use crate::ast::{Dockerfile, Kind, Stage, Word};
use crate::diagnostic::Fix;
use crate::mount;

/// Places that name a stage with upper-case letters, by the lower-case name.
pub(super) type References = HashMap<String, Vec<Span>>;

/// All places of a file that name a stage after its definition.
pub(super) fn references(file: &Dockerfile) -> References {
    let mut found: References = HashMap::new();
    let mut known: HashMap<&str, ()> = HashMap::new();
    let mut note = |known: &HashMap<&str, ()>, word: &Word| {
        let lower = word.text.to_lowercase();
        if lower != word.text && known.contains_key(lower.as_str()) && word.span.range().len() == word.text.len() {
            found.entry(lower).or_default().push(word.span);
        }
    };
    for stage in &file.stages {
        note(&known, &stage.from.image);
        for instruction in &stage.instructions {
            match &instruction.kind {
                Kind::Copy(copy) => copy.from.iter().for_each(|from| note(&known, from)),
                Kind::Run(run) => run.mounts.iter().filter_map(mount::from).for_each(|from| note(&known, &from)),
                _ => {}
            }
        }
        known.extend(stage.from.name.iter().map(|name| (name.name.as_str(), ())));
    }
    found
}

/// The name in lower case, and with it everything that names the stage; of several stages with that name, with the first.
pub(super) fn lower_case(stage: &Stage, references: &mut References) -> Option<Fix> {
    let name = stage.from.name.as_ref()?;
    if name.word.span.range().len() != name.word.text.len() {
        return None;
    }
    let places = references.remove(&name.name).unwrap_or_default();
    let after = places.iter().filter(|place| place.start > name.word.span.end);
    Some(after.fold(Fix::replace(name.word.span, name.name.as_str()), |fix, place| fix.and(*place, name.name.as_str())))
}
