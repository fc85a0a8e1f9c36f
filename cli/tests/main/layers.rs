//! Do layers mean the same in each of their forms?

#![expect(clippy::print_stdout, reason = "a test that cannot run says why")]

use std::fs;

use rbuild_testkit::{Bench, Need, needs};

/// Something of everything that a layer can say, made by `RUN`, `COPY`, `ADD` and `WORKDIR`, and used by each of them.
const DOCKERFILE: &str = r#"
FROM busybox AS more
COPY --chown=5:6 --chmod=640 app /many/
ADD app.tar /tree/
FROM busybox AS parts
RUN mkdir -p /out/sub /out/gone && echo data > /out/sub/file && ln -s sub/file /out/link && ln /out/sub/file /out/hard \
 && chmod 4750 /out/sub/file && chown 12:34 /out/sub && mkfifo /out/pipe && mknod /out/node c 1 3 \
 && touch "/out/a name" /out/gone/x && seq 100000 > /out/large && for n in $(seq 300); do echo $n > /out/sub/$n; done
COPY --from=more /many /copied/many
COPY --from=more /tree /copied/tree
RUN rm -r /out/gone && rm /copied/many/17 && rm -r /copied/tree && mkdir /copied/tree && echo new > /copied/tree/new
FROM busybox
WORKDIR /work/dir
COPY --from=parts /out /out
COPY --from=parts /copied /copied
COPY --link app/1 /linked/
RUN --mount=from=parts,target=/parts,source=/out test -p /parts/pipe && test "$(cat /parts/link)" = data
RUN test -u /out/sub/file && test "$(stat -c %h /out/hard)" = 2 && test ! -e /copied/many/17 && test -e /copied/many/18 \
 && test "$(ls /copied/tree)" = new && test "$(stat -c %u:%g:%a /copied/many/3)" = 5:6:640 && test "$(pwd)" = /work/dir
RUN rm /bin/vi && rm -r /home && mkdir /home && echo x >> /out/sub/file && mv /out/sub /out/moved
"#;

fn project(bench: &Bench<'_>) {
    bench.file("app/Dockerfile", DOCKERFILE);
    for number in 0..40 {
        bench.file(&format!("app/app/{number}"), number.to_string().repeat(number));
    }
    let mut tar = std::process::Command::new("tar");
    tar.args(["--owner=7", "--group=8", "--mtime=@1", "--sort=name", "-cf"]).arg(bench.path("app/app.tar"));
    assert!(tar.arg("-C").arg(bench.path("app/app")).args(["1", "2"]).status().unwrap().success());
}

/// Whether layers can be files on this machine.
fn can_be_files() -> bool {
    let bench = Bench::new(crate::PROGRAM).with_variable("RBUILD_LAYERS", "erofs");
    bench.file("app/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let output = bench.build(&["app"]);
    let can = !output.both().contains("layers cannot be erofs files here");
    if !can {
        println!("skipped: the kernel does not mount files: {}", output.both());
    }
    can
}

macro_rules! needs_files {
    () => {
        needs!(Need::Root, Need::Overlay, Need::Command("busybox"), Need::Command("tar"));
        if !can_be_files() {
            return;
        }
    };
}

#[test]
fn a_build_has_the_same_bytes_in_both_forms() {
    needs_files!();
    let base = busybox_bench!();
    base.run(&["save", "-o", "base.tar", "busybox"]).ok();
    let archives = ["erofs", "directory"].map(|form| {
        let bench = Bench::new(crate::PROGRAM).with_variable("RBUILD_LAYERS", form);
        bench.run(&["load", "-i", &base.argument("base.tar")]).ok();
        project(&bench);
        let arguments = ["build", "-t", "made", "-o", "type=oci,dest=out.tar,rewrite-timestamp=true", "app"];
        let mut command = bench.command(&arguments);
        command.env("SOURCE_DATE_EPOCH", "1700000000");
        rbuild_testkit::bench::finish(command, b"").ok();
        let kinds = fs::read_dir(bench.state().join("layers-v1")).unwrap();
        let files = kinds.filter(|entry| entry.as_ref().unwrap().file_type().unwrap().is_file()).count();
        // The base, four copies, an archive, a directory; what RUN made is a directory.
        assert_eq!(files > 5, form == "erofs", "{form}: {files}");
        bench.build(&["-o", "type=tar,dest=tree.tar", "app"]).ok();
        bench.run(&["run", "--rm", "made", "ls", "/out/moved/300"]).ok();
        (fs::read(bench.path("out.tar")).unwrap(), bench)
    });
    assert!(archives[0].0 == archives[1].0, "the archives differ");
}

#[test]
fn a_store_has_layers_of_both_forms_and_each_is_used() {
    needs_files!();
    let bench = busybox_bench!();
    let build = |form: &str, dockerfile: &str| {
        bench.file("app/Dockerfile", dockerfile);
        let mut command = bench.command(&["build", "--progress=plain", "-t", "made", "app"]);
        command.env("RBUILD_LAYERS", form);
        rbuild_testkit::bench::finish(command, b"").ok()
    };
    let first = "FROM busybox\nCOPY Dockerfile /one\n";
    build("directory", first);
    let second = format!("{first}RUN cat /one\nCOPY Dockerfile /two\n");
    build("erofs", &second);
    let third = format!("{second}RUN cat /one /two && rm /one /two && ! ls /one\nWORKDIR /three\n");
    build("directory", &third);
    build("erofs", &format!("{third}RUN ls -d /three && ! ls /two\n"));
}

#[test]
fn a_damaged_file_is_not_served_and_built_again() {
    needs_files!();
    let bench = busybox_bench!().with_variable("RBUILD_LAYERS", "erofs");
    let first = "FROM busybox\nCOPY content /content\n";
    bench.file("app/Dockerfile", first).file("app/content", "content\n".repeat(1000)).build(&["app"]).ok();
    let kinds = fs::read_dir(bench.state().join("layers-v1")).unwrap().map(|entry| entry.unwrap().path());
    let copied = kinds.filter(|path| path.is_file()).min_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&copied).unwrap();
    let at = bytes.windows(8).rposition(|window| window == b"content\n").unwrap();
    bytes[at] = b'X';
    fs::write(&copied, bytes).unwrap();
    let second = format!("{first}RUN ! grep X /content && wc -l < /content\n");
    bench.file("app/Dockerfile", second);
    // Noticed when it is used, and made anew by the same build.
    bench.build(&["app"]).ok().says(&["note: a layer in the store was damaged or deleted"]);
    assert!(!fs::read(&copied).is_ok_and(|bytes| bytes.contains(&b'X')));
}

