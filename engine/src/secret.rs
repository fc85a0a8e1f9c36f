//! What is the value of a secret?
//!
//! Values are read when a step needs them and never enter a key, a layer, an event or an error.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};

use crate::request::{SecretFrom, SecretSource};

/// BuildKit's bound on one secret, in bytes (`session/secrets`).
const LIMIT: u64 = 500 * 1024;

/// Why a secret has no value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Its file cannot be read.
    #[error("cannot read the file of secret `{id}`")]
    Read {
        /// The secret.
        id: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is larger than 500 KiB.
    #[error("secret `{0}` is larger than 500 KiB")]
    TooLarge(String),
}

/// The secrets that the user handed to a build.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets(BTreeMap<String, SecretFrom>);

impl Secrets {
    pub(crate) fn new(sources: Vec<SecretSource>) -> Self {
        Self(sources.into_iter().map(|source| (source.id, source.from)).collect())
    }

    /// The value of `id`; `None` if the user gave no such secret, or named a variable that is not set.
    pub(crate) fn read(&self, id: &str) -> Result<Option<Vec<u8>>, SecretError> {
        let value = match self.0.get(id) {
            None => return Ok(None),
            Some(SecretFrom::Env(name)) => match std::env::var_os(name) {
                Some(value) => std::os::unix::ffi::OsStringExt::into_vec(value),
                None => return Ok(None),
            },
            Some(SecretFrom::File(path)) => {
                let mut value = Vec::new();
                File::open(path)
                    .and_then(|file| file.take(LIMIT + 1).read_to_end(&mut value))
                    .map_err(|source| SecretError::Read { id: id.to_owned(), source })?;
                value
            }
        };
        if value.len() as u64 > LIMIT {
            return Err(SecretError::TooLarge(id.to_owned()));
        }
        Ok(Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a123_secrets_are_read_from_files_and_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let secrets = Secrets::new(vec![
            SecretSource { id: "s".into(), from: SecretFrom::File(path.clone()) },
            SecretSource { id: "unset".into(), from: SecretFrom::Env("RBUILD_NO_SUCH_VARIABLE".into()) },
        ]);
        assert!(matches!(secrets.read("s"), Err(SecretError::Read { .. })));
        std::fs::write(&path, "value\n").unwrap();
        assert_eq!(secrets.read("s").unwrap().unwrap(), b"value\n");
        std::fs::write(&path, vec![0; 500 * 1024 + 1]).unwrap();
        assert!(matches!(secrets.read("s"), Err(SecretError::TooLarge(_))));
        assert!(secrets.read("unset").unwrap().is_none());
        assert!(secrets.read("other").unwrap().is_none());
    }
}
