//! How are `COPY`, `ADD` and `WORKDIR` carried out?
//!
//! First everything is planned, on a [`Stage`] over the image as it is: for each source in turn, find what it names
//! (`select`), decide where that goes (`plan`), put it there (`transfer`, `unpack`, `stage`). Then the plan is carried
//! out (`carry`), in the order of a layer's changes: each content is read once and given to a [`Sink`], which makes a
//! layer, or writes into a directory (`directory`, `write`).
//!
//! Who gets which metadata:
//!
//! | what | owner | mode | time |
//! |---|---|---|---|
//! | copies | `--chown`, else the source's (`COPY --from`) or root | the source's, changed by `--chmod` | the source's |
//! | the destination directory, if it is there already | its own | its own | that of the directory copied to it |
//! | directories that something is put into | their own | their own | now |
//! | directories made on the way | `--chown` or root | 0755, or octal `--chmod` without special bits | now |
//! | what an archive has | `--chown`, else the archive's | the archive's | the archive's |
//! | heredocs | `--chown` or root | 0644, changed by `--chmod` | now |
//!
//!
//! "Now" is the action's own time if it has one. Sub-directories that are there already get the metadata of the
//! source's; with `--parents`, directories that are only on the way get its mode.

mod carry;
mod destination;
mod directory;
mod error;
mod mirror;
mod mode;
mod owner;
mod plan;
mod stage;
mod transfer;
mod unpack;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufReader, Seek};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

pub use carry::{Bytes, Filling, Former, Sink};
pub use error::CopyError;
pub use mirror::mirror;
pub use mode::ModeError;
pub use owner::OwnerError;
use rbuild_image::{LayerError, LayerReader, archive};
use rbuild_solver::graph::{CopyAction, CopySource, Owner, Unpack};
use rustix::fd::AsFd;
pub use stage::Stage;

use self::directory::DirectorySink;
use self::mode::ModeChange;
use self::owner::{Ids, resolve_owner};
use self::plan::{PlaceError, Placement, Shape, place};
use self::stage::{Archive, Content, Inline};
use self::transfer::{Rules, Transfer};
use self::unpack::Unpacker;
pub(crate) use self::unpack::unpack_context;
use self::write::{DirectoryMeta, Meta};
use super::content::Reader;
use super::root::node_of;
use super::select::{Match, Parents, matches};
use super::tree::{Seen, SourceTree, resolve_source};
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

/// Carries out a copy in a directory. `report` is told of bytes as they are written.
///
/// # Errors
/// The first thing that cannot be done.
pub fn apply(
    action: &CopyAction,
    sources: &Sources<'_>,
    image: &Root,
    report: &dyn Fn(u64),
) -> Result<Copied, CopyError> {
    let mut stage = Stage::over(Some(image), None)?;
    stage.copy(action, sources)?;
    carry_out_in(&stage, image, report)
}

/// Carries out a plan in a directory.
fn carry_out_in(stage: &Stage<'_>, image: &Root, report: &dyn Fn(u64)) -> Result<Copied, CopyError> {
    let mut sink = DirectorySink::new(image);
    let copied = stage.carry_out(&mut sink, report)?;
    sink.finish()?;
    Ok(copied)
}

impl<'a> Stage<'a> {
    /// An image as it is, with nothing planned yet. `scratch` is a directory for what has to be unpacked to be seen;
    /// without one that goes where temporary files go.
    ///
    /// # Errors
    /// The image's root directory cannot be read.
    pub fn over(below: Option<&'a Root>, scratch: Option<PathBuf>) -> Result<Self, CopyError> {
        Self::new(below, scratch).map_err(|source| CopyError::Read { path: InnerPath::root(), source })
    }