#[test]
fn a_loaded_layer_that_is_damaged_is_to_be_loaded_again() {
    needs_files!();
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox\nCOPY content /content\n").file("app/content", "content\n".repeat(1000));
    bench.build(&["-t", "app", "-o", "type=docker,dest=app.tar,compression=uncompressed", "app"]).ok();
    let state = bench.path("other");
    let bench = bench.with_state(&state);
    bench.file("next/Dockerfile", "FROM app\nRUN true\n");
    let commands: [&[&str]; 3] =
        [&["run", "--rm", "app", "true"], &["build", "next"], &["save", "-o", "again.tar", "app"]];
    for command in commands {
        bench.run(&["load", "-i", "app.tar"]).ok();
        let layers = fs::read_dir(state.join("layers-v1")).unwrap().map(|entry| entry.unwrap().path());
        let mut found = false;
        for path in layers.filter(|path| path.is_file()) {
            let mut bytes = fs::read(&path).unwrap();
            if let Some(at) = bytes.windows(8).rposition(|window| window == b"content\n") {
                bytes[at] = b'X';
                fs::write(&path, bytes).unwrap();
                found = true;
            }
        }
        assert!(found);
        let failed = bench.run(command);
        assert!(!failed.status.success());
        failed.says(&["layer `sha256-", "hint: load the image again, or pull it: `rbuild load`"]);
    }
    bench.run(&["load", "-i", "app.tar"]).ok();
    bench.run(&["run", "--rm", "app", "cat", "/content"]).ok();
}

#[test]
fn equal_layers_in_one_root_file_system_leave_it_one() {
    needs_files!();
    let bench = busybox_bench!().with_variable("RBUILD_LAYERS", "erofs");
    // Both add nothing, so both are the same empty tar.
    let text = "FROM busybox\nWORKDIR /bin\nWORKDIR /etc\nCOPY here /etc/\n\
                RUN touch /new && stat -c %d / /bin /etc /etc/here /new | sort -u | wc -l > /devices\n";
    bench.file("app/Dockerfile", text).file("app/here", "").build(&["-t", "one", "app"]).ok();
    assert_eq!(bench.run(&["run", "--rm", "one", "cat", "/devices"]).ok().stdout, "1\n");
}

#[test]
fn the_form_that_was_asked_for_is_an_error_where_it_cannot_be_had() {
    needs!(Need::Root, Need::Overlay, Need::Command("busybox"), Need::Command("mount"));
    let bench = bare_bench!();
    bench.file("app/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n").file("app/state/x", "");
    // EROFS does not read from files in memory.
    let script = "mount -t tmpfs none app/state && exec \"$0\" --root app/state build --progress=plain app";
    let build = |form: &str| {
        let mut command = std::process::Command::new("unshare");
        command.args(["-m", "sh", "-c", script, crate::PROGRAM]).env("RBUILD_LAYERS", form);
        command.current_dir(bench.path("")).output().unwrap()
    };
    let refused = build("erofs");
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("layers cannot be erofs files here"), "{text}");
    assert!(text.contains("RBUILD_LAYERS"), "{text}");
    for form in ["auto", "directory"] {
        let built = build(form);
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    }
    bench.run(&["--layers", "tape", "images"]).fails(2).says(&["`tape` is no form of layers"]);
}
