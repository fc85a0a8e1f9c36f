//! Copies in temporary directories, and the cases of `testdata/copies`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rbuild_frontend::IgnoreFile;
use rbuild_solver::graph::{Mode, Principal};

use super::*;
use crate::files::{ContextScan, Selection, Selector, StatCache};

/// A context, an image and a stage, side by side.
struct Bench {
    directory: tempfile::TempDir,
    ignore: String,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["context", "image", "stage"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        Self { directory, ignore: String::new() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn file(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn shell(&self, directory: &str, script: &str) {
        let script = format!("umask 022\n{script}");
        let status = Command::new("sh").arg("-euc").arg(&script).current_dir(self.at(directory)).status().unwrap();
        assert!(status.success(), "{script}");
    }

    fn context(&self) -> ContextScan {
        let ignore = IgnoreFile::parse(&self.ignore).unwrap();
        ContextScan::new(&self.at("context"), ignore, StatCache::default()).unwrap()
    }

    fn image(&self) -> Root {
        Root::open(&self.at("image")).unwrap()
    }

    /// Carries out an instruction as written in `testdata/copies`.
    fn run(&self, instruction: &str) -> Result<Copied, CopyError> {
        if let Some(path) = instruction.strip_prefix("WORKDIR ") {
            return make_directory(path, None, None, &self.image()).map(|()| Copied::default());
        }
        let context = self.context();
        let stage = Root::open(&self.at("stage")).unwrap();
        let sources: Sources<'_> = BTreeMap::from([(1, &context as &dyn SourceTree), (2, &stage as &dyn SourceTree)]);
        apply(&parse(instruction), &sources, &self.image(), &|_| ())
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at("image").join(path)).unwrap_or_else(|error| format!("{path}: {error}"))
    }

    /// Everything in the image.
    fn listing(&self) -> BTreeMap<String, Row> {
        let mut rows = BTreeMap::new();
        list(&self.at("image"), "", &mut rows, &mut BTreeMap::new());
        rows
    }

    fn names(&self) -> String {
        self.listing().into_keys().collect::<Vec<_>>().join(" ")
    }
}

/// `COPY --flag=… ["source", "destination"]`: paths as lowering leaves them.
fn parse(instruction: &str) -> CopyAction {
    let (head, words) = instruction.split_at(instruction.find('[').unwrap());
    let mut words: Vec<String> = serde_json::from_str(words).unwrap();
    let written = words.pop().unwrap();
    let mut action = CopyAction {
        sources: Vec::new(),
        destination: if written == "/" { written.clone() } else { written.trim_end_matches('/').to_owned() },
        into_directory: written.ends_with('/'),
        owner: None,
        mode: None,
        preserve_owner: false,
        unpack: if head.starts_with("ADD") { Unpack::Archives } else { Unpack::Never },
        parents: false,
        exclude: Vec::new(),
        wildcards: true,
        mtime: None,
    };
    let mut input = 1;
    for flag in head.split_whitespace().skip(1) {
        let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
        match name {
            "--chmod" => {
                action.mode = Some(match u32::from_str_radix(value, 8) {
                    Ok(mode) => Mode::Octal(mode),
                    Err(_) => Mode::Symbolic(value.to_owned()),
                });
            }
            "--chown" => {
                let principal = |text: &str| text.parse().map_or(Principal::Name(text.to_owned()), Principal::Id);
                let (user, group) = value.split_once(':').map_or((value, None), |(user, group)| (user, Some(group)));
                action.owner = Some(Owner { user: principal(user), group: group.map(principal) });
            }
            "--exclude" => action.exclude.push(value.to_owned()),
            "--from" => (input, action.preserve_owner) = (2, true),
            "--parents" => action.parents = true,
            "--unpack" => action.unpack = if value == "false" { Unpack::Never } else { Unpack::Archives },
            "--mtime" => action.mtime = Some(value.parse().unwrap()),
            other => panic!("{other}"),
        }
    }
    let path = |path: String| CopySource::Path { input, written: path.clone(), path };
    action.sources = words.into_iter().map(path).collect();
    action
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Row {
    kind: char,
    mode: String,
    owner: String,
    facts: BTreeMap<&'static str, serde_json::Value>,
}

impl Row {
    fn parse(line: &str) -> (String, Self) {
        let (fields, rest) = line.split_once(" \"").unwrap();
        let fields: Vec<_> = fields.split(' ').collect();
        let rest = format!("\"{rest}");
        let mut values = serde_json::Deserializer::from_str(&rest).into_iter::<String>();
        let path = values.next().unwrap().unwrap();
        let mut rest = rest[values.byte_offset()..].trim();
        let mut facts = BTreeMap::new();
        while !rest.is_empty() {
            let (name, value) = rest.split_once('=').unwrap();
            let name = ["text", "target", "same", "device", "mtime"].into_iter().find(|known| *known == name).unwrap();
            let mut values = serde_json::Deserializer::from_str(value).into_iter();
            facts.insert(name, values.next().unwrap().unwrap());
            rest = value[values.byte_offset()..].trim();
        }
        let row =
            Self { kind: fields[0].chars().next().unwrap(), mode: fields[1].into(), owner: fields[2].into(), facts };
        (path, row)
    }
}

fn list(directory: &Path, prefix: &str, rows: &mut BTreeMap<String, Row>, first: &mut BTreeMap<u64, String>) {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = format!("{prefix}/{}", entry.file_name().to_str().unwrap());
        let metadata = entry.metadata().unwrap();
        let kind = metadata.file_type();
        let mut facts = BTreeMap::from([("mtime", metadata.mtime().into())]);
        let kind = if kind.is_dir() {
            list(&entry.path(), &path, rows, first);
            'd'
        } else if kind.is_symlink() {
            facts.insert("target", fs::read_link(entry.path()).unwrap().to_str().unwrap().into());
            'l'
        } else if kind.is_fifo() {
            'p'
        } else if kind.is_char_device() {
            let device = metadata.rdev();
            facts.insert("device", format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device)).into());
            'c'
        } else {
            if let Ok(text) = String::from_utf8(fs::read(entry.path()).unwrap()) {
                facts.insert("text", text.into());
            }
            let same = first.entry(metadata.ino()).or_insert_with(|| path.clone());
            if *same != path {
                facts.insert("same", same.clone().into());
            }
            '-'
        };
        let owner = format!("{}:{}", metadata.uid(), metadata.gid());
        rows.insert(path, Row { kind, mode: format!("{:04o}", metadata.mode() & 0o7777), owner, facts });
    }
}

