//! What does `ADD` make of archives?

use super::*;

/// A plain tar of entries: `name=content`, `name->target`, `name=>hard link target`, `name/`.
pub(super) fn tar_of(entries: &[&str]) -> Vec<u8> {
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
    assert_eq!(bench.names(), "/u /u/a.tar", "nothing is written of what cannot be planned");
}

/// Makes changes of nothing, and writes to a file when the first content arrives.
struct Meddler<F: FnMut()>(F);

impl<F: FnMut()> Sink for Meddler<F> {
    type Error = CopyError;

    fn put(&mut self, change: &rbuild_image::Change, filling: Filling<'_>) -> Result<(), CopyError> {
        let rbuild_image::Change::Upsert(entry) = change else { return Ok(()) };
        if !matches!(entry.kind, rbuild_image::EntryKind::File { .. }) {
            return Ok(());
        }
        (self.0)();
        if let Bytes::Reader(reader) = filling.bytes {
            std::io::copy(reader, &mut std::io::sink()).unwrap();
        }
        Ok(())
    }
}

#[test]
fn archives_that_change_meanwhile_are_told() {
    let large = format!("large={}", "x".repeat(3 << 20));
    let tar = tar_of(&["a=1", &large]);
    let compressed = zstd::encode_all(&*tar, 1).unwrap();
    let other = tar_of(&["a=2", &large.replace('x', "y")]);
    for (archive, when, meddle) in [
        (&tar, "before", "replace"),
        (&compressed, "before", "replace"),
        (&tar, "planned", "write"),
        (&tar, "planned", "truncate"),
        (&tar, "carried", "write"),
        (&tar, "carried", "truncate"),
        (&tar, "never", "nothing"),
        (&compressed, "never", "nothing"),
    ] {
        let bench = Bench::new();
        let path = bench.file("context/a.tar", archive);
        let act = |now: &str| {
            if now != when {
                return;
            }
            let file = || fs::OpenOptions::new().write(true).open(&path).unwrap();
            match meddle {
                "replace" => fs::write(&path, &other[..other.len() - 512]).unwrap(),
                "write" => FileExt::write_all_at(&file(), b"z", 512).unwrap(),
                _ => file().set_len(1 << 20).unwrap(),
            }
        };
        let context = bench.context();
        act("before");
        let sources: Sources<'_> = BTreeMap::from([(1, &context as &dyn SourceTree)]);
        let mut stage = Stage::over(None, None).unwrap();
        stage.copy(&parse(r#"ADD ["a.tar", "/t/"]"#), &sources).unwrap();
        // The kernel's clock has to move on, or two times are the same.
        std::thread::sleep(std::time::Duration::from_millis(15));
        act("planned");
        let found = match stage.carry_out(&mut Meddler(|| act("carried")), &|_| ()) {
            Ok(copied) => copied.changed.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        };
        let expected = match meddle {
            "truncate" => "`/a.tar` became shorter while it was copied",
            "nothing" => "",
            _ => "/a.tar",
        };
        assert_eq!(found, expected, "{when} {meddle}");
    }
}

#[test]
fn holes_of_sparse_files_are_filled() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    bench.shell(
        "context",
        "mkdir d; printf end | dd of=d/large bs=1 seek=3000000 2>/dev/null; truncate -s 70000 d/small",
    );
    for (number, form) in ["--format=gnu", "--format=pax --sparse-version=0.1", "--format=pax"].iter().enumerate() {
        for compress in ["", "-z"] {
            let name = format!("a{number}{compress}.tar");
            bench.shell("context", &format!("tar -c -S --hole-detection=raw {compress} {form} -f {name} d"));
            assert!(compress == "-z" || fs::metadata(bench.at("context").join(&name)).unwrap().len() < 20_000);
            bench.run(&format!(r#"ADD ["{name}", "/{name}/"]"#)).unwrap();
            for file in ["large", "small"] {
                let [added, original] = [format!("image/{name}/d/{file}"), format!("context/d/{file}")];
                assert!(fs::read(bench.at(&added)).unwrap() == fs::read(bench.at(&original)).unwrap(), "{name} {file}");
            }
        }
    }
}
