//! In which order are the changes of a stage made?

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use rbuild_core::NamesIter;

use super::super::super::InnerPath;
use super::super::stage::{Item, Slot, Stage, What};

/// Files up to this size are read ahead.
pub(super) const SMALL: u64 = 128 << 10;

/// One change, before its content is read.
pub(super) struct Planned<'s> {
    pub(super) path: InnerPath,
    pub(super) what: Part<'s>,
}

pub(super) enum Part<'s> {
    New {
        item: &'s Item,
        /// Whether other names follow.
        linked: bool,
    },
    /// Another name of a file.
    Link {
        item: &'s Item,
        target: InnerPath,
    },
    Removed,
    /// Of the directory before it.
    Opaque,
}

impl Planned<'_> {
    /// How many bytes will be held in memory for it.
    pub(super) fn small_size(&self) -> u64 {
        match self.what {
            Part::New { item: Item { what: What::File { size, .. }, .. }, .. } if *size <= SMALL => *size,
            _ => 0,
        }
    }
}

/// Goes through a stage, depth first, names by their bytes.
pub(super) struct Walk<'s, 'a> {
    stage: &'s Stage<'a>,
    open: Vec<(InnerPath, NamesIter<'s, Slot>)>,
    /// The root comes first, an opaque directory says so after it.
    waiting: Option<Planned<'s>>,
    first_names: HashMap<u32, InnerPath>,
}

impl<'s, 'a> Walk<'s, 'a> {
    pub(super) fn new(stage: &'s Stage<'a>) -> Self {
        let item = stage.root();
        let path = InnerPath::root();
        let open = match &item.what {
            What::Directory(directory) => vec![(path.clone(), directory.iter())],
            _ => Vec::new(),
        };
        let waiting = Some(Planned { path, what: Part::New { item, linked: false } });
        Self { stage, open, waiting, first_names: HashMap::new() }
    }

    /// Whether there is surely nothing more.
    pub(super) fn is_at_end(&self) -> bool {
        self.open.is_empty() && self.waiting.is_none()
    }

    fn file(&mut self, path: InnerPath, id: u32) -> Planned<'s> {
        let item = self.stage.item(id);
        let what = match &item.what {
            What::Directory(directory) => {
                self.open.push((path.clone(), directory.iter()));
                if directory.opaque {
                    self.waiting = Some(Planned { path: path.clone(), what: Part::Opaque });
                }
                Part::New { item, linked: false }
            }
            What::File { .. } if item.names > 1 => match self.first_names.get(&id) {
                Some(target) => Part::Link { item, target: target.clone() },
                None => {
                    self.first_names.insert(id, path.clone());
                    Part::New { item, linked: true }
                }
            },
            _ => Part::New { item, linked: false },
        };
        Planned { path, what }
    }
}

impl<'s> Iterator for Walk<'s, '_> {
    type Item = Planned<'s>;

    fn next(&mut self) -> Option<Planned<'s>> {
        if let Some(waiting) = self.waiting.take() {
            return Some(waiting);
        }
        loop {
            let (path, entries) = self.open.last_mut()?;
            let Some((name, slot)) = entries.next() else {
                self.open.pop();
                continue;
            };
            let path = path.join(OsStr::from_bytes(name));
            return Some(match slot {
                Slot::Item(id) => self.file(path, id),
                Slot::Removed => Planned { path, what: Part::Removed },
            });
        }
    }
}
