//! Which results does a build need, and which of them must be made?
//!
//! `graph` is the build graph's data, shared with the frontend (which writes it) and the engine (which executes it).

pub mod graph;
