//! Is what went wrong said, with where, and without a panic?

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use rbuild_testkit::{Account, Bench, Disk, Need, needs};

/// Dockerfiles with one mistake, and what has to be said about each.
const MISTAKES: &[(&str, &[&str])] = &[
    ("FROM busybox\nRUNN echo\n", &["Dockerfile:2:1", "RUNN", "RUN"]),
    ("FROM busybox\nCOPY nothing-here /\n", &["Dockerfile:2", "nothing-here"]),
    ("FROM busybox\nRUN echo before && exit 3\n", &["Dockerfile:2", "exit code: 3", "before"]),
    ("FROM busybox\nRUN no-such-program\n", &["Dockerfile:2", "exit code: 127", "no-such-program"]),
    ("FROM busybox\nRUN [\"/no-such-program\"]\n", &["Dockerfile:2", "no-such-program"]),
    ("FROM busybox\nCOPY --from=nowhere-to-be-found:1 /x /x\n", &["Dockerfile:2", "nowhere-to-be-found"]),
    ("FROM 127.0.0.1:1/no/such:base\n", &["Dockerfile:1", "127.0.0.1:1/no/such:base"]),
    ("FROM busybox\nUSER nobody-here\nRUN true\n", &["Dockerfile:3", "nobody-here"]),
    ("FROM busybox\nCOPY one two three\n", &["Dockerfile:2", "three"]),
    ("FROM busybox\nCMD [\"a\" \"b\"]\nEXPOSE eighty\n", &["Dockerfile:3", "eighty"]),
    ("FROM busybox\nRUN --mount=type=magic true\n", &["Dockerfile:2", "magic"]),
    ("FROM busybox\nCOPY <<EOF /x\nnever ends\n", &["Dockerfile:2", "EOF"]),
    ("FROM busybox\nENV\n", &["Dockerfile:2", "ENV"]),
    ("FROM\n", &["Dockerfile:1", "FROM"]),
    ("RUN echo\n", &["Dockerfile:1", "FROM"]),
    ("", &["Dockerfile"]),
    ("\0\u{1}\u{2}garbage", &["Dockerfile:1"]),
];

#[test]
fn mistakes_are_shown_where_they_are() {
    let bench = busybox_bench!();
    bench.file("app/one", "");
    for (text, expected) in MISTAKES {
        bench.file("app/Dockerfile", text).build(&["-t", "wrong", "app"]).fails(1).says(&["error"]).says(expected);
    }
    assert_eq!(bench.images(), ["busybox:latest"]);
    bench.assert_nothing_is_left();
}

/// BuildKit (Docker Engine 26.1.5) writes such names into the layer as they are, where they remove what they name: what
/// was copied is not in the image, and nobody says so.
#[test]
fn names_that_remove_files_in_a_layer_are_refused() {
    let bench = busybox_bench!();
    bench.file("app/.wh.etc", "").file("app/one", "");
    for step in ["COPY . /d/", "COPY one /d/.wh.etc", "COPY <<EOF /.wh.etc\nx\nEOF", "WORKDIR /d/.wh.etc/x"] {
        let text = format!("FROM busybox\nRUN true\n{step}\n");
        let said = ["Dockerfile:3", ".wh.etc` into a layer", "begins with `.wh.`"];
        bench.file("app/Dockerfile", text).build(&["app"]).fails(1).says(&said);
    }
}

#[test]
fn all_mistakes_of_a_file_come_at_once() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox\nRUNN a\nCOPY\nEXPOSE x\n");
    bench.build(&["app"]).fails(1).says(&["Dockerfile:2", "Dockerfile:3", "Dockerfile:4"]);
}

#[test]
fn a_directory_without_dockerfile_says_so() {
    let bench = busybox_bench!();
    bench.file("app/file", "");
    bench.build(&["app"]).fails(1).says(&["Dockerfile"]);
    bench.build(&["nowhere"]).fails(1).says(&["nowhere"]);
    bench.build(&["app/file"]).fails(1).says(&["app/file"]);
    bench.build(&["-f", "nowhere", "app"]).fails(1).says(&["nowhere"]);
}

#[test]
fn a_malformed_dockerignore_says_which_line() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox\nCOPY . /\n").file("app/.dockerignore", "*.log\n[z-\n");
    bench.build(&["app"]).fails(1).says(&[".dockerignore:2", "[z-"]);
    bench.file("app/.dockerignore", b"\xff\xfe broken \x00\n");
    let output = bench.build(&["app"]);
    assert!(output.code() <= 1 && !output.both().contains("panicked"), "{}", output.both());
}

#[test]
fn an_unreadable_context_says_what_cannot_be_read() {
    needs!(Need::Root, Need::Overlay, Need::UserNamespaces, Need::Command("busybox"), Need::Command("newuidmap"));
    let account = Account::create().unwrap();
    let bench = Bench::of(&account, crate::PROGRAM);
    bench.file("app/Dockerfile", "FROM scratch\nCOPY . /\n").file("app/closed", "");
    // Root's and nobody else's: the user cannot even open it.
    std::os::unix::fs::chown(bench.path("app/closed"), Some(0), Some(0)).unwrap();
    fs::set_permissions(bench.path("app/closed"), Permissions::from_mode(0o600)).unwrap();
    bench.build(&["app"]).fails(1).says(&["closed", "ermission denied"]);
    bench.file("app/.dockerignore", "closed\n").build(&["app"]).ok();
    std::os::unix::fs::chown(bench.path("app"), Some(0), Some(0)).unwrap();
    fs::set_permissions(bench.path("app"), Permissions::from_mode(0o700)).unwrap();
    bench.build(&["app"]).fails(1).says(&["app", "ermission denied"]);
}

#[test]
fn a_full_disk_is_named_and_survived() {
    needs!(Need::Command("mkfs.ext4"), Need::Root, Need::Overlay, Need::Command("busybox"));
    let disk = Disk::small("40M").unwrap();
    let bench = Bench::new(crate::PROGRAM).with_state(&disk.path().join("state"));
    bench.busybox();
    bench.file("app/Dockerfile", "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=100\n");
    bench.build(&["-t", "big", "app"]).fails(1).says(&["Dockerfile:2", "No space left on device"]);
    bench.file("app/large", vec![7; 60_000_000]).file("app/Dockerfile", "FROM busybox\nCOPY large /\n");
    bench.build(&["-t", "big", "app"]).fails(1).says(&["Dockerfile:2", "o space left on device"]);
    assert_eq!(bench.images(), ["busybox:latest"]);
    bench.file("app/Dockerfile", "FROM busybox\nRUN echo fits > /small\n");
    bench.build(&["-t", "small", "app"]).ok();
    assert_eq!(bench.run(&["run", "--rm", "small", "cat", "/small"]).ok().stdout, "fits\n");
}

#[test]
fn a_store_that_cannot_be_used_says_so() {
    let bench = busybox_bench!();
    bench.file("in-the-way", "");
    bench.run(&["--root", "in-the-way", "images"]).fails(1).says(&["in-the-way"]);
    bench.run(&["--root", "/proc/nowhere", "images"]).fails(1).says(&["/proc/nowhere"]);
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox\n");
    bench.build(&["--squash", "app"]).fails(2).says(&["--squash"]);
    bench.build(&["--cache-to", "type=inline", "app"]).fails(2).says(&["--cache-to"]);
    bench.build(&["-o", "type=magic", "app"]).fails(2).says(&["magic"]);
    bench.run(&["run", "--device", "/dev/sda", "busybox"]).fails(2).says(&["--device"]);
}
