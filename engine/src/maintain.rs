//! What takes room, and what does this machine lack?

use rbuild_cache::{DiskUsage, Entry, FormHere};
use rbuild_core::with_causes;
use rbuild_executor::Host;

use crate::engine::Engine;
use crate::error::Error;

/// One thing that `rbuild doctor` looked at.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Finding {
    /// What.
    pub what: &'static str,
    /// Whether it is as rbuild would like it.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What can be done about it.
    pub hint: Option<String>,
}

impl Engine {
    /// Every image, build result and cache mount, the least recently used first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn inventory(&self) -> Result<Vec<Entry>, Error> {
        Ok(self.store().inventory()?)
    }

    /// What takes how much room.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn disk_usage(&self) -> Result<DiskUsage, Error> {
        Ok(self.store().disk_usage()?)
    }

    /// In which form new layers are made in this state directory, and why: it takes a trial.
    pub fn layer_form(&self) -> Finding {
        let finding = |ok, detail: String, hint: Option<&str>| Finding {
            what: "layers",
            ok,
            detail,
            hint: hint.map(str::to_owned),
        };
        let needs = "files take root, a kernel with EROFS (Linux 6.15), and a file system such as ext4, xfs or btrfs";
        match self.store().layers().form_here() {
            Ok(FormHere::Files) => finding(true, "files, which the kernel mounts as EROFS".to_owned(), None),
            Ok(FormHere::Directories(None)) => {
                finding(true, "directories, as `--layers` or `RBUILD_LAYERS` says".to_owned(), None)
            }
            Ok(FormHere::Directories(Some(error))) => {
                let detail = format!("directories, which are slower to unpack and copy: {}", with_causes(&*error));
                finding(false, detail, Some(needs))
            }
            Err(error) => finding(false, with_causes(&error), error.hint().as_deref().or(Some(needs))),
        }
    }

    /// What this machine offers and lacks.
    pub fn doctor() -> Vec<Finding> {
        let checks = Host::probe().report();
        let finding = |check: rbuild_executor::host::Check| Finding {
            what: check.what,
            ok: check.ok,
            detail: check.detail,
            hint: check.hint,
        };
        checks.into_iter().map(finding).collect()
    }
}
