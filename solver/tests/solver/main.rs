//! Does the solver keep its promises, whatever the worker does?

#![expect(clippy::unwrap_used, reason = "what is wrong in a test fails the test, in its fakes too")]

mod ahead;
mod cancel;
mod components;
mod concurrency;
mod explain;
mod fake;
mod keys;
mod random;
mod scale;
mod turns;
