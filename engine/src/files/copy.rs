//! How are `COPY`, `ADD` and `WORKDIR` carried out?
//!
//! For each source in turn: find what it names (`select`), decide where that goes (`plan`), then copy it (`transfer`,
//! `unpack`, `write`). Everything on the image's side happens inside its [`Root`], as the image's links have it.
//!
//! Who gets which metadata:
//!
//! | what | owner | mode | time |
//! |---|---|---|---|
//! | copies | `--chown`, else the source's (`COPY --from`) or root | the source's, changed by `--chmod` | the source's |
//! | the destination directory, if it is there already | its own | its own | that of the directory copied to it |
//! | directories made on the way | `--chown` or root | 0755, or octal `--chmod` without special bits | now |
//! | what an archive has | `--chown`, else the archive's | the archive's | the archive's |
//! | heredocs | `--chown` or root | 0644, changed by `--chmod` | now |
//!
//! "Now" is the action's own time if it has one. Sub-directories that are there already get the metadata of the
//! source's; with `--parents`, directories that are only on the way get its mode.

mod error;
mod mirror;
mod mode;
mod owner;
mod plan;
mod transfer;
mod unpack;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::time::{SystemTime, UNIX_EPOCH};

pub use error::CopyError;
pub use mirror::mirror;
pub use mode::ModeError;
pub use owner::OwnerError;
use rbuild_image::archive;
use rbuild_solver::graph::{CopyAction, CopySource, Owner, Unpack};

use self::mode::ModeChange;
use self::owner::{Ids, resolve_owner};
use self::plan::{PlaceError, Placement, Shape, place};
use self::transfer::{Rules, Tally, Transfer};
use self::unpack::Unpacker;
pub(crate) use self::unpack::unpack_context;
use self::write::{DirectoryMeta, Meta, Writer, write_all};
use super::select::{Match, Parents, matches};
use super::tree::{SourceTree, resolve_source};
use super::walk::{Filter, walk};
use super::{Attributes, Exclude, InnerPath, Kind, Node, Root, Timestamp, resolve};

/// The trees that an action copies from, by the number of the input.
pub type Sources<'a> = BTreeMap<usize, &'a dyn SourceTree>;

/// What a copy did.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Copied {
    /// How many files, links and devices were made.
    pub files: u64,
    /// How many bytes of content.
    pub bytes: u64,
    /// Files that were not any more what the scan had seen: what was copied is not what the cache key says.
    pub changed: Vec<InnerPath>,
}

/// Carries out a copy. `report` is told of bytes as they are written, by any thread.
///
/// # Errors
/// The first thing that cannot be done; what was copied before it stays.
pub fn apply(
    action: &CopyAction,
    sources: &Sources<'_>,
    image: &Root,
    report: &(dyn Fn(u64) + Sync),
) -> Result<Copied, CopyError> {
    let owner = action.owner.as_ref().map(|owner| resolve_owner(owner, image)).transpose()?;
    let mode = ModeChange::new(action.mode.as_ref())?;
    let now = action.mtime.map_or_else(now, Timestamp::seconds);
    let parents = Meta { ids: owner.unwrap_or_default(), mode: mode.of_parents(), mtime: now };
    let writer = Writer::new(image, parents);
    let tally = Tally::default();
    let copy = Copy {
        action,
        destination: InnerPath::new(&action.destination),
        exclude: Exclude::new(&action.exclude)?,
        owner,
        rules: Rules { ids: owner.or_else(|| (!action.preserve_owner).then(Ids::default)), mode },
        writer: &writer,
        tally: &tally,
        report,
    };
    for source in &action.sources {
        match source {
            CopySource::Inline { name, data } => copy.inline(name, data, now)?,
            CopySource::Path { input, path, written } => {
                let tree = *sources.get(input).ok_or(CopyError::NoInput(*input))?;
                let mut transfer = Transfer::new(&writer, tree, &copy.rules, &tally, report);
                if action.parents {
                    copy.with_parents(&mut transfer, path, written)?;
                } else {
                    copy.matches(&mut transfer, path, written)?;
                }
                transfer.flush()?;
            }
        }
    }
    writer.finish()?;
    Ok(tally.into_copied())
}

