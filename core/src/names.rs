//! What is in a directory, by name, if there are half a million names?
//!
//! Names that come in their order, as a walk finds them, lie one after the other in one piece of memory: a name takes its
//! bytes, two for its length and eight for its place and value. Those that come out of order wait in a tree of their own
//! until there are as many of them as of the others.

use std::collections::BTreeMap;
use std::collections::btree_map::Iter;
use std::iter::Peekable;

use crate::shelf::Shelved;

/// A map from names to small values, sorted by the names' bytes. No name is longer than 65,535 bytes.
#[derive(Clone, Debug)]
pub struct Names<V> {
    /// Each name after its length.
    text: Vec<u8>,
    /// Where a name is, and its value. The last name stays for good, so what waits is smaller than it.
    sorted: Vec<(u32, V)>,
    others: BTreeMap<Box<[u8]>, V>,
    /// How long the names of the others are, together.
    waiting: usize,
}

/// How many names wait at least before they are sorted in.
const FEW: usize = 32;

/// Says of a name that it was taken away.
const GONE: u32 = 1 << 31;

impl<V> Default for Names<V> {
    fn default() -> Self {
        Self { text: Vec::new(), sorted: Vec::new(), others: BTreeMap::new(), waiting: 0 }
    }
}

impl<V: Copy> Names<V> {
    /// The value of a name.
    pub fn find(&self, name: &[u8]) -> Option<V> {
        match self.place(name) {
            Ok(place) => Some(self.sorted[place]).filter(|(at, _)| at & GONE == 0).map(|(_, value)| value),
            Err(_) => self.others.get(name).copied(),
        }
    }

    /// Gives a name a value, and returns the one that it had.
    ///
    /// # Panics
    /// If there are more than two gigabytes of names, or one is longer than all kernels allow.
    pub fn insert(&mut self, name: &[u8], value: V) -> Option<V> {
        match self.place(name) {
            Ok(place) => {
                let (at, before) = self.sorted[place];
                self.sorted[place] = (at & !GONE, value);
                (at & GONE == 0).then_some(before)
            }
            Err(place) if place == self.sorted.len() => {
                let at = self.keep(name);
                self.sorted.push((at, value));
                None
            }
            Err(_) => {
                let before = self.others.insert(name.into(), value);
                if before.is_none() {
                    self.waiting += name.len();
                }
                if self.others.len() > FEW.max(self.sorted.len()) {
                    self.sort();
                }
                before
            }
        }
    }

    /// Takes a name away, and returns its value.
    pub fn remove(&mut self, name: &[u8]) -> Option<V> {
        match self.place(name) {
            Ok(place) => {
                let (at, before) = &mut self.sorted[place];
                let there = *at & GONE == 0;
                *at |= GONE;
                there.then_some(*before)
            }
            Err(_) => {
                let before = self.others.remove(name)?;
                self.waiting -= name.len();
                Some(before)
            }
        }
    }

    /// All names with their values, in their order.
    pub fn iter(&self) -> NamesIter<'_, V> {
        let (sorted, others) = (self.sorted.iter().peekable(), self.others.iter().peekable());
        NamesIter { text: &self.text, sorted, others }
    }

    /// How many bytes they take, about. Takes no longer if they are many.
    pub fn bytes(&self) -> usize {
        self.text.len() + self.sorted.len() * size_of::<(u32, V)>() + self.waiting
    }

    fn place(&self, name: &[u8]) -> Result<usize, usize> {
        // Most come in order.
        match self.sorted.last() {
            Some((at, _)) if text_at(&self.text, *at) < name => Err(self.sorted.len()),
            _ => self.sorted.binary_search_by(|(at, _)| text_at(&self.text, *at).cmp(name)),
        }
    }

    fn keep(&mut self, name: &[u8]) -> u32 {
        let at = u32::try_from(self.text.len()).ok().filter(|at| at & GONE == 0);
        let at = at.expect("there are less than two gigabytes of names");
        let length = u16::try_from(name.len()).expect("names are shorter than 64 KiB");
        self.text.extend_from_slice(&length.to_le_bytes());
        self.text.extend_from_slice(name);
        at
    }

    /// Puts those that wait into their places.
    fn sort(&mut self) {
        let others = std::mem::take(&mut self.others);
        self.waiting = 0;
        let others: Vec<(u32, V)> = others.iter().map(|(name, value)| (self.keep(name), *value)).collect();
        let sorted = std::mem::take(&mut self.sorted);
        let mut merged = Vec::with_capacity(sorted.len() + others.len());
        let (mut sorted, mut others) = (sorted.into_iter().peekable(), others.into_iter().peekable());
        while let Some((known, _)) = sorted.peek() {
            let known = *known;
            while let Some(other) = others.next_if(|(at, _)| text_at(&self.text, *at) < text_at(&self.text, known)) {
                merged.push(other);
            }
            merged.extend(sorted.next());
        }
        merged.extend(others);
        self.sorted = merged;
    }
}