/// Whether files can be given away and devices be made: as root, but not in every user namespace.
fn root() -> bool {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("device");
    let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::RUSR);
    let made = rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, rustix::fs::makedev(1, 3));
    let given = made.is_ok() && std::os::unix::fs::lchown(&path, Some(1), Some(1)).is_ok();
    if !given {
        println!("skipped: only root can give files away and make devices");
    }
    given
}

fn run_case(text: &str) -> Result<(), String> {
    let mut bench = Bench::new();
    let mut sections: BTreeMap<&str, String> = BTreeMap::new();
    let mut current = "about";
    for line in text.lines() {
        match line.strip_prefix("--- ") {
            Some(name) => {
                current = name;
                sections.entry(name).or_default();
            }
            None => writeln!(sections.entry(current).or_default(), "{line}").unwrap(),
        }
    }
    for name in ["context", "image", "stage"] {
        if let Some(script) = sections.get(name) {
            bench.shell(name, script);
        }
    }
    bench.ignore = sections.get("ignore").cloned().unwrap_or_default();
    let before = bench.listing();
    let result = sections["steps"].lines().try_for_each(|step| bench.run(step).map(|_| ()));
    if let Some(expected) = sections.get("error") {
        let message = result.err().map(|error| error.to_string());
        return if message.as_deref() == Some(expected.trim()) { Ok(()) } else { Err(format!("{message:?}")) };
    }
    result.map_err(|error| error.to_string())?;
    let mut after = bench.listing();
    let mut differences = String::new();
    for line in sections["expect"].lines() {
        let (path, expected) = Row::parse(line);
        let mut found = after.remove(&path);
        if let Some(row) = &mut found {
            for name in ["mtime", "same", "text"] {
                if !expected.facts.contains_key(name) && (name != "same" || row.kind != '-') {
                    row.facts.remove(name);
                }
            }
        }
        if found.as_ref() != Some(&expected) {
            writeln!(differences, "{path}:\n  expected {expected:?}\n  found    {found:?}").unwrap();
        }
    }
    for (path, row) in after {
        let unchanged = before.get(&path).is_some_and(|old| {
            (old.kind, &old.mode, &old.owner, old.facts.get("text"))
                == (row.kind, &row.mode, &row.owner, row.facts.get("text"))
        });
        if !unchanged {
            writeln!(differences, "{path}: not expected: {row:?}").unwrap();
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(differences) }
}

#[test]
fn copies_are_those_of_buildkit() {
    if !root() {
        return;
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/copies");
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(files.len() > 40);
    let mut failures = String::new();
    for path in files {
        if let Err(difference) = run_case(&fs::read_to_string(&path).unwrap()) {
            writeln!(failures, "{}: {difference}", path.display()).unwrap();
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn archives_keep_owners_links_and_devices() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind: tar::EntryType, mode: u32, ids: (u64, u64), link: &str, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(ids.0);
        header.set_gid(ids.1);
        header.set_mtime(1_111_111_111);
        header.set_size(data.len() as u64);
        header.set_device_major(if kind.is_character_special() { 1 } else { 0 }).unwrap();
        header.set_device_minor(if kind.is_character_special() { 3 } else { 0 }).unwrap();
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        tar.append_data(&mut header, path, data).unwrap();
    };
    use tar::EntryType as Type;
    add("d", Type::Directory, 0o2750, (100, 200), "", b"");
    add("d/f", Type::Regular, 0o4711, (300, 400), "", b"file\n");
    add("d/hard", Type::Link, 0o644, (0, 0), "d/f", b"");
    add("d/sym", Type::Symlink, 0o644, (0, 0), "/d/f", b"");
    add("d/null", Type::Char, 0o666, (0, 0), "", b"");
    add("d/pipe", Type::Fifo, 0o600, (0, 0), "", b"");
    add("noparent/x/y", Type::Regular, 0o644, (5, 0), "", b"deep\n");
    add(".wh.literal", Type::Regular, 0o644, (0, 0), "", b"");
    bench.file("context/a.tar", tar.into_inner().unwrap());
    bench.run(r#"ADD ["a.tar", "/"]"#).unwrap();
    let found = bench.listing();
    for line in [
        r#"d 2750 100:200 "/d" mtime=1111111111"#,
        r#"- 0644 0:0 "/d/f" text="file\n" mtime=1111111111"#,
        r#"- 0644 0:0 "/d/hard" text="file\n" same="/d/f" mtime=1111111111"#,
        r#"l 0777 0:0 "/d/sym" target="/d/f" mtime=1111111111"#,
        r#"c 0666 0:0 "/d/null" device="1:3" mtime=1111111111"#,
        r#"p 0600 0:0 "/d/pipe" mtime=1111111111"#,
        r#"- 0644 5:0 "/noparent/x/y" text="deep\n" mtime=1111111111"#,
        r#"- 0644 0:0 "/.wh.literal" text="" mtime=1111111111"#,
    ] {
        let (path, expected) = Row::parse(line);
        assert_eq!(found.get(&path), Some(&expected), "{path}");
    }
    for path in ["/noparent", "/noparent/x"] {
        assert_eq!((&*found[path].mode, &*found[path].owner), ("0755", "0:0"), "{path}");
    }
}

/// A plain tar of entries: `name=content`, `name->target`, `name=>hard link target`, `name/`.
fn tar_of(entries: &[&str]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_uid(u64::from(rustix::process::geteuid().as_raw()));
        header.set_gid(u64::from(rustix::process::getegid().as_raw()));
        header.set_size(0);
        let (name, data) = if let Some((name, target)) = entry.split_once("=>") {
            header.set_entry_type(tar::EntryType::Link);
            header.set_link_name_literal(target).unwrap();
            (name, "")
        } else if let Some((name, target)) = entry.split_once("->") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_link_name_literal(target).unwrap();
            (name, "")
        } else if let Some((name, data)) = entry.split_once('=') {
            header.set_size(data.len() as u64);
            (name, data)
        } else {
            header.set_entry_type(tar::EntryType::Directory);
            (*entry, "")
        };
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, data.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

#[test]
fn archives_cannot_write_outside() {
    if !root() {
        return;
    }
    for (entries, expected) in [
        (&["../escaped=x"][..], "cannot unpack `/a.tar`"),
        (&["up->../..", "up/escaped=x"], "/escaped"),
        (&["abs->/", "abs/escaped=x"], "/escaped"),
        (&["self->.", "self/t/in=x"], "/t/t/in"),
        (&["hard=>../../context/secret"], "cannot unpack `/a.tar`"),
        (&["l->/../../context/secret", "hard=>l"], "/t/hard"),
        (&["hard=>none"], "cannot unpack `/a.tar`: `/t/hard` is a hard link to `/t/none`, which does not exist"),
        (&["f=1", "f/x=2"], "cannot copy to non-directory: `/t/f`"),
        // A directory that is entered, then replaced by a link.
        (&["d/", "d/a=1", "d->/", "d/escaped=x"], "/escaped"),
        (&["d/a=1", "d=file"], "/t/d"),
        (&["d=file", "d/"], "/t/d"),
    ] {
        let bench = Bench::new();
        bench.file("context/secret", "s");
        bench.file("context/a.tar", tar_of(entries));
        let found = match bench.run(r#"ADD ["a.tar", "/t/"]"#) {
            Err(error) => error.to_string(),
            Ok(_) => bench.names(),
        };
        assert!(found.split(' ').any(|name| name == expected) || found == expected, "{entries:?}: {found}");
        let outside: Vec<_> =
            fs::read_dir(bench.directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(outside.len(), 3, "{entries:?}: {outside:?}");
        assert_eq!(fs::symlink_metadata(bench.at("context/secret")).unwrap().nlink(), 1);
    }
}

#[test]
fn truncated_archives_are_an_error() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let tar = tar_of(&["a=1", "b=2222"]);
    bench.file("context/a.tar", &tar[..1026]);
    let error = bench.run(r#"ADD ["a.tar", "/t/"]"#).unwrap_err();
    assert_eq!(error.to_string(), "cannot unpack `/a.tar`");
    // Its first header is damaged: no archive at all.
    let damaged: Vec<u8> = tar.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 5)).collect();
    bench.file("context/a.tar", damaged);
    bench.run(r#"ADD ["a.tar", "/u/"]"#).unwrap();
    assert_eq!(bench.names(), "/t /t/a /u /u/a.tar");
}

#[test]
fn nothing_in_an_image_leads_out_of_it() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    bench.file("context/f", "f");
    bench.file("context/d/f", "f");
    bench.link("image/up", "../../../..");
    bench.link("image/abs", bench.at("context").to_str().unwrap());
    bench.run(r#"COPY ["f", "/up/made"]"#).unwrap();
    bench.run(r#"COPY ["f", "/abs/made"]"#).unwrap();
    bench.run(r#"COPY ["d", "/up/dir"]"#).unwrap();
    assert_eq!((bench.text("made"), bench.text("dir/f")), ("f".into(), "f".into()));
    assert_eq!(fs::read_dir(bench.at("context")).unwrap().count(), 2);
    let inside = bench.at("image").join(bench.at("context").strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(inside.join("made")).unwrap(), "f");
}

#[test]
fn links_of_a_context_stay_in_it() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    bench.file("secret", "s");
    bench.link("context/out", "../secret");
    bench.link("context/absolute", bench.at("secret").to_str().unwrap());
    for source in ["out", "absolute", "../secret"] {
        let error = bench.run(&format!(r#"COPY ["{source}", "/x"]"#)).unwrap_err();
        assert!(error.to_string().contains("not found"), "{error}");
    }
    assert_eq!(bench.names(), "");
}

#[test]
fn what_is_missing_is_named_with_the_pattern_that_hides_it() {
    let mut bench = Bench::new();
    bench.ignore = "vendor\n!vendor/keep\n".into();
    bench.file("context/vendor/lib", "l");
    bench.file("context/src/Package.json", "l");
    bench.link("context/to-vendor", "vendor/lib");
    bench.link("context/dangling", "nowhere");
    for (instruction, message, hint) in [
        (r#"COPY ["missing", "/"]"#, r#""/missing": not found"#, None),
        (r#"COPY ["vendor/lib", "/"]"#, r#""/vendor/lib": not found"#, Some("vendor")),
        (r#"COPY ["vendor", "/"]"#, r#""/vendor": not found"#, Some("vendor")),
        (r#"COPY ["to-vendor", "/"]"#, r#""/to-vendor": not found: the link leads to `/vendor/lib`"#, Some("vendor")),
        (r#"COPY ["dangl*", "/"]"#, r#""/dangl*": not found: the link leads to `/nowhere`"#, None),
        (r#"COPY --parents ["a/./b", "/"]"#, r#""/a/./b": not found"#, None),
        (r#"COPY --from=stage ["/etc/no", "/"]"#, r#""//etc/no": not found"#, None),
    ] {
        let error = bench.run(instruction).unwrap_err();
        assert_eq!(error.to_string(), message, "{instruction}");
        let hint = match hint {
            Some(pattern) => Some(format!("the ignore file leaves it out: see the pattern `{pattern}`")),
            None if message.contains("leads to") => None,
            None => Some(
                "sources are paths below the build context's directory or, with `--from`, below the root of that image"
                    .to_owned(),
            ),
        };
        assert_eq!(error.hint(), hint, "{instruction}");
    }
    let hint = bench.run(r#"COPY ["src/pakcage.json", "/"]"#).unwrap_err().hint();
    assert_eq!(hint.as_deref(), Some("did you mean `src/Package.json`?"));
    bench.run(r#"COPY ["no*", "/made/"]"#).unwrap();
    assert_eq!(bench.names(), "");
}

#[test]
fn several_files_do_not_become_one() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    for name in ["a", "b", "d/in"] {
        bench.file(&format!("context/{name}"), name);
    }
    let error = bench.run(r#"COPY ["a", "b", "/x"]"#).unwrap_err();
    assert_eq!(error.to_string(), "cannot copy several sources to `/x`, which is not a directory");
    bench.run(r#"COPY ["d", "a", "/x"]"#).unwrap();
    bench.run(r#"COPY ["a", "b", "/x"]"#).unwrap();
    assert_eq!(bench.names(), "/x /x/a /x/b /x/in");
}

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
fn a176_exclusions_count_below_directories_not_for_files_that_are_sources() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    for name in ["home.txt", "home.md", "homes/a.txt", "homes/b"] {
        bench.file(&format!("context/{name}"), name);
    }
    bench.run(r#"COPY --exclude=*.txt ["hom*", "/x/"]"#).unwrap();
    assert_eq!(bench.names(), "/x /x/b /x/home.md /x/home.txt");
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
fn many_files_are_copied_in_batches() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    for directory in 0..150 {
        for file in 0..20 {
            bench.file(&format!("context/d{directory}/f{file}"), format!("{directory}/{file}"));
        }
    }
    bench.file("context/large", vec![7; 3 << 20]);
    fs::set_permissions(bench.at("context/d7"), fs::Permissions::from_mode(0o500)).unwrap();
    let copied = bench.run(r#"COPY ["", "/all/"]"#).unwrap();
    assert_eq!((copied.files, copied.changed), (3001, vec![]));
    assert_eq!(bench.text("all/d149/f19"), "149/19");
    assert_eq!(fs::metadata(bench.at("image/all/large")).unwrap().len(), 3 << 20);
    bench.run(r#"COPY ["d*/f1*", "/flat/"]"#).unwrap();
    assert_eq!(fs::read_dir(bench.at("image/flat")).unwrap().count(), 11);
    assert_eq!(bench.text("flat/f19"), "99/19", "the last one in the order of the walk");
    let context = bench.context();
    let image = Root::open(&bench.at("image/all")).unwrap();
    let selector = Selector { owners: false, ..Selector::path("") };
    let digests = [&context as &dyn SourceTree, &image].map(|tree| Selection::of(tree, &selector).unwrap().digest);
    assert_eq!(digests[0], digests[1], "the copy has the content that the key was made of");
}

#[test]
fn files_that_change_meanwhile_are_told() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    bench.file("context/a", "a");
    bench.file("context/b", "b");
    let context = bench.context();
    bench.file("context/b", "changed");
    let sources: Sources<'_> = BTreeMap::from([(1, &context as &dyn SourceTree)]);
    let copied = apply(&parse(r#"COPY ["", "/"]"#), &sources, &bench.image(), &|_| ()).unwrap();
    assert_eq!(copied.changed, [InnerPath::new("b")]);
}

#[test]
fn a_mirror_has_everything_at_its_place() {
    if !root() {
        return;
    }
    for (include, expected) in [
        ("", "/a /d /d/e /d/e/f /d/g /link /other"),
        ("d/e", "/d /d/e /d/e/f"),
        ("a", "/a"),
        ("link", "/d /d/e /d/e/f /d/g /link"),
        ("link/e/f", "/d /d/e /d/e/f /link"),
        ("other", "/d /d/e /d/e/f /link /other"),
        ("hidden", r#""/hidden": not found"#),
    ] {
        let mut bench = Bench::new();
        bench.ignore = "hidden".into();
        for name in ["a", "d/e/f", "d/g", "hidden"] {
            bench.file(&format!("context/{name}"), name);
        }
        bench.link("context/link", "/d");
        bench.link("context/other", "link/e/f");
        let selector = Selector { owners: false, ..Selector::path(include) };
        let found = match mirror(&selector, &bench.context(), &bench.image()) {
            Ok(_) => bench.names(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{include}");
    }
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

mod keys {
    //! Whatever a copy brings into an image is in the key of its input.

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const FILES: [&str; 9] = ["a", "b.md", "d/a", "d/b.md", "d/e/a", "d/e/c", "f/a", "f/.h", "x/d/a"];

    fn pattern() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec!["a", "b.md", "d", "e", "f", "*", "?", "*.md", "[a-e]", "link", "**", "x"]);
        vec(name, 1..4).prop_map(|names| names.join("/"))
    }

    fn exclude() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec!["a", "*.md", "d", "e", "**", "*", ".h"]);
        vec(name, 1..3).prop_map(|names| names.join("/"))
    }

    fn digests(bench: &Bench, action: &CopyAction) -> [Option<rbuild_core::Digest>; 2] {
        let (context, selector) = (bench.context(), Selector::of_copy(action, 1));
        let root = Root::open(&bench.at("context")).unwrap();
        let unignored: &dyn SourceTree = &root;
        [&context as &dyn SourceTree, unignored]
            .map(|tree| Selection::of(tree, &selector).ok().map(|found| found.digest))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn cover_all_that_is_copied(
            sources in vec(pattern(), 1..3),
            excludes in vec(exclude(), 0..2),
            ignored in vec(exclude(), 0..2),
            parents: bool,
            pivot in proptest::option::of(Just("d")),
        ) {
            let mut bench = Bench::new();
            for file in FILES {
                bench.file(&format!("context/{file}"), file);
            }
            bench.link("context/link", "d/e");
            bench.link("context/d/link", "../f");
            bench.ignore = ignored.join("\n");
            let mut action = parse(r#"COPY ["/out/"]"#);
            action.parents = parents;
            action.exclude = excludes;
            action.sources = sources
                .into_iter()
                .map(|path| match pivot {
                    Some(pivot) if parents => format!("{pivot}/./{path}"),
                    _ => path,
                })
                .map(|path| CopySource::Path { input: 1, written: path.clone(), path })
                .collect();
            // Ids that need no rights.
            let ids = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            action.owner = Some(Owner { user: Principal::Id(ids.0), group: Some(Principal::Id(ids.1)) });
            let context = bench.context();
            let from: Sources<'_> = BTreeMap::from([(1, &context as &dyn SourceTree)]);
            if apply(&action, &from, &bench.image(), &|_| ()).is_err() {
                return Ok(());
            }
            let before = digests(&bench, &action);
            prop_assert!(before[0].is_some());
            let listing = bench.listing();
            for file in FILES {
                let copied = listing.values().any(|row| row.facts.get("text").is_some_and(|text| text == file));
                bench.file(&format!("context/{file}"), "changed");
                let after = digests(&bench, &action);
                if copied {
                    prop_assert_ne!(before[0], after[0], "{} is copied, but not in the key", file);
                }
                if before[0] != after[0] {
                    prop_assert_ne!(before[1], after[1], "{} is in the context, but not in the directory", file);
                }
                bench.file(&format!("context/{file}"), file);
            }
        }
    }
}
