//! In which order are the changes of a stage made?

use std::collections::HashMap;
use std::ffi::OsStr;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rbuild_core::NamesIter;

use super::super::super::InnerPath;
use super::super::super::tree::Listed;
use super::super::stage::{Directory, Item, Mirror, Slot, Stage, What};

/// Files up to this size are read ahead.
pub(super) const SMALL: u64 = 128 << 10;

/// One change, before its content is read.
pub(super) struct Planned<'s> {
    pub(super) path: InnerPath,
    pub(super) what: Part<'s>,
}

/// An item of the stage, or one that was made to be carried out.
#[derive(Clone)]
pub(super) enum Held<'s> {
    Staged(&'s Item),
    Made(Arc<Item>),
}

impl Deref for Held<'_> {
    type Target = Item;

    fn deref(&self) -> &Item {
        match self {
            Self::Staged(item) => item,
            Self::Made(item) => item,
        }
    }
}

pub(super) enum Part<'s> {
    New {
        item: Held<'s>,
        /// Whether other names follow.
        linked: bool,
    },
    /// Another name of a file.
    Link {
        item: Held<'s>,
        target: InnerPath,
    },
    Removed,
    /// Of the directory before it.
    Opaque,
}

impl Planned<'_> {
    /// How many bytes will be held in memory for it.
    pub(super) fn small_size(&self) -> u64 {
        let Part::New { item, .. } = &self.what else { return 0 };
        match item.what {
            What::File { size, .. } if size <= SMALL => size,
            _ => 0,
        }
    }
}

/// What is left of a directory.
enum Entries<'s> {
    Staged(NamesIter<'s, Slot>),
    Mirrored(Box<Mirror>, Listed<'s>),
}

/// Goes through a stage, depth first, names by their bytes.
pub(super) struct Walk<'s, 'a> {
    stage: &'s Stage<'a>,
    open: Vec<(InnerPath, Entries<'s>)>,
    /// The root comes first, an opaque directory says so after it.
    waiting: Option<Planned<'s>>,
    /// Of files with several names the first: the number of its directory in `places`, and its name.
    first_names: HashMap<u32, (u32, &'s [u8])>,
    places: Vec<InnerPath>,
}

impl<'s, 'a> Walk<'s, 'a> {
    pub(super) fn new(stage: &'s Stage<'a>) -> Self {
        let item = stage.root();
        let waiting =
            Some(Planned { path: InnerPath::root(), what: Part::New { item: Held::Staged(item), linked: false } });
        let mut walk = Self { stage, open: Vec::new(), waiting, first_names: HashMap::new(), places: Vec::new() };
        if let What::Directory(directory) = &item.what {
            walk.open(InnerPath::root(), directory);
        }
        walk
    }

    /// Whether there is surely nothing more.
    pub(super) fn is_at_end(&self) -> bool {
        self.open.is_empty() && self.waiting.is_none()
    }

    fn file(&mut self, path: InnerPath, name: &'s [u8], id: u32) -> Planned<'s> {
        let item = self.stage.item(id);
        let held = Held::Staged(item);
        let what = match &item.what {
            What::Directory(directory) => {
                self.open(path.clone(), directory);
                if directory.opaque {
                    self.waiting = Some(Planned { path: path.clone(), what: Part::Opaque });
                }
                Part::New { item: held, linked: false }
            }
            What::File { .. } if item.names > 1 => match self.first_names.get(&id) {
                Some((place, name)) => {
                    let target = self.places[*place as usize].join(OsStr::from_bytes(name));
                    Part::Link { item: held, target }
                }
                None => {
                    let place = self.place();
                    self.first_names.insert(id, (place, name));
                    Part::New { item: held, linked: true }
                }
            },
            _ => Part::New { item: held, linked: false },
        };
        Planned { path, what }
    }

    /// The number of the directory that is open.
    fn place(&mut self) -> u32 {
        let Some((path, _)) = self.open.last() else { return 0 };
        if self.places.last() != Some(path) {
            self.places.push(path.clone());
        }
        (self.places.len() - 1) as u32
    }

    fn open(&mut self, path: InnerPath, directory: &'s Directory) {
        let entries = match &directory.mirror {
            Some(mirror) => Entries::Mirrored(mirror.clone(), self.stage.mirrored(mirror)),
            None => Entries::Staged(directory.iter()),
        };
        self.open.push((path, entries));
    }

    /// Something that a mirror shows.
    fn made(&mut self, path: InnerPath, item: Item) -> Planned<'s> {
        if let What::Directory(directory) = &item.what
            && let Some(mirror) = &directory.mirror
        {
            self.open.push((path.clone(), Entries::Mirrored(mirror.clone(), self.stage.mirrored(mirror))));
        }
        Planned { path, what: Part::New { item: Held::Made(Arc::new(item)), linked: false } }
    }
}

impl<'s> Iterator for Walk<'s, '_> {
    type Item = Planned<'s>;

    fn next(&mut self) -> Option<Planned<'s>> {
        if let Some(waiting) = self.waiting.take() {
            return Some(waiting);
        }
        loop {
            let stage = self.stage;
            let (path, entries) = self.open.last_mut()?;
            let next = match entries {
                Entries::Staged(entries) => {
                    entries.next().map(|(name, slot)| (path.join(OsStr::from_bytes(name)), name, slot))
                }
                Entries::Mirrored(mirror, listed) => {
                    let shown = listed.find_map(|(name, node)| {
                        stage.mirrored_item(mirror, &name, node).map(|item| (path.join(&name), item))
                    });
                    if let Some((path, item)) = shown {
                        return Some(self.made(path, item));
                    }
                    None
                }
            };
            let Some((path, name, slot)) = next else {
                self.open.pop();
                continue;
            };
            return Some(match slot {
                Slot::Item(id) => self.file(path, name, id),
                Slot::Source(from) => match stage.source_item(from, OsStr::from_bytes(name)) {
                    Some(item) => self.made(path, item),
                    None => continue,
                },
                Slot::Removed => Planned { path, what: Part::Removed },
            });
        }
    }
}
