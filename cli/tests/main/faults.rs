//! What happens to who is unlucky: a disk that is full, a store that changes its form, a context that has odd things?

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output};

use rbuild_testkit::{Bench, Need, needs};

/// Runs a script that has mounts of its own, in the bench's directory. `$0` is the program.
fn isolated(bench: &Bench<'_>, script: &str) -> Output {
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-ec", script, crate::PROGRAM]).current_dir(bench.path(""));
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn prune_makes_room_on_a_disk_that_has_none() {
    needs!(Need::Root, Need::Overlay, Need::Command("busybox"), Need::Command("mount"));
    let bench = bare_bench!();
    bench.file("app/Dockerfile", "FROM scratch\nCOPY big /\n").file("app/big", vec![7; 4 << 20]).file("state/x", "");
    let script = "mount -t tmpfs -o size=16m none state
        for i in 1 2; do echo $i >> app/big; $0 --root state build -q -t one app >&2; done
        $0 --root state rmi one >&2
        dd if=/dev/zero of=state/fill bs=4k 2>&1 | grep -q 'No space left'
        ! $0 --root state build -q --no-cache -t one app >&2 || exit 3
        dd if=/dev/zero of=state/fill2 bs=1k 2>/dev/null || true
        $0 --root state prune -af
        rm state/fill state/fill2
        $0 --root state build -q -t one app";
    let done = isolated(&bench, script);
    assert!(done.status.success(), "{}", text(&done));
}

#[test]
fn a_load_that_fills_the_disk_leaves_it_as_it_was() {
    needs!(Need::Root, Need::Overlay, Need::Command("busybox"), Need::Command("mount"));
    let bench = bare_bench!();
    bench.file("app/Dockerfile", "FROM scratch\nCOPY big /\n").file("app/big", vec![7; 12 << 20]).file("state/x", "");
    bench.build(&["-t", "large", "app"]).ok();
    bench.run(&["save", "-o", "large.tar", "large"]).ok();
    let script = "mount -t tmpfs -o size=8m none state
        $0 --root state images >&2
        ! $0 --root state load -i large.tar >&2 || exit 3
        du -sk state/trash state/ingest | cut -f1";
    let done = isolated(&bench, script);
    assert!(done.status.success(), "{}", text(&done));
    let left: u64 = String::from_utf8_lossy(&done.stdout).lines().map(|line| line.parse::<u64>().unwrap()).sum();
    assert!(left < 100, "{left} KiB are left: {}", text(&done));
}

#[test]
fn nothing_holds_the_store_when_a_build_has_ended() {
    needs!(Need::Root, Need::Overlay, Need::Command("busybox"), Need::Command("mount"));
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox\nRUN true\nRUN touch /a\n").file("store/x", "");
    bench.run(&["save", "-o", "busybox.tar", "busybox"]).ok();
    let script = "mount -t tmpfs none store
        $0 --root store load -i busybox.tar
        $0 --root store build -q app && umount store && ls store/x";
    let done = isolated(&bench, script);
    assert!(done.status.success(), "{}", text(&done));
}

#[test]
fn a_former_layer_of_another_form_is_no_help_and_no_harm() {
    needs!(Need::Root, Need::Overlay, Need::Command("busybox"));
    let bench = bare_bench!();
    bench.file("app/Dockerfile", "FROM scratch\nCOPY a b /\n").file("app/a", "a").file("app/b", "b");
    for form in ["auto", "directory", "auto"] {
        for round in 0..2 {
            bench.file("app/b", format!("{form} {round}"));
            bench.run(&["--layers", form, "build", "-o", "out", "app"]).ok();
            assert_eq!(bench.read("out/b"), format!("{form} {round}"));
        }
    }
}

#[test]
fn attributes_of_an_empty_file_are_part_of_it() {
    needs!(Need::Root, Need::Overlay, Need::Command("busybox"));
    let bench = bare_bench!();
    bench.file("app/Dockerfile", "FROM scratch\nCOPY . /a/\n").file("app/empty", "").file("app/other", "x");
    bench.build(&["-t", "one", "app"]).ok();
    let set = rustix::fs::setxattr(bench.path("app/empty"), "user.t", b"1", rustix::fs::XattrFlags::empty());
    if set.is_err() {
        println!("skipped: this file system has no extended attributes");
        return;
    }
    bench.build(&["-t", "two", "-o", "type=oci,dest=two.tar,compression=uncompressed", "app"]).ok();
    let saved = fs::read(bench.path("two.tar")).unwrap();
    let name = b"SCHILY.xattr.user.t=1";
    assert!(saved.windows(name.len()).any(|bytes| bytes == name));
}

#[test]
fn sockets_are_not_part_of_what_is_copied() {
    let bench = bare_bench!();
    bench.file("app/Dockerfile", "FROM scratch\nCOPY * /d/\n").file("app/a", "a");
    let listener = UnixListener::bind(bench.path("app/s")).unwrap();
    bench.build(&["app"]).ok();
    drop(listener);
    fs::remove_file(bench.path("app/s")).unwrap();
    bench.build(&["app"]).ok().says(&["#3 [1/1] COPY * /d/\n#3 CACHED"]);
}

#[test]
fn a_name_that_no_layer_can_have_is_an_error_of_its_step() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox\nRUN touch /.wh.x /z\nRUN true\n");
    for _ in 0..2 {
        bench.build(&["app"]).fails(1).says(&["Dockerfile:2:1", "`.wh.x`"]);
    }
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_and_no_signal() {
    needs!(Need::Root, Need::Overlay, Need::Command("busybox"));
    let bench = bare_bench!();
    bench.file("app/Dockerfile", "FROM scratch\nCOPY . /\n").file("app/small", "x");
    bench.build(&["-t", "small", "app"]).ok();
    for (blocks, large) in [(1, 1), (64, 1), (300, 1 << 20), (2000, 4 << 20)] {
        bench.file("app/large", vec![7; large]);
        let script = format!("ulimit -f {blocks}; exec \"$0\" build -t large app");
        let mut limited = Command::new("sh");
        limited.args(["-c", &script]).arg(bench.path("rbuild")).current_dir(bench.path(""));
        let limited = limited.env("RBUILD_ROOT", bench.state()).output().unwrap();
        let said = text(&limited);
        assert_eq!(limited.status.code(), Some(1), "{blocks}: {said}");
        assert!(said.contains("File too large") && said.contains("ulimit -f"), "{blocks}: {said}");
        bench.run(&["images"]).ok().says(&["small"]).never_says(&["large"]);
        bench.run(&["inspect", "small"]).ok();
    }
    bench.build(&["-t", "large", "app"]).ok();
}

#[test]
fn what_a_process_does_with_its_own_limit_is_not_ours() {
    needs!(Need::Root, Need::Overlay, Need::Command("busybox"));
    let bench = busybox_bench!();
    // 128 and the number of SIGXFSZ.
    let script = "(ulimit -f 1; busybox dd if=/dev/zero of=/big bs=64k count=1); test $? = 153";
    bench.file("app/Dockerfile", format!("FROM busybox\nRUN {script}\n"));
    bench.build(&["app"]).ok();
    bench.run(&["run", "--rm", "busybox", "sh", "-c", script]).ok();
}

#[test]
fn the_line_of_a_step_that_failed_says_why() {
    needs!(Need::Root, Need::Overlay, Need::Command("busybox"));
    let bench = bare_bench!();
    bench.file("app/Dockerfile", "FROM scratch\nCOPY . /\n").file("app/large", vec![7; 4 << 20]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -f 2000; exec \"$0\" build --progress plain app"]).arg(bench.path("rbuild"));
    let limited = limited.current_dir(bench.path("")).env("RBUILD_ROOT", bench.state()).output().unwrap();
    let said = text(&limited);
    assert!(said.contains("ERROR: cannot write `/large`: File too large"), "{said}");
}
