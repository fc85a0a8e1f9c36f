//! What does an OCI image consist of, and what are its byte forms?
//!
//! References, manifests, configurations and layer tars, deterministic both ways. No network, no store.

pub mod config;

pub use config::{Healthcheck, History, ImageConfig, RootFs, RuntimeConfig};