fn text_at(text: &[u8], at: u32) -> &[u8] {
    let Some((length, rest)) = text[(at & !GONE) as usize..].split_first_chunk() else { return &[] };
    &rest[..usize::from(u16::from_le_bytes(*length))]
}

impl Shelved for Names<u32> {
    fn size(&self) -> usize {
        self.bytes()
    }

    fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in self.iter() {
            // No longer than that, or it would not be here.
            out.extend_from_slice(&(name.len() as u16).to_le_bytes());
            out.extend_from_slice(name);
            out.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn read(mut bytes: &[u8]) -> Self {
        let mut names = Self::default();
        while let Some((length, rest)) = bytes.split_first_chunk() {
            let (name, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)));
            let (value, rest) = rest.split_first_chunk().expect("a value follows its name");
            names.insert(name, u32::from_le_bytes(*value));
            bytes = rest;
        }
        names
    }
}

/// Goes through [`Names`].
pub struct NamesIter<'a, V> {
    text: &'a [u8],
    sorted: Peekable<std::slice::Iter<'a, (u32, V)>>,
    others: Peekable<Iter<'a, Box<[u8]>, V>>,
}

impl<V> std::fmt::Debug for NamesIter<'_, V> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("NamesIter").finish_non_exhaustive()
    }
}

impl<'a, V: Copy> Iterator for NamesIter<'a, V> {
    type Item = (&'a [u8], V);

    fn next(&mut self) -> Option<Self::Item> {
        while self.sorted.next_if(|(at, _)| at & GONE != 0).is_some() {}
        let next = self.sorted.peek().map(|(at, _)| text_at(self.text, *at));
        if let Some((name, value)) = self.others.next_if(|(name, _)| next.is_none_or(|next| &***name < next)) {
            return Some((name, *value));
        }
        self.sorted.next().map(|(at, value)| (text_at(self.text, *at), *value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers without order, the same every time.
    fn scattered(count: u32) -> impl Iterator<Item = u32> {
        (0..count).map(|number| number.wrapping_mul(2_654_435_761) % 5000)
    }

    #[test]
    fn names_in_any_order_are_those_of_a_map() {
        for orderly in [true, false] {
            let (mut names, mut expected) = (Names::default(), BTreeMap::new());
            let mut numbers: Vec<u32> = scattered(3000).collect();
            if orderly {
                numbers.sort_unstable();
            }
            for (step, number) in numbers.into_iter().enumerate() {
                let name = format!("{number}").into_bytes();
                if step % 7 == 3 {
                    assert_eq!(names.remove(&name), expected.remove(&name));
                } else {
                    assert_eq!(names.insert(&name, step as u32), expected.insert(name.clone(), step as u32));
                }
                assert_eq!(names.find(&name), expected.get(&name).copied());
                let others: usize = names.others.keys().map(|name| name.len()).sum();
                assert_eq!(names.bytes(), names.text.len() + 8 * names.sorted.len() + others);
            }
            let found =
                |names: &Names<u32>| names.iter().map(|(name, value)| (name.to_vec(), value)).collect::<Vec<_>>();
            let mut bytes = Vec::new();
            names.write(&mut bytes);
            assert_eq!(found(&Names::read(&bytes)), found(&names));
            assert_eq!(found(&names), expected.into_iter().collect::<Vec<_>>());
            assert_eq!(names.find(b"none"), None);
        }
    }

    #[test]
    fn a_name_that_comes_in_order_takes_ten_bytes_more_than_it_has() {
        let mut names = Names::default();
        for number in 0..10_000_u32 {
            names.insert(format!("{number:05}").as_bytes(), number);
        }
        assert!(names.others.is_empty());
        assert_eq!((names.text.len(), size_of_val(&*names.sorted)), (10_000 * 7, 10_000 * 8));
    }
}
