//! What did the last builds do?
//!
//! One row for each build that made something or failed, in the caller's own terms; a build that only found things
//! writes none, since a transaction would cost it as much as all the rest. The newest [`KEPT`] stay. A row refers to
//! nothing: what it tells of may be gone.

use rbuild_core::Digest;
use serde_json::value::RawValue;

use crate::error::{Result, StoreError};
use crate::meta::Table;
use crate::store::Store;

/// Time in microseconds and a random number → the build. So the keys' order is that of the builds' ends.
const BUILDS: Table<Build> = Table::new(b'w', "build");
/// How many are kept.
const KEPT: usize = 50;

/// One build.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
pub struct Build {
    /// What the caller looks for it by.
    pub scopes: Vec<Digest>,
    /// What the caller says about it. A text: of ten thousand steps the values would take a hundred megabytes.
    pub told: Box<RawValue>,
}

/// The build rows of a [`Store`].
#[derive(Clone, Copy, Debug)]
pub struct Builds<'a>(pub(crate) &'a Store);

impl Builds<'_> {
    /// Adds a build, which is the newest then, and forgets the oldest.
    ///
    /// # Errors
    /// The metadata cannot be written.
    pub fn add(&self, build: &Build) -> Result<()> {
        self.0.0.meta.write(|writer| {
            let known = writer.reader().keys(&BUILDS)?;
            for key in known.iter().take((known.len() + 1).saturating_sub(KEPT)) {
                writer.delete(&BUILDS, key)?;
            }
            writer.put(&BUILDS, &key(), build)
        })
    }

    /// The newest build that has one of these scopes; of all if none is given.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub fn latest(&self, scopes: &[Digest]) -> Result<Option<Build>> {
        let fits = |build: &Build| scopes.is_empty() || build.scopes.iter().any(|scope| scopes.contains(scope));
        // One after the other: a build of ten thousand steps takes megabytes.
        self.0.0.meta.read(|reader| {
            for key in reader.keys(&BUILDS)?.iter().rev() {
                match reader.find(&BUILDS, key) {
                    Ok(Some(build)) if fits(&build) => return Ok(Some(build)),
                    Ok(_) | Err(StoreError::Row { .. } | StoreError::Format { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(None)
        })
    }
}

fn key() -> [u8; 16] {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut key = [0; 16];
    key[..8].copy_from_slice(&u64::try_from(now.as_micros()).unwrap_or(u64::MAX).to_be_bytes());
    // Two builds of one microsecond need only differ.
    key[8..].copy_from_slice(&blake3::hash(crate::aside::unique().as_bytes()).as_bytes()[..8]);
    key
}

#[cfg(test)]
mod tests {
    use serde_json::value::to_raw_value;

    use super::*;

    #[test]
    fn b042_the_last_fifty_builds_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let scope = |byte| Digest::blake3([byte; 32]);
        assert!(store.builds().latest(&[]).unwrap().is_none());
        for number in 0..60u8 {
            let scopes = vec![scope(number % 2), scope(100 + number)];
            store.builds().add(&Build { scopes, told: to_raw_value(&number).unwrap() }).unwrap();
        }
        let latest = |of: &[Digest]| store.builds().latest(of).unwrap().map(|build| build.told.get().to_owned());
        assert_eq!(latest(&[]), Some("59".to_owned()));
        assert_eq!(latest(&[scope(0)]), Some("58".to_owned()));
        assert_eq!(latest(&[scope(109)]), None);
        assert_eq!(latest(&[scope(109), scope(110)]), Some("10".to_owned()));
    }
}
