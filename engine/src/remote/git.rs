//! How does a commit of a git repository become a tree of files?
//!
//! ```text
//! GitOp ─► Commit            the repository is asked which commit its ref is (`ls-remote`), unless the op says it
//!   └► mirror                a bare repository in the store for each remote; only missing commits are fetched, shallow
//!       └► tree/.git         a repository of its own, submodules included; then without `.git`, unless that is wanted
//!           └► layer         modes 0644 and 0755, owned by root; remembered by the commit
//! ```
//!
//! The work is git's own. A mirror is a cache directory that one user has at a time (`--mount=type=cache` cannot name it)
//! and holds each fetched commit as `refs/rbuild/COMMIT`.

mod command;
mod ssh;
mod tree;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rbuild_cache::{CacheMount, LayerId, LayerKind, Record, Sharing};
use rbuild_core::{Digest, KeyHasher};
use rbuild_frontend::remote::split_login;
use rbuild_solver::graph::{GitOp, GitTime, is_commit};
use serde::{Deserialize, Serialize};

use self::command::Git;
use super::{RemoteError, redacted};
use crate::blocking::blocking;
use crate::engine::Engine;
use crate::lock::key_lock;
use crate::secret::Secrets;

/// How the ids of cache directories begin that hold mirrors. No `RUN --mount=type=cache` may use such an id: what a
/// process wrote into a repository, git would execute.
pub(crate) const MIRROR: &str = "git mirror of ";

/// One commit, by its whole name.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Commit {
    /// 40 or 64 hexadecimal digits.
    pub(crate) id: String,
    /// The whole name of the ref that it was found by, such as `refs/heads/main`.
    pub(crate) reference: Option<String>,
}

/// The tree of a commit, in the store. Usable while a lease is held.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Checkout {
    /// Holds the files.
    pub(crate) layer: LayerId,
    /// When the commit was made, in seconds since the epoch.
    pub(crate) time: i64,
    /// What a step sees of it.
    pub(crate) identity: Digest,
}

impl Checkout {
    /// The directory with the files.
    pub(crate) fn path(&self, engine: &Engine) -> Result<PathBuf, RemoteError> {
        Ok(engine.store().layers().directory(&self.layer)?)
    }
}

impl Engine {
    /// Which commit `op` means. Asks the repository, unless the op names the commit in full.
    pub(crate) async fn resolve_commit(&self, op: &GitOp, secrets: &Secrets) -> Result<Commit, RemoteError> {
        if let Some(id) = op.commit() {
            let reference = op.reference.clone().filter(|name| name.starts_with("refs/"));
            return Ok(Commit { id: id.to_owned(), reference });
        }
        let commit = ask(&Git::new(op, secrets)?, op).await?;
        match &op.checksum {
            Some(expected) if !commit.id.starts_with(expected.as_str()) => Err(mismatch(op, expected, commit.id)),
            _ => Ok(commit),
        }
    }

    /// The files of `commit` as a layer, made if need be.
    pub(crate) async fn check_out(
        &self,
        op: &GitOp,
        commit: &Commit,
        secrets: &Secrets,
    ) -> Result<Checkout, RemoteError> {
        let key = identity(op, commit);
        let known = || {
            let record = self.store().records().find(&key)?;
            Ok::<_, RemoteError>(record.and_then(|record| serde_json::from_value::<Checkout>(record.outputs).ok()))
        };
        if let Some(known) = known()? {
            return Ok(known);
        }
        let _lock = key_lock(self.store(), &key).await?;
        if let Some(known) = known()? {
            return Ok(known);
        }
        let snapshot = self.store().layers().prepare(&[])?;
        let time = self.check_out_into(op, commit, secrets, &snapshot.upper(), &snapshot.scratch()).await?;
        let (store, title) = (self.store().clone(), format!("commit {} of {}", commit.id, redacted(&op.remote)));
        blocking(move || {
            let layer = snapshot.commit(LayerKind::Files)?;
            let checkout = Checkout { layer: layer.id.clone(), time, identity: key };
            let record = Record {
                listings: Vec::new(),
                layers: vec![layer.id],
                outputs: serde_json::to_value(&checkout).expect("it has only texts and numbers"),
                provenance: serde_json::Value::Null,
                title,
                created: layer.created,
                duration_ms: 0,
            };
            store.records().insert(&[key], &[], &record)?;
            Ok(checkout)
        })
        .await
    }

