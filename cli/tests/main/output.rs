//! In which forms does an image leave?

use std::fs;
use std::process::Command;

use rbuild_testkit::image::{differences, of_directory};
use rbuild_testkit::{Bench, Image, Need, needs};

const DOCKERFILE: &str = "\
FROM busybox AS parts
RUN mkdir -p /out/sub && echo data > /out/sub/file && ln -s sub/file /out/link && ln /out/sub/file /out/hard \\
 && chmod 4750 /out/sub/file && chown 12:34 /out/sub && mkfifo /out/pipe \\
 && seq 500000 > /out/several-gzip-members
FROM busybox
COPY --from=parts /out /out
RUN rm /bin/vi && rm -r /home && mkdir /home && echo x > /home/x
CMD [\"cat\", \"/out/link\"]
";

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn build(bench: &Bench<'_>, output: &str) {
    bench.file("app/Dockerfile", DOCKERFILE).build(&["-t", "out", "-o", output, "app"]).ok();
}

#[test]
fn skopeo_reads_the_oci_archive() {
    needs!(Need::Command("skopeo"));
    let bench = busybox_bench!();
    build(&bench, "type=oci,dest=out.tar");
    let inspected =
        run(Command::new("skopeo").args(["inspect", &format!("oci-archive:{}", bench.argument("out.tar"))]));
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["Os"], "linux");
    let copy = |destination: String| {
        let source = format!("oci-archive:{}", bench.argument("out.tar"));
        run(Command::new("skopeo").args(["copy", "-q", "--insecure-policy", &source, &destination]));
    };
    copy(format!("oci:{}", bench.argument("layout")));
    copy(format!("docker-archive:{}:out:copied", bench.argument("docker.tar")));
    bench.run(&["load", "-i", "docker.tar"]).ok().says(&["out:copied"]);
    assert_eq!(bench.run(&["run", "--rm", "out:copied"]).ok().stdout, "data\n");
}

#[test]
fn umoci_unpacks_the_same_tree() {
    needs!(Need::Command("skopeo"), Need::Command("umoci"));
    let bench = busybox_bench!();
    build(&bench, "type=oci,dest=out.tar");
    let (source, layout) = (format!("oci-archive:{}", bench.argument("out.tar")), bench.argument("layout"));
    run(Command::new("skopeo").args(["copy", "-q", "--insecure-policy", &source, &format!("oci:{layout}:out")]));
    run(Command::new("umoci").args(["unpack", "--image", &format!("{layout}:out"), &bench.argument("bundle")]));
    let unpacked = of_directory(&bench.path("bundle/rootfs")).unwrap();
    let ours = Image::read(&bench.path("out.tar")).unwrap().tree();
    assert_eq!(differences(&ours, &unpacked), [""; 0]);
    assert_eq!(ours["out/sub/file"], ours["out/hard"]);
    assert!(!ours.contains_key("bin/vi") && ours.contains_key("home/x"));
}

#[test]
fn docker_archives_can_be_loaded() {
    needs!(Need::Command("skopeo"));
    let bench = busybox_bench!();
    build(&bench, "type=docker,dest=out.tar,name=out:named");
    run(Command::new("skopeo").args(["inspect", &format!("docker-archive:{}", bench.argument("out.tar"))]));
    let other = Bench::new(crate::PROGRAM);
    other.run(&["load", "-i", &bench.argument("out.tar")]).ok().says(&["out:named"]);
    assert_eq!(other.run(&["run", "--rm", "out:named"]).ok().stdout, "data\n");
}

#[test]
fn directories_and_tars_have_the_tree() {
    let bench = busybox_bench!();
    let tree = bench.file("app/Dockerfile", DOCKERFILE).image(&["app"]).tree();
    build(&bench, "type=local,dest=tree");
    assert_eq!(differences(&tree, &of_directory(&bench.path("tree")).unwrap()), [""; 0]);
    build(&bench, "short");
    assert_eq!(differences(&tree, &of_directory(&bench.path("short")).unwrap()), [""; 0]);
    build(&bench, "type=tar,dest=tree.tar");
    fs::create_dir(bench.path("untarred")).unwrap();
    run(Command::new("tar").args(["-xpf", "tree.tar", "-C", "untarred"]).current_dir(bench.path("")));
    assert_eq!(differences(&tree, &of_directory(&bench.path("untarred")).unwrap()), [""; 0]);
}

#[test]
fn archives_can_be_piped() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", DOCKERFILE);
    let shell = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(bench.path("")).env("RBUILD_ROOT", bench.state());
        run(&mut command)
    };
    assert!(shell("./rbuild build -o - app | tar -t").contains("out/sub/file"));
    assert!(shell("./rbuild build -o type=oci app | tar -t").contains("index.json"));
    assert!(shell("./rbuild build -t piped app && ./rbuild save piped | ./rbuild load").contains("piped:latest"));
}

#[test]
fn layers_are_compressed_as_asked() {
    let bench = busybox_bench!();
    for (compression, suffix) in [("gzip", "tar+gzip"), ("zstd", "tar+zstd"), ("uncompressed", "tar")] {
        let archive = format!("{compression}.tar");
        build(&bench, &format!("type=oci,dest={archive},compression={compression}"));
        let image = Image::read(&bench.path(&archive)).unwrap();
        let last = image.manifest["layers"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(last["mediaType"], format!("application/vnd.oci.image.layer.v1.{suffix}"));
    }
}

#[test]
fn the_same_build_in_another_store_has_the_same_bytes() {
    let (first, second) = (busybox_bench!(), Bench::new(crate::PROGRAM));
    first.run(&["save", "-o", "base.tar", "busybox"]).ok();
    second.run(&["load", "-i", &first.argument("base.tar")]).ok();
    let archive = |bench: &Bench<'_>| {
        bench.file("app/Dockerfile", "FROM busybox\nCOPY . /app\nWORKDIR /made\nENV A=b\n").file("app/x", "x\n");
        let arguments = ["build", "-o", "type=oci,dest=out.tar,rewrite-timestamp=true", "app"];
        let mut command = bench.command(&arguments);
        command.env("SOURCE_DATE_EPOCH", "1700000000");
        rbuild_testkit::bench::finish(command, b"").ok();
        fs::read(bench.path("out.tar")).unwrap()
    };
    assert!(archive(&first) == archive(&second), "the archives differ");
}
