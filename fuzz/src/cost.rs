//! Does an input cost more than its length?
//!
//! libFuzzer's own limit is in seconds of the wall; a quadratic reader of a few kilobytes stays far below it. This one
//! is in this thread's processor time and grows with the input, so it holds on a busy machine too.

use rustix::time::{ClockId, clock_gettime};

/// What anything may cost, in seconds: a fully instrumented regular expression takes its time, too.
const FLAT: f64 = 0.25;
/// What each byte may cost, in seconds.
const BYTE: f64 = 20e-6;

/// Does something with `length` bytes of input.
///
/// # Panics
/// If that takes longer than so many bytes may.
pub fn bounded<T>(what: &str, length: usize, work: impl FnOnce() -> T) -> T {
    let start = now();
    let result = work();
    let took = now() - start;
    let allowed = FLAT + BYTE * length as f64;
    assert!(took <= allowed, "{what} of {length} bytes took {took:.3} s of processor time, not {allowed:.3} s");
    result
}

fn now() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