    /// Plans a copy. Nothing is read but directories, archives, and what names owners.
    ///
    /// # Errors
    /// The first thing that cannot be done. The stage is of no use then.
    pub fn copy(&mut self, action: &CopyAction, sources: &Sources<'a>) -> Result<(), CopyError> {
        let owner = action.owner.as_ref().map(|owner| self.resolve_owner(owner)).transpose()?;
        let mode = ModeChange::new(action.mode.as_ref())?;
        let now = action.mtime.map_or_else(now, Timestamp::seconds);
        self.at(now);
        let parents = Meta { ids: owner.unwrap_or_default(), mode: mode.of_parents(), mtime: now };
        let copy = Copy {
            action,
            destination: InnerPath::new(&action.destination),
            exclude: Exclude::new(&action.exclude)?,
            owner,
            rules: Rules { ids: owner.or_else(|| (!action.preserve_owner).then(Ids::default)), mode, parents },
        };
        for source in &action.sources {
            match source {
                CopySource::Inline { name, data } => copy.inline(self, name, data, now)?,
                CopySource::Path { input, path, written } => {
                    let tree = *sources.get(input).ok_or(CopyError::NoInput(*input))?;
                    let mut transfer = Transfer::new(self, tree, &copy.rules);
                    if action.parents {
                        copy.with_parents(&mut transfer, path, written)?;
                    } else {
                        copy.matches(&mut transfer, path, written)?;
                    }
                }
            }
        }
        self.finish()
    }

    /// Plans a directory with its parents; if it is there, nothing happens.
    ///
    /// # Errors
    /// If something else is in its place.
    pub fn make_directory(&mut self, path: &str, owner: Option<&Owner>, mtime: Option<i64>) -> Result<(), CopyError> {
        let ids = owner.map(|owner| self.resolve_owner(owner)).transpose()?.unwrap_or_default();
        let mtime = mtime.map_or_else(now, Timestamp::seconds);
        let placement = placed(self, &InnerPath::new(path), true, Shape::Contents).map_err(|error| match error {
            CopyError::NotADirectory { path } => CopyError::Blocked { path },
            other => other,
        })?;
        if let Placement::Into { path, exists: false } = placement {
            self.at(mtime);
            self.directory(&path, Meta { ids, mode: 0o755, mtime })?;
            self.finish()?;
        }
        Ok(())
    }

    fn resolve_owner(&self, owner: &Owner) -> Result<Ids, OwnerError> {
        resolve_owner(owner, &|file, limit| self.read_small(file, limit))
    }
}

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX), nanoseconds: now.subsec_nanos() }
}

fn placed(image: &Stage<'_>, path: &InnerPath, into_directory: bool, shape: Shape<'_>) -> Result<Placement, CopyError> {
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
}

