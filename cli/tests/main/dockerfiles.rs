//! Which Dockerfile and which ignore file count, and what if some of the files cannot be read?

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use rbuild_testkit::{Account, Bench, Need, needs};

use crate::contexts::{tar, tar_of};

/// The paths in the image that `COPY . /` makes of `app`.
fn copied(bench: &Bench<'_>, arguments: &[&str]) -> String {
    let tree = bench.image(arguments).tree();
    tree.keys().map(String::as_str).collect::<Vec<_>>().join(" ")
}

#[test]
fn a191_the_dockerfile_has_one_of_three_names() {
    let bench = bare_bench!();
    let text = |name: &str| format!("FROM scratch\nCOPY <<E /{name}\nE\n");
    let app = bench.path("app");
    let started = |expected: &str| {
        drop(fs::remove_dir_all(bench.path("out")));
        bench.build(&["-o", "out", "app"]).ok();
        assert!(bench.path("out").join(expected).exists(), "{expected}");
    };
    bench.file("app/x", "");
    bench.build(&["app"]).fails(1).says(&["cannot read the Dockerfile `app/Dockerfile`"]);
    for name in ["Containerfile", "dockerfile", "Dockerfile"] {
        bench.file(&format!("app/{name}"), text(name));
        started(name);
    }
    bench.file("elsewhere/real", text("linked"));
    fs::remove_file(app.join("Dockerfile")).unwrap();
    symlink("../elsewhere/real", app.join("Dockerfile")).unwrap();
    started("linked");
    // A link to nothing is not there.
    fs::remove_file(bench.path("elsewhere/real")).unwrap();
    started("dockerfile");
}

#[test]
fn a191_a_tar_has_the_same_names() {
    let bench = bare_bench!();
    let copy = "FROM scratch\nCOPY x /\n";
    for name in ["Containerfile", "dockerfile", "Dockerfile"] {
        let sent = tar_of(&[(name, copy), ("x", name)]);
        bench.run_with_input(&["build", "-o", "out", "-"], sent).ok();
        assert_eq!(bench.read("out/x"), name);
    }
}

#[test]
fn a001_a_mark_and_bytes_of_no_encoding_are_no_mistake() {
    let bench = bare_bench!();
    bench
        .file("app/Dockerfile", b"\xef\xbb\xbfFROM scratch\nLABEL a=\"\xff\"\n# \xc3\x28\nCOPY x /\n")
        .file("app/x", "");
    bench.build(&["app"]).ok();
    bench.run_with_input(&["build", "-f", "-", "app"], bench.read_bytes("app/Dockerfile")).ok();
}

#[test]
fn a002_a_sent_dockerfile_with_windows_lines_is_one() {
    let bench = bare_bench!();
    bench.run_with_input(&["build", "-o", "out", "-"], "FROM scratch\r\nCOPY <<E /x\r\nline\r\nE\r\n").ok();
    assert_eq!(bench.read("out/x"), "line\r\n");
}

#[test]
fn a193_a_dockerfile_may_lie_outside_the_context() {
    let bench = bare_bench!();
    bench.file("app/in", "in").file("build/Dockerfile", "FROM scratch\nCOPY in /\n");
    bench.build(&["-o", "out", "-f", "build/Dockerfile", "app"]).ok();
    assert_eq!(bench.read("out/in"), "in");
    let text = bench.read("build/Dockerfile");
    let again = bench.run_with_input(&["build", "--progress", "plain", "-f", "-", "app"], text).ok();
    assert!(again.cached().contains(&"[1/1] COPY in /"), "{}", again.both());
}

#[test]
fn a196_the_ignore_file_of_the_dockerfile_wins() {
    let bench = bare_bench!();
    let copy = "FROM scratch\nCOPY . /\n";
    bench.file("app/.dockerignore", "a\n*ocker*\n").file("app/a", "").file("app/b", "").file("app/Dockerfile", copy);
    assert_eq!(copied(&bench, &["app"]), "b");
    bench.file("app/Dockerfile.dockerignore", "b\n*ocker*\n");
    assert_eq!(copied(&bench, &["app"]), "a");
    // Beside the Dockerfile, wherever that is; an empty one is one, too.
    bench.file("build/other", copy).file("build/other.dockerignore", "");
    assert_eq!(copied(&bench, &["-f", "build/other", "app"]), ".dockerignore Dockerfile Dockerfile.dockerignore a b");
    // What comes from standard input lies beside nothing.
    let output = format!("type=oci,dest={}", bench.argument("x.tar"));
    bench.run_with_input(&["build", "-o", &output, "-f", "-", "app"], copy).ok();
    let tree = rbuild_testkit::Image::read(&bench.path("x.tar")).unwrap().tree();
    assert_eq!(tree.keys().collect::<Vec<_>>(), ["b"]);
}

