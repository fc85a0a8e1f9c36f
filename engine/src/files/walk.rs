//! What is in a directory, as far as it is selected?
//!
//! The one traversal behind cache keys and copies: depth first, names in the order of their bytes. A directory that
//! is not itself selected is shown only when the first selected thing below it comes up, just before that.

use std::io;

use rbuild_frontend::{Glob, IgnoreFile, Match};

use super::tree::Listed;
use super::{InnerPath, Node, Tree};

/// Which part of a directory is meant. Paths are relative to that directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filter<'a> {
    /// What is left out.
    pub(crate) exclude: &'a IgnoreFile,
    /// What is selected, with all that is below it; everything if absent.
    pub(crate) include: Option<&'a Glob>,
}

/// Why a directory is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reason {
    /// It is selected.
    Selected,
    /// Something below it is.
    OnTheWay,
}

/// A directory that cannot be listed.
#[derive(Debug)]
pub(crate) struct WalkError {
    /// The directory, from the tree's root.
    pub(crate) path: InnerPath,
    pub(crate) source: io::Error,
}

/// Is shown what a walk comes by. Paths are relative to where it began.
pub(crate) trait Visitor {
    type Error: From<WalkError>;

    /// A directory; what follows up to the matching [`leave`](Self::leave) is in it.
    fn enter(&mut self, path: &InnerPath, node: &Node, reason: Reason) -> Result<(), Self::Error>;

    /// A directory with all that is in it: whether that is done with, or is to be shown one by one.
    fn take(&mut self, _path: &InnerPath, _node: &Node) -> Result<bool, Self::Error> {
        Ok(false)
    }

    /// The end of the directory entered last.
    fn leave(&mut self) -> Result<(), Self::Error>;

    /// Anything else.
    fn other(&mut self, path: &InnerPath, node: &Node) -> Result<(), Self::Error>;
}

struct Frame<'a> {
    path: InnerPath,
    node: Option<Node>,
    entries: Listed<'a>,
    verdict: Match<'a>,
    selected: bool,
    shown: bool,
}

/// Shows `visitor` what is selected below `base`, which itself is not shown.
pub(crate) fn walk<'t, V: Visitor>(
    tree: &'t (impl Tree + ?Sized),
    base: &InnerPath,
    filter: Filter<'t>,
    visitor: &mut V,
) -> Result<(), V::Error> {
    let list = |path: &InnerPath| {
        let full = base.join_path(path);
        tree.entries(&full).map_err(|source| WalkError { path: full, source })
    };
    let root = InnerPath::root();
    let mut stack = vec![Frame {
        entries: list(&root)?,
        path: root,
        node: None,
        verdict: Match::None,
        selected: filter.include.is_none(),
        shown: true,
    }];
    while let Some(frame) = stack.last_mut() {
        let Some((name, node)) = frame.entries.next() else {
            if frame.shown && frame.node.is_some() {
                visitor.leave()?;
            }
            stack.pop();
            continue;
        };
        let path = frame.path.join(&name);
        let verdict = filter.exclude.matched_below(frame.verdict, path.as_relative());
        let selected = frame.selected || filter.include.is_some_and(|glob| glob.matches(path.as_relative()));
        let shown = selected && !verdict.is_excluded();
        if !node.is_directory() {
            if shown {
                show_way(&mut stack, visitor)?;
                visitor.other(&path, &node)?;
            }
            continue;
        }
        let whole = selected && filter.include.is_none() && filter.exclude.is_empty();
        if whole && visitor.take(&path, &node)? {
            continue;
        }
        let reachable = selected || filter.include.is_none_or(|glob| glob.may_match_below(path.as_relative()));
        if shown {
            show_way(&mut stack, visitor)?;
            visitor.enter(&path, &node, Reason::Selected)?;
        } else if !reachable || filter.exclude.prunes(verdict, path.as_relative()) {
            continue;
        }
        stack.push(Frame { entries: list(&path)?, path, node: Some(node), verdict, selected, shown });
    }
    Ok(())
}

fn show_way<V: Visitor>(stack: &mut [Frame<'_>], visitor: &mut V) -> Result<(), V::Error> {
    for frame in stack.iter_mut().filter(|frame| !frame.shown) {
        if let Some(node) = &frame.node {
            visitor.enter(&frame.path, node, Reason::OnTheWay)?;
        }
        frame.shown = true;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rbuild_frontend::Stars;

    use super::*;
    use crate::files::tree::fake::FakeTree;

    struct Log(String);

    impl Visitor for Log {
        type Error = Failed;

        fn enter(&mut self, path: &InnerPath, _node: &Node, reason: Reason) -> Result<(), Failed> {
            let mark = if reason == Reason::OnTheWay { "?" } else { "" };
            self.0.push_str(&format!("{path}{mark}( "));
            Ok(())
        }

        fn leave(&mut self) -> Result<(), Failed> {
            self.0.push_str(") ");
            Ok(())
        }

        fn other(&mut self, path: &InnerPath, _node: &Node) -> Result<(), Failed> {
            self.0.push_str(&format!("{path} "));
            Ok(())
        }
    }

    #[derive(Debug)]
    struct Failed;

    impl From<WalkError> for Failed {
        fn from(_: WalkError) -> Self {
            Self
        }
    }

    #[test]
    fn shows_what_is_selected_and_the_way_to_it() {
        let tree = FakeTree::new("base/a/b/x.md base/a/b/y base/a/k.md base/z base/a/e/ base/link->z");
        for (exclude, include, expected) in [
            ("", None, "/a( /a/b( /a/b/x.md /a/b/y ) /a/e( ) /a/k.md ) /link /z "),
            ("**/*.md", None, "/a( /a/b( /a/b/y ) /a/e( ) ) /link /z "),
            ("a", None, "/link /z "),
            ("a !a/b/y", None, "/a?( /a/b?( /a/b/y ) ) /link /z "),
            ("", Some("a/b"), "/a?( /a/b( /a/b/x.md /a/b/y ) ) "),
            ("", Some("**/*.md"), "/a?( /a/b?( /a/b/x.md ) /a/k.md ) "),
            ("a/b", Some("**/*.md"), "/a?( /a/k.md ) "),
            ("", Some("z"), "/z "),
            ("", Some("no/such"), ""),
        ] {
            let exclude = IgnoreFile::new(exclude.split(' ')).unwrap();
            let include = include.map(|pattern| Glob::new(pattern, Stars::Deep).unwrap());
            let mut log = Log(String::new());
            let filter = Filter { exclude: &exclude, include: include.as_ref() };
            walk(&tree, &InnerPath::new("base"), filter, &mut log).unwrap();
            assert_eq!(log.0, expected);
        }
    }

    #[test]
    fn deep_trees_do_not_exhaust_the_stack() {
        let tree = FakeTree::new(&"d/".repeat(500));
        let mut log = Log(String::new());
        let exclude = IgnoreFile::default();
        walk(&tree, &InnerPath::root(), Filter { exclude: &exclude, include: None }, &mut log).unwrap();
        assert_eq!(log.0.matches('(').count(), 500);
    }
}
