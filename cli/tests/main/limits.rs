//! How much memory and time does a lot of input take?

use std::time::Duration;

use rbuild_testkit::{Bench, Disk, Need};

/// What the program itself may have in use, in KiB.
const MEMORY: u64 = 150 * 1024;

#[test]
fn many_files_take_little_memory() {
    rbuild_testkit::needs!(Need::Root, Need::Overlay, Need::Command("busybox"));
    let disk = Disk::in_memory().unwrap();
    let bench = Bench::within(&disk.path(), crate::PROGRAM);
    bench.busybox();
    for directory in 0..500 {
        let directory = bench.path(format!("app/{directory}"));
        std::fs::create_dir_all(&directory).unwrap();
        for file in 0..100 {
            std::fs::write(directory.join(file.to_string()), format!("{}/{file}\n", directory.display())).unwrap();
        }
    }
    bench.file("app/Dockerfile", "FROM busybox\nCOPY . /app\nRUN test \"$(find /app -type f | wc -l)\" = 50001\n");
    for round in ["cold", "cached"] {
        let output = bench.build(&["-t", "many", "app"]).ok();
        println!("{round}: {} KiB, {:?}", output.peak, output.elapsed);
        assert!(output.peak > 0 && output.peak < MEMORY, "{round}: {} KiB", output.peak);
    }
    let output = bench.build(&["-o", "type=oci,dest=many.tar", "app"]).ok();
    assert!(output.peak < MEMORY, "export: {} KiB", output.peak);
}

#[test]
fn a_large_file_takes_little_memory() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox\nCOPY large /\n").file("app/large", "");
    let file = std::fs::OpenOptions::new().write(true).open(bench.path("app/large")).unwrap();
    file.set_len(400_000_000).unwrap();
    let output = bench.build(&["-t", "large", "app"]).ok();
    assert!(output.peak < MEMORY, "{} KiB", output.peak);
    let output = bench.run(&["save", "-o", "large.tar", "large"]).ok();
    assert!(output.peak < MEMORY, "{} KiB", output.peak);
}

#[test]
fn a_long_output_is_neither_cut_nor_kept_in_memory() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox\nRUN seq 1 300000\n");
    let output = bench.build(&["app"]).ok().says(&[" 299999\n", " 300000\n", " 150000\n"]);
    assert!(output.peak < MEMORY, "{} KiB", output.peak);
}

#[test]
fn a_hostile_dockerfile_takes_little_time() {
    let bench = busybox_bench!();
    let long = "a".repeat(2_000_000);
    let nested = "${x:-".repeat(50_000);
    let lines = "RUN \\\n".repeat(100_000);
    for text in [
        format!("FROM busybox\nENV {long}\n"),
        format!("FROM busybox\nENV x={nested}\n"),
        format!("FROM busybox\n{lines}"),
        "x\n".repeat(200_000),
        format!("FROM busybox\nRUN [{}\n", "[".repeat(500_000)),
    ] {
        let output = bench.file("app/Dockerfile", &text).build(&["app"]).fails(1);
        assert!(output.elapsed < Duration::from_secs(30), "{:?}: {}", output.elapsed, &text[..40]);
    }
}