impl Copy<'_> {
    fn inline(&self, stage: &mut Stage<'_>, name: &str, data: &[u8], now: Timestamp) -> Result<(), CopyError> {
        let path = self.place_for(stage, OsStr::new(name))?;
        let place = path.parent().unwrap_or_default();
        stage.directory(&place, self.rules.parents)?;
        let meta =
            Meta { ids: self.owner.unwrap_or_default(), mode: self.rules.mode.apply(0o644, Kind::File), mtime: now };
        let content = Content::Bytes(Box::new(Inline(data.to_vec())));
        stage.file(&place, path.name(), meta, Attributes::default(), data.len() as u64, content)
    }

    fn matches(&self, transfer: &mut Transfer<'_, '_>, pattern: &str, written: &str) -> Result<(), CopyError> {
        for found in matches(transfer.source, pattern, self.action.wildcards)? {
            let found = found?;
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
            let place = self.place_for(transfer.stage, &found.name)?;
            transfer.single(&found.path, node, &place)?;
        }
        Ok(())
    }

    fn with_parents(&self, transfer: &mut Transfer<'_, '_>, pattern: &str, written: &str) -> Result<(), CopyError> {
        let parents = Parents::new(pattern, self.action.wildcards)?;
        let before = transfer.shown;
        for found in matches(transfer.source, parents.pivot, self.action.wildcards)? {
            let found = found?;
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
        transfer: &mut Transfer<'_, '_>,
        directory: &InnerPath,
        node: &Node,
        parents: Option<&Parents<'_>>,
    ) -> Result<(), CopyError> {
        let placement = placed(transfer.stage, &self.destination, true, Shape::Contents)?;
        let Placement::Into { path, exists } = placement else { return Ok(()) };
        transfer.stage.directory(&path, self.rules.parents)?;
        // Contents give the destination their directory's time, so that the same copy gives the same layer.
        let mtime = self.action.mtime.filter(|_| !exists).map_or(node.mtime, Timestamp::seconds);
        transfer.stage.later(path.clone(), DirectoryMeta { mtime: Some(mtime), ..DirectoryMeta::default() });
        let include = parents.and_then(|parents| parents.include.as_ref());
        if include.is_none() && self.action.exclude.is_empty() && transfer.whole(directory, &path)? {
            transfer.end();
            return Ok(());
        }
        transfer.begin(directory, path);
        let tree = transfer.source;
        walk(tree, directory, Filter { exclude: &self.exclude.0, include }, transfer)?;
        transfer.end();
        Ok(())
    }

    /// Unpacks a file if it is an archive; says whether it was one.
    fn unpack(&self, transfer: &mut Transfer<'_, '_>, found: &Match) -> Result<bool, CopyError> {
        let unread = |source| CopyError::Read { path: found.path.clone(), source };
        let mut file = File::from(transfer.source.root().open_to_read(&found.path).map_err(unread)?);
        let again = file.try_clone().map_err(unread)?;
        let now = node_of(again.as_fd()).map_err(unread)?;
        let Some(tar) = archive::open(&file).map_err(unread)? else { return Ok(false) };
        if !unpack::is_archive(tar).map_err(unread)? {
            return Ok(false);
        }
        // It may put links where directories were that the last single file went to.
        transfer.end();
        let stage = &mut *transfer.stage;
        let placement = placed(stage, &self.destination, true, Shape::Contents)?;
        let Placement::Into { path, .. } = placement else { return Ok(true) };
        let parents = Meta { mode: 0o755, ..self.rules.parents };
        stage.directory(&path, parents)?;
        let mut start = [0; archive::Format::MAGIC];
        let length = again.read_at(&mut start, 0).map_err(unread)?;
        let is_plain = archive::Format::detect(&start[..length]) == archive::Format::Plain;
        let changed = match transfer.source.known(&found.path) {
            Some(seen) => is_other(transfer.source.root(), &found.path, &now, &seen)?,
            None => false,
        };
        let size = now.size;
        let archive = Archive { file: again, source: Some((found.path.clone(), now)) };
        if changed {
            stage.changed.push(found.path.clone());
        }
        // What was read to look at it has moved it on.
        file.rewind().map_err(unread)?;
        // A plain one is read once more when the plan is carried out, and looked at after that.
        let mut unpacker = Unpacker { image: stage, archive: &found.path, into: &path, owner: self.owner, parents };
        if is_plain {
            unpacker.image.archive(Some(archive));
            unpacker.unpack(LayerReader::literal_in_file(BufReader::with_capacity(64 << 10, file), size))?;
        } else {
            unpacker.image.archive(None);
            let Some(tar) = archive::open(file).map_err(unread)? else {
                // It was another file a moment ago.
                return Err(CopyError::Archive { archive: found.path.clone(), source: LayerError::Header(0) });
            };
            unpacker.unpack(LayerReader::literal(tar))?;
            if !changed && archive.has_changed()? {
                stage.changed.push(found.path.clone());
            }
        }
        Ok(true)
    }

    /// Where something that is no directory goes.
    fn place_for(&self, stage: &Stage<'_>, name: &OsStr) -> Result<InnerPath, CopyError> {
        let CopyAction { into_directory, sources, destination, .. } = self.action;
        let shape = Shape::Single(name);
        let Placement::At(path) = placed(stage, &self.destination, *into_directory, shape)? else {
            return Err(CopyError::NotADirectory { path: self.destination.clone() });
        };
        if sources.len() > 1 && !into_directory && self.is_destination(stage, &path)? {
            return Err(CopyError::SeveralToOne { destination: destination.clone() });
        }
        Ok(path)
    }

    fn is_destination(&self, stage: &Stage<'_>, path: &InnerPath) -> Result<bool, CopyError> {
        let found = resolve(stage, &self.destination, true)
            .map_err(|source| CopyError::Write { path: self.destination.clone(), source })?;
        Ok(found.path == *path)
    }
}

/// Whether an open file is not what a scan has seen.
fn is_other(root: &Root, path: &InnerPath, now: &Node, seen: &Seen) -> Result<bool, CopyError> {
    let Some(expected) = seen.digest.filter(|_| !(seen.settled && now.same_version(&seen.node))) else {
        return Ok(!now.same_content(&seen.node));
    };
    let read = Reader::new(root).read(&[(path, now)]).map_err(|(path, source)| CopyError::Read { path, source })?;
    Ok(read.iter().any(|(digest, read)| *digest != expected || !read.same_version(now)))
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
