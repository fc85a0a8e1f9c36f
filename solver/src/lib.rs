//! Which results does a build need, and which of them must be made?
//!
//! `graph` is the build graph's data, shared with the frontend (which writes it) and the engine (which executes it).
//! The rest is generic over a [`Worker`], which knows what ops mean, and [`Records`], which remember what was made:
//! nothing outside `graph` looks into an op.

mod explain;
mod flight;
pub mod graph;
mod journal;
mod key;
mod plan;
mod progress;
mod records;
mod run;
mod slots;
mod solve;
mod step;
mod turn;
mod worker;

pub use explain::{ComponentChange, InputChange, Reason, Verdict};
pub use journal::{Entry, Journal, Making};
pub use records::{Provenance, Records, Stored};
pub use solve::{Limits, SolveError, Solver};
pub use worker::{Executed, Fingerprint, Naming, Task, Worker};
