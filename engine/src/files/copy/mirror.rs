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
use super::stage::Stage;
use super::write::Meta;
use super::{Copied, CopyError, carry_out_in};

/// Copies what a selection sees to the same paths of `image`. Owners are kept if they are part of the selection;
/// directories on the way are like those of the source, and times that the source does not give are 1970.
///
/// # Errors
/// As [`apply`](super::apply); a path that does not exist is one.
pub fn mirror(selector: &Selector, tree: &dyn SourceTree, image: &Root) -> Result<Copied, CopyError> {
    let mut stage = Stage::over(Some(image), None)?;
    stage.mirror(selector, tree)?;
    carry_out_in(&stage, image, &|_| ())
}

impl<'a> Stage<'a> {
    /// Plans what [`mirror`] does.
    ///
    /// # Errors
    /// As there.
    pub fn mirror(&mut self, selector: &Selector, tree: &'a dyn SourceTree) -> Result<(), CopyError> {
        let mut links = Vec::new();
        let everything = [String::new()];
        let include = if selector.include.is_empty() { &everything[..] } else { &selector.include[..] };
        let mut sources = Vec::new();
        for path in include {
            let literal = !selector.wildcards || split_at_wildcard(path).1.is_empty();
            let mut place = path.clone();
            if literal && !selector.parents {
                let written = InnerPath::new(path);
                let found = resolve_source(tree, &written)
                    .map_err(|source| CopyError::Read { path: written.clone(), source })?;
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
        self.copy(&action, &BTreeMap::from([(0, tree)]))?;
        let parents = Meta { ids: Ids::default(), mode: 0o755, mtime: Timestamp::default() };
        self.at(parents.mtime);
        for (path, target) in links {
            let place = path.parent().unwrap_or_default();
            self.directory(&place, parents)?;
            self.symlink(&place, path.name(), &target, Meta { mode: 0o777, ..parents })?;
        }
        self.finish()
    }
}
