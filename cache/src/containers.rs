//! Which containers are there?
//!
//! The store knows a container's id, its name (no two have the same) and what it keeps alive; everything else is the
//! engine's, as JSON. Each has a directory `containers/<id>/` for logs, its upper layer and whatever the engine wants.

use std::fs;
use std::path::PathBuf;

use rbuild_core::{Digest, Mount, MountKind, OverlayUpper};
use rustix::fs::Mode;
use serde::{Deserialize, Serialize};

use crate::error::{Context, StoreError};
use crate::layers::{LayerError, LayerId};
use crate::meta::Table;
use crate::prune::condemned;
use crate::store::Store;

pub(crate) const CONTAINERS: Table<Container> = Table::new(b'c', "container");
pub(crate) const CONTAINER_NAMES: Table<String> = Table::new(b'd', "container name");

/// A container, running or not.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Container {
    /// Hexadecimal digits.
    pub id: String,
    /// What the user calls it.
    pub name: String,
    /// The image it was made from.
    pub image: Option<Digest>,
    /// Its root file system's read-only part, lowest layer first. Not pruned while the container exists.
    pub layers: Vec<LayerId>,
    /// Seconds since 1970.
    pub created: u64,
    /// What the engine wants to remember.
    pub details: serde_json::Value,
}

/// The id of a container, and why its row cannot be read.
pub type Unreadable = (String, StoreError);

/// Why a container could not be stored or found.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The disk or the metadata failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another container has this name.
    #[error("the container name `{name}` is in use by container `{id}`")]
    NameTaken {
        /// The name.
        name: String,
        /// Whose it is.
        id: String,
    },
    /// There is a container with this id.
    #[error("there is already a container `{0}`")]
    IdTaken(String),
    /// No container has this id.
    #[error("there is no container `{0}`")]
    NotFound(String),
    /// Several containers have ids that begin like this.
    #[error("`{prefix}` is the beginning of {count} container ids")]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// How many match.
        count: usize,
    },
    /// An id that is not 1 to 64 hexadecimal digits, a name that is not a Docker container name.
    #[error("`{0}` is not a container id or name")]
    Invalid(String),
}

impl ContainerError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::NameTaken { .. } => Some("remove that container, or choose another name".into()),
            Self::NotFound(_) => Some("`rbuild ps --all` lists what is there".into()),
            Self::Ambiguous { .. } => Some("give more digits".into()),
            Self::Invalid(_) => {
                Some("names begin with a letter or digit and continue with those, `_`, `.` and `-`".into())
            }
            Self::IdTaken(_) => None,
        }
    }
}

type Result<T, E = ContainerError> = std::result::Result<T, E>;

/// The containers of a [`Store`].
#[derive(Clone, Copy, Debug)]
pub struct Containers<'a>(pub(crate) &'a Store);

