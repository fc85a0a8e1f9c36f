//! What is a container called when nobody named it?

use rbuild_core::Digest;

const ADJECTIVES: [&str; 32] = [
    "able", "brave", "bright", "busy", "calm", "clever", "cool", "eager", "fair", "fancy", "gentle", "glad", "happy",
    "jolly", "keen", "kind", "lively", "lucky", "merry", "neat", "nimble", "polite", "proud", "quick", "quiet",
    "sharp", "silent", "smart", "steady", "sunny", "warm", "wise",
];

const SURNAMES: [&str; 32] = [
    "babbage",
    "boole",
    "church",
    "curie",
    "dijkstra",
    "einstein",
    "erdos",
    "euler",
    "fermat",
    "gauss",
    "godel",
    "hamilton",
    "hilbert",
    "hopper",
    "hypatia",
    "kepler",
    "knuth",
    "lamport",
    "leibniz",
    "liskov",
    "lovelace",
    "mccarthy",
    "newton",
    "noether",
    "pascal",
    "perlman",
    "ramanujan",
    "ritchie",
    "shannon",
    "tarjan",
    "turing",
    "wirth",
];

/// A readable name that depends on nothing but the container's id.
pub(crate) fn from_id(id: &Digest) -> String {
    let [a, b, ..] = *id.as_bytes();
    format!("{}_{}", ADJECTIVES[usize::from(a) % ADJECTIVES.len()], SURNAMES[usize::from(b) % SURNAMES.len()])
}

/// Whether Docker would accept it: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub(crate) fn is_valid(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() >= 2
        && bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_names_are_valid() {
        for byte in 0..=255 {
            assert!(is_valid(&from_id(&Digest::sha256([byte; 32]))));
        }
        for name in ["", "a", "-a", "a b", "ä1"] {
            assert!(!is_valid(name), "{name}");
        }
    }
}