/// Makes a directory with its parents; if it is there, nothing happens.
///
/// # Errors
/// If something else is in its place, or it cannot be made.
pub fn make_directory(path: &str, owner: Option<&Owner>, mtime: Option<i64>, image: &Root) -> Result<(), CopyError> {
    let ids = owner.map(|owner| resolve_owner(owner, image)).transpose()?.unwrap_or_default();
    let mtime = mtime.map_or_else(now, Timestamp::seconds);
    let placement = placed(image, &InnerPath::new(path), true, Shape::Contents).map_err(|error| match error {
        CopyError::NotADirectory { path } => CopyError::Blocked { path },
        other => other,
    })?;
    match placement {
        Placement::Into { path, exists: false } => {
            let writer = Writer::new(image, Meta { ids, mode: 0o755, mtime });
            writer.directory(&path, writer.parents)?;
            writer.finish()
        }
        Placement::Into { .. } | Placement::At(_) => Ok(()),
    }
}

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX), nanoseconds: now.subsec_nanos() }
}

fn placed(image: &Root, path: &InnerPath, into_directory: bool, shape: Shape<'_>) -> Result<Placement, CopyError> {
    place(image, path, into_directory, shape).map_err(|error| match error {
        PlaceError::NotADirectory(path) => CopyError::NotADirectory { path },
        PlaceError::Read(path, source) => CopyError::Write { path, source },
    })
}

/// One action under way.
struct Copy<'a> {
    action: &'a CopyAction,
    destination: InnerPath,
    exclude: Exclude,
    owner: Option<Ids>,
    rules: Rules,
    writer: &'a Writer<'a>,
    tally: &'a Tally,
    report: &'a (dyn Fn(u64) + Sync),
}

impl Copy<'_> {
    fn inline(&self, name: &str, data: &[u8], now: Timestamp) -> Result<(), CopyError> {
        let path = self.place_for(OsStr::new(name))?;
        let place = self.writer.directory(&path.parent().unwrap_or_default(), self.writer.parents)?;
        let meta =
            Meta { ids: self.owner.unwrap_or_default(), mode: self.rules.mode.apply(0o644, Kind::File), mtime: now };
        self.writer.file(&place, path.name(), meta, &Attributes::default(), |file| {
            write_all(file, data).map_err(|error| CopyError::Write { path: path.clone(), source: error.into() })
        })?;
        self.tally.add(data.len() as u64);
        (self.report)(data.len() as u64);
        Ok(())
    }

    fn matches(&self, transfer: &mut Transfer<'_>, pattern: &str, written: &str) -> Result<(), CopyError> {
        for found in matches(transfer.source, pattern, self.action.wildcards)? {
            let Some(node) = &found.node else {
                return Err(absent(transfer.source, &found, pattern, written));
            };
            if node.is_directory() {
                self.directory(transfer, &found.path, node, None)?;
                continue;
            }
            if node.kind == Kind::Socket {
                continue;
            }
            if self.action.unpack == Unpack::Archives && node.kind == Kind::File && self.unpack(transfer, &found)? {
                continue;
            }
            transfer.single(&found.path, node, &self.place_for(&found.name)?)?;
        }
        Ok(())
    }

    fn with_parents(&self, transfer: &mut Transfer<'_>, pattern: &str, written: &str) -> Result<(), CopyError> {
        let parents = Parents::new(pattern, self.action.wildcards)?;
        let before = transfer.shown;
        for found in matches(transfer.source, parents.pivot, self.action.wildcards)? {
            if let Some(node) = found.node.as_ref().filter(|node| node.is_directory()) {
                self.directory(transfer, &found.path, node, Some(&parents))?;
            }
        }
        match &parents.required {
            Some(path) if transfer.shown == before => {
                let read = |source| CopyError::Read { path: path.clone(), source };
                let there = resolve_source(transfer.source, path).map_err(read)?.node.is_some();
                let excluded = !self.action.exclude.is_empty() && there;
                // A directory without entries is shown as well, so only the root's own can be empty.
                if excluded || path.is_root() {
                    return Ok(());
                }
                Err(not_found(transfer.source, path, shown(pattern, written)))
            }
            _ => Ok(()),
        }
    }

    /// Copies the contents of a directory, or what `parents` selects of them.
    fn directory(
        &self,
        transfer: &mut Transfer<'_>,
        directory: &InnerPath,
        node: &Node,
        parents: Option<&Parents<'_>>,
    ) -> Result<(), CopyError> {
        transfer.flush()?;
        let placement = placed(self.writer.image, &self.destination, true, Shape::Contents)?;
        let Placement::Into { path, exists } = placement else { return Ok(()) };
        let place = self.writer.directory(&path, self.writer.parents)?;
        // Contents give the destination their directory's time, so that the same copy gives the same layer.
        let mtime = self.action.mtime.filter(|_| !exists).map_or(node.mtime, Timestamp::seconds);
        self.writer.later(path, DirectoryMeta { mtime: Some(mtime), ..DirectoryMeta::default() });
        transfer.begin(directory, place)?;
        let include = parents.and_then(|parents| parents.include.as_ref());
        let tree = transfer.source;
        walk(tree, directory, Filter { exclude: &self.exclude.0, include }, transfer)?;
        transfer.end()
    }

    /// Unpacks a file if it is an archive; says whether it was one.
    fn unpack(&self, transfer: &mut Transfer<'_>, found: &Match) -> Result<bool, CopyError> {
        let unread = |source| CopyError::Read { path: found.path.clone(), source };
        let file = File::from(transfer.source.root().open_to_read(&found.path).map_err(unread)?);
        let Some(tar) = archive::open(file).map_err(unread)? else { return Ok(false) };
        // It may put links where directories were that are still open.
        transfer.end()?;
        let placement = placed(self.writer.image, &self.destination, true, Shape::Contents)?;
        let Placement::Into { path, .. } = placement else { return Ok(true) };
        let place = self.writer.directory(&path, Meta { mode: 0o755, ..self.writer.parents })?;
        let unpacker = Unpacker {
            writer: self.writer,
            archive: &found.path,
            into: &place.path,
            owner: self.owner,
            tally: self.tally,
            report: self.report,
        };
        unpacker.unpack(tar)?;
        Ok(true)
    }

    /// Where something that is no directory goes.
    fn place_for(&self, name: &OsStr) -> Result<InnerPath, CopyError> {
        let CopyAction { into_directory, sources, destination, .. } = self.action;
        let shape = Shape::Single(name);
        let Placement::At(path) = placed(self.writer.image, &self.destination, *into_directory, shape)? else {
            return Err(CopyError::NotADirectory { path: self.destination.clone() });
        };
        if sources.len() > 1 && !into_directory && self.is_destination(&path)? {
            return Err(CopyError::SeveralToOne { destination: destination.clone() });
        }
        Ok(path)
    }

    fn is_destination(&self, path: &InnerPath) -> Result<bool, CopyError> {
        let found = resolve(self.writer.image, &self.destination, true)
            .map_err(|source| CopyError::Write { path: self.destination.clone(), source })?;
        Ok(found.path == *path)
    }
}

