//! What of the host do the steps need?
//!
//! Pid 1 is born where the host's files are out of reach, so the supervisor opens what it will need and makes those mounts
//! that have a source: detached, to be attached by pid 1, and private, since a copy of a mount would otherwise be told of
//! what is mounted on the original, and tell.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rbuild_core::MountKind;
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;

use super::mounts::{failed, host_path};
use crate::error::Failure;
use crate::mount::{self, MountError, OverlayOptions, bind, open_beneath, set_private_attributes};
use crate::plan::{Plan, Step};
use crate::spec::{Network, SandboxMount};

/// Opened for one sandbox.
#[derive(Debug)]
pub(super) struct Sources {
    /// The network namespace to join.
    pub(super) network: Option<OwnedFd>,
    /// For each step of the plan what it mounts, if that comes from the host.
    pub(super) steps: Vec<Option<OwnedFd>>,
    /// Devices beside the usual ones, by their path below `/dev`.
    pub(super) devices: Vec<(String, OwnedFd)>,
}

impl Sources {
    pub(super) fn open(plan: &Plan) -> Result<Self, Failure> {
        let network = match &plan.network {
            Network::Join(path) => {
                let failed = |error| Failure::step(format!("join network `{}`", path.display()), error);
                Some(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?)
            }
            Network::Host | Network::None => None,
        };
        let mut sources = Self { network, steps: Vec::with_capacity(plan.steps.len()), devices: Vec::new() };
        for step in &plan.steps {
            let source =
                match step {
                    Step::Mount(mount) => mounted(mount).map_err(|error| failed(&mount.mount.target, error))?,
                    Step::Device(device) => Some(bind_device(&device.source).map_err(|error| {
                        Failure::step(format!("bind the device `{}`", device.source.display()), error)
                    })?),
                    Step::Dev { optional, .. } => {
                        sources.open_devices(optional)?;
                        None
                    }
                    _ => None,
                };
            sources.steps.push(source);
        }
        Ok(sources)
    }

    fn open_devices(&mut self, names: &[String]) -> Result<(), Failure> {
        for name in names {
            match bind_device(&Path::new("/dev").join(name)) {
                Ok(device) => self.devices.push((name.clone(), device)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Failure::step(format!("make `/dev/{name}`"), error)),
            }
        }
        Ok(())
    }
}

/// The node is the host's own: a sandbox may use the device, and not give the node another owner or mode.
pub(super) fn bind_device(path: &Path) -> io::Result<OwnedFd> {
    let made = private(path, Path::new(""), false)?;
    set_private_attributes(made.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, true)?;
    Ok(made)
}

/// The mount, if it has a source. Of an overlay the whole: only inside can a part of it be had.
fn mounted(wanted: &SandboxMount) -> Result<Option<OwnedFd>, MountError> {
    match &wanted.mount.kind {
        MountKind::Bind { source, recursive } => {
            private(source, &wanted.subpath, *recursive).map(Some).map_err(|error| {
                let path: PathBuf = source.join(&wanted.subpath);
                MountError::Open { path, source: error }
            })
        }
        MountKind::Overlay { lower, upper } => {
            mount::overlay(lower, upper.as_ref(), OverlayOptions { volatile: true }).map(Some)
        }
        _ => Ok(None),
    }
}

fn private(source: &Path, subpath: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut found = host_path(source)?;
    if !subpath.as_os_str().is_empty() {
        found = open_beneath(found.as_fd(), subpath, OFlags::empty())?;
    }
    let made = bind(found.as_fd(), recursive)?;
    set_private_attributes(made.as_fd(), MountAttrFlags::empty(), true)?;
    Ok(made)
}
