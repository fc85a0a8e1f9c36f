//! What can a user do with rbuild?
//!
//! Everything, as functions: build, pull, push, run, and the bookkeeping of images and containers. No terminal, no
//! argument parsing: `cli` is thin over this, and a server can be.

mod assemble;
mod blocking;
mod build;
mod cdi;
mod container;
mod context;
mod engine;
mod error;
mod export;
pub mod files;
mod files_error;
mod host_ca;
mod images;
mod input;
mod lock;
mod login;
mod maintain;
mod mounted;
mod output;
pub mod prune;
mod records;
mod remote;
mod request;
mod secret;
mod ssh;
mod time;
mod value;
mod worker;

pub use build::{
    BuildError, BuildOutcome, BuildPlan, Cause, Checked, Forecast, PastBuild, PastResult, PastStep, PastVerdict,
    PlannedStage, PlannedStep, StepInput, StepKind,
};
pub use cdi::DeviceError;
pub use container::{
    Attach, BrokenContainer, ConfigureError, Container, LogLine, LogOptions, NetworkKind, PortError, PortMapping,
    RunError, Status, VolumeError, VolumeMount, monitor,
};
pub use context::ContextError;
pub use engine::{Config, Engine};
pub use error::Error;
pub use files::listing::{Change, Changes};
pub use files_error::FilesError;
pub use images::{HistoryRow, ImageSummary, Pulled, Pushed, PushedLayer, Removal};
pub use input::Input;
pub use maintain::Finding;
pub use rbuild_cache::{DiskUsage, LayerForm, Usage};
pub use rbuild_solver::ComponentChange;
pub use remote::RemoteError;
pub use request::*;
pub use secret::SecretError;
pub use ssh::{KeyError, SshError};
pub use worker::WorkerError;
