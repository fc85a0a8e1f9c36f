//! Which parts of a block are not worth compressing?
//!
//! Random, encrypted and compressed data become no smaller, and a compressor of gzip's kind takes as long to find that
//! out as it takes for a text. Here it is found out at a tenth of that price, for pieces of 32 KiB, by two questions:
//!
//! 1. **Are all values of a byte about equally frequent?** Counted in a sample of a quarter. If so, codes of varying
//!    length have no more than a hundredth to gain.
//! 2. **Does nothing come again?** Of all sequences of five bytes some are remembered, which ones depends on their
//!    content alone, so that a repetition at any distance is remembered at both its places.
//!
//! What passes both is noise. A piece of it is as long as gzip looks back: what follows could not refer to anything
//! before it, so that cutting there costs nothing. The answer depends on the bytes alone, and on no fraction that
//! another processor might round.

use std::ops::Range;

/// As far as gzip looks back.
const PIECE: usize = 32 << 10;
/// Bytes that are counted at once, and how far apart such runs are.
const COUNTED: usize = 64;
const APART: usize = 256;
/// How many bytes a remembered sequence has.
const SEQUENCE: u32 = 5;
/// One sequence in so many is remembered.
const REMEMBERED: u32 = 64;
/// More remembered sequences of one piece than this that were there before are repetition.
const MOST_REPEATED: usize = 8;
const PLACES: usize = 2048;

/// Some bytes of a block, and whether they are noise.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Part {
    pub(super) range: Range<usize>,
    pub(super) noise: bool,
}

/// Cuts a block where noise begins and ends. There is at least one part, if an empty one.
pub(super) fn parts(block: &[u8]) -> Vec<Part> {
    let mut seen = Seen::default();
    let mut parts: Vec<Part> = Vec::new();
    let mut start = 0;
    loop {
        let end = block.len().min(start + PIECE);
        // What remains at the end is too little to be judged.
        let noise = end - start == PIECE && is_flat(&block[start..end]) && !seen.repeats(block, start..end);
        match parts.last_mut() {
            Some(last) if last.noise == noise => last.range.end = end,
            _ => parts.push(Part { range: start..end, noise }),
        }
        start = end;
        if start == block.len() {
            return parts;
        }
    }
}

/// Whether all values of a byte are about equally frequent in this piece.
fn is_flat(piece: &[u8]) -> bool {
    // What is written by people fails at the first look.
    is_flat_every(piece, 8 * APART) && is_flat_every(piece, APART)
}

fn is_flat_every(piece: &[u8], apart: usize) -> bool {
    let mut counts = [[0_u32; 256]; 2];
    let mut total = 0;
    for run in piece.chunks(apart).map(|run| &run[..COUNTED]) {
        for pair in run.as_chunks::<2>().0 {
            counts[0][usize::from(pair[0])] += 1;
            counts[1][usize::from(pair[1])] += 1;
        }
        total += COUNTED as u64;
    }
    let square = |(one, other): (&u32, &u32)| u64::from(one + other).pow(2);
    let squares: u64 = counts[0].iter().zip(&counts[1]).map(square).sum();
    // Of `n` random bytes it is `n²/256 + n`, give or take a tenth of `n` (so half of it is out of reach). A tenth more
    // than the first term are 0.07 bits of eight that codes of varying length would spare.
    256 * squares <= total * total + total * total / 10 + 256 * total + 128 * total
}

/// Where remembered sequences were last.
struct Seen {
    /// One more than the place; none is 0.
    places: [u32; PLACES],
}

impl Default for Seen {
    fn default() -> Self {
        Self { places: [0; PLACES] }
    }
}

