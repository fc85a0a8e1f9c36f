//! How fast is it? The benchmarks are in `benches/` and `examples/`; here is what they read, and how.

pub mod dockerfiles;
pub mod packing;
pub mod reading;
pub mod sandboxes;
pub mod solving;
pub mod walking;
