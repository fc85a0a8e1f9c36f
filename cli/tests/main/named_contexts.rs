//! What can `--build-context` put in the place of a stage or an image?

use std::fs;
use std::path::Path;
use std::process::Command;

use rbuild_testkit::{Bench, Output};

use crate::contexts::tar_of;

/// Builds `app` with named contexts and unpacks the result to `out`.
fn build(bench: &Bench<'_>, dockerfile: &str, contexts: &[&str]) -> Output {
    drop(fs::remove_dir_all(bench.path("out")));
    bench.file("app/Dockerfile", dockerfile);
    let flags: Vec<_> = contexts.iter().flat_map(|context| ["--build-context", context]).collect();
    bench.build(&[&["-o", "out"], &*flags, &["app"]].concat())
}

/// Makes an OCI image layout of an image that has one file.
fn layout(bench: &Bench<'_>, directory: &str, tag: &str, text: &str) {
    let name = format!("layout-of-{text}:{tag}");
    bench.file("source/Dockerfile", format!("FROM scratch\nCOPY <<E /file\n{text}\nE\nENV FROM={text}\n"));
    bench.build(&["-o", "type=oci,dest=one.tar", "-t", &name, "source"]).ok();
    fs::create_dir(bench.path(directory)).unwrap();
    unpack(&bench.path("one.tar"), &bench.path(directory));
    bench.run(&["rmi", "-f", &name]).ok();
    bench.run(&["prune", "-af"]).ok();
}

fn unpack(archive: &Path, directory: &Path) {
    let unpacked = Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(directory).status().unwrap();
    assert!(unpacked.success());
}

#[test]
fn a201_a_named_directory_has_its_own_ignore_file() {
    let bench = bare_bench!();
    bench.file("app/.dockerignore", "*\n").file("app/main", "");
    bench.file("other/.dockerignore", "hidden\n.dockerignore\n").file("other/hidden", "").file("other/seen", "");
    build(&bench, "FROM scratch\nCOPY --from=other . /\n", &["other=other"]).ok();
    assert!(bench.path("out/seen").exists() && !bench.path("out/hidden").exists());
    build(&bench, "FROM scratch\nCOPY --from=other hidden /\n", &["other=other"])
        .fails(1)
        .says(&["Dockerfile:2", "the pattern `hidden`"]);
    bench.file("other/.dockerignore", "[z-\n");
    build(&bench, "FROM scratch\n", &["other=other"]).fails(1).says(&[".dockerignore:1", "[z-"]);
}

#[test]
fn a094_a_named_tar_is_unpacked_when_a_step_wants_it() {
    let bench = bare_bench!();
    bench.file("x.tar", tar_of(&[("in", "text"), (".dockerignore", "no\n"), ("no", "")]));
    build(&bench, "FROM scratch\nCOPY --from=x . /\n", &["x=x.tar"]).ok();
    assert_eq!(bench.read("out/in"), "text");
    assert!(!bench.path("out/no").exists());
    bench.file("x.tar", "no tar").file("y.tar", tar_of(&[("in", ""), (".dockerignore", "[z-\n")]));
    build(&bench, "FROM scratch\nCOPY --from=x . /\n", &["x=x.tar"]).fails(1).says(&[
        "Dockerfile:2",
        "x.tar",
        "tar archive",
    ]);
    build(&bench, "FROM scratch\nCOPY --from=y . /\n", &["y=y.tar"]).fails(1).says(&["Dockerfile:2", "y.tar", "[z-"]);
    build(&bench, "FROM scratch\nCOPY . /\n", &["x=x.tar"]).ok();
    build(&bench, "FROM scratch\n", &["x=nowhere"]).fails(1).says(&["`nowhere`"]);
    assert_eq!(fs::read_dir(bench.state().join("ingest")).unwrap().count(), 0);
}