/// The error for a match that is not there.
fn absent(tree: &dyn SourceTree, found: &Match, pattern: &str, written: &str) -> CopyError {
    let literal = InnerPath::new(pattern);
    let path = shown(pattern, written);
    if found.path == literal || found.path.name() == found.name {
        return not_found(tree, &literal, path);
    }
    let hidden_by = tree.hidden_by(&literal).or_else(|| tree.hidden_by(&found.path));
    CopyError::Dangling { path, leads_to: found.path.clone(), hidden_by }
}

fn not_found(tree: &dyn SourceTree, literal: &InnerPath, path: String) -> CopyError {
    let hidden_by = tree.hidden_by(literal);
    let nearest = if hidden_by.is_none() { nearest_entry(tree, literal) } else { None };
    CopyError::NotFound { path, hidden_by, nearest }
}

/// What the author of a path may have meant: an entry of the same directory with a similar name.
fn nearest_entry(tree: &dyn SourceTree, literal: &InnerPath) -> Option<String> {
    let parent = literal.parent()?;
    let directory = resolve_source(tree, &parent).ok()?;
    directory.node.filter(Node::is_directory)?;
    let entries = tree.list(&directory.path).ok()?;
    let known = entries.iter().filter_map(|(name, _)| name.to_str());
    let nearest = rbuild_frontend::nearest(literal.name().to_str()?, known)?;
    Some(parent.join(OsStr::new(&nearest)).as_relative().display().to_string())
}

/// How a source that was not found is called: as the image or context has it, not as it may have been abbreviated.
fn shown(pattern: &str, written: &str) -> String {
    if pattern.is_empty() { written.trim_start_matches('/').to_owned() } else { pattern.to_owned() }
}