impl Containers<'_> {
    /// Stores a new container and makes its directory, which is returned.
    ///
    /// # Errors
    /// `NameTaken`, `IdTaken`, `Invalid`, or the disk fails.
    pub fn create(&self, container: &Container) -> Result<PathBuf> {
        check(container)?;
        let path = self.directory(&container.id);
        self.0.0.meta.write(|writer| {
            if writer.reader().contains(&CONTAINERS, container.id.as_bytes())? {
                return Err(ContainerError::IdTaken(container.id.clone()));
            }
            if let Some(id) = writer.find(&CONTAINER_NAMES, container.name.as_bytes())? {
                return Err(ContainerError::NameTaken { name: container.name.clone(), id });
            }
            container.layers.iter().try_for_each(|layer| condemned::spare_layer(writer, layer))?;
            // A directory without a row is what a crash leaves; nobody owns it.
            self.0.0.aside.discard(&path)?;
            rustix::fs::mkdir(&path, Mode::from_raw_mode(0o700)).context("create", &path)?;
            writer.put(&CONTAINER_NAMES, container.name.as_bytes(), &container.id)?;
            Ok(writer.put(&CONTAINERS, container.id.as_bytes(), container)?)
        })?;
        Ok(path)
    }

    /// Changes a container with `change`, in one transaction with reading it. Its id cannot change. Returns the new
    /// state.
    ///
    /// # Errors
    /// `NotFound`, `NameTaken`, `Invalid`, or the metadata cannot be written.
    pub fn update(&self, id: &str, change: impl FnOnce(&mut Container)) -> Result<Container> {
        self.0.0.meta.write(|writer| {
            let Some(before) = writer.find(&CONTAINERS, id.as_bytes())? else {
                return Err(ContainerError::NotFound(id.to_owned()));
            };
            let mut after = before.clone();
            change(&mut after);
            after.id.clone_from(&before.id);
            check(&after)?;
            if after.name != before.name {
                if let Some(id) = writer.find(&CONTAINER_NAMES, after.name.as_bytes())? {
                    return Err(ContainerError::NameTaken { name: after.name, id });
                }
                writer.delete(&CONTAINER_NAMES, before.name.as_bytes())?;
                writer.put(&CONTAINER_NAMES, after.name.as_bytes(), &after.id)?;
            }
            after.layers.iter().try_for_each(|layer| condemned::spare_layer(writer, layer))?;
            writer.put(&CONTAINERS, id.as_bytes(), &after)?;
            Ok(after)
        })
    }

    /// The container called `text`, or whose id is or begins with `text`.
    ///
    /// # Errors
    /// `Ambiguous`, or the metadata cannot be read.
    pub fn resolve(&self, text: &str) -> Result<Option<Container>> {
        self.0.0.meta.read(|reader| {
            if let Some(id) = reader.find(&CONTAINER_NAMES, text.as_bytes())? {
                return Ok(reader.find(&CONTAINERS, id.as_bytes())?);
            }
            if text.is_empty() {
                return Ok(None);
            }
            let mut matching = reader.list(&CONTAINERS, text.as_bytes())?;
            if let Some(exact) = matching.iter().position(|(id, _)| id == text.as_bytes()) {
                return Ok(Some(matching.swap_remove(exact).1));
            }
            match matching.len() {
                0 | 1 => Ok(matching.pop().map(|(_, container)| container)),
                count => Err(ContainerError::Ambiguous { prefix: text.to_owned(), count }),
            }
        })
    }

    /// The id of the container called `text`, or whose id is or begins with `text`: also of one that cannot be read.
    ///
    /// # Errors
    /// `Ambiguous`, or the metadata cannot be read.
    pub fn resolve_id(&self, text: &str) -> Result<Option<String>> {
        let (named, ids) = self.0.0.meta.read(|reader| {
            Ok::<_, StoreError>((reader.find(&CONTAINER_NAMES, text.as_bytes())?, reader.keys(&CONTAINERS)?))
        })?;
        if named.is_some() {
            return Ok(named);
        }
        let ids = ids.into_iter().filter_map(|id| String::from_utf8(id).ok());
        let mut matching: Vec<_> = ids.filter(|id| !text.is_empty() && id.starts_with(text)).collect();
        match matching.len() {
            0 | 1 => Ok(matching.pop()),
            _ if matching.iter().any(|id| id == text) => Ok(Some(text.to_owned())),
            count => Err(ContainerError::Ambiguous { prefix: text.to_owned(), count }),
        }
    }

    /// All containers, newest first, and why some cannot be read, by id.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub fn list(&self) -> Result<(Vec<Container>, Vec<Unreadable>)> {
        let (mut containers, mut broken) = (Vec::new(), Vec::new());
        self.0.0.meta.read(|reader| {
            for key in reader.keys(&CONTAINERS)? {
                match reader.find(&CONTAINERS, &key) {
                    Ok(container) => containers.extend(container),
                    Err(error @ (StoreError::Row { .. } | StoreError::Format { .. })) => {
                        broken.push((String::from_utf8_lossy(&key).into_owned(), error));
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })?;
        containers.sort_by_key(|container| std::cmp::Reverse(container.created));
        Ok((containers, broken))
    }

    /// Removes a container, its name and its directory, also one that cannot be read. The caller has made sure that it
    /// does not run.
    ///
    /// # Errors
    /// `NotFound`, or the disk fails.
    pub fn remove(&self, id: &str) -> Result<()> {
        self.0.0.meta.write(|writer| {
            let name = match writer.find(&CONTAINERS, id.as_bytes()) {
                Ok(None) => return Err(ContainerError::NotFound(id.to_owned())),
                Ok(Some(container)) => Some(container.name.into_bytes()),
                Err(StoreError::Row { .. } | StoreError::Format { .. }) => {
                    let names = writer.reader().list(&CONTAINER_NAMES, b"")?;
                    names.into_iter().find(|(_, of)| of == id).map(|(name, _)| name)
                }
                Err(error) => return Err(error.into()),
            };
            writer.delete(&CONTAINERS, id.as_bytes())?;
            if let Some(name) = name {
                writer.delete(&CONTAINER_NAMES, &name)?;
            }
            self.0.0.aside.discard(&self.directory(id))?;
            Ok(())
        })
    }

    /// Where a container's files are: `containers/<id>/`.
    pub fn directory(&self, id: &str) -> PathBuf {
        self.0.root().join("containers").join(id)
    }

    /// The container's root file system: its layers under `upper/` in its directory, which is made if need be and
    /// survives the container's process.
    ///
    /// # Errors
    /// As [`crate::Layers::prepare`].
    pub fn root_mount(&self, container: &Container) -> Result<Mount, LayerError> {
        let lower = self.0.layers().lower(&container.layers)?;
        let directory = self.directory(&container.id);
        let (upper, work) = (directory.join("upper"), directory.join("work"));
        if !upper.is_dir() {
            crate::layers::make_upper(&upper, lower.first())?;
        }
        // A work directory can be unusable for a second mount (`volatile`), so each gets a new one.
        self.0.0.aside.discard(&work)?;
        fs::create_dir(&work).context("create", &work)?;
        let upper = Some(OverlayUpper { upper, work });
        Ok(Mount { target: "/".into(), kind: MountKind::Overlay { lower, upper }, read_only: false })
    }
}

fn check(container: &Container) -> Result<()> {
    let id = &container.id;
    if id.is_empty() || id.len() > 64 || !id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(ContainerError::Invalid(id.clone()));
    }
    let name = container.name.as_bytes();
    let starts = name.first().is_some_and(u8::is_ascii_alphanumeric);
    if !starts || !name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(byte)) {
        return Err(ContainerError::Invalid(container.name.clone()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: &str, name: &str) -> Container {
        let details = serde_json::json!({"pid": 1});
        Container { id: id.into(), name: name.into(), image: None, layers: Vec::new(), created: 1, details }
    }

    #[test]
    fn ids_and_names_are_unique() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let containers = store.containers();
        let directory = containers.create(&container("abc1", "web")).unwrap();
        assert!(directory.is_dir());
        assert!(matches!(containers.create(&container("abc1", "x")), Err(ContainerError::IdTaken(_))));
        assert!(matches!(containers.create(&container("abc2", "web")), Err(ContainerError::NameTaken { .. })));
        for (id, name) in [("../x", "a"), ("", "a"), ("XYZ", "a"), ("abc", "-a"), ("abc", "a b"), ("abc", "")] {
            assert!(matches!(containers.create(&container(id, name)), Err(ContainerError::Invalid(_))), "{id} {name}");
        }
        containers.create(&container("abc2", "db")).unwrap();
        assert!(matches!(containers.resolve("abc"), Err(ContainerError::Ambiguous { count: 2, .. })));
        assert_eq!(containers.resolve("abc2").unwrap().unwrap().name, "db");
        let renamed = containers.update("abc2", |container| container.name = "store".into()).unwrap();
        assert_eq!(containers.resolve("store").unwrap(), Some(renamed));
        assert_eq!(containers.resolve("db").unwrap(), None);
        let taken = containers.update("abc2", |container| container.name = "web".into());
        assert!(matches!(taken, Err(ContainerError::NameTaken { .. })));
        containers.remove("abc1").unwrap();
        assert!(!directory.exists());
        containers.create(&container("abc3", "web")).unwrap();
        assert_eq!(containers.list().unwrap().0.len(), 2);
    }

    #[test]
    fn a_row_that_cannot_be_read_hides_no_other_and_can_be_removed() {
        const OTHER: Table<u32> = Table::new(b'c', "number");
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let containers = store.containers();
        for (id, name) in [("abc1", "web"), ("abc2", "db")] {
            containers.create(&container(id, name)).unwrap();
        }
        store.0.meta.write(|writer| writer.put(&OTHER, b"abc1", &7)).unwrap();
        let (sound, broken) = containers.list().unwrap();
        assert_eq!(sound.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["db"]);
        assert_eq!(broken.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["abc1"]);
        assert!(broken[0].1.hint().unwrap().contains("rbuild rm abc1"));
        assert!(containers.resolve("web").is_err());
        for text in ["web", "abc1"] {
            assert_eq!(containers.resolve_id(text).unwrap().as_deref(), Some("abc1"), "{text}");
        }
        assert!(matches!(containers.resolve_id("abc"), Err(ContainerError::Ambiguous { count: 2, .. })));
        assert_eq!(containers.resolve_id("x").unwrap(), None);
        containers.remove("abc1").unwrap();
        assert_eq!(containers.resolve_id("web").unwrap(), None);
        assert!(!containers.directory("abc1").exists() && containers.list().unwrap().1.is_empty());
        containers.create(&container("abc3", "web")).unwrap();
    }
}
