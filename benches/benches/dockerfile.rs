//! How long does a Dockerfile take from its text to the build graph?
//!
//! The budget of `typical_500_lines` is 2 ms, that of ten megabytes 1.5 s; memory is measured by `examples/read.rs`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use rbuild_benches::{dockerfiles, reading};
use rbuild_frontend::{Source, check, parse};

/// What people wait for: parse, check and lower. Long texts are read a few times only.
fn text_to_graph(criterion: &mut Criterion) {
    for case in dockerfiles::CASES {
        let source = Source::new("Dockerfile", (case.text)());
        let mut group = criterion.benchmark_group("text_to_graph");
        if source.text().len() > 100_000 {
            group.sample_size(10).warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(2));
        }
        group.bench_function(case.name, |bencher| bencher.iter(|| reading::read(black_box(&source))));
        group.finish();
    }
}

/// The first two parts of it.
fn parts(criterion: &mut Criterion) {
    let typical = dockerfiles::case("typical_500_lines").expect("it is the first in the list");
    let source = Source::new("Dockerfile", (typical.text)());
    criterion.bench_function("parse_500_lines", |bencher| bencher.iter(|| parse(black_box(&source))));
    let file = parse(&source).expect("there are no mistakes in it");
    criterion.bench_function("check_500_lines", |bencher| bencher.iter(|| check(black_box(&file))));
}

criterion_group!(benches, text_to_graph, parts);
criterion_main!(benches);