    /// Writes the files of `commit` into `directory`, which exists and is empty; `scratch` is another empty one of the
    /// same file system. Returns the time of the commit.
    pub(crate) async fn check_out_into(
        &self,
        op: &GitOp,
        commit: &Commit,
        secrets: &Secrets,
        directory: &Path,
        scratch: &Path,
    ) -> Result<i64, RemoteError> {
        let git = Git::new(op, secrets)?;
        let mirror = self.mirror(&git, commit).await?;
        fetch(&git, &mirror.path(), op, commit).await?;
        verify(&git, &mirror.path(), op, commit).await?;
        let whole = if op.subdir.is_empty() { directory.to_owned() } else { scratch.join("tree") };
        if whole != directory {
            std::fs::create_dir(&whole).map_err(RemoteError::file("create", &whole))?;
        }
        let time = populate(&git, &mirror.path(), op, commit, &whole).await?;
        drop(mirror);
        let (op, commit, directory) = (op.clone(), commit.clone(), directory.to_owned());
        blocking(move || {
            if !op.keep_git_dir {
                tree::remove_git(&whole)?;
            }
            tree::normalise(&whole, (op.mtime == GitTime::Commit).then_some(time))?;
            if whole != directory {
                tree::move_subdirectory(&whole, &op.subdir, &directory)
                    .map_err(|error| error.named(&op, &commit.id))?;
            }
            Ok(time)
        })
        .await
    }

    /// The mirror of a remote, locked, with a repository in it.
    async fn mirror(&self, git: &Git, commit: &Commit) -> Result<CacheMount, RemoteError> {
        // Repositories of the two hash functions do not mix.
        let id = format!("{MIRROR}{}{}", redacted(git.url()), if commit.id.len() == 64 { " (sha256)" } else { "" });
        let mut pause = Duration::from_millis(1);
        let mut mirror = loop {
            if let Some(mirror) = self.store().cache_mounts().try_open(&id, Sharing::Locked)? {
                break mirror;
            }
            // Polled, so that a cancelled build stops waiting at once.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        };
        let path = mirror.path();
        if mirror.is_new() {
            git.run("make a mirror of", &path, &["init", "--quiet", "--bare", "--template=", format_of(commit)])
                .await?;
            mirror.finish_seed()?;
        }
        remove_leftovers(&mirror.path());
        Ok(mirror)
    }
}

/// Removes what a git that was killed left in a repository where nobody else is: locks, and halves of packs. No ref has
/// a name in `.lock`.
fn remove_leftovers(repository: &Path) {
    let (refs, packs) = (repository.join("refs"), repository.join("objects/pack"));
    let mut waiting = vec![repository.to_owned(), refs.clone(), packs.clone()];
    while let Some(directory) = waiting.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.map_while(Result::ok) {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if directory.starts_with(&refs) {
                    waiting.push(entry.path());
                }
            } else if name.ends_with(".lock") || directory == packs && name.starts_with("tmp_") {
                // What cannot be removed, git complains of.
                drop(std::fs::remove_file(entry.path()));
            }
        }
    }
}

fn format_of(commit: &Commit) -> &'static str {
    if commit.id.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" }
}

/// What a checkout depends on.
fn identity(op: &GitOp, commit: &Commit) -> Digest {
    let mut hasher = KeyHasher::new("checkout/1");
    hasher.text(&commit.id).text(&op.subdir).number(u64::from(op.submodules));
    hasher.number(u64::from(op.mtime == GitTime::Commit)).number(u64::from(op.keep_git_dir));
    let (remote, _) = split_login(&op.remote);
    if op.keep_git_dir {
        hasher.text(&remote).text(commit.reference.as_deref().unwrap_or_default());
    }
    if op.submodules {
        // Their addresses can be relative to it.
        hasher.text(&remote);
    }
    hasher.finish()
}

fn mismatch(op: &GitOp, expected: &str, found: String) -> RemoteError {
    RemoteError::Commit {
        remote: redacted(&op.remote),
        reference: op.reference.clone().unwrap_or_else(|| "HEAD".to_owned()),
        expected: expected.to_owned(),
        found,
    }
}

