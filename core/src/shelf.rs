//! Where is what is too much for memory, until it is asked for again?
//!
//! Things of 64 KiB and more are put on a shelf. As long as they are few they stay in memory. The others are written to a file
//! that has no name, and read from it again; those that were read last are kept for a while. So whoever holds a million
//! things that mostly are wanted in order takes the memory of a few.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What can be put on a [`Shelf`].
pub trait Shelved: Sized {
    /// About how many bytes of memory it takes.
    fn size(&self) -> usize;

    /// Adds bytes that [`read`](Self::read) makes the same thing of.
    fn write(&self, out: &mut Vec<u8>);

    /// What was written.
    fn read(bytes: &[u8]) -> Self;
}

impl Shelved for Vec<u8> {
    fn size(&self) -> usize {
        self.len()
    }

    fn write(&self, out: &mut Self) {
        out.extend_from_slice(self);
    }

    fn read(bytes: &[u8]) -> Self {
        bytes.to_vec()
    }
}

/// Makes the file, when there is too much for memory for the first time.
pub type MakeFile = Box<dyn Fn() -> io::Result<File> + Send + Sync>;

/// A place for more than there should be in memory.
pub struct Shelf<T> {
    make: MakeFile,
    /// None if it cannot be made.
    file: OnceLock<Option<File>>,
    /// How many bytes may still stay in memory.
    room: AtomicUsize,
    /// Where the next one is written.
    end: AtomicU64,
    /// By their places in the file.
    recent: Recent<T>,
    /// How many bytes were read from the file.
    read: AtomicU64,
}

/// The few things of many that were asked for last.
#[derive(Debug)]
pub struct Recent<T> {
    most: usize,
    /// The last one at the end.
    known: Mutex<Vec<(u64, Arc<T>)>>,
}

impl<T> Recent<T> {
    /// Remembers so many things.
    pub fn new(most: usize) -> Self {
        Self { most, known: Mutex::default() }
    }

    /// What belongs to `key`: what is remembered, or else what `read` returns.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn get<E>(&self, key: u64, read: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        if let Some(known) = self.known(key) {
            return Ok(known);
        }
        let new = Arc::new(read()?);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= self.most {
            known.remove(0);
        }
        known.push((key, new.clone()));
        Ok(new)
    }

    fn known(&self, key: u64) -> Option<Arc<T>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let place = known.iter().rposition(|(other, _)| *other == key)?;
        known[place..].rotate_left(1);
        known.last().map(|(_, known)| known.clone())
    }
}

/// Something on a [`Shelf`].
#[derive(Debug)]
pub struct OnShelf<T>(Place<T>);

#[derive(Debug)]
enum Place<T> {
    Memory(T),
    File { at: u64, length: usize },
}

/// Something that was on a [`Shelf`], in memory as long as this lives.
#[derive(Debug)]
pub enum Held<'a, T> {
    /// It had stayed there.
    Here(&'a T),
    /// It was read.
    Read(Arc<T>),
}

impl<T> OnShelf<T> {
    /// Whether it stayed in memory.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.0, Place::Memory(_))
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Here(here) => here,
            Self::Read(read) => read,
        }
    }
}

impl<T: Shelved> Shelf<T> {
    /// A shelf that keeps about `memory` bytes in memory before anything is written to a file, and then so many of the things
    /// that were read again.
    pub fn new(memory: usize, recent: usize, make: MakeFile) -> Self {
        let (room, end, recent) = (AtomicUsize::new(memory), AtomicU64::new(0), Recent::new(recent));
        Self { make, file: OnceLock::new(), room, end, recent, read: AtomicU64::new(0) }
    }

    /// Takes something. Without a file, or room in it, it stays in memory.
    pub fn put(&self, thing: T) -> OnShelf<T> {
        let size = thing.size();
        let fits = |room: usize| room.checked_sub(size);
        if self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok() {
            return OnShelf(Place::Memory(thing));
        }
        match self.write(&thing) {
            Some((at, length)) => OnShelf(Place::File { at, length }),
            None => OnShelf(Place::Memory(thing)),
        }
    }

    fn write(&self, thing: &T) -> Option<(u64, usize)> {
        let file = self.file.get_or_init(|| (self.make)().ok()).as_ref()?;
        let mut bytes = Vec::with_capacity(thing.size());
        thing.write(&mut bytes);
        let at = self.end.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        file.write_all_at(&bytes, at).ok()?;
        Some((at, bytes.len()))
    }

    /// How many times all that is in the file was read from it, rounded down.
    pub fn times_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed).checked_div(self.end.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// What was put there.
    ///
    /// # Panics
    /// The file was written, and cannot be read any more.
    pub fn get<'a>(&self, thing: &'a OnShelf<T>) -> Held<'a, T> {
        let (at, length) = match &thing.0 {
            Place::Memory(here) => return Held::Here(here),
            Place::File { at, length } => (*at, *length),
        };
        let read = || {
            let mut bytes = vec![0; length];
            self.read.fetch_add(length as u64, Ordering::Relaxed);
            let file = self.file.get().and_then(Option::as_ref).expect("only a file gives out places in it");
            file.read_exact_at(&mut bytes, at).map(|()| T::read(&bytes))
        };
        Held::Read(self.recent.get(at, read).expect("what this process has written can be read"))
    }
}

impl<T> std::fmt::Debug for Shelf<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shelf").field("room", &self.room).field("end", &self.end).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: usize) -> Vec<u8> {
        vec![number as u8; 100 + number]
    }

    #[test]
    fn everything_comes_back_from_memory_and_from_the_file() {
        let shelf = Shelf::new(1000, 48, Box::new(tempfile::tempfile));
        let things: Vec<_> = (0..200).map(|number| shelf.put(text(number))).collect();
        let in_memory = things.iter().filter(|thing| matches!(thing.0, Place::Memory(_))).count();
        assert_eq!(in_memory, 9, "of 100 bytes and some more each");
        for number in (0..200).chain([0, 199, 100, 100, 50]) {
            assert_eq!(*shelf.get(&things[number]), text(number));
        }
        assert_eq!(shelf.recent.known.lock().unwrap().len(), 48);
        assert_eq!(shelf.times_read(), 1);
    }

    #[test]
    fn what_is_held_stays_though_others_are_read() {
        let shelf = Shelf::new(0, 48, Box::new(tempfile::tempfile));
        let things: Vec<_> = (0..100).map(|number| shelf.put(text(number))).collect();
        let held = shelf.get(&things[7]);
        for (number, thing) in things.iter().enumerate() {
            assert_eq!(*shelf.get(thing), text(number));
        }
        assert_eq!(*held, text(7));
    }

    #[test]
    fn without_a_file_everything_stays_in_memory() {
        let shelf = Shelf::new(0, 48, Box::new(|| Err(io::ErrorKind::StorageFull.into())));
        let things: Vec<_> = (0..100).map(|number| shelf.put(text(number))).collect();
        assert!(things.iter().enumerate().all(|(number, thing)| *shelf.get(thing) == text(number)));
    }

    #[test]
    fn a_full_disk_is_as_none() {
        // Nothing can be written to it.
        let shelf = Shelf::new(0, 48, Box::new(|| File::open("/dev/null")));
        let thing = shelf.put(text(3));
        assert!(matches!(thing.0, Place::Memory(_)));
        assert_eq!(*shelf.get(&thing), text(3));
    }
}
