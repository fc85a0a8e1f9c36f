//! How do several processors hash one large file?
//!
//! blake3 is a tree over pieces of 1 KiB. Groups of pieces that are a power of two are subtrees, and hashed on their own,
//! by whoever has time, roughly in the file's order, so that the kernel reads ahead:
//!
//! ```text
//! groups  0 1 2 3 4 5      ((0 1) (2 3)) (4 5)
//! ```
//!
//! Groups that are holes are hashed as the zeros they are (their places count), but not read.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use rbuild_cache::Holes;

/// A power of two, and little enough to be still near the processor when it is hashed.
const GROUP: usize = 512 << 10;
/// More processors than this wait for memory.
const MOST: usize = 8;
static ZEROS: [u8; GROUP] = [0; GROUP];

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The blake3 of a file of `size` bytes; `None` if it has become shorter or longer, or is too small to be shared out.
pub(super) fn blake3_of(file: &File, size: u64) -> io::Result<Option<[u8; 32]>> {
    let Ok(groups) = usize::try_from(size.div_ceil(GROUP as u64)) else { return Ok(None) };
    if groups < 2 {
        return Ok(None);
    }
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(MOST).min(groups);
    let next = AtomicUsize::new(0);
    let work = |_| {
        let mut holes = Holes::of(file)?;
        let mut found = Vec::new();
        loop {
            let group = next.fetch_add(1, Ordering::Relaxed);
            if group >= groups {
                return Ok(found);
            }
            found.push((group, hash_group(file, &mut holes, group, size)?));
        }
    };
    let found: io::Result<Vec<Vec<(usize, ChainingValue)>>> = (0..workers).into_par_iter().map(work).collect();
    let found = match found {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        found => found?,
    };
    if file.read_at(&mut [0], size)? > 0 {
        return Ok(None);
    }
    let mut values = vec![[0; 32]; groups];
    for (group, value) in found.into_iter().flatten() {
        values[group] = value;
    }
    let (left, right) = values.split_at(left_of(groups));
    Ok(Some(*merge_subtrees_root(&merged(left), &merged(right), Mode::Hash).as_bytes()))
}

fn hash_group(file: &File, holes: &mut Holes<'_>, group: usize, size: u64) -> io::Result<ChainingValue> {
    let at = group as u64 * GROUP as u64;
    let length = (size - at).min(GROUP as u64);
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(at);
    let is_hole = holes.cover(at, length);
    let length = usize::try_from(length).expect("at most a group");
    if is_hole {
        hasher.update(&ZEROS[..length]);
        return Ok(hasher.finalize_non_root());
    }
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(GROUP, 0);
        file.read_exact_at(&mut buffer[..length], at)?;
        hasher.update(&buffer[..length]);
        Ok(hasher.finalize_non_root())
    })
}

/// Of so many groups, how many are on the left: the largest power of two that leaves one.
fn left_of(groups: usize) -> usize {
    groups.div_ceil(2).next_power_of_two()
}

fn merged(groups: &[ChainingValue]) -> ChainingValue {
    match groups {
        [one] => *one,
        several => {
            let (left, right) = several.split_at(left_of(several.len()));
            merge_subtrees_non_root(&merged(left), &merged(right), Mode::Hash)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: u64 = super::GROUP as u64;

    #[test]
    fn it_is_the_digest_that_one_processor_finds() {
        let noise: Vec<u8> = (0..17 * GROUP).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 29) as u8).collect();
        let file = tempfile::tempfile().unwrap();
        for groups in 1..=17 {
            for size in [groups * GROUP, groups * GROUP - 1, (groups - 1) * GROUP + 1, (groups - 1) * GROUP + 1025] {
                file.set_len(0).unwrap();
                let content = &noise[..usize::try_from(size).unwrap()];
                file.write_all_at(content, 0).unwrap();
                let expected = (size > GROUP).then(|| *blake3::hash(content).as_bytes());
                assert_eq!(blake3_of(&file, size).unwrap(), expected, "{size}");
            }
        }
    }

    #[test]
    fn holes_are_zeros() {
        let file = tempfile::tempfile().unwrap();
        for (size, data) in
            [(9 * GROUP + 5, None), (9 * GROUP, Some(4 * GROUP - 2)), (20 * GROUP, Some(20 * GROUP - 4))]
        {
            file.set_len(0).unwrap();
            file.set_len(size).unwrap();
            let mut content = vec![0; usize::try_from(size).unwrap()];
            if let Some(at) = data {
                file.write_all_at(b"data", at).unwrap();
                content[usize::try_from(at).unwrap()..][..4].copy_from_slice(b"data");
            }
            assert_eq!(blake3_of(&file, size).unwrap(), Some(*blake3::hash(&content).as_bytes()), "{size}");
        }
    }

    #[test]
    fn a_file_of_another_size_has_no_digest_of_this_one() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![7; 5 << 20], 0).unwrap();
        for size in [5 << 20, (5 << 20) - 1, (5 << 20) + 1, 3 << 20, 9 << 20] {
            assert_eq!(blake3_of(&file, size).unwrap().is_some(), size == 5 << 20, "{size}");
        }
        file.set_len(0).unwrap();
        assert_eq!(blake3_of(&file, 5 << 20).unwrap(), None);
    }
}
