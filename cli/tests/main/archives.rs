//! Do images survive being files?

use std::fs;
use std::process::Command;

use rbuild_testkit::Bench;

fn ids(bench: &Bench<'_>, name: &str) -> String {
    bench.run(&["images", "-q", "--no-trunc", name]).ok().stdout
}

#[test]
fn save_and_load_keep_identity_and_names() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox\nRUN echo saved > /x\nCMD cat /x\n");
    bench.build(&["-t", "one", "-t", "two:2", "app"]).ok();
    bench.run(&["save", "-o", "both.tar", "one", "two:2", "busybox"]).ok();
    let other = Bench::new(crate::PROGRAM);
    other.run(&["load", "-i", &bench.argument("both.tar")]).ok().says(&["one:latest", "two:2", "busybox:latest"]);
    for name in ["one", "two:2", "busybox"] {
        assert_eq!(ids(&other, name), ids(&bench, name), "{name}");
    }
    assert_eq!(other.run(&["run", "--rm", "two:2"]).ok().stdout, "saved\n");
    // A build on it finds the base by its content.
    other.file("app/Dockerfile", "FROM one\nRUN test \"$(cat /x)\" = saved\n").build(&["app"]).ok();
}

/// Overlay refuses to have a directory twice; steps that change nothing have the same layer.
#[test]
fn an_image_may_have_a_layer_twice() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox\nRUN true\nRUN echo here >/x\nRUN true 2\nRUN true 3\nRUN cat /x\n");
    bench.build(&["-t", "twice", "app"]).ok();
    bench.run(&["save", "-o", "twice.tar", "twice"]).ok();
    let other = Bench::new(crate::PROGRAM);
    other.run(&["load", "-i", &bench.argument("twice.tar")]).ok();
    assert_eq!(other.run(&["run", "--rm", "twice", "cat", "/x"]).ok().stdout, "here\n");
    other.file("app/Dockerfile", "FROM twice\nRUN test \"$(cat /x)\" = here\n").build(&["app"]).ok();
}

/// A layer that is a file has its tar, so it is compressed when it leaves; a directory does not.
#[test]
fn plain_layers_of_an_archive_leave_as_they_came() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox\nRUN seq 300000 > /numbers\n");
    bench.build(&["-t", "plain", "-o", "type=docker,dest=plain.tar,compression=uncompressed", "app"]).ok();
    for form in ["auto", "directory"] {
        let other = Bench::new(crate::PROGRAM).with_variable("RBUILD_LAYERS", form);
        other.run(&["load", "-i", &bench.argument("plain.tar")]).ok();
        let count = |place: &str, wanted: fn(&fs::Metadata) -> bool| {
            let entries = fs::read_dir(other.state().join(place)).unwrap();
            entries.filter(|entry| wanted(&entry.as_ref().unwrap().metadata().unwrap())).count()
        };
        let directories = count("layers-v1", fs::Metadata::is_dir);
        assert!(form == "auto" || directories > 0);
        let blobs = || count("blobs/sha256", |blob| blob.len() > 100_000);
        assert!(blobs() >= directories, "{form}");
        other.run(&["save", "-o", &bench.argument("again.tar"), "plain"]).ok();
        assert!(blobs() >= 1, "{form}");
        let third = Bench::new(crate::PROGRAM);
        third.run(&["load", "-i", &bench.argument("again.tar")]).ok();
        assert_eq!(ids(&third, "plain"), ids(&bench, "plain"));
        assert_eq!(third.run(&["run", "--rm", "plain", "tail", "-n1", "/numbers"]).ok().stdout, "300000\n");
    }
}

#[test]
fn import_makes_an_image_of_a_tar() {
    let bench = busybox_bench!();
    bench.file("root/etc/motd", "imported\n");
    let tar = |flag: &str, name: &str| {
        let status = Command::new("tar").args([flag, name, "-C", "root", "."]).current_dir(bench.path("")).status();
        assert!(status.unwrap().success());
    };
    tar("-cf", "root.tar");
    tar("-czf", "root.tar.gz");
    for archive in ["root.tar", "root.tar.gz"] {
        bench.run(&["import", "--change", "ENV A=b", archive, "imported:1"]).ok().says(&["sha256:"]);
        bench.file("app/Dockerfile", "FROM imported:1 AS i\nFROM busybox\nCOPY --from=i /etc/motd /m\nRUN cat /m\n");
        bench.build(&["app"]).ok().says(&["imported"]);
    }
    bench.run(&["inspect", "-f", "{{json .Config.Env}}", "imported:1"]).ok().says(&["A=b"]);
}

#[test]
fn damaged_archives_are_refused() {
    let bench = busybox_bench!();
    bench.run(&["save", "-o", "good.tar", "busybox"]).ok();
    let good = fs::read(bench.path("good.tar")).unwrap();
    let before = bench.images();
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    for (name, bytes) in
        [("empty", &b""[..]), ("text", b"not a tar archive"), ("cut", &good[..middle]), ("flipped", &flipped)]
    {
        bench.file(name, bytes);
        let other = Bench::new(crate::PROGRAM);
        let output = other.run(&["load", "-i", &bench.argument(name)]);
        assert_eq!(output.code(), 1, "{name}: {}", output.both());
        assert!(!output.both().contains("panicked"), "{}", output.both());
        assert_eq!(other.images(), [""; 0], "{name} left an image");
    }
    bench.run(&["import", "text", "x"]).fails(1);
    assert_eq!(bench.images(), before);
}
