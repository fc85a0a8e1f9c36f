//! Are copies those of BuildKit, and do they make the layers that an overlay would?

use rbuild_cache::{LayerKind, Store};
use rbuild_image::Change;

use super::*;
use crate::files::Tree;
use crate::mounted::Mounted;
use crate::worker::LayerSink;

/// A case's context, image and stage, and its sections.
fn set_up(text: &str) -> (Bench, BTreeMap<String, String>) {
    let mut bench = Bench::new();
    let mut sections: BTreeMap<String, String> = BTreeMap::new();
    let mut current = "about";
    for line in text.lines() {
        match line.strip_prefix("--- ") {
            Some(name) => {
                current = name;
                sections.entry(name.to_owned()).or_default();
            }
            None => writeln!(sections.entry(current.to_owned()).or_default(), "{line}").unwrap(),
        }
    }
    for name in ["context", "image", "stage"] {
        if let Some(script) = sections.get(name) {
            bench.shell(name, script);
        }
    }
    bench.ignore = sections.get("ignore").cloned().unwrap_or_default();
    (bench, sections)
}

fn run_case(text: &str) -> Result<(), String> {
    let (bench, sections) = set_up(text);
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

fn cases() -> Vec<(PathBuf, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/copies");
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(files.len() > 40);
    files.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn copies_are_those_of_buildkit() {
    if !root() {
        return;
    }
    let mut failures = String::new();
    for (path, text) in cases() {
        if let Err(difference) = run_case(&text) {
            writeln!(failures, "{}: {difference}", path.display()).unwrap();
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

/// Carries out steps in two ways over the same image: by writing into an overlay, which then has a layer in its upper
/// directory, and by planning a layer. `None` if this machine lets us mount nothing.
fn both_layers(bench: &Bench, steps: &str) -> Option<[(rbuild_core::Digest, Vec<Change>); 2]> {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let layers = store.layers();
    let snapshot = layers.prepare(&[]).unwrap();
    let copied = Command::new("cp").arg("-a").arg(bench.at("image/.")).arg(snapshot.upper()).status().unwrap();
    assert!(copied.success());
    let base = [snapshot.commit(LayerKind::Image).unwrap().id];
    let (context, stage_root) = (bench.context(), Root::open(&bench.at("stage")).unwrap());
    let sources: Sources<'_> = BTreeMap::from([(1, &context as &dyn SourceTree), (2, &stage_root as &dyn SourceTree)]);
    let snapshot = layers.prepare(&base).unwrap();
    let Ok(mounted) = Mounted::new(&snapshot.root_mount()) else {
        println!("skipped: only root can mount");
        return None;
    };
    for step in steps.lines() {
        let mut stage = Stage::over(Some(&mounted.root), None).unwrap();
        match step.strip_prefix("WORKDIR ") {
            Some(path) => stage.make_directory(path, None, None).unwrap(),
            None => stage.copy(&parse(step), &sources).unwrap(),
        }
        carry_out_in(&stage, &mounted.root, &|_| ()).unwrap();
    }
    drop(mounted);
    let written = snapshot.commit(LayerKind::Files).unwrap();
    let view = Mounted::new(&layers.view(&base).unwrap()).unwrap();
    let mut sink = LayerSink::new(layers, None).unwrap();
    let mut stage = Stage::over(Some(&view.root), Some(sink.scratch().unwrap())).unwrap();
    for step in steps.lines() {
        match step.strip_prefix("WORKDIR ") {
            Some(path) => stage.make_directory(path, None, None).unwrap(),
            None => stage.copy(&parse(step), &sources).unwrap(),
        }
    }
    stage.carry_out(&mut sink, &|_| ()).unwrap();
    let planned = sink.commit().unwrap();
    let now = Timestamp { seconds: now().seconds - 600, nanoseconds: 0 };
    Some([written, planned].map(|layer| {
        let changes = layers.changes(&layer.id).unwrap();
        let timeless = |change: Result<Change, _>| match change.unwrap() {
            Change::Upsert(mut entry) if entry.mtime.seconds > now.seconds => {
                entry.mtime = rbuild_image::Timestamp::from_seconds(now.seconds);
                Change::Upsert(entry)
            }
            change => change,
        };
        (layer.identity, changes.map(timeless).collect())
    }))
}

#[test]
fn whiteouts_of_the_only_layer_are_not_there() {
    if !root() {
        return;
    }
    let store = tempfile::tempdir().unwrap();
    let store = Store::open(store.path()).unwrap();
    let layers = store.layers();
    let snapshot = layers.prepare(&[]).unwrap();
    let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::RUSR);
    fs::create_dir(snapshot.upper().join("o")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, snapshot.upper().join("o/gone"), kind, mode, 0).unwrap();
    let base = [snapshot.commit(LayerKind::Image).unwrap().id];
    let Ok(view) = Mounted::new(&layers.view(&base).unwrap()) else {
        println!("skipped: only root can mount");
        return;
    };
    let bench = Bench::new();
    bench.file("context/f", "f");
    let context = bench.context();
    let sources: Sources<'_> = BTreeMap::from([(1, &context as &dyn SourceTree), (2, &view.root as &dyn SourceTree)]);
    let mut stage = Stage::over(Some(&view.root), None).unwrap();
    stage.copy(&parse(r#"COPY ["f", "/o/gone/f"]"#), &sources).unwrap();
    stage.copy(&parse(r#"COPY --from=stage ["o", "/copied/"]"#), &sources).unwrap();
    assert!(Tree::list(&stage, &InnerPath::new("copied")).unwrap().is_empty());
    let mut sink = LayerSink::new(layers, None).unwrap();
    stage.carry_out(&mut sink, &|_| ()).unwrap();
    let planned = sink.commit().unwrap();
    let changes = layers.changes(&planned.id).unwrap();
    let paths: Vec<_> = changes.map(|change| change.unwrap().path().to_string_lossy().into_owned()).collect();
    assert_eq!(paths, ["copied", "o", "o/gone", "o/gone/f"]);
}

#[test]
fn planned_layers_are_those_of_an_overlay() {
    if !root() {
        return;
    }
    // Writing it into a directory at once would remove `d/x` by itself.
    let bench = Bench::new();
    bench.shell("image", "mkdir d; echo > d/x");
    bench.file("context/a.tar", archives::tar_of(&["d=file", "d/", "d/y=2"]));
    let Some([_, (_, planned)]) = both_layers(&bench, r#"ADD ["a.tar", "/"]"#) else { return };
    let kinds: Vec<_> = planned
        .iter()
        .map(|change| format!("{} {}", matches!(change, Change::Opaque(_)), change.path().display()))
        .collect();
    assert_eq!(kinds, ["false d", "true d", "false d/y"], "a directory in place of a removed one is opaque");
    let mut failures = String::new();
    let own = [
        ("", "mkdir -p a/b; echo > a/b/f; chmod 711 a; touch -d @5 a a/b", r#"COPY ["f", "/a/b/new"]"#),
        ("", "echo > a; mkdir d; echo > d/x", r#"ADD ["replace.tar", "/"]"#),
        ("", "mkdir -p d; echo low > d/low; ln d/low d/other; touch -d @7 d", r#"ADD ["links.tar", "/"]"#),
        ("", "mkdir -p d/e; chown 5:6 d; chmod 1777 d; setfattr -n user.note -v x d || true", r#"COPY ["f", "/d/e/"]"#),
        ("mkdir e; chmod 700 e", "mkdir -p have; chown 1:2 have; touch -d @9 have", r#"COPY ["e", "/have"]"#),
        (
            "",
            "mkdir real; ln -s real to",
            "COPY [\"f\", \"/to/\"]\nWORKDIR /to/deep/er\nCOPY --chown=3:4 [\"\", \"/to/deep\"]",
        ),
        ("mkfifo p; ln f g; ln -s f l", "", r#"COPY ["", "/all/"]"#),
        ("mkfifo p; ln f g; ln -s f l", "mkdir all; echo > all/g; echo > all/l", r#"COPY ["", "/all/"]"#),
        ("head -c 3000000 /dev/zero > large", "", "COPY [\"\", \"/\"]\nCOPY [\"large\", \"/f\"]"),
    ];
    for (context, image, steps) in own {
        let bench = Bench::new();
        bench.file("context/f", "f");
        bench.file("context/replace.tar", archives::tar_of(&["a/", "a/in=1", "d/y=2"]));
        bench.file("context/links.tar", archives::tar_of(&["again=>d/low", "x/", "x/more=>again"]));
        bench.shell("context", context);
        bench.shell("image", image);
        let Some([written, planned]) = both_layers(&bench, steps) else { return };
        if written != planned {
            writeln!(failures, "{steps}:\n  overlay {written:#?}\n  planned {planned:#?}").unwrap();
        }
    }
    for (path, text) in cases() {
        let (bench, sections) = set_up(&text);
        if sections.contains_key("error") {
            continue;
        }
        let Some([written, planned]) = both_layers(&bench, sections["steps"].trim_end()) else { return };
        if written != planned {
            writeln!(failures, "{}:\n  overlay {written:#?}\n  planned {planned:#?}", path.display()).unwrap();
        }
    }
    assert!(failures.is_empty(), "{failures}");
}
