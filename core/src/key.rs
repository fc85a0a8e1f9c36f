//! How do named fields become a cache key?
//!
//! Every field is written with its length before it, under a domain name: no two different sequences of fields can
//! produce the same bytes, and a change of a key's format is a new domain.

use crate::Digest;

/// Collects the fields of one key, in order.
#[derive(Clone, Debug)]
pub struct KeyHasher(blake3::Hasher);

impl KeyHasher {
    /// Starts a key. The `domain` names the kind and version of key, such as `content/1`.
    pub fn new(domain: &'static str) -> Self {
        let mut hasher = Self(blake3::Hasher::new());
        hasher.bytes(domain.as_bytes());
        hasher
    }

    /// Adds bytes, preceded by their length.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds a text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Adds a number.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    /// Adds a digest, including its algorithm.
    pub fn digest(&mut self, digest: &Digest) -> &mut Self {
        self.text(digest.algorithm().name()).bytes(digest.as_bytes())
    }

    /// Adds a value that knows its fields.
    pub fn field(&mut self, value: &impl StableHash) -> &mut Self {
        value.stable_hash(self);
        self
    }

    /// Adds a list: its length, then each item.
    pub fn list<T: StableHash>(&mut self, items: &[T]) -> &mut Self {
        self.number(items.len() as u64);
        for item in items {
            item.stable_hash(self);
        }
        self
    }

    /// The key.
    pub fn finish(self) -> Digest {
        Digest::blake3(*self.0.finalize().as_bytes())
    }
}

/// A value whose fields can enter a key. The result may depend on nothing but the value: no clock, no host path, no
/// iteration order of a hash map.
pub trait StableHash {
    /// Writes all fields to `hasher`, always in the same order.
    fn stable_hash(&self, hasher: &mut KeyHasher);
}

impl StableHash for String {
    fn stable_hash(&self, hasher: &mut KeyHasher) {
        hasher.text(self);
    }
}

impl StableHash for Digest {
    fn stable_hash(&self, hasher: &mut KeyHasher) {
        hasher.digest(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_a_byte_between_fields_changes_the_key() {
        let key = |a: &str, b: &str| {
            let mut hasher = KeyHasher::new("test/1");
            hasher.text(a).text(b);
            hasher.finish()
        };
        assert_ne!(key("ab", "c"), key("a", "bc"));
        assert_eq!(key("ab", "c"), key("ab", "c"));
    }

    #[test]
    fn the_domain_separates_equal_fields() {
        assert_ne!(KeyHasher::new("a/1").finish(), KeyHasher::new("a/2").finish());
    }
}