#[test]
fn a094_a_directory_in_the_place_of_a_stage_or_an_image() {
    let bench = busybox_bench!();
    bench.file("dir/x", "dir").file("app/main", "");
    let stages = "FROM busybox AS tools\nRUN false\nFROM scratch\nCOPY --from=tools /x /\n";
    for (dockerfile, context) in [
        (stages, "tools=dir"),
        (stages, "Tools=dir"),
        ("FROM scratch\nCOPY --from=busybox /x /\n", "busybox=dir"),
        ("FROM scratch\nCOPY --from=busybox:latest /x /\n", "docker.io/library/busybox:latest=dir"),
        ("FROM scratch\nCOPY --from=docker.io/library/busybox /x /\n", "busybox=dir"),
        ("FROM other/image:1\n", "docker.io/other/image:1=dir"),
        ("FROM base\n", "base::linux/amd64=dir"),
        ("FROM base\n", "base::linux/x86_64=dir"),
        ("FROM tools\n", "tools=docker-image://scratch"),
    ] {
        let output = build(&bench, dockerfile, &[context]).ok();
        assert!(context.ends_with("scratch") || bench.read("out/x") == "dir", "{context}: {}", output.both());
    }
    // Of two, the one for the platform.
    build(&bench, "FROM base\n", &["base=docker-image://scratch", "base::linux/amd64=dir"]).ok();
    assert_eq!(bench.read("out/x"), "dir");
    build(&bench, "FROM base\n", &["base=dir", "base::linux/arm64=docker-image://scratch"]).ok();
    assert_eq!(bench.read("out/x"), "dir");
    build(&bench, "FROM tools\nCOPY main /\n", &["tools=docker-image://busybox"]).ok();
    assert!(bench.path("out/bin/busybox").exists());
}

#[test]
fn a094_an_image_in_an_oci_layout_is_a_base_image() {
    let bench = bare_bench!();
    layout(&bench, "one", "v1", "one");
    layout(&bench, "two", "latest", "two");
    let index: String = bench.read("two/index.json");
    let digest = index.split('"').find(|text| text.starts_with("sha256:")).unwrap();
    for (source, expected) in [
        ("oci-layout://one".to_owned(), "one\n"),
        ("oci-layout://one:v1".to_owned(), "one\n"),
        (format!("oci-layout://{}", bench.argument("two")), "two\n"),
        (format!("oci-layout://two@{digest}"), "two\n"),
        (format!("oci-layout://two:ignored@{digest}"), "two\n"),
    ] {
        build(&bench, "FROM base\nCOPY --from=base /file /copy\n", &[&format!("base={source}")]).ok();
        assert_eq!((&*bench.read("out/file"), &*bench.read("out/copy")), (expected, expected), "{source}");
    }
    let config = bench.image(&["--build-context", "base=oci-layout://one", "app"]).config;
    assert_eq!(config["config"]["Env"][1], "FROM=one");
    let nothing = format!("sha256:{}", "0".repeat(64));
    for (source, expected) in [
        ("one:v2", "`v2`"),
        ("app", "index.json"),
        ("nowhere", "nowhere"),
        (&*format!("one@{nothing}"), "0000"),
        ("one@what", "what"),
    ] {
        build(&bench, "FROM base\n", &[&format!("base=oci-layout://{source}")])
            .fails(1)
            .says(&["Dockerfile:1", expected]);
    }
    build(&bench, "FROM --platform=linux/arm64 base\n", &["base=oci-layout://one"])
        .fails(1)
        .says(&["Dockerfile:1", "linux/arm64"]);
    // Nobody asks for it.
    build(&bench, "FROM scratch\nCOPY Dockerfile /\n", &["base=oci-layout://nowhere"]).ok();
    // A blob that is not what its digest says.
    for blob in fs::read_dir(bench.path("one/blobs/sha256")).unwrap() {
        let path = blob.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
        fs::write(path, bytes).unwrap();
    }
    bench.run(&["prune", "-af"]).ok();
    build(&bench, "FROM base\n", &["base=oci-layout://one"]).fails(1).says(&["Dockerfile:1", "sha256:"]);
}

#[test]
fn a094_what_no_context_can_be_is_refused_by_name() {
    let bench = bare_bench!();
    for (context, expected) in [
        ("x=target:other", "buildx bake"),
        ("x=input:other", "buildx bake"),
        ("x=-", "standard input"),
        ("x=s3://bucket/x", "s3://bucket/x"),
        ("context=app", "`context`"),
        ("scratch=app", "`scratch`"),
    ] {
        build(&bench, "FROM scratch\n", &[context]).fails(1).says(&[context, expected]);
    }
}
