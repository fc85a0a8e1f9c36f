//! How does a mutated tar stay one?
//!
//! A reader looks at nothing behind a wrong checksum, so blind mutations would only ever test that. After each one the
//! checksums are put right, and now and then an entry that means harm is added whole.

const BLOCK: usize = 512;

/// Names of entries: inside, outside, whiteouts, and through links.
const NAMES: [&str; 24] = [
    "a",
    "b",
    "a/b",
    "a/b/c",
    "link",
    "link/x",
    "link/file",
    "up",
    "up/file",
    "absolute/file",
    "dir",
    "dir/",
    "dir/x/",
    "../outside/file",
    "/dev/shm/rbuild-fuzz/outside/file",
    "a/../../outside/file",
    "..",
    ".",
    "/",
    ".wh.a",
    "a/.wh.b",
    ".wh..wh..opq",
    "a/.wh..wh..opq",
    "loop/loop/x",
];
/// Where links lead.
const TARGETS: [&str; 16] = [
    "a",
    "b",
    "a/b",
    ".",
    "..",
    "/",
    "../..",
    "../../..",
    "../outside",
    "../../outside",
    "../../../../outside/file",
    "/dev/shm/rbuild-fuzz/outside",
    "/dev/shm/rbuild-fuzz/outside/file",
    "link",
    "loop",
    "/proc/self/root/dev/shm/rbuild-fuzz/outside",
];
const KINDS: &[u8; 12] = b"005511222346";

/// Puts the checksum of every header right that a reader would come to.
pub fn repair(tar: &mut [u8]) {
    let mut at = 0;
    while let Some(block) = tar.get_mut(at..at + BLOCK) {
        if block.iter().all(|byte| *byte == 0) {
            return;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let kind = block[156];
        let size = if matches!(kind, b'1'..=b'6') { 0 } else { size(&block[124..136]) };
        at += BLOCK + size.min(tar.len()).next_multiple_of(BLOCK);
    }
}

fn size(field: &[u8]) -> usize {
    if field[0] & 0x80 != 0 {
        return field[8..].iter().fold(0, |size, byte| size << 8 | usize::from(*byte));
    }
    let digits = field.iter().skip_while(|byte| **byte == b' ').take_while(|byte| (b'0'..b'8').contains(byte));
    digits.fold(0, |size, digit| size << 3 | usize::from(digit - b'0'))
}

/// Puts an entry in front of the others, or behind what there is of the first; returns the new size.
pub fn add(tar: &mut [u8], length: usize, seed: u32) -> usize {
    let mut random = Random(seed | 1);
    let kind = KINDS[random.below(KINDS.len())];
    let content: &[u8] = if kind == b'0' { b"content" } else { b"" };
    let mut entry = [0; 2 * BLOCK];
    let mut put = |at: usize, text: &str| entry[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, NAMES[random.below(NAMES.len())]);
    put(100, ["0000644\0", "0000755\0", "0004777\0", "0000000\0"][random.below(4)]);
    put(108, "0000000\x000000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "07346545000\0");
    put(157, TARGETS[random.below(TARGETS.len())]);
    put(257, "ustar\x0000");
    put(329, "0000001\x000000003\0");
    entry[156] = kind;
    entry[BLOCK..BLOCK + content.len()].copy_from_slice(content);
    let new = BLOCK + content.len().next_multiple_of(BLOCK);
    if length + new > tar.len() {
        return length;
    }
    let at = if random.below(2) == 0 { 0 } else { (random.below(8) * BLOCK).min(length / BLOCK * BLOCK) };
    tar.copy_within(at..length, at + new);
    tar[at..at + new].copy_from_slice(&entry[..new]);
    length + new
}

/// Numbers that need not be good.
struct Random(u32);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 as usize % limit
    }
}
