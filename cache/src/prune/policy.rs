//! What may be removed?

use std::time::Duration;

/// Which images [`Store::prune`](crate::Store::prune) removes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PruneImages {
    /// None.
    Keep,
    /// Those without a name.
    #[default]
    Dangling,
    /// All that no container uses.
    Unused,
}

/// What [`Store::prune`](crate::Store::prune) removes, besides everything that nothing needs.
#[derive(Clone, Debug)]
pub struct PrunePolicy {
    /// Images.
    pub images: PruneImages,
    /// Build records: without them the layers go that no image needs.
    pub records: bool,
    /// `RUN --mount=type=cache` directories that nobody is using.
    pub cache_mounts: bool,
    /// Only what was not used for so long.
    pub unused_for: Option<Duration>,
    /// Only what all of these say.
    pub filters: Vec<Filter>,
    /// How much may stay.
    pub space: Space,
}

impl Default for PrunePolicy {
    fn default() -> Self {
        Self {
            images: PruneImages::Dangling,
            records: true,
            cache_mounts: false,
            unused_for: None,
            filters: Vec::new(),
            space: Space::default(),
        }
    }
}

/// How much the cache may take, in bytes: cache mounts, and layers that no image or container needs. Without any limit,
/// all of it goes; with one, the least recently used goes until the limit is kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Space {
    /// So much is never taken away.
    pub reserved: Option<u64>,
    /// So much is never exceeded, unless it is reserved.
    pub max_used: Option<u64>,
    /// So much is to be free on the file system, unless that takes what is reserved.
    pub min_free: Option<u64>,
}

impl Space {
    /// How much may stay of `used` bytes while `free` are free; `None` if there is no limit to say so.
    pub(super) fn keeps(&self, used: u64, free: u64) -> Option<u64> {
        let Self { reserved, max_used, min_free } = *self;
        if (reserved, max_used, min_free) == (None, None, None) {
            return None;
        }
        let lacking = min_free.map(|wanted| used.saturating_sub(wanted.saturating_sub(free)));
        let keep = match (max_used, lacking) {
            (Some(most), Some(lacking)) => Some(most.min(lacking)),
            (one, other) => one.or(other),
        };
        // Only a reserve: down to it.
        Some(keep.unwrap_or(0).max(reserved.unwrap_or(0)))
    }
}

/// A condition on what is removed, such as `type==cachemount` or `description~=npm`.
#[derive(Clone, Debug)]
pub struct Filter {
    /// What is looked at.
    pub field: FilterField,
    /// How it is compared.
    pub test: FilterTest,
}

/// What a [`Filter`] looks at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FilterField {
    /// Its name in `rbuild du`.
    Id,
    /// `image`, `step`, `cachemount` or `container`.
    Kind,
    /// An image's names, a step's title, a cache mount's id, a container's name.
    Description,
}

/// How a [`Filter`] compares.
#[derive(Clone, Debug)]
pub enum FilterTest {
    /// The same text.
    Is(String),
    /// Another text.
    IsNot(String),
    /// A match somewhere in the text.
    Matches(regex::Regex),
}

impl FilterTest {
    /// A match of a regular expression.
    ///
    /// # Errors
    /// The text is none.
    pub fn matches(pattern: &str) -> Result<Self, regex::Error> {
        regex::Regex::new(pattern).map(Self::Matches)
    }
}

impl Filter {
    /// Whether something with this id, of this kind, called so, is meant.
    pub fn admits(&self, id: &str, kind: &str, description: &str) -> bool {
        let text = match self.field {
            FilterField::Id => id,
            FilterField::Kind => kind,
            FilterField::Description => description,
        };
        match &self.test {
            FilterTest::Is(wanted) => text == wanted,
            FilterTest::IsNot(unwanted) => text != unwanted,
            FilterTest::Matches(pattern) => pattern.is_match(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_combine_as_buildkit_s_do() {
        for (reserved, max_used, min_free, expected) in [
            (None, None, None, None),
            (Some(30), None, None, Some(30)),
            (None, Some(70), None, Some(70)),
            (Some(80), Some(70), None, Some(80)),
            // 100 are used and 20 free: to have 50 free, 30 go.
            (None, None, Some(50), Some(70)),
            (None, Some(60), Some(50), Some(60)),
            (None, Some(90), Some(50), Some(70)),
            (Some(75), Some(90), Some(50), Some(75)),
            // Enough is free: nothing has to go.
            (None, None, Some(10), Some(100)),
            (None, None, Some(500), Some(0)),
        ] {
            let space = Space { reserved, max_used, min_free };
            assert_eq!(space.keeps(100, 20), expected, "{space:?}");
        }
    }
}
