//! Which owner, mode, time and attributes does everything get?

use super::*;

#[test]
fn metadata_of_directories() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    bench.shell(
        "context",
        "mkdir -p d/sub p/q; chmod 700 d d/sub p; chmod 711 p/q; touch -d @1000 d/sub; touch -d @2000 d; echo > p/q/f",
    );
    bench.shell(
        "image",
        "mkdir -p have/sub; chown 5:6 have have/sub; chmod 750 have have/sub; mkdir p; chmod 777 p; chown 7:7 p",
    );
    bench.run(r#"COPY ["d", "/have"]"#).unwrap();
    bench.run(r#"COPY --mtime=77 ["d", "/made/new"]"#).unwrap();
    bench.run(r#"COPY --parents --chown=1:2 ["p/q/f", "/"]"#).unwrap();
    let found = bench.listing();
    for line in [
        r#"d 0750 5:6 "/have" mtime=2000"#,
        r#"d 0700 0:0 "/have/sub" mtime=1000"#,
        r#"d 0755 0:0 "/made" mtime=77"#,
        r#"d 0755 0:0 "/made/new" mtime=77"#,
        r#"d 0700 0:0 "/made/new/sub" mtime=1000"#,
    ] {
        let (path, expected) = Row::parse(line);
        assert_eq!(found.get(&path), Some(&expected), "{path}");
    }
    for (path, mode, owner) in [("/p", "0700", "7:7"), ("/p/q", "0711", "1:2"), ("/p/q/f", "0644", "1:2")] {
        assert_eq!((&*found[path].mode, &*found[path].owner), (mode, owner), "{path}");
    }
}

#[test]
fn heredocs_become_files() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let mut action = parse(r#"COPY --chown=3:4 ["/etc/"]"#);
    let inline = |name: &str| CopySource::Inline { name: name.into(), data: b"#!/bin/sh\n".to_vec() };
    action.sources = vec![inline("one"), inline("two")];
    action.mtime = Some(5);
    let copied = apply(&action, &Sources::new(), &bench.image(), &|_| ()).unwrap();
    assert_eq!((copied.files, copied.bytes), (2, 20));
    action.sources = vec![inline("ignored name")];
    action.into_directory = false;
    action.destination = "/etc/three".into();
    action.mode = Some(Mode::Octal(0o755));
    apply(&action, &Sources::new(), &bench.image(), &|_| ()).unwrap();
    let found = bench.listing();
    for line in [
        r#"d 0755 3:4 "/etc""#,
        r##"- 0644 3:4 "/etc/one" text="#!/bin/sh\n" mtime=5"##,
        r##"- 0644 3:4 "/etc/two" text="#!/bin/sh\n" mtime=5"##,
        r##"- 0755 3:4 "/etc/three" text="#!/bin/sh\n" mtime=5"##,
    ] {
        let (path, mut expected) = Row::parse(line);
        if expected.kind == 'd' {
            expected.facts.insert("mtime", found[&path].facts["mtime"].clone());
        }
        assert_eq!(found.get(&path), Some(&expected), "{path}");
    }
}

#[test]
fn working_directories_are_made_once() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    bench.shell("image", "mkdir real; chmod 700 real; ln -s /real link; echo > file");
    bench.run("WORKDIR /link/a/b").unwrap();
    bench.run("WORKDIR /link").unwrap();
    let found = bench.listing();
    assert_eq!((&*found["/real"].mode, &*found["/real/a"].mode, &*found["/real/a/b"].mode), ("0700", "0755", "0755"));
    assert_eq!(
        bench.run("WORKDIR /file").unwrap_err().to_string(),
        "cannot make the directory `/file`: something else is there"
    );
}

#[test]
fn attributes_are_kept() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let path = bench.file("context/f", "f");
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(&path, "user.note", b"n", flags).is_err() {
        println!("skipped: the temporary directory has no user attributes");
        return;
    }
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let capable = rustix::fs::setxattr(&path, "security.capability", &capability, flags).is_ok();
    bench.run(r#"COPY --chown=1:1 ["f", "/"]"#).unwrap();
    let kept = Attributes::read(File::open(bench.at("image/f")).unwrap()).unwrap();
    let names: Vec<_> = kept.iter().map(|(name, _)| name.to_str().unwrap()).collect();
    assert_eq!(names, if capable { vec!["security.capability", "user.note"] } else { vec!["user.note"] });
}
