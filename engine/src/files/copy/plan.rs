//! Where does a source go?
//!
//! | source | destination | goes to |
//! |---|---|---|
//! | directory | absent, or a directory | its contents go into it |
//! | anything else | a directory, or written as one | `destination/name` |
//! | anything else | absent, or a file | the destination itself |
//! | archive (`ADD`) | absent, or a directory | its contents go into it |
//!
//! Links in the destination are followed inside the image, also at its end; in `destination/name` the name is not: a
//! link there is replaced.

use std::ffi::OsStr;
use std::io;

use super::super::{InnerPath, Node, Tree, resolve};

/// What is to be placed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shape<'a> {
    /// A directory, or an archive that is unpacked: something with contents.
    Contents,
    /// Anything else, under the name it was found by.
    Single(&'a OsStr),
}

/// Where something goes, links followed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Placement {
    /// Contents go into this directory.
    Into {
        path: InnerPath,
        /// Whether it is there already.
        exists: bool,
    },
    /// This becomes a copy.
    At(InnerPath),
}

/// Why there is no place.
#[derive(Debug)]
pub(crate) enum PlaceError {
    /// Contents, or a name, cannot go into what is no directory.
    NotADirectory(InnerPath),
    /// The destination cannot be looked at.
    Read(InnerPath, io::Error),
}

/// Decides where one source goes, as the image is now.
pub(crate) fn place(
    image: &(impl Tree + ?Sized),
    destination: &InnerPath,
    into_directory: bool,
    shape: Shape<'_>,
) -> Result<Placement, PlaceError> {
    let found = resolve(image, destination, true).map_err(|error| match error.kind() {
        io::ErrorKind::NotADirectory => PlaceError::NotADirectory(destination.clone()),
        _ => PlaceError::Read(destination.clone(), error),
    })?;
    let is_directory = found.node.as_ref().is_some_and(Node::is_directory);
    let blocked = found.node.is_some() && !is_directory;
    match shape {
        Shape::Contents if blocked => Err(PlaceError::NotADirectory(found.path)),
        Shape::Contents => Ok(Placement::Into { path: found.path, exists: is_directory }),
        Shape::Single(name) if is_directory => Ok(Placement::At(found.path.join(name))),
        Shape::Single(name) if into_directory && !blocked => Ok(Placement::At(found.path.join(name))),
        Shape::Single(_) if into_directory => Err(PlaceError::NotADirectory(found.path)),
        Shape::Single(_) => Ok(Placement::At(found.path)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tree::fake::FakeTree;
    use super::*;

    #[test]
    fn sources_go_where_docker_puts_them() {
        let image = FakeTree::new(
            "real/sub/ file link->/real rel->real filelink->/real/file real/file dangling->/nowhere/deep real/named->/file",
        );
        let file = Shape::Single(OsStr::new("f"));
        let named = Shape::Single(OsStr::new("named"));
        for (shape, destination, expected) in [
            (file, "/new", "at /new"),
            (file, "/new/", "at /new/f"),
            (file, "/", "at /f"),
            (file, "/real", "at /real/f"),
            (file, "/real/", "at /real/f"),
            (file, "/very/deep/name", "at /very/deep/name"),
            (file, "/file", "at /file"),
            (file, "/file/", "no directory /file"),
            (file, "/file/x", "no directory /file/x"),
            (file, "/link", "at /real/f"),
            (file, "/link/", "at /real/f"),
            (file, "/link/sub/new", "at /real/sub/new"),
            (file, "/rel/x", "at /real/x"),
            (file, "/filelink", "at /real/file"),
            (file, "/dangling", "at /nowhere/deep"),
            (file, "/dangling/", "at /nowhere/deep/f"),
            (named, "/real/", "at /real/named"),
            (Shape::Contents, "/new", "into /new new"),
            (Shape::Contents, "/new/", "into /new new"),
            (Shape::Contents, "/real", "into /real"),
            (Shape::Contents, "/link/", "into /real"),
            (Shape::Contents, "/", "into /"),
            (Shape::Contents, "/file", "no directory /file"),
            (Shape::Contents, "/filelink", "no directory /real/file"),
        ] {
            let found = match place(&image, &InnerPath::new(destination), destination.ends_with('/'), shape) {
                Ok(Placement::At(path)) => format!("at {path}"),
                Ok(Placement::Into { path, exists: true }) => format!("into {path}"),
                Ok(Placement::Into { path, exists: false }) => format!("into {path} new"),
                Err(PlaceError::NotADirectory(path)) => format!("no directory {path}"),
                Err(PlaceError::Read(path, error)) => format!("{path}: {error}"),
            };
            assert_eq!(found, expected, "{shape:?} {destination}");
        }
    }
}
