//! What can a user do with rbuild?
//!
//! Everything, as functions: build, pull, push, run, and the bookkeeping of images and containers. No terminal, no
//! argument parsing: `cli` is thin over this, and a server can be.

pub mod files;
pub mod request;

pub use request::*;