#[test]
fn a200_an_ignored_dockerfile_is_read_but_not_copied() {
    let bench = bare_bench!();
    bench.file("app/.dockerignore", "Dockerfile\n.dockerignore\n").file("app/a", "");
    bench.file("app/Dockerfile", "FROM scratch\nCOPY . /\n");
    assert_eq!(copied(&bench, &["app"]), "a");
    bench.file("app/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    bench.build(&["app"]).fails(1).says(&["Dockerfile:2", "not found", "the pattern `Dockerfile`"]);
}

#[test]
fn a202_what_is_sent_has_its_ignore_file_unless_it_is_not_wanted() {
    let bench = bare_bench!();
    let files =
        [(".dockerignore", "secret\n.dockerignore\n"), ("Dockerfile", "FROM scratch\nCOPY . /\n"), ("secret", "")];
    let sent = tar_of(&files);
    let output = format!("type=oci,dest={}", bench.argument("x.tar"));
    for (flags, expected) in
        [(&[][..], "Dockerfile"), (&["--no-remote-dockerignore"], ".dockerignore Dockerfile secret")]
    {
        bench.run_with_input(&[&["build", "-o", &output, "-"], flags].concat(), &sent).ok();
        let tree = rbuild_testkit::Image::read(&bench.path("x.tar")).unwrap().tree();
        assert_eq!(tree.keys().map(String::as_str).collect::<Vec<_>>().join(" "), expected);
    }
    // A directory of one's own is no remote context.
    for (path, text) in files {
        bench.file(&format!("app/{path}"), text);
    }
    assert_eq!(copied(&bench, &["--no-remote-dockerignore", "app"]), "Dockerfile");
    let linked = tar(&[
        ("Dockerfile", tar::EntryType::Regular, "FROM scratch\nCOPY . /\n"),
        (".dockerignore", tar::EntryType::Symlink, "/../../../../../../etc/passwd"),
    ]);
    bench.run_with_input(&["build", "-"], linked).ok();
    let wrong = tar_of(&[(".dockerignore", "ok\n[z-\n"), ("Dockerfile", "FROM scratch\n")]);
    bench.run_with_input(&["build", "-"], wrong).fails(1).says(&[".dockerignore:2", "[z-"]);
}

#[test]
fn a195_a_change_that_keeps_size_and_time_is_noticed() {
    let bench = bare_bench!();
    bench.file("app/Dockerfile", "FROM scratch\nCOPY file /\n").file("app/file", "one");
    let time = fs::metadata(bench.path("app/file")).unwrap().modified().unwrap();
    bench.build(&["-o", "out", "app"]).ok();
    // The first build saw a file too young to be believed; now its digest is known.
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(bench.build(&["app"]).ok().cached().contains(&"[1/1] COPY file /"));
    bench.file("app/file", "two");
    File::options().write(true).open(bench.path("app/file")).unwrap().set_modified(time).unwrap();
    bench.build(&["-o", "out", "app"]).ok();
    assert_eq!(bench.read("out/file"), "two");
    // Another file in its place, as `mv` and editors put it there.
    bench.file("app/new", "six");
    File::options().write(true).open(bench.path("app/new")).unwrap().set_modified(time).unwrap();
    fs::rename(bench.path("app/new"), bench.path("app/file")).unwrap();
    bench.build(&["-o", "out", "app"]).ok();
    assert_eq!(bench.read("out/file"), "six");
}

#[test]
fn a203_what_cannot_be_read_fails_only_who_needs_it() {
    needs!(Need::Root, Need::Overlay, Need::UserNamespaces, Need::Command("newuidmap"));
    let account = Account::create().unwrap();
    let bench = Bench::of(&account, crate::PROGRAM);
    for file in ["app/file", "app/dir/in", "app/part/kept/in", "app/open"] {
        bench.file(file, "");
    }
    // Root's and nobody else's.
    for (path, mode) in [("app/file", 0o600), ("app/dir", 0o700), ("app/part", 0o700)] {
        std::os::unix::fs::chown(bench.path(path), Some(0), Some(0)).unwrap();
        fs::set_permissions(bench.path(path), Permissions::from_mode(mode)).unwrap();
    }
    for (ignore, copy, expected) in [
        ("", "open", Ok(())),
        ("", "file", Err("`/file`")),
        ("", "dir", Err("`/dir`")),
        ("", "dir/in", Err("dir")),
        ("", "part/kept", Err("part")),
        ("", "o*", Ok(())),
        ("file\ndir\npart", ".", Ok(())),
        ("file\ndir\npart\n!part/kept", ".", Ok(())),
        ("file\ndir\npart\n!part/kept", "part/kept", Err("part")),
        ("file\npart", ".", Err("`/dir`")),
        ("dir\npart", ".", Err("`/file`")),
        ("*\n!open", ".", Ok(())),
    ] {
        bench.file("app/.dockerignore", ignore).file("app/Dockerfile", format!("FROM scratch\nCOPY {copy} /x/\n"));
        let output = bench.build(&["app"]);
        match expected {
            Ok(()) => drop(output.ok()),
            Err(path) => drop(output.fails(1).says(&["Dockerfile:2", path, "ermission denied"])),
        }
    }
}