impl Seen {
    /// Whether much of this piece of the block was there shortly before.
    fn repeats(&mut self, block: &[u8], piece: Range<usize>) -> bool {
        let mut repeated = 0;
        for (place, bytes) in block[piece.clone()].windows(8).enumerate() {
            let hash = sequence(bytes).wrapping_mul(0x9e37_79b1_85eb_ca87);
            if hash >= u64::MAX / u64::from(REMEMBERED) {
                continue;
            }
            let place = piece.start + place;
            // The highest bits are those that chose it.
            let slot = &mut self.places[(hash >> 40) as usize % PLACES];
            let before = std::mem::replace(slot, u32::try_from(place + 1).unwrap_or(0)) as usize;
            let known = before > 0 && place + 1 - before <= PIECE;
            repeated += usize::from(known && sequence(&block[before - 1..][..8]) == sequence(bytes));
        }
        repeated > MOST_REPEATED
    }
}

/// The first bytes of eight.
fn sequence(eight: &[u8]) -> u64 {
    u64::from_le_bytes(eight.try_into().expect("eight of them")) << (64 - 8 * SEQUENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32
        };
        std::iter::repeat_with(|| (next() ^ (next() << 7)).to_le_bytes()[1]).take(length).collect()
    }

    fn share(block: &[u8]) -> f64 {
        let noisy = parts(block).iter().filter(|part| part.noise).map(|part| part.range.len()).sum::<usize>();
        noisy as f64 / block.len().max(1) as f64
    }

    #[test]
    fn parts_cover_the_block_in_order() {
        let text = b"in the beginning was the word ".repeat(5000);
        let block = [&noise(100_000, 1), &text[..], &noise(77_777, 2)].concat();
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 150_000, block.len()] {
            let parts = parts(&block[..length]);
            assert_eq!((parts[0].range.start, parts.last().unwrap().range.end), (0, length));
            assert!(parts.windows(2).all(|two| two[0].range.end == two[1].range.start));
            assert!(parts.windows(2).all(|two| two[0].noise != two[1].noise));
        }
    }

    #[test]
    fn noise_is_told_from_everything_that_becomes_smaller() {
        const LENGTH: usize = 1 << 20;
        let random = noise(LENGTH, 3);
        let with_bits = |mask: u8| random.iter().map(|byte| byte & mask).collect::<Vec<_>>();
        let again = |period: usize| random[..period].iter().copied().cycle().take(LENGTH).collect::<Vec<_>>();
        let tokens = {
            // Of a thousand keys of eight bytes, one after the other in no order.
            let order = noise(LENGTH, 4);
            let keys: Vec<&[u8]> = random.chunks(8).take(1000).collect();
            let key = |two: &[u8]| keys[usize::from(u16::from_le_bytes([two[0], two[1]])) % 1000];
            order.chunks_exact(2).flat_map(key).copied().take(LENGTH).collect::<Vec<_>>()
        };
        let counted: Vec<u8> = (0..(LENGTH / 4) as u32).flat_map(u32::to_le_bytes).collect();
        let sparse = {
            // One line in eight is zero.
            let mut bytes = random.clone();
            bytes.chunks_mut(4096).step_by(8).for_each(|page| page.fill(0));
            bytes
        };
        let rows: [(&str, &[u8], bool); 12] = [
            ("random", &random, true),
            ("seven bits", &with_bits(0x7f), false),
            ("base64", &with_bits(0x3f), false),
            ("period of 1,000", &again(1000), false),
            ("period of 20,000", &again(20_000), false),
            ("period of 32 KiB", &again(PIECE), false),
            ("keys", &tokens, false),
            ("counted up", &counted, false),
            ("one page of eight empty", &sparse, false),
            ("text", &b"in the beginning was the word ".repeat(40_000), false),
            ("zeros", &[0; 100_000], false),
            ("each value in turn", &(0..LENGTH).map(|byte| byte as u8).collect::<Vec<_>>(), false),
        ];
        for (name, bytes, expected) in rows {
            // Of what repeats the first piece looks like noise, and is none of what follows.
            let found = share(bytes);
            assert!(if expected { found == 1.0 } else { found < 0.05 }, "{name}: {found}");
        }
    }
}