/// Asks the repository which commit a ref is. Branches come before tags, as `git checkout` has it.
async fn ask(git: &Git, op: &GitOp) -> Result<Commit, RemoteError> {
    let reference = op.reference.as_deref().unwrap_or("HEAD");
    let peeled = format!("{reference}^{{}}");
    let said = git.run("ask", Path::new("/"), &["ls-remote", "--", git.url(), reference, &peeled]).await?;
    find(&said, reference)
        .ok_or_else(|| RemoteError::Reference { remote: redacted(&op.remote), reference: reference.to_owned() })
}

fn find(listing: &str, reference: &str) -> Option<Commit> {
    let lines: Vec<_> = listing.lines().filter_map(|line| line.split_once('\t')).collect();
    let id_of = |name: &str| lines.iter().find(|(_, other)| *other == name).map(|(id, _)| (*id).to_owned());
    let candidates = match reference {
        "HEAD" => vec!["HEAD".to_owned()],
        name if name.starts_with("refs/") => vec![name.to_owned()],
        name => vec![format!("refs/{name}"), format!("refs/heads/{name}"), format!("refs/tags/{name}")],
    };
    candidates.into_iter().find_map(|name| {
        // An annotated tag is an object of its own; the commit is what it points to.
        let id = id_of(&format!("{name}^{{}}")).or_else(|| id_of(&name))?;
        is_commit(&id).then_some(Commit { id, reference: Some(name) })
    })
}

/// The name under which a mirror keeps a commit.
fn kept(commit: &Commit) -> String {
    format!("refs/rbuild/{}", commit.id)
}

async fn has(git: &Git, mirror: &Path, commit: &Commit) -> bool {
    git.run("look into the mirror of", mirror, &["cat-file", "-e", &format!("{}^{{commit}}", kept(commit))])
        .await
        .is_ok()
}

/// Brings a commit into the mirror, with as little of its past as the server allows.
async fn fetch(git: &Git, mirror: &Path, op: &GitOp, commit: &Commit) -> Result<(), RemoteError> {
    if has(git, mirror, commit).await {
        return Ok(());
    }
    let by_name = match &commit.reference {
        Some(name) if !op.fetch_by_commit => name.as_str(),
        _ => commit.id.as_str(),
    };
    let mut error = None;
    // A ref may have moved since it was asked for. Not every server gives out a commit by its name, or parts of a past.
    for wanted in [by_name, &commit.id] {
        for depth in [&["--depth=1"][..], &[]] {
            let refspec = format!("+{wanted}:{}", kept(commit));
            let mut arguments = vec!["fetch", "--quiet", "--no-tags", "--no-write-fetch-head"];
            arguments.extend(depth);
            arguments.extend(["--", git.url(), &refspec]);
            match git.run("fetch", mirror, &arguments).await {
                Ok(_) if is_right(git, mirror, commit).await => return Ok(()),
                Ok(_) => break,
                Err(failed) if failed.is_about_depth() => error = Some(failed),
                Err(failed) => {
                    error = Some(failed);
                    break;
                }
            }
        }
        if error.as_ref().is_some_and(|error| !error.is_about_commit()) {
            break;
        }
    }
    match error {
        Some(error) if !error.is_about_commit() => Err(error),
        _ => fetch_everything(git, mirror, op, commit).await,
    }
}

/// Whether what was fetched is the commit, or a tag of it. If not, it is forgotten.
async fn is_right(git: &Git, mirror: &Path, commit: &Commit) -> bool {
    let name = kept(commit);
    let found =
        git.run("look into the mirror of", mirror, &["rev-parse", "--verify", &format!("{name}^{{commit}}")]).await;
    if found.is_ok_and(|found| found.trim() == commit.id) {
        return true;
    }
    drop(git.run("change the mirror of", mirror, &["update-ref", "-d", &name]).await);
    false
}

/// All branches and tags with their whole past: for servers that give out nothing less.
async fn fetch_everything(git: &Git, mirror: &Path, op: &GitOp, commit: &Commit) -> Result<(), RemoteError> {
    let mut arguments = vec!["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--prune"];
    if mirror.join("shallow").exists() {
        arguments.push("--unshallow");
    }
    arguments.extend(["--", git.url(), "+refs/heads/*:refs/rbuild-heads/*", "+refs/tags/*:refs/rbuild-tags/*"]);
    git.run("fetch", mirror, &arguments).await?;
    let found =
        git.run("look into the mirror of", mirror, &["cat-file", "-e", &format!("{}^{{commit}}", commit.id)]).await;
    if found.is_err() {
        return Err(RemoteError::Reference { remote: redacted(&op.remote), reference: commit.id.clone() });
    }
    git.run("change the mirror of", mirror, &["update-ref", &kept(commit), &commit.id]).await.map(drop)
}

