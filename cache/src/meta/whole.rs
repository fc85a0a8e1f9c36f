//! Was the end of the database's file cut off?
//!
//! LMDB maps its file, and finds its pages where the tree says they are. One that lies behind the end of the file is no
//! error but a signal (`SIGBUS`), so this is looked at before anything is read.
//!
//! The length alone does not tell. A page that is taken and given back in one transaction is counted and never
//! written: LMDB's source says of `mm_last_pg`, the number of the last page, that "the file may be shorter if the freeDB
//! lists the final pages", and promises that each page up to it is either in use or listed there. So a file is whole if
//! it is long enough, as nearly all are, which takes one look at its length; or if each page behind its end is listed
//! as free. For this the list is read here, by means that fail behind the end of a file.
//!
//! ```text
//! page      number u64, padding u16, flags u16, end of the pointers u16, u16; pointers u16 …; nodes
//! meta      in pages 0 and 1: 24 bytes; free list's tree, the rows' tree (48 bytes each, the root's number last);
//!           number of the last page u64, transaction u64
//! node      lower half of a length or number u16, upper half u16, flags u16 (of a number: bits 32 to 47), length of the
//!           key u16, key, data
//! free list rows: transaction → count u64, numbers u64 …; data of large rows is in pages of its own
//! ```
//!
//! What a reader's snapshot consists of is not written to while the reader lasts.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use heed::{Env, WithoutTls};

const HEADER: usize = 16;
const META_LENGTH: usize = HEADER + 24 + 2 * 48 + 16;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
/// On a node: its data is in pages of its own.
const BIG: u16 = 1;
/// The root of a tree without pages.
const NOWHERE: u64 = u64::MAX;

/// How long the file would have to be, if it lacks pages that are in use.
pub(super) fn lost(env: &Env<WithoutTls>) -> heed::Result<Option<u64>> {
    let page = u64::from(env.stat().page_size);
    loop {
        let transaction = env.read_txn()?;
        let info = env.info();
        // After the number: a file only grows, and does before the number says so.
        let length = env.real_disk_size()?;
        let Some(needed) = length_with(info.last_page_number as u64, page) else { return Ok(Some(u64::MAX)) };
        if length >= needed {
            return Ok(None);
        }
        if needed > info.map_size as u64 {
            return Ok(Some(needed));
        }
        let file = env.try_clone_inner_file()?;
        let database = Pages { file: &file, page, present: length / page };
        match database.is_whole(transaction.id() as u64) {
            Ok(Some(is_whole)) => return Ok((!is_whole).then_some(needed)),
            // Two transactions were committed meanwhile.
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Some(needed)),
            Err(error) => return Err(error.into()),
        }
    }
}

/// How long a file with this last page is; `None` if none can be so long.
fn length_with(last: u64, page: u64) -> Option<u64> {
    last.checked_add(1)?.checked_mul(page)
}

struct Pages<'a> {
    file: &'a File,
    page: u64,
    /// So many are there in full.
    present: u64,
}

struct Snapshot {
    /// The root of the free list's tree.
    free: u64,
    last: u64,
}

impl Pages<'_> {
    /// `None` if the snapshot's meta page has been overwritten.
    fn is_whole(&self, transaction: u64) -> io::Result<Option<bool>> {
        self.snapshot(transaction)?.map(|snapshot| self.lists_rest(&snapshot)).transpose()
    }

    fn snapshot(&self, transaction: u64) -> io::Result<Option<Snapshot>> {
        for number in 0..2 {
            let mut meta = [0; META_LENGTH];
            self.file.read_exact_at(&mut meta, number * self.page)?;
            let at = |offset| word(&meta, HEADER + offset).expect("within a meta page");
            if at(24 + 2 * 48 + 8) == transaction {
                return Ok(Some(Snapshot { free: at(24 + 40), last: at(24 + 2 * 48) }));
            }
        }
        Ok(None)
    }

    /// Whether the free list is there and has all pages that are not. One that cannot be understood has not.
    fn lists_rest(&self, snapshot: &Snapshot) -> io::Result<bool> {
        let Some(count) = snapshot.last.checked_add(1) else { return Ok(false) };
        let Some(missing) = count.checked_sub(self.present) else { return Ok(true) };
        let mut listed = vec![false; usize::try_from(missing).unwrap_or_default()];
        let mut waiting = vec![snapshot.free];
        let mut visits = 0;
        while let Some(number) = waiting.pop().filter(|number| *number != NOWHERE) {
            visits += 1;
            if number >= self.present || visits > self.present {
                return Ok(false);
            }
            let bytes = self.read(number * self.page, self.page)?;
            let Some(()) = self.visit(&bytes, &mut waiting, &mut listed)? else { return Ok(false) };
        }
        Ok(listed.iter().all(|listed| *listed))
    }

    /// `None` if it is no page of the free list's tree.
    fn visit(&self, page: &[u8], waiting: &mut Vec<u64>, listed: &mut [bool]) -> io::Result<Option<()>> {
        let (Some(flags), Some(end)) = (half(page, 10), half(page, 12)) else { return Ok(None) };
        for pointer in (HEADER..usize::from(end)).step_by(2) {
            let Some(node) = half(page, pointer).and_then(|at| Node::read(page.get(usize::from(at)..)?)) else {
                return Ok(None);
            };
            match flags & (BRANCH | LEAF) {
                BRANCH => waiting.push(node.length | u64::from(node.flags) << 32),
                LEAF if node.flags & BIG != 0 => {
                    let start = word(node.data, 0).and_then(|number| number.checked_mul(self.page));
                    let start = start.and_then(|start| start.checked_add(HEADER as u64));
                    let Some(start) = start.filter(|_| node.length <= self.present * self.page) else {
                        return Ok(None);
                    };
                    self.mark(&self.read(start, node.length)?, listed);
                }
                LEAF => self.mark(node.data, listed),
                _ => return Ok(None),
            }
        }
        Ok(Some(()))
    }

    fn mark(&self, row: &[u8], listed: &mut [bool]) {
        let count = word(row, 0).and_then(|count| usize::try_from(count).ok()).unwrap_or_default();
        for number in row.chunks_exact(8).skip(1).take(count).filter_map(|number| word(number, 0)) {
            let place = number.checked_sub(self.present).and_then(|place| usize::try_from(place).ok());
            if let Some(listed) = place.and_then(|place| listed.get_mut(place)) {
                *listed = true;
            }
        }
    }

    fn read(&self, start: u64, length: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes)
    }
}

struct Node<'a> {
    /// Of the data; in a branch, the lower bits of a page's number.
    length: u64,
    flags: u16,
    /// To the end of the page.
    data: &'a [u8],
}

impl<'a> Node<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let length = u64::from(half(bytes, 0)?) | u64::from(half(bytes, 2)?) << 16;
        let key = usize::from(half(bytes, 6)?);
        Some(Self { length, flags: half(bytes, 4)?, data: bytes.get(8 + key..)? })
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_no_file_has_is_none() {
        for (last, expected) in [
            (0, Some(4096)),
            (1, Some(8192)),
            (u64::MAX / 4096 - 1, Some((u64::MAX / 4096) * 4096)),
            (u64::MAX / 4096, None),
            (u64::MAX, None),
        ] {
            assert_eq!(length_with(last, 4096), expected, "{last}");
        }
    }
}
