//! How fast is it? The benchmarks are in `benches/`; this library is empty.
