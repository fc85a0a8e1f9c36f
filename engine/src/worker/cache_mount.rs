//! What is in a cache mount when it is first used?

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, chown};

use rbuild_cache::{CacheMount, Sharing, Store};
use rbuild_solver::graph::{CopyAction, CopySource, ExecMount, ExecMountKind, Unpack};

use super::WorkerError;
use super::tree::SourceRoot;
use crate::blocking::blocking;
use crate::error::Error;
use crate::files::{InnerPath, Node, Root, copy, resolve};
use crate::files_error::FilesError;
use crate::remote::MIRROR;

/// Content to start from: a tree and a path in it.
pub(super) struct Seed {
    pub(super) tree: SourceRoot,
    pub(super) path: String,
}

impl Seed {
    /// Mode, owner and group of the directory that is copied; files of the host become root's.
    fn owner(&self) -> std::io::Result<Option<Owner>> {
        let node = resolve(self.tree.tree(), &InnerPath::new(&self.path), true)?.node.filter(Node::is_directory);
        Ok(node.map(|node| match self.tree {
            SourceRoot::Context(_) => (node.mode & 0o7777, 0, 0),
            SourceRoot::Image(_) => (node.mode & 0o7777, node.uid, node.gid),
        }))
    }
}

/// Mode, owner and group of a new cache mount.
pub(super) type Owner = (u32, u32, u32);

/// The cache mounts of one step in the order in which they are taken, which is the same for all steps: two that want
/// the same two never wait for each other. One that is mounted in several places is taken once, as the first says.
pub(super) fn wanted(mounts: &[ExecMount]) -> BTreeMap<&str, &ExecMountKind> {
    let mut wanted = BTreeMap::new();
    for mount in mounts {
        if let ExecMountKind::Cache { id, .. } = &mount.kind {
            wanted.entry(id.as_str()).or_insert(&mount.kind);
        }
    }
    wanted
}

/// Takes the cache mount `id`; waits for others as `sharing` says.
pub(super) async fn open(
    store: Store,
    id: String,
    sharing: Sharing,
    seed: Option<Seed>,
    owner: Owner,
) -> Result<CacheMount, WorkerError> {
    if id.starts_with(MIRROR) {
        return Err(Error::Unsupported(format!("a cache called `{id}`: rbuild keeps its own there")).into());
    }
    let mut pause = std::time::Duration::from_millis(1);
    let mount = loop {
        if let Some(mount) = store.cache_mounts().try_open(&id, sharing)? {
            break mount;
        }
        // Polled, so that a cancelled build stops waiting at once.
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(std::time::Duration::from_millis(50));
    };
    if !mount.is_new() {
        return Ok(mount);
    }
    blocking(move || fill(mount, seed, owner)).await
}

fn fill(mut mount: CacheMount, seed: Option<Seed>, owner: Owner) -> Result<CacheMount, WorkerError> {
    let path = mount.path();
    let failed = || Error::file("prepare the cache mount", &path);
    // A `source` brings its own attributes.
    let own = match seed.as_ref().filter(|seed| !seed.path.trim_matches('/').is_empty()) {
        Some(seed) => seed.owner().map_err(failed())?,
        None => None,
    };
    let (mode, uid, gid) = own.unwrap_or(owner);
    if let Some(seed) = seed {
        let root = Root::open(&path).map_err(failed())?;
        let sources = BTreeMap::from([(0, seed.tree.tree())]);
        copy::apply(&copy_of(seed.path), &sources, &root, &|_| ()).map_err(FilesError::from)?;
    }
    chown(&path, Some(uid), Some(gid)).map_err(failed())?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).map_err(failed())?;
    mount.finish_seed()?;
    Ok(mount)
}

fn copy_of(path: String) -> CopyAction {
    CopyAction {
        sources: vec![CopySource::Path { input: 0, path: path.trim_matches('/').to_owned(), written: path }],
        destination: "/".to_owned(),
        into_directory: true,
        owner: None,
        mode: None,
        preserve_owner: true,
        unpack: Unpack::Never,
        parents: false,
        exclude: Vec::new(),
        wildcards: false,
        mtime: None,
    }
}

#[cfg(test)]
mod tests {
    use rbuild_solver::graph::CacheSharing;

    use super::*;

    fn mount(id: &str, sharing: CacheSharing) -> ExecMount {
        let kind = ExecMountKind::Cache {
            id: id.to_owned(),
            sharing,
            from: None,
            source: "/".to_owned(),
            mode: 0o755,
            uid: 0,
            gid: 0,
            read_only: false,
        };
        ExecMount { target: format!("/{id}"), kind }
    }

    #[test]
    fn caches_are_taken_once_and_in_one_order() {
        let mounts = [
            mount("b", CacheSharing::Locked),
            mount("a", CacheSharing::Locked),
            mount("b", CacheSharing::Shared),
            ExecMount { target: "/t".to_owned(), kind: ExecMountKind::Tmpfs { size: None } },
        ];
        let wanted: Vec<_> = wanted(&mounts).into_iter().collect();
        assert_eq!(wanted, [("a", &mounts[1].kind), ("b", &mounts[0].kind)]);
    }
}
