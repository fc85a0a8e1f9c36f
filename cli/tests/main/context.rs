//! Which files of the context get where?

#[test]
fn dockerignore_keeps_files_out() {
    let bench = busybox_bench!();
    bench.file("app/.dockerignore", "# comment\n*.log\n!keep.log\nnode_modules\n**/secret\n/docs/*.md\n.git\n");
    for path in [
        "a.log",
        "keep.log",
        "node_modules/x/y",
        "deep/er/secret",
        "docs/a.md",
        "docs/deep/b.md",
        "docs/a.txt",
        ".git/HEAD",
    ] {
        bench.file(&format!("app/{path}"), path);
    }
    bench.file("app/Dockerfile", "FROM scratch\nCOPY . /\n");
    let tree = bench.image(&["app"]).tree();
    let paths: Vec<_> = tree.keys().map(String::as_str).collect();
    assert_eq!(
        paths,
        [
            ".dockerignore",
            "Dockerfile",
            "deep",
            "deep/er",
            "docs",
            "docs/a.txt",
            "docs/deep",
            "docs/deep/b.md",
            "keep.log"
        ]
    );
}

#[test]
fn a_dockerfile_may_have_its_own_dockerignore() {
    let bench = busybox_bench!();
    bench.file("app/.dockerignore", "a\n").file("app/x.Dockerfile.dockerignore", "b\n*ocker*\n");
    bench.file("app/a", "").file("app/b", "").file("app/x.Dockerfile", "FROM scratch\nCOPY . /\n");
    let tree = bench.image(&["-f", "app/x.Dockerfile", "app"]).tree();
    assert_eq!(tree.keys().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn copy_follows_dockers_rules_for_destinations() {
    let bench = busybox_bench!();
    bench.file("app/a.txt", "a").file("app/b.txt", "b").file("app/dir/c", "c");
    bench.script("app/tool.sh", "#!/bin/sh\n");
    bench.file(
        "app/Dockerfile",
        "FROM scratch\nCOPY *.txt /texts/\nCOPY a.txt /renamed\nCOPY dir /as\nCOPY a.txt dir/ /both/\nWORKDIR /w\nCOPY tool.sh ./\n",
    );
    let tree = bench.image(&["app"]).tree();
    let files: Vec<_> =
        tree.iter().filter(|(_, node)| node.to_string().contains("file")).map(|(path, _)| path.as_str()).collect();
    assert_eq!(files, ["as/c", "both/a.txt", "both/c", "renamed", "texts/a.txt", "texts/b.txt", "w/tool.sh"]);
    assert_eq!(tree["w/tool.sh"].mode, 0o755);
    assert_eq!((tree["renamed"].uid, tree["renamed"].gid), (0, 0));
}

#[test]
fn add_unpacks_local_archives_and_nothing_else() {
    let bench = busybox_bench!();
    let archive = tar_gz(&[("inner/file", "unpacked")]);
    bench.file("app/x.tar.gz", &archive);
    bench.file("app/plain.txt", "text");
    bench.file("app/Dockerfile", "FROM scratch\nADD x.tar.gz /unpacked/\nCOPY x.tar.gz /kept/\nADD plain.txt /\n");
    let tree = bench.image(&["app"]).tree();
    assert!(
        tree.contains_key("unpacked/inner/file")
            && tree.contains_key("kept/x.tar.gz")
            && tree.contains_key("plain.txt")
    );
    assert!(!tree.contains_key("unpacked/x.tar.gz"));
}

#[test]
fn links_and_odd_names_survive() {
    let bench = busybox_bench!();
    bench.file("app/with space/ünï", "x").file("app/[b]", "x").file("app/-dash", "x");
    std::os::unix::fs::symlink("../outside", bench.path("app/link")).unwrap();
    std::os::unix::fs::symlink("loop", bench.path("app/loop")).unwrap();
    bench.file("app/Dockerfile", "FROM scratch\nCOPY . /all/\nCOPY [\"with space\", \"/json dir/\"]\n");
    let tree = bench.image(&["app"]).tree();
    for path in ["all/with space/ünï", "all/[b]", "all/-dash", "json dir/ünï"] {
        assert!(tree.contains_key(path), "{path}: {:?}", tree.keys());
    }
    assert!(tree["all/link"].to_string().ends_with("-> ../outside"));
    assert!(tree["all/loop"].to_string().ends_with("-> loop"));
}

#[test]
fn the_context_cannot_be_left() {
    let bench = busybox_bench!();
    bench.file("secret", "outside").file("app/x", "");
    std::os::unix::fs::symlink("/etc", bench.path("app/etc")).unwrap();
    bench.file("app/Dockerfile", "FROM scratch\nCOPY ../secret /\n");
    bench.build(&["app"]).fails(1).says(&["Dockerfile:2", "secret"]);
    bench.file("app/Dockerfile", "FROM scratch\nCOPY etc/hostname /\n");
    bench.build(&["app"]).fails(1).says(&["Dockerfile:2"]);
}

/// A gzipped tar archive of files.
fn tar_gz(files: &[(&str, &str)]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let output = std::process::Command::new("tar").args(["-C"]).arg(directory.path()).args(["-czf", "-", "."]).output();
    output.unwrap().stdout
}
