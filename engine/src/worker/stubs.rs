//! Where does a step find the places for what is mounted into it?
//!
//! In the lowest layer of its root, see [`rbuild_executor::SandboxSpec::stubs`]. Steps that mount nothing of their own all
//! need the same places, so a build makes those once.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rbuild_cache::{Store, WorkingDirectory};
use rbuild_executor::SandboxSpec;

use crate::error::Error;

/// What the steps of a build share; made when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct Stubs(Mutex<Option<WorkingDirectory>>);

impl Stubs {
    /// The directory for a step; `None` if it needs one of its own.
    pub(super) fn shared(&self, store: &Store, spec: &SandboxSpec) -> Result<Option<PathBuf>, Error> {
        if !(spec.mounts.is_empty() && spec.files.is_empty() && spec.devices.is_empty()) {
            return Ok(None);
        }
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = match &mut *made {
            Some(directory) => directory,
            none => none.insert(store.working_directory("stubs")?),
        };
        Ok(Some(directory.path().to_owned()))
    }

    /// Removes it, once no step is running.
    pub(crate) fn discard(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