/// A checksum in full is believed before anybody is asked; here the ref, if there is one, has to agree.
async fn verify(git: &Git, mirror: &Path, op: &GitOp, commit: &Commit) -> Result<(), RemoteError> {
    let Some(reference) = op.reference.as_deref() else { return Ok(()) };
    let checked = format!("refs/rbuild-checked/{}/{}", commit.id, reference.trim_start_matches("refs/"));
    // Without a whole commit, the ref was asked for to begin with.
    if op.fetch_by_commit || op.commit().is_none() || is_commit(reference) {
        return Ok(());
    }
    let known = ["rev-parse", "--verify", "--quiet", &checked];
    if git.run("look into the mirror of", mirror, &known).await.is_ok() {
        return Ok(());
    }
    let found = ask(git, op).await?;
    if found.id != commit.id {
        return Err(mismatch(op, &commit.id, found.id));
    }
    git.run("change the mirror of", mirror, &["update-ref", &checked, &commit.id]).await.map(drop)
}

/// Makes a repository in `tree` and checks the commit out. Returns the time of the commit.
async fn populate(git: &Git, mirror: &Path, op: &GitOp, commit: &Commit, tree: &Path) -> Result<i64, RemoteError> {
    let run = async |arguments: &[&str]| git.run("check out", tree, arguments).await;
    run(&["init", "--quiet", "--template=", format_of(commit)]).await?;
    let reference = commit.reference.clone().or_else(|| op.reference.clone()).filter(|_| op.keep_git_dir);
    let mut refspec = kept(commit);
    if let Some(name) = reference.filter(|name| name.starts_with("refs/tags/") || name.starts_with("refs/heads/")) {
        refspec = format!("+{refspec}:{}", name.replacen("refs/heads/", "refs/remotes/origin/", 1));
    }
    let from = format!("file://{}", mirror.display());
    let depth = ["fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", "--", &from, &refspec];
    git.local().run("check out", tree, &depth).await?;
    run(&["checkout", "--quiet", "--detach", &commit.id]).await?;
    run(&["config", "remote.origin.url", git.url()]).await?;
    if op.submodules && tree.join(".gitmodules").is_file() {
        let shallow = ["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"];
        if git.run("fetch the submodules of", tree, &shallow).await.is_err() {
            git.run("fetch the submodules of", tree, &shallow[..5]).await?;
        }
    }
    if op.keep_git_dir {
        run(&["config", "remote.origin.url", &redacted(git.url())]).await?;
    }
    let time = run(&["show", "--no-patch", "--format=%ct", &commit.id]).await?;
    Ok(time.trim().parse().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a187_refs_are_found_as_git_does() {
        let (a, b, c) = ("a".repeat(40), "b".repeat(40), "c".repeat(40));
        let listing = format!(
            "{a}\tHEAD\n{a}\trefs/heads/main\n{b}\trefs/heads/x/main\n{b}\trefs/heads/both\n{c}\trefs/tags/both\n\
             {b}\trefs/tags/v1\n{c}\trefs/tags/v1^{{}}\n{c}\trefs/pull/1/head\n"
        );
        for (reference, expected) in [
            ("HEAD", Some((&a, "HEAD"))),
            ("main", Some((&a, "refs/heads/main"))),
            ("both", Some((&b, "refs/heads/both"))),
            ("tags/both", Some((&c, "refs/tags/both"))),
            ("refs/tags/both", Some((&c, "refs/tags/both"))),
            ("v1", Some((&c, "refs/tags/v1"))),
            ("refs/pull/1/head", Some((&c, "refs/pull/1/head"))),
            ("pull/1/head", Some((&c, "refs/pull/1/head"))),
            ("nothing", None),
        ] {
            let found = find(&listing, reference);
            let found = found.as_ref().map(|commit| (&commit.id, commit.reference.as_deref().unwrap()));
            assert_eq!(found, expected, "{reference}");
        }
    }
}
