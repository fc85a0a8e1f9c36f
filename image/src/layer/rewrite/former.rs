//! What has the tar that was written before?
//!
//! Of its index eight bytes for each part are in memory, which say where to look. The index itself is read where a part
//! may be, some thousand parts at a time: most parts are asked for in the order in which they are.

use std::io;
use std::ops::Range;

use rbuild_core::Recent;

use super::super::writer::State;
use super::index::{HEADER, MAGIC, NAMELESS, PART, STATE, Short};
use super::{BLOCK, PartDigest, ReadAt};

/// How many parts are read together, and how many times that is in memory.
const GROUP: usize = 1024;
const GROUPS: usize = 16;

/// A tar that was written before.
#[derive(Debug)]
pub struct FormerTar<R> {
    /// The beginnings of digests, in order, and the numbers of their parts.
    places: Vec<(u32, u32)>,
    /// In blocks, where each group begins.
    starts: Vec<u64>,
    groups: Recent<Vec<Part>>,
    count: usize,
    states: Vec<(u64, State)>,
    index: R,
    pub(super) tar: R,
}

/// A part as a group has it.
#[derive(Clone, Copy, Debug)]
struct Part {
    digest: Short,
    /// In blocks, from where the group begins.
    start: u64,
    blocks: u32,
}

/// A part of a former tar.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Found {
    pub(super) digest: Short,
    start: u32,
    blocks: u32,
}

impl Found {
    pub(super) fn bytes(&self) -> Range<u64> {
        let start = u64::from(self.start) * BLOCK;
        start..start + u64::from(self.blocks) * BLOCK
    }
}

impl<R: ReadAt> FormerTar<R> {
    /// `index` has `length` bytes, which [`TarIndex::write`](super::TarIndex::write) wrote; `None` if they are other bytes.
    /// Whoever keeps them makes sure that they come back whole, and stay.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn new(index: R, length: u64, tar: R) -> io::Result<Option<Self>> {
        let mut header = [0; HEADER];
        if length < HEADER as u64 {
            return Ok(None);
        }
        index.read_exact_at(&mut header, 0)?;
        let [count, states] = [16, 24].map(|at| number(&header[at..]));
        let behind = count.checked_mul(PART as u64).and_then(|length| length.checked_add(HEADER as u64));
        let end = behind.zip(states.checked_mul(STATE as u64)).and_then(|(behind, states)| behind.checked_add(states));
        let (Ok(count), Some(behind), true) =
            (u32::try_from(count), behind, header.starts_with(MAGIC) && end == Some(length))
        else {
            return Ok(None);
        };
        let count = count as usize;
        let mut former = Self {
            places: Vec::with_capacity(count),
            starts: Vec::with_capacity(count / GROUP + 1),
            groups: Recent::new(GROUPS),
            count,
            states: Vec::new(),
            index,
            tar,
        };
        let mut start = 0;
        for group in 0..count.div_ceil(GROUP) {
            former.starts.push(start);
            let parts = former.read_group(group)?;
            for (place, part) in parts.iter().enumerate().filter(|(_, part)| part.digest != NAMELESS) {
                former.places.push((beginning(&part.digest), (group * GROUP + place) as u32));
            }
            start += parts.last().map_or(0, |part| part.start + u64::from(part.blocks));
        }
        former.places.sort_unstable();
        let mut state = [0; STATE];
        for at in (behind..length).step_by(STATE) {
            former.index.read_exact_at(&mut state, at)?;
            former.states.push((number(&state), *state[8..].first_chunk().expect("a state follows its offset")));
        }
        Ok(Some(former))
    }

    fn read_group(&self, group: usize) -> io::Result<Vec<Part>> {
        let first = group * GROUP;
        let mut bytes = vec![0; (self.count - first).min(GROUP) * PART];
        self.index.read_exact_at(&mut bytes, (HEADER + first * PART) as u64)?;
        let mut start = 0;
        let part = |part: &[u8; PART]| {
            let (digest, blocks) = part.split_first_chunk().expect("a part begins with a digest");
            let blocks = u32::from_le_bytes(blocks.try_into().expect("and ends with a number"));
            let part = Part { digest: *digest, start, blocks };
            start += u64::from(blocks);
            part
        };
        Ok(bytes.as_chunks().0.iter().map(part).collect())
    }

    /// The part with this digest. One that cannot be read is none.
    pub fn find(&self, part: &PartDigest) -> Option<Found> {
        let digest = part.short();
        let first = self.places.partition_point(|(known, _)| *known < beginning(&digest));
        let alike = self.places[first..].iter().take_while(|(known, _)| *known == beginning(&digest));
        alike.map(|(_, number)| *number as usize).find_map(|number| {
            let (group, place) = (number / GROUP, number % GROUP);
            let parts = self.groups.get(group as u64, || self.read_group(group)).ok()?;
            let part = parts.get(place).filter(|part| part.digest == digest)?;
            // What lies behind two terabytes is not found again.
            let start = u32::try_from(self.starts[group] + part.start).ok()?;
            Some(Found { digest, start, blocks: part.blocks })
        })
    }

    /// The places up to `end` where hashing can be resumed.
    pub(super) fn states_to(&self, end: u64) -> &[(u64, State)] {
        &self.states[..self.states.partition_point(|(offset, _)| *offset <= end)]
    }
}

fn beginning(digest: &Short) -> u32 {
    u32::from_le_bytes(*digest.first_chunk().expect("a digest is longer"))
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(*bytes.first_chunk().expect("eight bytes"))
}
