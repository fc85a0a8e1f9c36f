//! How do selected files keep their places?
//!
//! What is mounted into a step is copied first: from a context, so that nothing leads out of it and nothing is seen
//! that the ignore file hides. The copy has everything at its own path, and also the links that lead there, so that
//! any path that is found in the context is found in the copy.

use std::collections::BTreeMap;

use rbuild_solver::graph::{CopyAction, CopySource, Unpack};

use super::super::select::split_at_wildcard;
use super::super::tree::{SourceTree, resolve_source};
use super::super::{InnerPath, Root, Selector, Timestamp};
use super::owner::Ids;
use super::write::{Meta, Writer};
use super::{Copied, CopyError, apply};

/// Copies what a selection sees to the same paths of `image`. Owners are kept if they are part of the selection;
/// directories on the way are like those of the source, and times that the source does not give are 1970.
///
/// # Errors
/// As [`apply`]; a path that does not exist is one.
pub fn mirror(selector: &Selector, tree: &dyn SourceTree, image: &Root) -> Result<Copied, CopyError> {
    let mut links = Vec::new();
    let everything = [String::new()];
    let include = if selector.include.is_empty() { &everything[..] } else { &selector.include[..] };
    let mut sources = Vec::new();
    for path in include {
        let literal = !selector.wildcards || split_at_wildcard(path).1.is_empty();
        let mut place = path.clone();
        if literal && !selector.parents {
            let written = InnerPath::new(path);
            let found =
                resolve_source(tree, &written).map_err(|source| CopyError::Read { path: written.clone(), source })?;
            if found.node.is_some() {
                place = found.path.as_relative().display().to_string();
            }
            links.extend(found.links);
        }
        sources.push(CopySource::Path { input: 0, path: place, written: path.clone() });
    }
    let action = CopyAction {
        sources,
        destination: "/".to_owned(),
        into_directory: true,
        owner: None,
        mode: None,
        preserve_owner: selector.owners,
        unpack: Unpack::Never,
        parents: true,
        exclude: selector.exclude.clone(),
        wildcards: selector.wildcards,
        mtime: Some(0),
    };
    let copied = apply(&action, &BTreeMap::from([(0, tree)]), image, &|_| ())?;
    let epoch = Timestamp::default();
    let writer = Writer::new(image, Meta { ids: Ids::default(), mode: 0o755, mtime: epoch });
    for (path, target) in links {
        let place = writer.directory(&path.parent().unwrap_or_default(), writer.parents)?;
        writer.symlink(&place, path.name(), &target, Meta { mode: 0o777, ..writer.parents })?;
    }
    writer.finish()?;
    Ok(copied)
}
