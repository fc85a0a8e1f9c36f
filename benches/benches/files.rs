//! How long do files take: those of a context that has not changed, those of a layer that is written?
//!
//! The budget of `50_000_known_files` is 150 ms.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use rbuild_benches::{packing, walking};

fn walks(criterion: &mut Criterion) {
    let context = tempfile::tempdir().expect("there is room for temporary files");
    walking::make(context.path(), 50_000).expect("the context can be written");
    // Files younger than the look that reads them are read again.
    std::thread::sleep(Duration::from_millis(50));
    let (_, known) = walking::look(context.path(), Vec::new()).expect("the context can be read");
    let known = known.expect("everything was read");
    let mut group = criterion.benchmark_group("walk");
    group.sample_size(20);
    group.bench_function("50_000_known_files", |bencher| {
        bencher.iter(|| walking::look(black_box(context.path()), known.clone()).expect("the context can be read"));
    });
}

fn layers(criterion: &mut Criterion) {
    criterion.bench_function("tar_of_1_000_files", |bencher| bencher.iter(|| packing::write(black_box(1000))));
}

criterion_group!(benches, walks, layers);
criterion_main!(benches);
