//! What must hold for every input, and what do targets need to ask it?
//!
//! A target is a file of `targets/`: it turns bytes into calls and asserts. What it asserts with is here, and everything
//! that would be worth reading without the fuzzer: the naive implementations that the real ones are compared with, the
//! invented registry, the directory whose neighbours must not change.

pub mod cost;
pub mod ignore;
pub mod input;
pub mod jail;
pub mod registry;
pub mod spans;
pub mod tar;
