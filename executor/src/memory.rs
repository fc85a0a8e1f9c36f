//! How much memory does this program keep that it has no use for?
//!
//! glibc learns from what is freed: after a list of 30 MB it keeps up to 60 MB for the next one, and lets lists of that
//! size grow in the heap, where each leaves a hole as large as it was when it moves. Told a size once it stops learning:
//! lists that are larger grow where they are, by remapping, and are gone when they are dropped.

use crate::sys;

/// From this size on.
const LARGE: i32 = 1 << 20;
/// What is kept at the end of the heap, so that it does not come and go with every buffer.
const LEFT: i32 = 4 << 20;

/// Gives memory back to the kernel once it is free. To be called before much is allocated.
pub fn give_memory_back() {
    sys::limit_free_memory(LARGE, LEFT);
}
