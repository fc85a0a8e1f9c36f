//! Can files be sent to a build, whatever a stream says?

use std::fs;
use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rbuild_testkit::{Account, Bench, Need, Output, bench::finish, needs};
use rustix::process::{Pid, Signal, kill_process};
use tar::{EntryType, Header};

/// One entry: a path, its type, and its content or where it points.
pub(crate) type Entry<'a> = (&'a str, EntryType, &'a str);

/// A tar with exactly these entries, however wrong.
pub(crate) fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, content) in entries {
        let mut header = Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(if *kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_mtime(1_500_000_000);
        header.set_uid(4321);
        header.set_gid(4321);
        // The library's own setters refuse what a hostile archive has.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        let data = if kind.is_file() { content.as_bytes() } else { b"" };
        if !kind.is_file() {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A tar of plain files.
pub(crate) fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
    tar(&files.iter().map(|(path, text)| (*path, EntryType::Regular, *text)).collect::<Vec<_>>())
}

/// What a program of this machine makes of some bytes.
fn through(program: &str, input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
    let writer = thread::spawn(move || stdin.write_all(&input).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output.stdout
}

/// Builds with something on standard input and unpacks the result to `out`.
fn build_from(bench: &Bench<'_>, arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
    drop(fs::remove_dir_all(bench.path("out")));
    bench.run_with_input(&[&["build", "--progress", "plain", "-o", "out"], arguments].concat(), input)
}

/// Nothing of a context may outlive its build.
fn assert_no_scratch(bench: &Bench<'_>) {
    for place in ["ingest", "trash"] {
        let left: Vec<_> =
            fs::read_dir(bench.state().join(place)).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a192_a_tar_on_standard_input_is_the_context() {
    let bench = bare_bench!();
    let plain = tar_of(&[("Dockerfile", "FROM scratch\nCOPY . /\n"), ("deep/er/file", "text"), ("./dot", "")]);
    for program in ["cat", "gzip", "bzip2", "xz", "zstd"] {
        if rbuild_testkit::probe::find(program).is_none() {
            println!("skipped: there is no `{program}`");
            continue;
        }
        build_from(&bench, &["-"], through(program, &plain)).ok();
        assert_eq!(bench.read("out/deep/er/file"), "text", "{program}");
        assert!(bench.path("out/dot").exists() && bench.path("out/Dockerfile").exists());
        assert_no_scratch(&bench);
    }
    // The tar says 4321: it does not count who owned a file elsewhere.
    let archive = bench.argument("image.tar");
    let output = format!("type=oci,dest={archive}");
    bench.run_with_input(&["build", "-o", &output, "-"], &plain).ok();
    let tree = rbuild_testkit::Image::read(archive.as_ref()).unwrap().tree();
    assert_eq!((tree["deep/er/file"].uid, tree["deep/er"].mode, tree["deep/er/file"].mode), (0, 0o755, 0o644));
}

#[test]
fn a192_the_same_files_in_a_tar_and_in_a_directory_share_the_cache() {
    let bench = bare_bench!();
    let dockerfile = "FROM scratch\nCOPY a b /\n";
    bench.file("app/Dockerfile", dockerfile).file("app/a", "one").file("app/b", "two");
    bench.build(&["app"]).ok();
    let sent = tar_of(&[("b", "two"), ("Dockerfile", dockerfile), ("a", "one")]);
    assert!(build_from(&bench, &["-"], sent).ok().cached().contains(&"[1/1] COPY a b /"));
}

#[test]
fn a192_a_dockerfile_on_standard_input_has_no_files() {
    let bench = bare_bench!();
    build_from(&bench, &["-"], "FROM scratch\nCOPY <<E /x\nhere\nE\n").ok();
    assert_eq!(bench.read("out/x"), "here\n");
    build_from(&bench, &["-"], "FROM scratch\nCOPY x /\n").fails(1).says(&["Dockerfile:2", "\"/x\": not found"]);
    build_from(&bench, &["-f", "other", "-"], "FROM scratch\n").fails(1).says(&["standard input", "--file other"]);
    build_from(&bench, &["-f", "-", "-"], "FROM scratch\n").fails(2).says(&["standard input"]);
    build_from(&bench, &["-"], "").fails(1).says(&["Dockerfile"]);
    build_from(&bench, &["-"], [0; 10240]).fails(1).says(&["Dockerfile"]);
    build_from(&bench, &["-"], b"\x1f\x8b\x08 no gzip").fails(1).says(&["standard input", "gzip", "no tar"]);
    assert_no_scratch(&bench);
}

#[test]
fn a193_file_names_a_path_inside_what_was_sent() {
    let bench = bare_bench!();
    let copy = "FROM scratch\nCOPY which /\n";
    let sent = tar(&[
        ("docker/second", EntryType::Regular, copy),
        ("docker/second.dockerignore", EntryType::Regular, "*\n!which\n"),
        ("which", EntryType::Regular, "sent"),
        ("link", EntryType::Symlink, "/docker/second"),
        ("out-of-it", EntryType::Symlink, "../../../../../../../../etc/passwd"),
    ]);
    bench.file("docker/second", "FROM scratch\nCOPY not-this-one /\n");
    for path in ["docker/second", "/docker/second", "../docker/second", "link"] {
        build_from(&bench, &["-f", path, "-"], &sent).ok();
        assert_eq!(bench.read("out/which"), "sent", "{path}");
    }
    for path in ["out-of-it", "none", "docker"] {
        build_from(&bench, &["-f", path, "-"], &sent).fails(1).says(&["cannot read the Dockerfile", path]);
    }
    build_from(&bench, &["-"], &sent).fails(1).says(&["cannot read the Dockerfile `Dockerfile`"]);
    bench.file("Dockerfile", copy);
    build_from(&bench, &["-f", "-", "--build-context", "x=.", "docker"], "FROM scratch\nCOPY --from=x Dockerfile /\n")
        .ok();
    assert_eq!(bench.read("out/Dockerfile"), copy);
}

#[test]
fn a194_a_directory_of_what_was_sent_can_be_the_context() {
    let bench = bare_bench!();
    let sent = tar(&[
        ("top", EntryType::Regular, ""),
        ("a/b/Dockerfile", EntryType::Regular, "FROM scratch\nCOPY . /\n"),
        ("a/b/in", EntryType::Regular, "in"),
        ("link", EntryType::Symlink, "/a/b"),
    ]);
    for path in ["a/b", "/a/b/", "link", "../../a/b"] {
        build_from(&bench, &["--context-subdir", path, "-"], &sent).ok();
        let mut names: Vec<_> =
            fs::read_dir(bench.path("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["Dockerfile", "in"], "{path}");
    }
    for path in ["none", "top"] {
        build_from(&bench, &["--context-subdir", path, "-"], &sent).fails(1).says(&["standard input", path]);
    }
    bench.file("app/Dockerfile", "FROM scratch\n");
    bench.build(&["--context-subdir", "a", "app"]).fails(1).says(&["--context-subdir"]);
}

#[test]
fn a192_no_entry_of_a_tar_leads_out_of_it() {
    use EntryType::{Directory, Link, Regular, Symlink};
    let bench = bare_bench!();
    let dockerfile = ("Dockerfile", Regular, "FROM scratch\nCOPY . /\n");
    let outside = bench.argument("outside");
    fs::create_dir(&outside).unwrap();
    let (through_absolute, in_place) = (format!("{outside}/a"), outside.trim_start_matches('/').to_owned());
    // What is refused, and what of it is said.
    for (entries, expected) in [
        (&[("../escaped", Regular, "x")][..], "../escaped"),
        (&[("a/../../escaped", Regular, "x")], "a/../../escaped"),
        (&[("hard", Link, "/etc/passwd")], "hard"),
        (&[("hard", Link, "../../../../etc/passwd")], "hard"),
        (&[("up", Symlink, ".."), ("hard", Link, "up/state")], "hard"),
        (&[("file", Regular, "x"), ("file/below", Regular, "x")], "file"),
    ] {
        let sent = tar(&[&[dockerfile], entries].concat());
        build_from(&bench, &["-"], sent).fails(1).says(&["standard input", expected]);
    }
    // What is harmless, and where it then is.
    for (entries, expected) in [
        (&[(&*through_absolute, Regular, "x")][..], &*through_absolute),
        (&[("to", Symlink, &*outside), ("to/a", Regular, "x")], &*in_place),
        (&[("up", Symlink, "../../../../../.."), ("up/escaped", Regular, "x")], "escaped"),
        (&[("etc", Symlink, "/"), ("etc/passwd", Regular, "x")], "passwd"),
        (&[("d", Directory, ""), ("d", Symlink, "/"), ("d/in", Regular, "x")], "in"),
        (&[("loop", Symlink, "loop"), ("fine", Regular, "x")], "fine"),
    ] {
        let sent = tar(&[&[dockerfile], entries].concat());
        build_from(&bench, &["-"], sent).ok();
        let path = bench.path(format!("out/{}", expected.trim_start_matches('/')));
        assert!(path.symlink_metadata().is_ok(), "{expected}");
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!bench.path("escaped").exists() && !bench.state().join("escaped").exists());
    assert_no_scratch(&bench);
}

#[test]
fn a192_a_stream_that_breaks_off_is_no_context() {
    let bench = bare_bench!();
    let large = "x".repeat(5000);
    let whole = tar_of(&[("Dockerfile", "FROM scratch\nCOPY . /\n"), ("large", &large)]);
    let packed = through("gzip", &whole);
    let mut flipped = packed.clone();
    let middle = flipped.len() - 6;
    flipped[middle] ^= 0xff;
    for (what, sent) in [
        ("within a file", &whole[..3000]),
        ("within a header", &whole[..1100]),
        ("between two files", &whole[..1024]),
        ("before its end", &whole[..whole.len() - 1024]),
        ("compressed", &packed[..packed.len() / 2]),
        ("but for its end", &packed[..packed.len() - 4]),
        ("wrong checksum", &flipped[..]),
    ] {
        let output = build_from(&bench, &["-t", "half", "-"], sent).fails(1).says(&["standard input"]);
        assert!(!bench.path("out").exists(), "{what}: {}", output.both());
    }
    assert!(bench.images().is_empty());
    assert_no_scratch(&bench);
}

#[test]
fn a192_a_hundred_megabytes_take_little_memory_and_no_room_afterwards() {
    let bench = bare_bench!();
    let mut builder = tar::Builder::new(Vec::with_capacity(101 << 20));
    let mut add = |path: &str, content: &[u8]| {
        let mut header = Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, content).unwrap();
    };
    add("Dockerfile", b"FROM scratch\nCOPY small /\n");
    add("small", b"small");
    let noise: Vec<u8> = (0..100_u32 << 20).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    add("large", &noise);
    let sent = builder.into_inner().unwrap();
    let output = build_from(&bench, &["-"], sent).ok();
    assert_eq!(bench.read("out/small"), "small");
    assert!(output.peak < 70_000, "{} KiB", output.peak);
    assert_no_scratch(&bench);
}

#[test]
fn a192_a_file_that_is_a_tar_is_a_context() {
    let bench = bare_bench!();
    let plain = tar_of(&[("Dockerfile", "FROM scratch\nCOPY . /\n"), ("file", "text")]);
    bench.file("plain.tar", &plain).file("packed.tgz", through("gzip", &plain)).file("text", "FROM scratch\n");
    for path in ["plain.tar", "packed.tgz"] {
        drop(fs::remove_dir_all(bench.path("out")));
        bench.build(&["-o", "out", path]).ok();
        assert_eq!(bench.read("out/file"), "text", "{path}");
    }
    bench.build(&["text"]).fails(1).says(&["`text`", "neither a directory nor a tar"]);
    bench.build(&["/dev/null"]).fails(1).says(&["/dev/null"]);
    bench.build(&["missing.tar"]).fails(1).says(&["missing.tar"]);
    let mut shell = Command::new("bash");
    let program = bench.argument("rbuild");
    shell.args(["-c", &format!("{program} build -o piped <(cat plain.tar)")]).current_dir(bench.path(""));
    shell.env("RBUILD_ROOT", bench.state()).stdin(Stdio::null());
    finish(shell, b"").ok();
    assert_eq!(bench.read("piped/file"), "text");
    assert_no_scratch(&bench);
}

#[test]
fn a192_an_ordinary_user_can_send_what_others_own() {
    needs!(Need::Root, Need::Overlay, Need::UserNamespaces, Need::Command("newuidmap"));
    let account = Account::create().unwrap();
    let bench = Bench::of(&account, crate::PROGRAM);
    let sent = tar(&[
        ("Dockerfile", EntryType::Regular, "FROM scratch\nCOPY in d /\n"),
        ("in", EntryType::Regular, "in"),
        ("d/deep", EntryType::Regular, "deep"),
    ]);
    build_from(&bench, &["-"], sent).ok();
    assert_eq!((&*bench.read("out/in"), &*bench.read("out/deep")), ("in", "deep"));
    assert_no_scratch(&bench);
}

/// A build that waits for the rest of a tar, and the pipe to it, which stays open.
fn wait_for_more(bench: &Bench<'_>) -> (Child, ChildStdin) {
    let mut command = bench.command(&["build", "-t", "never", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let sent = tar_of(&[("first", "1"), ("Dockerfile", "FROM scratch\nCOPY . /\n"), ("second", &"2".repeat(2000))]);
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(&sent[..3000]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let is_there = || {
        let entries = fs::read_dir(bench.state().join("ingest")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path().join("second")).any(|path| path.exists())
    };
    while !is_there() {
        assert!(Instant::now() < deadline, "nothing was unpacked");
        thread::sleep(Duration::from_millis(10));
    }
    (child, pipe)
}

#[test]
fn a192_an_interrupted_build_removes_what_was_sent() {
    let bench = bare_bench!();
    for signal in [Signal::INT, Signal::TERM] {
        let (mut child, _pipe) = wait_for_more(&bench);
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert_no_scratch(&bench);
    }
    // Who is killed cannot clean up: the next build does.
    let (mut child, _pipe) = wait_for_more(&bench);
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    build_from(&bench, &["-"], "FROM scratch\nCOPY <<E /x\nE\n").ok();
    assert_no_scratch(&bench);
}
