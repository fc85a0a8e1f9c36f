use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use super::*;
use crate::files::Selector;

fn context(files: &[&str]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for file in files {
        let path = directory.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
    directory
}

fn scan(directory: &Path, ignore: &str) -> ContextScan {
    ContextScan::new(directory, IgnoreFile::parse(ignore).unwrap(), StatCache::default(), None).unwrap()
}

fn names(scan: &ContextScan) -> String {
    let mut walk = scan.entries.walk(None, b"");
    let mut names = Vec::new();
    while let Some((_, path, _)) = walk.next() {
        names.push(String::from_utf8_lossy(path).into_owned());
    }
    names.join(" ")
}

#[test]
fn ignored_files_are_not_seen_unless_taken_back() {
    let files = ["a.log", ".git/x", ".gitignore", "keep/b.log", "vendor/drop", "vendor/keep/me", "vendor/keep/not"];
    let directory = context(&files);
    fs::write(directory.path().join(".gitignore"), "keep\n").unwrap();
    for (ignore, expected) in [
        (
            "",
            ".git .git/x .gitignore a.log keep keep/b.log vendor vendor/drop vendor/keep vendor/keep/me vendor/keep/not",
        ),
        ("*.log\n.git*\nvendor", "keep keep/b.log"),
        ("*\n!vendor/keep/me", "vendor vendor/keep vendor/keep/me"),
        ("*\n!vendor/missing", ""),
        ("vendor\n!vendor/*/me\n.*", "a.log keep keep/b.log vendor vendor/keep vendor/keep/me"),
    ] {
        assert_eq!(names(&scan(directory.path(), ignore)), expected, "{ignore}");
    }
}

#[test]
fn lists_are_those_of_the_directories() {
    let directory = context(&["a/b/c", "a/z", "a-b", "a.b/x", "b"]);
    let scan = scan(directory.path(), "");
    let list = |path: &str| {
        let list = scan.list(&InnerPath::new(path)).unwrap();
        list.iter().map(|(name, _)| name.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(list(""), "a a-b a.b b");
    assert_eq!((&*list("a"), &*list("a/b"), &*list("a.b")), ("b z", "c", "x"));
    assert!(scan.list(&InnerPath::new("none")).is_err());
    assert!(scan.node(&InnerPath::new("a/b")).unwrap().unwrap().is_directory());
    assert_eq!(scan.node(&InnerPath::new("a/none")).unwrap(), None);
}

#[test]
fn large_directories_are_skipped_at_once() {
    let files: Vec<String> = (0..100).map(|number| format!("many/f{number:03}")).collect();
    let directory = context(&files.iter().map(String::as_str).chain(["z"]).collect::<Vec<_>>());
    let scan = scan(directory.path(), "");
    let names: Vec<_> = scan.list(&InnerPath::root()).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["many", "z"]);
    assert_eq!(scan.list(&InnerPath::new("many")).unwrap().len(), 100);
}

#[test]
fn walks_with_and_without_threads_find_the_same() {
    let files: Vec<String> = (0..3000).map(|number| format!("d{}/e{}/f{number}", number % 70, number % 7)).collect();
    let directory = context(&files.iter().map(String::as_str).collect::<Vec<_>>());
    let scan = scan(directory.path(), "d1*/e3\n!d10/*/f10");
    let expected = |file: &&String| {
        let mut parts = file.split('/');
        let (first, second) = (parts.next().unwrap(), parts.next().unwrap());
        !(first.starts_with("d1") && second == "e3") || **file == "d10/e3/f10"
    };
    let found = names(&scan).split(' ').filter(|name| name.contains("/f")).count();
    assert_eq!(found, files.iter().filter(expected).count());
    let root = Selector::path("d2").digest(&Root::open(directory.path()).unwrap()).unwrap();
    let selector = Selector { owners: true, ..Selector::path("d2") };
    assert_eq!(selector.digest(&scan).unwrap(), root);
}

fn saved(scan: &ContextScan) -> Vec<u8> {
    assert!(scan.has_news());
    let mut bytes = Vec::new();
    scan.save_to(&mut bytes).unwrap();
    bytes
}

#[test]
fn unchanged_files_are_not_read_again() {
    let directory = context(&["a", "b"]);
    let selector = Selector::path("");
    let first = scan(directory.path(), "");
    let digest = selector.digest(&first).unwrap();
    // Younger than the scan: nothing may be believed yet.
    let bytes = saved(&first);
    let second = ContextScan::new(directory.path(), IgnoreFile::default(), StatCache::from_bytes(bytes), None).unwrap();
    assert_eq!(selector.digest(&second).unwrap(), digest);
    assert!(second.has_news());
    std::thread::sleep(Duration::from_millis(40));
    let third = scan(directory.path(), "");
    selector.digest(&third).unwrap();
    let bytes = saved(&third);
    let fourth = ContextScan::new(directory.path(), IgnoreFile::default(), StatCache::from_bytes(bytes), None).unwrap();
    assert_eq!(selector.digest(&fourth).unwrap(), digest);
    assert!(!fourth.has_news(), "nothing was read");
    fs::write(directory.path().join("a"), "A").unwrap();
    let bytes = saved(&third);
    let fifth = ContextScan::new(directory.path(), IgnoreFile::default(), StatCache::from_bytes(bytes), None).unwrap();
    assert_ne!(selector.digest(&fifth).unwrap(), digest);
}

#[test]
fn what_cannot_be_read_matters_only_when_it_is_selected() {
    let directory = context(&["ok", "closed/in", "vanishes"]);
    symlink("nowhere", directory.path().join("dangling")).unwrap();
    let scan = scan(directory.path(), "closed\n!closed/none");
    fs::remove_file(directory.path().join("vanishes")).unwrap();
    assert!(Selector::path("ok").digest(&scan).is_ok());
    assert!(Selector::path("dangling").digest(&scan).is_ok());
    let error = Selector::path("").digest(&scan).unwrap_err();
    assert_eq!(error.to_string(), "cannot read `/vanishes`");
    if rustix::process::geteuid().is_root() {
        println!("skipped: root can read everything");
        return;
    }
    fs::set_permissions(directory.path().join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    let scan = self::scan(directory.path(), "vanishes");
    let error = Selector::path("").digest(&scan).unwrap_err();
    assert_eq!(error.to_string(), "cannot read `/closed`");
    fs::set_permissions(directory.path().join("closed"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_missing_directory_is_no_context() {
    let directory = context(&["file"]);
    for name in ["none", "file"] {
        let error = ContextScan::new(&directory.path().join(name), IgnoreFile::default(), StatCache::default(), None);
        assert!(error.unwrap_err().to_string().ends_with("as a build context"), "{name}");
    }
}
