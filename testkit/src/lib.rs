//! What does a test of the whole program need around it?
//!
//! A place to work in ([`Bench`]), another user to work as ([`Account`]), a registry to talk to ([`Registry`]), a root
//! file system to start from ([`rootfs`]), a server to download from ([`web`], [`git`]), a way to read what came out ([`image`], [`http`], [`processes`]), and an
//! honest way to say that a machine cannot run a test ([`needs!`]). Nothing here knows the crates under test: what they
//! write is read again by other means.
//!
//! Everything is undone when its value is dropped. This crate is only ever a development dependency.

pub mod account;
pub mod bench;
pub mod disk;
pub mod git;
pub mod http;
pub mod image;
pub mod probe;
pub mod processes;
pub mod registry;
pub mod rootfs;
pub mod web;

pub use account::Account;
pub use bench::{Bench, Output};
pub use disk::Disk;
pub use image::Image;
pub use probe::Need;
pub use registry::{Access, Registry};
